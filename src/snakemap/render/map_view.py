"""The view of a run in a tab: its shape, and which axis is horizontal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snakemap.core.raster import Raster
from snakemap.errors import GeometryError

__all__ = ["TYPED", "MapView", "raster_of_view"]

TYPED = "the shape typed here"
"""Source of a raster whose shape was typed."""

TYPED_CELLS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class MapView:
    """The view of a run; tabs with the same view share images.

    Attributes:
        shape: rows, columns and whether they are snaked, like ``(7, 9, True)``, for the points in the order of seq_num;
            None for the raster of the run.
        exchanged: whether the fast axis is vertical and the slow one horizontal.

    Raises:
        GeometryError: the shape has more cells than allowed.
    """

    shape: tuple[int, int, bool] | None = None
    exchanged: bool = False

    def __post_init__(self) -> None:
        if self.shape is not None and not 1 <= self.shape[0] * self.shape[1] <= TYPED_CELLS_MAX:
            shape = f"{self.shape[0]:,} x {self.shape[1]:,}"
            raise GeometryError(f"a shape of {shape} cannot be laid over a run; 1 to {TYPED_CELLS_MAX:,} points can")


def raster_of_view(raster: Raster, view: MapView) -> Raster:
    """Return the raster of a view for the points of a run, before axes are exchanged.

    If the typed shape is the one of the run's grid, the coordinates of its axes are kept.

    Raises:
        GeometryError: the typed shape cannot be drawn.

    >>> raster_of_view(Raster.of_shape((63,), snake=False, source="the points seen"), MapView((7, 9, True))).described
    '7 x 9, snaked, from the shape typed here'
    """
    if view.shape is None:
        return raster
    rows, columns, snake = view.shape
    typed = Raster.of_shape((rows, columns), snake=bool(snake), source=TYPED)
    if raster.path is None and (raster.rows, raster.columns) == (rows, columns) and len(raster.shape) > 1:
        return replace(typed, slow=raster.slow, fast=raster.fast)
    return typed
