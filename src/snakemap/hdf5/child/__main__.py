"""The reader process of HDF5 files; its parent replaces it if it crashes or hangs.

Started as ``python -m snakemap.hdf5.child FD``, with a socket to its parent. Before it opens the first file it drops
what it does not need: memory beyond a limit, files outside the data root, writing, the network.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import socket
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, cast

import hdf5plugin  # noqa: F401  registers bitshuffle, blosc and others with HDF5
import numpy as np
import numpy.typing as npt

from snakemap.core.roi import Roi, Sums, shrink, sum_frames, sums_dtype
from snakemap.errors import FileBroken, FileMissing, FileNotReady, FileReplaced, FrameError, SnakemapError
from snakemap.files.data_root import DataRoot, restrict_process, shown
from snakemap.hdf5.child.dectris_parts import StackParts, parts_of
from snakemap.hdf5.child.frame_blocks import RunningBlocks
from snakemap.hdf5.child.frame_blocks import warm_up as warm_up_blocks
from snakemap.hdf5.child.frame_source import PORTION_BYTES, FrameSource
from snakemap.hdf5.child.frame_sums import (
    frame_layout_of,
    grid_frames,
    has_frames,
    rows_per_point,
    sum_grid,
    sum_points,
    sum_scalars,
)
from snakemap.hdf5.child.frame_totals import RunningTotal, add_points
from snakemap.hdf5.child.h5grove_answers import GROVE
from snakemap.hdf5.child.hdf_file import CHUNK_BYTES_MAX, HDF5_ERRORS, HdfFile, OpenDataset
from snakemap.hdf5.child.open_files import FileDeleted, OpenFiles
from snakemap.hdf5.child.slices import read_slice
from snakemap.hdf5.child.tree import about, find_names, members
from snakemap.hdf5.child.virtual_mapping import Gaps
from snakemap.hdf5.frame_layout import FrameLayout, scalar_rows
from snakemap.hdf5.protocol import LENGTHS, PAYLOAD_MAX, FrameRequest, H5groveRequest, InspectRequest, ReaderConfig

__all__ = ["FileReader", "main"]

IDLE_S = 60.0
"""Files are closed after this time without requests: an open file keeps a disk busy, and deleted files on it."""


PREVIEW_BYTES_MAX = 512 * 512 * 3 * 8


SCALARS_MAX = 500_000
"""Points whose scalars are read at once."""


WRITTEN_MAX = 100_000
"""Points that are checked at once."""


ADDED_MAX = 256
"""Points whose frames are added after one check that they are written."""


FILES_OPEN_MAX = 4096


GRID_RANK = 4


FRAME_RANK = 2
"""Dimensions of a frame without colors."""


INSPECTIONS = {"members": members, "find": find_names, "about": about, "slice": read_slice, **GROVE}
"""Functions by the ``ask`` of an inspector."""


class FileReader:
    """Answer requests, one after the other.

    Args:
        config: from the parent.
        confine: whether to confine the process to the data root at the first request, permanently.
    """

    def __init__(self, config: ReaderConfig, *, confine: bool = True) -> None:
        self.config = config
        self.root = DataRoot(Path(config.root))
        self.files = OpenFiles(self.root, path_map=config.path_map, locking=config.locking)
        self.confined: bool | None = None if confine else False
        self._total = RunningTotal(0.0)

    def close(self) -> None:
        """Close all files."""
        self.files.close()
        self.root.close()

    def answer(self, request: FrameRequest | H5groveRequest | InspectRequest) -> tuple[dict[str, Any], bytes]:
        """Return the header and the payload of the answer to a request, also for errors."""
        try:
            self._confine()
            self.files.begin()
            return self._asked(request)
        except (FileReplaced, FileDeleted) as error:
            if request["ask"] in INSPECTIONS:  # an inspector keeps no state of the file
                return self.answer(request)
            return {"error": error.code, "message": str(error)}, b""
        except SnakemapError as error:
            return {"error": error.code, "message": str(error), "ready": error.ready}, b""
        except MemoryError:
            message = f"{shown(request['path'])} needs more memory than {self.config.memory_limit_bytes / 1e9:,.1f} GB"
            return {"error": FileBroken.code, "message": message}, b""
        except HDF5_ERRORS as error:
            if request["ask"] not in INSPECTIONS:
                raise
            self.files.close()  # the state of the file within HDF5 is unknown now
            message = f"{shown(request['path'])} cannot be read: {shown(error)}"
            return {"error": FileBroken.code, "message": message}, b""

    def _asked(self, request: Any) -> tuple[dict[str, Any], bytes]:
        if request["ask"] in INSPECTIONS:
            answer = INSPECTIONS[request["ask"]](self.files, request)
            header, payload = answer if isinstance(answer, tuple) else ({"json": True}, json.dumps(answer).encode())
            return {**header, "confined": self.confined}, payload
        answers = {"reduce": self._reduce, "scalars": self._scalars, "shape": self._shape, "size": self._size}
        answers |= {"written": self._written, "add": self._add, "blocks": self._add, "add range": self._add_range}
        try:
            return answers[request["ask"]](request)
        except FrameError:
            parts = self._parts(request) if request["ask"] not in ("add", "blocks") else None
            if parts is None:
                raise
        return self._of_part(request, parts)

    def _confine(self) -> None:
        """Confine the process to the data root, once that exists."""
        self.root.hold()
        if self.confined is None:
            self.confined = restrict_process([self.root.root, *_python_paths()])

    def _parts(self, request: FrameRequest) -> StackParts | None:
        """Return the stack in several files of a request; None if it is for a dataset."""
        try:
            return parts_of(self.files, self.files.node(self._open(request), request["dataset"]))
        except SnakemapError:
            return None

    def _of_part(self, request: FrameRequest, parts: StackParts) -> tuple[dict[str, Any], bytes]:
        """Answer for those points of a stack in several files that lie in the file of the first."""
        frames = parts.readable_ranges[-1][1]
        if request["ask"] in ("shape", "size"):
            return {"shape": (frames, *parts.shape[1:]), "confined": self.confined}, b""
        each = request["frames_per_point"]
        first, stop = request["start"] * each, request["stop"] * each
        if first >= frames:
            raise FileNotReady(f"{shown(request['dataset'])} has {frames:,} frames (yet). {parts.missing}".strip())
        part = parts.at(first)
        if part.start % each or (part.stop < stop and part.count % each):
            raise FrameError(f"{shown(request['dataset'])}: the {each} frames of a point lie in two files")
        start = (first - part.start) // each
        stop = min(request["stop"] - request["start"], (part.stop - first) // each) + start
        if request["ask"] == "written" and not part.there:
            return {"points": stop - start, "confined": self.confined}, bytes(stop - start)
        if not part.there:
            raise FileNotReady(parts.missing)
        inside: FrameRequest = {**request, "dataset": part.path, "start": start, "stop": stop}
        inside["preview"] = request["preview"] and start + request["stop"] - request["start"] == stop
        header, payload = self._asked(inside)
        return {**header, **({"length": frames} if "length" in header else {})}, payload

    def _open(self, request: FrameRequest) -> HdfFile:
        """Open the file of a request, under the first of its names that exists."""
        try:
            return self.files.open(request["path"])
        except FileMissing:
            for path in request.get("instead", ()):
                with contextlib.suppress(FileMissing):
                    return self.files.open(path)
            raise

    def _shape(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        found = self._find(self._open(request), request)
        self.files.measure(found)
        return {"shape": found.dataset.shape, "confined": self.confined}, b""

    def _size(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        found = self.files.find(self._open(request), request["dataset"])
        self.files.measure(found)
        return {"shape": found.dataset.shape, "confined": self.confined}, b""

    def _scalars(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        start, stop = request["start"], request["stop"]
        file = self._open(request)
        found = self.files.find(file, request["dataset"])
        per_point = _scalar_rows(found, request)
        stop = min(stop, start + SCALARS_MAX)
        audited = self._require(found, points=range(start, stop), rows_per_point=per_point)
        size = found.file.size
        values = sum_scalars(found, points=range(start, stop), rows_per_point=per_point)
        if found.file.size < size:
            raise FileBroken(f"{found.file} was cut short while it was being read")
        header = {"points": len(values), "length": found.dataset.shape[0], "identity": file.identity}
        header["marks"] = self.files.marks(audited)
        return {**header, "confined": self.confined}, values.tobytes()

    def _reduce(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        until = time.monotonic() + self.config.time_limit_s / 2
        start, stop = request["start"], request["stop"]
        file = self._open(request)
        found = self._find(file, request)
        if request.get("columns"):
            return self._reduce_grid(file, found, request, until)
        if (
            found.dataset.shape
            and list(found.dataset.shape) == request.get("point_shape")
            and len(found.dataset.shape) == 2
        ):
            return self._reduce_frame(file, found, request)
        layout = frame_layout_of(found, request)
        per_point = layout.rows_per_point
        rank = _frame_rank(found, layout)
        audited = self._require(found, points=range(start, stop), rows_per_point=per_point, frame_rank=rank)
        rois = _rois(found, request, layout)
        room = max(1, (PAYLOAD_MAX - PREVIEW_BYTES_MAX) // (8 * (len(rois) + 1)))
        points, size = range(start, min(stop, start + room)), found.file.size
        source = FrameSource(found, layout, self.files.gaps(found, rank))
        sums, last = sum_points(source, rois, points=points, frames_per_point=per_point, until=until)
        if found.file.size < size:
            raise FileBroken(f"{found.file} was cut short while it was being read")
        frame = shrink(source.shown(last)) if request["preview"] and start + len(sums) == stop else None
        header = {
            "length": found.dataset.shape[0],
            "bytes": len(sums) * per_point * source.frame_bytes,
            "marks": self.files.marks(audited),
            "gaps": _count(source.gaps),
        }
        return self._summed(file, found, header, sums, frame)

    def _summed(
        self, file: HdfFile, found: OpenDataset, header: dict[str, Any], sums: Sums, frame: npt.NDArray[Any] | None
    ) -> tuple[dict[str, Any], bytes]:
        """Return the answer with sums (points, ROIs + 1) and the preview frame, if requested."""
        about = {
            "points": len(sums),
            "identity": file.identity,
            "dtype": sums.dtype.str,
            "rounded": sums.dtype.kind == "f" and found.dataset.dtype.kind != "f",
            "frame": None if frame is None else [frame.dtype.str, *frame.shape],
            "confined": self.confined,
        }
        return {**about, **header}, sums.tobytes() + (b"" if frame is None else frame.tobytes())

    def _reduce_frame(self, file: HdfFile, found: OpenDataset, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        """Sum a dataset (height, width) that is the one frame of a point; see :meth:`_reduce`."""
        size = found.file.size
        audited, frame = self._one_frame(found, request)
        if found.file.size < size:
            raise FileBroken(f"{found.file} was cut short while it was being read")
        sums = sum_frames(frame[np.newaxis], _rois(found, request, FrameLayout(1, found.dataset.shape)))
        preview = shrink(frame) if request["preview"] else None
        header = {"length": 1, "bytes": frame.nbytes, "marks": self.files.marks(audited)}
        return self._summed(file, found, header, sums, preview)

    def _one_frame(self, found: OpenDataset, request: FrameRequest) -> tuple[dict[str, OpenDataset], npt.NDArray[Any]]:
        """Return a dataset (height, width) that is the one frame of a point, and the files that it is from."""
        height, width = found.dataset.shape
        if height * width * found.dataset.dtype.itemsize > CHUNK_BYTES_MAX or not height * width:
            raise FrameError(f"{found} is not a readable frame: its shape is {found.dataset.shape}")
        audited = self._require(found, points=range(1), rows_per_point=height)
        _rois(found, request, FrameLayout(1, (height, width)))
        try:
            return audited, np.asarray(found.dataset[...])
        except HDF5_ERRORS as error:
            found.file.forget_handle()
            raise FileBroken(f"{found} cannot be read: {shown(error)}") from error

    def _reduce_grid(
        self, file: HdfFile, found: OpenDataset, request: FrameRequest, until: float
    ) -> tuple[dict[str, Any], bytes]:
        """Sum a dataset (rows, columns, height, width) with a point for each row and column; see :meth:`_reduce`."""
        layout, columns, shape = _grid_layout(found, request), request.get("columns", 0), found.dataset.shape
        start, stop, size = request["start"], request["stop"], found.file.size
        audited = self._require_grid(found, range(start, stop), columns)
        rois = _rois(found, request, layout)
        gaps = self.files.gaps(found, FRAME_RANK)
        sums, frame = sum_grid(found, rois, points=range(start, stop), until=until, gaps=gaps)
        if found.file.size < size:
            raise FileBroken(f"{found.file} was cut short while it was being read")
        preview = shrink(frame) if request["preview"] and start + len(sums) == stop else None
        header = {
            "length": shape[0] * columns,
            "bytes": len(sums) * math.prod(shape[2:]) * found.dataset.dtype.itemsize,
            "marks": self.files.marks(audited),
            "gaps": _count(gaps),
        }
        return self._summed(file, found, header, sums, preview)

    def _add(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        """Answer with the sum of frames, pixel by pixel, or with the block sums of each point.

        An error counts only if no point could be read before it.
        """
        limit_s = min(request.get("limit_s", 0.0), self.config.time_limit_s / 2)
        running = RunningBlocks if request["ask"] == "blocks" else RunningTotal
        total = self._total = running(time.monotonic() + limit_s)
        marks: dict[str, list[Any]] = {}
        try:
            for start, stop in request.get("ranges", ()):
                begin = start
                while begin < stop and not (total.points and total.late):
                    of_range: FrameRequest = {**request, "ask": "add range", "start": begin, "stop": stop}
                    header, _ = self._asked(of_range)
                    marks |= {mark[0]: mark for mark in header["marks"]}
                    begin += header["points"]
        except (FileReplaced, FileDeleted):
            raise
        except SnakemapError:
            if not total.points:
                raise
        sums, frames = total.frames()
        self._total = RunningTotal(0.0)
        native = np.ascontiguousarray(sums, dtype=sums.dtype.newbyteorder("="))
        header = {
            "points": total.points,
            "frames": frames,
            "sums": [native.dtype.str, *native.shape],
            "marks": [*marks.values()],
            "confined": self.confined,
        }
        return header, native.tobytes()

    def _add_range(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        """Add the frames of consecutive points to the total."""
        total, start = self._total, request["start"]
        stop = min(request["stop"], start + ADDED_MAX)
        found = self._find(self._open(request), request)
        size, shape, before = found.file.size, found.dataset.shape, total.points
        if request.get("columns"):
            audited = self._add_grid(found, request, range(start, stop))
        elif len(shape) == FRAME_RANK and list(shape) == request.get("point_shape"):
            audited = self._add_frame(found, request)
        else:
            layout = frame_layout_of(found, request)
            points, rank = range(start, stop), _frame_rank(found, layout)
            audited = self._require(found, points=points, rows_per_point=layout.rows_per_point, frame_rank=rank)
            _rois(found, request, layout)
            source = FrameSource(found, layout, self.files.gaps(found, rank))
            add_points(total, source, points=points, rows_per_point=layout.rows_per_point)
        if found.file.size < size:
            total.clear()
            raise FileBroken(f"{found.file} was cut short while it was being read")
        return {"points": total.points - before, "marks": self.files.marks(audited)}, b""

    def _add_grid(self, found: OpenDataset, request: FrameRequest, points: range) -> dict[str, OpenDataset]:
        """Add frames of a dataset (rows, columns, height, width); see :meth:`_add_range`."""
        layout, columns = _grid_layout(found, request), found.dataset.shape[1]
        audited = self._require_grid(found, points, columns)
        _rois(found, request, layout)
        gaps = self.files.gaps(found, FRAME_RANK)
        self._total.begin(found.dataset.shape[2:], found.dataset.dtype, layout)
        for frames in grid_frames(found, points=points, gaps=gaps):
            self._total.add(frames, points=len(frames))
            if self._total.late:
                break
        return audited

    def _add_frame(self, found: OpenDataset, request: FrameRequest) -> dict[str, OpenDataset]:
        """Add a dataset (height, width) that is the one frame of a point; see :meth:`_add_range`."""
        audited, frame = self._one_frame(found, request)
        self._total.begin(frame.shape, frame.dtype, FrameLayout(1, (frame.shape[0], frame.shape[1])))
        self._total.add(frame[np.newaxis], points=1)
        return audited

    def _written(self, request: FrameRequest) -> tuple[dict[str, Any], bytes]:
        """Answer which points of a dataset are certainly written."""
        start, stop, columns = request["start"], request["stop"], request.get("columns", 0)
        found = self.files.find(self._open(request), request["dataset"])
        self.files.measure(found)
        stop = min(stop, start + WRITTEN_MAX)
        if columns:
            rows = range(start // columns, (stop - 1) // columns + 1)
            written = self.files.written(found, rows, frame_rank=FRAME_RANK)
            points = written.repeat(columns)[start - rows.start * columns :][: stop - start]
        else:
            per_point = rows_per_point(found, request)
            rank = _frame_rank(found, frame_layout_of(found, request)) if has_frames(found, request) else 0
            rows = range(start * per_point, stop * per_point)
            written = self.files.written(found, rows, frame_rank=rank)
            points = np.logical_and.reduce(written.reshape(-1, per_point), axis=1)
        return {"points": len(points), "confined": self.confined}, points.tobytes()

    def _require(
        self, found: OpenDataset, *, points: range, rows_per_point: int, frame_rank: int = 0
    ) -> dict[str, OpenDataset]:
        """Check that points are in the files; else the error has the number of leading ones that are."""
        rows = range(points.start * rows_per_point, points.stop * rows_per_point)
        try:
            return self.files.require(found, rows, frame_rank=frame_rank)
        except SnakemapError as error:
            error.ready = None if error.ready is None else error.ready // rows_per_point
            raise

    def _require_grid(self, found: OpenDataset, points: range, columns: int) -> dict[str, OpenDataset]:
        """Do the same for points in rows and columns; for the first row, point by point."""
        first, last = points.start // columns, (points.stop - 1) // columns
        head = range(points.start - first * columns, min(points.stop - first * columns, columns))
        audited = self.files.require(found, range(first, first + 1), columns=head, frame_rank=FRAME_RANK)
        if first == last:
            return audited
        try:
            return audited | self.files.require(found, range(first + 1, last + 1), frame_rank=FRAME_RANK)
        except SnakemapError as error:
            error.ready = None if error.ready is None else len(head) + error.ready * columns
            raise

    def _find(self, file: HdfFile, request: FrameRequest) -> OpenDataset:
        found = self.files.find(file, request["dataset"])
        try:
            sums_dtype(found.dataset.dtype)
        except TypeError as error:
            raise FrameError(f"{found} is of a datatype that cannot be summed") from error
        if request["ask"] == "shape":
            shape = found.dataset.shape
            frame_layout_of(found, {**request, "point_shape": list(shape[1:] if shape else ())})
        return found


def _frame_rank(found: OpenDataset, layout: FrameLayout) -> int:
    """Return the dimensions of a frame, including colors."""
    return len(found.dataset.shape) - 1 if layout.colors in ("first", "last") else FRAME_RANK


def _grid_layout(found: OpenDataset, request: FrameRequest) -> FrameLayout:
    """Return the layout of a dataset (rows, columns, height, width) with a point for each row and column."""
    columns, shape = request.get("columns", 0), found.dataset.shape
    if len(shape) != GRID_RANK or shape[1] != columns or not min(shape[2:]):
        raise FrameError(f"{found} is not a grid of frames with {columns:,} columns: its shape is {shape}")
    return FrameLayout(1, (shape[2], shape[3]))


def _count(gaps: Gaps | None) -> int:
    """Return the number of gap pixels."""
    return 0 if gaps is None else int(np.count_nonzero(gaps))


def _scalar_rows(found: OpenDataset, request: FrameRequest) -> int:
    """Return the rows per point of a dataset; check that it holds numbers."""
    shape = found.dataset.shape
    try:
        kind = found.dataset.dtype.kind
    except TypeError:
        kind = "unknown"
    if kind not in "biuf":
        raise FrameError(f"{found} holds text or records, not numbers: no map can be made of it")
    if not shape or 0 in shape[1:]:
        raise FrameError(f"{found} is not a column of numbers: its shape is {shape}")
    per_point, point_shape = request["frames_per_point"], request.get("point_shape", ())
    rows = scalar_rows(shape, frames_per_point=per_point, point_shape=point_shape)
    values = math.prod(shape[1:])
    if values > max(per_point, 1) or rows * values * found.dataset.dtype.itemsize > PORTION_BYTES:
        raise FrameError(f"{found} has {values:,} numbers a row, but the descriptor promises {per_point:,} a point")
    return rows


def _rois(found: OpenDataset, request: FrameRequest, layout: FrameLayout) -> list[Roi]:
    """Return the ROIs of a request; check the shape of the frames."""
    rows, columns = layout.frame_shape
    expected = request["frame_shape"]
    if expected is not None and list(expected) != [rows, columns]:
        raise FrameError(
            f"{found} has frames of {rows} rows and {columns} columns, "
            f"but its descriptor promises {expected[0]} and {expected[1]}"
        )
    rois = [Roi(str(number), *bounds) for number, bounds in enumerate(request["rois"], 1)]
    for roi in rois:
        roi.check((rows, columns))
    return rois


def main(fd: int) -> None:
    """Serve one parent until it disconnects."""
    with socket.socket(fileno=fd) as parent:
        header = _receive(parent)
        if header is None:
            return
        terms = ReaderConfig(**{**header, "path_map": tuple((writer, local) for writer, local in header["path_map"])})
        if terms.sums:
            _warm_up()
        if terms.blocks:
            warm_up_blocks()
        _limit(terms)
        reader = FileReader(terms)
        _send(parent, {"ready": True}, b"")
        while True:
            parent.settimeout(IDLE_S)
            try:
                first = parent.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                reader.files.close()
                continue
            parent.settimeout(None)
            request = _receive(parent) if first else None
            if request is None:
                return
            # ends this process if HDF5 hangs and the parent is gone
            signal.setitimer(signal.ITIMER_REAL, 1 + 1.5 * terms.time_limit_s)
            _send(parent, *reader.answer(cast("FrameRequest | InspectRequest", request)))
            signal.setitimer(signal.ITIMER_REAL, 0)


def _warm_up() -> None:
    """Load the compiled code for the usual detectors, while its cache can still be written."""
    for dtype in (np.uint8, np.uint16, np.uint32, np.int16, np.int32, np.float32, np.float64):
        sum_frames(np.zeros((1, 1, 1), dtype), [])


def _limit(config: ReaderConfig) -> None:
    """Limit the resources of this process; no core dump, which would hold frames."""
    os.nice(config.nice)
    for limit, most in (
        (resource.RLIMIT_AS, config.memory_limit_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES_OPEN_MAX),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _python_paths() -> list[Path]:
    """Return the directories that Python may still load from: code is compiled at the first frame of a dtype."""
    places = [*sys.path, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), "/usr/lib", "/lib", "/lib64"]
    return [Path(place) for place in dict.fromkeys(places) if place and place != "/"]


def _receive(parent: socket.socket) -> dict[str, Any] | None:
    """Return one message; None if the parent disconnected."""
    lengths = _exactly(parent, LENGTHS.size)
    if lengths is None:
        return None
    header = _exactly(parent, LENGTHS.unpack(lengths)[0])
    return None if header is None else json.loads(header)


def _exactly(parent: socket.socket, count: int) -> bytes | None:
    received = b""
    while len(received) < count:
        part = parent.recv(count - len(received))
        if not part:
            return None
        received += part
    return received


def _send(parent: socket.socket, header: dict[str, Any], payload: bytes) -> None:
    text = json.dumps(header).encode()
    parent.sendall(LENGTHS.pack(len(text), len(payload)) + text + payload)


if __name__ == "__main__":
    os.chdir("/")
    main(int(sys.argv[1]))
