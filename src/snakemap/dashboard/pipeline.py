"""From the view state of a tab to what its screen needs; without widgets and Bokeh models.

A derivation depends on the least: colors do not touch maps, a brush does not touch the histogram, and the histogram of
the whole map is counted once a process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.maps import ChannelSummary, Maps, histogram, summarize, value_at
from snakemap.core.raster import Raster
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.own_regions import OwnRegions
from snakemap.dashboard.proportions import drawn_aspect
from snakemap.dashboard.quantities import counted, unit_text
from snakemap.dashboard.view_state import Choices
from snakemap.render.cache import RenderCache
from snakemap.render.dataset_display import limits_refusal
from snakemap.render.map_image import CellImage
from snakemap.render.map_view import MapView
from snakemap.render.pyramid import step_for
from snakemap.render.stage_path import StagePath

__all__ = ["Pipeline", "Window"]

EMPTY = (0.0, 1.0, 0.1)
"""Limits of a channel without a value, and where its log scale begins."""


SMALLEST = 5e-324

MANY_CELLS = 1_000
"""Changed cells from which on channels with the same values are left out."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the maps that a tab is sent: a block of cells of one level.

    Attributes:
        step: of the level.
        row0: first row of the level.
        row1: one past its last row.
        column0: first column.
        column1: one past its last column.
    """

    step: int
    row0: int
    row1: int
    column0: int
    column1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.row1 - self.row0, self.column1 - self.column0


@dataclass(slots=True)
class ShownMaps:
    """What a tab's screen shows now, so that only the difference is sent.

    Attributes:
        picture: None before the first.
        epochs: of the run and of the picture; when either changes, other images are called for.
        version: of the picture.
        sent: values (channels, rows, columns) that the browser has, once many cells changed at one time.
    """

    picture: CellImage | None = None
    epochs: tuple[int, int] = (-1, -1)
    version: int = -1
    sent: npt.NDArray[np.float64] | None = None


class Pipeline:
    """The derivations of one tab.

    Args:
        choices: what its user chose.
        levels: the process's.

    Attributes:
        run: the run it shows, or None.
        window: the cells it is sent.
        counts: how often each derivation was computed, for the tests.
        own: the regions of the tab.
    """

    def __init__(self, choices: Choices, levels: RenderCache) -> None:
        self.choices = choices
        self.levels = levels
        self.run: Run | None = None
        self.window = Window(1, 0, 1, 0, 1)
        self.shown = ShownMaps()
        self.counts = dict.fromkeys(("update", "everything", "histogram", "limits", "summaries"), 0)
        self.own = OwnRegions()
        self._held: list[tuple[float, float, float]] = []
        self._pixels = (400.0, 400.0)
        self._view: tuple[float, float, float, float] | None = None

    def look_at(self, run: Run | None) -> None:
        """Choose a run; the next update sends everything."""
        self.run = run
        self.reset()

    def reset(self) -> None:
        """Forget what the screen shows, for another run, source or view."""
        self.shown = ShownMaps()
        self._view = None
        self._held = []
        if self.run is not None:
            self.window = self._window(self.picture)

    @property
    def base(self) -> MapSource:
        """What is drawn of the run, without the regions of the tab."""
        return self._required().source(self.choices.source)

    @property
    def source(self) -> MapSource:
        """What is drawn of the run, with the regions of the tab."""
        return self.own.over(self.base)

    @property
    def maps(self) -> Maps:
        """The grids of all that is drawn."""
        return self.source.maps

    @property
    def view(self) -> MapView:
        """How the run is drawn."""
        return MapView(shape=self.choices.shape, exchanged=self.choices.exchanged)

    @property
    def coordinates(self) -> str:
        """What the coordinates of the maps mean: as long as it stays the same, a zoom stays where it is."""
        choices = self.choices
        return f"{self._required().uid} {choices.shape} {choices.exchanged} {choices.source}"

    @property
    def picture(self) -> CellImage:
        """The picture that is drawn, up to date."""
        return self.levels.picture(self.source, self.view)

    @property
    def aspect(self) -> str:
        """How the cells of the picture are drawn."""
        return drawn_aspect(self.choices.aspect, self.picture.raster)

    @property
    def profile(self) -> str:
        """``"row"`` or ``"column"`` where the picture is one of these, which is drawn as a line; else empty."""
        raster = self.picture.raster
        if (raster.rows == 1) == (raster.columns == 1):
            return ""
        return "row" if raster.rows == 1 else "column"

    @property
    def indexed(self) -> bool:
        """Whether rows and columns of the picture are the scan's own, and not those of a fine lattice over a path."""
        return self.view.shape is not None or self.maps.raster.path is None

    @property
    def stage_path(self) -> StagePath | None:
        """The path of the stage over the picture, as far as it is known."""
        return self.levels.stage_path(self.source, self.view)

    def _is_shown(self, picture: CellImage) -> bool:
        """Return whether the screen shows a picture as it is laid out now."""
        return self.shown.picture is picture and self.shown.epochs == (self._required().epoch, picture.epoch)

    def resize(self, *, view: tuple[float, float, float, float] | None, pixels: tuple[float, float]) -> bool:
        """Take what the screen shows; return whether it needs other cells.

        Args:
            view: rows and columns in sight ``(row0, row1, column0, column1)``, in cells, with fractions; None for all.
            pixels: height and width of a map on the screen.
        """
        self._view, self._pixels = view, pixels
        if self.run is None:
            return False
        window = self._window(self.picture)
        if window.step == self.window.step and self._covers(window):
            return False
        self.window = window
        self.shown.version = -1
        return True

    @property
    def whole(self) -> bool:
        """Whether the screen has every cell at its finest, so that no zoom needs more."""
        if self.run is None:
            return True
        raster = self.picture.raster
        return self.window == Window(1, 0, raster.rows, 0, raster.columns)

    @property
    def channel(self) -> int:
        """Number of the chosen channel among those of the run; the total where it has none of that name."""
        names = self.maps.channels if self.run else ()
        return names.index(self.choices.channel) if self.choices.channel in names else len(names) - 1

    def everything(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the cells of the window (rows, columns) by channel, both axes rising as drawn; NaN where nothing is.

        They are the cells of the process, which change while data grow.
        """
        self.counts["everything"] += 1
        picture = self.picture
        if not self._is_shown(picture):
            self.window = self._window(picture)  # the picture may have another shape now
        level = self.levels.level(self.source, self.view, self.window.step)
        self.shown = ShownMaps(picture, (self._required().epoch, picture.epoch), level.version)
        window = self.window
        part = level.grids[:, window.row0 : window.row1, window.column0 : window.column1]
        up, right = _directions(picture.raster)
        return {name: part[number, ::up, ::right] for number, name in enumerate(picture.maps.channels)}

    def update(self) -> dict[str, Any] | None:
        """Return the changes since the last call as plain lists; None when everything must be sent.

        Returns:
            ``cells`` (numbers in the window), ``values`` (a list a channel; None if it has the same values), ``from``
            and ``to`` (versions).
        """
        self.counts["update"] += 1
        picture = self.picture
        if not self._is_shown(picture) or self.shown.version < 0:
            return None
        level = self.levels.level(self.source, self.view, self.window.step)
        cells = level.changed(self.shown.version)
        if cells is None:
            return None
        rows, columns = np.divmod(cells, level.columns)
        window = self.window
        inside = (rows >= window.row0) & (rows < window.row1) & (columns >= window.column0) & (columns < window.column1)
        rows, columns = rows[inside], columns[inside]
        changes = {
            "from": self.shown.version,
            "to": level.version,
            "cells": self._drawn(picture.raster, rows, columns).tolist(),
            "values": self._new_values(level.grids, rows, columns),
        }
        self.shown.version = level.version
        return changes

    def _new_values(
        self, grids: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> list[list[float | int | None] | None]:
        """Return the values of cells of each channel.

        Where many cells change again and again, as under a region that is moved by hand, other channels stay the same.
        """
        sent = self.shown.sent
        if sent is None:
            if len(rows) >= MANY_CELLS:
                self.shown.sent = grids.copy()
            return [_plain(grid[rows, columns]) for grid in grids]
        values: list[list[float | int | None] | None] = []
        for grid, before in zip(grids, sent, strict=True):
            new, old = grid[rows, columns], before[rows, columns]
            same = len(rows) >= MANY_CELLS and np.array_equal(new, old, equal_nan=True)
            before[rows, columns] = new
            values.append(None if same else _plain(new))
        return values

    def histogram(self) -> npt.NDArray[np.int64]:
        """Return the points of each bar of the chosen channel over its range, of the whole map or of the box."""
        maps = self.maps
        if self.choices.box is None:
            return maps.histogram(self.channel)
        self.counts["histogram"] += 1
        values = maps.values(self.channel, self.picture.points(*self.choices.box))
        return histogram(values, *self.span)

    def limits(self) -> list[tuple[float, float]]:
        """Lowest and highest color of each channel, in its unit; both above zero on a log scale."""
        maps = self.maps
        self.counts["limits"] += 1
        limits = self._held
        if self.choices.limits != "locked" or len(limits) != len(maps.channels):
            limits = [self._limit(maps, number) for number in range(len(maps.channels))]
            self._held = limits if maps.visited else []
        return [self._drawable(*limit) for limit in limits]

    @property
    def refusal(self) -> str:
        """Why limits that are set by hand cannot be used; empty while they can, and while there are none."""
        choices = self.choices
        if choices.limits != "by hand":
            return ""
        return limits_refusal(choices.low, choices.high, log=choices.scale == "log")

    def summaries(self) -> list[ChannelSummary]:
        """One summary a channel, of the brushed points or, without a brush, of all; places are those in the maps."""
        maps = self.maps
        chosen = self.brushed()
        if chosen is None:
            return [maps.summary(number) for number in range(len(maps.channels))]
        self.counts["summaries"] += 1
        columns = maps.raster.columns
        return [summarize(np.where(chosen, grid.ravel(), np.nan), columns) for grid in maps.grids]

    def spans(self) -> list[tuple[float, float] | None]:
        """Range of every channel; None before its first value."""
        spans = [self.maps.span(number) for number in range(len(self.maps.channels))]
        return [None if low != low else (low, high) for low, high in spans]

    @property
    def span(self) -> tuple[float, float]:
        """Range of the histogram of the chosen channel; NaN before the first value."""
        return self.maps.span(self.channel)

    @property
    def unit(self) -> str:
        """Unit of the chosen channel."""
        return unit_text(self.source.units.get(self.maps.channels[self.channel]))

    @property
    def in_shares(self) -> bool:
        """Whether the histogram is labeled in shares of the maximum: that of counts, which begins at zero."""
        return counted(self.unit) and not self.span[0] < 0

    def brushed(self) -> npt.NDArray[np.bool_] | None:
        """Mask (rows * columns,) of the pixels within the brush; None without one."""
        maps = self.maps
        if self.choices.brush is None:
            return None
        low, high = (value_at(share, *self.span) for share in self.choices.brush)
        grid = maps.grids[self.channel].ravel()
        with np.errstate(invalid="ignore"):
            return (grid >= low) & (grid <= high)

    def selected(self) -> npt.NDArray[np.int64] | None:
        """Return the points (n,), measured or not, in the box and within the brush; None without either."""
        chosen, box = self.brushed(), self.choices.box
        if chosen is None and box is None:
            return None
        cells = np.flatnonzero(chosen) if box is None else self.picture.points(*box)
        if chosen is not None:
            cells = cells[chosen[cells]]
        return np.sort(self.maps.raster.seq_nums(cells))

    def frame(self) -> tuple[float, float, float, float]:
        """Return where the window lies: left, bottom, width and height in the units of the axes."""
        raster, window = self.picture.raster, self.window
        (low_y, high_y), (low_x, high_x) = raster.extents
        dy = (high_y - low_y) / raster.rows * window.step
        dx = (high_x - low_x) / raster.columns * window.step
        up, right = _directions(raster)
        left = low_x + window.column0 * dx if right > 0 else high_x - window.column1 * dx
        bottom = low_y + window.row0 * dy if up > 0 else high_y - window.row1 * dy
        return left, bottom, window.shape[1] * dx, window.shape[0] * dy

    def cells_in(self, left: float, right: float, bottom: float, top: float) -> tuple[float, float, float, float]:
        """Return rows and columns ``(row0, row1, column0, column1)`` of a rectangle on the map, with fractions."""
        raster = self.picture.raster
        (low_y, high_y), (low_x, high_x) = raster.extents
        dy, dx = (high_y - low_y) / raster.rows, (high_x - low_x) / raster.columns
        rows = sorted(((bottom - low_y) / dy, (top - low_y) / dy))
        columns = sorted(((left - low_x) / dx, (right - low_x) / dx))
        up, rightward = _directions(raster)
        if up < 0:
            rows = [raster.rows - rows[1], raster.rows - rows[0]]
        if rightward < 0:
            columns = [raster.columns - columns[1], raster.columns - columns[0]]
        return rows[0], rows[1], columns[0], columns[1]

    @property
    def points(self) -> int:
        """The number of the last point of the run that is drawn, measured or not."""
        raster = self.maps.raster
        return raster.size if raster.certain else max(self.maps.highest, 1)

    def point_at(self, x: float, y: float) -> int:
        """Return the point, as its seq_num, whose pixel is at a place on the map; 0 where there is none."""
        row0, _, column0, _ = self.cells_in(x, x, y, y)
        return self._point_in(math.floor(row0), math.floor(column0))

    def place_of(self, point: int) -> tuple[float, float] | None:
        """Return where a point is drawn, in the units of the axes; None if it is not drawn (yet)."""
        cells, _ = self.maps.raster.cells([point])
        picture = self.picture
        place = picture.position_of(int(cells[0])) if len(cells) else None
        if place is None:
            return None
        raster, (row, column) = picture.raster, place
        (low_y, high_y), (low_x, high_x) = raster.extents
        up, right = _directions(raster)
        rows, columns = (row + 0.5, column + 0.5)
        x = (columns if right > 0 else raster.columns - columns) * (high_x - low_x) / raster.columns
        y = (rows if up > 0 else raster.rows - rows) * (high_y - low_y) / raster.rows
        return low_x + x, low_y + y

    def neighbor(self, point: int, *, right: int, up: int) -> int:
        """Return the next point in a direction of the map, as its seq_num; the point itself where there is none.

        Args:
            point: from which to go.
            right: 1 to the right, -1 to the left, else 0.
            up: 1 upwards, -1 downwards, else 0.
        """
        cells, _ = self.maps.raster.cells([point])
        picture = self.picture
        place = picture.position_of(int(cells[0])) if len(cells) else None
        if place is None:
            return point
        along_rows, along_columns = _directions(picture.raster)
        (row, column), steps = place, (up * along_rows, right * along_columns)
        # of several cells that show one point, and of blank ones between points, all are passed
        while 0 <= (row := row + steps[0]) < picture.raster.rows and (
            0 <= (column := column + steps[1]) < picture.raster.columns
        ):
            found = self._point_in(row, column)
            if found and found != point:
                return found
        return point

    def _point_in(self, row: int, column: int) -> int:
        """Return the point, as its seq_num, that a cell of the picture shows; 0 if none."""
        raster = self.picture.raster
        if not (0 <= row < raster.rows and 0 <= column < raster.columns):
            return 0
        cells = self.picture.points(row, row + 1, column, column + 1)
        return int(self.maps.raster.seq_nums(cells[:1])[0]) if len(cells) else 0

    def _drawn(
        self, raster: Raster, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return numbers of cells within the window as drawn, from their rows and columns in the level."""
        window = self.window
        up, right = _directions(raster)
        down = rows - window.row0 if up > 0 else window.row1 - 1 - rows
        along = columns - window.column0 if right > 0 else window.column1 - 1 - columns
        return down * window.shape[1] + along

    def _limit(self, maps: Maps, channel: int) -> tuple[float, float, float]:
        """Lowest and highest color of a channel, and where a log scale begins if the lowest is not above zero."""
        choices, summary = self.choices, maps.summary(channel)
        if choices.limits == "by hand" and channel == self.channel and not self.refusal:
            low, high = float(choices.low or 0), float(choices.high or 0)
            return low, high, low
        low, high, least = summary.minimum, summary.maximum, maps.least_positive(channel)
        if low != low:
            return EMPTY
        if choices.limits == "minimum to maximum":
            return low, high, least
        return min(0.0, low), high, _log_begin(least, high)

    def _drawable(self, low: float, high: float, log_low: float) -> tuple[float, float]:
        """Return limits that the scale can draw: the higher above the lower, and on a log scale both above zero."""
        if self.choices.scale == "log":
            low = low if low > 0 else log_low
            if not high > 0:
                return EMPTY[2], EMPTY[1]
        return (low, high) if high > low else _widened(low)

    def _window(self, picture: CellImage) -> Window:
        """Return level and cells for what the screen shows, with a margin so that a small pan needs nothing new."""
        rows, columns = picture.raster.rows, picture.raster.columns
        row0, row1, column0, column1 = self._view or (0.0, float(rows), 0.0, float(columns))
        height, width = self._pixels
        seen_rows, seen_columns = (
            max(min(row1, rows) - max(row0, 0), 1.0),
            max(min(column1, columns) - max(column0, 0), 1.0),
        )
        step = max(step_for(seen_rows, height), step_for(seen_columns, width))
        height_cells, width_cells = -(-rows // step), -(-columns // step)
        if height_cells <= step_limit(height) and width_cells <= step_limit(width):
            return Window(step, 0, height_cells, 0, width_cells)
        margin_rows, margin_columns = seen_rows / 4, seen_columns / 4
        return Window(
            step,
            int(np.clip((row0 - margin_rows) // step, 0, height_cells - 1)),
            int(np.clip(-(-(row1 + margin_rows) // step), 1, height_cells)),
            int(np.clip((column0 - margin_columns) // step, 0, width_cells - 1)),
            int(np.clip(-(-(column1 + margin_columns) // step), 1, width_cells)),
        )

    def _covers(self, wanted: Window) -> bool:
        """Return whether what is shown now holds all that is in sight of a wanted window of the same step."""
        if self._view is None:
            return self.window == wanted
        row0, row1, column0, column1 = (bound / wanted.step for bound in self._view)
        now = self.window
        raster = self.picture.raster
        rows, columns = -(-raster.rows // wanted.step), -(-raster.columns // wanted.step)
        return (
            now.row0 <= max(row0, 0)
            and now.row1 >= min(row1, rows)
            and now.column0 <= max(column0, 0)
            and now.column1 >= min(column1, columns)
        )

    def _required(self) -> Run:
        if self.run is None:
            raise RuntimeError("a pipeline without a run has nothing to derive")
        return self.run


def _directions(raster: Raster) -> tuple[int, int]:
    """1 or -1 for rows and columns: whether their coordinate rises along the index."""
    return (-1 if raster.slow.decreases else 1), (-1 if raster.fast.decreases else 1)


def _log_begin(least: float, high: float) -> float:
    """Return where a log scale up to a maximum begins: four decades below it, or at 1, or lower where there are values.

    Args:
        least: the smallest value above zero; values beyond twelve decades below the maximum do not count.
        high: the maximum.

    >>> _log_begin(3.0, 1e6), _log_begin(500.0, 1e3), _log_begin(1e-9, 4e-3)
    (1.0, 0.1, 1e-09)
    """
    usual = min(high / 1e4, 1.0)
    return max(min(usual if usual > 0 else least, least), high / 1e12)


def _widened(value: float) -> tuple[float, float]:
    """Return limits around a single value, which has the lowest color.

    >>> _widened(0.0), _widened(200.0), _widened(-100.0)
    ((0.0, 1.0), (200.0, 202.0), (-100.0, -99.0))
    """
    part = abs(value) / 100
    higher = value + (part if part > 0 else SMALLEST if value else 1.0)
    return (value, higher) if value < higher < math.inf else (value - part, value)


def step_limit(pixels: float) -> float:
    """Return how many cells along one side are sent whole, even if only a part is in sight."""
    return 1.34 * max(pixels, 1)


EXACT_BELOW = 2.0**53
"""Whole numbers below are exact in a browser; larger ones stay as they are, as no JSON may read them as integers."""


def _plain(values: npt.NDArray[np.float64]) -> list[float | int | None]:
    """Return numbers in their shortest JSON form: integers where they are whole, None for NaN."""
    if np.all(np.abs(values) < EXACT_BELOW) and np.array_equal(values, np.rint(values)):
        return values.astype(np.int64).tolist()
    return [
        None if value != value else int(value) if value.is_integer() and abs(value) < EXACT_BELOW else value
        for value in values.tolist()
    ]
