"""Geometry from a scanspec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from scanspec.core import Dimension, SnakedDimension  # pyright: ignore[reportMissingTypeStubs]
from scanspec.specs import (  # pyright: ignore[reportMissingTypeStubs]
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

from snakemap.core.geometry import (
    POSITION_MAX,
    Geometry,
    GeometryConfidence,
    is_x,
    moving_axes,
    outer_axis,
    path_raster,
)
from snakemap.core.json_values import is_list, is_mapping
from snakemap.core.raster import CELLS_MAX, Axis, Raster, unravel
from snakemap.core.region_geometry import EDGES_MAX, SPEC_DEPTH_MAX, Region, inside
from snakemap.core.scan_path import Lattice
from snakemap.core.scan_path import ScanPath as PointPath
from snakemap.errors import GeometryError

__all__ = ["spec_geometry"]


def spec_geometry(found: Any, start: Mapping[str, Any], *, source: str) -> Geometry:
    """Return the geometry of a scanspec.

    Args:
        found: the spec, as an object of JSON or a representation.
        start: the start document.
        source: where the spec was found, for notes.
    """
    spec, dimensions, regions = _dimensions(found)
    # a dimension of one point in which nothing moves only sets the duration of points
    dimensions = [dimension for dimension in dimensions if dimension.midpoints or len(dimension) != 1] or dimensions[:1]
    if math.prod(len(dimension) for dimension in dimensions) > CELLS_MAX:
        raise GeometryError(f"scanspec has more than {CELLS_MAX:,} points")
    named = start.get("units")
    units = {name: unit for name, unit in named.items() if isinstance(unit, str)} if is_mapping(named) else {}
    order = [str(axis) for axis in spec.axes()]
    if regions:
        raster = _masked_raster(dimensions, order, units, regions, source=source)
    else:
        raster = _path_raster(dimensions, order, units, source) or _grid_raster(dimensions, units, source)
    return Geometry(raster, GeometryConfidence.POSITIONS, tuple(order))


def _grid_raster(dimensions: Sequence[Dimension[Any]], units: Mapping[str, str], source: str) -> Raster:
    axes = [_axis(dimension, units) for dimension in dimensions]
    shape = tuple(len(dimension) for dimension in dimensions)
    return Raster(
        shape=shape,
        snaking=tuple(isinstance(dimension, SnakedDimension) for dimension in dimensions),
        slow=outer_axis(axes[:-1], shape[:-1]),
        fast=axes[-1],
        source=source,
    )


def _path_raster(
    dimensions: Sequence[Dimension[Any]], order: Sequence[str], units: Mapping[str, str], source: str
) -> Raster | None:
    """Return one row of all points with their path if some dimension is no axis of a grid; else None."""
    lone = len(dimensions) == 1
    curved = [number for number, dimension in enumerate(dimensions) if _is_curved(dimension, lone=lone)][:1]
    moving = [number for number, dimension in enumerate(dimensions) if moving_axes(dimension)]
    if not curved and len(moving) > 1 and not dimensions[-1].midpoints:
        curved = moving[-2:]  # every cell of a grid is visited several times before the next
    if not curved:
        return None
    shape = [len(dimension) for dimension in dimensions]
    snaking = [isinstance(dimension, SnakedDimension) for dimension in dimensions]
    indices = unravel(np.arange(1, math.prod(shape) + 1), shape, snaking=snaking)
    positions = {axis: points[indices[n]] for n in curved for axis, points in moving_axes(dimensions[n]).items()}
    return _planned(positions, order, units, source=source)


def _masked_raster(
    dimensions: Sequence[Dimension[Any]],
    order: Sequence[str],
    units: Mapping[str, str],
    regions: Sequence[Region],
    *,
    source: str,
) -> Raster:
    """Return the points of a grid inside all regions, in grid order: the ``Mask`` of scanspec before 1.0."""
    shape = [len(dimension) for dimension in dimensions]
    snaking = [isinstance(dimension, SnakedDimension) for dimension in dimensions]
    indices = unravel(np.arange(1, math.prod(shape) + 1), shape, snaking=snaking)
    positions = {
        axis: np.asarray(points, dtype=np.float64)[index]
        for dimension, index in zip(dimensions, indices, strict=True)
        for axis, points in dimension.midpoints.items()
    }
    kept = np.ones(len(indices[0]), dtype=bool)
    for region in regions:
        kept &= inside(region, positions)
    if not kept.any():
        raise GeometryError("scanspec has no points inside its mask")
    return _planned({axis: points[kept] for axis, points in positions.items()}, order, units, source=source)


def _planned(
    positions: Mapping[Any, npt.NDArray[np.float64]], order: Sequence[str], units: Mapping[str, str], *, source: str
) -> Raster:
    """Return one row of points (n,) with the path of the two axes with the largest extent.

    The faster one is horizontal, unless only the other one is called x.
    """
    farthest = sorted(positions, key=lambda axis: -float(np.ptp(positions[axis])))[:2]
    if len(farthest) < 2:
        raise GeometryError("scanspec has a path of fewer than two axes")
    y, x = sorted(farthest, key=lambda axis: order.index(str(axis)) if str(axis) in order else -1)
    if is_x(str(y)) and not is_x(str(x)):
        x, y = y, x
    xs, ys = positions[x], positions[y]
    if not all(np.isfinite(np.ptp(coordinates)) for coordinates in (xs, ys)):
        raise GeometryError(f"coordinates of {x} or {y} that are not finite")
    names = [(str(axis), units.get(str(axis), "")) for axis in (x, y)]
    path = PointPath(names[0], names[1], positions=(xs, ys), lattice=Lattice.under(xs, ys))
    return path_raster(path, len(xs), source=source)


def _is_curved(dimension: Dimension[Any], *, lone: bool) -> bool:
    """Return whether a dimension is a path of two axes; inside other dimensions only if it is no line along an axis."""
    moving = moving_axes(dimension)
    if len(moving) < 2 or lone:
        return len(moving) >= 2
    steps = np.diff(max(moving.values(), key=lambda points: float(np.ptp(points))))
    return not (np.all(steps > 0) or np.all(steps < 0))


@cache
def _reader() -> TypeAdapter[Spec[Any]]:
    """Return the adapter, cached: ``Spec.deserialize`` builds it for every spec, which costs 1000 times a
    validation."""
    return TypeAdapter(Spec[Any])


def _dimensions(found: Any) -> tuple[Spec[Any], list[Dimension[Any]], list[Region]]:
    if not is_mapping(found):
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


def _modern(spec: Any, depth: int = 0) -> Any:
    """Return the spec in the form of scanspec 1.0: ``Line``, ``Repeat`` and the older ``Spiral`` are translated."""
    if depth > SPEC_DEPTH_MAX:
        raise GeometryError(f"scanspec is nested more than {SPEC_DEPTH_MAX} deep")
    if is_mapping(spec):
        changed = {key: _modern(value, depth + 1) for key, value in spec.items()}
        match changed.get("type"):
            case "Line":
                return {**changed, "type": "Linspace"}
            case "Repeat" if changed.keys() <= {"type", "num", "gap"} and depth:
                return changed.get("num")
            case "Spiral" if "x_range" in changed:
                return _modern_spiral(changed)
            case _:
                return changed
    return [_modern(part, depth + 1) for part in spec] if is_list(spec) else spec


def _modern_spiral(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a spiral with a number of points into one with their distance.

    scanspec 1.0 has ``int(area / step**2) + 1`` points; half a point more than wanted is safe from rounding.
    """
    try:
        x_range, y_range, num = (float(spec[name]) for name in ("x_range", "y_range", "num"))
    except (LookupError, TypeError, ValueError, OverflowError):
        x_range = y_range = num = math.nan
    if spec.get("rotate") or not (0 < num <= CELLS_MAX and 0 < x_range < POSITION_MAX and 0 < y_range < POSITION_MAX):
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
    """Return the spec without the masks of scanspec before 1.0, and append their regions to ``regions``.

    A mask leaves points out and changes no order, at any level in products of specs that are not snaked.
    """
    if not is_mapping(spec) or depth > SPEC_DEPTH_MAX:
        return spec
    if spec.get("type") == "Mask" and is_mapping(spec.get("region")):
        regions.append(spec["region"])
        return _unmasked(spec.get("spec"), regions, depth + 1)
    inner = {"Product": ("outer", "inner"), "Fly": ("spec",), "ConstantDuration": ("spec",)}.get(str(spec.get("type")))
    changed = {key: _unmasked(spec[key], regions, depth + 1) for key in inner or () if key in spec}
    return {**spec, **changed}


def _check_size(spec: Spec[Any]) -> None:
    """Refuse specs whose calculation takes too much memory or time."""
    # a squashed path holds every point once for each of its axes
    if _points(spec) * max(len(spec.axes()), 1) > 8 * CELLS_MAX:
        raise GeometryError(f"scanspec moves {len(spec.axes())} axes over too many points")


def _points(spec: Spec[Any] | int) -> float:
    """Return an upper bound for the points of a spec without calculating them."""
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
    """Return an upper bound for the points of specs with steps: those of the rectangle around them."""
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
        case _:
            raise GeometryError(f"scanspec is a {type(spec).__name__} that cannot be drawn")


def _steps(distance: float, step: float) -> float:
    return abs(distance / step) + 2


def _axis(dimension: Dimension[Any], units: Mapping[str, str]) -> Axis:
    """Return the axis of a dimension; of several that move together, the one with the largest extent."""
    spans = {name: float(np.ptp(points)) for name, points in dimension.midpoints.items() if len(points)}
    if not spans:
        return Axis.of_indices("repeat", len(dimension))
    name = max(spans, key=lambda name: spans[name])
    coordinates = np.asarray(dimension.midpoints[name], dtype=np.float64)
    return Axis(str(name), units.get(str(name), ""), coordinates)
