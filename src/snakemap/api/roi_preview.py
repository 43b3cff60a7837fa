"""Sum the newest preview frame over ROIs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.roi import Roi
from snakemap.errors import FrameError

__all__ = ["Preview"]


@dataclass(frozen=True, slots=True)
class Preview:
    """Frame reduced by :func:`~snakemap.core.roi.shrink`: each pixel is the mean of a block of detector pixels.

    Attributes:
        pixels: (rows, columns), or (rows, columns, colors).
        frame_shape: rows and columns of the full frame.

    Raises:
        FrameError: when the shapes do not match.
    """

    pixels: npt.NDArray[Any]
    frame_shape: tuple[int, int]

    def __post_init__(self) -> None:
        wanted = tuple(math.ceil(size / self.block) for size in self.frame_shape)
        if self.pixels.shape[:2] != wanted:
            raise FrameError(f"a preview of {self.pixels.shape[:2]}, where one of {self.frame_shape} has {wanted}")

    @property
    def block(self) -> int:
        """Side of a block in detector pixels; 1 when the preview is the frame itself."""
        rows, columns = self.frame_shape
        shown = max(self.pixels.shape[:2])
        return max(1, math.ceil(max(rows, columns) / max(shown, 1)))

    def counts(self, roi: Roi) -> float:
        """Return the counts within an ROI: the mean of each block, times the detector pixels of it that lie within.

        Exact when ``block`` is 1; else as if the counts of a block were spread evenly over it. NaN if a pixel is NaN.

        Raises:
            RoiError: when the ROI exceeds the frame.

        >>> preview = Preview(np.array([[1, 2], [3, 4]]), (4, 4))
        >>> preview.block, preview.counts(Roi("r", 0, 2, 0, 2)), preview.counts(Roi("r", 1, 3, 0, 2))
        (2, 4.0, 8.0)
        """
        roi.check(self.frame_shape)
        rows = self._within(roi.y0, roi.y1, axis=0)
        columns = self._within(roi.x0, roi.x1, axis=1)
        plane = self.pixels.astype(np.float64)
        plane = plane.sum(axis=2) if plane.ndim == 3 else plane
        # only the pixels within the ROI, so that a NaN elsewhere does not spread
        box = plane[np.ix_(rows > 0, columns > 0)]
        return float(rows[rows > 0] @ box @ columns[columns > 0])

    def _within(self, start: int, stop: int, *, axis: int) -> npt.NDArray[np.float64]:
        """Detector pixels of each block, along one axis, that lie from ``start`` to ``stop``."""
        edges = np.append(np.arange(self.pixels.shape[axis]) * self.block, self.frame_shape[axis])
        return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None).astype(np.float64)
