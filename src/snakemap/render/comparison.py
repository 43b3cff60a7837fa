"""Comparison of two runs: the second on the cells of the first, their difference and their ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.core.maps import Maps, span_of
from snakemap.core.raster import Axis, Raster
from snakemap.errors import GeometryError
from snakemap.render.map_image import map_image

__all__ = ["Comparison", "compare_maps"]

Grid = npt.NDArray[np.float64]
CELLS_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two maps of one channel on the cells of the first, rows and columns rising with the coordinates.

    Attributes:
        first: (rows, columns) counts of the first run; NaN where not visited.
        second: the same of the second run, at the nearest of its points.
        difference: second minus first; NaN where one is not visited.
        ratio: second over first; NaN also where the first is 0.
        extents: outer cell edges, ``((bottom, top), (left, right))``.
        labels: of the slow and the fast axis.
        note: for the user, or empty.
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
        """Range of the values of both: from 0, or from the minimum if negative, to the maximum."""
        known = [grid[np.isfinite(grid)] for grid in (self.first, self.second)]
        low = min((float(values.min()) for values in known if values.size), default=0.0)
        high = max((float(values.max()) for values in known if values.size), default=0.0)
        return span_of(low, high)


def compare_maps(first: Maps, second: Maps, channel: str) -> Comparison:
    """Compare a channel of two runs.

    If both have coordinates, positions are compared; else cells of the same row and column, for equal shapes.

    Raises:
        GeometryError: the runs cannot be compared, with the reason.
    """
    for maps, which in ((first, "first"), (second, "second")):
        if channel not in maps.channels:
            raise GeometryError(f"the {which} run has no map {channel[:60]!r}")
    one, other = map_image(first), map_image(second)
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
    """Return a grid on the cells of another raster, and a note for the user."""
    known = raster.slow.known and raster.fast.known and cells.slow.known and cells.fast.known
    named = (raster.slow.name, raster.fast.name) == (cells.slow.name, cells.fast.name)
    if not (known and named):
        if grid.shape != (cells.rows, cells.columns):
            why = "move different axes" if known else "have no positions"
            raise GeometryError(
                f"the runs {why} and have different shapes: {cells.rows} x {cells.columns} and "
                f"{raster.rows} x {raster.columns}"
            )
        return grid, "compared row by row and column by column" if not known else "the runs move different axes"
    rows, columns = _nearest(raster.slow, cells.slow), _nearest(raster.fast, cells.fast)
    laid = grid[np.maximum(rows, 0)[:, None], np.maximum(columns, 0)[None, :]]
    laid[rows < 0, :] = np.nan
    laid[:, columns < 0] = np.nan
    if (rows < 0).all() or (columns < 0).all():
        return laid, "the runs do not overlap"
    same = grid.shape == laid.shape and (rows >= 0).all() and (columns >= 0).all()
    return laid, "" if same else "the second run is shown at the points nearest to those of the first"


def _nearest(of: Axis, at: Axis) -> npt.NDArray[np.int64]:
    """Return for each coordinate of an axis the index of the nearest of another, -1 beyond half a step.

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
    """Return a grid with rows and columns in the order of their coordinates."""
    if raster.slow.decreases:
        grid = grid[::-1]
    return np.ascontiguousarray(grid[:, ::-1] if raster.fast.decreases else grid)
