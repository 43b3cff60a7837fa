"""An open HDF5 file and a dataset of it."""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import h5py
from h5py import h5d, h5f, h5p  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileBroken, FileNotReady
from snakemap.files.data_root import shown
from snakemap.hdf5.child.virtual_mapping import VirtualMap

__all__ = [
    "CHUNK_BYTES_MAX",
    "HDF5_ERRORS",
    "HdfFile",
    "Node",
    "OpenDataset",
    "creation_of",
    "error_text",
    "is_chunk_proof",
    "kind_of_node",
    "reading",
    "stored_bytes",
]

CHUNK_BYTES_MAX = 256 << 20
"""Unpacked size of one chunk; a small file can declare a huge one."""


YOUNG_S = 60.0
"""A file changed this lately may still be in the making, so that what is wrong with it may mend."""


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
class OpenDataset:
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


def creation_of(dataset: h5py.Dataset) -> h5p.PropDCID:
    """How a dataset was made, as h5py keeps it: to have it copied once more costs 50 ms for 10,000 mappings."""
    return dataset._dcpl  # pyright: ignore[reportReturnType]


def is_chunk_proof(creation: h5p.PropDCID) -> bool:
    """Return whether a chunk in the file proves that it was written: chunks are allotted one by one."""
    return creation.get_alloc_time() == h5d.ALLOC_TIME_INCR


@functools.cache
def _storage_size() -> Any:
    # not in h5py; the function is found in the very library that h5py uses
    return ctypes.CDLL(h5f.__file__).H5Dget_chunk_storage_size


def stored_bytes(dataset: h5py.Dataset, corner: tuple[int, ...]) -> int:
    """Return the bytes of a chunk in its file, at the same cost wherever it is; 0 if absent or unknown."""
    sizes, stored = (ctypes.c_uint64 * len(corner))(*corner), ctypes.c_uint64()
    answer = _storage_size()(ctypes.c_int64(dataset.id.id), sizes, ctypes.byref(stored))
    return stored.value if answer >= 0 else 0


@contextmanager
def reading(file: HdfFile, doing: str) -> Iterator[None]:
    """Turns what h5py raises about a file into our words; the file is opened afresh the next time."""
    try:
        yield
    except HDF5_ERRORS as error:
        file.forget_handle()
        kind = FileNotReady if file.young and not file.shrunk and not isinstance(error, MemoryError) else FileBroken
        raise kind(f"{file}: {doing}: {error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """Return the text of an error of HDF5 as one line."""
    return shown(" ".join(str(argument) for argument in error.args) or type(error).__name__)


def kind_of_node(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> str:
    """Return the kind of an object: group, dataset or datatype."""
    return {h5py.Dataset: "dataset", h5py.Datatype: "datatype"}.get(type(item), "group")
