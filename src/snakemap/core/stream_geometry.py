"""The geometry of one stream of a run, from all documents so far.

The start document comes first (:mod:`snakemap.core.scan_geometry`). Descriptors then define which data keys are
positions of motors, and their units. Positions follow, with events or from files. The geometry of a scanspec is final.
A grid of unknown order or coordinates gets them from the positions of its first two rows, again whenever the known
positions have doubled, and at the end. Points of no grid lie on a path.

Every step costs O(new points): fits over all positions run when these have doubled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.geometry import READBACK, Geometry, GeometryConfidence, ScanDefaults, is_x, path_raster
from snakemap.core.json_values import is_array, is_mapping
from snakemap.core.position_fit import STILL, Positions, fill_gaps, find_snaking, fit_axis, guess_axes, is_irregular
from snakemap.core.raster import Axis, Raster, unravel
from snakemap.core.scan_geometry import geometry_of, is_stationary
from snakemap.core.scan_path import ScanPath

__all__ = ["StreamGeometry"]

KEYS_MAX = 16


LENGTHS = {"m", "cm", "mm", "um", "µm", "μm", "micron", "microns", "nm", "pm", "inch", "in"}


ANGLES = {"deg", "degree", "degrees", "°", "rad", "mrad", "urad", "µrad", "μrad", "nrad"}


WORDS = {"meter", "meters", "metre", "metres", "millimeter", "millimeters", "millimetre", "millimetres", "micrometer"}


MOVED = 0.1
"""Share of a step by which fitted coordinates must differ from known ones to replace them."""


class StreamGeometry:
    """The geometry of one stream of a run, from all documents so far.

    Args:
        start: the start document of the run.
        defaults: values for what it leaves out.

    Attributes:
        raster: replaced when more becomes known.
        epoch: rises when ``raster`` is replaced by one with another layout, axes or units.
    """

    def __init__(self, start: Mapping[str, Any], *, defaults: ScanDefaults) -> None:
        self._start, self._defaults = start, defaults
        self._from_start: Geometry = geometry_of(start, defaults=defaults)
        self.raster: Raster = self._from_start.raster
        self.epoch = 0
        self._units: dict[str, str] = {}
        self._motors: dict[str, str] = {}
        self._guessed = False
        self._positions: dict[str, Positions] = {}
        self._pair: tuple[str, str] | None = None
        self._due = 2
        self._early: tuple[tuple[str, int], ...] = ()
        self._settled = self._from_start.confidence is GeometryConfidence.POSITIONS

    @property
    def position_keys(self) -> Collection[str]:
        """Data keys known as positions of motors so far."""
        return self._motors.keys()

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Find the data keys of positions and the units of motors in a descriptor of the stream."""
        keys = {str(name): key for name, key in doc["data_keys"].items() if is_mapping(key)}
        units = {name: key["units"] for name, key in keys.items() if isinstance(key.get("units"), str) and key["units"]}
        numbers = {name: key for name, key in keys.items() if _is_number(key)}
        found = _motor_keys(self._from_start.motors, numbers)
        if found and self._guessed:
            self._motors, self._guessed = {}, False
        if not found and (not self._motors or self._guessed) and not self._knows_all():
            found = {name: name for name, key in numbers.items() if _looks_like_a_motor(key)}
            self._guessed = self._guessed or bool(found)
        self._motors |= dict(list(found.items())[: max(KEYS_MAX - len(self._motors), 0)])
        self._units |= units | {motor: units[key] for key, motor in self._motors.items() if key in units}
        self._show(self.raster)

    def columns(self, seq_nums: npt.NDArray[np.int64], data: Mapping[str, npt.NDArray[np.float64]]) -> None:
        """Add scalars (n,) by data key, of which some may be positions; repeated ones change nothing."""
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
        elif len(self._from_start.raster.shape) == 1:
            self._place_row(index)
        else:
            self._place_grid()

    def extend_to(self, seq_num: int) -> None:
        """Lengthen a row of unknown length to hold a point; it doubles, so that a point costs O(1)."""
        if self.raster.certain or seq_num <= self.raster.size:
            return
        longer = geometry_of(self._start, defaults=self._defaults, points=seq_num)
        if longer.raster.size <= self.raster.size:
            return
        self._from_start = longer
        if self.raster.path is not None:
            self._show(self._on_path(self.raster.path, self.raster.source, self.raster.note))
        else:
            self._show(longer.raster)
            self._fit_row()

    def end(self, points: int = 0) -> None:
        """Fit the geometry to all positions, after the run stopped.

        Args:
            points: number of points; a row of unknown length gets this length.
        """
        if not self.raster.certain and 0 < points < self.raster.size:
            self._cut(points)
        if self._settled or self.raster.path is not None:
            if self.raster.path is not None and not self._settled:
                self._choose_pair()
        elif len(self._from_start.raster.shape) == 1:
            self._place_row(self._known(), last=True)
        else:
            self._fit_grid()

    def _cut(self, points: int) -> None:
        """Set the length of a row of unknown length."""
        row = self._from_start.raster
        shortened = Raster.of_shape((points,), snake=False, source=row.source, note=row.note, certain=False)
        self._from_start = self._from_start._replace(raster=shortened)
        path = self.raster.path
        self._show(shortened if path is None else self._on_path(path, self.raster.source, self.raster.note))

    def _knows_all(self) -> bool:
        return self._settled or is_stationary(self._start)

    def _show(self, raster: Raster) -> None:
        """Replace the raster, with all known units, if anything differs."""
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
        """Put new points on the path; with more than two motors, check the choice of two at times."""
        if self._pair is None or (len(self._positions) > 2 and self._is_due()):
            self._choose_pair()
        if self._pair is not None and self.raster.path is not None:
            self._put(self.raster.path, self._pair, index)

    def _put(self, path: ScanPath, pair: tuple[str, str], index: npt.NDArray[np.int64]) -> None:
        x, y = (self._positions.get(key) for key in pair)
        if x is not None and y is not None:
            path.put(index + 1, x.at(index), y.at(index))

    def _choose_pair(self) -> None:
        """Choose the two motors of the path, and begin a new path if they changed."""
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
        """Return whether the axis of a row differs from the motor's positions at given points."""
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
        """Return the data keys, horizontal and vertical, of the two motors of the path; None while only one moves."""
        order = list(self._motors)
        moving = [key for key in order if key in self._positions]
        if self._guessed or len(order) != 2:
            moving = sorted(self._moving(), key=lambda key: -self._positions[key].extent)[:2]
            moving.sort(key=order.index)
        if len(moving) < 2:
            return None
        one, other = moving
        right = is_x(self._motors[one])
        if right != is_x(self._motors[other]):
            return (one, other) if right else (other, one)
        if self._guessed and self._positions[one].sweeps > self._positions[other].sweeps:
            return one, other
        return other, one

    def _moving(self) -> list[str]:
        """Return the data keys of moving motors, in order; jitter, compared to motors of the same unit, is no
        motion."""
        extents = {key: at.extent for key, at in self._positions.items() if at.extent > 0}
        units = {key: self._units.get(self._motors[key], "") for key in extents}
        farthest = {
            unit: max(extent for key, extent in extents.items() if units[key] == unit) for unit in units.values()
        }
        return [key for key in self._motors if key in extents and extents[key] > STILL * farthest[units[key]]]

    def _begin_path(self, pair: tuple[str, str], *, note: str = "") -> None:
        self._pair = pair
        x, y = (self._motors[key] for key in pair)
        known = self._from_start.raster.path
        lattice = known.lattice if known is not None and (known.x_name, known.y_name) == (x, y) else None
        path = ScanPath((x, self._units.get(x, "")), (y, self._units.get(y, "")), lattice=lattice)
        self._put(path, pair, self._known())
        source = self._from_start.raster.source if known is not None else f"positions of {y} and {x}"
        self._show(self._on_path(path, source, note or f"Drawn where {y} and {x} were when each point was taken."))

    def _on_path(self, path: ScanPath, source: str, note: str) -> Raster:
        known = self._from_start.raster
        return path_raster(path, known.size, source=source, note=note, certain=known.certain)

    def _known(self) -> npt.NDArray[np.int64]:
        """Return the indices (n,) up to the last known position."""
        return np.arange(max((at.size for at in self._positions.values()), default=0))

    def _is_due(self, share: int = 1) -> bool:
        """Return whether positions have grown by a factor ``1 + 1/share`` since this last returned True."""
        known = sum(at.count for at in self._positions.values())
        if known < self._due:
            return False
        self._due = known + max(known // share, 1)
        return True

    def _fit_row(self) -> None:
        """Set the axis of a row to the positions of the one moving motor."""
        extents = {key: at.extent for key, at in self._positions.items()}
        key = max(extents, key=lambda key: extents[key], default=None)
        if key is None or not extents[key] > 0:
            return
        size = self._from_start.raster.size
        coordinates = fill_gaps(self._positions[key].at(np.arange(size)))
        axis = self._axis(key, coordinates)
        before = self.raster.fast
        if axis is None or (before.known and np.array_equal(axis.coordinates, before.coordinates)):
            return
        motor = self._motors[key]
        note = "" if self.raster.certain else self._from_start.raster.note
        source = (
            self._from_start.raster.source
            if self._from_start.confidence >= GeometryConfidence.ORDER
            else f"positions of {motor}"
        )
        self._show(replace(self._from_start.raster, fast=axis, source=source, note=note))

    def _axis(self, key: str, coordinates: npt.NDArray[np.float64]) -> Axis | None:
        motor = self._motors[key]
        axis = Axis(motor, self._units.get(motor, ""), coordinates)
        return axis if axis.finite else None

    # grids

    def _place_grid(self) -> None:
        """Fit the grid whenever the direction of one more axis is known, and when the positions have doubled."""
        steps = _check_points(self._from_start.raster.shape)
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
        raster = self._from_start.raster
        columns = {key: self._positions[key].at(np.arange(raster.size)) for key in self._moving()}
        along = self._motors_of_axes(columns)
        if not along:
            return
        snaking = raster.snaking
        if self._from_start.confidence is GeometryConfidence.SHAPE:
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
        """Return the data key of each axis, by its number in the shape, as far as known."""
        shape = self._from_start.raster.shape
        by_motor = {motor: key for key, motor in self._motors.items()}
        if len(self._from_start.motors) == len(shape) and not self._guessed:
            named = {depth: by_motor.get(motor, "") for depth, motor in enumerate(self._from_start.motors)}
            return {depth: key for depth, key in named.items() if key in columns and shape[depth] > 1}
        return guess_axes(columns, shape)

    def _give_up_grid(self, along: Mapping[int, str]) -> None:
        """Draw points that do not lie on the grid at their positions, unless the documents define the grid."""
        if self._from_start.confidence is GeometryConfidence.ORDER:
            return
        pair = self._farthest()
        if pair is not None:
            shape = " x ".join(map(str, self._from_start.raster.shape))
            self._begin_path(pair, note=f"Positions do not lie on a grid of {shape}: each point is drawn at its own.")

    def _take_fits(
        self,
        snaking: tuple[bool, ...],
        fits: Mapping[int, tuple[str, npt.NDArray[np.float64], npt.NDArray[np.bool_]]],
    ) -> None:
        """Replace snaking and axes by better fitted ones."""
        initial, raster = self._from_start.raster, self.raster
        last = len(initial.shape) - 1
        axes = {0: raster.slow, last: raster.fast} if last == 1 else {last: raster.fast}
        found: dict[int, Axis] = {}
        for depth, (key, coordinates, seen) in fits.items():
            axis = self._axis(key, coordinates)
            if depth in axes and axis is not None and not _is_near(axes[depth], axis, seen):
                found[depth] = axis
        source = raster.source
        if self._from_start.confidence is GeometryConfidence.SHAPE and initial.rows > 1 and last in fits:
            source = f"{initial.source.split(';')[0]}; snaking from positions"
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
    """Return whether a data key is one number for each point."""
    shape, external = key.get("shape"), bool(key.get("external"))
    lone = shape in ([], ()) or (external and is_array(shape) and len(shape) == 1)
    return lone and (key.get("dtype") in ("number", "integer") or (external and key.get("dtype") == "array"))


def _looks_like_a_motor(key: Mapping[str, Any]) -> bool:
    """Return whether a data key has a unit of length or angle, or comes from a motor record."""
    unit, source = key.get("units"), key.get("source")
    if isinstance(source, str) and source.endswith(".RBV"):
        return True
    return isinstance(unit, str) and (unit in LENGTHS or unit.casefold() in ANGLES | WORDS)


def _motor_keys(motors: Sequence[str], keys: Collection[str]) -> dict[str, str]:
    """Return motors by the data key of their positions, in the order of the motors.

    >>> _motor_keys(["stage-y", "stage-x"], ["stage-x-readback", "stage-y", "stage-x-velocity"])
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


def _check_points(shape: Sequence[int]) -> list[int]:
    """Return the numbers of points after which the direction of one more axis is known: two rows, then each new sweep.

    >>> _check_points((2, 3, 4)), _check_points((1, 9)), _check_points((5, 1))
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
    """Return whether known coordinates are within a share of a step of the new ones, where measured."""
    if not before.known or len(before.coordinates) != len(after.coordinates):
        return False
    steps = np.abs(np.diff(after.coordinates[seen]))
    step = float(np.median(steps)) if len(steps) else 0.0
    return bool(np.all(np.abs(before.coordinates[seen] - after.coordinates[seen]) <= MOVED * step))
