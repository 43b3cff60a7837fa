"""HDF5 files that nobody vouches for: opened, walked and checked so that nothing in them leads out of the data root.

HDF5 itself follows soft links, external links, virtual datasets and external storage wherever they lead. Here every
link of a path is followed one at a time, and every file that one names goes through the gate of
:mod:`snakemap.files.data_root` first. HDF5 may still crash or hang on a bad file, so this runs only in a process that
can be replaced.

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
"""Groups and links that one path may lead through."""


CHECKSUM_BYTES = 16 << 10


MARKS_MAX = 200
"""Files that are recognized in one answer, and bytes of each that are looked at."""


MAPS_MAX = 100
"""Virtual datasets of one file whose mappings are kept."""


READ_ATTEMPTS = 26
"""How often HDF5 reads something again whose checksum is wrong, as a live writer may be at it. It waits twice as long
each time, from a nanosecond on: 26 times take 0.1 s, and the 100 times that are usual never end."""


OPEN_FOR_WRITING, OPEN_FOR_SWMR = 0b001, 0b100


class FileDeleted(FileBroken):
    """A file is gone that was there before; asked again, it is not there yet."""


class OpenFiles:
    """The files that a reader has open, the ones used last.

    Args:
        root: the gate.
        path_map: pairs of the writer's prefix and ours, for absolute names in external links.
        locking: whether HDF5 locks them.

    Attributes:
        parts: what :mod:`snakemap.hdf5.child.dectris_parts` has found of late.
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

    def find(self, file: HdfFile, path: str) -> OpenDataset:
        """Walks to a dataset, following links within the data root.

        Raises:
            FileRefused: a link leads out of the root.
            FileNotReady: something on the path is not there.
            FileBroken: HDF5 cannot read what is on the path, or the links go round in circles.
            FrameError: the path ends at something else than a dataset.
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

    def allow(self, found: OpenDataset) -> None:
        """Makes sure that a dataset of whatever shape draws on nothing outside the data root, and refreshes it."""
        WrittenAudit(self, found.file.name.parent).allow(found)

    def measure(self, found: OpenDataset) -> None:
        """Refreshes a dataset, so that its shape is what it is now; raises as :meth:`require` does.

        Sources of a virtual one may be missing. They are looked at once: what is read of them is audited then.
        """
        audit = WrittenAudit(self, found.file.name.parent)
        if not found.virtual:
            audit.allow(found)
        else:
            self.virtual_map(found)  # which forgets what was allowed when the file has changed
            place = h5o.get_info(found.dataset.id).addr
            if place not in found.file.allowed:
                audit.allow_what_is_there(found)
                found.file.allowed.add(place)
        check_length(found)

    def require(
        self, found: OpenDataset, rows: range, *, columns: range | None = None, frame_rank: int = 0
    ) -> dict[str, OpenDataset]:
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

    def gaps(self, found: OpenDataset, frame_rank: int) -> Gaps | None:
        """Pixels of a frame that no source ever has, in a dataset that was required; None when there are none.

        Args:
            found: the dataset.
            frame_rank: dimensions of a frame, the last ones.
        """
        return WrittenAudit(self, found.file.name.parent).gaps(found, frame_rank) if found.virtual else None

    def written(self, found: OpenDataset, rows: range, *, frame_rank: int = 0) -> npt.NDArray[np.bool_]:
        """Which rows (rows,) of a dataset were written for certain, as their own chunks show; raises as the others."""
        audit = WrittenAudit(self, found.file.name.parent, proved=True)
        backing = audit.back(found, _needed(found, rows, None), frame_rank)
        return np.pad(backing.ok, (0, len(rows) - len(backing.ok)))

    def virtual_map(self, found: OpenDataset) -> VirtualMap:
        """The mappings of a virtual dataset, which are looked through once as long as its file stays as it is."""
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
        raise FrameError(f"{file}, {shown(path)} is not a group, dataset or datatype")


def _needed(found: OpenDataset, rows: range, columns: range | None) -> Need:
    """All of some rows, or of some columns of one row."""
    shape = found.dataset.shape
    if not shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    whole = [range(size) for size in shape[1:]]
    if columns is None:
        stop = min(rows.stop, max(rows.start, shape[0]) + 1)  # what is beyond the end is missing, however much
        return Need(0, (np.arange(rows.start, stop), *whole))
    return Need(1, (np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop), *whole[1:]))


def _checksum(found: OpenDataset) -> int:
    """Of the bytes of the first row, which stay as they are once it is written; 0 where that is not certain.

    A file that is written anew in place, with all in its old place, is recognized by it.
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
