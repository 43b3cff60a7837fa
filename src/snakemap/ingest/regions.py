"""Which ROIs a run's frames are summed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemap.errors import DocumentError, RoiError
from snakemap.roi import Roi, default_rois
from snakemap.runs import DERIVED, Rectangle, Run, rois_of

__all__ = ["Regions", "regions_of", "told_trouble", "with_trouble"]


@dataclass(frozen=True, slots=True)
class Regions:
    """The ROIs of a run.

    Attributes:
        rois: all inside the frame; none when the frame is too small to be cut.
        trouble: why these and not those that were asked for; empty when there is nothing to say.
    """

    rois: tuple[Roi, ...]
    trouble: str = ""

    @property
    def rectangles(self) -> dict[str, Rectangle]:
        """The same by name, ``(y0, y1, x0, x1)`` in detector pixels."""
        return {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in self.rois}


def regions_of(run: Run, setting: Mapping[str, Rectangle] | None, *, frame_shape: tuple[int, int]) -> Regions:
    """The ROIs that a run has already, else those that its start document tells, else the setting's, else three bands.

    Args:
        run: whose frames they are of.
        setting: the instrument's ROIs, by name; None where there are none.
        frame_shape: rows and columns of a frame.
    """
    try:
        told = run.rois if run.derived is not None else rois_of(run.start, setting)
        if told is None:
            return Regions(default_rois(frame_shape))
        rois = tuple(Roi(name, *rectangle) for name, rectangle in told.items())
        for roi in rois:
            roi.check(frame_shape)
    except (DocumentError, RoiError) as trouble:
        return _bands(str(trouble), frame_shape)
    return Regions(rois)


def _bands(trouble: str, frame_shape: tuple[int, int]) -> Regions:
    try:
        return Regions(default_rois(frame_shape), f"{trouble}. Three equal bands serve instead.")
    except RoiError as worse:
        return Regions((), f"{trouble}. Only the total is drawn: {worse}.")


def with_trouble(descriptor: dict[str, Any], trouble: str) -> dict[str, Any]:
    """Lets our descriptor say why its ROIs are not those that were asked for."""
    if trouble:
        told = descriptor["configuration"][DERIVED]
        told["data"]["trouble"] = trouble
        told["timestamps"]["trouble"] = descriptor["time"]
        told["data_keys"]["trouble"] = {"source": DERIVED, "dtype": "string", "shape": []}
    return descriptor


def told_trouble(descriptor: Mapping[str, Any]) -> str:
    """What :func:`with_trouble` has put into our descriptor; empty when there was nothing to say."""
    return str(descriptor["configuration"][DERIVED]["data"].get("trouble", ""))
