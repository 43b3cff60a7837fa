"""Audit of datasets: where the data is stored, and which rows are provably written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5o, h5p  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileBroken, FileNotReady, FileRefused, FileReplaced, FrameError, SnakemapError
from snakemap.files.data_root import shown
from snakemap.hdf5.child.hdf_file import (
    CHUNK_BYTES_MAX,
    HdfFile,
    Node,
    OpenDataset,
    creation_of,
    is_chunk_proof,
    kind_of_node,
    reading,
    stored_bytes,
)
from snakemap.hdf5.child.virtual_mapping import Gaps, Mapping, VirtualMap

if TYPE_CHECKING:
    from snakemap.hdf5.child.open_files import OpenFiles

__all__ = ["Need", "WrittenAudit", "as_dataset", "check_length", "creation_in_hdf5", "row_word"]

DEPTH_MAX = 8


SOURCES_MAX = 1_000


BLOCKS_MAX = 10_000
"""Maximum sources of one virtual dataset, files of one pattern, and levels of virtual datasets."""


COLUMNS_MAX = 256
"""Maximum points in one row of a virtual dataset that are checked one by one."""


Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Need:
    """Needed elements of a dataset, as the product of indices along each dimension.

    Attributes:
        axis: dimension along which rows are counted.
        indices: along each dimension, in rising order.
    """

    axis: int
    indices: tuple[Indices | range, ...]

    @property
    def rows(self) -> Indices:
        """Indices along the axis."""
        return _array(self.indices[self.axis])

    @property
    def others(self) -> tuple[Indices, ...]:
        """Indices along the other dimensions."""
        return tuple(_array(index) for index in (*self.indices[: self.axis], *self.indices[self.axis + 1 :]))

    def only(self, row: int) -> Need:
        """Return one of its rows."""
        return Need(self.axis, (*self.indices[: self.axis], np.array([row]), *self.indices[self.axis + 1 :]))


def _array(index: Indices | range) -> Indices:
    if len(index) > CHUNK_BYTES_MAX:
        raise FileBroken(f"{len(index):,} elements along one dimension are too many")
    return np.arange(index.start, index.stop) if isinstance(index, range) else index


def _starts(index: Indices | range, size: int) -> Sequence[int]:
    """Return the first elements of the chunks that hold elements."""
    if isinstance(index, range):
        return range(index.start // size * size, index.stop, size)
    return np.unique(index // size * size).tolist()


class _Backing:
    """Which rows of a need are in files.

    Attributes:
        ok: whether each row (rows,) is.
        trouble: the error of the first missing row; None if there is none.
    """

    def __init__(self, count: int) -> None:
        self.ok = np.ones(count, bool)
        self.trouble: SnakemapError | None = None
        self._first = count

    def lack(self, missing: npt.NDArray[np.bool_], trouble: Callable[[int], SnakemapError]) -> None:
        """Record missing rows (rows,), and the error of the first."""
        if not missing.any():
            return
        first = int(np.argmax(missing))
        self.ok &= ~missing
        if first < self._first:
            self._first, self.trouble = first, trouble(first)

    @property
    def leading(self) -> int:
        """The number of rows before the first missing one."""
        return self._first


class WrittenAudit:
    """Check where the frames of one dataset come from, through all the files that it maps.

    HDF5 opens the sources of virtual datasets itself, by name. To open the checked ones, names must be absolute or in
    the one directory, and lead through no further files.

    Args:
        files: opens files within the data root.
        directory: of the file with the dataset.
        proved: whether only certainly written rows count: storage that is allocated at once proves nothing.
    """

    def __init__(self, files: OpenFiles, directory: PurePosixPath, *, proved: bool = False) -> None:
        self._files = files
        self._directory = directory
        self._proved = proved
        self._within: list[tuple[tuple[int, int], int]] = []
        self._looked_at: set[tuple[str, str]] = set()
        self.audited: dict[str, OpenDataset] = {}

    def allow(self, found: OpenDataset) -> None:
        """Refuse a dataset that maps anything outside the data root; raises as :meth:`OpenFiles.require` does."""
        creation = creation_in_hdf5(found)
        if creation.get_layout() == h5d.VIRTUAL:
            with self._inside(found):
                for mapping in self._files.virtual_map(found).mappings:
                    self._allow_sources(found, mapping)
            return
        if not self._looked_at:
            _refresh(found)
        if creation.get_layout() == h5d.CHUNKED:
            _check_chunk_size(found)

    def allow_what_is_there(self, found: OpenDataset) -> None:
        """Do the same for the first of very many sources, of which some may be missing."""
        with self._inside(found):
            for mapping in self._files.virtual_map(found).mappings:
                if len(self._looked_at) >= SOURCES_MAX:
                    return
                with suppress(FileNotReady):
                    self._allow_sources(found, mapping)

    def allow_unlimited(self, found: OpenDataset) -> None:
        """Do the same for the sources that HDF5 opens for the length of a virtual dataset; they may be missing."""
        with self._inside(found):
            for mapping in self._files.virtual_map(found).unlimited:
                with suppress(FileNotReady):
                    self._allow_sources(found, mapping)

    def gaps(self, found: OpenDataset, rank: int) -> Gaps | None:
        """Return the pixels of a frame that no source has, through the levels with a single mapping."""
        virtual, shape = self._files.virtual_map(found), found.dataset.shape
        own, deeper = virtual.gaps(shape, rank), self._gaps_of_source(found, virtual, rank)
        return own if deeper is None else deeper if own is None else own | deeper

    def _gaps_of_source(self, found: OpenDataset, virtual: VirtualMap, rank: int) -> Gaps | None:
        """Return the gaps in the frames of the only source of a virtual dataset, as gaps in its own frames.

        With several sources, a gap in one may be written in another.
        """
        if len(virtual.mappings) != 1 or not 0 < rank < found.dataset.ndim or virtual.mappings[0].patterned:
            return None
        (mapping,) = virtual.mappings
        with self._inside(found):
            source = self._source(found, *mapping.names())
            if creation_in_hdf5(source).get_layout() != h5d.VIRTUAL:
                return None
            self._before_its_shape(source)
            gaps = self.gaps(source, rank)
            if gaps is None:
                return None
            return mapping.place(gaps, shape=found.dataset.shape, source_shape=source.dataset.shape)

    def back(self, found: OpenDataset, need: Need, rank: int = 0) -> _Backing:
        """Return which rows of a need are in the files, except gaps of frames; raises as :meth:`OpenFiles.require`."""
        creation = creation_in_hdf5(found)
        layout = creation.get_layout()
        self.audited[str(found)] = found
        if layout != h5d.VIRTUAL and not self._within:
            _refresh(found)
        backing = _Backing(len(need.rows))
        _check_rows(found, need, backing)
        if layout == h5d.VIRTUAL:
            self._check_sources(found, need, backing, rank)
        elif layout == h5d.CHUNKED:
            _check_chunk_size(found)
            _check_chunks(found, need, backing, proved=self._proved, alone=is_chunk_proof(creation))
        elif self._proved:
            backing.lack(backing.ok.copy(), lambda first: _unproved(found, int(need.rows[first])))
        elif layout == h5d.CONTIGUOUS:
            _check_storage(found, need, backing)
        if need.axis == 0 and backing.leading:
            length = int(need.rows[backing.leading - 1]) + 1
            found.file.lengths[found.path] = max(length, found.file.lengths.get(found.path, 0))
        return backing

    def _check_sources(self, found: OpenDataset, need: Need, backing: _Backing, rank: int) -> None:
        """Record which rows are completely mapped to sources that hold them."""
        if need.axis > 0 and 1 < len(need.rows) <= COLUMNS_MAX:
            for number, row in enumerate(need.rows):
                one = _Backing(1)
                self._check_sources(found, need.only(row), one, rank)
                missing = np.arange(len(need.rows)) == number
                if one.trouble is not None:
                    backing.lack(missing, lambda _first, trouble=one.trouble: trouble)
            return
        need = Need(0, need.indices)
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
                        self._check_source(found, names, mapping, piece, backing, count=len(rows), rank=inner)

    def _check_source(
        self,
        found: OpenDataset,
        names: tuple[str, str],
        mapping: Mapping,
        piece: Sequence[Any],
        backing: _Backing,
        *,
        count: int,
        rank: int,
    ) -> None:
        """Record which rows mapped to one source are in it; its frames may have gaps if it is the only one."""
        stripes, index, at = piece
        missing = np.zeros(count, bool)
        try:
            source = self._source(found, *names)
            self._before_its_shape(source)
            part = mapping.part(stripes, index, at, shape=found.dataset.shape, source_shape=source.dataset.shape)
            inner = self.back(source, Need(part.axis, part.indices), self._rank_of(found, source, mapping, rank))
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

    def _rank_of(self, found: OpenDataset, source: OpenDataset, mapping: Mapping, rank: int) -> int:
        """Return the dimensions of a frame in a source whose gaps are gaps of the mapped frames, else 0."""
        if not rank or creation_in_hdf5(source).get_layout() != h5d.VIRTUAL:
            return 0
        gaps = self.gaps(source, rank)
        if gaps is None:
            return 0
        placed = mapping.place(gaps, shape=found.dataset.shape, source_shape=source.dataset.shape)
        return 0 if placed is None else rank

    def _before_its_shape(self, source: OpenDataset) -> None:
        """Check the sources that HDF5 opens for the shape of an unlimited virtual dataset."""
        if creation_in_hdf5(source).get_layout() == h5d.VIRTUAL:
            WrittenAudit(self._files, self._directory).allow_unlimited(source)

    def _allow_sources(self, found: OpenDataset, mapping: Mapping) -> None:
        """Refuse sources outside the root; for a pattern, all existing ones."""
        for block in range(BLOCKS_MAX if mapping.patterned else 1):
            names = mapping.names(block)
            if names in self._looked_at:
                continue
            if len(self._looked_at) >= SOURCES_MAX and not mapping.patterned:
                raise FileBroken(f"{found} uses more than {SOURCES_MAX:,} sources")
            self._looked_at.add(names)
            try:
                self.allow(self._source(found, *names))
            except FileNotReady:
                if mapping.patterned:
                    return
                raise
        if mapping.patterned:
            raise FileBroken(f"{found} uses more than {BLOCKS_MAX:,} sources")

    def _source(self, found: OpenDataset, name: str, path: str) -> OpenDataset:
        if not name.startswith("/") and found.file.name.parent != self._directory:
            raise FileRefused(f"{found} has sources relative to another directory, which is not supported")
        return as_dataset(self._files._walk(self._file(found.file, name), path, follow_files=False))

    def _file(self, file: HdfFile, name: str) -> HdfFile:
        if name == ".":
            return file
        return self._files.open(name) if name.startswith("/") else self._files.beside(file, name)

    @contextmanager
    def _inside(self, found: OpenDataset) -> Iterator[None]:
        """Guard against a virtual dataset among its own sources, while these are checked."""
        key = (found.file.identity, h5o.get_info(found.dataset.id).addr)
        if key in self._within:
            raise FileBroken(f"{found} is a virtual dataset that contains itself")
        if len(self._within) >= DEPTH_MAX:
            raise FileBroken(f"{found} uses virtual datasets in too many levels")
        self._within.append(key)
        try:
            yield
        finally:
            self._within.pop()


def _lack(backing: _Backing, missing: npt.NDArray[np.bool_], trouble: Callable[[int], SnakemapError]) -> None:
    """Record missing rows; if all rows count as one, all are missing if one is."""
    if len(missing) != len(backing.ok):
        missing = np.full(len(backing.ok), missing.any())
    backing.lack(missing, trouble)


def creation_in_hdf5(found: OpenDataset) -> h5p.PropDCID:
    """Return the creation properties of a dataset whose numbers are in HDF5 files."""
    with reading(found.file, f"{shown(found.path)} cannot be read"):
        creation = creation_of(found.dataset)
        external = creation.get_external_count()
    if external:
        raise FileRefused(f"{found} stores its frames outside HDF5, which is not supported")
    return creation


def _refresh(found: OpenDataset) -> None:
    with reading(found.file, f"{shown(found.path)} cannot be refreshed"):
        found.dataset.refresh()


def row_word(found: OpenDataset) -> str:
    """Return the name of a row of a dataset in messages: frame or value."""
    return "frame" if found.dataset.ndim > 2 else "value"


def _unproved(found: OpenDataset, row: int) -> FileNotReady:
    what = row_word(found)
    return FileNotReady(f"{found}: storage is allocated for {what} {row + 1:,}, but it may not have been written")


def _unmapped(found: OpenDataset, row: int) -> FileBroken:
    return FileBroken(f"{found}: no source holds all of {row_word(found)} {row + 1:,}, so that it has no number")


def check_length(found: OpenDataset) -> None:
    """Check that a dataset has rows, and no fewer than were read before."""
    if not found.dataset.shape:
        raise FrameError(f"{found} is a single value, not a stack of frames")
    length, before = found.dataset.shape[0], found.file.lengths.get(found.path, 0)
    if length < before:
        del found.file.lengths[found.path]
        found.file.sound.pop(found.path, None)
        raise FileReplaced(f"{found} had {before:,} {row_word(found)}s when it was read, and now has {length:,}")


def _check_rows(found: OpenDataset, need: Need, backing: _Backing) -> None:
    """Record which rows are within the dataset."""
    check_length(found)
    shape, what = found.dataset.shape, row_word(found)
    if len(shape) != len(need.indices):
        raise FileBroken(f"{found} has {len(shape)} dimensions, and {len(need.indices)} are needed of it")
    length = shape[need.axis]
    for number, (index, size) in enumerate(zip(need.indices, shape, strict=True)):
        if number != need.axis and (not len(index) or index[-1] >= size):
            backing.lack(np.ones(len(need.rows), bool), lambda _first: FileNotReady(f"{found} is too small: {shape}"))

    def trouble(first: int) -> FileNotReady:
        asked = int(need.rows[first]) + 1
        return FileNotReady(f"{found} has {length:,} {what}s (yet), but {what} {asked:,} is requested")

    backing.lack(need.rows >= length, trouble)


def _check_chunk_size(found: OpenDataset) -> None:
    """Check that chunks are small enough to unpack."""
    chunk_bytes = math.prod(found.dataset.chunks or ()) * found.dataset.id.get_type().get_size()
    if chunk_bytes > CHUNK_BYTES_MAX:
        raise FileBroken(
            f"{found} has chunks of {chunk_bytes / 1e6:,.0f} MB; more than {CHUNK_BYTES_MAX / 1e6:,.0f} MB are not read"
        )


def _check_chunks(found: OpenDataset, need: Need, backing: _Backing, *, proved: bool, alone: bool) -> None:
    """Record which rows have their chunks in the file."""
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

    with reading(found.file, f"the frames of {shown(found.path)} cannot be read"):
        missing = _missing_chunks(found, starts, corners, need.axis)
        lacking = np.isin(need.rows // step * step, list(missing))
        backing.lack(lacking, lambda first: missing[int(need.rows[first] // step * step)])
        if proved and step > 1:
            _check_content(found, need, backing)


def _missing_chunks(
    found: OpenDataset, starts: Indices, corners: Callable[[int], Iterator[tuple[int, ...]]], axis: int
) -> dict[int, SnakemapError]:
    """Return errors for chunks that are not in the file, by their first row."""
    dataset, stored = found.dataset, 0
    missing: dict[int, SnakemapError] = {}
    what = row_word(found)
    for start in starts.tolist():
        for corner in corners(start):
            chunk_bytes = stored_bytes(dataset, corner)
            # HDF5 may be unable to find it directly: then it walks through all chunks before this one
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
        # in a file written long ago all rows are found at once
        last = (dataset.shape[0] - 1) // step * step
        whole = last > there[-1] and all(_is_there(found, corner) for corner in corners(last))
        found.file.sound[found.path] = last if whole else there[-1], found.file.size
    return missing


def _is_sound(found: OpenDataset, row: int, row_bytes: int) -> bool:
    """Return whether an existing chunk is certainly within the file, without its address.

    Files grow with their rows. Rows before a row that was in the file are in it, too, unless the file shrank; later
    rows are, if the file grew by as much.
    """
    if found.path not in found.file.sound or found.file.shrunk:
        return False
    sound, size = found.file.sound[found.path]
    return row <= sound or found.file.size - size >= (row - sound) * row_bytes


def _ends(found: OpenDataset, corners: Iterator[tuple[int, ...]]) -> int:
    """Return the end of the last of given chunks in the file. HDF5 walks through all chunks before each."""
    chunks = [found.dataset.id.get_chunk_info_by_coord(corner) for corner in corners]
    return max((chunk.byte_offset or 0) + chunk.size for chunk in chunks)


def _is_there(found: OpenDataset, corner: tuple[int, ...]) -> bool:
    """Return whether a chunk is in the file."""
    if not stored_bytes(found.dataset, corner):
        return False
    chunk = found.dataset.id.get_chunk_info_by_coord(corner)
    return chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= found.file.size


def _check_content(found: OpenDataset, need: Need, backing: _Backing) -> None:
    """Record rows that share a chunk as written if they hold anything but the fill value."""
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
            written = (values != fill) & ~((values != values) & (fill != fill))  # NaN equals NaN here
            empty[stretch] = ~written.any(axis=1)
    backing.lack(empty, lambda first: _unproved(found, int(need.rows[first])))


def _check_storage(found: OpenDataset, need: Need, backing: _Backing) -> None:
    """Record which rows of contiguous storage are before the end of the file."""
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
    """Return the error for frames beyond the end of the file, where HDF5 would read zeros."""
    if file.young and end > file.largest:
        return FileNotReady(f"{file} is shorter than its frames need (yet)")
    return FileBroken(f"{file} was cut short: frames are missing at its end")


def as_dataset(node: Node) -> OpenDataset:
    """Return a node as a dataset; raises ``FrameError`` for a group."""
    if isinstance(node.item, h5py.Dataset):
        return OpenDataset(node.file, node.item, node.path)
    raise FrameError(f"{node} is a {kind_of_node(node.item)}, not a dataset")
