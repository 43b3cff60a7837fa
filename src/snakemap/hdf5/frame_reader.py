"""Read the frames of HDF5 files and sum their ROIs, in another process.

A bad file can crash HDF5 or make it loop for ever, so HDF5 is not loaded here. The reader process
(:mod:`snakemap.hdf5.child`) has limits of time and memory, and is replaced if it does not answer.

Errors:

- ``FileNotReady``: no such file, dataset, or frame yet; locked; or a fault that a file in the making may have (it is
empty
  or cannot be opened, and was written within the last minute). Try again.
- ``FileBroken``: no HDF5 file, or an unreadable one without a writer; deleted or truncated since it was last read
(reported
  once); frames that HDF5 cannot unpack; or the reader process ended.
- ``FileReplaced``: the file is not the one that was read before.
- ``FileRefused``: the file, or one that it links to or maps, is not in the data root.
- ``FrameError``: there is no stack of frames (frames, rows, columns) of the expected shape that can be summed, or no
  column of numbers.
- ``RoiError``: an ROI reaches beyond the frame.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from snakemap.errors import FileBroken, FrameError
from snakemap.files.data_root import local_paths, shown
from snakemap.hdf5.block_answer import BlockSums, blocks_of
from snakemap.hdf5.frame_layout import COLORS
from snakemap.hdf5.protocol import TOTAL_PAYLOAD_MAX, FrameRequest
from snakemap.hdf5.reader_process import ReaderProcess
from snakemap.settings import Settings

__all__ = ["FileFingerprint", "FrameBatch", "FrameReader", "FrameSums", "FrameTotal", "recorded_fingerprints"]

SUMS_DTYPES = frozenset(("<u8", "<i8", "<f8"))
FRAME_DTYPES = frozenset(("|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f4", "<f8"))
TOTAL_DTYPES = frozenset(("<u4", "<u8", "<i8", "<f8"))
FRAME_SIZE_MAX = 512
MARKS_MAX, NAME_MAX = 200, 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Points whose frames are summed: consecutive rows of one dataset.

    Attributes:
        uri: from the documents, like ``file://localhost/data/scan.h5``.
        dataset: path in the file, like ``/entry/data/data``.
        start: first point in the dataset, from 0 on.
        stop: the point after the last one.
        frames_per_point: point i owns the frames from ``i * frames_per_point`` on.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, half open.
        frame_shape: required rows and columns of a frame; None for any.
        point_shape: shape of one point's data from its descriptor; empty if unknown.
        columns: points in one row of a dataset (rows, columns, height, width); 0: a row is a point, or a part of one.
        preview: whether to return the last frame, too.
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
    """The identity of a file.

    Attributes:
        name: of file and dataset, as in messages.
        inode: of the file; unlike the device, the same on all machines that share a disk. 0: any.
        address: of the dataset in it.
        checksum: of the first bytes of its first row; 0 if these may change.
    """

    name: str
    inode: int
    address: int
    checksum: int

    def fits(self, other: FileFingerprint) -> bool:
        """Return whether it may be the same file."""
        same = self.address == other.address and (self.inode == other.inode or 0 in (self.inode, other.inode))
        return same and (not self.checksum or not other.checksum or self.checksum == other.checksum)


def recorded_fingerprints(files: Sequence[tuple[str, str, int, int, int]], resource: str) -> dict[str, FileFingerprint]:
    """Return the fingerprints of the files of a resource in a derived descriptor, by name.

    With a checksum, the inode may differ: files are moved and restored.

    Args:
        files: of :class:`~snakemap.core.derived_documents.DerivedDescriptor`.
        resource: uid of the stream_resource.
    """
    return {
        name: FileFingerprint(name, 0 if checksum else inode, address, checksum)
        for of, name, inode, address, checksum in files
        if of == resource
    }


@dataclass(frozen=True, slots=True)
class FrameSums:
    """The result of a batch.

    Attributes:
        sums: (points, ROIs + 1): each ROI in order, then the total; uint64, int64 for signed frames, or float64.
        length: rows in the dataset now.
        frame: the last frame of the batch if requested, shrunk to at most 512 rows and columns: (rows, columns), or
            (rows, columns, 3).
        identity: device and inode of the file; a change within a run means that the file was replaced.
        size_bytes: of the frames read, unpacked.
        rounded: whether integer sums did not fit into 64 bits and are float64.
        gaps: pixels of a frame that no source has; they are left out of the sums.
    """

    sums: npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.float64]
    length: int
    frame: npt.NDArray[Any] | None
    identity: tuple[int, int]
    size_bytes: int = 0
    rounded: bool = False
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class FrameTotal:
    """The sum of frames.

    Attributes:
        sums: (rows, columns), or (rows, columns, 3); exact integers, or float64 for floats and integers of 64 bits.
        points: number of points whose frames are in it: the first ones of those that were requested.
        frames: number of frames in it.
    """

    sums: npt.NDArray[Any]
    points: int
    frames: int


class FrameReader(ReaderProcess):
    """Read frames in another process, one request after the other; several callers may wait.

    Args:
        root: the data root; nothing outside it is read.
        path_map: pairs of the writer's prefix and the local one.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: of one request; long batches are read in several.
        memory_limit_bytes: address space of the reader process.

    Attributes:
        marks: fingerprints of the files last read.
    """

    marks: tuple[FileFingerprint, ...] = ()

    @classmethod
    def of(cls, settings: Settings, **options: Any) -> Self:
        """Return a reader of the files of the data root.

        Args:
            settings: of the process.
            options: further arguments of the reader.
        """
        return cls(
            settings.root,
            path_map=settings.path_map,
            locking=settings.file_locking,
            time_limit_s=settings.file_timeout_s,
            **options,
        )

    async def reduce(self, batch: FrameBatch) -> FrameSums:
        """Return the sums of the frames of a batch.

        Raises:
            FileNotReady: the file, the dataset or a frame is not there yet, or is being written.
            FileRefused: it is not in the data root.
            FileBroken: it cannot be read, or it crashed or hung the reader.
            FrameError: the frames have another shape, or cannot be summed.
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

    async def add(self, batch: FrameBatch, ranges: Sequence[tuple[int, int]], *, limit_s: float) -> FrameTotal:
        """Return the sum of the frames of points, pixel by pixel, of as many as can be read in a time.

        An error is raised only if the first point cannot be read; else the points before it are added. ROIs, preview,
        start and stop of the batch are ignored. Raises as :meth:`reduce` does.

        Args:
            batch: the dataset.
            ranges: first point and the one after the last of several ranges.
            limit_s: seconds; at least one portion is read.

        Raises:
            TooLarge: a sum of frames is too large.
        """
        return await self._add("add", batch, ranges, limit_s=limit_s, read=_added)

    async def blocks(self, batch: FrameBatch, ranges: Sequence[tuple[int, int]], *, limit_s: float) -> BlockSums:
        """Return the block sums of points, of as many as can be read in a time; see :meth:`add`."""
        return await self._add("blocks", batch, ranges, limit_s=limit_s, read=blocks_of)

    async def _add(
        self, ask: str, batch: FrameBatch, ranges: Sequence[tuple[int, int]], *, limit_s: float, read: Callable[..., T]
    ) -> T:
        paths, self.marks = self._paths(batch.uri), ()
        request = _request(ask, batch, paths, batch.start)
        request["ranges"], request["limit_s"] = [[start, stop] for start, stop in ranges], limit_s
        points_max = sum(stop - start for start, stop in ranges)
        checked = functools.partial(read, points_max=points_max, shape=batch.frame_shape)
        answer, self.marks = await self._ask(
            request, functools.partial(_marked, checked), payload_max=TOTAL_PAYLOAD_MAX
        )
        return answer

    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        """Return scalars (points,) from a dataset with one for each point, or several to be summed.

        ROIs, frame shape and preview of the batch are ignored. NaN stays NaN; integers beyond 2**53 are rounded. Raises
        as :meth:`reduce` does.
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
        """Return which points (points,) of a dataset are certainly written, as their own chunks show.

        Storage that is allocated at once proves nothing. Points beyond the end of the dataset are not written. ROIs and
        preview of the batch are ignored. Raises as :meth:`reduce` does.
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
        """Return the current rows of any dataset; raises as :meth:`reduce` does."""
        return (await self.size(uri, dataset))[0]

    async def size(self, uri: str, dataset: str) -> tuple[int, ...]:
        """Return the current shape of any dataset; raises as :meth:`reduce` does."""
        paths = self._paths(uri)
        return await self._ask(_request("size", FrameBatch(uri, dataset, 0, 1), paths, 0), _shape)

    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]:
        """Return the current shape of a stack of frames: frames, rows and columns, or with colors; raises as
        :meth:`reduce`."""
        paths = self._paths(uri)
        return await self._ask(_request("shape", FrameBatch(uri, dataset, 0, 1), paths, 0), _shape)

    def _paths(self, uri: str) -> list[str]:
        """Return the possible paths of the file, in the order to try."""
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
    """Return the content of an answer and the files it is from; raises as :func:`_reduced`."""
    marks = header.get("marks", [])
    marks = (
        FileFingerprint(str(name)[:NAME_MAX], *(int(value) for value in values)) for name, *values in marks[:MARKS_MAX]
    )
    return read(header, payload), tuple(marks)


def _marks(header: dict[str, Any], payload: bytearray, *, points_max: int) -> npt.NDArray[np.bool_]:
    """Return from an answer whether points are written; raises as :func:`_reduced`."""
    points = int(header["points"])
    if not 1 <= points <= points_max or len(payload) != points:
        raise ValueError(f"{points} points in {len(payload):,} bytes")
    return np.frombuffer(payload, np.uint8, points) != 0


def _added(header: dict[str, Any], payload: bytearray, *, points_max: int, shape: tuple[int, int] | None) -> FrameTotal:
    """Return the sum of frames of an answer, validated; raises as :func:`_reduced`."""
    dtype, *sizes = header["sums"]
    sizes = [int(size) for size in sizes]
    points, frames = int(header["points"]), int(header["frames"])
    if not 1 <= points <= points_max or frames < points or dtype not in TOTAL_DTYPES:
        raise ValueError(f"{points} points with {frames} frames of {dtype!r}")
    if len(sizes) not in (2, 3) or sizes[2:] not in ([], [COLORS]) or (shape and sizes[:2] != [*shape]):
        raise ValueError(f"a frame {sizes!r}")
    if len(payload) != math.prod(sizes) * np.dtype(dtype).itemsize or not payload:
        raise ValueError(f"{len(payload):,} bytes for a frame {sizes!r}")
    return FrameTotal(np.frombuffer(payload, dtype).reshape(sizes), points, frames)


def _values(header: dict[str, Any], payload: bytearray, *, points_max: int) -> npt.NDArray[np.float64]:
    """Return the scalars of an answer, validated; raises as :func:`_reduced`."""
    points = int(header["points"])
    if not 1 <= points <= points_max or len(payload) != 8 * points:
        raise ValueError(f"{points} points in {len(payload):,} bytes")
    return np.frombuffer(payload, "<f8", points)


def _reduced(header: dict[str, Any], payload: bytearray, *, rois: int, points_max: int) -> FrameSums:
    """Return the sums of an answer, validated: a bad file may have corrupted the reader.

    Raises:
        ValueError, TypeError, LookupError: if it is invalid.
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
