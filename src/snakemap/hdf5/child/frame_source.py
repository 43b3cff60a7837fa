"""A stack of frames in an open file."""

from __future__ import annotations

import math
from typing import Any

import hdf5plugin  # noqa: F401  registers bitshuffle, blosc and others with HDF5
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5t  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.core.roi import Roi, Sums, sum_colors, sum_frames
from snakemap.errors import FileBroken, FrameError
from snakemap.files.data_root import shown
from snakemap.hdf5.child.hdf_file import CHUNK_BYTES_MAX, HDF5_ERRORS, OpenDataset, creation_of
from snakemap.hdf5.child.virtual_mapping import Gaps
from snakemap.hdf5.frame_layout import FrameLayout, layout_of

__all__ = ["PORTION_BYTES", "FrameSource", "without_gaps"]

PORTION_BYTES = 2 << 20
"""Frames are read and summed in portions of about this size, to sum them from the cache."""


class FrameSource:
    """Read consecutive frames of one dataset into a buffer, the fastest way for its layout.

    Args:
        found: a dataset (frames, rows, columns), or one with colors, whose frames are required already.
        layout: meaning of its dimensions; None to derive it from the shape.
        gaps: pixels of a frame, the last dimensions, that no source has; they read as 0, whatever the fill value is.

    Attributes:
        portion: frames to read at once, whole chunks if possible.
    """

    def __init__(self, found: OpenDataset, layout: FrameLayout | None = None, gaps: Gaps | None = None) -> None:
        self.found = found
        self.gaps = gaps
        self.dataset = found.dataset
        self.layout = layout or layout_of(self.dataset.shape)
        self.frame_bytes = math.prod(self.dataset.shape[1:]) * self.dataset.dtype.itemsize
        if self.frame_bytes > CHUNK_BYTES_MAX:
            raise FrameError(
                f"{found} has frames of {self.frame_bytes / 1e6:,.0f} MB; "
                f"more than {CHUNK_BYTES_MAX / 1e6:,.0f} MB are not read"
            )
        self.direct = self._is_direct()
        self.portion = self._portion()
        dtype = self.dataset.dtype if self.direct else self.dataset.dtype.newbyteorder("=")
        self._buffer = np.empty((self.portion, *self.dataset.shape[1:]), dtype)
        self._corner = (0,) * (self.dataset.ndim - 1)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return frames (stop - start, rows, columns), or with colors; the next call overwrites them.

        Raises:
            FileBroken: HDF5 cannot read them.
        """
        frames = self._buffer[: stop - start]
        try:
            if not self.direct:
                self.dataset.read_direct(frames, np.s_[start:stop])
                return without_gaps(frames, self.gaps)
            for number, frame in enumerate(frames, start):
                self.dataset.id.read_direct_chunk((number, *self._corner), out=frame.reshape(-1).view(np.uint8))
        except HDF5_ERRORS as error:
            self.found.file.forget_handle()
            frames_read = f"frame {stop:,}" if stop - start == 1 else f"frames {start + 1:,} to {stop:,}"
            raise FileBroken(f"{self.found}: {frames_read} cannot be read: {shown(error)}") from error
        return frames

    def stop(self, start: int, stop: int) -> int:
        """Return the end of the portion that begins at a frame: after its last whole chunk, or at `stop`.

        In portions of 4, frames 3 to 12 are read as 3, 4 to 7, 8 to 11, 12.
        """
        return min(stop, (start // self.portion + 1) * self.portion)

    def sum(self, frames: npt.NDArray[Any], rois: list[Roi]) -> Sums:
        """Return the sums (frames, ROIs + 1) of frames from :meth:`read`."""
        if not self.layout.colors:
            return sum_frames(frames, rois)
        return sum_colors(frames, rois, last=self.layout.colors == "last")

    def shown(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a frame for display: (rows, columns), or (rows, columns, 3)."""
        if self.layout.colors == "planes":
            return frame[-1]
        return np.moveaxis(frame, 0, -1) if self.layout.colors == "first" else frame

    def _is_direct(self) -> bool:
        """Return whether a chunk holds just the bytes of one frame."""
        creation = creation_of(self.dataset)
        return (
            creation.get_layout() == h5d.CHUNKED
            and creation.get_nfilters() == 0
            and self.dataset.chunks == (1, *self.dataset.shape[1:])
            and self.dataset.id.get_type() == h5t.py_create(self.dataset.dtype)
        )

    def _portion(self) -> int:
        wanted = max(1, PORTION_BYTES // self.frame_bytes)
        step = (self.dataset.chunks or (1,))[0]
        whole = math.ceil(wanted / step) * step
        return whole if whole * self.frame_bytes <= CHUNK_BYTES_MAX else max(1, CHUNK_BYTES_MAX // self.frame_bytes)


def without_gaps(frames: npt.NDArray[Any], gaps: Gaps | None) -> npt.NDArray[Any]:
    """Set the gaps of frames to 0 in place, and return the frames."""
    if gaps is not None:
        np.copyto(frames, 0, where=gaps)
    return frames
