"""Sum frames over ROIs, in portions of bounded size."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import hdf5plugin  # noqa: F401  registers bitshuffle, blosc and others with HDF5
import numpy as np
import numpy.typing as npt

from snakemap.core.roi import Roi, Sums, fits, sum_frames, sums_dtype
from snakemap.errors import FileBroken, FrameError
from snakemap.files.data_root import shown
from snakemap.hdf5.child.frame_source import PORTION_BYTES, FrameSource, without_gaps
from snakemap.hdf5.child.hdf_file import CHUNK_BYTES_MAX, HDF5_ERRORS, OpenDataset
from snakemap.hdf5.child.virtual_mapping import Gaps
from snakemap.hdf5.frame_layout import FrameLayout, layout_of, scalar_rows
from snakemap.hdf5.protocol import FrameRequest

__all__ = ["frame_layout_of", "grid_frames", "has_frames", "rows_per_point", "sum_grid", "sum_points", "sum_scalars"]


def frame_layout_of(found: OpenDataset, request: FrameRequest) -> FrameLayout:
    """Return the meaning of the dimensions of a dataset."""
    expected = request["frame_shape"]
    try:
        return layout_of(
            found.dataset.shape,
            frames_per_point=request["frames_per_point"],
            point_shape=request.get("point_shape", ()),
            frame_shape=(expected[0], expected[1]) if expected else None,
        )
    except FrameError as error:
        raise FrameError(f"{found} is {error}") from error


def has_frames(found: OpenDataset, request: FrameRequest) -> bool:
    """Return whether a dataset holds frames."""
    return len(found.dataset.shape) in (3, 4) and bool(request["frame_shape"])


def rows_per_point(found: OpenDataset, request: FrameRequest) -> int:
    """Return the rows per point of a dataset of frames or numbers."""
    if has_frames(found, request):
        return frame_layout_of(found, request).rows_per_point
    return scalar_rows(
        found.dataset.shape,
        frames_per_point=request["frames_per_point"],
        point_shape=request.get("point_shape", ()),
    )


def sum_points(
    source: FrameSource, rois: list[Roi], *, points: range, frames_per_point: int, until: float
) -> tuple[Sums, npt.NDArray[Any]]:
    """Return the sums (points, ROIs + 1) of points, and the frame read last.

    Args:
        source: of the frames.
        rois: in the frame.
        points: consecutive ones; point i owns the frames from ``i * frames_per_point`` on.
        frames_per_point: number of frames.
        until: when to stop at the end of a point, by :func:`time.monotonic`; at least one point is read.
    """
    first, stop = points.start * frames_per_point, points.stop * frames_per_point
    dtype = sums_dtype(source.dataset.dtype)
    sums, floats = np.zeros((len(points), len(rois) + 1), dtype), np.zeros((len(points), len(rois) + 1))
    wide, rounded = dtype.kind != "f" and source.dataset.dtype.itemsize == 8, False
    begin = first
    while True:
        end = source.stop(begin, stop)
        frames = source.read(begin, end)
        owners = np.arange(begin - first, end - first) // frames_per_point
        summed = source.sum(frames, rois)
        rounded = rounded or (wide and summed.dtype.kind == "f")
        if wide:
            np.add.at(floats, owners, summed.astype(np.float64))
        if not rounded:
            np.add.at(sums, owners, summed)
        done = (end - first) // frames_per_point
        if end == stop or (done and time.monotonic() > until):
            fitting = not rounded and (not wide or fits(floats, dtype))
            return (sums if fitting else floats)[:done], frames[-1]
        begin = end


def sum_grid(
    found: OpenDataset, rois: list[Roi], *, points: range, until: float, gaps: Gaps | None = None
) -> tuple[Sums, npt.NDArray[Any]]:
    """Return the sums (points, ROIs + 1) of points in rows and columns of a dataset, and the frame read last.

    Args:
        found: dataset (rows, columns, height, width) whose rows are required already.
        rois: in the frame.
        points: consecutive ones, row by row.
        until: when to stop, by :func:`time.monotonic`; at least one portion is read.
        gaps: pixels of a frame that no source has.
    """
    parts: list[Sums] = []
    frames = np.empty(0)
    for frames in grid_frames(found, points=points, gaps=gaps):
        parts.append(sum_frames(frames, rois))
        if time.monotonic() > until:
            break
    sums: Sums = np.concatenate(parts)  # pyright: ignore[reportAssignmentType]
    return sums, frames[-1]


def grid_frames(found: OpenDataset, *, points: range, gaps: Gaps | None = None) -> Iterator[npt.NDArray[Any]]:
    """Yield the frames (frames, height, width) of points in rows and columns of a dataset, in portions.

    Args:
        found: dataset (rows, columns, height, width) whose rows are required already.
        points: consecutive ones, row by row.
        gaps: pixels of a frame that no source has.

    Raises:
        FrameError: a frame is too large.
        FileBroken: HDF5 cannot read one.
    """
    dataset, columns = found.dataset, found.dataset.shape[1]
    frame_bytes = math.prod(dataset.shape[2:]) * dataset.dtype.itemsize
    if frame_bytes > CHUNK_BYTES_MAX:
        raise FrameError(f"{found} has frames of {frame_bytes / 1e6:,.0f} MB, too large to read")
    # a chunk with several points is unpacked once
    portion = max(1, PORTION_BYTES // frame_bytes, (dataset.chunks or (1, 1))[1])
    number = points.start
    while number < points.stop:
        row, column = divmod(number, columns)
        end = min(points.stop - number, columns - column, portion)
        try:
            frames = without_gaps(np.asarray(dataset[row, column : column + end]), gaps)
        except HDF5_ERRORS as error:
            found.file.forget_handle()
            place = f"row {row + 1:,}, column {column + 1:,}"
            raise FileBroken(f"{found}: frames from {place} on cannot be read: {shown(error)}") from error
        yield frames
        number += end


def sum_scalars(found: OpenDataset, *, points: range, rows_per_point: int) -> npt.NDArray[np.float64]:
    """Return the values (points,) of points, each the sum of its rows; NaN if one of them is NaN.

    Raises:
        FileBroken: HDF5 cannot read them.
    """
    dataset = found.dataset
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    portion = max(1, PORTION_BYTES // (row_bytes * rows_per_point))
    values = np.empty(len(points), np.float64)
    for start in range(points.start, points.stop, portion):
        stop = min(start + portion, points.stop)
        try:
            rows = dataset[start * rows_per_point : stop * rows_per_point]
        except HDF5_ERRORS as error:
            found.file.forget_handle()
            values_read = f"its values from point {start + 1:,} on"
            raise FileBroken(f"{found}: {values_read} cannot be read: {shown(error)}") from error
        summed = rows.reshape(stop - start, -1).astype(np.float64).sum(axis=1)
        values[start - points.start : stop - points.start] = summed
    return values
