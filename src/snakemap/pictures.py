"""What is drawn of a run: every cell of a picture shows one cell of the maps, whatever way its points were visited.

Maps hold one value a point. A grid that is visited row by row is drawn as the maps themselves; anything else is a
picture of its own, each of whose cells has an owner among the points:

    points of a path          owners of the picture's cells
        3                     .  3  3  .
      1     2                 1  1  2  2
                              1  1  2  2

Like maps, a picture is changed in place by one writer; whoever follows it keeps a version, asks which cells changed
since, and reads those. When the picture itself becomes another one (positions outgrew it), its epoch rises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from snakemap.maps import Maps
from snakemap.path import Lattice, Path
from snakemap.raster import Axis, Raster
from snakemap.view import View, laid_out

__all__ = ["Direct", "Picture", "Rearranged", "Scattered", "View", "picture_of"]

CELLS_MAX = 1_200_000
"""Cells of a fine lattice over the points of a path."""

FINE_MAX = 1_000_000
SIDE_MAX = 2_000
FINE_STEPS = 4
"""Cells for the smallest step of an axis that is not evenly spaced."""

LATTICE_MAX = 4_000_000
UNEVEN = 0.02
"""Share of a step by which coordinates may miss even spacing."""

REACH = 0.95
"""How far from a point, in pitches, cells may be its own."""

OVERSAMPLED = 8
SLIVER = 20.0
HEADROOM = 0.25
FARTHEST = 1e100
"""Positions beyond are no positions of a stage: their squares would not be finite."""

CLAIMED_AT_ONCE = 1_000_000

Sides = tuple[bool, ...]
Edges = tuple[float, float, float, float]
NOWHERE: Sides = (False, False, False, False)


class Picture(Protocol):
    """What is drawn of a run's maps.

    Attributes:
        maps: the truth it is drawn from.
        drawn_of: the raster of the maps when it was made; for another one another picture must be made.
        raster: rows, columns, axes and extents of the picture itself; without a path.
        grids: float64 (channels, rows, columns) in counts; NaN where nothing is. Changed in place.
        version: rises with every change; the handle for :meth:`changed`.
        epoch: rises when raster and grids were replaced.
    """

    @property
    def maps(self) -> Maps: ...  # noqa: D102
    @property
    def drawn_of(self) -> Raster: ...  # noqa: D102
    @property
    def raster(self) -> Raster: ...  # noqa: D102
    @property
    def grids(self) -> npt.NDArray[np.float64]: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def epoch(self) -> int: ...  # noqa: D102

    def update(self) -> None:
        """Brings it to what the maps, and the path, are now; costs what is new."""
        ...

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Cells (``row * columns + column``) changed after a version, each once, in rising order."""
        ...

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Cells of the maps shown in a box of the picture, each once, in rising order; the box is half open."""
        ...

    def place_of(self, cell: int) -> tuple[int, int] | None:
        """Row and column in the picture of a cell of the maps; None when it is not shown."""
        ...


def picture_of(maps: Maps, view: View = View()) -> Picture:  # noqa: B008 - frozen
    """The picture of some maps as a view wants it, up to date.

    Raises:
        GeometryError: when the shape that was typed cannot be drawn.
    """
    raster = laid_out(maps.raster, view)
    if raster.path is not None:
        return Scattered(maps, raster.path, exchanged=view.exchanged)
    if _repeats(raster.slow) or _repeats(raster.fast):
        return Scattered(maps, _path_over(raster), exchanged=view.exchanged)
    even = _even(raster.slow) and _even(raster.fast)
    if view.shape is None and not view.exchanged and even:
        return Direct(maps)
    return _rearranged(maps, raster, exchanged=view.exchanged)


class Direct:
    """A grid that is visited row by row: the maps themselves, nothing copied and nothing computed."""

    epoch = 0

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.drawn_of = self.raster = maps.raster

    @property
    def grids(self) -> npt.NDArray[np.float64]:
        """Those of the maps."""
        return self.maps.grids

    @property
    def version(self) -> int:
        """That of the maps."""
        return self.maps.version

    def update(self) -> None:
        """Nothing is ever to be done."""

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Cells changed after a version of the maps."""
        return self.maps.changed(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """The cells of a box."""
        rows = np.arange(max(row0, 0), min(row1, self.raster.rows), dtype=np.int64)
        columns = np.arange(max(column0, 0), min(column1, self.raster.columns), dtype=np.int64)
        return (rows[:, None] * self.raster.columns + columns).ravel()

    def place_of(self, cell: int) -> tuple[int, int] | None:
        """Its own row and column."""
        return divmod(cell, self.raster.columns) if 0 <= cell < self.raster.size else None


class Changes:
    """Which cells changed, in order: a log that never grows longer than a few times the cells there are.

    Attributes:
        version: how many changes there have been.
    """

    def __init__(self, size: int, version: int = 0) -> None:
        self.version = self._begin = version
        self._size = size
        self._log = np.empty(1024, dtype=np.int32)

    def add(self, cells: npt.NDArray[np.integer]) -> None:
        """Remembers cells that have just changed."""
        kept = self.version - self._begin
        if kept > 4096 and kept + len(cells) > 2 * self._size:
            # who asks for what is older than half of this is told that every cell has changed
            cut = kept - min(kept, self._size)
            self._log[: kept - cut] = self._log[cut:kept].copy()
            self._begin, kept = self._begin + cut, kept - cut
        if kept + len(cells) > len(self._log):
            grown = np.empty(max(kept + len(cells), 2 * len(self._log)), dtype=np.int32)
            grown[:kept] = self._log[:kept]
            self._log = grown
        self._log[kept : kept + len(cells)] = cells
        self.version += len(cells)

    def since(self, version: int) -> npt.NDArray[np.int64]:
        """Cells changed after a version, each once, in rising order; all of them when that is too long ago."""
        if version < self._begin:
            return np.arange(self._size, dtype=np.int64)
        return np.unique(self._log[version - self._begin : self.version - self._begin]).astype(np.int64)


class Rearranged:
    """A picture whose cells have owners that never change.

    Args:
        maps: the maps.
        raster: of the picture.
        owners: (rows, columns) cell of the maps that each cell of the picture shows; -1 for none.
    """

    epoch = 0

    def __init__(self, maps: Maps, raster: Raster, owners: npt.NDArray[np.int32]) -> None:
        self.maps, self.drawn_of, self.raster = maps, maps.raster, raster
        self._owners = np.ascontiguousarray(owners).ravel()
        self._values = maps.grids.reshape(len(maps.channels), -1)
        self._flat = np.where(self._owners >= 0, self._values[:, self._owners], np.nan)
        self.grids = self._flat.reshape(len(maps.channels), raster.rows, raster.columns)
        self._shown_version = maps.version
        self._changes = Changes(raster.size)
        # places of each cell of the maps, one after the other, and where those of each begin
        order = np.argsort(self._owners, kind="stable").astype(np.int32)
        self._places = order[np.count_nonzero(self._owners < 0) :]
        self._begins = np.searchsorted(self._owners[self._places], np.arange(maps.raster.size + 1)).astype(np.int32)

    @property
    def version(self) -> int:
        """How many cells have changed since it was made."""
        return self._changes.version

    def update(self) -> None:
        """Brings it to the maps' version."""
        if self._shown_version == self.maps.version:
            return
        cells = self.maps.changed(self._shown_version)
        self._shown_version = self.maps.version
        places = _ragged(self._places, self._begins[cells], self._begins[cells + 1])
        values = self._values[:, self._owners[places]]
        differ = _differ(self._flat[:, places], values)
        self._flat[:, places] = values
        self._changes.add(places[differ])

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Cells of the picture changed after a version of it."""
        return self._changes.since(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Cells of the maps shown in a box."""
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[_box(row0, row1, column0, column1)]
        return _each_once(box, self.maps.raster.size)

    def place_of(self, cell: int) -> tuple[int, int] | None:
        """The middle of its places."""
        if not 0 <= cell < len(self._begins) - 1:
            return None
        places = self._places[self._begins[cell] : self._begins[cell + 1]]
        if not len(places):
            return None
        rows, columns = np.divmod(places, self.raster.columns)
        middle = int(rows[len(rows) // 2])
        within = columns[rows == middle]
        return middle, int(within[len(within) // 2])


@dataclass(frozen=True, slots=True)
class Layout:
    """The cells of a picture over the points of a path.

    Attributes:
        lattice: centers of its cells.
        pitch: what counts as one, along x and along y: about the distance of neighbors.
        reach: how far from a point cells may be its own, in pitches; 0 when every point owns exactly one.
    """

    lattice: Lattice
    pitch: tuple[float, float]
    reach: float

    @property
    def edges(self) -> Edges:
        """Left, right, lower and upper edge."""
        at = self.lattice
        left, bottom = at.x0 - at.dx / 2, at.y0 - at.dy / 2
        return left, left + at.columns * at.dx, bottom, bottom + at.rows * at.dy

    def beyond(self, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> Sides:
        """Whether any place lies beyond its left, right, lower and upper edge."""
        if not len(xs):
            return NOWHERE
        left, right, bottom, top = self.edges
        return bool(xs.min() < left), bool(xs.max() > right), bool(ys.min() < bottom), bool(ys.max() > top)


class Scattered:
    """A picture of points that lie anywhere: each cell shows the nearest point, if one is within about a pitch.

    A cell that is as near to one point as to another shows the one of the higher seq_num. The picture does not depend
    on the order in which values and positions came.

    Args:
        maps: the maps.
        path: where their points lie; it may still grow, and its points may move.
        exchanged: whether x and y are exchanged.

    Attributes:
        looked_at: cells looked at so far, a measure of the work.
    """

    def __init__(self, maps: Maps, path: Path, *, exchanged: bool = False) -> None:
        self.maps, self.drawn_of = maps, maps.raster
        self.epoch = -1
        self.looked_at = 0
        self._path, self._exchanged = path, exchanged
        self._values = maps.grids.reshape(len(maps.channels), -1)
        self._claimed = np.zeros(maps.raster.size, dtype=bool)
        self._changes = Changes(1, version=-1)
        self._followed = (maps.version, path.version)
        # edges that were outgrown since the pitch was estimated, and the edges that the next layout shall keep
        self._growing, self._kept, self._last = NOWHERE, None, False
        self._lay_out()

    @property
    def version(self) -> int:
        """How many cells have changed since it was made."""
        return self._changes.version

    def update(self) -> None:
        """Brings it to what the maps and the path are now."""
        told = self.maps.version, self._path.version
        if told == self._followed:
            return
        valued = self._indices(self.maps.changed(self._followed[0]))
        placed = self._path.changed(self._followed[1])
        placed = placed[placed < self.drawn_of.size]
        self._followed = told
        if self._outgrown(placed):
            self._lay_out()
        elif self._claimed[placed].any() or not self._has_value(valued[self._claimed[valued]]).all():
            self._begin_anew()
        else:
            self._changes.add(self._claim(np.union1d(valued, placed)))

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Cells of the picture changed after a version of it; all of them after one of an earlier epoch."""
        return self._changes.since(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Cells of the maps shown in a box."""
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[_box(row0, row1, column0, column1)]
        cells, _ = self.drawn_of.cells(_each_once(box, self.drawn_of.size) + 1)
        return np.sort(cells)

    def place_of(self, cell: int) -> tuple[int, int] | None:
        """The nearest of the cells that show it."""
        if not 0 <= cell < self.drawn_of.size:
            return None
        index = int(self._indices(np.array([cell]))[0])
        if not self._claimed[index]:
            return None
        xs, ys = self._positions()
        (row0, row1), (column0, column1) = self._disc(float(xs[index]), float(ys[index]))
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[row0:row1, column0:column1]
        rows, columns = np.nonzero(box == index)
        if not len(rows):
            return None
        at = self._layout.lattice
        off_x = (at.x0 + (columns + column0) * at.dx - xs[index]) / self._layout.pitch[0]
        off_y = (at.y0 + (rows + row0) * at.dy - ys[index]) / self._layout.pitch[1]
        nearest = int(np.argmin(off_x**2 + off_y**2))
        return int(rows[nearest]) + row0, int(columns[nearest]) + column0

    def _disc(self, x: float, y: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns, half open, of the box around the cells that a place may own."""
        at, (across, upwards) = self._layout.lattice, self._layout.pitch
        wide, high = (self._layout.reach * pitch + step for pitch, step in ((across, at.dx), (upwards, at.dy)))
        rows = np.clip([(y - high - at.y0) / at.dy, (y + high - at.y0) / at.dy + 1], 0, at.rows)
        columns = np.clip([(x - wide - at.x0) / at.dx, (x + wide - at.x0) / at.dx + 1], 0, at.columns)
        return (int(rows[0]), math.ceil(rows[1])), (int(columns[0]), math.ceil(columns[1]))

    def _positions(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Those of the path (its size,), as drawn."""
        xs, ys = self._path.xs[: self._path.size], self._path.ys[: self._path.size]
        return (ys, xs) if self._exchanged else (xs, ys)

    def _indices(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Number in the path of some cells of the maps."""
        return cells if self.drawn_of.path is not None else self.drawn_of.seq_nums(cells) - 1

    def _has_value(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether there is a count in any channel."""
        return np.any(~np.isnan(self._values[:, self._cells(index)]), axis=0)

    def _cells(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return index if self.drawn_of.path is not None else self.drawn_of.cells(index + 1)[0]

    def _outgrown(self, placed: npt.NDArray[np.int64]) -> bool:
        """Whether another layout is called for; notes which edges need room in it, and which it shall keep."""
        if self._path.lattice is not self._laid_over:
            return True
        if self._path.planned or self._layout.reach == 0:
            return False
        if not self._last and self.drawn_of.certain and self.maps.visited == self.drawn_of.size:
            # the last word: it depends on nothing but the positions
            self._growing, self._kept, self._last = NOWHERE, None, True
            return True
        xs, ys = (values[placed] for values in self._positions())
        usable = _usable(xs, ys)
        beyond = self._layout.beyond(xs[usable], ys[usable])
        if any(beyond):
            self._growing = tuple(one or other for one, other in zip(self._growing, beyond, strict=True))
            self._kept, self._last = self._layout.edges, False
            return True
        if self._path.version - self._version_then < self._known_then:
            return False
        self._kept = None
        return True

    def _lay_out(self) -> None:
        """Makes the picture anew, over all positions that are known."""
        xs, ys = self._positions()
        usable = _usable(xs, ys)
        path = self._path
        self._layout = _layout_of(
            xs[usable], ys[usable], path, exchanged=self._exchanged, room=self._growing, kept=self._kept
        )
        if self._kept is None:
            self._growing = NOWHERE
            self._known_then, self._version_then = max(int(np.count_nonzero(usable)), 1), path.version
        self._laid_over = path.lattice
        self.raster = _raster_over(self._layout.lattice, path, self.drawn_of, exchanged=self._exchanged)
        self._owners = np.empty(self.raster.size, dtype=np.int32)
        self._nearest = np.empty(self.raster.size)
        self._flat = np.empty((len(self.maps.channels), self.raster.size))
        self.grids = self._flat.reshape(-1, self.raster.rows, self.raster.columns)
        self._changes = Changes(self.raster.size, version=self.version + 1)
        self._claim_all()
        self.epoch += 1

    def _begin_anew(self) -> None:
        """Finds every owner again, on the same lattice: a point moved, or lost its value."""
        before = self._flat.copy()
        self._claim_all()
        self._changes.add(np.flatnonzero(_differ(before, self._flat)))

    def _claim_all(self) -> None:
        self._owners.fill(-1)
        self._flat.fill(np.nan)
        self._claimed.fill(False)
        self._claim(np.arange(min(self._path.size, self.drawn_of.size)))

    def _claim(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Has points (n,) take the cells that are theirs; returns which cells changed, some more than once."""
        xs, ys = self._positions()
        index = index[index < len(xs)]
        index = index[_usable(xs[index], ys[index])]
        index = index[self._has_value(index)]
        self._claimed[index] = True
        at, (across, upwards), reach = self._layout.lattice, self._layout.pitch, self._layout.reach
        each = math.ceil(2 * reach * across / at.dx + 2) * math.ceil(2 * reach * upwards / at.dy + 2)
        at_once = max(CLAIMED_AT_ONCE // each, 1)
        parts = []
        for begin in range(0, len(index), at_once):
            part = index[begin : begin + at_once]
            touched = np.empty(len(part) * each, dtype=np.int32)
            number, looked_at = _take(
                *(part, self._cells(part), xs, ys, self._values),
                *(at.x0, at.dx, at.columns, at.y0, at.dy, at.rows, across, upwards, reach),
                *(self._owners, self._nearest, self._flat, touched),
            )
            self.looked_at += looked_at
            parts.append(touched[:number])
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


@numba.njit(cache=True, nogil=True)
def _take(  # pragma: no cover - compiled
    index,
    sources,
    xs,
    ys,
    values,
    x0,
    dx,
    columns,
    y0,
    dy,
    rows,
    across,
    upwards,
    reach,
    owners,
    nearest,
    grids,
    touched,
):
    number = looked_at = 0
    for n in range(len(index)):
        point, source = index[n], sources[n]
        x, y = (xs[point] - x0) / dx, (ys[point] - y0) / dy
        if reach == 0:
            left, bottom = math.floor(x + 0.5), math.floor(y + 0.5)
            right, top = left, bottom
        else:
            wide, high = reach * across / dx * (1 + 1e-9), reach * upwards / dy * (1 + 1e-9)
            left, right = max(math.ceil(x - wide), 0), min(math.floor(x + wide), columns - 1)
            bottom, top = max(math.ceil(y - high), 0), min(math.floor(y + high), rows - 1)
        if left < 0 or bottom < 0 or right >= columns or top >= rows:
            continue
        for row in range(bottom, top + 1):
            off_y = (y0 + row * dy - ys[point]) / upwards
            for column in range(left, right + 1):
                looked_at += 1
                off_x = (x0 + column * dx - xs[point]) / across
                distance = off_x * off_x + off_y * off_y if reach > 0 else 0.0
                if distance > reach * reach:
                    continue
                cell = row * columns + column
                owner = owners[cell]
                if owner != point:
                    if owner >= 0 and (distance > nearest[cell] or (distance == nearest[cell] and point < owner)):
                        continue
                    owners[cell] = point
                    nearest[cell] = distance
                differs = False
                for channel in range(len(values)):
                    value, before = values[channel, source], grids[channel, cell]
                    if value != before and not (math.isnan(value) and math.isnan(before)):
                        grids[channel, cell] = value
                        differs = True
                if differs:
                    touched[number] = cell
                    number += 1
    return number, looked_at


def _usable(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Where a position is known, and is one that a stage can have."""
    return np.asarray((np.abs(xs) <= FARTHEST) & (np.abs(ys) <= FARTHEST))


def _box(row0: int, row1: int, column0: int, column1: int) -> tuple[slice, slice]:
    return slice(max(row0, 0), max(row1, 0)), slice(max(column0, 0), max(column1, 0))


def _each_once(owners: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int64]:
    """The owners that occur, in rising order, without -1; much faster than sorting them."""
    occurs = np.zeros(size + 1, dtype=bool)
    occurs[owners] = True  # -1 is the last
    return np.flatnonzero(occurs[:-1])


def _differ(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether any channel of (channels, n) values is another one; NaN is the same as NaN."""
    return np.any((before != after) & ~(np.isnan(before) & np.isnan(after)), axis=0)


def _ragged(
    values: npt.NDArray[np.int32], begins: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """The values from each begin to its end, one after the other."""
    lengths = ends - begins
    before = np.cumsum(lengths) - lengths
    return values[np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)]


# ---- grids ----


def _even(axis: Axis) -> bool:
    """Whether coordinates are evenly spaced, so that an image of equal cells shows each where it lies.

    >>> _even(Axis("x", "mm", np.array([1.0, 2.0, 3.001]))), _even(Axis("x", "mm", np.array([1.0, 2.0, 4.0])))
    (True, False)
    """
    at = axis.coordinates
    if len(at) < 3:
        return True
    step = abs(at[-1] - at[0]) / (len(at) - 1)
    return bool(np.abs(at - np.linspace(at[0], at[-1], len(at))).max() <= UNEVEN * step)


def _repeats(axis: Axis) -> bool:
    """Whether the stage comes to one coordinate twice along an axis that moves at all."""
    if not axis.known or _even(axis):
        return False
    steps = np.diff(np.sort(axis.coordinates))
    return bool(steps.min() <= 1e-9 * float(np.ptp(axis.coordinates)))


def _path_over(raster: Raster) -> Path:
    """The points of a grid as a path."""
    rows, columns, _ = raster.pixel(np.arange(1, raster.size + 1))
    return Path(
        (raster.fast.name, raster.fast.unit),
        (raster.slow.name, raster.slow.unit),
        positions=(raster.fast.coordinates[columns], raster.slow.coordinates[rows]),
    )


def _rearranged(maps: Maps, raster: Raster, *, exchanged: bool) -> Rearranged:
    """The picture of a grid that is laid over the points, drawn where they lie, with its axes exchanged or not."""
    seq_nums = np.arange(1, min(raster.size, maps.raster.size) + 1)
    owners = np.full(raster.size, -1, dtype=np.int32)
    owners[raster.cells(seq_nums)[0]] = maps.raster.cells(seq_nums)[0]
    owners = owners.reshape(raster.rows, raster.columns)
    slow, fast = raster.slow, raster.fast
    if not (_even(slow) and _even(fast)):
        (slow, rows), (fast, columns) = _fine(slow, fast)
        owners = owners[rows[:, None], columns]
    if exchanged:
        slow, fast, owners = fast, slow, owners.T
    drawn = Raster(
        shape=owners.shape,
        snaking=(False, any(raster.snaking)),
        slow=slow,
        fast=fast,
        source=raster.source,
        note=raster.note,
        certain=raster.certain,
    )
    return Rearranged(maps, drawn, owners)


def _fine(slow: Axis, fast: Axis) -> list[tuple[Axis, npt.NDArray[np.int64]]]:
    """Evenly spaced axes over two that are not both, each with the index (n,) of the nearest of the coordinates."""
    wanted = [_wanted(axis) for axis in (slow, fast)]
    least = [len(axis.coordinates) for axis in (slow, fast)]
    if wanted[0] * wanted[1] > FINE_MAX:
        other = [least[1 - n] if _even((fast, slow)[n]) else math.isqrt(FINE_MAX) for n in range(2)]
        wanted = [max(min(wanted[n], FINE_MAX // other[n]), 1) for n in range(2)]
    return [_spread(axis, cells) for axis, cells in zip((slow, fast), wanted, strict=True)]


def _wanted(axis: Axis) -> int:
    """Cells that would show every coordinate of an axis, within reason."""
    size = len(axis.coordinates)
    if _even(axis):
        return size
    at = np.sort(axis.coordinates)
    smallest = float(np.diff(at).min())
    low, high = _edges(at)
    return max(size, int(min(FINE_STEPS * (high - low) / smallest, SIDE_MAX)))


def _edges(at: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest edge of the cells of rising coordinates: half of the outermost steps beyond."""
    return float(at[0] - (at[1] - at[0]) / 2), float(at[-1] + (at[-1] - at[-2]) / 2)


def _spread(axis: Axis, cells: int) -> tuple[Axis, npt.NDArray[np.int64]]:
    if _even(axis):
        return axis, np.arange(len(axis.coordinates))
    order = np.argsort(axis.coordinates, kind="stable")
    at = axis.coordinates[order]
    low, high = _edges(at)
    step = (high - low) / cells
    centers = low + (np.arange(cells, dtype=np.float64) + 0.5) * step
    nearest = order[np.searchsorted((at[:-1] + at[1:]) / 2, centers)]
    return Axis(axis.name, axis.unit, centers, known=axis.known), nearest


# ---- paths ----


def _raster_over(lattice: Lattice, path: Path, drawn_of: Raster, *, exchanged: bool) -> Raster:
    x, y = (path.x_name, path.x_unit), (path.y_name, path.y_unit)
    if exchanged:
        x, y = y, x
    return Raster(
        shape=(lattice.rows, lattice.columns),
        snaking=(False, False),
        slow=Axis(*y, lattice.y0 + np.arange(lattice.rows, dtype=np.float64) * lattice.dy),
        fast=Axis(*x, lattice.x0 + np.arange(lattice.columns, dtype=np.float64) * lattice.dx),
        source=drawn_of.source,
        note=drawn_of.note,
        certain=drawn_of.certain,
    )


def _layout_of(
    xs: npt.NDArray[np.float64],
    ys: npt.NDArray[np.float64],
    path: Path,
    *,
    exchanged: bool,
    room: Sides,
    kept: Edges | None,
) -> Layout:
    """The cells over known positions (n,): the nodes of the path's lattice, or a lattice finer than their pitch."""
    nodes = path.lattice
    if nodes is not None and nodes.rows * nodes.columns <= min(LATTICE_MAX, max(CELLS_MAX, 8 * len(xs))):
        if exchanged:
            nodes = Lattice(x0=nodes.y0, dx=nodes.dy, columns=nodes.rows, y0=nodes.x0, dy=nodes.dx, rows=nodes.columns)
        return Layout(nodes, (nodes.dx, nodes.dy), 0.0)
    if not len(xs):
        return Layout(Lattice(x0=-0.25, dx=0.5, columns=2, y0=-0.25, dy=0.5, rows=2), (1.0, 1.0), REACH)
    across, upwards = _pitches(xs, ys, alike=path.x_unit == path.y_unit)
    left, right = _with_room(xs, across, room[:2], None if kept is None else kept[:2])
    bottom, top = _with_room(ys, upwards, room[2:], None if kept is None else kept[2:])
    wide, high = (right - left) / across, (top - bottom) / upwards
    # of a line there are two rows, however fine
    fineness = min(math.sqrt(CELLS_MAX / (wide * high)), CELLS_MAX / 2 / max(wide, high), OVERSAMPLED)
    if fineness >= 1:
        fineness = math.floor(fineness)
    (x0, dx, columns), (y0, dy, rows) = (
        _cells_over(left, right, across / fineness),
        _cells_over(bottom, top, upwards / fineness),
    )
    lattice = Lattice(x0=x0, dx=dx, columns=columns, y0=y0, dy=dy, rows=rows)
    return Layout(lattice, (across, upwards), max(REACH, 0.75 / fineness))


def _with_room(
    at: npt.NDArray[np.float64], pitch: float, room: Sides, kept: tuple[float, float] | None
) -> tuple[float, float]:
    """Edges half a pitch beyond all positions, and a quarter of the whole farther where there is to be room.

    Edges to be kept are kept, as far as they would be given now.
    """
    low, high = float(at.min()) - pitch / 2, float(at.max()) + pitch / 2
    more = max(HEADROOM * (high - low), pitch)
    left = low - more if room[0] else low
    right = high + more if room[1] else high
    if kept is None:
        return left, right
    return min(left, max(kept[0], low - more)), max(right, min(kept[1], high + more))


def _cells_over(low: float, high: float, step: float) -> tuple[float, float, int]:
    """First center, step and number of cells from one edge to another, two at least: of one its width is not told."""
    number = math.ceil((high - low) / step - 1e-6)
    if number < 2:
        number, step = 2, max(high - low, step) / 2
    return (low + high) / 2 - (number - 1) / 2 * step, step, number


def _pitches(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], *, alike: bool) -> tuple[float, float]:
    """About the distance of neighbors along x and along y, of one point and more.

    Of points that fill a rectangle of w by h, each in a square of p by p: ``(w + p) * (h + p) = n * p**2``.

    Args:
        xs: positions (n,).
        ys: positions (n,).
        alike: whether distances along both axes can be compared at all.
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
    """The pitch of places in a rectangle; those visited twice are counted once."""
    n = len(xs)
    pitch = _square(n, width, height)
    # places nearer to each other than a small part of the pitch are one
    columns = math.floor(8 * width / pitch) + 2
    bins = np.floor((xs - xs.min()) / pitch * 8 + 0.5).astype(np.int64)
    bins += columns * np.floor((ys - ys.min()) / pitch * 8 + 0.5).astype(np.int64)
    return _square(max(len(np.unique(bins)), 2), width, height)


def _square(n: int, width: float, height: float) -> float:
    around = width + height
    return (around + math.sqrt(around**2 + 4 * (n - 1) * width * height)) / (2 * max(n - 1, 1))


def _distinct(at: npt.NDArray[np.float64], width: float) -> int:
    """How many places there are on a line."""
    if not width:
        return 1
    return len(np.unique(np.floor((at - at.min()) / width * 8 * len(at) + 0.5)))
