"""Positions of points that do not visit a grid row by row: a spiral, a masked grid, a list of positions.

The positions are known before the run begins, or come with its events. They are kept by seq_num, as floats; NaN is
unknown. Like maps, a path is changed in place by one writer; readers keep a version and ask which points changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.core.change_log import ChangeLog
from snakemap.errors import GeometryError

__all__ = ["Lattice", "ScanPath"]

POINTS_MAX = 4_000_000
NODE = 1e-6
SPARSE_MAX = 16


@dataclass(frozen=True, slots=True)
class Lattice:
    """Evenly spaced nodes on which every point of a path lies, in any order, not on all of them.

    Attributes:
        x0: horizontal position of the first column, in the unit of its axis.
        dx: distance of two columns, above zero.
        columns: number of columns.
        y0: vertical position of the first row.
        dy: distance of two rows, above zero.
        rows: number of rows."""

    x0: float
    dx: float
    columns: int
    y0: float
    dy: float
    rows: int

    def __post_init__(self) -> None:
        numbers = (self.x0, self.dx, self.y0, self.dy)
        if not np.all(np.isfinite(numbers)) or self.dx <= 0 or self.dy <= 0 or min(self.columns, self.rows) < 1:
            raise GeometryError(f"no lattice: {self}")

    @classmethod
    def under(cls, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> Lattice | None:
        """Return the lattice on whose nodes all positions (n,) lie; None if there is none, or it is too sparse.

        >>> at = Lattice.under(np.array([0.0, 0.5, 1.5]), np.array([3.0, 3.0, 2.0]))
        >>> (at.x0, at.dx, at.columns, at.y0, at.dy, at.rows)
        (0.0, 0.5, 4, 2.0, 1.0, 2)
        """
        across, upwards = _spacing(xs), _spacing(ys)
        if across is None or upwards is None:
            return None
        (dx, columns), (dy, rows) = across, upwards
        if rows * columns > min(SPARSE_MAX * len(xs), POINTS_MAX):
            return None
        return cls(float(xs.min()), dx or dy or 1.0, columns, float(ys.min()), dy or dx or 1.0, rows)

    def cells(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the node nearest to each position (n,), as ``row * columns + column``; -1 outside, and for NaN.

        >>> Lattice(x0=0.0, dx=0.5, columns=3, y0=10.0, dy=1.0, rows=2).cells([0.1, 1.0, 9.0], [10.2, 11.0, 10.0])
        array([ 0,  5, -1])
        """
        with np.errstate(invalid="ignore", over="ignore"):
            column = np.floor((np.asarray(xs, dtype=np.float64) - self.x0) / self.dx + 0.5)
            row = np.floor((np.asarray(ys, dtype=np.float64) - self.y0) / self.dy + 0.5)
            inside = (column >= 0) & (column < self.columns) & (row >= 0) & (row < self.rows)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        return np.where(inside, row * self.columns + column, -1).astype(np.int64)


def _spacing(values: npt.NDArray[np.float64]) -> tuple[float, int] | None:
    """Return step and number of the evenly spaced nodes under values (n,); step 0 for one node; None if uneven."""
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    # rounding error of a coordinate after a few thousand steps
    noise = 64 * np.finfo(np.float64).eps * max(abs(low), abs(high))
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > noise]
    if not len(gaps):
        return 0.0, 1
    steps = float(np.round((high - low) / float(gaps.min())))
    if not steps < POINTS_MAX:
        return None
    step = (high - low) / steps
    off = np.abs(values - (low + np.round((values - low) / step) * step))
    return (step, int(steps) + 1) if np.all(off <= NODE * step + noise) else None


class ScanPath:
    """The positions of a run's points.

    Args:
        x: name and unit of the horizontal axis, like ``("stage-x", "mm")``.
        y: those of the vertical axis.
        positions: ``(xs, ys)`` of all points in the order of seq_num, if known before the run begins.
        lattice: the nodes on which they lie, if any.

    Attributes:
        planned: whether all positions were known from the start.
        xs: (capacity,) horizontal position of the point of seq_num ``index + 1``; NaN if unknown.
        ys: the same for the vertical ones.
        size: one more than the highest known index.
    """

    def __init__(
        self,
        x: tuple[str, str],
        y: tuple[str, str],
        *,
        positions: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        lattice: Lattice | None = None,
    ) -> None:
        (self.x_name, self.x_unit), (self.y_name, self.y_unit) = x, y
        self.lattice = lattice
        self.planned = positions is not None
        self.size = 0
        self.xs = np.full(1024, np.nan)
        self.ys = np.full(1024, np.nan)
        self._changes = ChangeLog()
        self._bounds = (np.inf, -np.inf, np.inf, -np.inf)
        if positions is not None:
            xs, ys = (np.asarray(values, dtype=np.float64) for values in positions)
            if xs.shape != ys.shape or xs.ndim != 1 or not np.all(np.isfinite(xs)) or not np.all(np.isfinite(ys)):
                raise GeometryError("positions that are not finite, or not as many along one axis as along the other")
            self.put(np.arange(1, len(xs) + 1), xs, ys)

    @property
    def version(self) -> int:
        """Number of changes of positions so far; the argument of :meth:`changed`."""
        return self._changes.version

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Left, right, bottom and top of all known positions; None before the first."""
        return self._bounds if self.size else None

    def put(self, seq_nums: npt.ArrayLike, xs: npt.ArrayLike, ys: npt.ArrayLike) -> None:
        """Set positions of points; a repeated point moves. What is not finite, or out of range, is ignored.

        Args:
            seq_nums: scan positions (n,), from 1 on.
            xs: their horizontal positions (n,).
            ys: their vertical positions (n,).
        """
        index = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64)) - 1
        xs, ys = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (xs, ys))
        usable = (index >= 0) & (index < POINTS_MAX) & np.isfinite(xs) & np.isfinite(ys)
        index, xs, ys = index[usable], xs[usable], ys[usable]
        if not len(index):
            return
        self._grow(int(index.max()) + 1)
        moved = (self.xs[index] != xs) | (self.ys[index] != ys)  # NaN is moved too
        index, xs, ys = index[moved], xs[moved], ys[moved]
        if not len(index):
            return
        self.xs[index], self.ys[index] = xs, ys
        self.size = max(self.size, int(index.max()) + 1)
        left, right, bottom, top = self._bounds
        self._bounds = (
            min(left, float(xs.min())),
            max(right, float(xs.max())),
            min(bottom, float(ys.min())),
            max(top, float(ys.max())),
        )
        self._changes.add(index)

    def at(self, seq_nums: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return horizontal and vertical position (n,) of given points; NaN if unknown."""
        index = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64)) - 1
        known = (index >= 0) & (index < self.size)
        index = np.where(known, index, 0)
        return np.where(known, self.xs[index], np.nan), np.where(known, self.ys[index], np.nan)

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Return the indices (``seq_num - 1``) changed after a version, each once, in rising order."""
        return self._changes.since(since)

    def fill_units(self, units: Mapping[str, str]) -> None:
        """Fill in missing units of the axes, by their names."""
        self.x_unit = self.x_unit or units.get(self.x_name, "")
        self.y_unit = self.y_unit or units.get(self.y_name, "")

    @property
    def described(self) -> str:
        """The axes as text: ``"stage-x and stage-y"``."""
        return f"{self.x_name} and {self.y_name}"

    def _grow(self, size: int) -> None:
        if size <= len(self.xs):
            return
        more = np.full(max(size, 2 * len(self.xs)) - len(self.xs), np.nan)
        self.xs, self.ys = np.concatenate([self.xs, more]), np.concatenate([self.ys, more])
