"""Paths of scans as scanspecs: a grid, a spiral, or a masked grid."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from scanspec.specs import Spec

__all__ = ["FAST", "SLOW", "PathKind", "Route", "points_of", "spec_of"]

PathKind: TypeAlias = Literal["grid", "spiral", "ellipse"]
Route: TypeAlias = tuple[PathKind, tuple[int, int], tuple[float, float], tuple[float, float], bool]
"""Parameters of a path: its kind, shape, slow and fast step in mm, slow and fast start in mm, whether it is snaked."""

SLOW, FAST = "stage-y", "stage-x"


def spec_of(route: Route, *, axes: tuple[Any, Any] = (SLOW, FAST)) -> Spec[Any]:
    """Return the path as a scanspec; spirals and ellipses fill the rectangle of the shape.

    Args:
        route: parameters of the path.
        axes: moving axes, slow first: names, or devices.

    >>> spec_of(("spiral", (5, 5), (0.5, 0.5), (0.0, 0.0), True)).serialize()["x_diameter"]
    2.0
    >>> from scanspec.core import Path
    >>> path = Path(spec_of(("ellipse", (5, 5), (0.5, 0.5), (1.0, -2.0), True)).calculate()).consume()
    >>> path.midpoints["stage-x"].tolist()
    [-1.0, -0.5, -1.0, -1.5, -2.0, -1.5, -1.0, -0.5, 0.0, -0.5, -1.0, -1.5, -1.0]
    """
    from scanspec.specs import Ellipse, Linspace, Product, Snake, Spiral  # its import takes a tenth of a start

    way, shape, (slow_step, step), (y, x), snake = route
    slow, fast = axes
    height, width = (shape[0] - 1) * slow_step, (shape[1] - 1) * step
    if way == "spiral":
        return Spiral(fast, x + width / 2, width, step, slow, y + height / 2, height)
    if way == "ellipse":
        return Ellipse(fast, x + width / 2, width, step, slow, y + height / 2, height, step, snake=snake)
    rows = Linspace(slow, y, y + slow_step * (shape[0] - 1), shape[0])
    row = Linspace(fast, x, x + step * (shape[1] - 1), shape[1])
    return Product(rows, Snake(row) if snake else row)


@lru_cache(maxsize=16)
def points_of(route: Route) -> int:
    """Return the number of points of a path.

    >>> points_of(("grid", (4, 5), (0.05, 0.05), (0.0, 0.0), True))
    20
    """
    way, shape, *_ = route
    if way == "grid":
        return shape[0] * shape[1]
    from scanspec.core import Path

    return len(Path(spec_of(route).calculate()))
