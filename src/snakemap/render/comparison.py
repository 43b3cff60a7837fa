"""Two runs side by side: the second laid over the cells of the first, their difference and their ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.core.maps import Maps, span_of
from snakemap.core.raster import Axis, Raster
from snakemap.errors import GeometryError
from snakemap.render.picture import picture_of

__all__ = ["Comparison", "compared"]

Grid = npt.NDArray[np.float64]
CELLS_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two maps of one channel on the cells of the first, rows and columns rising with the coordinates.

    Attributes:
        first: (rows, columns) counts of the first run; NaN where it has not been.
        second: the same of the second run, at the nearest of its points.
        difference: second less first; NaN where one of them has not been.
        ratio: second over first; NaN also where the first is 0.
        extents: outer cell edges, ``((bottom, top), (left, right))``.
        labels: of the slow and the fast axis.
        note: what is to be said of it, or empty.
    """

    first: Grid
    second: Grid
    difference: Grid
    ratio: Grid
    extents: tuple[tuple[float, float], tuple[float, float]]
    labels: tuple[str, str]
    note: str

    @property
    def limits(self) -> tuple[float, float]:
        """Range of the values of both: from 0, or from the lowest where one is negative, to the highest."""
        known = [grid[np.isfinite(grid)] for grid in (self.first, self.second)]
        low = min((float(values.min()) for values in known if values.size), default=0.0)
        high = max((float(values.max()) for values in known if values.size), default=0.0)
        return span_of(low, high)


def compared(first: Maps, second: Maps, channel: str) -> Comparison:
    """Compares a channel of two runs.

    Where both tell coordinates, places are compared; else cells of the same row and column, if the shapes are one.

    Raises:
        GeometryError: when the runs cannot be compared, saying why.
    """
    for maps, which in ((first, "first"), (second, "second")):
        if channel not in maps.channels:
            raise GeometryError(f"the {which} run has no map {channel[:60]!r}")
    one, other = picture_of(first), picture_of(second)
    one.update()
    other.update()
    if one.raster.rows * one.raster.columns > CELLS_MAX:
        raise GeometryError(f"a comparison has at most {CELLS_MAX:,} cells")
    a = one.grids[first.channels.index(channel)]
    b, note = _laid_over(other.grids[second.channels.index(channel)], other.raster, one.raster)
    a, b = _rising(a, one.raster), _rising(b, one.raster)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(a != 0, b / a, np.nan)
    slow, fast = one.raster.slow, one.raster.fast
    return Comparison(a.copy(), b, b - a, ratio, one.raster.extents, (slow.label, fast.label), note)


def _laid_over(grid: Grid, raster: Raster, cells: Raster) -> tuple[Grid, str]:
    """A grid on the cells of another raster, and what is to be said of that."""
    told = raster.slow.known and raster.fast.known and cells.slow.known and cells.fast.known
    named = (raster.slow.name, raster.fast.name) == (cells.slow.name, cells.fast.name)
    if not (told and named):
        if grid.shape != (cells.rows, cells.columns):
            why = "move different axes" if told else "have no positions"
            raise GeometryError(
                f"the runs {why} and have different shapes: {cells.rows} x {cells.columns} and "
                f"{raster.rows} x {raster.columns}"
            )
        return grid, "compared row by row and column by column" if not told else "the runs move different axes"
    rows, columns = _nearest(raster.slow, cells.slow), _nearest(raster.fast, cells.fast)
    laid = grid[np.maximum(rows, 0)[:, None], np.maximum(columns, 0)[None, :]]
    laid[rows < 0, :] = np.nan
    laid[:, columns < 0] = np.nan
    if (rows < 0).all() or (columns < 0).all():
        return laid, "the runs do not overlap"
    same = grid.shape == laid.shape and (rows >= 0).all() and (columns >= 0).all()
    return laid, "" if same else "the second run is shown at the points nearest to those of the first"


def _nearest(of: Axis, at: Axis) -> npt.NDArray[np.int64]:
    """For each place of an axis the index of the nearest of another, -1 where that is farther than its half step.

    >>> _nearest(Axis("x", "", np.array([2.0, 1.0, 0.0])), Axis("x", "", np.array([-1.0, 0.1, 0.9, 2.0])))
    array([-1,  2,  1,  0])
    """
    order = np.argsort(of.coordinates, kind="stable")
    there = of.coordinates[order]
    middles = (there[1:] + there[:-1]) / 2
    found = np.searchsorted(middles, at.coordinates)
    steps = np.diff(there)
    steps = steps[steps > 0]
    reach = 0.501 * float(np.median(steps)) if len(steps) else np.inf
    near = np.abs(there[found] - at.coordinates) <= reach + 1e-12
    return np.where(near, order[found], -1)


def _rising(grid: Grid, raster: Raster) -> Grid:
    """Rows and columns in the order of their coordinates."""
    if raster.slow.decreases:
        grid = grid[::-1]
    return np.ascontiguousarray(grid[:, ::-1] if raster.fast.decreases else grid)
