"""HDF5 files that nobody vouches for: opened, walked and checked so that nothing in them leads out of the data root.

HDF5 itself follows soft links, external links, virtual datasets and external storage wherever they lead. Here every
link of a path is followed one at a time, and every file that one names goes through the gate of :mod:`snakemap.confine`
first. HDF5 may still crash or hang on a bad file, so this runs only in a process that can be replaced.

Frames that were announced and are not in the file yet would be read as zeros. They are told from dark ones by asking
where their chunks are.

A trap of HDF5 itself (seen in 2.0): refreshing a dataset that is open twice in one process, be it by a virtual dataset
that draws on it, makes HDF5 lose its chunks and read zeros, or crash. So one dataset is open at a time, nothing is
refreshed while a virtual one is open, and files are opened anew instead.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import PurePosixPath
from typing import Any

import h5py
from h5py import h5d, h5f, h5g, h5l, h5o, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.confine import DataRoot, local_path, shown
from snakemap.errors import FileBroken, FileNotReady, FileRefused, FrameError

__all__ = ["CHUNK_BYTES_MAX", "FileReplaced", "Found", "HdfFile", "Node", "OpenFiles", "link_of", "reading"]

CHUNK_BYTES_MAX = 256 << 20
"""Unpacked size of one chunk; a small file can declare a huge one."""

FILES_MAX = 16
HOPS_MAX = 64
"""Groups and links that one path may lead through."""

DEPTH_MAX = 8
SOURCES_MAX = 1_000
"""Files that one virtual dataset may draw on, and how deep one may lie in another."""

YOUNG_S = 60.0
"""A file changed this lately may still be in the making, so that what is wrong with it may mend."""

READ_ATTEMPTS = 26
"""How often HDF5 reads something again whose checksum is wrong, as a live writer may be at it. It waits twice as long
each time, from a nanosecond on: 26 times take 0.1 s, and the 100 times that are usual never end."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OPEN_FOR_WRITING, OPEN_FOR_SWMR = 0b001, 0b100
HDF5_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""All that h5py raises about a file."""


@dataclass(slots=True)
class HdfFile:
    """A file that is kept open between requests, and what is known of it.

    Attributes:
        name: where it is in the data root, like ``visit/scan-1.h5``.
        fd: pins it, whatever becomes of its name.
        identity: device and inode.
        lengths: frames that its datasets had when last seen, by path.
        largest: bytes that it had when it was largest.
        sound: by path, a row that was found to lie in the file, and the bytes that the file had then.
        handle: None when it has to be opened anew.
        loaded: its state when it was opened.
    """

    name: PurePosixPath
    fd: int
    identity: tuple[int, int]
    lengths: dict[str, int] = field(default_factory=dict)
    largest: int = 0
    sound: dict[str, tuple[int, int]] = field(default_factory=dict)
    handle: h5py.File | None = None
    loaded: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return shown(self.name)

    @property
    def state(self) -> tuple[int, int]:
        """Its size and when it was changed last (ns); another one when somebody has written to it."""
        status = os.fstat(self.fd)
        return status.st_size, status.st_mtime_ns

    @property
    def identified(self) -> tuple[int, int, int, int]:
        """Device, inode, size and when it was changed (ns): the same for the same bytes."""
        return (*self.identity, *self.state)

    @property
    def size(self) -> int:
        """Its bytes on disk now."""
        return os.fstat(self.fd).st_size

    @property
    def shrunk(self) -> bool:
        """Whether it has been larger."""
        return self.size < self.largest

    @property
    def young(self) -> bool:
        """Whether somebody wrote to it a moment ago, or by a clock that is ahead of ours."""
        return time.time() - os.fstat(self.fd).st_mtime < YOUNG_S

    def forget_handle(self) -> None:
        """Has HDF5 let go of it, so that the next request sees it afresh."""
        if self.handle is not None:
            self.handle.close()
            self.handle = None

    def close(self) -> None:
        """Lets it go for good."""
        self.forget_handle()
        os.close(self.fd)


class FileReplaced(FileBroken):
    """What was known of a file does not hold any more; asked again, it is what it is now."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a path leads to, and the file that really holds it.

    Attributes:
        file: that the last external link led to.
        item: opened, not yet refreshed.
        path: as it was asked for.
        place: the path in the file that holds it, every link resolved.
    """

    file: HdfFile
    item: h5py.Group | h5py.Dataset | h5py.Datatype
    path: str
    place: str

    def __str__(self) -> str:
        return f"{self.file}, {shown(self.path)}"


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset, and the file that really holds it.

    Attributes:
        file: that the last external link led to.
        dataset: opened, not yet refreshed.
        path: as it was asked for.
    """

    file: HdfFile
    dataset: h5py.Dataset
    path: str

    @property
    def virtual(self) -> bool:
        """Whether it draws on other datasets."""
        return self.dataset.id.get_create_plist().get_layout() == h5d.VIRTUAL

    def __str__(self) -> str:
        return f"{self.file}, {shown(self.path)}"


class OpenFiles:
    """The files that a reader has open, the ones used last.

    Args:
        root: the gate.
        path_map: pairs of the writer's prefix and ours, for absolute names in external links.
        locking: whether HDF5 locks them.
    """

    def __init__(self, root: DataRoot, *, path_map: tuple[tuple[str, str], ...] = (), locking: bool = False) -> None:
        self.root = root
        self.path_map = path_map
        self.locking = locking
        self._files: OrderedDict[str, HdfFile] = OrderedDict()

    def close(self) -> None:
        """Closes them all."""
        while self._files:
            self._files.popitem()[1].close()

    def open(self, path: str | os.PathLike[str]) -> HdfFile:
        """Opens a file, or finds it open.

        Raises:
            FileRefused: it is not for us to read.
            FileNotReady: not there, empty, locked or held by a writer that lets nobody read yet.
            FileBroken: no HDF5, cut short, or deleted or replaced since it was last read (told once).
        """
        file = self._current(os.fspath(path))
        self._load(file)
        return file

    def begin(self) -> None:
        """Before a request: no dataset is open, and only the files that were used last."""
        if h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_DATASET):
            self._forget_handles()
        while len(self._files) > FILES_MAX:
            self._files.popitem(last=False)[1].close()

    def find(self, file: HdfFile, path: str) -> Found:
        """Walks to a dataset, following links within the data root.

        Raises:
            FileRefused: a link leads out of the root.
            FileNotReady: something on the path is not there.
            FileBroken: HDF5 cannot read what is on the path, or the links go round in circles.
            FrameError: the path ends at something else than a dataset.
        """
        found = _dataset(self._walk(file, path, follow_files=True))
        with reading(found.file, f"{shown(path)} cannot be looked at"):
            virtual = found.virtual
        if not virtual:
            return found
        del found
        self._forget_handles()
        self._load(file)
        return _dataset(self._walk(file, path, follow_files=True))

    def node(self, file: HdfFile, path: str) -> Node:
        """Walks to whatever a path leads to; raises as :meth:`find` does."""
        return self._walk(file, path, follow_files=True)

    def open_afresh(self, path: str | os.PathLike[str]) -> HdfFile:
        """As :meth:`open`, and HDF5 sees the file as it is now, not as it was when it was opened."""
        file = self._current(os.fspath(path))
        if file.young or file.state != file.loaded:
            file.forget_handle()
        self._load(file)
        return file

    def again(self, file: HdfFile) -> HdfFile:
        """The same file, opened again should HDF5 have let it go; raises as :meth:`open` does."""
        self._load(file)
        return file

    def trim(self, file: HdfFile) -> None:
        """Closes the files that were used longest ago when there are too many; never this one."""
        for path, other in list(self._files.items())[: max(0, len(self._files) - FILES_MAX)]:
            if other is not file:
                self._forget(path)

    def allow(self, found: Found) -> None:
        """As :meth:`require` without rows, for a dataset of whatever shape that is only looked at."""
        _Audit(self, found.file.name.parent, of_frames=False).check(found, None)

    def require(self, found: Found, rows: range | None) -> None:
        """Refreshes a dataset and makes sure that its frames are in the file, and nowhere outside the data root.

        Args:
            found: the dataset; it has a row a frame.
            rows: that must have been written; None: as many as there are.

        Raises:
            FileRefused: it is, or draws on, something outside the root.
            FileNotReady: some of them have not been written yet.
            FileBroken: file or dataset were cut short, or it draws on itself, or its chunks are too large to unpack.
        """
        _Audit(self, found.file.name.parent).check(found, rows)

    def beside(self, file: HdfFile, name: str) -> HdfFile:
        """Opens a file named in another one, relative to its directory; raises as :meth:`open` does."""
        directory, parts = file.name.parent, deque(PurePosixPath(name).parts)
        while parts and parts[0] == ".." and directory.parts:
            parts.popleft()
            directory = directory.parent
        return self.open(directory.joinpath(*parts))

    def _current(self, path: str) -> HdfFile:
        """The file of that name, as the one it was when last read."""
        known = self._files.get(path)
        try:
            fd = self.root.open(path)
        except FileNotReady as error:
            if known is not None and isinstance(error.__cause__, FileNotFoundError):
                self._forget(path)
                raise FileReplaced(f"{known} was deleted while it was being read") from error
            raise
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        if known is not None:
            os.close(fd)
            if identity != known.identity:
                self._forget(path)
                raise FileReplaced(f"{known} was replaced by another file while it was being read")
            self._files.move_to_end(path)
            return known
        file = self._files[path] = HdfFile(self.root.name_of(fd), fd, identity)
        return file

    def _forget(self, path: str) -> None:
        self._files.pop(path).close()

    def _forget_handles(self) -> None:
        for file in self._files.values():
            file.forget_handle()

    def _load(self, file: HdfFile) -> None:
        file.largest = max(file.largest, file.size)
        if file.handle:
            return
        try:
            name, flags = b"/proc/self/fd/%d" % file.fd, h5f.ACC_RDONLY | h5f.ACC_SWMR_READ
            file.loaded = file.state
            file.handle = h5py.File(h5f.open(name, flags, fapl=_access(locking=self.locking)))
        except BlockingIOError as error:
            raise FileNotReady(f"{file} is locked by its writer") from error
        except HDF5_ERRORS as error:
            raise _unopened(file, error) from error

    def _walk(self, file: HdfFile, path: str, *, follow_files: bool) -> Node:
        """Walks one link at a time, so that HDF5 never follows one by itself."""
        if "\0" in path:
            raise FrameError(f"{shown(path)} is no path in a file")
        node, place, parts = _root_group(file), "", deque(_parts(path))
        for _ in range(HOPS_MAX):
            if not parts:
                return Node(file, node, path, place or "/")
            name = parts.popleft()
            link = _link(file, node, name, path)
            if isinstance(link, h5py.HardLink):
                step, place = self._step(file, node, name, path), f"{place}/{name}"
                if isinstance(step, h5py.Group):
                    node = step
                    continue
                if parts:
                    raise FrameError(f"{file}, {shown(path)} leads through a {_word(step)}, not through groups")
                return Node(file, step, path, place)
            if isinstance(link, h5py.ExternalLink) and follow_files:
                file = self._linked(file, link.filename)
                node, place = _root_group(file), ""
            elif not isinstance(link, h5py.SoftLink):
                raise FileRefused(f"{file}, {shown(path)} leads through a link that is not followed")
            elif link.path.startswith("/"):
                node, place = _root_group(file), ""
            parts.extendleft(reversed(_parts(link.path)))
        raise FileBroken(f"{file}, {shown(path)} leads through too many links")

    def _linked(self, file: HdfFile, name: str) -> HdfFile:
        return self.open(local_path(name, self.path_map)) if name.startswith("/") else self.beside(file, name)

    def _step(self, file: HdfFile, node: h5py.Group, name: str, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Opens a member of a group; a virtual dataset gets its sources from beside its own file."""
        with reading(file, f"{shown(path)} cannot be opened"):
            raw = name.encode(errors="surrogateescape")
            kind = h5o.get_info(node.id, raw).type
            if kind == h5o.TYPE_GROUP:
                return h5py.Group(h5g.open(node.id, raw))
            if kind == h5o.TYPE_DATASET:
                access = h5p.create(h5p.DATASET_ACCESS)
                access.set_virtual_prefix(os.fsencode(self.root.root / file.name.parent))
                return h5py.Dataset(h5d.open(node.id, raw, access))
            if kind == h5o.TYPE_NAMED_DATATYPE:
                return h5py.Datatype(h5t.open(node.id, raw))
        raise FrameError(f"{file}, {shown(path)} is no group, dataset or datatype")


class _Audit:
    """Checks where the frames of one dataset come from, through all the files that it draws on.

    HDF5 opens the sources of virtual datasets itself, by name. So that it opens those that were checked, names must be
    absolute or lie in the one directory, and lead through no further files.
    """

    def __init__(self, files: OpenFiles, directory: PurePosixPath, *, of_frames: bool = True) -> None:
        self._files = files
        self._of_frames = of_frames
        self._directory = directory
        self._within: list[tuple[tuple[int, int], int]] = []
        self._sources = 0

    def check(self, found: Found, rows: range | None) -> None:
        """As :meth:`OpenFiles.require`."""
        with reading(found.file, f"{shown(found.path)} cannot be looked at"):
            creation = found.dataset.id.get_create_plist()
            external, layout = creation.get_external_count(), creation.get_layout()
        if external:
            raise FileRefused(f"{found} keeps its frames outside HDF5, which is not followed")
        if layout == h5d.VIRTUAL:
            self._check_virtual(found, creation, rows)
        elif not self._sources:
            with reading(found.file, f"{shown(found.path)} cannot be refreshed"):
                found.dataset.refresh()
        if self._of_frames:
            _check_length(found, rows)
        if layout == h5d.CHUNKED:
            _check_chunks(found, rows)
        elif layout == h5d.CONTIGUOUS:
            _check_contiguous(found, rows)

    def _check_virtual(self, found: Found, creation: h5p.PropDCID, rows: range | None) -> None:
        key = (found.file.identity, h5o.get_info(found.dataset.id).addr)
        if key in self._within:
            raise FileBroken(f"{found} is a virtual dataset that draws on itself")
        if len(self._within) >= DEPTH_MAX:
            raise FileBroken(f"{found} draws on virtual datasets too many levels deep")
        self._within.append(key)
        with reading(found.file, f"the sources of {shown(found.path)} cannot be looked up"):
            count = creation.get_virtual_count()
        self._sources += count
        if self._sources > SOURCES_MAX:
            raise FileBroken(f"{found} draws on more than {SOURCES_MAX:,} sources")
        for number in range(count):
            self._check_source(found, creation, number, rows)
        self._within.pop()

    def _check_source(self, found: Found, creation: h5p.PropDCID, number: int, rows: range | None) -> None:
        with reading(found.file, f"the sources of {shown(found.path)} cannot be looked up"):
            name, path = creation.get_virtual_filename(number), creation.get_virtual_dsetname(number)
            needed = _source_rows(creation, number, rows)
        if "%" in name or "%" in path:
            raise FileRefused(f"{found} has sources named by a pattern, which are not followed")
        if not name.startswith("/") and found.file.name.parent != self._directory:
            raise FileRefused(f"{found} has sources relative to another directory, which are not followed")
        try:
            file = self._file(found.file, name)
            source = _dataset(self._files._walk(file, path, follow_files=False))
            self.check(source, needed if source.dataset.ndim == found.dataset.ndim else None)
        except FileNotReady:
            # frames that are not asked for may come from a file that is not there yet
            if needed is None or needed:
                raise

    def _file(self, file: HdfFile, name: str) -> HdfFile:
        if name == ".":
            return file
        return self._files.open(name) if name.startswith("/") else self._files.beside(file, name)


@dataclass(frozen=True, slots=True)
class _Stripes:
    """Rows that a virtual dataset maps: blocks of neighbors, evenly spaced.

    >>> stripes = _Stripes(start=4, stride=3, block=2, count=3)
    >>> [(index, stripes.row(index)) for index in range(6)]
    [(0, 4), (1, 5), (2, 7), (3, 8), (4, 10), (5, 11)]
    >>> [(row, stripes.index(row)) for row in (0, 4, 6, 7, 11, 12, 99)]
    [(0, 0), (4, 0), (6, 2), (7, 2), (11, 5), (12, 6), (99, 6)]
    """

    start: int
    stride: int
    block: int
    count: int

    def row(self, index: int) -> int:
        """The row that comes at an index."""
        return self.start + index // self.block * self.stride + index % self.block

    def index(self, row: int) -> int:
        """The index at which the first row comes that is not before this one."""
        blocks, offset = divmod(max(row - self.start, 0), self.stride)
        return min(blocks * self.block + min(offset, self.block), self.count * self.block)

    @classmethod
    def of(cls, space: h5s.SpaceID) -> _Stripes | None:
        """Those of a selection; None when it is not a regular one."""
        if space.get_select_type() == h5s.SEL_ALL:
            return cls(0, 1, 1, h5s.UNLIMITED)
        if space.get_select_type() != h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
            return None
        start, stride, count, block = (sizes[0] for sizes in space.get_regular_hyperslab())
        return cls(start, max(stride, 1), max(block, 1), count)


def _source_rows(creation: h5p.PropDCID, number: int, rows: range | None) -> range | None:
    """Rows of a source that some rows of the virtual dataset are drawn from; None when that cannot be told."""
    try:
        mapped = _Stripes.of(creation.get_virtual_vspace(number))
        source = _Stripes.of(creation.get_virtual_srcspace(number))
    except (RuntimeError, ValueError):
        return None
    if rows is None or mapped is None or source is None:
        return None
    first, stop = mapped.index(rows.start), mapped.index(rows.stop)
    return range(source.row(first), source.row(stop - 1) + 1) if first < stop else range(0)


def _check_length(found: Found, rows: range | None) -> None:
    """The dataset is as long as some rows need, and not shorter than it has been."""
    if not found.dataset.shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    length, lengths = found.dataset.shape[0], found.file.lengths
    before = lengths.pop(found.path, 0)
    rows_are = "frame" if found.dataset.ndim > 2 else "value"
    if length < before:
        found.file.sound.pop(found.path, None)
        raise FileReplaced(f"{found} had {before:,} {rows_are}s, and now has {length:,}")
    lengths[found.path] = length
    if rows and rows.stop > length:
        found.file.forget_handle()
        raise FileNotReady(f"{found} has {length:,} {rows_are}s (yet), and {rows_are} {rows.stop:,} is asked for")


def _check_chunks(found: Found, rows: range | None) -> None:
    """Chunks are small enough to unpack, and those of some rows are in the file."""
    dataset, chunk_shape = found.dataset, found.dataset.chunks or (1,)
    chunk_bytes = math.prod(chunk_shape) * dataset.id.get_type().get_size()
    if chunk_bytes > CHUNK_BYTES_MAX:
        raise FileBroken(
            f"{found} has chunks of {chunk_bytes / 1e6:,.0f} MB; more than {CHUNK_BYTES_MAX / 1e6:,.0f} MB are not read"
        )
    if not rows:
        return
    step = chunk_shape[0]
    starts = range(rows.start // step * step, rows.stop, step)
    others = [range(0, size, chunk) for size, chunk in zip(dataset.shape[1:], chunk_shape[1:], strict=True)]
    with reading(found.file, f"the frames of {shown(found.path)} cannot be looked up"):
        stored = 0
        for corner in product(starts, *others):
            chunk_bytes = _stored(dataset, corner)
            if not chunk_bytes:
                _check_chunk(found, corner)
            stored += chunk_bytes
        if not _is_sound(found, starts[-1], stored // (len(starts) * step)):
            for corner in product(starts[-1:], *others):
                _check_chunk(found, corner)
            # of a file that was written long ago all rows are found to be there at once
            last = (dataset.shape[0] - 1) // step * step
            there = last > starts[-1] and all(_is_there(found, corner) for corner in product([last], *others))
            found.file.sound[found.path] = last if there else starts[-1], found.file.size


def _is_sound(found: Found, row: int, row_bytes: int) -> bool:
    """Whether a chunk that is there lies in the file for sure, so that nobody need look where.

    Files grow with their rows. What lies before a row that was in the file is in it, too, as long as the file has not
    been cut; and so is what came after, when the file has grown by as much.
    """
    if found.path not in found.file.sound or found.file.shrunk:
        return False
    sound, size = found.file.sound[found.path]
    return row <= sound or found.file.size - size >= (row - sound) * row_bytes


def _check_chunk(found: Found, corner: tuple[int, ...]) -> None:
    """A chunk is in the file. To find it HDF5 goes through all chunks before it."""
    chunk = found.dataset.id.get_chunk_info_by_coord(corner)
    if chunk.byte_offset is None:
        raise FileNotReady(f"{found} has not been written from frame {corner[0]:,} on (yet)")
    _check_end(found.file, chunk.byte_offset + chunk.size)


def _is_there(found: Found, corner: tuple[int, ...]) -> bool:
    """Whether a chunk that nobody asked for is in the file."""
    if not _stored(found.dataset, corner):
        return False
    chunk = found.dataset.id.get_chunk_info_by_coord(corner)
    return chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= found.file.size


def _stored(dataset: h5py.Dataset, corner: tuple[int, ...]) -> int:
    """Bytes of a chunk in its file, at the same cost wherever it is; 0 when it is not there, or HDF5 cannot tell."""
    sizes, stored = (ctypes.c_uint64 * len(corner))(*corner), ctypes.c_uint64()
    # not in h5py; the function is found in the very library that h5py uses
    ask = ctypes.CDLL(h5f.__file__).H5Dget_chunk_storage_size
    return stored.value if ask(ctypes.c_int64(dataset.id.id), sizes, ctypes.byref(stored)) >= 0 else 0


def _check_contiguous(found: Found, rows: range | None) -> None:
    dataset = found.dataset
    if not rows:
        return
    offset = dataset.id.get_offset()
    if offset is None:
        raise FileNotReady(f"{found} has not been written (yet)")
    row_bytes = math.prod(dataset.shape[1:]) * dataset.id.get_type().get_size()
    _check_end(found.file, offset + rows.stop * row_bytes)


def _check_end(file: HdfFile, end: int) -> None:
    """Frames lie before the end of the file; beyond it HDF5 would read zeros."""
    if end <= file.size:
        return
    if file.young and end > file.largest:
        raise FileNotReady(f"{file} is shorter than its frames need (yet)")
    raise FileBroken(f"{file} was cut short: frames are missing at its end")


def _access(*, locking: bool) -> h5p.PropFAID:
    """How files are opened: as h5py does it, and with an end to HDF5's patience."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(locking, False)
    # not in h5py; the function is found in the very library that h5py uses
    patience = ctypes.CDLL(h5f.__file__).H5Pset_metadata_read_attempts
    patience(ctypes.c_int64(access.id), ctypes.c_uint(READ_ATTEMPTS))
    return access


def _unopened(file: HdfFile, error: BaseException) -> FileNotReady | FileBroken:
    """What it means that HDF5 cannot open a file, by what is in it and how old it is."""
    head = os.pread(file.fd, 12, 0)
    if not _has_signature(file):
        if head.strip(b"\0"):
            return FileBroken(f"{file} is no HDF5 file")
        if file.young:
            return FileNotReady(f"{file} is still empty")
        return FileBroken(f"{file} is empty, and nobody is writing to it")
    if file.shrunk:
        return FileBroken(f"{file} was cut short: {_words(error)}")
    flags = head[11] if len(head) == 12 and head[8] >= 3 else 0
    if flags & OPEN_FOR_WRITING and not flags & OPEN_FOR_SWMR:
        return FileNotReady(f"{file} is open in its writer, which lets nobody else read yet (SWMR is not on)")
    if file.young:
        return FileNotReady(f"{file} cannot be read (yet): {_words(error)}")
    return FileBroken(f"{file} cannot be opened as HDF5: {_words(error)}")


def _has_signature(file: HdfFile) -> bool:
    """HDF5 files begin at 0 or, behind a block of the user's, at 512, 1024, 2048 and so on."""
    places = [0, *(512 << power for power in range(40) if 512 << power < file.size)]
    return any(os.pread(file.fd, len(SIGNATURE), place) == SIGNATURE for place in places)


@contextmanager
def reading(file: HdfFile, doing: str) -> Iterator[None]:
    """Turns what h5py raises about a file into our words; the file is opened afresh the next time."""
    try:
        yield
    except HDF5_ERRORS as error:
        file.forget_handle()
        kind = FileNotReady if file.young and not file.shrunk and not isinstance(error, MemoryError) else FileBroken
        raise kind(f"{file}: {doing}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return shown(" ".join(str(argument) for argument in error.args) or type(error).__name__)


def link_of(group: h5py.Group, name: str) -> h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None:
    """The link of a member, be its name text or not; None for a kind of link that HDF5 does not know itself.

    Raises:
        KeyError: the group has no such member.
        OSError, RuntimeError, ValueError: HDF5 cannot read it.
    """
    raw, links = name.encode(errors="surrogateescape"), group.id.links
    if not links.exists(raw):
        raise KeyError(name)
    kind = links.get_info(raw).type
    if kind == h5l.TYPE_HARD:
        return h5py.HardLink()
    if kind == h5l.TYPE_SOFT:
        return h5py.SoftLink(links.get_val(raw).decode(errors="surrogateescape"))
    if kind == h5l.TYPE_EXTERNAL:
        file, path = links.get_val(raw)
        return h5py.ExternalLink(os.fsdecode(file), path.decode(errors="surrogateescape"))
    return None


def _link(file: HdfFile, node: h5py.Group, name: str, path: str) -> Any:
    """What kind of link a member of a group is."""
    with reading(file, f"{shown(path)} cannot be looked up"):
        try:
            return link_of(node, name)
        except KeyError as error:
            file.forget_handle()
            raise FileNotReady(f"{file} has no {shown(path)} (yet)") from error


def _dataset(node: Node) -> Found:
    if isinstance(node.item, h5py.Dataset):
        return Found(node.file, node.item, node.path)
    raise FrameError(f"{node} is a {_word(node.item)}, not a dataset")


def _word(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> str:
    return {h5py.Dataset: "dataset", h5py.Datatype: "datatype"}.get(type(item), "group")


def _root_group(file: HdfFile) -> h5py.Group:
    with reading(file, "its root group cannot be opened"):
        if file.handle is None:
            raise ValueError("the file is closed")
        return h5py.Group(h5g.open(file.handle.id, b"/"))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
