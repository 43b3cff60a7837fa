"""The maps of one source: a grid for each channel, filled by assignment, with summaries and histograms.

Assigning costs O(new points). One writer changes grids in place; readers keep a version, ask which cells changed since,
and read those: no copies, no locks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from snakemap.core.change_log import ChangeLog
from snakemap.core.raster import Raster

__all__ = ["BINS", "ChannelSummary", "Maps", "histogram", "span_of", "summarize", "value_at"]

OUT_OF_RANGE_MAX = 100_000
BINS = 64
"""Bars of a histogram over the range of a channel, see :func:`span_of`."""


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """The statistics of one channel, in detector counts.

    Attributes:
        minimum: smallest value of a visited cell, like ``1_024.0``; NaN before the first.
        maximum: the largest one; NaN before the first.
        mean: mean over visited cells; NaN before the first.
        total: sum over visited cells.
        row: row of the maximum, or -1 before the first.
        column: column of the maximum, or -1.
        points: visited cells."""

    minimum: float
    maximum: float
    mean: float
    total: float
    row: int
    column: int
    points: int


class Maps:
    """The grids of one run.

    Args:
        raster: the cell of each point.
        channels: names, like ``("red", "green", "blue", "total")``.

    Attributes:
        grids: float64 (channels, rows, columns) in counts; NaN where no point has come. Changed in place.
        reference: float64 (channels,), the running maximum of each; NaN before the first point.
        visited: cells whose point has come.
        last_cell: the cell changed last, or -1.
        highest: the highest seq_num so far inside the raster; 0 before the first.
    """

    def __init__(self, raster: Raster, channels: Sequence[str]) -> None:
        self.raster = raster
        self.channels = tuple(channels)
        self.grids = np.full((len(self.channels), raster.rows, raster.columns), np.nan)
        self.reference = np.full(len(self.channels), np.nan)
        self.visited = 0
        self.last_cell = -1
        self.highest = 0
        self._flat = self._flattened()
        self._seen = np.zeros(raster.size, dtype=bool)
        self._out_of_range: set[int] = set()
        self._changes = ChangeLog()
        self._minimum = np.full(len(self.channels), np.nan)
        self._sum = np.zeros(len(self.channels))
        self._filled = np.zeros(len(self.channels), dtype=np.int64)
        self._peak = np.full(len(self.channels), -1, dtype=np.int64)
        self._least_positive = np.full(len(self.channels), np.nan)
        self._histograms: dict[int, tuple[int, tuple[float, float], npt.NDArray[np.int64]]] = {}
        self._rewritten = 0

    def _flattened(self) -> npt.NDArray[np.float64]:
        """Return the grids as a view (channels, rows * columns)."""
        return self.grids.reshape(len(self.channels), self.raster.size)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_flat"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._flat = self._flattened()  # a pickled view becomes a copy

    @property
    def version(self) -> int:
        """Number of cell changes so far; the argument of :meth:`changed`."""
        return self._changes.version

    @property
    def out_of_range(self) -> int:
        """Points whose seq_num lies outside the raster, each counted once, up to a limit; they are not drawn."""
        return len(self._out_of_range)

    def assign(self, seq_nums: npt.ArrayLike, values: Mapping[str, npt.ArrayLike]) -> int:
        """Assign values of points to their cells; a repeated point replaces its value.

        Args:
            seq_nums: scan positions (n,), from 1 on.
            values: counts (n,) by channel; missing channels stay unchanged. A value that is not finite leaves its cell
                blank but visited.

        Returns:
            The number of points inside the raster.
        """
        seq_nums = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64))
        cells, inside = self.raster.cells(seq_nums)
        if not inside.all() and len(self._out_of_range) < OUT_OF_RANGE_MAX:
            self._out_of_range.update(seq_nums[~inside][:OUT_OF_RANGE_MAX].tolist())
        if not len(cells):
            return 0
        self.highest = max(self.highest, int(seq_nums[inside].max()))
        kept = _last_of_each(cells)
        cells = cells[kept]
        fresh = ~self._seen[cells]
        changed = fresh.copy()
        replaced = False
        for number, channel in enumerate(self.channels):
            if channel in values:
                column = np.atleast_1d(np.asarray(values[channel], dtype=np.float64))[inside][kept]
                different, lost = self._put(number, cells, column)
                changed |= different
                replaced = replaced or lost
        self.visited += int(np.count_nonzero(fresh))
        self._seen[cells] = True
        if replaced:
            self._recount()
        if np.any(changed & ~fresh):
            self._rewritten = self.version + 1
        cells = cells[changed]
        if len(cells):
            self._changes.add(cells)
            self.last_cell = int(cells[-1])
        return int(np.count_nonzero(inside))

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Return the cells (``row * columns + column``) changed after a version, each once, in rising order."""
        return self._changes.since(since)

    def seen(self, seq_num: int) -> bool:
        """Return whether the cell of a point is visited."""
        cells, _ = self.raster.cells([seq_num])
        return bool(len(cells)) and bool(self._seen[cells[0]])

    def visited_cells(self) -> npt.NDArray[np.bool_]:
        """Return the mask (rows * columns,) of visited cells; read-only."""
        return self._seen

    def missing(self, seq_nums: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return those points whose cell is inside the raster and not visited."""
        seq_nums = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64))
        cells, inside = self.raster.cells(seq_nums)
        return seq_nums[inside][~self._seen[cells]]

    def span(self, channel: int) -> tuple[float, float]:
        """Return the range of one channel's histogram and brush, see :func:`span_of`; NaN before the first value."""
        return span_of(float(self._minimum[channel]), float(self.reference[channel]))

    def least_positive(self, channel: int) -> float:
        """Return the smallest positive value of one channel, the lower end of a log scale; NaN if there is none."""
        return float(self._least_positive[channel])

    def histogram(self, channel: int) -> npt.NDArray[np.int64]:
        """Return the histogram (BINS,) of one channel over its range, updated incrementally."""
        nothing = (0, (np.nan, np.nan), np.zeros(BINS, dtype=np.int64))
        version, span, counts = self._histograms.get(channel, nothing)
        current = self.span(channel)
        if version == self.version:
            return counts
        flat = self._flat[channel]
        if span == current and version >= self._rewritten:
            new = self.changed(version)
            counts = counts + histogram(flat[new], *current)
        else:
            counts = histogram(flat, *current)
        self._histograms[channel] = (self.version, current, counts)
        return counts

    def summary(self, channel: int) -> ChannelSummary:
        """Return the statistics of one channel over all visited cells."""
        peak = int(self._peak[channel])
        return ChannelSummary(
            minimum=float(self._minimum[channel]),
            maximum=float(self.reference[channel]),
            mean=float(self._sum[channel] / self._filled[channel]) if self._filled[channel] else float("nan"),
            total=float(self._sum[channel]),
            row=peak // self.raster.columns if peak >= 0 else -1,
            column=peak % self.raster.columns if peak >= 0 else -1,
            points=int(self._filled[channel]),
        )

    def values(self, channel: int, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return counts (n,) of one channel in given cells; NaN where not visited."""
        return self._flat[channel][cells]

    def _put(
        self, channel: int, cells: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], bool]:
        """Write one channel's new values; return which cells changed, and whether one replaced a value."""
        values = np.where(np.isfinite(values), values, np.nan)
        before = self._flat[channel, cells]
        blank = np.isnan(before)
        different = (before != values) & ~(blank & np.isnan(values))
        self._flat[channel, cells] = values
        added = blank & different
        if added.any():
            self._add(channel, cells[added], values[added])
        return different, bool(np.any(different & ~blank))

    def _add(self, channel: int, cells: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Add values (n,), none of them NaN, of formerly blank cells to the statistics."""
        self._sum[channel] += np.sum(values)
        self._filled[channel] += len(values)
        self._minimum[channel] = np.fmin(self._minimum[channel], values.min())
        self._least_positive[channel] = np.fmin(self._least_positive[channel], _least_above_zero(values))
        top = values.max()
        if top < self.reference[channel]:
            return
        # of several cells at the maximum the first in the grid is the peak, whichever came first
        first = int(cells[values == top].min())
        tie = top == self.reference[channel]
        self._peak[channel] = min(first, int(self._peak[channel])) if tie else first
        self.reference[channel] = top

    def _recount(self) -> None:
        """Compute all statistics from the grids, after a value was replaced; this is rare."""
        for channel, flat in enumerate(self._flat):
            summary = summarize(flat, self.raster.columns)
            self.reference[channel] = summary.maximum
            self._minimum[channel] = summary.minimum
            self._least_positive[channel] = _least_above_zero(flat)
            self._sum[channel] = summary.total
            self._filled[channel] = summary.points
            self._peak[channel] = summary.row * self.raster.columns + summary.column if summary.row >= 0 else -1


def _last_of_each(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | slice:
    """Return the positions of the last occurrence of each cell, in order; a full slice if all are different."""
    _, backwards = np.unique(cells[::-1], return_index=True)
    return slice(None) if len(backwards) == len(cells) else np.sort(len(cells) - 1 - backwards)


def summarize(values: npt.NDArray[np.float64], columns: int) -> ChannelSummary:
    """Return the statistics of a selection of cells.

    Args:
        values: counts (rows * columns,), NaN where not visited or not selected.
        columns: width of the grid.
    """
    points = int(np.count_nonzero(~np.isnan(values)))
    if not points:
        nan = float("nan")
        return ChannelSummary(nan, nan, nan, 0.0, -1, -1, 0)
    peak, total = int(np.nanargmax(values)), float(np.nansum(values))
    return ChannelSummary(
        minimum=float(np.nanmin(values)),
        maximum=float(values[peak]),
        mean=total / points,
        total=total,
        row=peak // columns,
        column=peak % columns,
        points=points,
    )


def span_of(minimum: float, maximum: float) -> tuple[float, float]:
    """Return the range of a histogram and of a brush.

    It begins at zero, or at a negative minimum, and ends at the maximum. If all values are one negative number it ends
    at zero; if all are zero it ends at one: the range always has a width.

    Args:
        minimum: of the values; NaN without any.
        maximum: of the values; NaN without any.

    >>> span_of(2.0, 5.0), span_of(-3.0, 5.0), span_of(-3.0, -1.0), span_of(-3.0, -3.0), span_of(0.0, 0.0)
    ((0.0, 5.0), (-3.0, 5.0), (-3.0, -1.0), (-3.0, 0.0), (0.0, 1.0))
    """
    if not minimum <= maximum:
        return float("nan"), float("nan")
    if minimum >= 0:
        return 0.0, maximum or 1.0
    return minimum, maximum if maximum > minimum else 0.0


def value_at(share: float, low: float, high: float) -> float:
    """Return the value at a share of a range, exact at both ends; the page computes the same.

    >>> value_at(0.25, 0.0, 8.0), value_at(0.5, -3.0, -1.0), value_at(1.0, -0.1, 0.3)
    (2.0, -2.0, 0.3)
    """
    return low * (1 - share) + high * share


def histogram(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.int64]:
    """Return the histogram of values over a range.

    Args:
        values: counts (n,); NaN and what lies outside the range are left out.
        low: lower end of the range.
        high: upper end; nothing is counted while the range is not finite or has no width.

    Returns:
        int64 (BINS,): bar ``i`` holds shares from ``i / BINS`` up to ``(i + 1) / BINS``, the last one including 1.

    >>> histogram(np.array([0.0, 1.0, 50.0, 100.0, np.nan]), 0.0, 100.0)[[0, 32, 63]]
    array([2, 1, 1])
    >>> histogram(np.array([-3.0, -2.0, 1.0]), -3.0, 1.0)[[0, 16, 63]]
    array([1, 1, 1])
    """
    counts = np.zeros(BINS, dtype=np.int64)
    if -np.inf < low < high < np.inf:
        _count(np.ascontiguousarray(values), low, high, counts)
    return counts


def _least_above_zero(values: npt.NDArray[np.float64]) -> float:
    """Return the smallest positive value; NaN if there is none."""
    positive = values[values > 0]
    return float(positive.min()) if len(positive) else float("nan")


@numba.njit(cache=True, nogil=True)
def _count(
    values: npt.NDArray[np.float64], low: float, high: float, counts: npt.NDArray[np.int64]
) -> None:  # pragma: no cover - compiled
    bins = len(counts)
    # a width beyond the largest float is halved, and the values with it
    part = 1.0 if high - low < np.inf else 0.5
    width = high * part - low * part
    for value in values:
        if low <= value <= high:
            counts[min(int((value * part - low * part) / width * bins), bins - 1)] += 1
