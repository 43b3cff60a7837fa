"""The geometry of a scan from its start document, by confidence.

1. ``scanspec``: the spec as JSON; or ``plan_args.spec``, where ``spec_scan`` puts its Python repr.
2. ``shape`` with ``snaking`` and ``extents``: the grid scans of ``bluesky.plans``.
3. ``shape`` alone: its snaking is a setting.
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
    POSITION_MAX,
    READBACK,
    Geometry,
    GeometryConfidence,
    ScanDefaults,
    is_x,
    outer_axis,
    path_raster,
)
from snakemap.core.json_values import is_array, is_mapping, is_sequence
from snakemap.core.raster import AXES_MAX, CELLS_MAX, Axis, Raster
from snakemap.core.region_geometry import shortened
from snakemap.core.scan_path import Lattice
from snakemap.core.scan_path import ScanPath as PointPath
from snakemap.errors import GeometryError

__all__ = ["geometry_of", "is_stationary", "motors_of", "raster_of"]

ROW_MIN = 100


REPR_LENGTH_MAX = 10_000


SPEC_TYPES = {
    *("Concat", "ConstantDuration", "Ellipse", "Fly", "Line", "Linspace", "Polygon", "Product"),
    *("Range", "Snake", "Spiral", "Squash", "Static", "Zip"),
}


UNKNOWN_NOTE = "Shape unknown: enter rows x columns, like 7x9."


PATH_NOTE = "A path of one dimension: its points are drawn as one row until their positions are known."


RELATIVE_NOTE = "Axes are indices: extents are relative to the start position of the stage."


UNORDERED_NOTE = "This run does not visit its grid row by row: its points are drawn as one row."


def raster_of(start: Mapping[str, Any], *, defaults: ScanDefaults, points: int = 0) -> Raster:
    """Return the raster of a run from the first usable source.

    An invalid source is skipped, with a note on the raster.

    Args:
        start: the start document.
        defaults: values for what it leaves out.
        points: points so far; a run of unknown geometry gets a row at least that long.

    >>> raster_of({"shape": [7, 9]}, defaults=ScanDefaults()).described
    '7 x 9, snaked, from shape; snaking assumed'
    """
    return geometry_of(start, defaults=defaults, points=points).raster


def geometry_of(start: Mapping[str, Any], *, defaults: ScanDefaults, points: int = 0) -> Geometry:
    """Return the geometry of a run, like :func:`raster_of`."""
    problems: list[str] = []
    for source in (_from_scanspec, _from_plan_args, _from_unordered, _from_grid_scan, _from_shape, _from_default_grid):
        try:
            with np.errstate(all="ignore"):  # Raster refuses what is not finite
                found = source(start, defaults)
        except GeometryError as error:
            problems.append(str(error))
            continue
        if found is not None:
            return found._replace(raster=_noted(found.raster, problems))
    return Geometry(_noted(_one_row(start, points), problems), GeometryConfidence.POINTS, motors_of(start))


def motors_of(start: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the moving axes, slow to fast, from ``hints.dimensions`` and ``motors``, without time.

    >>> motors_of({"hints": {"dimensions": [[["stage-x", "stage-y"], "primary"]]}, "motors": ["stage-x", "stage-z"]})
    ('stage-x', 'stage-y', 'stage-z')
    """
    found = [name for dimension in _hinted_dimensions(start) for name in _fields(dimension)]
    motors = start.get("motors")
    found += motors if is_array(motors) else []
    names: dict[str, str] = {}
    for name in found:
        if isinstance(name, str) and name and name != "time":
            names.setdefault(READBACK.sub("", name), name)
    return tuple(names.values())[: 4 * AXES_MAX]


def is_stationary(start: Mapping[str, Any]) -> bool:
    """Return whether nothing moves according to the start document, as in ``count``."""
    names = [name for dimension in _hinted_dimensions(start) for name in _fields(dimension)]
    return bool(names) and set(map(str, names)) == {"time"}


def _from_scanspec(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    found = start.get("scanspec")
    return None if found is None else _spec_geometry(found, start, source="scanspec")


def _from_plan_args(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    plan_args = start.get("plan_args")
    spec = plan_args.get("spec") if is_mapping(plan_args) else None
    found = _parsed(spec) if isinstance(spec, str) and len(spec) <= REPR_LENGTH_MAX else spec
    return _spec_geometry(found, start, source="plan_args.spec") if is_mapping(found) else None


def _spec_geometry(found: Any, start: Mapping[str, Any], *, source: str) -> Geometry:
    # loaded with the first spec: scanspec builds the schemas of all its specs when it is imported, a tenth of a start
    from snakemap.core.scanspec_geometry import spec_geometry

    return spec_geometry(found, start, source=source)


def _from_unordered(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    """Return a grid whose points come in any order; their positions show where each lies."""
    hints = start.get("hints")
    if not is_mapping(hints) or hints.get("gridding") != "rectilinear_nonsequential":
        return None
    if start.get("shape") is None:
        return None
    shape, motors = _shape(start["shape"]), motors_of(start)
    raster = Raster.of_shape((math.prod(shape),), snake=False, source="shape", note=UNORDERED_NOTE)
    if len(shape) == 2 and len(motors) >= 2:
        # the slow axis is drawn upwards, unless only it is called x
        up, right = (1, 0) if is_x(motors[0]) and not is_x(motors[1]) else (0, 1)
        lattice = _lattice_of_extents(start, shape, up=up, right=right)
        path = PointPath((motors[right], ""), (motors[up], ""), lattice=lattice)
        raster = path_raster(path, math.prod(shape), source="shape; order from positions")
    return Geometry(raster, GeometryConfidence.POINTS, motors)


def _lattice_of_extents(start: Mapping[str, Any], shape: tuple[int, ...], *, up: int, right: int) -> Lattice | None:
    """Return the nodes from shape and extents; None for relative scans, whose extents are no positions."""
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
    """Return whether positions are relative to the start of the stage, as in Bluesky's rel_grid_scan."""
    return str(start.get("plan_name", "")).startswith("rel_")


def _from_grid_scan(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    snaking = start.get("snaking")
    if not is_sequence(snaking):
        return None
    shape = _shape(start.get("shape"))
    if len(snaking) != len(shape) or not all(isinstance(flag, bool) for flag in snaking):
        raise GeometryError(f"snaking {shortened(snaking)} does not fit the shape {list(shape)}")
    raster = _grid(start, shape, snaking=(False, *snaking[1:]), source="shape and snaking")
    return Geometry(raster, GeometryConfidence.ORDER, motors_of(start))


def _from_shape(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    if start.get("shape") is None:
        return None
    shape, motors = _shape(start["shape"]), motors_of(start)
    if len(shape) == 1:
        row = Raster.of_shape(shape, snake=False, source="shape", note=PATH_NOTE)
        return _matching_default_grid(defaults, shape[0], motors) or Geometry(row, GeometryConfidence.POINTS, motors)
    flags = _snake_axes(start, shape)
    if flags is not None:
        raster = _grid(start, shape, snaking=flags, source="shape and snake_axes")
        return Geometry(raster, GeometryConfidence.ORDER, motors)
    assumed = f"shape; {'snaking' if defaults.snake else 'row by row'} assumed"
    raster = _grid(start, shape, snaking=(False, *(defaults.snake for _ in shape[1:])), source=assumed)
    return Geometry(raster, GeometryConfidence.SHAPE, motors)


def _snake_axes(start: Mapping[str, Any], shape: Sequence[int]) -> tuple[bool, ...] | None:
    """Return which axes are snaked, from ``snake_axes`` of Bluesky's ``list_grid_scan``; None if it cannot be read.

    ``snake_axes`` is a bool, a list of motors in any order, or the repr of either. The slowest axis is never snaked.

    >>> axes = {"motors": ["z", "y", "x"], "snake_axes": "[SimMotor(name='x')]"}
    >>> _snake_axes(axes, (2, 2, 3)), _snake_axes({**axes, "snake_axes": "True"}, (2, 2, 3))
    ((False, False, True), (False, True, True))
    """
    flags, axes = start.get("snake_axes"), None
    if isinstance(flags, str):
        if len(flags) > REPR_LENGTH_MAX:
            return None
        axes = _in_pattern(flags, start, len(shape))
        flags = _listed(flags)
    if axes is None and isinstance(flags, bool):
        axes = list(range(len(shape))) if flags else []
    if axes is None and is_array(flags):
        axes = [_axis_number(name, start, len(shape)) for name in flags]
    if axes is None or None in axes:
        return None
    return tuple(number > 0 and number in axes for number in range(len(shape)))


def _in_pattern(text: str, start: Mapping[str, Any], count: int) -> list[int] | None:
    """Return the numbers of the axes whose reprs, from the pattern's arguments, make up the repr of a list."""
    inner = re.fullmatch(r"(?:frozenset\()?[\[({](.*?),?[\])}]\)?", text.strip(), re.DOTALL)
    reprs = _pattern_args(start)[::2]
    if inner is None or len(reprs) != count or len(set(map(str, reprs))) != count:
        return None
    left, found = inner[1], list[int]()
    while left:
        fitting = [n for n, one in enumerate(reprs) if isinstance(one, str) and one and left.startswith(one)]
        if not fitting:
            return None
        number = max(fitting, key=lambda n: len(reprs[n]))
        found.append(number)
        left = left[len(reprs[number]) :].removeprefix(",").lstrip()
    return found


def _listed(text: str) -> Any:
    """Parse the repr of a bool, or of a list, tuple or set of names or devices; None if it is neither."""
    try:
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(text.strip(), mode="eval").body
        match node:
            case ast.Call(func=ast.Name(id="frozenset" | "set"), args=[ast.Set(elts=parts)]) | ast.Set(elts=parts):
                return [_plain(part) for part in parts]
            case ast.Call(func=ast.Name(id="frozenset" | "set"), args=[], keywords=[]):
                return []
            case _:
                return _plain(node)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _axis_number(name: Any, start: Mapping[str, Any], count: int) -> int | None:
    """Return the number of a motor's axis, slow to fast, by its name or repr; None if there is none."""
    if not isinstance(name, str) or len(name) > REPR_LENGTH_MAX:
        return None
    if "(" in name:
        inside = _listed(name)
        name = inside if isinstance(inside, str) else name
    motors = start.get("motors")
    for names in (motors if is_array(motors) and len(motors) == count else (), _names(start, count)):
        plain = [READBACK.sub("", axis) if isinstance(axis, str) else None for axis in names]
        for wanted, among in ((name, list(names)), (READBACK.sub("", name), plain)):
            if wanted in among:
                return among.index(wanted)
    return None


def _pattern_args(start: Mapping[str, Any]) -> Sequence[Any]:
    """Return the arguments of a scan's pattern: repr of motor, positions, and so on."""
    found = start.get("plan_pattern_args")
    args = found.get("args") if is_mapping(found) else None
    return args if is_array(args) else ()


def _listed_coordinates(start: Mapping[str, Any], shape: Sequence[int]) -> list[npt.NDArray[np.float64]] | None:
    """Return the coordinates of each axis from the pattern arguments of a list_grid_scan; None if there are none."""
    if start.get("plan_pattern") != "outer_list_product":
        return None
    lists = _pattern_args(start)[1::2]
    if [len(positions) if is_array(positions) else -1 for positions in lists] != list(shape):
        return None
    if not all(
        type(position) in (int, float) and abs(position) < POSITION_MAX for positions in lists for position in positions
    ):
        return None
    return [np.array(positions, dtype=np.float64) for positions in lists]


def _from_default_grid(start: Mapping[str, Any], defaults: ScanDefaults) -> Geometry | None:
    if defaults.grid is None:
        return None
    rows, columns, snake = defaults.grid
    points = start.get("num_points")
    if _whole(points) and points > 0 and points != rows * columns:
        raise GeometryError(f"the run has {points} points, but SNAKEMAP_GRID is {rows} x {columns}")
    raster = Raster.of_shape((rows, columns), snake=snake, source="setting SNAKEMAP_GRID")
    return Geometry(raster, GeometryConfidence.SHAPE, motors_of(start))


def _grid(start: Mapping[str, Any], shape: tuple[int, ...], *, snaking: tuple[bool, ...], source: str) -> Raster:
    """Return a grid of known shape; its axes are indices if the extents are unusable."""
    note = ""
    try:
        extents = _extents(start.get("extents"), len(shape))
    except GeometryError as error:
        extents, note = [None] * len(shape), f"Axes are indices: {error}."
    lists = _listed_coordinates(start, shape)
    axes = [_extent_axis(*axis) for axis in zip(_names(start, len(shape)), shape, extents, strict=True)]
    if lists is not None:
        axes = [replace(axis, coordinates=positions, known=True) for axis, positions in zip(axes, lists, strict=True)]
    if _is_relative(start) and any(axis.known for axis in axes):
        axes, note = [Axis.of_indices(axis.name, len(axis.coordinates)) for axis in axes], RELATIVE_NOTE
    return Raster(
        shape=shape, snaking=snaking, slow=outer_axis(axes[:-1], shape[:-1]), fast=axes[-1], source=source, note=note
    )


def _matching_default_grid(defaults: ScanDefaults, points: int, motors: tuple[str, ...]) -> Geometry | None:
    """Return the instrument's default grid if it has the number of points of the run."""
    if defaults.grid is None or defaults.grid[0] * defaults.grid[1] != points:
        return None
    found = _from_default_grid({}, defaults)
    return found and found._replace(motors=motors)


def _one_row(start: Mapping[str, Any], points: int) -> Raster:
    size = start.get("num_points")
    if _whole(size) and 0 < size <= CELLS_MAX:
        return Raster.of_shape((size,), snake=False, source="num_points", note=UNKNOWN_NOTE)
    # the row doubles as it fills: a point costs O(1)
    length = max(ROW_MIN, 1 << max(points - 1, 0).bit_length())
    return Raster.of_shape(
        (min(length, CELLS_MAX),), snake=False, source="the points seen", note=UNKNOWN_NOTE, certain=False
    )


def _noted(raster: Raster, problems: Sequence[str]) -> Raster:
    if not problems:
        return raster
    note = f"Not usable in the start document: {'; '.join(problems)}. {raster.note}"
    return replace(raster, note=" ".join(note.split()))


def _parsed(text: str) -> Any:
    """Parse the repr of a spec into its JSON form by syntax tree, never evaluated; None if it is no repr.

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
        case ast.Call(func=ast.Name(id=kind), args=[], keywords=keywords) if kind in SPEC_TYPES:
            return {"type": kind, **{str(keyword.arg): _plain(keyword.value) for keyword in keywords}}
        case ast.Call(keywords=keywords):  # a device: its name
            names = [keyword.value for keyword in keywords if keyword.arg == "name"]
            if len(names) == 1 and isinstance(names[0], ast.Constant):
                return names[0].value
        case _:
            pass
    raise ValueError(f"a {type(node).__name__} has no place in a spec")


def _shape(value: Any) -> tuple[int, ...]:
    if not is_sequence(value) or not 1 <= len(value) <= AXES_MAX:
        raise GeometryError(f"shape {shortened(value)} is not a list of 1 to {AXES_MAX} numbers")
    if not all(_whole(size) and size > 0 for size in value):
        raise GeometryError(f"shape {shortened(value)} is not a list of whole numbers from 1 on")
    if math.prod(value) > CELLS_MAX:
        raise GeometryError(f"shape {shortened(value)} has more than {CELLS_MAX:,} points")
    return tuple(value)


def _names(start: Mapping[str, Any], count: int) -> list[str | None]:
    """Return motor names, slow to fast, from ``hints.dimensions``, else from ``motors``."""
    dimensions = _hinted_dimensions(start)
    if len(dimensions) == count:
        names = [_first_name(dimension) for dimension in dimensions]
        if all(names):
            return names
    motors = start.get("motors")
    if is_array(motors) and len(motors) == count and all(isinstance(motor, str) for motor in motors):
        return list(motors)
    return [None] * count


def _first_name(dimension: Any) -> str | None:
    """Return the motor in ``[["stage-x"], "primary"]``."""
    name = next(iter(_fields(dimension)), None)
    return name if isinstance(name, str) else None


def _hinted_dimensions(start: Mapping[str, Any]) -> Sequence[Any]:
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if is_mapping(hints) else None
    return dimensions if is_array(dimensions) else ()


def _fields(dimension: Any) -> Sequence[Any]:
    """Return the fields in ``[["stage-x"], "primary"]``."""
    fields = dimension[0] if is_array(dimension) and dimension else None
    return fields if is_array(fields) else ()


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
