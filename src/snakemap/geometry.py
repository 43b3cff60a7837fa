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
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
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
from snakemap.path import Lattice
from snakemap.path import Path as PointPath
from snakemap.raster import AXES_MAX, CELLS_MAX, Axis, Raster, unravel

__all__ = [
    "READBACK",
    "Geometry",
    "Habits",
    "Trust",
    "geometry_of",
    "is_x",
    "motors_of",
    "only_time_passes",
    "path_raster",
    "raster_of",
]

ROW_MIN = 100
SPEC_DEPTH_MAX = 50
REPR_LENGTH_MAX = 10_000
EDGES_MAX = 1_000
PLACE_MAX = 1e300
SPEC_TYPES = {"Concat", "ConstantDuration", "Ellipse", "Fly", "Line", "Linspace", "Polygon", "Product"}
SPEC_TYPES |= {"Range", "Snake", "Spiral", "Squash", "Static", "Zip"}
UNKNOWN_NOTE = (
    "This run does not tell its shape: its points are drawn as one row. Type a shape like 7x9 above the maps, "
    "or set SNAKEMAP_GRID for all runs that tell none."
)
PATH_NOTE = "A path of one dimension: its points are drawn as one row until their positions are known."
READBACK = re.compile(r"[-_:.]?(user[-_])?(readback|rbv|position)$", re.IGNORECASE)
RELATIVE_NOTE = "Axes are indices: extents are relative to where the stage stood."
UNORDERED_NOTE = "This run does not visit its grid row by row: its points are drawn as one row."


Region = Mapping[str, Any]
COMBINED = {
    "UnionOf": np.logical_or,
    "IntersectionOf": np.logical_and,
    "DifferenceOf": np.greater,
    "SymmetricDifferenceOf": np.logical_xor,
}


@dataclass(frozen=True, slots=True)
class Habits:
    """What holds at this instrument for runs that do not tell.

    Attributes:
        grid: rows, columns and whether it is snaked, like ``(7, 9, True)``; None when there is no such habit.
        snake: whether a shape that comes alone is taken as snaked.
    """

    grid: tuple[int, int, bool] | None = None
    snake: bool = True


class Trust(IntEnum):
    """How much of the geometry the documents have told, so that positions need not."""

    POINTS = 0
    """A mere row of points."""
    SHAPE = 1
    """A grid; the order in which it is visited is assumed."""
    ORDER = 2
    """A grid and its order; coordinates may have been told, though they may be relative."""
    PLACES = 3
    """Where every point lies."""


class Geometry(NamedTuple):
    """What a start document says.

    Attributes:
        raster: where the points lie.
        trust: how much of it was told.
        motors: names of all that moves, slow to fast, as far as they are told.
    """

    raster: Raster
    trust: Trust
    motors: tuple[str, ...]


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
    return geometry_of(start, habits=habits, points=points).raster


def geometry_of(start: Mapping[str, Any], *, habits: Habits, points: int = 0) -> Geometry:
    """Like :func:`raster_of`, with how much of it was told."""
    troubles: list[str] = []
    for source in (_from_scanspec, _from_plan_args, _from_unordered, _from_grid_scan, _from_shape, _from_habit):
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused by Raster
                found = source(start, habits)
        except GeometryError as trouble:
            troubles.append(str(trouble))
            continue
        if found is not None:
            return found._replace(raster=_noted(found.raster, troubles))
    return Geometry(_noted(_one_row(start, points), troubles), Trust.POINTS, motors_of(start))


def motors_of(start: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all that moves, slow to fast, from ``hints.dimensions`` and ``motors``; time is no motor.

    >>> motors_of({"hints": {"dimensions": [[["stage-x", "stage-y"], "primary"]]}, "motors": ["stage-x", "stage-z"]})
    ('stage-x', 'stage-y', 'stage-z')
    """
    found = [name for dimension in _told_dimensions(start) for name in _fields(dimension)]
    motors = start.get("motors")
    found += motors if isinstance(motors, list | tuple) else []
    names: dict[str, str] = {}
    for name in found:
        if isinstance(name, str) and name and name != "time":
            names.setdefault(READBACK.sub("", name), name)
    return tuple(names.values())[: 4 * AXES_MAX]


def only_time_passes(start: Mapping[str, Any]) -> bool:
    """Whether the start document says that nothing moves, as ``count`` does."""
    told = [name for dimension in _told_dimensions(start) for name in _fields(dimension)]
    return bool(told) and set(map(str, told)) == {"time"}


def _from_scanspec(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    found = start.get("scanspec")
    if found is None:
        return None
    return _spec_geometry(found, start, source="scanspec")


def _from_plan_args(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    plan_args = start.get("plan_args")
    told = plan_args.get("spec") if isinstance(plan_args, Mapping) else None
    found = _parsed(told) if isinstance(told, str) and len(told) <= REPR_LENGTH_MAX else told
    return _spec_geometry(found, start, source="plan_args.spec") if isinstance(found, Mapping) else None


def _spec_geometry(found: Any, start: Mapping[str, Any], *, source: str) -> Geometry:
    spec, dimensions, regions = _dimensions(found)
    # a dimension of one point in which nothing moves only says how long every point lasts
    dimensions = [dimension for dimension in dimensions if dimension.midpoints or len(dimension) != 1] or dimensions[:1]
    if math.prod(len(dimension) for dimension in dimensions) > CELLS_MAX:
        raise GeometryError(f"scanspec has more than {CELLS_MAX:,} points")
    told = start.get("units")
    units = {name: unit for name, unit in told.items() if isinstance(unit, str)} if isinstance(told, Mapping) else {}
    order = [str(axis) for axis in spec.axes()]
    if regions:
        raster = _masked_raster(dimensions, order, units, regions, source=source)
    else:
        raster = _path_raster(dimensions, order, units, source) or _grid_raster(dimensions, units, source)
    return Geometry(raster, Trust.PLACES, tuple(order))


def _grid_raster(dimensions: Sequence[Dimension[Any]], units: Mapping[str, str], source: str) -> Raster:
    axes = [_axis(dimension, units) for dimension in dimensions]
    shape = tuple(len(dimension) for dimension in dimensions)
    return Raster(
        shape=shape,
        snaking=tuple(isinstance(dimension, SnakedDimension) for dimension in dimensions),
        slow=_outer(axes[:-1], shape[:-1]),
        fast=axes[-1],
        source=source,
    )


def _path_raster(
    dimensions: Sequence[Dimension[Any]], order: Sequence[str], units: Mapping[str, str], source: str
) -> Raster | None:
    """One row of all points with the path they lie on, when some dimension is no axis of a grid; else None."""
    lone = len(dimensions) == 1
    crooked = [number for number, dimension in enumerate(dimensions) if _crooked(dimension, lone=lone)][:1]
    moving = [number for number, dimension in enumerate(dimensions) if _moving(dimension)]
    if not crooked and len(moving) > 1 and not dimensions[-1].midpoints:
        crooked = moving[-2:]  # every place of a grid is visited several times before the next
    if not crooked:
        return None
    shape = [len(dimension) for dimension in dimensions]
    snaking = [isinstance(dimension, SnakedDimension) for dimension in dimensions]
    indices = unravel(np.arange(1, math.prod(shape) + 1), shape, snaking=snaking)
    places = {axis: points[indices[n]] for n in crooked for axis, points in _moving(dimensions[n]).items()}
    return _planned(places, order, units, source=source)


def _masked_raster(
    dimensions: Sequence[Dimension[Any]],
    order: Sequence[str],
    units: Mapping[str, str],
    regions: Sequence[Region],
    *,
    source: str,
) -> Raster:
    """The points of a grid that lie in some regions, in its order: what ``Mask`` was before scanspec 1.0."""
    shape = [len(dimension) for dimension in dimensions]
    snaking = [isinstance(dimension, SnakedDimension) for dimension in dimensions]
    indices = unravel(np.arange(1, math.prod(shape) + 1), shape, snaking=snaking)
    places = {
        axis: np.asarray(points, dtype=np.float64)[index]
        for dimension, index in zip(dimensions, indices, strict=True)
        for axis, points in dimension.midpoints.items()
    }
    kept = np.ones(len(indices[0]), dtype=bool)
    for region in regions:
        kept &= inside(region, places)
    if not kept.any():
        raise GeometryError("scanspec has no points inside its mask")
    return _planned({axis: points[kept] for axis, points in places.items()}, order, units, source=source)


def _planned(
    places: Mapping[Any, npt.NDArray[np.float64]], order: Sequence[str], units: Mapping[str, str], *, source: str
) -> Raster:
    """One row of points (n,) with the path of the two axes that go farthest.

    The faster one is drawn to the right, unless only the other one is called x.
    """
    farthest = sorted(places, key=lambda axis: -float(np.ptp(places[axis])))[:2]
    if len(farthest) < 2:
        raise GeometryError("scanspec has a path of fewer than two axes")
    y, x = sorted(farthest, key=lambda axis: order.index(str(axis)) if str(axis) in order else -1)
    if is_x(str(y)) and not is_x(str(x)):
        x, y = y, x
    xs, ys = places[x], places[y]
    if not all(np.isfinite(np.ptp(positions)) for positions in (xs, ys)):
        raise GeometryError(f"coordinates of {x} or {y} that are not finite")
    names = [(str(axis), units.get(str(axis), "")) for axis in (x, y)]
    path = PointPath(names[0], names[1], positions=(xs, ys), lattice=Lattice.under(xs, ys))
    return path_raster(path, len(xs), source=source)


def path_raster(path: PointPath, points: int, *, source: str, note: str = "", certain: bool = True) -> Raster:
    """The one row of points that lie on a path."""
    return Raster(
        shape=(points,),
        snaking=(False,),
        slow=Axis.of_indices("row", 1),
        fast=Axis.of_indices("point", points),
        source=source,
        note=note,
        certain=certain,
        path=path,
    )


def _moving(dimension: Dimension[Any]) -> dict[Any, npt.NDArray[np.float64]]:
    """Positions (n,) of those axes of a dimension that are not always at the same place."""
    found = {axis: np.asarray(points, dtype=np.float64) for axis, points in dimension.midpoints.items()}
    return {axis: points for axis, points in found.items() if len(points) and np.ptp(points) != 0}


def _crooked(dimension: Dimension[Any], *, lone: bool) -> bool:
    """Whether a dimension is a path of two axes: inside other dimensions only when it is no line along an axis."""
    moving = _moving(dimension)
    if len(moving) < 2 or lone:
        return len(moving) >= 2
    steps = np.diff(max(moving.values(), key=lambda points: float(np.ptp(points))))
    return not (np.all(steps > 0) or np.all(steps < 0))


def _from_unordered(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    """A grid whose points come in an order of their own: only their positions tell where each lies."""
    hints = start.get("hints")
    if not isinstance(hints, Mapping) or hints.get("gridding") != "rectilinear_nonsequential":
        return None
    if start.get("shape") is None:
        return None
    shape, motors = _shape(start["shape"]), motors_of(start)
    raster = Raster.of_shape((math.prod(shape),), snake=False, source="shape", note=UNORDERED_NOTE)
    if len(shape) == 2 and len(motors) >= 2:
        # the slow axis is drawn upwards, unless it is the one that is called x
        up, right = (1, 0) if is_x(motors[0]) and not is_x(motors[1]) else (0, 1)
        lattice = _told_lattice(start, shape, up=up, right=right)
        path = PointPath((motors[right], ""), (motors[up], ""), lattice=lattice)
        raster = path_raster(path, math.prod(shape), source="shape; order from positions")
    return Geometry(raster, Trust.POINTS, motors)


def is_x(motor: str) -> bool:
    """Whether a motor is the horizontal one by its name.

    >>> [is_x(name) for name in ("stage-x", "SampleX", "x_user_readback", "stage-y")]
    [True, True, True, False]
    """
    return READBACK.sub("", motor).casefold().endswith("x")


def _told_lattice(start: Mapping[str, Any], shape: tuple[int, ...], *, up: int, right: int) -> Lattice | None:
    """The nodes that shape and extents tell; None for relative scans, whose extents say nothing of places."""
    try:
        extents = _extents(start.get("extents"), 2)
    except GeometryError:
        return None
    (x, columns), (y, rows) = ((extents[axis], shape[axis]) for axis in (right, up))
    if x is None or y is None or _is_relative(start):
        return None
    dx, dy = ((max(side) - min(side)) / max(n - 1, 1) for side, n in ((x, columns), (y, rows)))
    return Lattice(x0=min(x), dx=dx or 1.0, columns=columns, y0=min(y), dy=dy or 1.0, rows=rows)


def _is_relative(start: Mapping[str, Any]) -> bool:
    """Whether a plan tells distances from where the stage stood, as Bluesky's rel_grid_scan does."""
    return str(start.get("plan_name", "")).startswith("rel_")


def _from_grid_scan(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    snaking = start.get("snaking")
    if not isinstance(snaking, Sequence) or isinstance(snaking, str):
        return None
    shape = _shape(start.get("shape"))
    if len(snaking) != len(shape) or not all(isinstance(flag, bool) for flag in snaking):
        raise GeometryError(f"snaking {_shown(snaking)} does not fit the shape {list(shape)}")
    raster = _grid(start, shape, snaking=(False, *snaking[1:]), source="shape and snaking")
    return Geometry(raster, Trust.ORDER, motors_of(start))


def _from_shape(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    if start.get("shape") is None:
        return None
    shape, motors = _shape(start["shape"]), motors_of(start)
    if len(shape) == 1:
        row = Raster.of_shape(shape, snake=False, source="shape", note=PATH_NOTE)
        return _habitual(habits, shape[0], motors) or Geometry(row, Trust.POINTS, motors)
    flags = _snake_axes(start, shape)
    if flags is not None:
        raster = _grid(start, shape, snaking=flags, source="shape and snake_axes")
        return Geometry(raster, Trust.ORDER, motors)
    assumed = f"shape; {'snaking' if habits.snake else 'row by row'} assumed"
    raster = _grid(start, shape, snaking=(False, *(habits.snake for _ in shape[1:])), source=assumed)
    return Geometry(raster, Trust.SHAPE, motors)


def _snake_axes(start: Mapping[str, Any], shape: Sequence[int]) -> tuple[bool, ...] | None:
    """Which axes run back, as ``list_grid_scan`` of Bluesky writes it; None when that cannot be read.

    ``snake_axes`` is a bool, a list of motors in any order, or the repr of either. The slowest axis never runs back.

    >>> axes = {"motors": ["z", "y", "x"], "snake_axes": "[SimMotor(name='x')]"}
    >>> _snake_axes(axes, (2, 2, 3)), _snake_axes({**axes, "snake_axes": "True"}, (2, 2, 3))
    ((False, False, True), (False, True, True))
    """
    told, axes = start.get("snake_axes"), None
    if isinstance(told, str):
        if len(told) > REPR_LENGTH_MAX:
            return None
        axes = _in_pattern(told, start, len(shape))
        told = _listed(told)
    if axes is None and isinstance(told, bool):
        axes = list(range(len(shape))) if told else []
    if axes is None and isinstance(told, list | tuple):
        axes = [_axis_number(name, start, len(shape)) for name in told]
    if axes is None or None in axes:
        return None
    return tuple(number > 0 and number in axes for number in range(len(shape)))


def _in_pattern(told: str, start: Mapping[str, Any], count: int) -> list[int] | None:
    """Numbers of the axes whose reprs, as the arguments of the scan's pattern hold them, make up the repr of a list."""
    inner = re.fullmatch(r"(?:frozenset\()?[\[({](.*?),?[\])}]\)?", told.strip(), re.DOTALL)
    reprs = _pattern_args(start)[::2]
    if inner is None or len(reprs) != count or len(set(map(str, reprs))) != count:
        return None
    left, found = inner[1], list[int]()
    while left:
        fitting = [n for n, text in enumerate(reprs) if isinstance(text, str) and text and left.startswith(text)]
        if not fitting:
            return None
        number = max(fitting, key=lambda n: len(reprs[n]))
        found.append(number)
        left = left[len(reprs[number]) :].removeprefix(",").lstrip()
    return found


def _listed(told: str) -> Any:
    """A bool, or the names in a list, tuple or set of names or devices, from its repr; None when it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(told.strip(), mode="eval").body
        match node:
            case ast.Call(func=ast.Name(id="frozenset" | "set"), args=[ast.Set(elts=parts)]) | ast.Set(elts=parts):
                return [_plain(part) for part in parts]
            case ast.Call(func=ast.Name(id="frozenset" | "set"), args=[], keywords=[]):
                return []
        return _plain(node)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _axis_number(name: Any, start: Mapping[str, Any], count: int) -> int | None:
    """The axis that a motor moves, slow to fast, by its name or its repr; None when none has that name."""
    if not isinstance(name, str) or len(name) > REPR_LENGTH_MAX:
        return None
    if "(" in name:
        inside = _listed(name)
        name = inside if isinstance(inside, str) else name
    motors = start.get("motors")
    for names in (motors if isinstance(motors, list | tuple) and len(motors) == count else (), _names(start, count)):
        plain = [READBACK.sub("", axis) if isinstance(axis, str) else None for axis in names]
        for wanted, among in ((name, list(names)), (READBACK.sub("", name), plain)):
            if wanted in among:
                return among.index(wanted)
    return None


def _pattern_args(start: Mapping[str, Any]) -> Sequence[Any]:
    """Arguments of a scan's pattern: repr of motor, places, and so on."""
    found = start.get("plan_pattern_args")
    args = found.get("args") if isinstance(found, Mapping) else None
    return args if isinstance(args, list | tuple) else ()


def _told_lists(start: Mapping[str, Any], shape: Sequence[int]) -> list[npt.NDArray[np.float64]] | None:
    """Coordinates that a list_grid_scan leaves in the arguments of its pattern: repr of motor, places, and so on."""
    if start.get("plan_pattern") != "outer_list_product":
        return None
    lists = _pattern_args(start)[1::2]
    if [len(places) if isinstance(places, list | tuple) else -1 for places in lists] != list(shape):
        return None
    if not all(type(place) in (int, float) and abs(place) < PLACE_MAX for places in lists for place in places):
        return None
    return [np.array(places, dtype=np.float64) for places in lists]


def _from_habit(start: Mapping[str, Any], habits: Habits) -> Geometry | None:
    if habits.grid is None:
        return None
    rows, columns, snake = habits.grid
    points = start.get("num_points")
    if _whole(points) and points > 0 and points != rows * columns:
        raise GeometryError(f"a run of {points} points, where SNAKEMAP_GRID says {rows} x {columns}")
    raster = Raster.of_shape((rows, columns), snake=snake, source="setting SNAKEMAP_GRID")
    return Geometry(raster, Trust.SHAPE, motors_of(start))


def _grid(start: Mapping[str, Any], shape: tuple[int, ...], *, snaking: tuple[bool, ...], source: str) -> Raster:
    """A grid of a shape that is told; its axes are indices where the extents cannot be used."""
    note = ""
    try:
        extents = _extents(start.get("extents"), len(shape))
    except GeometryError as trouble:
        extents, note = [None] * len(shape), f"Axes are indices: {trouble}."
    lists = _told_lists(start, shape)
    axes = [_extent_axis(*told) for told in zip(_names(start, len(shape)), shape, extents, strict=True)]
    if lists is not None:
        axes = [replace(axis, coordinates=places, known=True) for axis, places in zip(axes, lists, strict=True)]
    if _is_relative(start) and any(axis.known for axis in axes):
        axes, note = [Axis.of_indices(axis.name, len(axis.coordinates)) for axis in axes], RELATIVE_NOTE
    return Raster(
        shape=shape, snaking=snaking, slow=_outer(axes[:-1], shape[:-1]), fast=axes[-1], source=source, note=note
    )


def _habitual(habits: Habits, points: int, motors: tuple[str, ...]) -> Geometry | None:
    """The instrument's grid, when a run that tells only its number of points fits it."""
    if habits.grid is None or habits.grid[0] * habits.grid[1] != points:
        return None
    found = _from_habit({}, habits)
    return found and found._replace(motors=motors)


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


@cache
def _reader() -> TypeAdapter[Spec[Any]]:
    """What ``Spec.deserialize`` makes anew for every spec, at a thousand times the price of reading one."""
    return TypeAdapter(Spec[Any])


def _dimensions(found: Any) -> tuple[Spec[Any], list[Dimension[Any]], list[Region]]:
    if not isinstance(found, Mapping):
        raise GeometryError(f"scanspec is a {type(found).__name__}, not an object")
    regions: list[Region] = []
    modern = _modern(_unmasked(found, regions))
    try:
        spec = _reader().validate_python(modern)
        _check_size(spec)
        return spec, spec.calculate(bounds=False), regions
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
    """The spec in the words of scanspec 1.0: ``Line``, ``Repeat`` and the older ``Spiral`` read as what they were."""
    if depth > SPEC_DEPTH_MAX:
        raise GeometryError(f"scanspec is nested more than {SPEC_DEPTH_MAX} deep")
    if isinstance(spec, Mapping):
        changed = {key: _modern(value, depth + 1) for key, value in spec.items()}
        match changed.get("type"):
            case "Line":
                return {**changed, "type": "Linspace"}
            case "Repeat" if changed.keys() <= {"type", "num", "gap"} and depth:
                return changed.get("num")
            case "Spiral" if "x_range" in changed:
                return _modern_spiral(changed)
        return changed
    return [_modern(part, depth + 1) for part in spec] if isinstance(spec, list) else spec


def _modern_spiral(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spiral that tells how many points it has, as one that tells their distance.

    scanspec 1.0 has ``int(area / step**2) + 1`` points, so that half a point more than wanted is safe from rounding.
    """
    try:
        x_range, y_range, num = (float(spec[name]) for name in ("x_range", "y_range", "num"))
    except (LookupError, TypeError, ValueError, OverflowError):
        x_range = y_range = num = math.nan
    if spec.get("rotate") or not (0 < num <= CELLS_MAX and 0 < x_range < PLACE_MAX and 0 < y_range < PLACE_MAX):
        raise GeometryError("scanspec is a Spiral of an older kind that cannot be drawn")
    return {
        "type": "Spiral",
        "x_axis": spec.get("x_axis"),
        "x_centre": spec.get("x_start"),
        "x_diameter": x_range,
        "x_step": math.sqrt(math.pi * x_range * y_range / 4 / (num - 0.5)),
        "y_axis": spec.get("y_axis"),
        "y_centre": spec.get("y_start"),
        "y_diameter": y_range,
    }


def _unmasked(spec: Any, regions: list[Region], depth: int = 0) -> Any:
    """The spec without the masks of scanspec before 1.0, whose regions are noted.

    A mask leaves points out and changes no order, wherever it stands in products of specs that do not run back.
    """
    if not isinstance(spec, Mapping) or depth > SPEC_DEPTH_MAX:
        return spec
    if spec.get("type") == "Mask" and isinstance(spec.get("region"), Mapping):
        regions.append(spec["region"])
        return _unmasked(spec.get("spec"), regions, depth + 1)
    inner = {"Product": ("outer", "inner"), "Fly": ("spec",), "ConstantDuration": ("spec",)}.get(str(spec.get("type")))
    changed = {key: _unmasked(spec[key], regions, depth + 1) for key in inner or () if key in spec}
    return {**spec, **changed}


def _check_size(spec: Spec[Any]) -> None:
    """Refuses specs whose mere calculation would fill the memory or the day."""
    # a path that is squashed holds every point once for each of its axes
    if _points(spec) * max(len(spec.axes()), 1) > 8 * CELLS_MAX:
        raise GeometryError(f"scanspec moves {len(spec.axes())} axes over too many points")


def inside(region: Region, places: Mapping[Any, npt.NDArray[np.float64]], depth: int = 0) -> npt.NDArray[np.bool_]:
    """Which places (n,) by axis lie in a region of scanspec before 1.0.

    Raises:
        GeometryError: when there is no such region, or it is of an axis that does not move.
    """
    if depth > SPEC_DEPTH_MAX:
        raise GeometryError(f"scanspec has a region nested more than {SPEC_DEPTH_MAX} deep")
    kind = str(region.get("type"))
    try:
        if kind in COMBINED:
            left, right = (inside(region[side], places, depth + 1) for side in ("left", "right"))
            return COMBINED[kind](left, right)
        if kind == "Range":
            at = places[region["axis"]]
            return (at >= float(region["min"])) & (at <= float(region["max"]))
        return _inside_area(kind, region, places[region["x_axis"]], places[region["y_axis"]])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise GeometryError(f"scanspec has a region that cannot be read: {_shown(dict(region))}") from error


def _inside_area(
    kind: str, region: Region, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    if kind == "Polygon" and 0 < len(region["x_verts"]) <= EDGES_MAX:
        return _inside_polygon(list(zip(region["x_verts"], region["y_verts"], strict=True)), xs, ys)
    corner = kind == "Rectangle"
    x0, y0 = (float(region[f"{axis}_{'min' if corner else 'middle'}"]) for axis in "xy")
    angle = math.radians(float(region.get("angle", 0.0)))
    across = (xs - x0) * math.cos(angle) + (ys - y0) * math.sin(angle)
    upwards = (ys - y0) * math.cos(angle) - (xs - x0) * math.sin(angle)
    if corner:
        width, height = (float(region[f"{axis}_max"]) - at for axis, at in (("x", x0), ("y", y0)))
        return (across >= 0) & (across <= width) & (upwards >= 0) & (upwards <= height)
    if kind == "Circle":
        return across**2 + upwards**2 <= float(region["radius"]) ** 2
    if kind == "Ellipse":
        return (across / float(region["x_radius"])) ** 2 + (upwards / float(region["y_radius"])) ** 2 <= 1
    raise ValueError(kind)


def _inside_polygon(
    corners: Sequence[tuple[float, float]], xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Places (n,) from which a ray to the right crosses the border an odd number of times."""
    found = np.zeros(len(xs), dtype=bool)
    for (x1, y1), (x2, y2) in zip([corners[-1], *corners], corners, strict=False):
        if y1 != y2:
            between = (ys < max(y1, y2)) & (ys >= min(y1, y2))
            found ^= between & (xs < x1 + (ys - y1) / (y2 - y1) * (x2 - x1))
    return found


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


def _axis(dimension: Dimension[Any], units: Mapping[str, str]) -> Axis:
    """The axis of a dimension; of several that move together, the one that goes farthest."""
    spans = {name: float(np.ptp(points)) for name, points in dimension.midpoints.items() if len(points)}
    if not spans:
        return Axis.of_indices("repeat", len(dimension))
    name = max(spans, key=lambda name: spans[name])
    coordinates = np.asarray(dimension.midpoints[name], dtype=np.float64)
    return Axis(str(name), units.get(str(name), ""), coordinates)


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
    dimensions = _told_dimensions(start)
    if len(dimensions) == count:
        names = [_first_name(dimension) for dimension in dimensions]
        if all(names):
            return names
    motors = start.get("motors")
    if isinstance(motors, list | tuple) and len(motors) == count and all(isinstance(motor, str) for motor in motors):
        return list(motors)
    return [None] * count


def _first_name(dimension: Any) -> str | None:
    """The motor in ``[["stage-x"], "primary"]``."""
    name = next(iter(_fields(dimension)), None)
    return name if isinstance(name, str) else None


def _told_dimensions(start: Mapping[str, Any]) -> Sequence[Any]:
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if isinstance(hints, Mapping) else None
    return dimensions if isinstance(dimensions, list | tuple) else ()


def _fields(dimension: Any) -> Sequence[Any]:
    """Those in ``[["stage-x"], "primary"]``."""
    fields = dimension[0] if isinstance(dimension, list | tuple) and dimension else None
    return fields if isinstance(fields, list | tuple) else ()


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
