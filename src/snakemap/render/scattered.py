"""Images of points that are on no grid."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from snakemap.core.change_log import ChangeLog
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import Lattice, ScanPath
from snakemap.render.cell_layout import NOWHERE, layout_of

__all__ = ["ScatteredImage", "box_slices", "distinct_owners", "is_changed"]

FARTHEST = 1e100
"""Positions beyond are invalid: their squares would not be finite."""


CLAIMED_AT_ONCE = 1_000_000


class ScatteredImage:
    """An image of points at any positions: each cell shows the nearest point within about a pitch.

    Of points at the same distance, a cell shows the one of the higher seq_num. The image does not depend on the order
    in which values and positions arrive.

    Args:
        maps: the maps.
        path: positions of their points; it may grow, and points may move.
        exchanged: whether x and y are exchanged.

    Attributes:
        checked_cells: cells checked so far, a measure of the work.
    """

    def __init__(self, maps: Maps, path: ScanPath, *, exchanged: bool = False) -> None:
        self.maps, self.drawn_of = maps, maps.raster
        self.epoch = -1
        self.checked_cells = 0
        self._path, self._exchanged = path, exchanged
        self._values = maps.grids.reshape(len(maps.channels), -1)
        self._claimed = np.zeros(maps.raster.size, dtype=bool)
        self._changes = ChangeLog(1, version=-1)
        self._followed = (maps.version, path.version)
        # edges exceeded since the pitch was estimated, and the edges that the next layout keeps
        self._growing, self._kept, self._last = NOWHERE, None, False
        self._make_layout()

    @property
    def version(self) -> int:
        """Number of cell changes since creation."""
        return self._changes.version

    def update(self) -> None:
        """Update to the current maps and path."""
        versions = self.maps.version, self._path.version
        if versions == self._followed:
            return
        valued = self._indices(self.maps.changed(self._followed[0]))
        placed = self._path.changed(self._followed[1])
        placed = placed[placed < self.drawn_of.size]
        self._followed = versions
        if self._needs_layout(placed):
            self._make_layout()
        elif self._claimed[placed].any() or not self._has_value(valued[self._claimed[valued]]).all():
            self._reassign_owners()
        else:
            self._changes.add(self._claim(np.union1d(valued, placed)))

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Return the cells changed after a version; all of them after one of an earlier epoch."""
        return self._changes.since(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Return the cells of the maps shown in a box."""
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[box_slices(row0, row1, column0, column1)]
        cells, _ = self.drawn_of.cells(distinct_owners(box, self.drawn_of.size) + 1)
        return np.sort(cells)

    def position_of(self, cell: int) -> tuple[int, int] | None:
        """Return the nearest of the cells that show it."""
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
        """Return half-open rows and columns of the box around the cells within reach of a position."""
        at, (across, upwards) = self._layout.lattice, self._layout.pitch
        wide, high = (self._layout.reach * pitch + step for pitch, step in ((across, at.dx), (upwards, at.dy)))
        rows = np.clip([(y - high - at.y0) / at.dy, (y + high - at.y0) / at.dy + 1], 0, at.rows)
        columns = np.clip([(x - wide - at.x0) / at.dx, (x + wide - at.x0) / at.dx + 1], 0, at.columns)
        return (int(rows[0]), math.ceil(rows[1])), (int(columns[0]), math.ceil(columns[1]))

    def _positions(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the positions of the path (its size,), as drawn."""
        xs, ys = self._path.xs[: self._path.size], self._path.ys[: self._path.size]
        return (ys, xs) if self._exchanged else (xs, ys)

    def _indices(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the indices in the path of cells of the maps."""
        return cells if self.drawn_of.path is not None else self.drawn_of.seq_nums(cells) - 1

    def _has_value(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether there is a value in any channel."""
        return np.any(~np.isnan(self._values[:, self._cells(index)]), axis=0)

    def _cells(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return index if self.drawn_of.path is not None else self.drawn_of.cells(index + 1)[0]

    def _needs_layout(self, placed: npt.NDArray[np.int64]) -> bool:
        """Return whether another layout is needed; record its margins and the edges that it keeps."""
        if self._path.lattice is not self._laid_over:
            return True
        if self._path.planned or self._layout.reach == 0:
            return False
        if not self._last and self.drawn_of.certain and self.maps.visited == self.drawn_of.size:
            # the final layout depends on the positions only
            self._growing, self._kept, self._last = NOWHERE, None, True
            return True
        xs, ys = (values[placed] for values in self._positions())
        usable = _usable(xs, ys)
        exceeded = self._layout.exceeded(xs[usable], ys[usable])
        if any(exceeded):
            self._growing = tuple(one or other for one, other in zip(self._growing, exceeded, strict=True))
            self._kept, self._last = self._layout.edges, False
            return True
        if self._path.version - self._version_then < self._known_then:
            return False
        self._kept = None
        return True

    def _make_layout(self) -> None:
        """Make a new image over all known positions."""
        xs, ys = self._positions()
        usable = _usable(xs, ys)
        path = self._path
        self._layout = layout_of(
            xs[usable], ys[usable], path, exchanged=self._exchanged, margins=self._growing, kept=self._kept
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
        self._changes = ChangeLog(self.raster.size, version=self.version + 1)
        self._claim_all()
        self.epoch += 1

    def _reassign_owners(self) -> None:
        """Assign all owners again, on the same lattice: a point moved, or lost its value."""
        before = self._flat.copy()
        self._claim_all()
        self._changes.add(np.flatnonzero(is_changed(before, self._flat)))

    def _claim_all(self) -> None:
        self._owners.fill(-1)
        self._flat.fill(np.nan)
        self._claimed.fill(False)
        self._claim(np.arange(min(self._path.size, self.drawn_of.size)))

    def _claim(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Assign cells to points (n,); return the changed cells, some more than once."""
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
            number, checked_cells = _take(
                *(part, self._cells(part), xs, ys, self._values),
                *(at.x0, at.dx, at.columns, at.y0, at.dy, at.rows, across, upwards, reach),
                *(self._owners, self._nearest, self._flat, touched),
            )
            self.checked_cells += checked_cells
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
    number = checked_cells = 0
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
                checked_cells += 1
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
    return number, checked_cells


def _usable(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which positions are known and valid."""
    return np.asarray((np.abs(xs) <= FARTHEST) & (np.abs(ys) <= FARTHEST))


def box_slices(row0: int, row1: int, column0: int, column1: int) -> tuple[slice, slice]:
    """Return the slices of a box; negative ends count as 0."""
    return slice(max(row0, 0), max(row1, 0)), slice(max(column0, 0), max(column1, 0))


def distinct_owners(owners: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int64]:
    """Return the owners that occur, in rising order, without -1; much faster than sorting them."""
    occurs = np.zeros(size + 1, dtype=bool)
    occurs[owners] = True  # -1 is the last
    return np.flatnonzero(occurs[:-1])


def is_changed(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether any channel of (channels, n) values differs; NaN equals NaN."""
    return np.any((before != after) & ~(np.isnan(before) & np.isnan(after)), axis=0)


# ---- paths ----


def _raster_over(lattice: Lattice, path: ScanPath, drawn_of: Raster, *, exchanged: bool) -> Raster:
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
