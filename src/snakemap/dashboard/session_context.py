"""What the panes of one browser session share: its runs, choices, derivations, and events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bokeh.document import Document

from snakemap.core.channels import DEFAULT_CHANNELS
from snakemap.core.roi import Roi
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.client_state import ClientState
from snakemap.dashboard.own_regions import fitting
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.playback import Playback
from snakemap.dashboard.view_state import Choices
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache

__all__ = ["SessionContext"]

Corners = tuple[float, float, float, float]


class SessionContext:
    """State of one browser session, without its panes.

    Args:
        live: the runs of this process.
        levels: the coarse maps of this process.
        document: Bokeh's, of this session.
        choices: of the user.

    Attributes:
        news: what the next message of this tick brings to the scripts, by key.
        approximate: channels whose values are not exact yet.
        show_past_frame: shows the frame of an earlier point; None on a page that reads no files.
        show_mean_frame: shows the mean of several frames; None on a page that reads no files.
    """

    def __init__(self, live: RunFollower, levels: RenderCache, *, document: Document, choices: Choices) -> None:
        self.live = live
        self.document = document
        self.choices = choices
        self.pipeline = Pipeline(choices, levels)
        self.playback = Playback(live.past, on_change=self.soon, on_trouble=self.warn)
        self.news: dict[str, Any] = {}
        self.approximate: tuple[str, ...] = ()
        self.show_past_frame: Callable[[Run, MapSource], None] | None = None
        self.show_mean_frame: Callable[[Run], None] | None = None
        self._callbacks: defaultdict[str, list[Callable[..., None]]] = defaultdict(list)

    @property
    def page(self) -> ClientState:
        """What the scripts of the panes share."""
        raise NotImplementedError

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the run that is drawn; the default ones before there is a run."""
        return self.pipeline.maps.channels if self.pipeline.run is not None else DEFAULT_CHANNELS

    @property
    def shown_regions(self) -> tuple[Roi, ...]:
        """The regions of this tab that are drawn."""
        return fitting(self.pipeline.own.rois, self.pipeline.base) if self.pipeline.run is not None else ()

    def soon(self, *, dim: bool = False) -> None:
        """Update the page in the next tick; with ``dim``, also which pixels are dimmed."""
        raise NotImplementedError

    def wake(self) -> None:
        """Schedule one tick, unless one is pending."""
        raise NotImplementedError

    def warn(self, text: str) -> None:
        """Show a warning for some seconds."""
        raise NotImplementedError

    def show_brush(self, brush: tuple[float, float] | None) -> None:
        """Highlight the pixels of a range of the chosen channel, relative to its maximum; None: no range."""
        raise NotImplementedError

    def show_box(self, corners: Corners | None) -> None:
        """Show the histogram of a box: left, right, bottom and top in the units of the axes; None for all."""
        raise NotImplementedError

    def send_everything(self) -> None:
        """Send all values again, because the browser does not have them."""
        raise NotImplementedError

    def on_channels(self, callback: Callable[[tuple[str, ...]], None]) -> None:
        """Register a callback for a change of channels."""
        self._callbacks["channels"].append(callback)

    def on_sources(self, callback: Callable[[list[str]], None]) -> None:
        """Register a callback for a change of sources."""
        self._callbacks["sources"].append(callback)

    def on_status(self, callback: Callable[[Run | None], None]) -> None:
        """Register a callback for updates of status text, at most once a second; it gets the run that is shown."""
        self._callbacks["status"].append(callback)

    def on_tick(self, callback: Callable[[], None]) -> None:
        """Register a callback for every tick: at most ten times a second, while data change."""
        self._callbacks["tick"].append(callback)

    def on_run(self, callback: Callable[[Run | None], None]) -> None:
        """Register a callback for every tick, before its run is drawn; it gets the run."""
        self._callbacks["run"].append(callback)

    def on_zoom(self, callback: Callable[[], None]) -> None:
        """Register a callback for zooms and pans by hand, after they rest."""
        self._callbacks["zoom"].append(callback)

    def on_box(self, callback: Callable[[Corners], None]) -> None:
        """Register a callback for boxes drawn on a map: left, right, bottom and top in its coordinates."""
        self._callbacks["box"].append(callback)

    def on_tap(self, callback: Callable[[float, float], None], *, double: Callable[[], None]) -> None:
        """Register callbacks for clicks on a map, with their coordinates, and for double clicks."""
        self._callbacks["tap"].append(callback)
        self._callbacks["double tap"].append(double)

    def on_walk(self, callback: Callable[[Any], None]) -> None:
        """Register a callback for arrow keys over a map; it gets the message of the browser."""
        self._callbacks["walk"].append(callback)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Register a callback for the end of the tab."""
        self._callbacks["close"].append(callback)

    def notify(self, event: str, *arguments: Any) -> None:
        """Call all that are registered for an event, like ``"zoom"``."""
        for callback in self._callbacks[event]:
            callback(*arguments)
