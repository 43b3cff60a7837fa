"""The geometry of a scan, its confidence, and the defaults of a beamline."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import ScanPath as PointPath

if TYPE_CHECKING:
    from scanspec.core import Dimension  # pyright: ignore[reportMissingTypeStubs]

__all__ = [
    "POSITION_MAX",
    "READBACK",
    "Geometry",
    "GeometryConfidence",
    "ScanDefaults",
    "is_x",
    "moving_axes",
    "outer_axis",
    "path_raster",
]

POSITION_MAX = 1e300


READBACK = re.compile(r"[-_:.]?(user[-_])?(readback|rbv|position)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScanDefaults:
    """The instrument's defaults for runs whose documents lack geometry.

    Attributes:
        grid: rows, columns and whether it is snaked, like ``(7, 9, True)``; None for no default.
        snake: whether a shape without snaking is snaked.
    """

    grid: tuple[int, int, bool] | None = None
    snake: bool = True


class GeometryConfidence(IntEnum):
    """How much of the geometry is known from the documents, without positions."""

    POINTS = 0
    """A mere row of points."""
    SHAPE = 1
    """A grid; the order in which it is visited is assumed."""
    ORDER = 2
    """A grid and its order; coordinates may be known, or relative."""
    POSITIONS = 3
    """The position of every point."""


class Geometry(NamedTuple):
    """The geometry in a start document.

    Attributes:
        raster: where the points lie.
        confidence: how much of it is known.
        motors: names of the moving axes, slow to fast, as far as known.
    """

    raster: Raster
    confidence: GeometryConfidence
    motors: tuple[str, ...]


def path_raster(path: PointPath, points: int, *, source: str, note: str = "", certain: bool = True) -> Raster:
    """Return the raster of points on a path: one row."""
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


def moving_axes(dimension: Dimension[Any]) -> dict[Any, npt.NDArray[np.float64]]:
    """Return the positions (n,) of those axes of a dimension that move."""
    found = {axis: np.asarray(points, dtype=np.float64) for axis, points in dimension.midpoints.items()}
    return {axis: points for axis, points in found.items() if len(points) and np.ptp(points) != 0}


def is_x(motor: str) -> bool:
    """Return whether a motor is the horizontal one by its name.

    >>> [is_x(name) for name in ("stage-x", "SampleX", "x_user_readback", "stage-y")]
    [True, True, True, False]
    """
    return READBACK.sub("", motor).casefold().endswith("x")


def outer_axis(axes: Sequence[Axis], shape: Sequence[int]) -> Axis:
    """Return the axis of the rows: the only one, or row indices if there are several or none."""
    return axes[0] if len(axes) == 1 else Axis.of_indices("row", math.prod(shape))
