"""Geometry from a scanspec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

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

from snakemap.core.geometry import PLACE_MAX, Geometry, GeometryConfidence, is_x, moving_axes, outer_axis, path_raster
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
    return Geometry(raster, GeometryConfidence.PLACES, tuple(order))


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
    """One row of all points with the path they lie on, when some dimension is no axis of a grid; else None."""
    lone = len(dimensions) == 1
    crooked = [number for number, dimension in enumerate(dimensions) if _crooked(dimension, lone=lone)][:1]
    moving = [number for number, dimension in enumerate(dimensions) if moving_axes(dimension)]
    if not crooked and len(moving) > 1 and not dimensions[-1].midpoints:
        crooked = moving[-2:]  # every place of a grid is visited several times before the next
    if not crooked:
        return None
    shape = [len(dimension) for dimension in dimensions]
    snaking = [isinstance(dimension, SnakedDimension) for dimension in dimensions]
    indices = unravel(np.arange(1, math.prod(shape) + 1), shape, snaking=snaking)
    places = {axis: points[indices[n]] for n in crooked for axis, points in moving_axes(dimensions[n]).items()}
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


def _crooked(dimension: Dimension[Any], *, lone: bool) -> bool:
    """Whether a dimension is a path of two axes: inside other dimensions only when it is no line along an axis."""
    moving = moving_axes(dimension)
    if len(moving) < 2 or lone:
        return len(moving) >= 2
    steps = np.diff(max(moving.values(), key=lambda points: float(np.ptp(points))))
    return not (np.all(steps > 0) or np.all(steps < 0))


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
