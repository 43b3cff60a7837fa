"""Sums of blocks of 16 x 16 pixels of detector frames, from which the sum over any rectangle is had at once.

Blocks at the far edges may be smaller. For frames of whole numbers, the sums of a column of blocks are added up from
the top, so that a rectangle costs four rows of blocks, however high it is::

    blocks      1  2  3      kept     1  2  3      rows 1 and 2 of the blocks = 12 14 16
                4  5  6               5  7  9                                 -  1  2  3
                7  8  9              12 15 18                                 = 11 13 15   (7+4, 8+5, 9+6)

Kept like this, whole numbers stay exact. Floats are kept as they are, because one NaN would spread to all blocks below.

A rectangle that cuts through blocks gets its share of their area: the same as if the counts were spread evenly over
each block. Over whole blocks of whole numbers the sum is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.compiled import call_compiled
from snakemap.core.roi import Roi, sums_dtype

__all__ = ["BLOCK", "BLOCK_DTYPES", "BlockFormat", "add_points", "block_sums", "box_sums"]

BLOCK = 16
"""Rows and columns of a block, in pixels."""

BLOCK_DTYPES = frozenset(("<u4", "<i4", "<u8", "<i8", "<f8"))


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How the block sums of the frames of a camera are kept.

    Attributes:
        frame_shape: rows and columns of a frame in pixels, like ``(1216, 1936)``.
        dtype: of the sums, like ``<u4``; one of :data:`BLOCK_DTYPES`.
    """

    frame_shape: tuple[int, int]
    dtype: str

    @classmethod
    def of(cls, frame_shape: tuple[int, int], dtype: npt.DTypeLike, *, frames: int = 1) -> BlockFormat:
        """Return the format for frames of a dtype.

        Whole numbers of up to 32 bits are exact: in 32 bits if the largest possible sum fits, else in 64. Others are
        float64: floats, and whole numbers of 64 bits, which are rounded beyond 2**53.

        Args:
            frame_shape: rows and columns.
            dtype: of the pixels.
            frames: number of frames, or colors, that are summed for a point.

        Raises:
            FrameError: if such frames cannot be summed.

        >>> [BlockFormat.of((1216, 1936), dtype).dtype for dtype in ("?", "u1", "u2", "i2", "u4", "i4", "u8", "f4")]
        ['<u4', '<u4', '<u4', '<i4', '<u8', '<i8', '<f8', '<f8']
        >>> BlockFormat.of((5000, 10), "u2").dtype, BlockFormat.of((1216, 1936), "u2", frames=4).dtype
        ('<u8', '<u8')
        """
        sums_dtype(dtype)
        kind, bits = np.dtype(dtype).kind, 8 * np.dtype(dtype).itemsize
        if kind == "f" or bits > 32:
            return cls(frame_shape, "<f8")
        largest = (1 << bits) * BLOCK * frame_shape[0] * frames
        return cls(frame_shape, f"<{'i' if kind == 'i' else 'u'}{4 if largest <= 1 << 32 else 8}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks.

        >>> BlockFormat((1216, 1936), "<u4").shape, BlockFormat((17, 5), "<u4").shape
        ((76, 121), (2, 1))
        """
        height, width = self.frame_shape
        return -(-height // BLOCK), -(-width // BLOCK)

    @property
    def size_bytes(self) -> int:
        """Bytes of the sums of one point."""
        rows, columns = self.shape
        return rows * columns * np.dtype(self.dtype).itemsize

    @property
    def cumulative(self) -> bool:
        """Whether sums are added up from the top."""
        return self.dtype != "<f8"

    def is_exact(self, roi: Roi) -> bool:
        """Return whether the sum over a rectangle is exact: it has whole blocks of whole numbers.

        >>> format = BlockFormat((40, 40), "<u4")
        >>> [format.is_exact(Roi("a", *bounds)) for bounds in ((0, 16, 32, 40), (0, 15, 0, 16))]
        [True, False]
        """
        height, width = self.frame_shape
        edges = ((roi.y0, height), (roi.y1, height), (roi.x0, width), (roi.x1, width))
        return self.cumulative and all(edge % BLOCK == 0 or edge == size for edge, size in edges)

    def blocks(self, kept: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sums (..., rows, columns) of single blocks from those that are kept, or from a sum of them."""
        if not self.cumulative:
            return kept
        return np.diff(kept, axis=-2, prepend=np.zeros_like(kept[..., :1, :]))

    def no_points(self) -> npt.NDArray[Any]:
        """Return the sum (rows, columns) over no points, to which :func:`add_points` adds."""
        return np.zeros(self.shape, {"u": np.uint64, "i": np.int64}.get(self.dtype[1], np.float64))

    def pixels(self) -> npt.NDArray[np.int64]:
        """Return the number of pixels (rows, columns) of each block."""
        heights, widths = (np.diff(_edges(size)) for size in self.frame_shape)
        return np.outer(heights, widths)


def block_sums(frames: npt.NDArray[Any], *, width: int = BLOCK) -> npt.NDArray[Any]:
    """Return the sums of the blocks of frames, not added up from the top.

    Args:
        frames: (frames, rows, columns), of any byte order and strides.
        width: columns of a block; three times as many where the colors of a pixel are adjacent.

    Returns:
        (frames, rows, columns) of blocks; uint64 or int64, or float64 for floats and whole numbers of 64 bits.

    >>> block_sums(np.ones((1, 17, 3), np.uint8))
    array([[[48],
            [ 3]]], dtype=uint64)
    """
    if frames.dtype == np.bool_:
        frames = frames.view(np.uint8)
    if frames.dtype.kind == "f" and frames.dtype.itemsize == 2:
        frames = frames.astype(np.float32)
    frames = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))
    exact = np.dtype(np.float64) if frames.dtype.itemsize == 8 else sums_dtype(frames.dtype)
    # a band of 16 rows of 8 or 16 bits fits into 32 bits, which is twice as fast
    narrow = {"u": np.uint32, "i": np.int32}.get(frames.dtype.kind) if frames.dtype.itemsize <= 2 else None
    count, height, columns = frames.shape
    sums = np.zeros((count, -(-height // BLOCK), -(-columns // width)), exact)
    line = np.zeros(columns, narrow or exact)
    call_compiled(_add_blocks, frames, BLOCK, width, line, sums)
    return sums


def box_sums(kept: npt.NDArray[Any], points: npt.NDArray[np.int64], roi: Roi, form: BlockFormat) -> npt.NDArray[Any]:
    """Return the sums (points,) over a rectangle, with the share of the area of blocks that it cuts; float64.

    Args:
        kept: (places, rows, columns), as the format says.
        points: places (points,) of the points in it.
        roi: within the frame.
        form: of the sums.

    >>> form = BlockFormat.of((32, 32), np.uint8)
    >>> kept = np.cumsum(block_sums(np.ones((1, 32, 32), np.uint8)), axis=1)
    >>> box_sums(kept, np.array([0]), Roi("a", 3, 20, 0, 16), form).tolist()
    [272.0]
    """
    height, width = form.frame_shape
    left, across = _shares(roi.x0, roi.x1, width)
    top, along = _shares(roi.y0, roi.y1, height)
    sums = np.empty(len(points))
    if not form.cumulative:
        call_compiled(_sum_boxes, kept, points, top, along, left, across, sums)
        return sums
    last = form.shape[0] - 1
    # sums from the top to the upper and to the lower edge, each between those of two rows of blocks
    rows, weights = np.zeros(4, np.int64), np.zeros(4)
    for place, (edge, sign) in enumerate(((roi.y1, 1.0), (roi.y0, -1.0))):
        band = edge // BLOCK
        share = (edge - band * BLOCK) / max(min(BLOCK, height - band * BLOCK), 1)
        for part, (row, weight) in enumerate(((band - 1, 1 - share), (band, share))):
            rows[2 * place + part] = min(max(row, 0), last)
            weights[2 * place + part] = sign * weight if 0 <= row <= last else 0.0
    call_compiled(_sum_between, kept, points, rows, weights, left, across, sums)
    return sums


def add_points(kept: npt.NDArray[Any], points: npt.NDArray[np.int64], total: npt.NDArray[Any]) -> None:
    """Add the sums of points to a total (rows, columns) in place, block by block.

    Args:
        kept: (places, rows, columns).
        points: places (points,) of the points in it.
        total: from :meth:`BlockFormat.no_points`.
    """
    call_compiled(_add_points, kept, points, total)


def _edges(size: int) -> npt.NDArray[np.int64]:
    return np.append(np.arange(0, size, BLOCK), size)


def _shares(start: int, stop: int, size: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the first block of a range of pixels, and which share of each of its blocks lies in the range.

    >>> _shares(8, 40, 40)
    (0, array([0.5, 1. , 1. ]))
    """
    first, last = start // BLOCK, (stop - 1) // BLOCK
    edges = np.minimum(np.arange(first, last + 2) * BLOCK, size)
    inside = np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)
    return first, inside / np.diff(edges)


def _add_blocks(frames: Any, height: Any, width: Any, line: Any, sums: Any) -> None:  # pragma: no cover - compiled
    """Add up the rows of each band of blocks, then the columns of each block."""
    count, rows, columns = frames.shape
    whole = columns // width
    for number in range(count):
        for band in range(sums.shape[1]):
            line[:] = 0
            for row in range(band * height, min(rows, (band + 1) * height)):
                pixels = frames[number, row]
                for column in range(columns):
                    line[column] += pixels[column]
            for block in range(whole):
                subtotal = line[block * width]
                for column in range(1, width):
                    subtotal += line[block * width + column]
                sums[number, band, block] = subtotal
            if whole < sums.shape[2]:
                subtotal = line[whole * width]
                for column in range(whole * width + 1, columns):
                    subtotal += line[column]
                sums[number, band, whole] = subtotal


def _sum_between(
    kept: Any, points: Any, rows: Any, weights: Any, left: Any, across: Any, sums: Any
) -> None:  # pragma: no cover - compiled
    """Sum over a rectangle: the weighted sum of four rows that are added up from the top."""
    for number in range(points.size):
        blocks = kept[points[number]]
        total = 0.0
        for block in range(across.size):
            column = left + block
            between = 0.0
            for part in range(4):
                between += weights[part] * blocks[rows[part], column]
            total += across[block] * between
        sums[number] = total


def _sum_boxes(
    kept: Any, points: Any, top: Any, along: Any, left: Any, across: Any, sums: Any
) -> None:  # pragma: no cover - compiled
    """Sum over a rectangle: the weighted sum of its blocks."""
    for number in range(points.size):
        total = 0.0
        for row in range(along.size):
            blocks = kept[points[number], top + row]
            subtotal = 0.0
            for block in range(across.size):
                subtotal += across[block] * blocks[left + block]
            total += along[row] * subtotal
        sums[number] = total


def _add_points(kept: Any, points: Any, total: Any) -> None:  # pragma: no cover - compiled
    """Add the sums of points to a total."""
    for number in range(points.size):
        blocks = kept[points[number]]
        for row in range(total.shape[0]):
            for column in range(total.shape[1]):
                total[row, column] += blocks[row, column]
