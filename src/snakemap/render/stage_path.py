"""The path of the stage over the maps: the fewest corners, each with its seq_num.

Between two corners the stage moves evenly from point to point, so its position at a seq_num follows from the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.core.raster import Raster
from snakemap.core.scan_path import ScanPath
from snakemap.render.map_view import MapView, raster_of_view

__all__ = ["ARROWS", "VERTICES_MAX", "StagePath", "stage_path_of"]

VERTICES_MAX = 5_000
"""Maximum corners: more than a screen can resolve; a growing path is sent repeatedly."""
ARROWS = 16
GOLDEN = (np.sqrt(5) - 1) / 2
FARTHEST = 1e100
"""Positions beyond are invalid."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StagePath:
    """The path of the stage, in order.

    Attributes:
        xs: (n,) horizontal position of each corner in the image.
        ys: (n,) the vertical one.
        seq_nums: (n,) the point at each corner, rising.
        arrows: up to 16 positions spread along the path, each ``[x, y, dx, dy]`` with the direction.
    """

    xs: Floats
    ys: Floats
    seq_nums: npt.NDArray[np.int64]
    arrows: list[list[float]]


def stage_path_of(raster: Raster, view: MapView) -> StagePath | None:
    """Return the path of the stage in a view; of arriving positions the known part.

    Args:
        raster: of the maps.
        view: of the run.

    Returns:
        None if nothing is known of the path.

    Raises:
        GeometryError: the typed shape cannot be drawn.

    >>> path = stage_path_of(Raster.of_shape((2, 5), snake=True, source="shape"), MapView())
    >>> path.xs.tolist(), path.ys.tolist(), path.seq_nums.tolist()
    ([0.0, 4.0, 4.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1, 5, 6, 10])
    """
    laid = raster_of_view(raster, view)
    if laid.path is None and not laid.certain:
        return None
    points = raster.size if raster.certain else laid.size
    seq_nums, xs, ys = _of_path(laid.path) if laid.path is not None else _of_grid(laid, points)
    known = (np.abs(xs) <= FARTHEST) & (np.abs(ys) <= FARTHEST)
    seq_nums, xs, ys = seq_nums[known], xs[known], ys[known]
    if not len(seq_nums):
        return None
    if view.exchanged:
        xs, ys = ys, xs
    kept = _corners(seq_nums, xs, ys)
    seq_nums, xs, ys = seq_nums[kept], xs[kept], ys[kept]
    return StagePath(xs, ys, seq_nums, _arrows(xs, ys))


def _of_path(path: ScanPath) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    return np.arange(1, path.size + 1), path.xs[: path.size], path.ys[: path.size]


def _of_grid(raster: Raster, points: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return every point of a grid or, if its rows are even, the two ends of each."""
    size = min(points, raster.size)
    seq_nums = np.arange(1, size + 1)
    if len(_corners(np.arange(raster.columns), raster.fast.coordinates, np.zeros(raster.columns))) <= 2:
        begins = np.arange(1, size + 1, raster.columns)
        seq_nums = np.unique(np.concatenate([begins, np.minimum(begins + raster.columns - 1, size)]))
    rows, columns, _ = raster.pixel(seq_nums)
    return seq_nums, raster.fast.coordinates[columns], raster.slow.coordinates[rows]


def _corners(seq_nums: npt.NDArray[np.int64], xs: Floats, ys: Floats) -> npt.NDArray[np.int64]:
    """Return the points (n,) where the step from point to point changes."""
    if len(seq_nums) < 3:
        return np.arange(len(seq_nums))
    turns = np.zeros(len(seq_nums), dtype=bool)
    turns[[0, -1]] = True
    steps = np.diff(seq_nums)
    for at in (xs, ys):
        speed = np.diff(at) / steps
        turns[1:-1] |= np.abs(np.diff(speed)) > 32 * np.finfo(float).eps * np.abs(at).max()
    kept = np.flatnonzero(turns)
    if len(kept) > VERTICES_MAX:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, VERTICES_MAX).round().astype(np.int64))]
    return kept


def _arrows(xs: Floats, ys: Floats) -> list[list[float]]:
    """Return positions and directions, spread along the path as drawn with axes of equal length.

    Their distances follow the golden section: even distances would hit every other row of a snake, in one direction
        only.
    """
    dx, dy = np.diff(xs), np.diff(ys)
    lengths = np.hypot(dx / (np.ptp(xs) or 1.0), dy / (np.ptp(ys) or 1.0))
    moving = np.flatnonzero(lengths)
    if not len(moving):
        return []
    ends = np.cumsum(lengths[moving])
    number = min(ARROWS, len(moving))
    places = np.sort((np.arange(number) + 0.5) * GOLDEN % 1) * ends[-1]
    which = np.minimum(np.searchsorted(ends, places), len(moving) - 1)
    at = moving[which]
    share = 1 - (ends[which] - places) / lengths[at]
    return np.stack([xs[at] + share * dx[at], ys[at] + share * dy[at], dx[at], dy[at]], axis=1).tolist()
