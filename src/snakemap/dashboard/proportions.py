"""The proportions of a map on the screen: true distances, square cells, or all the room that there is."""

from __future__ import annotations

from snakemap.core.raster import Raster
from snakemap.dashboard.view_state import AUTOMATIC

__all__ = ["drawn_aspect", "stretch"]

THREAD = 8.0
"""A map that is longer than wide by more than this is hard to see."""

SAME_STEP = 1.05
"""Steps whose ratio is below this count as equal."""


def drawn_aspect(chosen: str, raster: Raster) -> str:
    """Return how the cells of a map are drawn.

    With the automatic choice, distances are true where both axes have one unit, unless the map is a thread then and
    square cells show more of it.

    Args:
        chosen: one of :data:`snakemap.dashboard.view_state.ASPECTS`.
        raster: of the map.

    Returns:
        ``"square pixels"``, ``"true distances"`` or ``"fill"``.
    """
    if chosen != AUTOMATIC:
        return chosen
    if not _comparable(raster):
        return "square pixels"
    true, square = _elongation(*_lengths(raster)), _elongation(raster.columns, raster.rows)
    return "square pixels" if true > max(THREAD, square) else "true distances"


def stretch(chosen: str, raster: Raster) -> str:
    """Return a sentence on which axis is stretched, where distances could be true and are not; else nothing."""
    if drawn_aspect(chosen, raster) != "square pixels" or not _comparable(raster) or 1 in (raster.rows, raster.columns):
        return ""
    across, up = _lengths(raster)
    ratio = (across / raster.columns) / (up / raster.rows)
    if 1 / SAME_STEP < ratio < SAME_STEP:
        return ""
    axis, factor = (raster.slow, ratio) if ratio > 1 else (raster.fast, 1 / ratio)
    return f"Not true distances: {axis.name} is stretched by {factor:.3g}."


def _comparable(raster: Raster) -> bool:
    """Return whether the coordinates of both axes are known, in one unit."""
    fast, slow = raster.fast, raster.slow
    return fast.known and slow.known and bool(fast.unit) and fast.unit == slow.unit


def _lengths(raster: Raster) -> tuple[float, float]:
    (bottom, top), (left, right) = raster.extents
    return right - left, top - bottom


def _elongation(across: float, up: float) -> float:
    return max(across, up) / min(across, up)
