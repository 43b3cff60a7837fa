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
import functools
import math
import os
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5f, h5g, h5l, h5o, h5p, h5t  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.confine import DataRoot, local_path, shown
from snakemap.errors import FileBroken, FileNotReady, FileRefused, FileReplaced, FrameError, SnakemapError
from snakemap.hdf5_signature import HEAD_BYTES, head_of
from snakemap.hdf5_virtual import Gaps, Mapping, VirtualMap

__all__ = [
    "CHUNK_BYTES_MAX",
    "FileDeleted",
    "Found",
    "HdfFile",
    "Node",
    "OpenFiles",
    "creation_of",
    "link_of",
    "reading",
]

CHUNK_BYTES_MAX = 256 << 20
"""Unpacked size of one chunk; a small file can declare a huge one."""

FILES_MAX = 16
HOPS_MAX = 64
"""Groups and links that one path may lead through."""

DEPTH_MAX = 8
SOURCES_MAX = 1_000
BLOCKS_MAX = 10_000
"""Sources that one virtual dataset may draw on when it is looked at, files of one pattern, and how deep one may lie in
another."""

COLUMNS_MAX = 256
"""Points in one row of a virtual dataset that are looked up one by one."""

CHECKSUM_BYTES = 16 << 10
MARKS_MAX = 200
"""Files that are recognized in one answer, and bytes of each that are looked at."""

MAPS_MAX = 100
"""Virtual datasets of one file whose mappings are kept."""

YOUNG_S = 60.0
"""A file changed this lately may still be in the making, so that what is wrong with it may mend."""

READ_ATTEMPTS = 26
"""How often HDF5 reads something again whose checksum is wrong, as a live writer may be at it. It waits twice as long
each time, from a nanosecond on: 26 times take 0.1 s, and the 100 times that are usual never end."""

OPEN_FOR_WRITING, OPEN_FOR_SWMR = 0b001, 0b100
Indices = npt.NDArray[np.int64]
HDF5_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""All that h5py raises about a file."""


@dataclass(slots=True)
class HdfFile:
    """A file that is kept open between requests, and what is known of it.

    Attributes:
        name: where it is in the data root, like ``visit/scan-1.h5``.
        fd: pins it, whatever becomes of its name.
        identity: device and inode.
        lengths: rows of its datasets up to the last one that was found, by path.
        largest: bytes that it had when it was largest.
        sound: by path, a row that was found to lie in the file, and the bytes that the file had then.
        firsts: where the first rows of its datasets lie: offset and bytes, by path.
        maps: mappings of its virtual datasets, by address, with the state of the file that they are from.
        virtuals: paths that led to virtual datasets.
        allowed: addresses of virtual datasets whose sources are in the data root.
        handle: None when it has to be opened anew.
        loaded: its state when it was opened.
    """

    name: PurePosixPath
    fd: int
    identity: tuple[int, int]
    lengths: dict[str, int] = field(default_factory=dict)
    largest: int = 0
    sound: dict[str, tuple[int, int]] = field(default_factory=dict)
    firsts: dict[str, tuple[int, int]] = field(default_factory=dict)
    maps: dict[int, tuple[tuple[int, int], VirtualMap]] = field(default_factory=dict)
    virtuals: set[str] = field(default_factory=set)
    allowed: set[int] = field(default_factory=set)
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


class FileDeleted(FileBroken):
    """A file is gone that was there before; asked again, it is not there yet."""


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
        return creation_of(self.dataset).get_layout() == h5d.VIRTUAL

    def __str__(self) -> str:
        return f"{self.file}, {shown(self.path)}"


class OpenFiles:
    """The files that a reader has open, the ones used last.

    Args:
        root: the gate.
        path_map: pairs of the writer's prefix and ours, for absolute names in external links.
        locking: whether HDF5 locks them.

    Attributes:
        parts: what :mod:`snakemap.hdf5_parts` has found of late.
    """

    def __init__(self, root: DataRoot, *, path_map: tuple[tuple[str, str], ...] = (), locking: bool = False) -> None:
        self.root = root
        self.path_map = path_map
        self.locking = locking
        self.parts: dict[Any, tuple[float, Any]] = {}
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
        if path not in file.virtuals:
            found = _dataset(self._walk(file, path, follow_files=True))
            with reading(found.file, f"{shown(path)} cannot be looked at"):
                virtual = found.virtual
            if not virtual:
                return found
            if len(file.virtuals) < MAPS_MAX:
                file.virtuals.add(path)
            del found
        self._forget_handles()
        self._load(file)
        found = _dataset(self._walk(file, path, follow_files=True))
        if found.virtual:
            _Audit(self, found.file.name.parent).allow_unlimited(found)
        return found

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
        """Makes sure that a dataset of whatever shape draws on nothing outside the data root, and refreshes it."""
        _Audit(self, found.file.name.parent).allow(found)

    def measure(self, found: Found) -> None:
        """Refreshes a dataset, so that its shape is what it is now; raises as :meth:`require` does.

        Sources of a virtual one may be missing. They are looked at once: what is read of them is audited then.
        """
        audit = _Audit(self, found.file.name.parent)
        if not found.virtual:
            audit.allow(found)
        else:
            self.virtual_map(found)  # which forgets what was allowed when the file has changed
            place = h5o.get_info(found.dataset.id).addr
            if place not in found.file.allowed:
                audit.allow_what_is_there(found)
                found.file.allowed.add(place)
        _check_length(found)

    def require(
        self, found: Found, rows: range, *, columns: range | None = None, frame_rank: int = 0
    ) -> dict[str, Found]:
        """Refreshes a dataset and makes sure that its frames are in the file, and nowhere outside the data root.

        Args:
            found: the dataset; it has a row a frame.
            rows: that must have been written.
            columns: frames of the one row that must have been written, where a row holds many.
            frame_rank: dimensions of a frame, the last ones, when it may have gaps between modules, see :meth:`gaps`.

        Returns:
            Datasets that the frames come from, by name.

        Raises:
            FileRefused: it is, or draws on, something outside the root.
            FileNotReady: some of them have not been written yet; `ready` says how many come before these.
            FileBroken: file or dataset were cut short, or it draws on itself, or its chunks are too large to unpack.
        """
        audit = _Audit(self, found.file.name.parent)
        backing = audit.back(found, _needed(found, rows, columns), frame_rank)
        trouble = backing.trouble
        if trouble is not None:
            if found.virtual and isinstance(trouble, FileNotReady):
                number = (columns or rows)[backing.leading] + 1
                words = f"{_rows_are(found).capitalize()} {number:,} of {found} is not there (yet): {trouble}"
                trouble = FileNotReady(words)
            found.file.forget_handle()
            trouble.ready = backing.leading
            raise trouble
        return audit.audited

    def marks(self, audited: dict[str, Found]) -> list[list[Any]]:
        """How the files that frames were just read of are recognized: name, inode, address of the dataset, checksum.

        Raises:
            FileReplaced: one of them was exchanged while it was read.
            FileDeleted: one is not there any more.
        """
        told = []
        for one in [*audited.values()][:MARKS_MAX]:
            self._check_name(one.file)
            address = h5o.get_info(one.dataset.id).addr
            told.append([str(one), one.file.identity[1], address, _checksum(one)])
        return told

    def _check_name(self, file: HdfFile) -> None:
        """A name stands for the file that is open under it."""
        try:
            fd = self.root.open(file.name)
        except FileNotReady as error:
            raise FileDeleted(f"{file} was deleted while it was being read") from error
        status = os.fstat(fd)
        os.close(fd)
        if (status.st_dev, status.st_ino) != file.identity:
            raise FileReplaced(f"{file} was replaced by another file while it was being read")

    def gaps(self, found: Found, frame_rank: int) -> Gaps | None:
        """Pixels of a frame that no source ever has, in a dataset that was required; None when there are none.

        Args:
            found: the dataset.
            frame_rank: dimensions of a frame, the last ones.
        """
        return _Audit(self, found.file.name.parent).gaps(found, frame_rank) if found.virtual else None

    def written(self, found: Found, rows: range, *, frame_rank: int = 0) -> npt.NDArray[np.bool_]:
        """Which rows (rows,) of a dataset were written for certain, as their own chunks show; raises as the others."""
        audit = _Audit(self, found.file.name.parent, proved=True)
        backing = audit.back(found, _needed(found, rows, None), frame_rank)
        return np.pad(backing.ok, (0, len(rows) - len(backing.ok)))

    def virtual_map(self, found: Found) -> VirtualMap:
        """The mappings of a virtual dataset, which are looked through once as long as its file stays as it is."""
        address, state = h5o.get_info(found.dataset.id).addr, found.file.state
        known = found.file.maps.get(address)
        if known is None or known[0] != state:
            with reading(found.file, f"the sources of {shown(found.path)} cannot be looked up"):
                known = state, VirtualMap.of(_creation(found))
            for name in {mapping.file for mapping in known[1].mappings if "%" not in mapping.file} - {"."}:
                self._refuse_outside(found.file, name)
            found.file.allowed.discard(address)
            if len(found.file.maps) >= MAPS_MAX:
                found.file.maps.clear()
                found.file.allowed.clear()
            found.file.maps[address] = known
        return known[1]

    def _refuse_outside(self, file: HdfFile, name: str) -> None:
        with suppress(FileNotReady):
            os.close(self.root.open(name if name.startswith("/") else self._place_beside(file, name)))

    def beside(self, file: HdfFile, name: str) -> HdfFile:
        """Opens a file named in another one, relative to its directory; raises as :meth:`open` does."""
        return self.open(self._place_beside(file, name))

    def _place_beside(self, file: HdfFile, name: str) -> PurePosixPath:
        directory, parts = file.name.parent, deque(PurePosixPath(name).parts)
        while parts and parts[0] == ".." and directory.parts:
            parts.popleft()
            directory = directory.parent
        return directory.joinpath(*parts)

    def _current(self, path: str) -> HdfFile:
        """The file of that name, as the one it was when last read."""
        known = self._files.get(path)
        try:
            fd = self.root.open(path)
        except FileNotReady as error:
            if known is not None and isinstance(error.__cause__, FileNotFoundError):
                self._forget(path)
                raise FileDeleted(f"{known} was deleted while it was being read") from error
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


@dataclass(frozen=True, slots=True)
class _Need:
    """Elements of a dataset, as the product of what is needed along each dimension.

    Attributes:
        axis: dimension along which rows are counted.
        indices: along each dimension, in rising order.
    """

    axis: int
    indices: tuple[Indices | range, ...]

    @property
    def rows(self) -> Indices:
        """Those along the axis."""
        return _array(self.indices[self.axis])

    @property
    def others(self) -> tuple[Indices, ...]:
        """Those along the other dimensions."""
        return tuple(_array(index) for index in (*self.indices[: self.axis], *self.indices[self.axis + 1 :]))

    def only(self, row: int) -> _Need:
        """One of its rows."""
        return _Need(self.axis, (*self.indices[: self.axis], np.array([row]), *self.indices[self.axis + 1 :]))


def _array(index: Indices | range) -> Indices:
    if len(index) > CHUNK_BYTES_MAX:
        raise FileBroken(f"{len(index):,} elements along one dimension are more than is looked through")
    return np.arange(index.start, index.stop) if isinstance(index, range) else index


def _starts(index: Indices | range, size: int) -> Sequence[int]:
    """Where the chunks begin that hold some elements."""
    if isinstance(index, range):
        return range(index.start // size * size, index.stop, size)
    return np.unique(index // size * size).tolist()


class _Backing:
    """Which rows of a need are in files.

    Attributes:
        ok: whether each row is (rows,).
        trouble: why the first that is not is not; None when all are.
    """

    def __init__(self, count: int) -> None:
        self.ok = np.ones(count, bool)
        self.trouble: SnakemapError | None = None
        self._first = count

    def lack(self, missing: npt.NDArray[np.bool_], trouble: Callable[[int], SnakemapError]) -> None:
        """Notes rows (rows,) that are missing, and of the first of them why."""
        if not missing.any():
            return
        first = int(np.argmax(missing))
        self.ok &= ~missing
        if first < self._first:
            self._first, self.trouble = first, trouble(first)

    @property
    def leading(self) -> int:
        """How many rows come before the first that is missing."""
        return self._first


class _Audit:
    """Checks where the frames of one dataset come from, through all the files that it draws on.

    HDF5 opens the sources of virtual datasets itself, by name. So that it opens those that were checked, names must be
    absolute or lie in the one directory, and lead through no further files.

    Args:
        files: the gate.
        directory: of the file that holds the dataset.
        proved: whether only what was written for certain counts: storage that was allotted at once proves nothing.
    """

    def __init__(self, files: OpenFiles, directory: PurePosixPath, *, proved: bool = False) -> None:
        self._files = files
        self._directory = directory
        self._proved = proved
        self._within: list[tuple[tuple[int, int], int]] = []
        self._looked_at: set[tuple[str, str]] = set()
        self.audited: dict[str, Found] = {}

    def allow(self, found: Found) -> None:
        """Refuses what draws on anything outside the data root; raises as :meth:`OpenFiles.require` does."""
        creation = _creation(found)
        if creation.get_layout() == h5d.VIRTUAL:
            with self._inside(found):
                for mapping in self._files.virtual_map(found).mappings:
                    self._allow_sources(found, mapping)
            return
        if not self._looked_at:
            _refresh(found)
        if creation.get_layout() == h5d.CHUNKED:
            _check_chunk_size(found)

    def allow_what_is_there(self, found: Found) -> None:
        """The same for the first of very many sources, of which some may be missing."""
        with self._inside(found):
            for mapping in self._files.virtual_map(found).mappings:
                if len(self._looked_at) >= SOURCES_MAX:
                    return
                with suppress(FileNotReady):
                    self._allow_sources(found, mapping)

    def allow_unlimited(self, found: Found) -> None:
        """The same for those sources that HDF5 opens to see how long a virtual dataset is; they may be missing."""
        with self._inside(found):
            for mapping in self._files.virtual_map(found).unlimited:
                with suppress(FileNotReady):
                    self._allow_sources(found, mapping)

    def gaps(self, found: Found, rank: int) -> Gaps | None:
        """Pixels of a frame that no source ever has, through the levels that have a single mapping."""
        virtual, shape = self._files.virtual_map(found), found.dataset.shape
        own, deeper = virtual.gaps(shape, rank), self._gaps_of_source(found, virtual, rank)
        return own if deeper is None else deeper if own is None else own | deeper

    def _gaps_of_source(self, found: Found, virtual: VirtualMap, rank: int) -> Gaps | None:
        """Gaps in the frames of the one source of a virtual dataset, where they lie in its own frames.

        Where there are several sources, a pixel that is a gap in one may be written in another.
        """
        if len(virtual.mappings) != 1 or not 0 < rank < found.dataset.ndim or virtual.mappings[0].patterned:
            return None
        (mapping,) = virtual.mappings
        with self._inside(found):
            source = self._source(found, *mapping.names())
            if _creation(source).get_layout() != h5d.VIRTUAL:
                return None
            self._before_its_shape(source)
            gaps = self.gaps(source, rank)
            if gaps is None:
                return None
            return mapping.place(gaps, shape=found.dataset.shape, source_shape=source.dataset.shape)

    def back(self, found: Found, need: _Need, rank: int = 0) -> _Backing:
        """Which rows of a need are in the files, but for gaps of their frames; raises as :meth:`OpenFiles.require`."""
        creation = _creation(found)
        layout = creation.get_layout()
        self.audited[str(found)] = found
        if layout != h5d.VIRTUAL and not self._within:
            _refresh(found)
        backing = _Backing(len(need.rows))
        _look_at_length(found, need, backing)
        if layout == h5d.VIRTUAL:
            self._look_at_sources(found, need, backing, rank)
        elif layout == h5d.CHUNKED:
            _check_chunk_size(found)
            _look_at_chunks(found, need, backing, proved=self._proved, alone=_is_alone(creation))
        elif self._proved:
            backing.lack(backing.ok.copy(), lambda first: _unproved(found, int(need.rows[first])))
        elif layout == h5d.CONTIGUOUS:
            _look_at_storage(found, need, backing)
        if need.axis == 0 and backing.leading:
            length = int(need.rows[backing.leading - 1]) + 1
            found.file.lengths[found.path] = max(length, found.file.lengths.get(found.path, 0))
        return backing

    def _look_at_sources(self, found: Found, need: _Need, backing: _Backing, rank: int) -> None:
        """Which rows are mapped as a whole, to sources that hold them."""
        if need.axis > 0 and 1 < len(need.rows) <= COLUMNS_MAX:
            for number, row in enumerate(need.rows):
                one = _Backing(1)
                self._look_at_sources(found, need.only(row), one, rank)
                missing = np.arange(len(need.rows)) == number
                if one.trouble is not None:
                    backing.lack(missing, lambda _first, trouble=one.trouble: trouble)
            return
        need = _Need(0, need.indices)
        rows, shape = need.rows, found.dataset.shape
        with self._inside(found):
            virtual = self._files.virtual_map(found)
            mapped = virtual.mapped(rows, need.others, shape, rank=rank)
            _lack(backing, ~mapped, lambda first: _unmapped(found, int(rows[first])))
            for mapping in virtual.touching(rows):
                inside = mapping.has_part(rows, need.others, shape)
                for block, *piece in mapping.pieces(rows, inside, shape):
                    if len(piece[-1]):
                        names, alone = mapping.names(block), len(virtual.mappings) == 1
                        inner = rank if alone else 0
                        self._look_at_source(found, names, mapping, piece, backing, count=len(rows), rank=inner)

    def _look_at_source(
        self,
        found: Found,
        names: tuple[str, str],
        mapping: Mapping,
        piece: Sequence[Any],
        backing: _Backing,
        *,
        count: int,
        rank: int,
    ) -> None:
        """Which rows are in one source, that are drawn from it; its frames may have gaps when it is the only one."""
        stripes, index, at = piece
        missing = np.zeros(count, bool)
        try:
            source = self._source(found, *names)
            self._before_its_shape(source)
            part = mapping.part(stripes, index, at, shape=found.dataset.shape, source_shape=source.dataset.shape)
            inner = self.back(source, _Need(part.axis, part.indices), self._rank_of(found, source, mapping, rank))
        except FileReplaced:
            raise
        except (FileNotReady, FileBroken, FrameError) as error:
            missing[at] = True
            trouble = FileBroken(str(error)) if isinstance(error, FrameError) else error
            _lack(backing, missing, lambda _first: trouble)
            return
        if inner.trouble is not None:
            missing[at if part.whole else part.at[~inner.ok]] = True
            _lack(backing, missing, lambda _first: inner.trouble or FileNotReady(f"{source} is not there (yet)"))

    def _rank_of(self, found: Found, source: Found, mapping: Mapping, rank: int) -> int:
        """Dimensions of a frame in a source whose gaps are those of the frames that draw on it, else 0."""
        if not rank or _creation(source).get_layout() != h5d.VIRTUAL:
            return 0
        gaps = self.gaps(source, rank)
        if gaps is None:
            return 0
        placed = mapping.place(gaps, shape=found.dataset.shape, source_shape=source.dataset.shape)
        return 0 if placed is None else rank

    def _before_its_shape(self, source: Found) -> None:
        """HDF5 opens the sources of an unlimited virtual dataset when it is asked for its shape."""
        if _creation(source).get_layout() == h5d.VIRTUAL:
            _Audit(self._files, self._directory).allow_unlimited(source)

    def _allow_sources(self, found: Found, mapping: Mapping) -> None:
        """Refuses sources outside the root; of a pattern all those that there are."""
        for block in range(BLOCKS_MAX if mapping.patterned else 1):
            names = mapping.names(block)
            if names in self._looked_at:
                continue
            if len(self._looked_at) >= SOURCES_MAX and not mapping.patterned:
                raise FileBroken(f"{found} draws on more than {SOURCES_MAX:,} sources")
            self._looked_at.add(names)
            try:
                self.allow(self._source(found, *names))
            except FileNotReady:
                if mapping.patterned:
                    return
                raise
        if mapping.patterned:
            raise FileBroken(f"{found} draws on more than {BLOCKS_MAX:,} sources")

    def _source(self, found: Found, name: str, path: str) -> Found:
        if not name.startswith("/") and found.file.name.parent != self._directory:
            raise FileRefused(f"{found} has sources relative to another directory, which are not followed")
        return _dataset(self._files._walk(self._file(found.file, name), path, follow_files=False))

    def _file(self, file: HdfFile, name: str) -> HdfFile:
        if name == ".":
            return file
        return self._files.open(name) if name.startswith("/") else self._files.beside(file, name)

    @contextmanager
    def _inside(self, found: Found) -> Iterator[None]:
        """While the sources of a virtual dataset are looked at: it is none of them itself."""
        key = (found.file.identity, h5o.get_info(found.dataset.id).addr)
        if key in self._within:
            raise FileBroken(f"{found} is a virtual dataset that draws on itself")
        if len(self._within) >= DEPTH_MAX:
            raise FileBroken(f"{found} draws on virtual datasets too many levels deep")
        self._within.append(key)
        try:
            yield
        finally:
            self._within.pop()


def _lack(backing: _Backing, missing: npt.NDArray[np.bool_], trouble: Callable[[int], SnakemapError]) -> None:
    """Notes what is missing; where all rows count as one, each is missing when one is."""
    if len(missing) != len(backing.ok):
        missing = np.full(len(backing.ok), missing.any())
    backing.lack(missing, trouble)


def _needed(found: Found, rows: range, columns: range | None) -> _Need:
    """All of some rows, or of some columns of one row."""
    shape = found.dataset.shape
    if not shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    whole = [range(size) for size in shape[1:]]
    if columns is None:
        stop = min(rows.stop, max(rows.start, shape[0]) + 1)  # what is beyond the end is missing, however much
        return _Need(0, (np.arange(rows.start, stop), *whole))
    return _Need(1, (np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop), *whole[1:]))


def creation_of(dataset: h5py.Dataset) -> h5p.PropDCID:
    """How a dataset was made, as h5py keeps it: to have it copied once more costs 50 ms for 10,000 mappings."""
    return dataset._dcpl  # pyright: ignore[reportReturnType]


def _creation(found: Found) -> h5p.PropDCID:
    """How a dataset was made, when its numbers are in HDF5 files."""
    with reading(found.file, f"{shown(found.path)} cannot be looked at"):
        creation = creation_of(found.dataset)
        external = creation.get_external_count()
    if external:
        raise FileRefused(f"{found} keeps its frames outside HDF5, which is not followed")
    return creation


def _refresh(found: Found) -> None:
    with reading(found.file, f"{shown(found.path)} cannot be refreshed"):
        found.dataset.refresh()


def _is_alone(creation: h5p.PropDCID) -> bool:
    """Whether a chunk is in the file only when it was written: chunks are allotted one by one, not all at once."""
    return creation.get_alloc_time() == h5d.ALLOC_TIME_INCR


def _rows_are(found: Found) -> str:
    return "frame" if found.dataset.ndim > 2 else "value"


def _unproved(found: Found, row: int) -> FileNotReady:
    what = _rows_are(found)
    return FileNotReady(f"{found}: storage is allotted for {what} {row + 1:,}, and nothing proves that it was written")


def _unmapped(found: Found, row: int) -> FileBroken:
    return FileBroken(f"{found}: no source holds all of {_rows_are(found)} {row + 1:,}, so that it has no number")


def _check_length(found: Found) -> None:
    """The dataset has rows, and no fewer than were read of it."""
    if not found.dataset.shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    length, before = found.dataset.shape[0], found.file.lengths.get(found.path, 0)
    if length < before:
        del found.file.lengths[found.path]
        found.file.sound.pop(found.path, None)
        raise FileReplaced(f"{found} had {before:,} {_rows_are(found)}s when it was read, and now has {length:,}")


def _look_at_length(found: Found, need: _Need, backing: _Backing) -> None:
    """Which rows lie within the dataset."""
    _check_length(found)
    shape, what = found.dataset.shape, _rows_are(found)
    if len(shape) != len(need.indices):
        raise FileBroken(f"{found} has {len(shape)} dimensions, and {len(need.indices)} are needed of it")
    length = shape[need.axis]
    for number, (index, size) in enumerate(zip(need.indices, shape, strict=True)):
        if number != need.axis and (not len(index) or index[-1] >= size):
            backing.lack(np.ones(len(need.rows), bool), lambda _first: FileNotReady(f"{found} is too small: {shape}"))

    def trouble(first: int) -> FileNotReady:
        asked = int(need.rows[first]) + 1
        return FileNotReady(f"{found} has {length:,} {what}s (yet), and {what} {asked:,} is asked for")

    backing.lack(need.rows >= length, trouble)


def _check_chunk_size(found: Found) -> None:
    """Chunks are small enough to unpack."""
    chunk_bytes = math.prod(found.dataset.chunks or ()) * found.dataset.id.get_type().get_size()
    if chunk_bytes > CHUNK_BYTES_MAX:
        raise FileBroken(
            f"{found} has chunks of {chunk_bytes / 1e6:,.0f} MB; more than {CHUNK_BYTES_MAX / 1e6:,.0f} MB are not read"
        )


def _look_at_chunks(found: Found, need: _Need, backing: _Backing, *, proved: bool, alone: bool) -> None:
    """Which of the rows have their chunks in the file."""
    if proved and not alone:
        backing.lack(backing.ok.copy(), lambda first: _unproved(found, int(need.rows[first])))
    rows = need.rows[backing.ok] if not backing.ok.all() else need.rows
    if not len(rows):
        return
    chunk_shape = found.dataset.chunks or (1,)
    step = chunk_shape[need.axis]
    starts = rows if step == 1 else np.unique(rows // step * step)
    others = [_starts(index, size) for index, size in zip(need.indices, chunk_shape, strict=True)]

    def corners(start: int) -> Iterator[tuple[int, ...]]:
        return product(*others[: need.axis], (start,), *others[need.axis + 1 :])

    with reading(found.file, f"the frames of {shown(found.path)} cannot be looked up"):
        missing = _missing_chunks(found, starts, corners, need.axis)
        lacking = np.isin(need.rows // step * step, list(missing))
        backing.lack(lacking, lambda first: missing[int(need.rows[first] // step * step)])
        if proved and step > 1:
            _look_at_content(found, need, backing)


def _missing_chunks(
    found: Found, starts: Indices, corners: Callable[[int], Iterator[tuple[int, ...]]], axis: int
) -> dict[int, SnakemapError]:
    """Why chunks are not in the file, by the row at which they begin."""
    dataset, stored = found.dataset, 0
    missing: dict[int, SnakemapError] = {}
    what = _rows_are(found)
    for start in starts.tolist():
        for corner in corners(start):
            chunk_bytes = _stored(dataset, corner)
            # HDF5 may not be able to tell: then it goes through all chunks before this one
            if not chunk_bytes and (missing or dataset.id.get_chunk_info_by_coord(corner).byte_offset is None):
                words = f"{found} has not been written from {what} {start + 1:,} on (yet)"
                missing[start] = FileNotReady(words)
                break
            stored += chunk_bytes
    there = [start for start in starts.tolist() if start not in missing]
    if not there:
        return missing
    step = (dataset.chunks or (1,))[0]
    if axis or not _is_sound(found, there[-1], stored // (len(there) * step)):
        ends = _ends(found, corners(there[-1]))
        if ends > found.file.size:
            short = {start: end for start in there if (end := _ends(found, corners(start))) > found.file.size}
            return missing | {start: _end_trouble(found.file, end) for start, end in short.items()}
        if axis:
            return missing
        # of a file that was written long ago all rows are found to be there at once
        last = (dataset.shape[0] - 1) // step * step
        whole = last > there[-1] and all(_is_there(found, corner) for corner in corners(last))
        found.file.sound[found.path] = last if whole else there[-1], found.file.size
    return missing


def _checksum(found: Found) -> int:
    """Of the bytes of the first row, which stay as they are once it is written; 0 where that is not certain.

    A file that is written anew in place, with all in its old place, is recognized by it.
    """
    dataset, creation = found.dataset, creation_of(found.dataset)
    layout, place = creation.get_layout(), found.file.firsts.get(found.path)
    if place is None:
        if layout == h5d.CHUNKED and (dataset.chunks or (0,))[0] == 1 and _is_alone(creation):
            corner = (0,) * dataset.ndim
            chunk = dataset.id.get_chunk_info_by_coord(corner) if _stored(dataset, corner) else None
            place = (chunk.byte_offset, chunk.size) if chunk and chunk.byte_offset is not None else None
        elif layout == h5d.CONTIGUOUS and not dataset.fillvalue and (offset := dataset.id.get_offset()) is not None:
            place = offset, math.prod(dataset.shape[1:]) * dataset.id.get_type().get_size()
        if place is None:
            return 0
        found.file.firsts[found.path] = place
    head = os.pread(found.file.fd, min(place[1], CHECKSUM_BYTES), place[0])
    return zlib.crc32(head) if head.strip(b"\0") else 0


def _is_sound(found: Found, row: int, row_bytes: int) -> bool:
    """Whether a chunk that is there lies in the file for sure, so that nobody need look where.

    Files grow with their rows. What lies before a row that was in the file is in it, too, as long as the file has not
    been cut; and so is what came after, when the file has grown by as much.
    """
    if found.path not in found.file.sound or found.file.shrunk:
        return False
    sound, size = found.file.sound[found.path]
    return row <= sound or found.file.size - size >= (row - sound) * row_bytes


def _ends(found: Found, corners: Iterator[tuple[int, ...]]) -> int:
    """Where the last of some chunks ends in the file. To find one HDF5 goes through all chunks before it."""
    chunks = [found.dataset.id.get_chunk_info_by_coord(corner) for corner in corners]
    return max((chunk.byte_offset or 0) + chunk.size for chunk in chunks)


def _is_there(found: Found, corner: tuple[int, ...]) -> bool:
    """Whether a chunk that nobody asked for is in the file."""
    if not _stored(found.dataset, corner):
        return False
    chunk = found.dataset.id.get_chunk_info_by_coord(corner)
    return chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= found.file.size


def _look_at_content(found: Found, need: _Need, backing: _Backing) -> None:
    """Of rows that share a chunk those count as written that hold something else than the fill value."""
    dataset = found.dataset
    fill = dataset.fillvalue
    if creation_of(dataset).get_fill_time() == h5d.FILL_TIME_NEVER:
        backing.lack(backing.ok.copy(), lambda first: _unproved(found, int(need.rows[first])))
        return
    at = np.flatnonzero(backing.ok)
    empty = np.zeros(len(backing.ok), bool)
    for stretch in np.split(at, np.flatnonzero(np.diff(need.rows[at]) != 1) + 1):
        if len(stretch):
            first, last = int(need.rows[stretch[0]]), int(need.rows[stretch[-1]])
            where = (*(slice(None),) * need.axis, slice(first, last + 1))
            values = np.moveaxis(np.asarray(dataset[where]), need.axis, 0).reshape(len(stretch), -1)
            written = (values != fill) & ~((values != values) & (fill != fill))  # NaN is no other value than NaN
            empty[stretch] = ~written.any(axis=1)
    backing.lack(empty, lambda first: _unproved(found, int(need.rows[first])))


@functools.cache
def _storage_size() -> Any:
    # not in h5py; the function is found in the very library that h5py uses
    return ctypes.CDLL(h5f.__file__).H5Dget_chunk_storage_size


def _stored(dataset: h5py.Dataset, corner: tuple[int, ...]) -> int:
    """Bytes of a chunk in its file, at the same cost wherever it is; 0 when it is not there, or HDF5 cannot tell."""
    sizes, stored = (ctypes.c_uint64 * len(corner))(*corner), ctypes.c_uint64()
    answer = _storage_size()(ctypes.c_int64(dataset.id.id), sizes, ctypes.byref(stored))
    return stored.value if answer >= 0 else 0


def _look_at_storage(found: Found, need: _Need, backing: _Backing) -> None:
    """Which rows of storage in one piece lie before the end of the file."""
    dataset = found.dataset
    offset = dataset.id.get_offset()
    if offset is None:
        backing.lack(np.ones(len(need.rows), bool), lambda _first: FileNotReady(f"{found} has not been written (yet)"))
        return
    each = np.array([math.prod(dataset.shape[number + 1 :]) for number in range(dataset.ndim)], np.int64)
    last = sum(
        int(index[-1]) * int(step)
        for number, (index, step) in enumerate(zip(need.indices, each, strict=True))
        if number != need.axis and len(index)
    )
    ends = offset + (last + need.rows * each[need.axis] + 1) * dataset.id.get_type().get_size()
    backing.lack(ends > found.file.size, lambda first: _end_trouble(found.file, int(ends[first])))


def _end_trouble(file: HdfFile, end: int) -> FileNotReady | FileBroken:
    """What it means that frames lie beyond the end of the file, where HDF5 would read zeros."""
    if file.young and end > file.largest:
        return FileNotReady(f"{file} is shorter than its frames need (yet)")
    return FileBroken(f"{file} was cut short: frames are missing at its end")


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
    head = head_of(file.fd)
    if head is None:
        if os.pread(file.fd, HEAD_BYTES, 0).strip(b"\0"):
            return FileBroken(f"{file} is no HDF5 file")
        if file.young:
            return FileNotReady(f"{file} is still empty")
        return FileBroken(f"{file} is empty, and nobody is writing to it")
    if file.shrunk:
        return FileBroken(f"{file} was cut short: {_words(error)}")
    flags = head[11] if len(head) == HEAD_BYTES and head[8] >= 3 else 0
    if flags & OPEN_FOR_WRITING and not flags & OPEN_FOR_SWMR:
        return FileNotReady(f"{file} is open in its writer, which lets nobody else read yet (SWMR is not on)")
    if file.young:
        return FileNotReady(f"{file} cannot be read (yet): {_words(error)}")
    return FileBroken(f"{file} cannot be opened as HDF5: {_words(error)}")


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
