"""What a start document says of the scan's shape, in the order in which it is trusted.

1. ``scanspec``: the spec itself, as JSON; or ``plan_args.spec``, where ``spec_scan`` leaves its Python repr.
2. ``shape`` with ``snaking`` and ``extents``: the grid scans of ``bluesky.plans``.
3. ``shape`` alone: its snaking is the instrument's habit, a setting.
4. the instrument's default grid, a setting.
5. ``num_points``, or nothing: one row, with a note that says so.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
from pydantic import ValidationError
from scanspec.core import Dimension, SnakedDimension
from scanspec.specs import (
    Concat,
    ConstantDuration,
    Ellipse,
    Fly,
    Linspace,
    Polygon,
    Product,
    Range,
    Snake,
    Spec,
    Spiral,
    Squash,
    Static,
    Zip,
)

from snakemap.errors import GeometryError
from snakemap.raster import AXES_MAX, CELLS_MAX, Axis, Raster

__all__ = ["Habits", "raster_of"]

ROW_MIN = 100
SPEC_DEPTH_MAX = 50
REPR_LENGTH_MAX = 10_000
EDGES_MAX = 1_000
SPEC_TYPES = {"Concat", "ConstantDuration", "Ellipse", "Fly", "Line", "Linspace", "Polygon", "Product"}
SPEC_TYPES |= {"Range", "Snake", "Spiral", "Squash", "Static", "Zip"}
UNKNOWN_NOTE = "This run does not tell its shape: its points are drawn as one row. SNAKEMAP_GRID sets one."
PATH_NOTE = "A path of one dimension: its points are drawn as one row."
UNORDERED_NOTE = "This run does not visit its grid row by row: its points are drawn as one row."


@dataclass(frozen=True, slots=True)
class Habits:
    """What holds at this instrument for runs that do not tell.

    Attributes:
        grid: rows, columns and whether it is snaked, like ``(7, 9, True)``; None when there is no such habit.
        snake: whether a shape that comes alone is taken as snaked.
    """

    grid: tuple[int, int, bool] | None = None
    snake: bool = True


def raster_of(start: Mapping[str, Any], *, habits: Habits, points: int = 0) -> Raster:
    """The raster of a run, from the most trusted source that says something usable.

    A source that contradicts itself is passed over, and the note on the raster says so.

    Args:
        start: the start document.
        habits: what to assume where it is silent.
        points: points seen so far, for a run of which nothing is known: its row is at least that long.

    >>> raster_of({"shape": [7, 9]}, habits=Habits()).described
    '7 x 9, snaked, from shape; snaking assumed'
    """
    troubles: list[str] = []
    for source in (_from_scanspec, _from_plan_args, _from_grid_scan, _from_shape, _from_habit):
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused by Raster
                raster = source(start, habits)
        except GeometryError as trouble:
            troubles.append(str(trouble))
            continue
        if raster is not None:
            return _noted(raster, troubles)
    return _noted(_one_row(start, points), troubles)


def _from_scanspec(start: Mapping[str, Any], habits: Habits) -> Raster | None:
    found = start.get("scanspec")
    if found is None:
        return None
    return _spec_raster(found, start, source="scanspec")


def _from_plan_args(start: Mapping[str, Any], habits: Habits) -> Raster | None:
    plan_args = start.get("plan_args")
    told = plan_args.get("spec") if isinstance(plan_args, Mapping) else None
    found = _parsed(told) if isinstance(told, str) and len(told) <= REPR_LENGTH_MAX else told
    return _spec_raster(found, start, source="plan_args.spec") if isinstance(found, Mapping) else None


def _spec_raster(found: Any, start: Mapping[str, Any], *, source: str) -> Raster:
    dimensions = _dimensions(found)
    # a dimension of one point in which nothing moves only says how long every point lasts
    dimensions = [dimension for dimension in dimensions if dimension.midpoints or len(dimension) != 1] or dimensions[:1]
    units = start.get("units")
    axes = [_axis(dimension, units if isinstance(units, Mapping) else {}) for dimension in dimensions]
    shape = tuple(len(dimension) for dimension in dimensions)
    if math.prod(shape) > CELLS_MAX:
        raise GeometryError(f"scanspec has more than {CELLS_MAX:,} points")
    return Raster(
        shape=shape,
        snaking=tuple(isinstance(dimension, SnakedDimension) for dimension in dimensions),
        slow=_outer(axes[:-1], shape[:-1]),
        fast=axes[-1],
        source=source,
        note="" if len(shape) > 1 else PATH_NOTE,
    )


def _from_grid_scan(start: Mapping[str, Any], habits: Habits) -> Raster | None:
    snaking = start.get("snaking")
    if not isinstance(snaking, Sequence) or isinstance(snaking, str):
        return None
    shape = _shape(start.get("shape"))
    if len(snaking) != len(shape) or not all(isinstance(flag, bool) for flag in snaking):
        raise GeometryError(f"snaking {_shown(snaking)} does not fit the shape {list(shape)}")
    return _grid(start, shape, snaking=(False, *snaking[1:]), source="shape and snaking")


def _from_shape(start: Mapping[str, Any], habits: Habits) -> Raster | None:
    if start.get("shape") is None:
        return None
    shape = _shape(start["shape"])
    hints = start.get("hints")
    if isinstance(hints, Mapping) and hints.get("gridding") == "rectilinear_nonsequential":
        return Raster.of_shape((math.prod(shape),), snake=False, source="shape", note=UNORDERED_NOTE)
    if len(shape) == 1:
        return _habitual(habits, shape[0]) or Raster.of_shape(shape, snake=False, source="shape", note=PATH_NOTE)
    told = start.get("snake_axes")  # the repr that bluesky's list_grid_scan writes
    if told in ("True", "False"):
        return _grid(start, shape, snaking=(False, *(told == "True" for _ in shape[1:])), source="shape and snake_axes")
    assumed = f"shape; {'snaking' if habits.snake else 'row by row'} assumed"
    return _grid(start, shape, snaking=(False, *(habits.snake for _ in shape[1:])), source=assumed)


def _from_habit(start: Mapping[str, Any], habits: Habits) -> Raster | None:
    if habits.grid is None:
        return None
    rows, columns, snake = habits.grid
    points = start.get("num_points")
    if _whole(points) and points > 0 and points != rows * columns:
        raise GeometryError(f"a run of {points} points, where SNAKEMAP_GRID says {rows} x {columns}")
    return Raster.of_shape((rows, columns), snake=snake, source="setting SNAKEMAP_GRID")


def _grid(start: Mapping[str, Any], shape: tuple[int, ...], *, snaking: tuple[bool, ...], source: str) -> Raster:
    """A grid of a shape that is told; its axes are indices where the extents cannot be used."""
    note = ""
    try:
        extents = _extents(start.get("extents"), len(shape))
    except GeometryError as trouble:
        extents, note = [None] * len(shape), f"Axes are indices: {trouble}."
    axes = [_extent_axis(*told) for told in zip(_names(start, len(shape)), shape, extents, strict=True)]
    return Raster(
        shape=shape, snaking=snaking, slow=_outer(axes[:-1], shape[:-1]), fast=axes[-1], source=source, note=note
    )


def _habitual(habits: Habits, points: int) -> Raster | None:
    """The instrument's grid, when a run that tells only its number of points fits it."""
    if habits.grid is None or habits.grid[0] * habits.grid[1] != points:
        return None
    return _from_habit({}, habits)


def _one_row(start: Mapping[str, Any], points: int) -> Raster:
    told = start.get("num_points")
    if _whole(told) and 0 < told <= CELLS_MAX:
        return Raster.of_shape((told,), snake=False, source="num_points", note=UNKNOWN_NOTE)
    # the row doubles as it fills, so that a point costs the same however many came before
    length = max(ROW_MIN, 1 << max(points - 1, 0).bit_length())
    return Raster.of_shape(
        (min(length, CELLS_MAX),), snake=False, source="the points seen", note=UNKNOWN_NOTE, certain=False
    )


def _noted(raster: Raster, troubles: Sequence[str]) -> Raster:
    if not troubles:
        return raster
    note = f"Not usable in the start document: {'; '.join(troubles)}. {raster.note}"
    return replace(raster, note=" ".join(note.split()))


def _dimensions(found: Any) -> list[Dimension[Any]]:
    if not isinstance(found, Mapping):
        raise GeometryError(f"scanspec is a {type(found).__name__}, not an object")
    modern = _modern(found)
    try:
        spec = Spec.deserialize(modern)
        _check_size(spec)
        return spec.calculate(bounds=False)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise GeometryError(f"scanspec cannot be read: {problem['msg'][:200]}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise GeometryError(f"scanspec cannot be read: {str(error)[:200] or type(error).__name__}") from error


def _parsed(text: str) -> Any:
    """The repr of a spec as JSON would have it, read as a syntax tree and never evaluated; None when it is no repr.

    >>> _parsed("Snake(spec=Linspace(axis=SimMotor(name='x'), start=-1.0, stop=1, num=5))")
    {'type': 'Snake', 'spec': {'type': 'Linspace', 'axis': 'x', 'start': -1.0, 'stop': 1, 'num': 5}}
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _plain(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _plain(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_plain(part) for part in parts]
        case ast.Call(func=ast.Name(id=kind), args=[], keywords=told) if kind in SPEC_TYPES:
            return {"type": kind, **{str(keyword.arg): _plain(keyword.value) for keyword in told}}
        case ast.Call(keywords=told):  # a device, which its name stands for
            names = [keyword.value for keyword in told if keyword.arg == "name"]
            if len(names) == 1 and isinstance(names[0], ast.Constant):
                return names[0].value
    raise ValueError(f"a {type(node).__name__} has no place in a spec")


def _modern(spec: Any, depth: int = 0) -> Any:
    """The spec with ``Line``, its name before scanspec 1.0, read as ``Linspace``."""
    if depth > SPEC_DEPTH_MAX:
        raise GeometryError(f"scanspec is nested more than {SPEC_DEPTH_MAX} deep")
    if isinstance(spec, Mapping):
        changed = {key: _modern(value, depth + 1) for key, value in spec.items()}
        return {**changed, "type": "Linspace"} if changed.get("type") == "Line" else changed
    return [_modern(part, depth + 1) for part in spec] if isinstance(spec, list) else spec


def _check_size(spec: Spec[Any]) -> None:
    """Refuses specs whose mere calculation would fill the memory or the day."""
    # a path that is squashed holds every point once for each of its axes
    if _points(spec) * max(len(spec.axes()), 1) > 8 * CELLS_MAX:
        raise GeometryError(f"scanspec moves {len(spec.axes())} axes over too many points")


def _points(spec: Spec[Any] | int) -> float:
    """Points of a spec, or a few more, found without calculating them."""
    points = _points_inside(spec)
    if not points <= CELLS_MAX:  # NaN is refused too
        raise GeometryError(f"scanspec asks for more than {CELLS_MAX:,} points")
    return points


def _points_inside(spec: Spec[Any] | int) -> float:
    match spec:
        case int():
            return spec
        case Linspace() | Static():
            return spec.num
        case Product():
            return _points(spec.outer) * _points(spec.inner)
        case Zip():
            return max(_points(spec.left), _points(spec.right))
        case Concat():
            return _points(spec.left) + _points(spec.right)
        case Snake() | Squash() | Fly() | ConstantDuration():
            return _points(spec.spec) if spec.spec is not None else 1
        case _:
            return _points_of_area(spec)


def _points_of_area(spec: Spec[Any]) -> float:
    """Points of the specs that tell steps, counting those of the rectangle around them."""
    match spec:
        case Range():
            return _steps(spec.stop - spec.start, spec.step)
        case Spiral():
            return _steps(spec.x_diameter, spec.x_step) * _steps(spec.y_diameter, spec.x_step)
        case Ellipse():
            return _steps(spec.x_diameter, spec.x_step) * _steps(spec.y_diameter, spec.y_step)
        case Polygon() if 0 < len(spec.vertices) <= EDGES_MAX:
            width, height = (max(side) - min(side) for side in zip(*spec.vertices, strict=True))
            return _steps(width, spec.x_step) * _steps(height, spec.y_step)
    raise GeometryError(f"scanspec is a {type(spec).__name__} that cannot be drawn")


def _steps(distance: float, step: float) -> float:
    return abs(distance / step) + 2


def _axis(dimension: Dimension[Any], units: Mapping[str, Any]) -> Axis:
    """The axis of a dimension; of several that move together, the one that goes farthest."""
    spans = {name: float(np.ptp(points)) for name, points in dimension.midpoints.items() if len(points)}
    if not spans:
        return Axis.of_indices("repeat", len(dimension))
    name = max(spans, key=lambda name: spans[name])
    unit = units.get(str(name))
    coordinates = np.asarray(dimension.midpoints[name], dtype=np.float64)
    return Axis(str(name), unit if isinstance(unit, str) else "", coordinates)


def _outer(axes: Sequence[Axis], shape: Sequence[int]) -> Axis:
    """One axis for the rows: the only one there is, or the index of the row where there are several or none."""
    return axes[0] if len(axes) == 1 else Axis.of_indices("row", math.prod(shape))


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= AXES_MAX:
        raise GeometryError(f"shape {_shown(value)} is not a list of 1 to {AXES_MAX} numbers")
    if not all(_whole(size) and size > 0 for size in value):
        raise GeometryError(f"shape {_shown(value)} is not a list of whole numbers from 1 on")
    if math.prod(value) > CELLS_MAX:
        raise GeometryError(f"shape {_shown(value)} has more than {CELLS_MAX:,} points")
    return tuple(value)


def _names(start: Mapping[str, Any], count: int) -> list[str | None]:
    """Motor names, slow to fast, from ``hints.dimensions``, else from ``motors``."""
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if isinstance(hints, Mapping) else None
    if isinstance(dimensions, list | tuple) and len(dimensions) == count:
        names = [_first_name(dimension) for dimension in dimensions]
        if all(names):
            return names
    motors = start.get("motors")
    if isinstance(motors, list | tuple) and len(motors) == count and all(isinstance(motor, str) for motor in motors):
        return list(motors)
    return [None] * count


def _first_name(dimension: Any) -> str | None:
    """The motor in ``[["stage-x"], "primary"]``."""
    fields = dimension[0] if isinstance(dimension, list | tuple) and dimension else None
    name = fields[0] if isinstance(fields, list | tuple) and fields else None
    return name if isinstance(name, str) else None


def _extents(value: Any, count: int) -> list[tuple[float, float] | None]:
    if value is None:
        return [None] * count
    try:
        extents = [(float(low), float(high)) for low, high in value]
    except (TypeError, ValueError, OverflowError) as error:
        raise GeometryError(f"extents {_shown(value)} are not pairs of numbers") from error
    if len(extents) != count or not np.all(np.isfinite(np.diff(extents))):
        raise GeometryError(f"extents {_shown(value)} do not fit a scan of {count} axes")
    return list(extents)


def _extent_axis(name: str | None, size: int, extent: tuple[float, float] | None) -> Axis:
    if extent is None:
        return Axis.of_indices(name or "index", size)
    return Axis(name or "index", "", np.linspace(*extent, size))


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value in a note: the beginning of it, since a note is one line."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
