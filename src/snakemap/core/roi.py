"""Sums over rectangles of detector frames, each pixel read once, at about the speed of memory.

The edges of all ROIs cut a frame into cells; every cell is summed once, and an ROI is the sum of its cells, however
ROIs overlap::

            x0      x1                  columns  0  x0  x1  w
      +-----+-------+-----+             rows     0  y0  y1  h
      |     |       |     |
    y0+-----+-------+-----+             cells (rows, columns) = (3, 3)
      |     |  red  |     |             red   = cells[1:2, 1:2].sum()
    y1+-----+-------+-----+             total = cells.sum()
      |     |       |     |
      +-----+-------+-----+
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.channels import REGIONS
from snakemap.core.compiled import call_compiled
from snakemap.errors import FrameError, RoiError

__all__ = ["Roi", "add_up", "default_rois", "fits", "shrink", "sum_colors", "sum_frames", "sums_dtype"]

CELL_WIDTH_MAX = 32_768
"""Pixels in one row of a cell, so that the sum of a row of 16-bit pixels fits into 32 bits."""

SUMMABLE = frozenset(np.dtype(code) for code in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"))
WIDEST = {"u": 2**64 - 1, "i": 2**63 - 1}
"""The largest sum in integers of 64 bits, by kind."""

CLOSE = 1 - 1e-9
"""Share of :data:`WIDEST` above which a float sum cannot show whether the integer fits."""

Sums = npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Roi:
    """A region of interest: a rectangle of detector pixels, half open like a Python slice.

    Attributes:
        name: of its channel, like ``"red"``.
        y0: first row, like ``610``.
        y1: the row after its last, like ``760``.
        x0: first column, like ``95``.
        x1: the column after its last, like ``245``.

    Raises:
        RoiError: if it holds no pixel or begins before the first one.
    """

    name: str
    y0: int
    y1: int
    x0: int
    x1: int

    def __post_init__(self) -> None:
        if not (0 <= self.y0 < self.y1 and 0 <= self.x0 < self.x1):
            raise RoiError(f"ROI {self.name} ({self.bounds}) holds no pixel: it needs 0 <= y0 < y1 and 0 <= x0 < x1")

    @property
    def bounds(self) -> str:
        """Its bounds as text, like ``rows 610 to 760, columns 95 to 245``."""
        return f"rows {self.y0} to {self.y1}, columns {self.x0} to {self.x1}"

    def check(self, frame_shape: tuple[int, int]) -> None:
        """Check that it lies within a frame.

        Args:
            frame_shape: rows and columns of the frame in detector pixels.

        Raises:
            RoiError: with the ROI, its bounds and the frame.
        """
        height, width = frame_shape
        if self.y1 > height or self.x1 > width:
            raise RoiError(
                f"ROI {self.name} ({self.bounds}) reaches beyond the frame, which has {height} rows and {width} columns"
            )


def default_rois(frame_shape: tuple[int, int]) -> tuple[Roi, ...]:
    """Return one band of rows for each default region, equally high; the last one includes the remaining rows.

    Raises:
        RoiError: if the frame has too few rows.

    >>> [(roi.name, roi.y0, roi.y1) for roi in default_rois((8, 5))]
    [('red', 0, 2), ('green', 2, 4), ('blue', 4, 8)]
    """
    height, width = frame_shape
    if height < len(REGIONS) or width < 1:
        bands = f"{len(REGIONS)} bands: define its ROIs"
        raise RoiError(f"a frame of {height} rows and {width} columns cannot be cut into {bands}")
    band = height // len(REGIONS)
    edges = [*(number * band for number in range(len(REGIONS))), height]
    return tuple(Roi(name, edges[number], edges[number + 1], 0, width) for number, name in enumerate(REGIONS))


def sums_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype of sums of frames of a dtype: uint64, int64 for signed integers, float64 for floats.

    Sums of frames of 64 bits per pixel that do not fit are float64; see :func:`fits`.

    Raises:
        FrameError: if such frames cannot be summed.

    >>> sums_dtype(">u2"), sums_dtype("i1"), sums_dtype("f4")
    (dtype('uint64'), dtype('int64'), dtype('float64'))
    """
    dtype = np.dtype(dtype)
    if dtype.newbyteorder("=") not in SUMMABLE:
        raise FrameError(f"frames of {dtype} cannot be summed: they need whole numbers of up to 64 bits, or floats")
    return np.dtype({"f": np.float64, "i": np.int64}.get(dtype.kind, np.uint64))


def sum_frames(frames: npt.NDArray[Any], rois: Sequence[Roi]) -> Sums:
    """Return the sums over every ROI of every frame, and over the whole frame.

    Fastest on frames in C order and native byte order; all others are copied, one at a time.

    Args:
        frames: (frames, rows, columns), bool, integer or float, of any byte order and strides.
        rois: rectangles, which may overlap.

    Returns:
        (frames, ROIs + 1): each ROI in their order, then the total; dtype by :func:`sums_dtype`, float64 if one of them
        does not fit into 64 bits. NaN pixels make their sums NaN.

    Raises:
        RoiError: if an ROI does not lie within the frame.
        FrameError: if that is no stack of frames, or of a dtype that cannot be summed.

    >>> frames = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    >>> sum_frames(frames, [Roi("red", 0, 1, 0, 4), Roi("dot", 2, 3, 3, 4)])
    array([[ 6, 11, 66]], dtype=uint64)
    >>> sum_frames(np.full((1, 1, 2), 2**63, np.uint64), [])
    array([[1.8446744e+19]])
    """
    dtype = sums_dtype(frames.dtype)
    if frames.ndim != 3:
        raise FrameError(f"a stack of frames has three dimensions; this has the shape {frames.shape}")
    if _may_overflow(frames):
        floats = sum_frames(frames.astype(np.float64), rois)
        if not fits(floats, dtype):
            return floats
    count, height, width = frames.shape
    cuts = _cuts(tuple(rois), (height, width))
    cells = _sum_cells(frames, cuts.rows, cuts.columns)
    sums = np.empty((count, len(rois) + 1), dtype)
    for number, (rows, columns) in enumerate(cuts.inside):
        sums[:, number] = cells[:, rows, columns].sum(axis=(1, 2))
    sums[:, -1] = cells.sum(axis=(1, 2))
    return sums


def fits(floats: npt.NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether float sums fit into integers of 64 bits.

    >>> fits(np.array([1e19]), np.dtype("u8")), fits(np.array([1e19]), np.dtype("i8"))
    (True, False)
    """
    return bool(np.abs(floats).max(initial=0.0) < CLOSE * WIDEST[dtype.kind])


def _may_overflow(frames: npt.NDArray[Any]) -> bool:
    """Return whether the largest pixel times the number of pixels exceeds 64 bits."""
    if frames.dtype.kind not in WIDEST or frames.dtype.itemsize < 8 or not frames.size:
        return False
    largest = max(int(frames.max()), -int(frames.min()))
    return largest * (frames.size // len(frames)) > WIDEST[frames.dtype.kind]


def sum_colors(frames: npt.NDArray[Any], rois: Sequence[Roi], *, last: bool) -> Sums:
    """Return the sums over every ROI of every frame and all colors, and over the whole frame.

    Args:
        frames: (frames, rows, columns, colors) if ``last``, else (frames, colors, rows, columns).
        rois: rectangles in pixels, which may overlap.
        last: whether the colors of a pixel are adjacent.

    Returns:
        (frames, ROIs + 1), as :func:`sum_frames`, with the same errors.

    >>> sum_colors(np.ones((1, 2, 2, 3), np.uint8), [Roi("dot", 0, 1, 1, 2)], last=True)
    array([[ 3, 12]], dtype=uint64)
    """
    if frames.ndim != 4:
        raise FrameError(f"a stack of color frames has four dimensions; this has the shape {frames.shape}")
    if last:
        # a row of pixels is a row of colors, three times as wide
        count, height, width, colors = frames.shape
        for roi in rois:
            roi.check((height, width))
        wide = [replace(roi, x0=roi.x0 * colors, x1=roi.x1 * colors) for roi in rois]
        return sum_frames(frames.reshape(count, height, width * colors), wide)
    count, colors, height, width = frames.shape
    sums = sum_frames(frames.reshape(count * colors, height, width), rois).reshape(count, colors, -1)
    return add_up(sums, np.zeros(int(colors), np.intp), axis=1)[:, 0]


def _edges(size: int, step: int) -> npt.NDArray[np.int64]:
    """Return the edges of bands of ``step`` pixels; the last band may be narrower."""
    return np.append(np.arange(0, size, step), size)


def add_up(sums: Sums, owners: npt.NDArray[np.intp], *, axis: int = 0) -> Sums:
    """Add up the sums of each owner; they become float64 if they do not fit into 64 bits.

    >>> add_up(np.array([[1], [2], [4]], np.uint64), np.array([0, 0, 1])).tolist()
    [[3], [4]]
    >>> add_up(np.full((2, 1), 2**63, np.uint64), np.array([0, 0])).tolist()
    [[1.8446744073709552e+19]]
    """
    along = np.moveaxis(sums, axis, 0)
    shape = (int(owners[-1]) + 1, *along.shape[1:])
    floats = np.zeros(shape, np.float64)
    np.add.at(floats, owners, along.astype(np.float64))
    if sums.dtype.kind in WIDEST and fits(floats, sums.dtype):
        whole = np.zeros(shape, sums.dtype)
        np.add.at(whole, owners, along)
        return np.moveaxis(whole, 0, axis)  # pyright: ignore[reportReturnType]
    return np.moveaxis(floats, 0, axis)


def shrink(frame: npt.NDArray[Any], *, longest: int = 512) -> npt.NDArray[Any]:
    """Return a smaller frame: each of its pixels is the mean of a square block.

    Args:
        frame: (rows, columns), or (rows, columns, colors), bool, integer or float.
        longest: maximum rows and columns of the result.

    Returns:
        (rows / k, columns / k), rounded up, with the same colors, in native byte order, with the smallest integer k
        that fits; the blocks at the far edges may be narrower. Same dtype, but float32 for float16; means of
        integers are rounded.

    Raises:
        FrameError: if that is no frame, or of a dtype that cannot be summed.

    >>> shrink(np.array([[1, 2, 7], [3, 4, 9]], dtype=np.uint8), longest=2)
    array([[3, 8]], dtype=uint8)
    """
    if frame.dtype.kind == "f" and frame.dtype.itemsize == 2:
        frame = frame.astype(np.float32)
    dtype = sums_dtype(frame.dtype)
    if frame.ndim == 3 and 0 not in frame.shape:
        colors = np.moveaxis(frame, -1, 0)
        return np.ascontiguousarray(np.stack([shrink(color, longest=longest) for color in colors], axis=-1))
    if frame.ndim != 2:
        raise FrameError(f"a frame has two dimensions, or three with its colors; this has the shape {frame.shape}")
    native = frame.dtype.newbyteorder("=")
    step = math.ceil(max(frame.shape) / longest)
    if step <= 1:
        return np.array(frame, dtype=native)
    height, width = frame.shape
    rows, columns = _edges(height, step), _edges(width, step)
    if _may_overflow(frame[np.newaxis]):
        ends = np.iinfo(native)
        means = shrink(frame.astype(np.float64), longest=longest)
        return np.clip(means, float(ends.min), np.nextafter(float(ends.max), 0.0)).astype(native)
    sums = _sum_cells(frame[np.newaxis], rows, columns)[0]
    pixels = np.outer(np.diff(rows), np.diff(columns))
    if dtype.kind == "f":
        return (sums / pixels).astype(native)
    pixels = pixels.astype(dtype)
    return ((sums + pixels // dtype.type(2)) // pixels).astype(native)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """The row and column edges of all ROIs, and the cells inside each of them."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    inside: tuple[tuple[slice, slice], ...]


@functools.lru_cache(maxsize=64)
def _cuts(rois: tuple[Roi, ...], frame_shape: tuple[int, int]) -> _Cuts:
    for roi in rois:
        roi.check(frame_shape)
    height, width = frame_shape
    rows = sorted({0, height, *(roi.y0 for roi in rois), *(roi.y1 for roi in rois)})
    columns = sorted({*range(0, width, CELL_WIDTH_MAX), 0, width, *(edge for roi in rois for edge in (roi.x0, roi.x1))})
    inside = tuple(
        (slice(rows.index(roi.y0), rows.index(roi.y1)), slice(columns.index(roi.x0), columns.index(roi.x1)))
        for roi in rois
    )
    return _Cuts(np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp), inside)


def _sum_cells(frames: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Return the sums (frames, rows - 1, columns - 1) of the cells between the edges."""
    if frames.dtype == np.bool_:
        frames = frames.view(np.uint8)
    if frames.dtype.kind == "f" and frames.dtype.itemsize == 2:
        frames = frames.astype(np.float32)  # no processor adds float16; float32 holds every value
    native = frames.dtype.newbyteorder("=")
    cells = np.zeros((len(frames), len(rows) - 1, len(columns) - 1), sums_dtype(native))
    if frames.flags.c_contiguous and frames.dtype == native:
        _add(frames, rows, columns, cells)
        return cells
    for number, frame in enumerate(frames):
        _add(np.ascontiguousarray(frame, dtype=native)[np.newaxis], rows, columns, cells[number : number + 1])
    return cells


def _add(
    frames: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], cells: npt.NDArray[Any]
) -> None:
    """Add with the code compiled for a dtype."""
    python, sums = _add_long, cells
    if frames.dtype.kind in "iu" and frames.dtype.itemsize <= 2:
        # two's complement: adding is the same for signed and unsigned sums
        python, sums = _add_short, cells.view(np.int64)
    call_compiled(python, frames, rows, columns, sums)


def _add_short(frames: Any, rows: Any, columns: Any, cells: Any) -> None:  # pragma: no cover - compiled
    """Add frames of 8 or 16 bits per pixel: the sum of one row of a cell fits into 32 bits, which is twice as fast."""
    for number in range(frames.shape[0]):
        for band in range(rows.size - 1):
            for row in range(rows[band], rows[band + 1]):
                line = frames[number, row]
                for cell in range(columns.size - 1):
                    pixels = line[columns[cell] : columns[cell + 1]]
                    subtotal = np.int32(0)
                    for column in range(pixels.size):
                        subtotal = np.int32(subtotal + np.int32(pixels[column]))
                    cells[number, band, cell] += subtotal


def _add_long(frames: Any, rows: Any, columns: Any, cells: Any) -> None:  # pragma: no cover - compiled
    """Add frames of 32 or 64 bits per pixel."""
    for number in range(frames.shape[0]):
        for band in range(rows.size - 1):
            for row in range(rows[band], rows[band + 1]):
                line = frames[number, row]
                for cell in range(columns.size - 1):
                    pixels = line[columns[cell] : columns[cell + 1]]
                    subtotal = cells[number, band, cell]
                    for column in range(pixels.size):
                        subtotal += pixels[column]
                    cells[number, band, cell] = subtotal
