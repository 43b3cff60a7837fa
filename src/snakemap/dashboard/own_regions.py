"""The regions of one tab: rectangles whose maps are drawn beside those of the beamline's regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from snakemap.core.maps import Maps
from snakemap.core.roi import Roi
from snakemap.core.streams import MapSource
from snakemap.errors import RoiError

__all__ = ["OwnRegions", "fitting"]


class OwnRegions:
    """A source with further channels: a copy of the maps of a run that grows with them.

    Copying costs O(new points). The channels of the regions come before the last one, which is the total.

    Attributes:
        rois: the rectangles.
    """

    def __init__(self) -> None:
        self.rois: tuple[Roi, ...] = ()
        self._base: MapSource | None = None
        self._of: Maps | None = None
        self._version = 0
        self._source: MapSource | None = None

    def use(self, rois: Sequence[Roi]) -> None:
        """Take other rectangles."""
        self.rois, self._source = tuple(rois), None

    def move(self, number: int, roi: Roi) -> None:
        """Move a rectangle, whose name stays; its channel keeps the values that it has, until others are put."""
        self.rois = (*self.rois[:number], roi, *self.rois[number + 1 :])
        if self._source is not None and roi.name in self._source.maps.channels:
            self._source.rois = {**self._source.rois, roi.name: (roi.y0, roi.y1, roi.x0, roi.x1)}

    def over(self, base: MapSource) -> MapSource:
        """Return a source with the channels of those rectangles that fit it; itself if none do."""
        rois = fitting(self.rois, base) if self.rois else ()
        if not rois:
            self._source = self._base = self._of = None
            return base
        source, maps = self._source, base.maps
        if source is None or base is not self._base or maps is not self._of or source.maps.raster is not maps.raster:
            source = self._source = _copy_of(base, rois)
            self._base, self._of, self._version = base, maps, 0
        if self._version != maps.version:
            cells = maps.changed(self._version)
            self._version = maps.version
            values = {name: maps.values(number, cells) for number, name in enumerate(maps.channels)}
            source.maps.assign(maps.raster.seq_nums(cells), values)
        return source

    def put(self, base: MapSource, name: str, seq_nums: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> bool:
        """Take the sums of points over a rectangle; return whether any is new."""
        source = self._source
        if source is None or base is not self._base or name not in source.maps.channels:
            return False
        maps = source.maps
        cells, inside = maps.raster.cells(seq_nums)
        values = values[inside]
        before = maps.values(maps.channels.index(name), cells)
        new = (before != values) & ~(np.isnan(before) & np.isnan(values))
        if new.any():
            maps.assign(seq_nums[inside][new], {name: values[new]})
        return bool(new.any())


def fitting(rois: Sequence[Roi], base: MapSource) -> tuple[Roi, ...]:
    """Return the rectangles that lie within the frame of a source and whose names are not those of its channels."""
    if base.kind != "frames" or base.frame_shape is None or not base.ledger.resources:
        return ()
    return tuple(roi for roi in rois if roi.name not in base.maps.channels and _is_inside(roi, base.frame_shape))


def _is_inside(roi: Roi, frame_shape: tuple[int, int]) -> bool:
    try:
        roi.check(frame_shape)
    except RoiError:
        return False
    return True


def _copy_of(base: MapSource, rois: Sequence[Roi]) -> MapSource:
    *own, last = base.maps.channels
    channels = (*own, *(roi.name for roi in rois), last)
    source = MapSource(base.key, stream=base.stream, raster=base.maps.raster, channels=channels, ledger=base.ledger)
    source.rois = {**base.rois, **{roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in rois}}
    source.frame_shape, source.units, source.remarks = base.frame_shape, base.units, base.remarks
    source.derived_descriptor = base.derived_descriptor
    return source
