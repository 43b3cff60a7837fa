"""The image of maps: every cell of the image shows one cell of the maps, for any order of points.

Maps hold one value for each point. The image of a grid visited row by row is the maps themselves; any other image has
an owner among the points for each cell:

    points of a path          owners of the image's cells
        3                     .  3  3  .
      1     2                 1  1  2  2
                              1  1  2  2

Like maps, an image is changed in place by one writer; readers keep a version, ask which cells changed since, and read
those. When its raster is replaced (positions outgrew it), its epoch rises.
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
from snakemap.render.map_view import MapView, raster_of_view
from snakemap.render.scattered import ScatteredImage, box_slices, distinct_owners, is_changed

__all__ = ["CellImage", "DirectImage", "RearrangedImage", "map_image"]

FINE_MAX = 1_000_000


SIDE_MAX = 2_000


FINE_STEPS = 4
"""Cells for the smallest step of an uneven axis."""


UNEVEN = 0.02
"""Maximum deviation of even coordinates, as a share of a step."""


class CellImage(Protocol):
    """The image of maps.

    Attributes:
        maps: the maps it shows.
        drawn_of: the raster of the maps at creation; another raster needs another image.
        raster: rows, columns, axes and extents of the image itself; without a path.
        grids: float64 (channels, rows, columns) in counts; NaN where blank. Changed in place.
        version: rises with every change; the argument of :meth:`changed`.
        epoch: rises when raster and grids are replaced.
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
        """Update to the current maps and path; costs O(changes)."""
        ...

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Return the cells (``row * columns + column``) changed after a version, each once, in rising order."""
        ...

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Return the cells of the maps shown in a half-open box of the image, each once, in rising order."""
        ...

    def position_of(self, cell: int) -> tuple[int, int] | None:
        """Return row and column in the image of a cell of the maps; None if it is not shown."""
        ...


def map_image(maps: Maps, view: MapView = MapView()) -> CellImage:  # noqa: B008 - frozen
    """Return the current image of maps in a view.

    Raises:
        GeometryError: the typed shape cannot be drawn.
    """
    raster = raster_of_view(maps.raster, view)
    if raster.path is not None:
        return ScatteredImage(maps, raster.path, exchanged=view.exchanged)
    if _repeats(raster.slow) or _repeats(raster.fast):
        return ScatteredImage(maps, _path_over(raster), exchanged=view.exchanged)
    even = _even(raster.slow) and _even(raster.fast)
    if view.shape is None and not view.exchanged and even:
        return DirectImage(maps)
    return _rearranged(maps, raster, exchanged=view.exchanged)


class DirectImage:
    """The image of a grid visited row by row: the maps themselves, without copies."""

    epoch = 0

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.drawn_of = self.raster = maps.raster

    @property
    def grids(self) -> npt.NDArray[np.float64]:
        """The grids of the maps."""
        return self.maps.grids

    @property
    def version(self) -> int:
        """The version of the maps."""
        return self.maps.version

    def update(self) -> None:
        """Do nothing: the maps are always current."""

    def changed(self, since: int) -> npt.NDArray[np.int64]:
        """Return the cells changed after a version of the maps."""
        return self.maps.changed(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Return the cells of a box."""
        rows = np.arange(max(row0, 0), min(row1, self.raster.rows), dtype=np.int64)
        columns = np.arange(max(column0, 0), min(column1, self.raster.columns), dtype=np.int64)
        return (rows[:, None] * self.raster.columns + columns).ravel()

    def position_of(self, cell: int) -> tuple[int, int] | None:
        """Return row and column of a cell."""
        return divmod(cell, self.raster.columns) if 0 <= cell < self.raster.size else None


class RearrangedImage:
    """An image with constant owners of its cells.

    Args:
        maps: the maps.
        raster: of the image.
        owners: (rows, columns) cell of the maps that each cell of the image shows; -1 for none.
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
        # image cells of each cell of the maps, in sequence, and the begin of each cell's part
        order = np.argsort(self._owners, kind="stable").astype(np.int32)
        self._places = order[np.count_nonzero(self._owners < 0) :]
        self._begins = np.searchsorted(self._owners[self._places], np.arange(maps.raster.size + 1)).astype(np.int32)

    @property
    def version(self) -> int:
        """Number of cell changes since creation."""
        return self._changes.version

    def update(self) -> None:
        """Update to the maps' version."""
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
        """Return the cells of the image changed after a version."""
        return self._changes.since(since)

    def points(self, row0: int, row1: int, column0: int, column1: int) -> npt.NDArray[np.int64]:
        """Return the cells of the maps shown in a box."""
        box = self._owners.reshape(self.raster.rows, self.raster.columns)[box_slices(row0, row1, column0, column1)]
        return distinct_owners(box, self.maps.raster.size)

    def position_of(self, cell: int) -> tuple[int, int] | None:
        """Return the middle of the cells that show it."""
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
    """Return the values from each begin to its end, concatenated."""
    lengths = ends - begins
    before = np.cumsum(lengths) - lengths
    return values[np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)]


# ---- grids ----


def _even(axis: Axis) -> bool:
    """Return whether coordinates are evenly spaced: equal cells then show each at its position.

    >>> _even(Axis("x", "mm", np.array([1.0, 2.0, 3.001]))), _even(Axis("x", "mm", np.array([1.0, 2.0, 4.0])))
    (True, False)
    """
    at = axis.coordinates
    if len(at) < 3:
        return True
    step = abs(at[-1] - at[0]) / (len(at) - 1)
    return bool(np.abs(at - np.linspace(at[0], at[-1], len(at))).max() <= UNEVEN * step)


def _repeats(axis: Axis) -> bool:
    """Return whether a coordinate occurs twice along a moving axis."""
    if not axis.known or _even(axis):
        return False
    steps = np.diff(np.sort(axis.coordinates))
    return bool(steps.min() <= 1e-9 * float(np.ptp(axis.coordinates)))


def _path_over(raster: Raster) -> ScanPath:
    """Return the points of a grid as a path."""
    rows, columns, _ = raster.pixel(np.arange(1, raster.size + 1))
    return ScanPath(
        (raster.fast.name, raster.fast.unit),
        (raster.slow.name, raster.slow.unit),
        positions=(raster.fast.coordinates[columns], raster.slow.coordinates[rows]),
    )


def _rearranged(maps: Maps, raster: Raster, *, exchanged: bool) -> RearrangedImage:
    """Return the image of a grid with each point at its position, with axes exchanged or not."""
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
    return RearrangedImage(maps, drawn, owners)


def _fine(slow: Axis, fast: Axis) -> list[tuple[Axis, npt.NDArray[np.int64]]]:
    """Return evenly spaced axes over two axes, each with the index (n,) of the nearest coordinate."""
    wanted = [_wanted(axis) for axis in (slow, fast)]
    least = [len(axis.coordinates) for axis in (slow, fast)]
    if wanted[0] * wanted[1] > FINE_MAX:
        other = [least[1 - n] if _even((fast, slow)[n]) else math.isqrt(FINE_MAX) for n in range(2)]
        wanted = [max(min(wanted[n], FINE_MAX // other[n]), 1) for n in range(2)]
    return [_spread(axis, cells) for axis, cells in zip((slow, fast), wanted, strict=True)]


def _wanted(axis: Axis) -> int:
    """Return the number of cells that show every coordinate of an axis, up to a limit."""
    size = len(axis.coordinates)
    if _even(axis):
        return size
    at = np.sort(axis.coordinates)
    smallest = float(np.diff(at).min())
    low, high = _edges(at)
    return max(size, int(min(FINE_STEPS * (high - low) / smallest, SIDE_MAX)))


def _edges(at: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return lowest and highest edge of the cells of rising coordinates: half of the outermost steps beyond."""
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
