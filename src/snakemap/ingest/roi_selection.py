"""Select the ROIs of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snakemap.core.derived_documents import Rectangle, rois_of
from snakemap.core.roi import Roi, default_rois
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.errors import DocumentError, RoiError

__all__ = ["RoiSelection", "select_rois"]


@dataclass(frozen=True, slots=True)
class RoiSelection:
    """The ROIs of a run.

    Attributes:
        rois: all inside the frame; empty when the frame is too small.
        trouble: why these are not the requested ones; empty when they are.
    """

    rois: tuple[Roi, ...]
    trouble: str = ""

    @property
    def rectangles(self) -> dict[str, Rectangle]:
        """Rectangles ``(y0, y1, x0, x1)`` in detector pixels, by name."""
        return {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in self.rois}


def select_rois(
    run: Run,
    setting: Mapping[str, Rectangle] | None,
    *,
    frame_shape: tuple[int, int],
    source: MapSource | None = None,
) -> RoiSelection:
    """Return the ROIs of a run: its own, else those of its start document, else the setting's, else three bands.

    Start document and setting apply to the main source; where they do not fit another camera, it gets three bands
    without a remark.

    Args:
        run: the run.
        setting: the default ROIs, by name; None for none.
        frame_shape: rows and columns of a frame.
        source: the camera; None for the main one.
    """
    source = source or run.main
    regions = _regions(run, setting, source, frame_shape)
    return regions if source is run.main or source.derived_descriptor is not None else RoiSelection(regions.rois)


def _regions(
    run: Run, setting: Mapping[str, Rectangle] | None, source: MapSource, frame_shape: tuple[int, int]
) -> RoiSelection:
    try:
        found = source.rois if source.derived_descriptor is not None else rois_of(run.start, setting)
        if found is None:
            return RoiSelection(default_rois(frame_shape))
        rois = tuple(Roi(name, *rectangle) for name, rectangle in found.items())
        for roi in rois:
            roi.check(frame_shape)
    except (DocumentError, RoiError) as trouble:
        return _bands(str(trouble), frame_shape)
    return RoiSelection(rois)


def _bands(trouble: str, frame_shape: tuple[int, int]) -> RoiSelection:
    try:
        return RoiSelection(default_rois(frame_shape), f"{trouble}. Three equal bands are used instead.")
    except RoiError as worse:
        return RoiSelection((), f"{trouble}. Only the total is drawn: {worse}.")
