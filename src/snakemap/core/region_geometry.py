"""Which points of a grid lie inside a region of a scanspec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.errors import GeometryError

__all__ = ["EDGES_MAX", "SPEC_DEPTH_MAX", "Region", "inside", "shortened"]

SPEC_DEPTH_MAX = 50


EDGES_MAX = 1_000


Region = Mapping[str, Any]


COMBINED = {
    "UnionOf": np.logical_or,
    "IntersectionOf": np.logical_and,
    "DifferenceOf": np.greater,
    "SymmetricDifferenceOf": np.logical_xor,
}


def inside(region: Region, positions: Mapping[Any, npt.NDArray[np.float64]], depth: int = 0) -> npt.NDArray[np.bool_]:
    """Return which positions (n,) by axis lie in a region of scanspec before 1.0.

    Raises:
        GeometryError: if the kind of region is unknown, or one of its axes does not move.
    """
    if depth > SPEC_DEPTH_MAX:
        raise GeometryError(f"scanspec has a region nested more than {SPEC_DEPTH_MAX} deep")
    kind = str(region.get("type"))
    try:
        if kind in COMBINED:
            left, right = (inside(region[side], positions, depth + 1) for side in ("left", "right"))
            return COMBINED[kind](left, right)
        if kind == "Range":
            at = positions[region["axis"]]
            return (at >= float(region["min"])) & (at <= float(region["max"]))
        return _inside_area(kind, region, positions[region["x_axis"]], positions[region["y_axis"]])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise GeometryError(f"scanspec has a region that cannot be read: {shortened(dict(region))}") from error


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
    """Return which points (n,) are inside: a ray to the right crosses the border an odd number of times."""
    found = np.zeros(len(xs), dtype=bool)
    for (x1, y1), (x2, y2) in zip([corners[-1], *corners], corners, strict=False):
        if y1 != y2:
            between = (ys < max(y1, y2)) & (ys >= min(y1, y2))
            found ^= between & (xs < x1 + (ys - y1) / (y2 - y1) * (x2 - x1))
    return found


def shortened(value: Any) -> str:
    """Return the beginning of the representation of a value."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
