"""Find the axes and the lattice of a scan in its measured positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from snakemap.core.raster import Raster
from snakemap.core.scan_path import POINTS_MAX

__all__ = ["STILL", "Positions", "fill_gaps", "find_snaking", "fit_axis", "guess_axes", "is_irregular"]

STILL = 1e-3
"""Share of the farthest motor's extent below which another motor counts as standing still."""


IRREGULAR = 0.05
"""Maximum share of points more than half a step away from their cell of a grid."""


class Positions:
    """The known positions of one motor, by index (``seq_num - 1``); NaN where unknown.

    Attributes:
        count: known positions.
        size: one more than the highest known index.
        extent: distance from the lowest position to the highest one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._values = np.full(256, np.nan)
        self._complete = 0
        self._low, self._high = math.inf, -math.inf
        self._walked = 0.0
        self._before = math.nan

    @property
    def extent(self) -> float:
        """Distance from the lowest position to the highest."""
        return self._high - self._low if self.count else 0.0

    @property
    def sweeps(self) -> float:
        """Number of passes over its extent: more for the faster motor."""
        return self._walked / self.extent if self.extent > 0 else 0.0

    def put(self, index: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> bool:
        """Store positions (n,) without NaN and out-of-range ones; return whether anything is new."""
        if len(index) != len(values):
            return False
        usable = (index >= 0) & (index < POINTS_MAX) & (np.abs(values) < 1e300)  # NaN is not
        index, values = index[usable], values[usable]
        if not len(index):
            return False
        self._grow(int(index.max()) + 1)
        moved = self._values[index] != values  # NaN is moved too
        index, values = index[moved], values[moved]
        if not len(index):
            return False
        self.count += len(np.unique(index[np.isnan(self._values[index])]))
        self._values[index] = values
        self.size = max(self.size, int(index.max()) + 1)
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        steps = np.abs(np.diff(values, prepend=self._before))
        self._walked += float(np.nansum(steps))
        self._before = float(values[-1])
        return True

    def at(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return positions (n,) at given indices; NaN where unknown."""
        inside = index < self.size
        return np.where(inside, self._values[np.where(inside, index, 0)], np.nan)

    def is_complete(self, needed: int) -> bool:
        """Return whether the first ``needed`` positions are known; each is checked once."""
        while self._complete < min(needed, self.size) and not math.isnan(self._values[self._complete]):
            self._complete += 1
        return self._complete >= needed

    def _grow(self, size: int) -> None:
        if size > len(self._values):
            more = np.full(max(size, 2 * len(self._values)) - len(self._values), np.nan)
            self._values = np.concatenate([self._values, more])


def find_snaking(raster: Raster, columns: Mapping[int, npt.NDArray[np.float64]]) -> tuple[bool, ...]:
    """Return which axes are snaked, from the positions (n,) along each: the first sweep is compared with the second.

    An undecided axis follows the fast axis, else the raster.
    """
    seen = {depth: _runs_back(column, raster.shape, depth) for depth, column in columns.items() if depth > 0}
    last = len(raster.shape) - 1
    fast = seen.get(last)
    found = [raster.snaking[0]]
    for depth in range(1, last + 1):
        answer = seen.get(depth)
        answer = fast if answer is None else answer
        found.append(raster.snaking[depth] if answer is None else answer)
    return tuple(found)


def _runs_back(column: npt.NDArray[np.float64], shape: Sequence[int], depth: int) -> bool | None:
    """Return whether the second sweep of an axis runs against the first; None if undecided."""
    below, size = math.prod(shape[depth + 1 :]), shape[depth]
    sweep = below * size
    if size < 2 or len(column) < 2 * sweep:
        return None
    there, back = (_means(column[first : first + sweep].reshape(size, below)) for first in (0, sweep))
    along, against = back - there, back - there[::-1]
    known = ~np.isnan(along) & ~np.isnan(against)
    off = float(np.sum(np.abs(along[known]))), float(np.sum(np.abs(against[known])))
    if not max(off) > 0 or min(off) > max(off) / 2:
        return None
    return off[1] < off[0]


def _means(blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean (n,) of the known values in each row of blocks (n, m); NaN where none is known."""
    known = ~np.isnan(blocks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, blocks, 0.0).sum(axis=1) / known.sum(axis=1)


def guess_axes(columns: Mapping[str, npt.NDArray[np.float64]], shape: Sequence[int]) -> dict[int, str]:
    """Guess the fast motor and, for a grid of two axes, the slow one, from the first two rows.

    The fast motor moves as far within a row as in both rows; the slow one moves farther between rows than within them.
    """
    size = shape[-1]
    rows = {key: list(_rows(column, size)) for key, column in columns.items()}
    within = {key: max(map(np.ptp, found), default=0.0) for key, found in rows.items()}
    both = {key: np.ptp(np.concatenate(found)) if found else 0.0 for key, found in rows.items()}
    farthest = max(both.values(), default=0.0)
    straight = {key: _straightness(rows[key][0]) if rows[key] else 0.0 for key in rows}
    moving = [key for key in rows if both[key] > 0]
    fast = [key for key in moving if within[key] >= 0.5 * both[key] and within[key] > STILL * farthest]
    found: dict[int, str] = {}
    if fast and size > 1:
        found[len(shape) - 1] = max(fast, key=lambda key: (straight[key] > 0.5, within[key]))
    slow = [key for key in columns if key not in found.values() and within[key] < 0.5 * both[key]]
    if slow and len(shape) == 2 and shape[0] > 1:
        found[0] = max(slow, key=lambda key: both[key])
    return found


def _rows(column: npt.NDArray[np.float64], size: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the known positions of each of the first two rows."""
    for first in (0, size):
        known = column[first : first + size]
        known = known[~np.isnan(known)]
        if len(known):
            yield known


def _straightness(row: npt.NDArray[np.float64]) -> float:
    """Return 1 for a motor that goes from one end to the other, less for one that jitters."""
    walked = float(np.sum(np.abs(np.diff(row))))
    return abs(float(row[-1] - row[0])) / walked if walked > 0 else 0.0


def fit_axis(
    column: npt.NDArray[np.float64], index: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """Return coordinates (size,) of an axis as means of positions, and which were measured; others are interpolated."""
    known = ~np.isnan(column)
    counts = np.bincount(index[known], minlength=size)
    seen = counts > 0
    if size < 2 or np.count_nonzero(seen) < 2:
        return None
    sums = np.bincount(index[known], weights=column[known], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return fill_gaps(np.where(seen, sums / counts, np.nan)), seen


def fill_gaps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return coordinates (n,) with NaN replaced: between neighbors, or beyond them at the mean step.

    >>> fill_gaps(np.array([np.nan, 2.0, np.nan, 6.0, np.nan])).tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return values
    first, last = int(known[0]), int(known[-1])
    step = (values[last] - values[first]) / max(last - first, 1)
    at = np.arange(len(values))
    filled = np.interp(at, known, values[known])
    filled[:first] = values[first] - step * (first - at[:first])
    filled[last + 1 :] = values[last] + step * (at[last + 1 :] - last)
    return filled


def is_irregular(
    column: npt.NDArray[np.float64], coordinates: npt.NDArray[np.float64], index: npt.NDArray[np.int64]
) -> bool:
    """Return whether too many positions lie farther than half a step from the coordinate of their index."""
    known = ~np.isnan(column)
    off = np.abs(column[known] - coordinates[index[known]])
    step = float(np.median(np.abs(np.diff(coordinates))))
    return bool(np.mean(off > 0.5 * step) > IRREGULAR)
