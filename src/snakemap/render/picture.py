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
from typing import Protocol

import numpy as np
import numpy.typing as npt

from snakemap.core.change_log import ChangeLog
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import ScanPath
from snakemap.render.map_view import MapView, laid_out
from snakemap.render.scattered import Scattered, box_slices, distinct_owners, is_changed

__all__ = ["Direct", "Picture", "Rearranged", "picture_of"]

FINE_MAX = 1_000_000


SIDE_MAX = 2_000


FINE_STEPS = 4
"""Cells for the smallest step of an axis that is not evenly spaced."""


UNEVEN = 0.02
"""Share of a step by which coordinates may miss even spacing."""


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


def picture_of(maps: Maps, view: MapView = MapView()) -> Picture:  # noqa: B008 - frozen
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
        self._changes = ChangeLog(raster.size)
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
        differ = is_changed(self._flat[:, places], values)
        self._flat[:, places] = values
        self._changes.add(places[differ])

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Cells of the picture changed after a version of it."""
        return self._changes.since(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Cells of the maps shown in a box."""
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[box_slices(row0, row1, column0, column1)]
        return distinct_owners(box, self.maps.raster.size)

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


def _path_over(raster: Raster) -> ScanPath:
    """The points of a grid as a path."""
    rows, columns, _ = raster.pixel(np.arange(1, raster.size + 1))
    return ScanPath(
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
