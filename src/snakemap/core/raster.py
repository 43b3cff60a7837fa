"""Which cell a point is: the order in which a stage visits the cells of a rectangular grid.

A scan of shape (3, 4), slow by fast, visits its cells in the order of ``seq_num``; snaked, every second row runs back:

    not snaked          snaked
    1  2  3  4          1  2  3  4
    5  6  7  8          8  7  6  5
    9 10 11 12          9 10 11 12

Rows are the slow axis and columns the fast one, both in the order of the scan's own index, never flipped: :class:`Axis`
has the coordinates, which may decrease.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from snakemap.core.scan_path import ScanPath
from snakemap.errors import GeometryError

__all__ = ["Axis", "Raster", "unravel"]

CELLS_MAX = 4_000_000
AXES_MAX = 16
EVEN = 1e-3


def unravel(
    seq_nums: npt.ArrayLike, shape: Sequence[int], *, snaking: Sequence[bool]
) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the index along every axis, slow to fast, of each point of an n-dimensional scan.

    A snaked axis runs back on every second sweep of its own, counted from the start of the scan, as in bluesky's
    ``LiveGrid`` and scanspec's ``Path``; tests compare with the latter.

    Args:
        seq_nums: scan positions (n,), from 1 on, all inside the shape.
        shape: points along each axis, slow to fast.
        snaking: one flag for each axis; the slowest is never snaked.

    Returns:
        One int64 array (n,) for each axis.

    >>> rows, columns = unravel(range(1, 13), (3, 4), snaking=(False, True))
    >>> [f"{r}{c}" for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
    ['00', '01', '02', '03', '13', '12', '11', '10', '20', '21', '22', '23']
    """
    index = np.asarray(seq_nums, dtype=np.int64) - 1
    indices = list[npt.NDArray[np.int64]]()
    below = math.prod(shape)
    for size, runs_back in zip(shape, snaking, strict=True):
        sweep = index // below
        below //= size
        along = index // below % size
        indices.append(np.where(sweep % 2 == 1, size - 1 - along, along) if runs_back else along)
    return tuple(indices)


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of a map.

    Attributes:
        name: the motor, like ``"stage-x"``; ``"column"`` or ``"row"`` if unknown.
        unit: like ``"mm"``; empty if unknown.
        coordinates: (n,) in ``unit``, in scan order; they may decrease.
        known: False if the coordinates are indices.
    """

    name: str
    unit: str
    coordinates: npt.NDArray[np.float64]
    known: bool = True

    @classmethod
    def of_indices(cls, name: str, size: int) -> Axis:
        """Return an axis of known length only: 0, 1, 2, ..."""
        return cls(name, "", np.arange(size, dtype=np.float64), known=False)

    @property
    def finite(self) -> bool:
        """Whether all coordinates and their range are finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(np.ptp(self.coordinates)))

    @property
    def even(self) -> bool:
        """Whether the coordinates are evenly spaced, each within a thousandth of a step.

        >>> [Axis("x", "mm", np.array(at)).even for at in ([4.0, 2.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 3.0], [7.0])]
        [True, False, False, True]
        """
        first, last = float(self.coordinates[0]), float(self.coordinates[-1])
        planned = np.linspace(first, last, len(self.coordinates))
        step = abs(last - first) / max(len(planned) - 1, 1)
        return bool(np.all(np.abs(self.coordinates - planned) <= EVEN * step))

    @property
    def decreases(self) -> bool:
        """Whether the coordinates decrease in scan order."""
        return bool(self.coordinates[-1] < self.coordinates[0])

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest edge of its cells: half a step beyond the outermost coordinates.

        >>> Axis("x", "mm", np.array([4.0, 3.0, 2.0])).bounds
        (1.5, 4.5)
        """
        low, high = float(self.coordinates.min()), float(self.coordinates.max())
        steps = len(self.coordinates) - 1
        half = (high - low) / steps / 2 if steps and high > low else 0.5
        return low - half, high + half

    @property
    def label(self) -> str:
        """Name and unit: ``"stage-x (mm)"``."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """The grid of a scan and the order of its points.

    Attributes:
        shape: points along each axis, slow to fast: ``(7, 9)``.
        snaking: one flag for each axis: whether it runs back on every second sweep.
        slow: the axis of the map's rows; of more than two axes, all but the last combined.
        fast: the axis of the map's columns.
        source: where the geometry comes from, for the user: ``"scanspec"``, ``"setting SNAKEMAP_GRID"``.
        note: a caution for the user; empty if there is none.
        certain: False if the number of points is a guess, so that missing points are unknown.
        path: positions of points that are no grid visited row by row; the raster is then one row of them, in the order
            of seq_num. None for a grid.

    Raises:
        GeometryError: if the shape is empty, too large, or disagrees with its axes, or these are not finite.
    """

    shape: tuple[int, ...]
    snaking: tuple[bool, ...]
    slow: Axis
    fast: Axis
    source: str
    note: str = ""
    certain: bool = True
    path: ScanPath | None = None
    rows: int = field(init=False)
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.snaking):
            raise GeometryError(f"snaking {self.snaking} does not fit the shape {self.shape}")
        _check_shape(self.shape)
        object.__setattr__(self, "rows", math.prod(self.shape[:-1]))
        object.__setattr__(self, "columns", self.shape[-1])
        if (len(self.slow.coordinates), len(self.fast.coordinates)) != (self.rows, self.columns):
            raise GeometryError(f"axes of {len(self.slow.coordinates)} x {len(self.fast.coordinates)} for {self.shape}")
        if not (self.slow.finite and self.fast.finite):
            raise GeometryError(f"coordinates of {self.slow.name} or {self.fast.name} that are not finite")

    @classmethod
    def of_shape(
        cls, shape: Sequence[int], *, snake: bool, source: str, note: str = "", certain: bool = True
    ) -> Raster:
        """Return a raster of a known shape; its axes are indices.

        >>> Raster.of_shape((7, 9), snake=True, source="shape").pixel([9, 10])[:2]
        (array([0, 1]), array([8, 8]))
        """
        shape = tuple(int(size) for size in shape)
        _check_shape(shape)
        return cls(
            shape=shape,
            snaking=(False, *(snake for _ in shape[1:])),
            slow=Axis.of_indices("row", math.prod(shape[:-1])),
            fast=Axis.of_indices("column", shape[-1]),
            source=source,
            note=note,
            certain=certain,
        )

    def with_units(self, units: Mapping[str, str]) -> Raster:
        """Return the raster with missing units of its axes filled in from units by motor name."""
        slow, fast = (
            replace(axis, unit=units[axis.name]) if not axis.unit and units.get(axis.name) else axis
            for axis in (self.slow, self.fast)
        )
        if self.path is not None:
            self.path.fill_units(units)
        return replace(self, slow=slow, fast=fast)

    @property
    def size(self) -> int:
        """Points in the whole scan."""
        return self.rows * self.columns

    @property
    def extents(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest cell edge of the slow axis, then of the fast axis."""
        return self.slow.bounds, self.fast.bounds

    @property
    def described(self) -> str:
        """One line for the user: ``"7 x 9, snaked, from scanspec"``."""
        if self.path is not None:
            size = f" of {self.size:,} points" if self.certain else ""
            return f"path{size}, from {self.source}"
        size = " x ".join(str(size) for size in self.shape)
        order = ", snaked" if any(self.snaking) else ", row by row" if len(self.shape) > 1 else ""
        return f"{size}{order}, from {self.source}"

    def pixel(
        self, seq_nums: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return row and column of each point, and whether it lies in the grid.

        Args:
            seq_nums: scan positions (n,), from 1 on.

        Returns:
            Rows and columns of the points inside (m <= n), and a mask (n,) that is False for those outside.
        """
        seq_nums = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64))
        inside = (seq_nums >= 1) & (seq_nums <= self.size)
        *outer, columns = unravel(seq_nums[inside], self.shape, snaking=self.snaking)
        rows = np.ravel_multi_index(tuple(outer), self.shape[:-1]) if outer else np.zeros_like(columns)
        return np.asarray(rows, dtype=np.int64), columns, inside

    def cells(self, seq_nums: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Like :meth:`pixel`, with one number for each cell: ``row * columns + column``."""
        rows, columns, inside = self.pixel(seq_nums)
        return rows * self.columns + columns, inside

    def seq_nums(self, cells: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the point (n,) of each cell (n,): the inverse of :meth:`cells`.

        >>> Raster.of_shape((2, 3), snake=True, source="shape").seq_nums([0, 3, 5])
        array([1, 6, 4])
        """
        index = np.unravel_index(np.asarray(cells, dtype=np.int64), self.shape)
        # a sweep runs back if the number of sweeps before it is odd, independent of the slower axes
        place = np.zeros_like(index[0])
        for along, size, runs_back in zip(index, self.shape, self.snaking, strict=True):
            place = place * size + (np.where(place % 2 == 1, size - 1 - along, along) if runs_back else along)
        return np.asarray(place + 1, dtype=np.int64)


def _check_shape(shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= AXES_MAX:
        raise GeometryError(f"a scan of {len(shape)} axes cannot be drawn; 1 to {AXES_MAX} can")
    if min(shape) < 1 or math.prod(shape) > CELLS_MAX:
        raise GeometryError(f"a scan of shape {shape} cannot be drawn; 1 to {CELLS_MAX:,} points can")
