"""Open untrusted HDF5 files, follow paths in them, and check that nothing leads out of the data root.

HDF5 itself follows soft links, external links, virtual datasets and external storage wherever they lead. Here every
link of a path is followed one at a time, and every named file is opened through :mod:`snakemap.files.data_root`. HDF5
may still crash or hang on a bad file, so this runs only in the replaceable reader process.

Announced frames that are not in the file yet would read as zeros. The addresses of their chunks distinguish them from
dark frames.

A bug of HDF5 (seen in 2.0): refreshing a dataset that is open twice in one process, also by a virtual dataset that maps
it, makes HDF5 lose its chunks and read zeros, or crash. So one dataset is open at a time, nothing is refreshed while a
virtual one is open, and files are reopened instead.
"""

from __future__ import annotations

import ctypes
import math
import os
import zlib
from collections import OrderedDict, deque
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5f, h5g, h5l, h5o, h5p, h5t  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileBroken, FileNotReady, FileRefused, FileReplaced, FrameError
from snakemap.files.data_root import DataRoot, local_path, shown
from snakemap.files.hdf5_signature import HEAD_BYTES, head_of
from snakemap.hdf5.child.hdf_file import (
    HDF5_ERRORS,
    HdfFile,
    Node,
    OpenDataset,
    creation_of,
    is_chunk_proof,
    kind_of_node,
    reading,
    stored_bytes,
)
from snakemap.hdf5.child.virtual_mapping import Gaps, VirtualMap
from snakemap.hdf5.child.written import Need, WrittenAudit, as_dataset, check_length, creation_in_hdf5, row_word

__all__ = ["FileDeleted", "OpenFiles", "link_of"]

FILES_MAX = 16


HOPS_MAX = 64
"""Maximum groups and links along one path."""


CHECKSUM_BYTES = 16 << 10


MARKS_MAX = 200
"""Maximum fingerprinted files in one answer, and bytes of each that are read."""


MAPS_MAX = 100
"""Maximum virtual datasets of one file with cached mappings."""


READ_ATTEMPTS = 26
"""Retries of HDF5 after a wrong checksum, as with a live writer. The wait doubles each time, from 1 ns on: 26 retries
take
0.1 s, the default of 100 never ends."""


OPEN_FOR_WRITING, OPEN_FOR_SWMR = 0b001, 0b100


class FileDeleted(FileBroken):
    """A file was deleted since it was read; the next request raises :class:`FileNotReady`."""


class OpenFiles:
    """The open files of a reader, the ones used last.

    Args:
        root: the data root.
        path_map: pairs of the writer's prefix and the local one, for absolute names in external links.
        locking: whether HDF5 locks them.

    Attributes:
        parts: recent results of :mod:`snakemap.hdf5.child.dectris_parts`.
    """

    def __init__(self, root: DataRoot, *, path_map: tuple[tuple[str, str], ...] = (), locking: bool = False) -> None:
        self.root = root
        self.path_map = path_map
        self.locking = locking
        self.parts: dict[Any, tuple[float, Any]] = {}
        self._files: OrderedDict[str, HdfFile] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()

    def open(self, path: str | os.PathLike[str]) -> HdfFile:
        """Open a file, or return the open one.

        Raises:
            FileRefused: it may not be read.
            FileNotReady: not there, empty, locked, or open by a writer without SWMR.
            FileBroken: no HDF5, truncated, or deleted or replaced since it was last read (reported once).
        """
        file = self._current(os.fspath(path))
        self._load(file)
        return file

    def begin(self) -> None:
        """Prepare for a request: close all datasets, and all but the files used last."""
        if h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_DATASET):
            self._forget_handles()
        while len(self._files) > FILES_MAX:
            self._files.popitem(last=False)[1].close()

    def find(self, file: HdfFile, path: str) -> OpenDataset:
        """Open a dataset by path, following links within the data root.

        Raises:
            FileRefused: a link leads out of the root.
            FileNotReady: something on the path is not there.
            FileBroken: HDF5 cannot read something on the path, or the links are circular.
            FrameError: the path does not end at a dataset.
        """
        if path not in file.virtuals:
            found = as_dataset(self._walk(file, path, follow_files=True))
            with reading(found.file, f"{shown(path)} cannot be read"):
                virtual = found.virtual
            if not virtual:
                return found
            if len(file.virtuals) < MAPS_MAX:
                file.virtuals.add(path)
            del found
        self._forget_handles()
        self._load(file)
        found = as_dataset(self._walk(file, path, follow_files=True))
        if found.virtual:
            WrittenAudit(self, found.file.name.parent).allow_unlimited(found)
        return found

    def node(self, file: HdfFile, path: str) -> Node:
        """Open the object at a path; raises as :meth:`find` does."""
        return self._walk(file, path, follow_files=True)

    def open_afresh(self, path: str | os.PathLike[str]) -> HdfFile:
        """Open a file in its current state; raises as :meth:`open` does."""
        file = self._current(os.fspath(path))
        if file.young or file.state != file.loaded:
            file.forget_handle()
        self._load(file)
        return file

    def again(self, file: HdfFile) -> HdfFile:
        """Return the same file, reopened if HDF5 closed it; raises as :meth:`open` does."""
        self._load(file)
        return file

    def trim(self, file: HdfFile) -> None:
        """Close the least recently used files if there are too many; never this one."""
        for path, other in list(self._files.items())[: max(0, len(self._files) - FILES_MAX)]:
            if other is not file:
                self._forget(path)

    def allow(self, found: OpenDataset) -> None:
        """Check that a dataset of any shape maps nothing outside the data root, and refresh it."""
        WrittenAudit(self, found.file.name.parent).allow(found)

    def measure(self, found: OpenDataset) -> None:
        """Refresh a dataset, so that its shape is current; raises as :meth:`require` does.

        Sources of a virtual one may be missing. They are checked once: reads of them are audited.
        """
        audit = WrittenAudit(self, found.file.name.parent)
        if not found.virtual:
            audit.allow(found)
        else:
            self.virtual_map(found)  # revokes earlier results if the file changed
            place = h5o.get_info(found.dataset.id).addr
            if place not in found.file.allowed:
                audit.allow_what_is_there(found)
                found.file.allowed.add(place)
        check_length(found)

    def require(
        self, found: OpenDataset, rows: range, *, columns: range | None = None, frame_rank: int = 0
    ) -> dict[str, OpenDataset]:
        """Refresh a dataset and check that its frames are in the file, and nowhere outside the data root.

        Args:
            found: the dataset, with a row for each frame.
            rows: that must be written.
            columns: frames of the one row that must be written, if a row holds many.
            frame_rank: dimensions of a frame, the last ones, if it may have gaps between modules, see :meth:`gaps`.

        Returns:
            Datasets that the frames come from, by name.

        Raises:
            FileRefused: it is, or maps, something outside the root.
            FileNotReady: some are not written yet; `ready` is the number before these.
            FileBroken: file or dataset were truncated, or it maps itself, or its chunks are too large to unpack.
        """
        audit = WrittenAudit(self, found.file.name.parent)
        backing = audit.back(found, _needed(found, rows, columns), frame_rank)
        trouble = backing.trouble
        if trouble is not None:
            if found.virtual and isinstance(trouble, FileNotReady):
                number = (columns or rows)[backing.leading] + 1
                words = f"{row_word(found).capitalize()} {number:,} of {found} is not there (yet): {trouble}"
                trouble = FileNotReady(words)
            found.file.forget_handle()
            trouble.ready = backing.leading
            raise trouble
        return audit.audited

    def marks(self, audited: dict[str, OpenDataset]) -> list[list[Any]]:
        """Return fingerprints of the files just read: name, inode, address of the dataset, checksum.

        Raises:
            FileReplaced: one of them was replaced while it was read.
            FileDeleted: one was deleted.
        """
        fingerprints = []
        for one in [*audited.values()][:MARKS_MAX]:
            self._check_name(one.file)
            address = h5o.get_info(one.dataset.id).addr
            fingerprints.append([str(one), one.file.identity[1], address, _checksum(one)])
        return fingerprints

    def _check_name(self, file: HdfFile) -> None:
        """Check that a name still refers to the open file."""
        try:
            fd = self.root.open(file.name)
        except FileNotReady as error:
            raise FileDeleted(f"{file} was deleted while it was being read") from error
        status = os.fstat(fd)
        os.close(fd)
        if (status.st_dev, status.st_ino) != file.identity:
            raise FileReplaced(f"{file} was replaced by another file while it was being read")

    def gaps(self, found: OpenDataset, frame_rank: int) -> Gaps | None:
        """Return the pixels of a frame that no source has, in a required dataset; None if there are none.

        Args:
            found: the dataset.
            frame_rank: dimensions of a frame, the last ones.
        """
        return WrittenAudit(self, found.file.name.parent).gaps(found, frame_rank) if found.virtual else None

    def written(self, found: OpenDataset, rows: range, *, frame_rank: int = 0) -> npt.NDArray[np.bool_]:
        """Return which rows (rows,) of a dataset are certainly written, as their own chunks show; raises as the
        others."""
        audit = WrittenAudit(self, found.file.name.parent, proved=True)
        backing = audit.back(found, _needed(found, rows, None), frame_rank)
        return np.pad(backing.ok, (0, len(rows) - len(backing.ok)))

    def virtual_map(self, found: OpenDataset) -> VirtualMap:
        """Return the mappings of a virtual dataset, cached until its file changes."""
        address, state = h5o.get_info(found.dataset.id).addr, found.file.state
        known = found.file.maps.get(address)
        if known is None or known[0] != state:
            with reading(found.file, f"the sources of {shown(found.path)} cannot be read"):
                known = state, VirtualMap.of(creation_in_hdf5(found))
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
        """Open a file named in another one, relative to its directory; raises as :meth:`open` does."""
        return self.open(self._place_beside(file, name))

    def _place_beside(self, file: HdfFile, name: str) -> PurePosixPath:
        directory, parts = file.name.parent, deque(PurePosixPath(name).parts)
        while parts and parts[0] == ".." and directory.parts:
            parts.popleft()
            directory = directory.parent
        return directory.joinpath(*parts)

    def _current(self, path: str) -> HdfFile:
        """Return the file of a name; raise if it was deleted or replaced since the last read."""
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
        """Follow a path one link at a time, so that HDF5 never follows one itself."""
        if "\0" in path:
            raise FrameError(f"{shown(path)} is not a path in a file")
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
                    raise FrameError(f"{file}, {shown(path)} leads through a {kind_of_node(step)}, not through groups")
                return Node(file, step, path, place)
            if isinstance(link, h5py.ExternalLink) and follow_files:
                file = self._linked(file, link.filename)
                node, place = _root_group(file), ""
            elif not isinstance(link, h5py.SoftLink):
                raise FileRefused(f"{file}, {shown(path)} leads through a link that is not followed")
            elif link.path.startswith("/"):
                node, place = _root_group(file), ""
            parts.extendleft(reversed(_parts(link.path)))
        raise FileBroken(f"{file}, {shown(path)} has too many links in its path")

    def _linked(self, file: HdfFile, name: str) -> HdfFile:
        return self.open(local_path(name, self.path_map)) if name.startswith("/") else self.beside(file, name)

    def _step(self, file: HdfFile, node: h5py.Group, name: str, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Open a member of a group; a virtual dataset has its sources relative to its own file."""
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
        raise FrameError(f"{file}, {shown(path)} is not a group, dataset or datatype")


def _needed(found: OpenDataset, rows: range, columns: range | None) -> Need:
    """Return the elements of rows, or of columns of one row."""
    shape = found.dataset.shape
    if not shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    whole = [range(size) for size in shape[1:]]
    if columns is None:
        stop = min(rows.stop, max(rows.start, shape[0]) + 1)  # one missing row beyond the end suffices
        return Need(0, (np.arange(rows.start, stop), *whole))
    return Need(1, (np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop), *whole[1:]))


def _checksum(found: OpenDataset) -> int:
    """Return the checksum of the first row, which is constant once written; 0 if that is not certain.

    It detects a file rewritten in place with the same layout.
    """
    dataset, creation = found.dataset, creation_of(found.dataset)
    layout, place = creation.get_layout(), found.file.firsts.get(found.path)
    if place is None:
        if layout == h5d.CHUNKED and (dataset.chunks or (0,))[0] == 1 and is_chunk_proof(creation):
            corner = (0,) * dataset.ndim
            chunk = dataset.id.get_chunk_info_by_coord(corner) if stored_bytes(dataset, corner) else None
            place = (chunk.byte_offset, chunk.size) if chunk and chunk.byte_offset is not None else None
        elif layout == h5d.CONTIGUOUS and not dataset.fillvalue and (offset := dataset.id.get_offset()) is not None:
            place = offset, math.prod(dataset.shape[1:]) * dataset.id.get_type().get_size()
        if place is None:
            return 0
        found.file.firsts[found.path] = place
    head = os.pread(found.file.fd, min(place[1], CHECKSUM_BYTES), place[0])
    return zlib.crc32(head) if head.strip(b"\0") else 0


def _access(*, locking: bool) -> h5p.PropFAID:
    """Return the access properties of h5py, with bounded retries."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(locking, False)
    # not in h5py: the function of the library that h5py loaded
    patience = ctypes.CDLL(h5f.__file__).H5Pset_metadata_read_attempts
    patience(ctypes.c_int64(access.id), ctypes.c_uint(READ_ATTEMPTS))
    return access


def _unopened(file: HdfFile, error: BaseException) -> FileNotReady | FileBroken:
    """Return the error for a file that HDF5 cannot open, by its content and age."""
    head = head_of(file.fd)
    if head is None:
        if os.pread(file.fd, HEAD_BYTES, 0).strip(b"\0"):
            return FileBroken(f"{file} is not an HDF5 file")
        if file.young:
            return FileNotReady(f"{file} is still empty")
        return FileBroken(f"{file} is empty, and no program writes to it")
    if file.shrunk:
        return FileBroken(f"{file} was cut short: the end of the file is missing")
    flags = head[11] if len(head) == HEAD_BYTES and head[8] >= 3 else 0
    if flags & OPEN_FOR_WRITING and not flags & OPEN_FOR_SWMR:
        return FileNotReady(f"{file} is open for writing without SWMR and cannot be read yet")
    if file.young:
        return FileNotReady(f"{file} is not a readable HDF5 file (yet): it is damaged or incomplete")
    return FileBroken(f"{file} is not a readable HDF5 file (damaged or incomplete)")


def link_of(group: h5py.Group, name: str) -> h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None:
    """Return the link of a member, whether its name is text or not; None for an unknown kind of link.

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
    """Return the link of a member of a group."""
    with reading(file, f"{shown(path)} cannot be read"):
        try:
            return link_of(node, name)
        except KeyError as error:
            file.forget_handle()
            raise FileNotReady(f"{file} has no {shown(path)} (yet)") from error


def _root_group(file: HdfFile) -> h5py.Group:
    with reading(file, "its root group cannot be opened"):
        if file.handle is None:
            raise ValueError("the file is closed")
        return h5py.Group(h5g.open(file.handle.id, b"/"))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
