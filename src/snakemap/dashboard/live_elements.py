"""The maps of a run that goes on as HoloViews elements, for apps and notebooks that compose them with their own.

::

    RunFollower -> wake -> MapOfRun -> Changed or Drawing -> DynamicMap of LiveImage -> all plots that show it
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
from holoviews.streams import Stream

from snakemap.core.run import Run
from snakemap.errors import SnakemapError
from snakemap.holoviews import Changed, Drawing, LiveCells, LiveImage, dimensions
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache
from snakemap.render.map_view import MapView
from snakemap.render.palettes import palette
from snakemap.render.pyramid import PyramidLevel

__all__ = ["MapOfRun"]

log = logging.getLogger(__name__)


class MapOfRun:
    """One channel of a run, as an element that grows. It follows the run while some plot shows it.

    Args:
        channel: of the run, like ``"total"``.
        follower: gives the runs that are followed, and starts to follow them.
        levels: the coarse maps of the process.
        run: uid of the run to stay with; empty follows the newest.
        on_idle: called when no plot shows it any more.

    Attributes:
        map: the `DynamicMap`.
    """

    def __init__(
        self,
        channel: str,
        *,
        follower: Callable[[], RunFollower],
        levels: RenderCache,
        run: str = "",
        on_idle: Callable[[MapOfRun], None] = lambda map_: None,
    ) -> None:
        self.channel, self.run = channel, run
        self._follower, self._levels, self._on_idle = follower, levels, on_idle
        self._live: RunFollower | None = None
        self._opened = False
        self._element: LiveImage | None = None
        self._drawn: tuple[Any, ...] = ()
        self._drawing, self._changed = Drawing(), Changed()
        self._tasks: set[asyncio.Task[None]] = set()
        self.map = hv.DynamicMap(self._shown, streams=[self._drawing, self._changed], cache_size=1)

    @property
    def following(self) -> bool:
        """Whether it follows a run now."""
        return self._live is not None

    def close(self) -> None:
        """End the following; what is shown stays as it is."""
        live, self._live = self._live, None
        if live is None:
            return
        live.unwatch(self)
        if self._opened:
            self._opened = False
            live.release(self.run)
        self._on_idle(self)

    def _shown(self, drawing: int) -> LiveImage:
        """Return the element as it is now; the first call begins to follow."""
        if self._live is None:
            self._begin()
        self._renew()
        if self._element is None:
            self._element = _image(LiveCells((1, 1)), ("", "", self.channel), ("", "", ""), (0, 0, 1, 1))
        return self._element

    def _begin(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # no event loop: the element stays blank
        live = self._live = self._follower()
        live.start()
        live.watch(self, self._wake)
        if self.run:
            task = asyncio.get_running_loop().create_task(self._open(live), name=f"open {self.run}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, live: RunFollower) -> None:
        try:
            await live.open(self.run)
        except SnakemapError as error:
            log.warning("cannot show run %s: %s", self.run, error)
            return
        if self._live is live:
            self._opened = True
            self._wake()
        else:
            live.release(self.run)

    def _wake(self) -> None:
        """Bring all plots up to date; end when there are none."""
        if not any(one.subscribers for one in (self._drawing, self._changed)):
            self.close()
        elif self._renew():
            self._drawing.event(drawing=self._drawing.drawing + 1)
        elif self._element is not None:
            Stream.trigger([self._changed])

    def _renew(self) -> bool:
        """Make another element where the one there is no longer fits; return whether that was so."""
        run = self._found()
        if run is None or self.channel not in run.main.maps.channels:
            return False
        view = MapView()
        picture = self._levels.picture(run.main, view)
        level = self._levels.level(run.main, view, 1)
        drawn = (run.uid, run.epoch, picture.epoch, id(level))
        if drawn == self._drawn:
            return False
        self._drawn = drawn
        raster = picture.raster
        (bottom, top), (left, right) = raster.extents
        fast, slow = raster.fast, raster.slow
        cells = LevelCells(run, level, run.main.maps.channels.index(self.channel), fast.decreases, slow.decreases)
        units = fast.unit, slow.unit, str(run.main.units.get(self.channel) or "")
        self._element = _image(cells, (fast.name, slow.name, self.channel), units, (left, bottom, right, top))
        return True

    def _found(self) -> Run | None:
        if self._live is None:
            return None
        return self._live.runs.get(self.run or self._live.newest or "")


class LevelCells:
    """The cells of a channel, as a plot shows them: both axes rise.

    Args:
        run: whose maps they are.
        level: at its finest.
        number: of the channel.
        falls: whether coordinates fall along columns, and along rows.
    """

    def __init__(self, run: Run, level: PyramidLevel, number: int, *falls: bool) -> None:
        self._run, self._level, self._number = run, level, number
        self._along, self._down = (-1 if one else 1 for one in falls)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The cells (rows, columns) of the process."""
        self._level.update()
        return self._level.grids[self._number, :: self._down, :: self._along]

    @property
    def version(self) -> int:
        """Of the maps."""
        self._level.update()
        return self._level.version

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self._run.main.maps.span(self._number)

    def changed(self, since: int) -> npt.NDArray[np.integer] | None:
        """Return the cells that changed after a version; None when that is too long ago."""
        rows, columns = self._level.grids.shape[1:]
        cells = self._level.changed(since)
        if cells is None:
            return None
        down, along = np.divmod(cells, columns)
        down = down if self._down > 0 else rows - 1 - down
        along = along if self._along > 0 else columns - 1 - along
        return down * columns + along


def _image(
    cells: Any, names: Sequence[str], units: Sequence[str], bounds: tuple[float, float, float, float]
) -> LiveImage:
    *kdims, vdim = dimensions(names, units)
    image = LiveImage(cells, kdims, vdim, bounds=bounds)
    image.opts(cmap=palette(names[-1]), colorbar=True)
    return image
