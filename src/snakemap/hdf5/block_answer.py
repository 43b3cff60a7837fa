"""The answer of a reader process with the block sums of points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.block_sums import BLOCK_DTYPES, BlockFormat

__all__ = ["BlockSums", "blocks_of"]


@dataclass(frozen=True, slots=True)
class BlockSums:
    """The block sums of points.

    Attributes:
        sums: (points, rows, columns), as their format keeps them.
        format: of the sums.
    """

    sums: npt.NDArray[Any]
    format: BlockFormat

    @property
    def points(self) -> int:
        """Number of points: the first ones of those that were requested."""
        return len(self.sums)


def blocks_of(
    header: dict[str, Any], payload: bytearray, *, points_max: int, shape: tuple[int, int] | None
) -> BlockSums:
    """Return the block sums in an answer.

    Args:
        header: of the answer.
        payload: of the answer.
        points_max: points that were requested.
        shape: rows and columns of a frame.

    Raises:
        LookupError, TypeError, ValueError: it is none.
    """
    dtype, *sizes = header["sums"]
    sizes = [int(size) for size in sizes]
    if dtype not in BLOCK_DTYPES or shape is None:
        raise ValueError(f"block sums of {dtype!r}")
    form = BlockFormat(shape, dtype)
    if len(sizes) != 3 or not 1 <= sizes[0] <= points_max or sizes[1:] != [*form.shape]:
        raise ValueError(f"block sums {sizes!r}")
    if len(payload) != math.prod(sizes) * np.dtype(dtype).itemsize:
        raise ValueError(f"{len(payload):,} bytes for block sums {sizes!r}")
    return BlockSums(np.frombuffer(payload, dtype).reshape(sizes), form)
