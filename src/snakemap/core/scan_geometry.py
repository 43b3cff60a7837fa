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
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from snakemap.core.geometry import (
    PLACE_MAX,
    READBACK,
    Geometry,
    GeometryConfidence,
    ScanDefaults,
    is_x,
    outer_axis,
    path_raster,
)
from snakemap.core.raster import AXES_MAX, CELLS_MAX, Axis, Raster
from snakemap.core.region_geometry import shortened
from snakemap.core.scan_path import Lattice
from snakemap.core.scan_path import ScanPath as PointPath
from snakemap.core.scanspec_geometry import spec_geometry
from snakemap.errors import GeometryError

__all__ = ["geometry_of", "motors_of", "only_time_passes", "raster_of"]

ROW_MIN = 100


REPR_LENGTH_MAX = 10_000


SPEC_TYPES = {"Concat", "ConstantDuration", "Ellipse", "Fly", "Line", "Linspace", "Polygon", "Product"}


SPEC_TYPES |= {"Range", "Snake", "Spiral", "Squash", "Static", "Zip"}


UNKNOWN_NOTE = "Shape unknown: enter rows x columns, like 7x9."


PATH_NOTE = "A path of one dimension: its points are drawn as one row until their positions are known."


RELATIVE_NOTE = "Axes are indices: extents are relative to the start position of the stage."


UNORDERED_NOTE = "This run does not visit its grid row by row: its points are drawn as one row."


def raster_of(start: Mapping[str, Any], *, habits: ScanDefaults, points: int = 0) -> Raster:
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


def geometry_of(start: Mapping[str, Any], *, habits: ScanDefaults, points: int = 0) -> Geometry:
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
    return Geometry(_noted(_one_row(start, points), troubles), GeometryConfidence.POINTS, motors_of(start))


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


def _from_scanspec(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
    found = start.get("scanspec")
    if found is None:
        return None
    return spec_geometry(found, start, source="scanspec")


def _from_plan_args(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
    plan_args = start.get("plan_args")
    told = plan_args.get("spec") if isinstance(plan_args, Mapping) else None
    found = _parsed(told) if isinstance(told, str) and len(told) <= REPR_LENGTH_MAX else told
    return spec_geometry(found, start, source="plan_args.spec") if isinstance(found, Mapping) else None


def _from_unordered(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
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
    return Geometry(raster, GeometryConfidence.POINTS, motors)


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


def _from_grid_scan(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
    snaking = start.get("snaking")
    if not isinstance(snaking, Sequence) or isinstance(snaking, str):
        return None
    shape = _shape(start.get("shape"))
    if len(snaking) != len(shape) or not all(isinstance(flag, bool) for flag in snaking):
        raise GeometryError(f"snaking {shortened(snaking)} does not fit the shape {list(shape)}")
    raster = _grid(start, shape, snaking=(False, *snaking[1:]), source="shape and snaking")
    return Geometry(raster, GeometryConfidence.ORDER, motors_of(start))


def _from_shape(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
    if start.get("shape") is None:
        return None
    shape, motors = _shape(start["shape"]), motors_of(start)
    if len(shape) == 1:
        row = Raster.of_shape(shape, snake=False, source="shape", note=PATH_NOTE)
        return _habitual(habits, shape[0], motors) or Geometry(row, GeometryConfidence.POINTS, motors)
    flags = _snake_axes(start, shape)
    if flags is not None:
        raster = _grid(start, shape, snaking=flags, source="shape and snake_axes")
        return Geometry(raster, GeometryConfidence.ORDER, motors)
    assumed = f"shape; {'snaking' if habits.snake else 'row by row'} assumed"
    raster = _grid(start, shape, snaking=(False, *(habits.snake for _ in shape[1:])), source=assumed)
    return Geometry(raster, GeometryConfidence.SHAPE, motors)


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


def _from_habit(start: Mapping[str, Any], habits: ScanDefaults) -> Geometry | None:
    if habits.grid is None:
        return None
    rows, columns, snake = habits.grid
    points = start.get("num_points")
    if _whole(points) and points > 0 and points != rows * columns:
        raise GeometryError(f"the run has {points} points, but SNAKEMAP_GRID is {rows} x {columns}")
    raster = Raster.of_shape((rows, columns), snake=snake, source="setting SNAKEMAP_GRID")
    return Geometry(raster, GeometryConfidence.SHAPE, motors_of(start))


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
        shape=shape, snaking=snaking, slow=outer_axis(axes[:-1], shape[:-1]), fast=axes[-1], source=source, note=note
    )


def _habitual(habits: ScanDefaults, points: int, motors: tuple[str, ...]) -> Geometry | None:
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


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= AXES_MAX:
        raise GeometryError(f"shape {shortened(value)} is not a list of 1 to {AXES_MAX} numbers")
    if not all(_whole(size) and size > 0 for size in value):
        raise GeometryError(f"shape {shortened(value)} is not a list of whole numbers from 1 on")
    if math.prod(value) > CELLS_MAX:
        raise GeometryError(f"shape {shortened(value)} has more than {CELLS_MAX:,} points")
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
        raise GeometryError(f"extents {shortened(value)} are not pairs of numbers") from error
    if len(extents) != count or not np.all(np.isfinite(np.diff(extents))):
        raise GeometryError(f"extents {shortened(value)} do not fit a scan of {count} axes")
    return list(extents)


def _extent_axis(name: str | None, size: int, extent: tuple[float, float] | None) -> Axis:
    if extent is None:
        return Axis.of_indices(name or "index", size)
    return Axis(name or "index", "", np.linspace(*extent, size))


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
