"""Where the points of one stream of a run lie, from all that has been told so far.

The start document comes first (:mod:`snakemap.core.scan_geometry`); then descriptors say which data keys are positions
of motors, and in which unit; then the positions themselves come, with events or from files. What a scanspec has told is
left as it is. A grid whose order or coordinates were not told gets them from the positions of its first two rows, again
whenever twice as many are known, and at the end. Points of no grid lie on a path.

Every step costs what is new: whatever looks at all positions is done when they have doubled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.geometry import READBACK, Geometry, GeometryConfidence, ScanDefaults, is_x, path_raster
from snakemap.core.position_fit import STILL, Positions, fill_gaps, find_snaking, fit_axis, guess_axes, is_irregular
from snakemap.core.raster import Axis, Raster, unravel
from snakemap.core.scan_geometry import geometry_of, only_time_passes
from snakemap.core.scan_path import ScanPath

__all__ = ["StreamGeometry"]

KEYS_MAX = 16


LENGTHS = {"m", "cm", "mm", "um", "µm", "μm", "micron", "microns", "nm", "pm", "inch", "in"}


ANGLES = {"deg", "degree", "degrees", "°", "rad", "mrad", "urad", "µrad", "μrad", "nrad"}


WORDS = {"meter", "meters", "metre", "metres", "millimeter", "millimeters", "millimetre", "millimetres", "micrometer"}


MOVED = 0.1
"""Share of a step by which coordinates must differ from those that were told before they are replaced."""


class StreamGeometry:
    """Where the points of one stream of a run lie, from all that has been told so far.

    Args:
        start: the start document of the run.
        habits: what to assume where it is silent.

    Attributes:
        raster: replaced by another one when more becomes known.
        epoch: rises whenever ``raster`` was replaced by one with another layout, axes or units.
    """

    def __init__(self, start: Mapping[str, Any], *, habits: ScanDefaults) -> None:
        self._start, self._habits = start, habits
        self._told: Geometry = geometry_of(start, habits=habits)
        self.raster: Raster = self._told.raster
        self.epoch = 0
        self._units: dict[str, str] = {}
        self._motors: dict[str, str] = {}
        self._guessed = False
        self._positions: dict[str, Positions] = {}
        self._pair: tuple[str, str] | None = None
        self._due = 2
        self._early: tuple[tuple[str, int], ...] = ()
        self._settled = self._told.trust is GeometryConfidence.PLACES

    @property
    def position_keys(self) -> Collection[str]:
        """Data keys known to be positions of motors so far."""
        return self._motors.keys()

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Learns from a descriptor of the stream which data keys are positions, and the units of motors."""
        keys = {str(name): key for name, key in doc["data_keys"].items() if isinstance(key, Mapping)}
        units = {name: key["units"] for name, key in keys.items() if isinstance(key.get("units"), str) and key["units"]}
        numbers = {name: key for name, key in keys.items() if _is_number(key)}
        found = _told_motors(self._told.motors, numbers)
        if found and self._guessed:
            self._motors, self._guessed = {}, False
        if not found and (not self._motors or self._guessed) and not self._knows_all():
            found = {name: name for name, key in numbers.items() if _looks_like_a_motor(key)}
            self._guessed = self._guessed or bool(found)
        self._motors |= dict(list(found.items())[: max(KEYS_MAX - len(self._motors), 0)])
        self._units |= units | {motor: units[key] for key, motor in self._motors.items() if key in units}
        self._show(self.raster)

    def columns(self, seq_nums: npt.NDArray[np.int64], data: Mapping[str, npt.NDArray[np.float64]]) -> None:
        """Takes scalars (n,) by data key, of which some may be positions; the same again changes nothing."""
        if self._settled:
            return
        index = np.atleast_1d(np.asarray(seq_nums, dtype=np.int64)) - 1
        fresh = False
        for key, values in data.items():
            if key in self._motors:
                column = np.atleast_1d(np.asarray(values, dtype=np.float64))
                fresh |= self._positions.setdefault(key, Positions()).put(index, column)
        if not fresh:
            return
        if self.raster.path is not None:
            self._extend(index)
        elif len(self._told.raster.shape) == 1:
            self._place_row(index)
        else:
            self._place_grid()

    def make_room(self, seq_num: int) -> None:
        """Lengthens a row of unknown length, if need be; it doubles, so that a point costs the same whatever came."""
        if self.raster.certain or seq_num <= self.raster.size:
            return
        longer = geometry_of(self._start, habits=self._habits, points=seq_num)
        if longer.raster.size <= self.raster.size:
            return
        self._told = longer
        if self.raster.path is not None:
            self._show(self._on_path(self.raster.path, self.raster.source, self.raster.note))
        else:
            self._show(longer.raster)
            self._fit_row()

    def end(self, points: int = 0) -> None:
        """The run has stopped: the last, best fit of what was not told to the positions.

        Args:
            points: how many there were; a row whose length nobody told is made as long.
        """
        if not self.raster.certain and 0 < points < self.raster.size:
            self._cut(points)
        if self._settled or self.raster.path is not None:
            if self.raster.path is not None and not self._settled:
                self._choose_pair()
        elif len(self._told.raster.shape) == 1:
            self._place_row(self._known(), last=True)
        else:
            self._fit_grid()

    def _cut(self, points: int) -> None:
        """Makes a row of unknown length as long as it turned out to be."""
        told = self._told.raster
        row = Raster.of_shape((points,), snake=False, source=told.source, note=told.note, certain=False)
        self._told = self._told._replace(raster=row)
        path = self.raster.path
        self._show(row if path is None else self._on_path(path, self.raster.source, self.raster.note))

    def _knows_all(self) -> bool:
        return self._settled or only_time_passes(self._start)

    def _show(self, raster: Raster) -> None:
        """Puts another raster in place, with all units known, when it says anything else."""
        before = self.raster
        axes = before.slow.label, before.fast.label, _path_label(before)
        named = raster.with_units(self._units)
        if named.slow.label == raster.slow.label and named.fast.label == raster.fast.label:
            named = raster
        if raster is before and axes == (named.slow.label, named.fast.label, _path_label(named)):
            return
        self.raster = named if named is not before else replace(before)
        self.epoch += 1

    # points that are no grid

    def _extend(self, index: npt.NDArray[np.int64]) -> None:
        """Puts new points on the path; with more than two motors, looks now and then whether it is the right two."""
        if self._pair is None or (len(self._positions) > 2 and self._is_due()):
            self._choose_pair()
        if self._pair is not None and self.raster.path is not None:
            self._put(self.raster.path, self._pair, index)

    def _put(self, path: ScanPath, pair: tuple[str, str], index: npt.NDArray[np.int64]) -> None:
        x, y = (self._positions.get(key) for key in pair)
        if x is not None and y is not None:
            path.put(index + 1, x.at(index), y.at(index))

    def _choose_pair(self) -> None:
        """Chooses the two motors that the path is of, and begins another path when they are others than before."""
        path = self.raster.path
        pair = self._farthest()
        if path is None or pair is None or pair == self._pair:
            return
        if self._pair is None and (path.x_name, path.y_name) == tuple(self._motors[key] for key in pair):
            self._pair = pair
            self._put(path, pair, self._known())
            return
        self._begin_path(pair)

    def _place_row(self, index: npt.NDArray[np.int64], *, last: bool = False) -> None:
        pair = self._farthest()
        if pair is not None:
            self._begin_path(pair)
        elif last or (len(self._positions) == len(self._motors) and self._is_off(index) and self._is_due(share=64)):
            self._fit_row()

    def _is_off(self, index: npt.NDArray[np.int64]) -> bool:
        """Whether the axis of a row is not where its motor was at some points."""
        moving, axis = self._moving(), self.raster.fast
        if not moving:
            return False
        if not axis.known:
            return True
        index = index[(index >= 0) & (index < len(axis.coordinates))]
        off = np.abs(self._positions[moving[0]].at(index) - axis.coordinates[index])
        step = np.ptp(axis.coordinates) / max(len(axis.coordinates) - 1, 1)
        return bool(np.any(off > MOVED * step))

    def _farthest(self) -> tuple[str, str] | None:
        """Data keys, horizontal and vertical, of the two motors whose path this is; None while only one moves."""
        order = list(self._motors)
        moving = [key for key in order if key in self._positions]
        if self._guessed or len(order) != 2:
            moving = sorted(self._moving(), key=lambda key: -self._positions[key].way)[:2]
            moving.sort(key=order.index)
        if len(moving) < 2:
            return None
        one, other = moving
        right = is_x(self._motors[one])
        if right != is_x(self._motors[other]):
            return (one, other) if right else (other, one)
        if self._guessed and self._positions[one].liveliness > self._positions[other].liveliness:
            return one, other
        return other, one

    def _moving(self) -> list[str]:
        """Data keys of the motors that move, in order; one that trembles, measured by another of its unit, does not."""
        ways = {key: at.way for key, at in self._positions.items() if at.way > 0}
        units = {key: self._units.get(self._motors[key], "") for key in ways}
        farthest = {unit: max(way for key, way in ways.items() if units[key] == unit) for unit in units.values()}
        return [key for key in self._motors if key in ways and ways[key] > STILL * farthest[units[key]]]

    def _begin_path(self, pair: tuple[str, str], *, note: str = "") -> None:
        self._pair = pair
        x, y = (self._motors[key] for key in pair)
        told = self._told.raster.path
        lattice = told.lattice if told is not None and (told.x_name, told.y_name) == (x, y) else None
        path = ScanPath((x, self._units.get(x, "")), (y, self._units.get(y, "")), lattice=lattice)
        self._put(path, pair, self._known())
        source = self._told.raster.source if told is not None else f"positions of {y} and {x}"
        self._show(self._on_path(path, source, note or f"Drawn where {y} and {x} were when each point was taken."))

    def _on_path(self, path: ScanPath, source: str, note: str) -> Raster:
        told = self._told.raster
        return path_raster(path, told.size, source=source, note=note, certain=told.certain)

    def _known(self) -> npt.NDArray[np.int64]:
        """Indices (n,) up to the last of which a position is known."""
        return np.arange(max((at.size for at in self._positions.values()), default=0))

    def _is_due(self, share: int = 1) -> bool:
        """Whether there are more positions by some share than when this was last asked with success."""
        known = sum(at.count for at in self._positions.values())
        if known < self._due:
            return False
        self._due = known + max(known // share, 1)
        return True

    def _fit_row(self) -> None:
        """Gives the axis of a row the coordinates of the one motor that moves."""
        ways = {key: at.way for key, at in self._positions.items()}
        key = max(ways, key=lambda key: ways[key], default=None)
        if key is None or not ways[key] > 0:
            return
        size = self._told.raster.size
        coordinates = fill_gaps(self._positions[key].at(np.arange(size)))
        axis = self._axis(key, coordinates)
        before = self.raster.fast
        if axis is None or (before.known and np.array_equal(axis.coordinates, before.coordinates)):
            return
        motor = self._motors[key]
        note = "" if self.raster.certain else self._told.raster.note
        source = self._told.raster.source if self._told.trust >= GeometryConfidence.ORDER else f"positions of {motor}"
        self._show(replace(self._told.raster, fast=axis, source=source, note=note))

    def _axis(self, key: str, coordinates: npt.NDArray[np.float64]) -> Axis | None:
        motor = self._motors[key]
        axis = Axis(motor, self._units.get(motor, ""), coordinates)
        return axis if axis.finite else None

    # grids

    def _place_grid(self) -> None:
        """Fits the grid whenever it can be seen how one more axis runs, and whenever twice as much is known."""
        steps = _telling(self._told.raster.shape)
        early = tuple(
            (key, sum(at.is_complete(step) for step in steps))
            for key, at in self._positions.items()
            if at.is_complete(steps[0])
        )
        if not early:
            return
        due = self._is_due()
        if due or early != self._early:
            self._early = early
            self._fit_grid()

    def _fit_grid(self) -> None:
        raster = self._told.raster
        columns = {key: self._positions[key].at(np.arange(raster.size)) for key in self._moving()}
        along = self._motors_of_axes(columns)
        if not along:
            return
        snaking = raster.snaking
        if self._told.trust is GeometryConfidence.SHAPE:
            snaking = find_snaking(raster, {depth: columns[key] for depth, key in along.items()})
        index = unravel(np.arange(1, raster.size + 1), raster.shape, snaking=snaking)
        fits: dict[int, tuple[str, npt.NDArray[np.float64], npt.NDArray[np.bool_]]] = {}
        for depth, key in along.items():
            fit = fit_axis(columns[key], index[depth], raster.shape[depth])
            if fit is None:
                continue
            if is_irregular(columns[key], fit[0], index[depth]):
                self._give_up_grid(along)
                return
            fits[depth] = key, *fit
        self._take_fits(snaking, fits)

    def _motors_of_axes(self, columns: Mapping[str, npt.NDArray[np.float64]]) -> dict[int, str]:
        """The data key of each axis, by its place in the shape, as far as known."""
        shape = self._told.raster.shape
        by_motor = {motor: key for key, motor in self._motors.items()}
        if len(self._told.motors) == len(shape) and not self._guessed:
            named = {depth: by_motor.get(motor, "") for depth, motor in enumerate(self._told.motors)}
            return {depth: key for depth, key in named.items() if key in columns and shape[depth] > 1}
        return guess_axes(columns, shape)

    def _give_up_grid(self, along: Mapping[int, str]) -> None:
        """Draws points that do not lie on the grid they were said to be on where they lie, unless it was told."""
        if self._told.trust is GeometryConfidence.ORDER:
            return
        pair = self._farthest()
        if pair is not None:
            shape = " x ".join(map(str, self._told.raster.shape))
            self._begin_path(pair, note=f"Positions do not lie on a grid of {shape}: each point is drawn at its own.")

    def _take_fits(
        self,
        snaking: tuple[bool, ...],
        fits: Mapping[int, tuple[str, npt.NDArray[np.float64], npt.NDArray[np.bool_]]],
    ) -> None:
        """Replaces what the fit of the axes tells better than what was known."""
        told, raster = self._told.raster, self.raster
        last = len(told.shape) - 1
        axes = {0: raster.slow, last: raster.fast} if last == 1 else {last: raster.fast}
        found: dict[int, Axis] = {}
        for depth, (key, coordinates, seen) in fits.items():
            axis = self._axis(key, coordinates)
            if depth in axes and axis is not None and not _is_near(axes[depth], axis, seen):
                found[depth] = axis
        source = raster.source
        if self._told.trust is GeometryConfidence.SHAPE and told.rows > 1 and last in fits:
            source = f"{told.source.split(';')[0]}; snaking from positions"
        if not found and snaking == raster.snaking and source == raster.source:
            return
        slow, fast = found.get(0, raster.slow) if last == 1 else raster.slow, found.get(last, raster.fast)
        stale = raster.note.startswith("Axes are indices: ")
        note = "" if found and stale else raster.note
        self._show(replace(raster, snaking=snaking, slow=slow, fast=fast, source=source, note=note))


def _path_label(raster: Raster) -> tuple[str, ...]:
    path = raster.path
    return (path.x_name, path.x_unit, path.y_name, path.y_unit) if path is not None else ()


def _is_number(key: Mapping[str, Any]) -> bool:
    """Whether a data key is one number a point."""
    shape, external = key.get("shape"), bool(key.get("external"))
    lone = shape in ([], ()) or (external and isinstance(shape, list | tuple) and len(shape) == 1)
    return lone and (key.get("dtype") in ("number", "integer") or (external and key.get("dtype") == "array"))


def _looks_like_a_motor(key: Mapping[str, Any]) -> bool:
    """Whether a data key has a unit of length or angle, or comes from a motor record."""
    unit, source = key.get("units"), key.get("source")
    if isinstance(source, str) and source.endswith(".RBV"):
        return True
    return isinstance(unit, str) and (unit in LENGTHS or unit.casefold() in ANGLES | WORDS)


def _told_motors(motors: Sequence[str], keys: Collection[str]) -> dict[str, str]:
    """Motors by the data key that holds their positions, in the order of the motors.

    >>> _told_motors(["stage-y", "stage-x"], ["stage-x-readback", "stage-y", "stage-x-velocity"])
    {'stage-y': 'stage-y', 'stage-x-readback': 'stage-x'}
    """
    found: dict[str, str] = {}
    readbacks = {READBACK.sub("", key): key for key in reversed(list(keys)) if READBACK.search(key)}
    for motor in motors:
        key = motor if motor in keys else readbacks.get(motor) or readbacks.get(READBACK.sub("", motor))
        if key is None:
            key = READBACK.sub("", motor) if READBACK.sub("", motor) in keys else None
        if key is not None and key not in found:
            found[key] = motor
    return found


def _telling(shape: Sequence[int]) -> list[int]:
    """Numbers of points after which it can be seen how one more axis runs: two rows, then the begin of each new sweep.

    >>> _telling((2, 3, 4)), _telling((1, 9)), _telling((5, 1))
    ([8, 16], [9], [2])
    """
    total = math.prod(shape)
    found = [2 * shape[-1]]
    below = shape[-1]
    for size in reversed(shape[1:-1]):
        found.append(below * size + below)
        below *= size
    return sorted({min(points, total) for points in found})


def _is_near(before: Axis, after: Axis, seen: npt.NDArray[np.bool_]) -> bool:
    """Whether coordinates that were known are, where anything was seen, within a share of a step of the new ones."""
    if not before.known or len(before.coordinates) != len(after.coordinates):
        return False
    steps = np.abs(np.diff(after.coordinates[seen]))
    step = float(np.median(steps)) if len(steps) else 0.0
    return bool(np.all(np.abs(before.coordinates[seen] - after.coordinates[seen]) <= MOVED * step))
