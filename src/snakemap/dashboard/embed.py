"""The panes of the dashboard as a library: in a Panel or Bokeh application of your own, or in a notebook.

>>> from snakemap import Beamline
>>> beamline = Beamline("redis://localhost:6379")
>>> beamline.maps(height=600).servable()  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import holoviews as hv
from bokeh.document import Document

from snakemap.core.channels import TOTAL
from snakemap.core.geometry import ScanDefaults
from snakemap.dashboard.connection_beat import ConnectionBeat
from snakemap.dashboard.embed_pane import EMBEDDED_KINDS, EmbeddedPane
from snakemap.dashboard.live_elements import MapOfRun
from snakemap.dashboard.notebook_comm import NotebookSession
from snakemap.dashboard.session import Session
from snakemap.dashboard.theme import THEMES
from snakemap.errors import BeamlineClosed, SessionRefused, SettingsError
from snakemap.live.run_follower import RunFollower
from snakemap.render import pyramid
from snakemap.render.cache import RenderCache
from snakemap.settings import grid_from_text
from snakemap.store.run_index import LATEST
from snakemap.store.store import Store

__all__ = ["Beamline", "BeamlineTab"]


class Beamline:
    """A store, followed once for all panes that show its runs, while there are any.

    The first pane that is shown begins it, and the end of the last one ends it; between, everything happens on the
    event loop of the server, or of the notebook's kernel. Making one does no IO.

    Args:
        url: of the store, like ``"redis://host:6379/0"``.
        theme: ``"dark"`` or ``"light"``: the default of the panes.
        grid: like ``"7x9"`` or ``"7x9:raster"``, for runs without a shape.
        snake: whether a run with a shape and no snaking is taken as snaked.
        tabs_max: how many documents may show its panes at one time.

    Raises:
        SettingsError: when one of these cannot be used.
    """

    def __init__(
        self, url: str, *, theme: str = "dark", grid: str = "", snake: bool = True, tabs_max: int = 200
    ) -> None:
        try:
            self._defaults = ScanDefaults(grid_from_text(grid) if grid else None, snake=snake)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        self.url = url
        self.theme = _checked(theme)
        self.tabs_max = tabs_max
        self._levels = RenderCache()
        self._heartbeat = ConnectionBeat()
        self._live: RunFollower | None = self._new_live()
        self._sessions: dict[tuple[BeamlineTab, Document], Session] = {}
        self._elements: set[MapOfRun] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def tab(self, *, run: str = LATEST, theme: str = "") -> BeamlineTab:
        """Return a tab, whose panes are linked: a brush in its histogram highlights pixels of its maps.

        Args:
            run: uid of the run to stay with; ``latest`` follows the newest.
            theme: ``"dark"`` or ``"light"``; empty: the beamline's.
        """
        return BeamlineTab(self, run="" if run == LATEST else run, theme=_checked(theme or self.theme))

    def maps(self, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return the maps, in a tab of their own.

        Args:
            run: uid of the run to stay with; ``latest`` follows the newest.
            theme: ``"dark"`` or ``"light"``; empty: the beamline's.
            layout: width, height, sizing_mode and the like.
        """
        return self.pane("maps", run=run, theme=theme, **layout)

    def histogram(self, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return the histogram, in a tab of its own; see :meth:`maps`."""
        return self.pane("histogram", run=run, theme=theme, **layout)

    def frame(self, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return the raw frame, in a tab of its own; see :meth:`maps`."""
        return self.pane("frame", run=run, theme=theme, **layout)

    def summary(self, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return the summary table, in a tab of its own; see :meth:`maps`."""
        return self.pane("summary", run=run, theme=theme, **layout)

    def dashboard(self, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return the whole page without files and scan control, which need ``snakemap serve``; see :meth:`maps`."""
        return self.pane("dashboard", run=run, theme=theme, **layout)

    def pane(self, name: str, *, run: str = LATEST, theme: str = "", **layout: Any) -> EmbeddedPane:
        """Return a pane by its name, in a tab of its own; see :meth:`maps`."""
        return self.tab(run=run, theme=theme).pane(name, **layout)

    def elements(self, channel: str = TOTAL, *, run: str = LATEST) -> hv.DynamicMap:
        """Return a map as a growing HoloViews element; compose it with yours: ``elements("total") * hv.Points(...)``.

        It needs a running event loop, that of a server or of a notebook's kernel, and follows the runs while some plot
        shows it. Until the run has such a channel the element is blank.

        Args:
            channel: of the run.
            run: uid of the run to stay with; ``latest`` follows the newest.

        Raises:
            BeamlineClosed: when it was closed.
        """
        if self._closed:
            raise BeamlineClosed("this Beamline was closed; make another one")
        made = MapOfRun(
            channel,
            follower=lambda: self._follow(made),
            levels=self._levels,
            run="" if run == LATEST else run,
            on_idle=self._idle,
        )
        return made.map

    def _follow(self, made: MapOfRun) -> RunFollower:
        live = self.live
        live.check_loop()
        self._elements.add(made)
        return live

    def _idle(self, made: MapOfRun) -> None:
        self._elements.discard(made)
        self._end_when_idle()

    @property
    def live(self) -> RunFollower:
        """The runs that are followed, for a look at what is shown.

        Raises:
            BeamlineClosed: when it was closed.
        """
        if self._closed:
            raise BeamlineClosed("this Beamline was closed; make another one")
        self._live = self._live or self._new_live()
        return self._live

    def close(self) -> None:
        """End it; panes keep what they show. Safe to call from any thread."""
        self._closed = True
        loop = self._live.loop if self._live is not None else None
        if loop is None or _runs_here(loop):
            self._end_all()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._end_all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _new_live(self) -> RunFollower:
        return RunFollower(Store(self.url), defaults=self._defaults)

    def _tab_of(self, of: BeamlineTab, document: Document, comm: Any) -> Session:
        """Return the tab that a document shows the panes of.

        Raises:
            BeamlineClosed: when it was closed, or another event loop follows the runs.
            SessionRefused: when too many documents show its panes.
        """
        live = self.live
        if (of, document) in self._sessions:
            return self._sessions[of, document]
        if len(self._sessions) >= self.tabs_max:
            raise SessionRefused(f"too many tabs show this beamline ({len(self._sessions)}); close one")
        with suppress(RuntimeError):  # no loop runs in this thread: it is looked at when the tab starts
            live.check_loop()
        if not self._sessions:
            threading.Thread(target=pyramid.warm_up, name="warm up", daemon=True).start()
        tab = Session(live, self._levels, document=document, pinned=of.run, theme=of.theme)
        self._sessions[of, document] = tab
        tab.on_close(lambda: self._left(of, document))
        if comm is None:
            document.on_session_destroyed(lambda session_context: tab.end())
            self._heartbeat.follow(document)
            tab.start_when_ready()
        else:
            NotebookSession.of(document, comm).when_ready(tab.start)
        return tab

    def _left(self, of: BeamlineTab, document: Document) -> None:
        """Release a tab that has gone; the last one ends the following of runs."""
        self._sessions.pop((of, document), None)
        of.forget(document)
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self._sessions or self._elements or self._live is None:
            return
        live, self._live = self._live, None
        if live.loop is not None and _runs_here(live.loop):
            task = live.loop.create_task(_end(live), name="beamline end")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _end_all(self) -> None:
        for tab in list(self._sessions.values()):
            tab.end()
        for element in list(self._elements):
            element.close()


class BeamlineTab:
    """Panes that share their choices: channel, brush, box, zoom, scale. Put them into one layout to link them.

    Every document that shows them, a session of a server or the output of a cell, has choices of its own.

    Args:
        beamline: whose runs they show.
        run: uid of the run to stay with; empty follows the newest.
        theme: ``"dark"`` or ``"light"``.

    Attributes:
        tabs: what is shown now, a tab for each document.
    """

    def __init__(self, beamline: Beamline, *, run: str, theme: str) -> None:
        self.beamline = beamline
        self.run = run
        self.theme = theme
        self._shown: dict[Document, int] = {}

    @property
    def tabs(self) -> list[Session]:
        """What is shown now, one for each document."""
        return [tab for (of, _), tab in self.beamline._sessions.items() if of is self]

    @property
    def maps(self) -> EmbeddedPane:
        """The maps."""
        return self.pane("maps")

    @property
    def histogram(self) -> EmbeddedPane:
        """The histogram."""
        return self.pane("histogram")

    @property
    def frame(self) -> EmbeddedPane:
        """The raw frame."""
        return self.pane("frame")

    @property
    def summary(self) -> EmbeddedPane:
        """The summary table."""
        return self.pane("summary")

    @property
    def dashboard(self) -> EmbeddedPane:
        """All of them, with the top bar and the list of runs; not beside any of them in one document."""
        return self.pane("dashboard")

    def pane(self, kind: str, **layout: Any) -> EmbeddedPane:
        """Return one of them by its name, with a layout of its own.

        Raises:
            SettingsError: when there is no such pane.
        """
        if kind not in EMBEDDED_KINDS:
            raise SettingsError(f"{kind[:50]!r} is not a pane; there are {', '.join(EMBEDDED_KINDS)}")
        return EmbeddedPane(kind, session_of=self._session_of, **layout)

    def _session_of(self, document: Document, comm: Any) -> Any:
        tab = self.beamline._tab_of(self, document, comm)
        self._shown[document] = self._shown.get(document, 0) + 1
        return tab, lambda: self._gone(document, comm, tab)

    def forget(self, document: Document) -> None:
        """Forget a document that shows none of the panes any more."""
        self._shown.pop(document, None)

    def _gone(self, document: Document, comm: Any, tab: Session) -> None:
        """Release a pane that has gone from a document; the last one ends the tab."""
        if document not in self._shown:
            return
        self._shown[document] -= 1
        if self._shown[document] > 0:
            return
        tab.end()
        if comm is not None:
            NotebookSession.of(document, comm).close()


async def _end(live: RunFollower) -> None:
    await live.close()
    await live.store.close()


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _checked(theme: str) -> str:
    if theme not in THEMES:
        raise SettingsError(f"{theme[:50]!r} is not a theme; use dark or light")
    return theme
