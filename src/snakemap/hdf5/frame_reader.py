"""Reads the frames of HDF5 files and sums their ROIs, in a process of its own that may crash, hang or be killed.

A bad file can crash HDF5 or send it round in circles for ever, so nothing of HDF5 is loaded here. Another process reads
(:mod:`snakemap.hdf5.child`); it is given so many seconds and so much memory, and replaced when it does not answer.

What an error means:

- ``FileNotReady``: no such file, dataset, or frame yet; locked; or there is something wrong with it that a file in the
  making may have (it is empty or cannot be opened, and somebody wrote to it within the last minute). Try again.
- ``FileBroken``: no HDF5 file, or one that cannot be read and that nobody is writing to; deleted or cut short since it
  was last read (told once: after that it is what it is now); frames that HDF5 cannot unpack; or whatever
  ended the reader.
- ``FileReplaced``: the file is not the one that was read before.
- ``FileRefused``: the file, or something that it links to or draws on, is not in the data root.
- ``FrameError``: there is no stack of frames (frames, rows, columns) of the promised shape that can be summed, or no
  column of numbers.
- ``RoiError``: an ROI reaches beyond the frame.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from snakemap.errors import FileBroken, FrameError
from snakemap.files.data_root import local_paths, shown
from snakemap.hdf5.frame_layout import COLORS
from snakemap.hdf5.protocol import FrameRequest
from snakemap.hdf5.reader_process import ReaderProcess

__all__ = ["FileFingerprint", "FrameBatch", "FrameReader", "FrameSums"]

SUMS_DTYPES = frozenset(("<u8", "<i8", "<f8"))
FRAME_DTYPES = frozenset(("|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f4", "<f8"))
FRAME_SIZE_MAX = 512
MARKS_MAX, NAME_MAX = 200, 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Points whose frames are to be summed: consecutive rows of one dataset.

    Attributes:
        uri: as documents carry it, like ``file://localhost/data/scan.h5``.
        dataset: path in the file, like ``/entry/data/data``.
        start: first point in the dataset, from 0 on.
        stop: the point after the last one.
        frames_per_point: point i owns the frames from ``i * frames_per_point`` on.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, half open.
        frame_shape: rows and columns that a frame must have; None: whatever it has.
        point_shape: shape of one point's data, as its descriptor has it; empty when it does not tell.
        columns: points in one row of a dataset (rows, columns, height, width); 0: a row is a point, or a part of one.
        preview: whether the last frame is wanted, too.
    """

    uri: str
    dataset: str
    start: int
    stop: int
    frames_per_point: int = 1
    rois: tuple[tuple[int, int, int, int], ...] = ()
    frame_shape: tuple[int, int] | None = None
    preview: bool = False
    point_shape: tuple[int, ...] = ()
    columns: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop or self.frames_per_point < 1:
            raise FrameError(f"points {self.start} to {self.stop} of {self.frames_per_point} frames are none")


@dataclass(frozen=True, slots=True)
class FileFingerprint:
    """How a file is recognized.

    Attributes:
        name: of file and dataset, as messages have it.
        inode: of the file; the same on all machines that share a disk, other than the device. 0: any.
        address: of the dataset in it.
        checksum: of the first bytes of its first row; 0 where these may change.
    """

    name: str
    inode: int
    address: int
    checksum: int

    def fits(self, other: FileFingerprint) -> bool:
        """Whether it may be the same file."""
        same = self.address == other.address and (self.inode == other.inode or 0 in (self.inode, other.inode))
        return same and (not self.checksum or not other.checksum or self.checksum == other.checksum)


@dataclass(frozen=True, slots=True)
class FrameSums:
    """What became of a batch.

    Attributes:
        sums: (points, ROIs + 1): each ROI in order, then the total; uint64, int64 for signed frames, or float64.
        length: rows in the dataset now.
        frame: the last frame of the batch, shrunk to at most 512 rows and columns, when it was wanted: (rows, columns),
            or (rows, columns, 3).
        identity: device and inode of the file; another one in the same run means that the file was replaced.
        size_bytes: of the frames that were read, unpacked.
        rounded: whether sums of whole numbers did not fit into 64 bits, and are float64.
        gaps: pixels of a frame that no source ever has, which are left out of the sums.
    """

    sums: npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.float64]
    length: int
    frame: npt.NDArray[Any] | None
    identity: tuple[int, int]
    size_bytes: int = 0
    rounded: bool = False
    gaps: int = 0


class FrameReader(ReaderProcess):
    """Reads frames in another process, one request after the other; several may wait for their turn.

    Args:
        root: the data root; nothing outside it is ever read.
        path_map: pairs of the writer's prefix and ours.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: seconds that one request may take; long batches are read in several.
        memory_limit_bytes: address space of the reading process.

    Attributes:
        marks: of the files that frames or numbers were last read of.
    """

    marks: tuple[FileFingerprint, ...] = ()

    async def reduce(self, batch: FrameBatch) -> FrameSums:
        """Sums the frames of some points.

        Raises:
            FileNotReady: the file, the dataset or a frame is not there yet, or is being made.
            FileRefused: it is not in the data root.
            FileBroken: it cannot be read, or it crashed or hung the reader.
            FrameError: frames of another shape, or that cannot be summed.
            RoiError: an ROI reaches beyond the frame.
        """
        paths = self._paths(batch.uri)
        parts: list[FrameSums] = []
        start, self.marks = batch.start, ()
        while start < batch.stop:
            read = functools.partial(_reduced, rois=len(batch.rois), points_max=batch.stop - start)
            part, marks = await self._ask(_request("reduce", batch, paths, start), functools.partial(_marked, read))
            parts.append(part)
            self.marks = (*self.marks, *marks)
            start += len(part.sums)
            if parts[-1].identity != parts[0].identity:
                raise FileBroken(f"{shown(paths[0])} was replaced by another file while it was being read")
        sums = parts[0].sums if len(parts) == 1 else np.concatenate([part.sums for part in parts])
        read, rounded = sum(part.size_bytes for part in parts), any(part.rounded for part in parts)
        return dataclasses.replace(parts[-1], sums=sums, size_bytes=read, rounded=rounded)

    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        """Numbers (points,) of some points, from a dataset that holds one a point, or several to be summed.

        ROIs, frame shape and preview of the batch mean nothing here. NaN stays NaN; whole numbers beyond 2**53 are
        rounded. Raises as :meth:`reduce` does.
        """
        paths = self._paths(batch.uri)
        parts: list[npt.NDArray[np.float64]] = []
        start, self.marks = batch.start, ()
        while start < batch.stop:
            read = functools.partial(_values, points_max=batch.stop - start)
            part, marks = await self._ask(_request("scalars", batch, paths, start), functools.partial(_marked, read))
            parts.append(part)
            self.marks = (*self.marks, *marks)
            start += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def written(self, batch: FrameBatch) -> npt.NDArray[np.bool_]:
        """Which points (points,) of a dataset were written for certain, as their own chunks show.

        Storage that is allotted at once proves nothing. Points beyond the end of the dataset were not written. ROIs and
        preview of the batch mean nothing here. Raises as :meth:`reduce` does.
        """
        paths = self._paths(batch.uri)
        parts: list[npt.NDArray[np.bool_]] = []
        start = batch.start
        while start < batch.stop:
            read = functools.partial(_marks, points_max=batch.stop - start)
            parts.append(await self._ask(_request("written", batch, paths, start), read))
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def length(self, uri: str, dataset: str) -> int:
        """Rows in a dataset now, of whatever it holds; raises as :meth:`reduce` does."""
        return (await self.size(uri, dataset))[0]

    async def size(self, uri: str, dataset: str) -> tuple[int, ...]:
        """Shape of a dataset now, of whatever it holds; raises as :meth:`reduce` does."""
        paths = self._paths(uri)
        return await self._ask(_request("size", FrameBatch(uri, dataset, 0, 1), paths, 0), _shape)

    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]:
        """Shape of a stack of frames now: frames, rows and columns, or with colors; raises as :meth:`reduce` does."""
        paths = self._paths(uri)
        return await self._ask(_request("shape", FrameBatch(uri, dataset, 0, 1), paths, 0), _shape)

    def _paths(self, uri: str) -> list[str]:
        """Where the file may be, in the order in which it is looked for."""
        return [str(path) for path in local_paths(uri, self.path_map)]


def _request(ask: str, batch: FrameBatch, paths: Sequence[str], start: int) -> FrameRequest:
    return {
        "ask": ask,
        "path": paths[0],
        "instead": [*paths[1:]],
        "dataset": batch.dataset,
        "start": start,
        "stop": batch.stop,
        "frames_per_point": batch.frames_per_point,
        "rois": [list(roi) for roi in batch.rois],
        "frame_shape": list(batch.frame_shape) if batch.frame_shape else None,
        "preview": batch.preview,
        "point_shape": list(batch.point_shape),
        "columns": batch.columns,
    }


def _shape(header: dict[str, Any], _payload: bytearray) -> tuple[int, ...]:
    shape = tuple(int(size) for size in header["shape"])
    if not shape or min(shape) < 0:
        raise ValueError(f"a shape {shape}")
    return shape


def _marked(
    read: Callable[[dict[str, Any], bytearray], T], header: dict[str, Any], payload: bytearray
) -> tuple[T, tuple[FileFingerprint, ...]]:
    """What an answer holds, and the files that it is from; raises as :func:`_reduced`."""
    told = header.get("marks", [])
    marks = (
        FileFingerprint(str(name)[:NAME_MAX], *(int(value) for value in values)) for name, *values in told[:MARKS_MAX]
    )
    return read(header, payload), tuple(marks)


def _marks(header: dict[str, Any], payload: bytearray, *, points_max: int) -> npt.NDArray[np.bool_]:
    """Whether points were written, of an answer; raises as :func:`_reduced`."""
    points = int(header["points"])
    if not 1 <= points <= points_max or len(payload) != points:
        raise ValueError(f"{points} points in {len(payload):,} bytes")
    return np.frombuffer(payload, np.uint8, points) != 0


def _values(header: dict[str, Any], payload: bytearray, *, points_max: int) -> npt.NDArray[np.float64]:
    """Scalars of an answer, after a look at every part of it; raises as :func:`_reduced`."""
    points = int(header["points"])
    if not 1 <= points <= points_max or len(payload) != 8 * points:
        raise ValueError(f"{points} points in {len(payload):,} bytes")
    return np.frombuffer(payload, "<f8", points)


def _reduced(header: dict[str, Any], payload: bytearray, *, rois: int, points_max: int) -> FrameSums:
    """An answer as it may be used, after a look at every part of it: a bad file may have taken the reader over.

    Raises:
        ValueError, TypeError, LookupError: when it makes no sense.
    """
    points, columns = int(header["points"]), rois + 1
    if not 1 <= points <= points_max or header["dtype"] not in SUMS_DTYPES:
        raise ValueError(f"{points} points of {header['dtype']!r}")
    sums_bytes = points * columns * 8
    sums = np.frombuffer(payload, header["dtype"], points * columns).reshape(points, columns)
    device, inode = (int(number) for number in header["identity"])
    frame = None
    if header["frame"] is not None:
        dtype, *shape = header["frame"]
        sizes = [int(size) for size in shape]
        if dtype not in FRAME_DTYPES or len(sizes) not in (2, 3) or sizes[2:] not in ([], [COLORS]):
            raise ValueError(f"a frame {header['frame']!r}")
        if not all(0 < size <= FRAME_SIZE_MAX for size in sizes):
            raise ValueError(f"a frame {header['frame']!r}")
        frame = np.frombuffer(payload, dtype, math.prod(sizes), sums_bytes).reshape(sizes)
        sums_bytes += frame.nbytes
    if len(payload) != sums_bytes:
        raise ValueError(f"{len(payload):,} bytes instead of {sums_bytes:,}")
    read, rounded = max(0, int(header["bytes"])), bool(header.get("rounded"))
    gaps = max(0, int(header.get("gaps", 0)))
    return FrameSums(sums, int(header["length"]), frame, (device, inode), read, rounded, gaps)
