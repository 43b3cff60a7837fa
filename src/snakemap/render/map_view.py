"""How a tab wants a run drawn: in what shape, and which axis is drawn to the right."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snakemap.core.raster import Raster
from snakemap.errors import GeometryError

__all__ = ["TYPED", "MapView", "laid_out"]

TYPED = "the shape typed here"
"""Source of a raster whose shape its user typed."""

TYPED_CELLS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class MapView:
    """How a tab wants a run drawn; tabs that want the same share what is made for it.

    Attributes:
        shape: rows, columns and whether they are snaked, like ``(7, 9, True)``, laid over the points in the order of
            seq_num; None for the raster of the run.
        exchanged: whether the fast axis is drawn upwards and the slow one to the right.

    Raises:
        GeometryError: when the shape has more cells than every anonymous tab may ask for.
    """

    shape: tuple[int, int, bool] | None = None
    exchanged: bool = False

    def __post_init__(self) -> None:
        if self.shape is not None and not 1 <= self.shape[0] * self.shape[1] <= TYPED_CELLS_MAX:
            told = f"{self.shape[0]:,} x {self.shape[1]:,}"
            raise GeometryError(f"a shape of {told} cannot be laid over a run; 1 to {TYPED_CELLS_MAX:,} points can")


def laid_out(raster: Raster, view: MapView) -> Raster:
    """The raster that a view lays over the points of a run, before anything is exchanged.

    Where the shape that was typed is the one of the run's own grid, the coordinates of its axes are kept.

    Raises:
        GeometryError: when the shape that was typed cannot be drawn.

    >>> laid_out(Raster.of_shape((63,), snake=False, source="the points seen"), View((7, 9, True))).described
    '7 x 9, snaked, from the shape typed here'
    """
    if view.shape is None:
        return raster
    rows, columns, snake = view.shape
    typed = Raster.of_shape((rows, columns), snake=bool(snake), source=TYPED)
    if raster.path is None and (raster.rows, raster.columns) == (rows, columns) and len(raster.shape) > 1:
        return replace(typed, slow=raster.slow, fast=raster.fast)
    return typed
