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
"""Maximum unpacked bytes of one chunk; a small file can declare a huge one."""


YOUNG_S = 60.0
"""A file changed within this time may still be in the making: its faults may be temporary."""


HDF5_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""Exceptions that h5py raises for bad files."""


@dataclass(slots=True)
class HdfFile:
    """A file that is kept open between requests, with its state.

    Attributes:
        name: path in the data root, like ``visit/scan-1.h5``.
        fd: holds it open if its name changes.
        identity: device and inode.
        lengths: rows of its datasets up to the last one found, by path.
        largest: maximum bytes so far.
        sound: by path, a row that lies in the file, and the bytes of the file at that time.
        firsts: position of the first rows of its datasets: offset and bytes, by path.
        maps: mappings of its virtual datasets, by address, with the state of the file they are from.
        virtuals: paths of virtual datasets.
        allowed: addresses of virtual datasets whose sources are in the data root.
        handle: None if it must be opened again.
        loaded: its state when opened.
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
        """Size and modification time (ns); changes with every write."""
        status = os.fstat(self.fd)
        return status.st_size, status.st_mtime_ns

    @property
    def identified(self) -> tuple[int, int, int, int]:
        """Device, inode, size and modification time (ns): the same for the same bytes."""
        return (*self.identity, *self.state)

    @property
    def size(self) -> int:
        """Current bytes on disk."""
        return os.fstat(self.fd).st_size

    @property
    def shrunk(self) -> bool:
        """Whether it was larger before."""
        return self.size < self.largest

    @property
    def young(self) -> bool:
        """Whether it was written a moment ago, or by a clock that is ahead."""
        return time.time() - os.fstat(self.fd).st_mtime < YOUNG_S

    def forget_handle(self) -> None:
        """Close it in HDF5, so that the next request opens its current state."""
        if self.handle is not None:
            self.handle.close()
            self.handle = None

    def close(self) -> None:
        """Close it."""
        self.forget_handle()
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Node:
    """The object at a path, and the file that holds it.

    Attributes:
        file: target of the last external link.
        item: opened, not yet refreshed.
        path: as requested.
        place: the path in the file that holds it, with links resolved.
    """

    file: HdfFile
    item: h5py.Group | h5py.Dataset | h5py.Datatype
    path: str
    place: str

    def __str__(self) -> str:
        return f"{self.file}, {shown(self.path)}"


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A dataset, and the file that holds it.

    Attributes:
        file: target of the last external link.
        dataset: opened, not yet refreshed.
        path: as requested.
    """

    file: HdfFile
    dataset: h5py.Dataset
    path: str

    @property
    def virtual(self) -> bool:
        """Whether it maps other datasets."""
        return creation_of(self.dataset).get_layout() == h5d.VIRTUAL

    def __str__(self) -> str:
        return f"{self.file}, {shown(self.path)}"


def creation_of(dataset: h5py.Dataset) -> h5p.PropDCID:
    """Return the creation properties kept by h5py: a copy costs 50 ms for 10,000 mappings."""
    return dataset._dcpl  # pyright: ignore[reportReturnType]


def is_chunk_proof(creation: h5p.PropDCID) -> bool:
    """Return whether a chunk in the file proves that it was written: chunks are allocated one by one."""
    return creation.get_alloc_time() == h5d.ALLOC_TIME_INCR


@functools.cache
def _storage_size() -> Any:
    # not in h5py: the function of the library that h5py loaded
    return ctypes.CDLL(h5f.__file__).H5Dget_chunk_storage_size


def stored_bytes(dataset: h5py.Dataset, corner: tuple[int, ...]) -> int:
    """Return the bytes of a chunk in its file, at the same cost wherever it is; 0 if absent or unknown."""
    sizes, stored = (ctypes.c_uint64 * len(corner))(*corner), ctypes.c_uint64()
    answer = _storage_size()(ctypes.c_int64(dataset.id.id), sizes, ctypes.byref(stored))
    return stored.value if answer >= 0 else 0


@contextmanager
def reading(file: HdfFile, doing: str) -> Iterator[None]:
    """Translate errors of h5py about a file; the file is opened again at the next request."""
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
