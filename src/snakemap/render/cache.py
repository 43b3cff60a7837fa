"""Images of maps, shared by all tabs of a process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from snakemap.core.streams import MapSource
from snakemap.render.map_image import CellImage, map_image
from snakemap.render.map_view import MapView
from snakemap.render.pyramid import PyramidLevel
from snakemap.render.stage_path import StagePath, stage_path_of

__all__ = ["RenderCache"]

VIEWS_KEPT = 8
"""Cached images of one source, the last used ones; tabs seldom use more than two views."""


@dataclass(slots=True)
class DrawnMap:
    """One image, its pyramid levels by step, and the stage path with the version of the scan path."""

    picture: CellImage
    levels: dict[int, PyramidLevel]
    stage_path: tuple[int, StagePath | None] | None = None


class RenderCache:
    """Images and their pyramid levels by source and view, shared by all tabs of a process.

    They are dropped with their source, and when its maps are replaced. Steps are powers of two, so all levels of an
    image together take about as much memory as the image.
    """

    def __init__(self) -> None:
        self._drawn: WeakKeyDictionary[MapSource, OrderedDict[MapView, DrawnMap]] = WeakKeyDictionary()

    @property
    def count(self) -> int:
        """Number of cached levels."""
        return sum(len(drawn.levels) for views in self._drawn.values() for drawn in views.values())

    def picture(self, source: MapSource, view: MapView) -> CellImage:
        """Return the current image of a source in a view."""
        return self._of(source, view).picture

    def level(self, source: MapSource, view: MapView, step: int) -> PyramidLevel:
        """Return the current level of an image at a step."""
        drawn = self._of(source, view)
        if any(level.epoch != drawn.picture.epoch for level in drawn.levels.values()):
            drawn.levels.clear()
        level = drawn.levels.get(step)
        if level is None:
            level = drawn.levels[step] = PyramidLevel(drawn.picture, step)
        level.update()
        return level

    def stage_path(self, source: MapSource, view: MapView) -> StagePath | None:
        """Return the stage path in a view, computed again when the scan path changed."""
        drawn, path = self._of(source, view), source.maps.raster.path
        version = path.version if path is not None else 0
        if drawn.stage_path is None or drawn.stage_path[0] != version:
            drawn.stage_path = version, stage_path_of(source.maps.raster, view)
        return drawn.stage_path[1]

    def _of(self, source: MapSource, view: MapView) -> DrawnMap:
        views = self._drawn.setdefault(source, OrderedDict())
        drawn = views.get(view)
        if drawn is None or drawn.picture.maps is not source.maps or drawn.picture.drawn_of is not source.maps.raster:
            drawn = views[view] = DrawnMap(map_image(source.maps, view), {})
        views.move_to_end(view)
        while len(views) > VIEWS_KEPT:
            views.popitem(last=False)
        drawn.picture.update()
        return drawn
