"""The session of a tab: its panes, and the tick that updates them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from bokeh.document import Document
from bokeh.events import DocumentReady
from panel.io.state import set_curdoc

from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.core.roi import Roi
from snakemap.core.run import Run
from snakemap.dashboard.callbacks import UNSENT_MS, later, soon, unsent
from snakemap.dashboard.client_state import ClientState, news_text
from snakemap.dashboard.model_walk import walked_once
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.pane import Pane, update_script
from snakemap.dashboard.panes.frame import FrameView, camera_of
from snakemap.dashboard.panes.histogram import HistogramView
from snakemap.dashboard.panes.maps import MapsView
from snakemap.dashboard.panes.maps_pane import MapsPane
from snakemap.dashboard.panes.registry import PANES
from snakemap.dashboard.panes.status_text import RUNS_SHOWN, RateEstimate, history, lights, progress, sought
from snakemap.dashboard.permalink import rounded
from snakemap.dashboard.run_text import drawn_raster, run_title
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.theme import THEMES
from snakemap.dashboard.view_state import Choices
from snakemap.dashboard.widgets import RunList, TopBar
from snakemap.errors import SnakemapError, StoreUnavailable
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache
from snakemap.resources import asset

__all__ = ["Session"]

log = logging.getLogger(__name__)

STATUS_PERIOD_S = 1.0
"""Period of status text, which also changes after a choice; a change costs as much as an update of maps."""

RETRY_MS = 1000
"""Until a run that was asked for is looked for again, after Redis was away."""

P = TypeVar("P", bound=Pane)


class Session(SessionContext):
    """One browser tab: its view state, panes and updates; freed when its session is destroyed.

    Args:
        live: the runs of this process.
        levels: the coarse maps of this process.
        document: Bokeh's, of this session.
        pinned: uid of the run to stay with; empty follows the newest.
        theme: colors of the page.
        wall: whether the page is read from afar.

    Attributes:
        panes: of this session, by their names in ``PANES``.
    """

    def __init__(
        self,
        live: RunFollower,
        levels: RenderCache,
        *,
        document: Document,
        pinned: str = "",
        theme: str = "dark",
        wall: bool = False,
    ) -> None:
        super().__init__(live, levels, document=document, choices=Choices(pinned=pinned, theme=theme, wall=wall))
        self.panes: dict[str, Pane] = {}
        for entry in PANES:
            self.panes[entry.name] = entry.kind.of(self)
        self.topbar = TopBar(sizing_mode="stretch_width", theme=theme, height=40, logo=asset("logo.svg"))
        self.run_list = RunList(sizing_mode="stretch_width", pinned=pinned)
        self.pace = RateEstimate()
        self.worker: Callable[[], WorkerStatus | None] = lambda: None
        self.pictures = True
        self.ticks = 0
        self.source_names: list[str] = []
        self._sent = 0
        self._status_at = 0.0
        self._waiting = False
        self._opened = ""
        self._begun = self._gone = False
        self._connect_panes()
        self._keep_script()
        self._connect()

    def pane(self, kind: type[P]) -> P:
        """Return the pane of a class."""
        return next(pane for pane in self.panes.values() if isinstance(pane, kind))

    @property
    def maps(self) -> MapsView:
        """The figures of the maps, which are others for a run with other channels."""
        return self.pane(MapsPane).view

    @property
    def histogram(self) -> HistogramView:
        """The histogram."""
        return self.pane(HistogramView)

    @property
    def frame(self) -> FrameView:
        """The frame."""
        return self.pane(FrameView)

    @property
    def page(self) -> ClientState:
        """What the scripts of the panes share."""
        return self.maps.page

    def start(self) -> None:
        """Begin to follow the runs; called when the browser has the page."""
        self._begun = True
        self.live.start()
        self.live.watch(self, self.wake)
        self.document.on_session_destroyed(self._on_destroyed)
        if self.choices.pinned:
            self.document.add_next_tick_callback(self._pin)
        self.wake()

    def start_when_ready(self) -> None:
        """Start when the browser has the page; it misses what is sent earlier."""

        async def begin() -> None:
            self.start()  # on the event loop: Bokeh may call handlers of events in another thread

        self.document.on_event(DocumentReady, lambda _: self.document.add_next_tick_callback(begin))

    def wake(self) -> None:
        """Schedule one tick, unless one is pending."""
        if self._waiting or self._gone or not self._begun:
            return
        self._waiting = True
        soon(self.document, self.tick)

    def tick(self) -> None:
        """Update the whole page in one message."""
        if self._gone:
            return
        if unsent(self.document):
            later(self.document, self.tick, UNSENT_MS)
            return
        self._waiting = False
        self.ticks += 1
        now = time.time()
        shown = self._current()
        run = self.playback.drawn_of(shown)
        if run is not self.pipeline.run:
            self._switch(run)
        self.notify("run", run)
        if run is not None and self.pane(MapsPane).is_outdated:
            self._replace_maps()
            self.wake()  # the browser must have the new figures before their content
            return
        self.document.hold("combine")
        try:
            with walked_once(self.document):
                if run is not None:
                    for pane in self.panes.values():
                        pane.update_when_due(self, now=now)
                if now - self._status_at >= STATUS_PERIOD_S:
                    self._write(shown, now=now)
                self.notify("tick")
                if self.news:
                    self._sent += 1
                    self.page.news, self.news = news_text({**self.news, "number": self._sent}), {}
        finally:
            self.document.unhold()

    def _write(self, run: Run | None, *, now: float) -> None:
        """Update status text: the run as it is now in the top bar, and the list of runs."""
        self._status_at = now
        drawn = self.pipeline.run
        if run is not None:
            self.pace.note(run.points, now=now)
        with set_curdoc(self.document):
            self._set(self.topbar, state=self._topbar_state(run, now=now))
            if drawn is not None:
                self._name_sources(drawn)
            found = sought(self.live.summaries, self.run_list.wanted)
            self._set(
                self.run_list,
                runs=history(found, now=now, pictures=self.pictures),
                more=max(0, len(found) - RUNS_SHOWN),
            )
            self.notify("status", run)

    def _topbar_state(self, run: Run | None, *, now: float) -> dict[str, Any]:
        moment, worker = self.playback.moment, self.worker()
        state: dict[str, Any] = {"lights": lights(self.live, run, now=now, worker=worker, moment_ms=moment)}
        if run is None:
            return {**state, "plan": "no run yet", "points": 0, "figures": "waiting for the first scan"}
        return {
            **state,
            "uid": run.uid,
            "plan": run_title(run),
            "status": run.status,
            "reason": run.reason,
            "geometry": drawn_raster(self).described,
            "points": run.points,
            "expected": run.expected,
            "figures": progress(run, self.pace, now=now),
        }

    def _name_sources(self, run: Run) -> None:
        """Notify the toolbar when the sources of the run have changed."""
        names = list(run.sources)
        if names != self.source_names:
            self.source_names = names
            self.notify("sources", names)

    @staticmethod
    def _set(component: Any, **values: Any) -> None:
        """Set parameters that differ."""
        changed = {name: value for name, value in values.items() if getattr(component, name) != value}
        if changed:
            component.param.update(**changed)

    def _current(self) -> Run | None:
        if self.choices.pinned:
            return self.live.runs.get(self.choices.pinned)
        return self.live.runs.get(self.live.newest or "")

    def _switch(self, run: Run | None) -> None:
        """Draw another run, or the same run at another time."""
        before = self.pipeline.run
        self.pipeline.look_at(run)
        self._status_at = 0.0
        for pane in self.panes.values():
            pane.forget()
            pane.hasten()
        if run is not None and before is not None and run.uid == before.uid:
            self._keep_box()
            return
        self.pace = RateEstimate()
        for pane in self.panes.values():
            pane.reset()
        self.choices.param.update(box=None, point=0, frame_of="point", background=0)
        if run is not None:
            self._keep_what_fits(run)
        self._show_frames()

    def _keep_box(self) -> None:
        """Clear a box whose cells do not exist at another time, when less of the path was known."""
        box, raster = self.choices.box, self.pipeline.picture.raster
        if box is not None and (box[1] > raster.rows or box[3] > raster.columns):
            with set_curdoc(self.document):
                self.choices.box = None

    def _keep_what_fits(self, run: Run) -> None:
        """Reset choices that the run does not have: a source, or a typed shape."""
        with set_curdoc(self.document):
            if self.choices.source not in run.sources:
                self.choices.source = ""
            if self.choices.shape is not None and run.raster.certain:
                self.choices.shape = None

    def _show_frames(self) -> None:
        run = self.pipeline.run
        if run is None:
            self.live.show_frames_of(self, None)
            return
        source = self.pipeline.base
        self.live.show_frames_of(self, run.uid, "" if source.kind != "frames" else camera_of(run, source))

    def _replace_maps(self) -> None:
        """Replace the figures of the maps, for another set of channels.

        Messages are held until all is done: while the connection is busy, Panel sends the figures later than Bokeh
        sends the changes of the next tick.
        """
        self.document.hold("combine")
        try:
            with set_curdoc(self.document):
                self._exchange_maps()
        finally:
            self.document.unhold()

    def _exchange_maps(self) -> None:
        maps, channels = self.pane(MapsPane), self.channels
        maps.renew()
        self._connect_panes()
        self.notify("channels", channels)
        if self.choices.channel not in channels:
            self.choices.channel = channels[-1]
        maps.match_scale()
        self.show_brush(self.choices.brush)  # by number, the channel may be another one
        maps.put()
        self._keep_script()
        self._sent = 0
        self.send_everything()

    def send_everything(self) -> None:
        """Send all values again, because the browser does not have them."""
        self.pipeline.shown.version = -1
        for pane in self.panes.values():
            pane.forget()
        self.soon()

    def _connect_panes(self) -> None:
        """Make the script that puts the news of all panes into place."""
        self.pane(MapsPane).use_script(update_script(self.page, list(self.panes.values())))

    def _keep_script(self) -> None:
        """Have each pane that the script updates bring the script along: on its own page there are no maps."""
        for pane in self.panes.values():
            if pane.script and not isinstance(pane, MapsPane):
                next(iter(pane.script_arguments().values())).tags = [self.page]

    def _connect(self) -> None:
        watch = self.choices.param.watch
        watch(self._on_channel, "channel")
        watch(lambda *_: self.soon(), ["limits", "low", "high"])
        watch(self._on_source, "source")
        watch(lambda *_: self._on_layout(), ["source", "shape", "exchanged"])
        watch(self._on_box, "box")
        watch(self._on_theme, "theme")
        watch(self._on_pinned, "pinned")
        self.topbar.link(self.choices, theme="theme")
        self.run_list.link(self.choices, pinned="pinned")
        self.run_list.param.watch(lambda _: self.soon(), "wanted")

    def soon(self, *, dim: bool = False) -> None:
        """Update the page in the next tick; with ``dim``, also which pixels are dimmed."""
        if dim:
            self.news["dim"] = True
        self._status_at = 0.0
        for pane in self.panes.values():
            if pane.after_choice:
                pane.hasten()
        self.wake()

    def show_brush(self, brush: tuple[float, float] | None) -> None:
        """Highlight the pixels of a range of the chosen channel, relative to its maximum; None: no range."""
        self.choices.brush = brush
        self.page.brush = (self.pipeline.channel, *brush) if brush and self.pipeline.run else None
        self.histogram.show_brush(brush)
        self.soon(dim=True)

    def show_box(self, corners: tuple[float, float, float, float] | None) -> None:
        """Show the histogram of a box: left, right, bottom and top in the units of the axes; None for all."""
        run = self.pipeline.run
        if corners is None or run is None:
            self.choices.box = None
            return
        row0, row1, column0, column1 = self.pipeline.cells_in(*corners)
        raster = self.pipeline.picture.raster
        rows = max(0, int(np.floor(row0))), min(raster.rows, int(np.ceil(row1)))
        columns = max(0, int(np.floor(column0))), min(raster.columns, int(np.ceil(column1)))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            self.choices.box = None
            return
        self.choices.box = (*rows, *columns)
        self.maps.show_box(corners)
        self.notify("box", corners)

    def _on_box(self, _: Any) -> None:
        if self.choices.box is None:
            self.maps.show_box(None)
        self.soon()

    def _on_channel(self, _: Any) -> None:
        if self.choices.brush is not None:
            self.show_brush(self.choices.brush)
        self.soon()

    def use_regions(self, rois: Sequence[Roi]) -> None:
        """Draw other regions of this tab."""
        self.pipeline.own.use(rois)
        self._draw_all()

    def _on_layout(self) -> None:
        """Draw another source, or the same one in another layout."""
        self.frame.reset()
        self._draw_all()
        self._show_frames()

    def _draw_all(self) -> None:
        self.choices.box = None
        for pane in self.panes.values():
            pane.forget()
        self.pipeline.reset()
        self.soon(dim=True)

    def _on_theme(self, _: Any) -> None:
        for pane in self.panes.values():
            pane.restyle(THEMES[self.choices.theme])
        self.soon()

    def show_regions(self) -> None:
        """Outline the regions of this tab where they are now, before the next frame."""
        if self.pipeline.run is not None:
            self.frame.regions = {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in self.shown_regions}
            self.frame.draw(self.pipeline.base, None, number=None)

    def mark_approximate(self, names: Sequence[str]) -> None:
        """Mark maps whose values are not exact yet."""
        self.approximate = tuple(names)
        self._status_at = 0.0

    def _on_source(self, _: Any) -> None:
        """Show the newest frame: another source may count other points."""
        self.choices.param.update(point=0, frame_of="point", background=0)

    def _on_pinned(self, event: Any) -> None:
        self._set(self.run_list, pinned=self.choices.pinned)
        self.document.add_next_tick_callback(self._pin)

    async def _pin(self) -> None:
        uid = self.choices.pinned
        if uid != self._opened:
            self._release_run()
            if uid:
                await self._open(uid)
        self._status_at = 0.0
        self.wake()

    async def _open(self, uid: str) -> None:
        """Open a run for this tab; release it if the user has chosen another run, or left, meanwhile."""
        try:
            await self.live.open(uid)
        except StoreUnavailable:
            if not self._gone:
                self.document.add_timeout_callback(self._pin, RETRY_MS)
            return
        except SnakemapError as trouble:
            log.warning("cannot show run %s: %s", uid, trouble)
            if self.choices.pinned == uid and not self._gone:
                with set_curdoc(self.document):
                    self.choices.pinned = ""
                self.warn(str(trouble))
            return
        if self._gone or self.choices.pinned != uid or self._opened == uid:
            self.live.release(uid)
        else:
            self._opened = uid

    def warn(self, text: str) -> None:
        """Show a warning for some seconds."""
        if self._gone:
            return
        with set_curdoc(self.document):
            warn(text)

    def _release_run(self) -> None:
        """Release the run that :meth:`_open` has opened."""
        opened, self._opened = self._opened, ""
        if opened:
            self.live.release(opened)

    def color_brush(self) -> None:
        """Set the limits of the colors by hand: those of the brush, which is cleared."""
        brush, (low, high) = self.choices.brush, self.pipeline.span
        if brush is None or not high > low:
            return
        first, last = rounded(*(low + share * (high - low) for share in brush), digits=4)
        self.choices.limits = "by hand"  # which fills in the ends of before
        self.choices.param.update(low=first, high=last)
        self.show_brush(None)

    def clear_selections(self) -> None:
        """Clear brush and box."""
        self.choices.box = None
        self.show_brush(None)

    def _on_destroyed(self, _: Any) -> None:
        self.end()

    def end(self) -> None:
        """Release all resources; idempotent."""
        if self._gone:
            return
        self._gone = True
        self.playback.end()
        self.live.unwatch(self)
        self.live.show_frames_of(self, None)
        self._release_run()
        self.pipeline.look_at(None)
        self.notify("close")
