"""Sum the blocks of frames, for each point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.block_sums import BLOCK, BlockFormat, block_sums
from snakemap.hdf5.child.frame_totals import RunningTotal, totals_dtype
from snakemap.hdf5.frame_layout import COLORS, FrameLayout
from snakemap.hdf5.protocol import PAYLOAD_MAX

__all__ = ["RunningBlocks", "warm_up"]


class RunningBlocks(RunningTotal):
    """The block sums of the points of one request; colors are added up.

    Args:
        until: when to stop, by :func:`time.monotonic`.

    Attributes:
        format: of the sums; None before the first frame.
    """

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.format: BlockFormat | None = None
        self._parts: list[npt.NDArray[Any]] = []

    @property
    def late(self) -> bool:
        """Whether the time is up, or the answer may not hold more."""
        size_bytes = self.format.size_bytes if self.format is not None else 0
        return super().late or (self.points + 1) * size_bytes > PAYLOAD_MAX

    def clear(self) -> None:
        """Forget all frames: their file was changed while they were read."""
        super().clear()
        self._parts.clear()

    def begin(self, shape: tuple[int, ...], dtype: np.dtype[Any], layout: FrameLayout) -> None:
        """Prepare for rows of a shape."""
        self.layout, self.sums = layout, np.zeros(shape, totals_dtype(dtype))
        each = shape[0] if layout.colors == "planes" else COLORS if layout.colors else 1
        self.format = BlockFormat.of(layout.frame_shape, dtype, frames=each * layout.rows_per_point)

    def add(self, rows: npt.NDArray[Any], *, points: int) -> None:
        """Add rows (rows, ...): one for each point."""
        layout, form = self.layout, self.format
        if layout is None or form is None:
            return
        if layout.colors == "last":
            sums = block_sums(rows.reshape(len(rows), rows.shape[1], -1), width=BLOCK * COLORS)
        elif layout.colors:
            sums = block_sums(rows.reshape(-1, *rows.shape[-2:])).reshape(len(rows), -1, *form.shape).sum(axis=1)
        else:
            sums = block_sums(rows)
        if form.cumulative:
            np.cumsum(sums, axis=1, out=sums)
        self._parts.append(sums.astype(form.dtype))
        self.rows += len(rows)
        self.points += points

    def frames(self) -> tuple[npt.NDArray[Any], int]:
        """Return the sums (points, rows, columns), and the number of points."""
        return (np.concatenate(self._parts) if self._parts else np.zeros((0, 1, 1))), self.points


def warm_up() -> None:
    """Load the compiled code for the usual detectors, while its cache can still be written."""
    for dtype in (np.uint8, np.uint16, np.uint32, np.int32, np.float32):
        block_sums(np.zeros((1, 1, 1), dtype))
