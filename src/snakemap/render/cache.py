"""Downsampled maps, shared by all tabs of a process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from snakemap.core.streams import MapSource
from snakemap.render.map_view import MapView
from snakemap.render.picture import Picture, picture_of
from snakemap.render.pyramid import PyramidLevel
from snakemap.render.stage_path import StagePath, trail_of

__all__ = ["RenderCache"]

VIEWS_KEPT = 8
"""Pictures of one source that are kept, the last ones asked for; tabs seldom want more than two kinds."""


@dataclass(slots=True)
class DrawnMap:
    """One picture, its levels by step, and the way of the stage over it, with the version of its path."""

    picture: Picture
    levels: dict[int, PyramidLevel]
    trail: tuple[int, StagePath | None] | None = None


class RenderCache:
    """The pictures of all that anyone looks at, and their levels: made once a process, shared by its tabs.

    They go with the source that they are drawn from, and when its maps are replaced. Steps are powers of two, so that
    all levels of a picture together take no more than about as much memory as it does.
    """

    def __init__(self) -> None:
        self._drawn: WeakKeyDictionary[MapSource, OrderedDict[MapView, DrawnMap]] = WeakKeyDictionary()

    @property
    def count(self) -> int:
        """Levels that are kept."""
        return sum(len(drawn.levels) for views in self._drawn.values() for drawn in views.values())

    def picture(self, source: MapSource, view: MapView) -> Picture:
        """The picture of a source as a view wants it, up to date."""
        return self._of(source, view).picture

    def level(self, source: MapSource, view: MapView, step: int) -> PyramidLevel:
        """The level of a picture at a step, up to date."""
        drawn = self._of(source, view)
        if any(level.epoch != drawn.picture.epoch for level in drawn.levels.values()):
            drawn.levels.clear()
        level = drawn.levels.get(step)
        if level is None:
            level = drawn.levels[step] = PyramidLevel(drawn.picture, step)
        level.update()
        return level

    def trail(self, source: MapSource, view: MapView) -> StagePath | None:
        """The way of the stage as a view draws it, made anew when more of it has become known."""
        drawn, path = self._of(source, view), source.maps.raster.path
        version = path.version if path is not None else 0
        if drawn.trail is None or drawn.trail[0] != version:
            drawn.trail = version, trail_of(source.maps.raster, view)
        return drawn.trail[1]

    def _of(self, source: MapSource, view: MapView) -> DrawnMap:
        views = self._drawn.setdefault(source, OrderedDict())
        drawn = views.get(view)
        if drawn is None or drawn.picture.maps is not source.maps or drawn.picture.drawn_of is not source.maps.raster:
            drawn = views[view] = DrawnMap(picture_of(source.maps, view), {})
        views.move_to_end(view)
        while len(views) > VIEWS_KEPT:
            views.popitem(last=False)
        drawn.picture.update()
        return drawn
