"""The lattice of an image whose points are on no grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.core.scan_path import Lattice, ScanPath

__all__ = ["NOWHERE", "layout_of"]

CELLS_MAX = 1_200_000
"""Maximum cells of a fine lattice over the points of a path."""


LATTICE_MAX = 4_000_000


REACH = 0.95
"""Maximum distance, in pitches, between a point and its cells."""


OVERSAMPLED = 8


SLIVER = 20.0


HEADROOM = 0.25


Sides = tuple[bool, ...]


Edges = tuple[float, float, float, float]


NOWHERE: Sides = (False, False, False, False)


@dataclass(frozen=True, slots=True)
class CellLayout:
    """The cells of an image over the points of a path.

    Attributes:
        lattice: centers of its cells.
        pitch: unit of distance along x and along y: about the distance of neighbors.
        reach: maximum distance between a point and its cells, in pitches; 0 if every point has exactly one.
    """

    lattice: Lattice
    pitch: tuple[float, float]
    reach: float

    @property
    def edges(self) -> Edges:
        """Left, right, lower and upper edge of the image."""
        at = self.lattice
        left, bottom = at.x0 - at.dx / 2, at.y0 - at.dy / 2
        return left, left + at.columns * at.dx, bottom, bottom + at.rows * at.dy

    def exceeded(self, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> Sides:
        """Return whether any position lies beyond the left, right, lower and upper edge."""
        if not len(xs):
            return NOWHERE
        left, right, bottom, top = self.edges
        return bool(xs.min() < left), bool(xs.max() > right), bool(ys.min() < bottom), bool(ys.max() > top)


def layout_of(
    xs: npt.NDArray[np.float64],
    ys: npt.NDArray[np.float64],
    path: ScanPath,
    *,
    exchanged: bool,
    margins: Sides,
    kept: Edges | None,
) -> CellLayout:
    """Return the cells over known positions (n,): nodes of the path's lattice, or a lattice finer than the pitch."""
    nodes = path.lattice
    if nodes is not None and nodes.rows * nodes.columns <= min(LATTICE_MAX, max(CELLS_MAX, 8 * len(xs))):
        if exchanged:
            nodes = Lattice(x0=nodes.y0, dx=nodes.dy, columns=nodes.rows, y0=nodes.x0, dy=nodes.dx, rows=nodes.columns)
        return CellLayout(nodes, (nodes.dx, nodes.dy), 0.0)
    if not len(xs):
        return CellLayout(Lattice(x0=-0.25, dx=0.5, columns=2, y0=-0.25, dy=0.5, rows=2), (1.0, 1.0), REACH)
    across, upwards = _pitches(xs, ys, alike=path.x_unit == path.y_unit)
    left, right = _with_margins(xs, across, margins[:2], None if kept is None else kept[:2])
    bottom, top = _with_margins(ys, upwards, margins[2:], None if kept is None else kept[2:])
    wide, high = (right - left) / across, (top - bottom) / upwards
    # a line has two rows, whatever the step
    fineness = min(math.sqrt(CELLS_MAX / (wide * high)), CELLS_MAX / 2 / max(wide, high), OVERSAMPLED)
    if fineness >= 1:
        fineness = math.floor(fineness)
    (x0, dx, columns), (y0, dy, rows) = (
        _cells_over(left, right, across / fineness),
        _cells_over(bottom, top, upwards / fineness),
    )
    lattice = Lattice(x0=x0, dx=dx, columns=columns, y0=y0, dy=dy, rows=rows)
    return CellLayout(lattice, (across, upwards), max(REACH, 0.75 / fineness))


def _with_margins(
    at: npt.NDArray[np.float64], pitch: float, margins: Sides, kept: tuple[float, float] | None
) -> tuple[float, float]:
    """Return edges half a pitch beyond all positions, and a quarter of the whole farther on sides with a margin.

    Edges to keep are kept, within the edges computed now.
    """
    low, high = float(at.min()) - pitch / 2, float(at.max()) + pitch / 2
    more = max(HEADROOM * (high - low), pitch)
    left = low - more if margins[0] else low
    right = high + more if margins[1] else high
    if kept is None:
        return left, right
    return min(left, max(kept[0], low - more)), max(right, min(kept[1], high + more))


def _cells_over(low: float, high: float, step: float) -> tuple[float, float, int]:
    """Return first center, step and number of cells between two edges; at least two, as one has no width."""
    number = math.ceil((high - low) / step - 1e-6)
    if number < 2:
        number, step = 2, max(high - low, step) / 2
    return (low + high) / 2 - (number - 1) / 2 * step, step, number


def _pitches(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], *, alike: bool) -> tuple[float, float]:
    """Return about the distance of neighbors along x and along y, for one point or more.

    Points that fill a rectangle of w by h, each in a square of p by p: ``(w + p) * (h + p) = n * p**2``.


    Args:
        xs: positions (n,).
        ys: positions (n,).
        alike: whether distances along both axes are comparable.
    """
    least = [64 * np.finfo(float).eps * float(np.abs(at).max()) + 1e-99 for at in (xs, ys)]
    ranges = [float(np.ptp(at)) for at in (xs, ys)]
    ranges = [width if width > least[n] else 0.0 for n, width in enumerate(ranges)]
    longest, shortest = max(ranges), min(ranges)
    if not shortest:
        distinct = _distinct([xs, ys][int(ranges[1] > 0)], longest)
        along = longest / max(distinct - 1, 1) or 1.0
        pitches = [along if width else max(along, longest / SLIVER) for width in ranges]
    else:
        scales = (1.0, 1.0) if alike and longest <= SLIVER * shortest else ranges
        one = _pitch(xs / scales[0], ys / scales[1], ranges[0] / scales[0], ranges[1] / scales[1])
        pitches = [one * scale for scale in scales]
    return max(pitches[0], least[0]), max(pitches[1], least[1])


def _pitch(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], width: float, height: float) -> float:
    """Return the pitch of positions in a rectangle; repeated ones count once."""
    n = len(xs)
    pitch = _square(n, width, height)
    # positions within a small part of the pitch are one
    columns = math.floor(8 * width / pitch) + 2
    bins = np.floor((xs - xs.min()) / pitch * 8 + 0.5).astype(np.int64)
    bins += columns * np.floor((ys - ys.min()) / pitch * 8 + 0.5).astype(np.int64)
    return _square(max(len(np.unique(bins)), 2), width, height)


def _square(n: int, width: float, height: float) -> float:
    around = width + height
    return (around + math.sqrt(around**2 + 4 * (n - 1) * width * height)) / (2 * max(n - 1, 1))


def _distinct(at: npt.NDArray[np.float64], width: float) -> int:
    """Return the number of different positions on a line."""
    if not width:
        return 1
    return len(np.unique(np.floor((at - at.min()) / width * 8 * len(at) + 0.5)))
