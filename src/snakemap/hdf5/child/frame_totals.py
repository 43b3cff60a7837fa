"""Add up frames, pixel by pixel."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.errors import TooLarge
from snakemap.hdf5.child.frame_source import FrameSource
from snakemap.hdf5.frame_layout import FrameLayout
from snakemap.hdf5.protocol import TOTAL_PAYLOAD_MAX

__all__ = ["RunningTotal", "add_points", "totals_dtype"]

FRAMES_MAX = 65_536
"""Frames of 16 bits per pixel whose sum fits into 32 bits."""


def totals_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype in which frames of a dtype are added: one that holds the sum of :data:`FRAMES_MAX` frames.

    >>> totals_dtype("?"), totals_dtype(">u2"), totals_dtype("u4"), totals_dtype("i1")
    (dtype('uint32'), dtype('uint32'), dtype('uint64'), dtype('int64'))
    >>> totals_dtype("f4"), totals_dtype("u8")
    (dtype('float64'), dtype('float64'))
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" or dtype.itemsize == 8:
        return np.dtype(np.float64)
    if dtype.kind == "i":
        return np.dtype(np.int64)
    return np.dtype(np.uint32 if dtype.itemsize <= 2 else np.uint64)


class RunningTotal:
    """The sum of the frames of one request.

    Args:
        until: when to stop, by :func:`time.monotonic`.

    Attributes:
        points: number of points whose frames are added.
        rows: number of rows of datasets that are added.
        sums: of these rows, as the dataset has them; None before the first.
        layout: of a row; None before the first.
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self.points = self.rows = 0
        self.sums: npt.NDArray[Any] | None = None
        self.layout: FrameLayout | None = None

    @property
    def late(self) -> bool:
        """Whether the time is up, or the sums may not hold more."""
        return time.monotonic() > self.until or self.rows >= FRAMES_MAX

    def clear(self) -> None:
        """Forget all frames: their file was changed while they were read."""
        self.points = self.rows = 0
        self.sums = None

    def begin(self, shape: tuple[int, ...], dtype: np.dtype[Any], layout: FrameLayout) -> None:
        """Make room for rows of a shape.

        Raises:
            TooLarge: there are too many pixels.
        """
        self.layout = layout
        if self.sums is None:
            wanted = totals_dtype(dtype)
            room = int(np.prod(shape)) * wanted.itemsize
            if room > TOTAL_PAYLOAD_MAX:
                most = f"{TOTAL_PAYLOAD_MAX / 1e6:,.0f} MB"
                raise TooLarge(f"the sum of frames needs {room / 1e6:,.0f} MB, and at most {most} are sent")
            self.sums = np.zeros(shape, wanted)
        elif self.sums.shape != shape:
            raise TooLarge("the frames of one request have several shapes")

    def add(self, rows: npt.NDArray[Any], *, points: int) -> None:
        """Add rows (rows, ...) that are those of whole points, in their order."""
        if self.sums is not None:
            add_rows(self.sums, rows)
            self.rows += len(rows)
            self.points += points

    def frames(self) -> tuple[npt.NDArray[Any], int]:
        """Return the sum for display, (rows, columns) or (rows, columns, 3), and the number of frames in it."""
        sums, layout = self.sums, self.layout
        if sums is None or layout is None:
            return np.zeros((1, 1)), 0
        if layout.colors == "planes":
            return sums.sum(axis=0, dtype=sums.dtype if sums.dtype.kind == "f" else np.uint64), self.rows * len(sums)
        return (np.moveaxis(sums, 0, -1) if layout.colors == "first" else sums), self.rows


def add_rows(sums: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
    """Add rows to their sum, one after the other: sums of floats are those of numpy over the first axis."""
    for row in rows:
        np.add(sums, row, out=sums, casting="unsafe", dtype=sums.dtype)


def add_points(total: RunningTotal, source: FrameSource, *, points: range, rows_per_point: int) -> int:
    """Add the frames of points until the time is up, and return the number of these points; at least one is read.

    Args:
        total: to which they are added.
        source: of the frames.
        points: consecutive ones; point i owns the rows from ``i * rows_per_point`` on.
        rows_per_point: number of rows.

    Raises:
        FileBroken: HDF5 cannot read a frame; those of the points before it are added.
    """
    total.begin(source.dataset.shape[1:], source.dataset.dtype, source.layout)
    step = rows_per_point
    if step == 1:
        begin = points.start
        while begin < points.stop:
            end = source.stop(begin, points.stop)
            total.add(source.read(begin, end), points=end - begin)
            begin = end
            if total.late:
                break
        return begin - points.start
    for point in points:
        # a point whose last frame cannot be read is left out as a whole
        sums, begin = np.zeros_like(total.sums), point * step
        while begin < (point + 1) * step:
            end = source.stop(begin, (point + 1) * step)
            add_rows(sums, source.read(begin, end))
            begin = end
        total.add(sums[np.newaxis], points=1)
        total.rows += step - 1
        if total.late:
            return point + 1 - points.start
    return len(points)
