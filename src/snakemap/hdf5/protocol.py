"""What a process and its HDF5 reader say to each other: a header in JSON and raw bytes, never a pickle.

A message is two lengths (4 bytes each, little-endian), that of the header and that of the payload, then both of them.
The first message, from the parent, holds what the reader is to know for good (:class:`ReaderConfig`); the reader
answers it with ``{"ready": true, ...}``. After that every request has one answer, ``{"error": code, "message": ...}``
among them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from snakemap.errors import (
    FileBroken,
    FileMissing,
    FileNotReady,
    FileRefused,
    FileReplaced,
    FrameError,
    NotThere,
    RoiError,
    SelectionError,
    SnakemapError,
    TooLarge,
    WrongKind,
)

__all__ = [
    "ERRORS",
    "HEADER_MAX",
    "LENGTHS",
    "LOOK_PAYLOAD_MAX",
    "PAYLOAD_MAX",
    "FrameRequest",
    "GroveRequest",
    "InspectRequest",
    "ReaderConfig",
]

LENGTHS = struct.Struct("<II")
HEADER_MAX = 64 * 1024
PAYLOAD_MAX = 16 * 1024 * 1024
"""Bytes of sums and frames in one answer; more is taken for a reader gone mad."""

LOOK_PAYLOAD_MAX = 64 * 1024 * 1024
"""Bytes of values in one answer to who looks round in files."""

ERRORS: dict[str, type[SnakemapError]] = {
    error.code: error
    for error in (
        FileBroken,
        FileNotReady,
        FileRefused,
        FileReplaced,
        FrameError,
        NotThere,
        RoiError,
        SelectionError,
        TooLarge,
        WrongKind,
    )
}
ERRORS[FileMissing.code] = FileNotReady  # a reader of frames waits for a file that is not there yet
"""What a reader may answer instead, by code."""


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """What a reader is told once, when it starts.

    Attributes:
        root: the data root, absolute.
        path_map: pairs of the writer's prefix and ours, for links in files.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: seconds that a request may take.
        memory_limit_bytes: address space that the reader may use.
        sums: whether it is to sum frames, and gets ready for it.
        nice: how far it stands back behind other processes, from 0 to 19.
    """

    root: str
    path_map: tuple[tuple[str, str], ...] = ()
    locking: bool = False
    time_limit_s: float = 10.0
    memory_limit_bytes: int = 4 << 30
    sums: bool = True
    nice: int = 0


class FrameRequest(TypedDict):
    """One request; the ask is one of five words.

    - ``"reduce"``: sums of frames;
    - ``"scalars"``: numbers, one a point, for which ROIs and frames mean nothing;
    - ``"written"``: for each point whether it was written for certain, as its own chunks show;
    - ``"shape"``: of a stack of frames, by path and dataset alone;
    - ``"size"``: the shape of any dataset, in the same way.

    A file that is not at ``path`` is read at the first of ``instead`` where one is.
    """

    ask: str
    path: str
    instead: NotRequired[list[str]]
    dataset: str
    start: int
    stop: int
    frames_per_point: int
    rois: list[list[int]]
    frame_shape: list[int] | None
    point_shape: NotRequired[list[int]]
    columns: NotRequired[int]
    preview: bool


class InspectRequest(TypedDict):
    """A request of somebody who looks round in a file; the ask is one of four words.

    - ``"members"``: of a group, some of them (``offset``, ``count``) or those whose names hold ``search``;
    - ``"find"``: everything below the root whose name holds ``search``;
    - ``"about"``: all that is known of a node, without its values;
    - ``"slice"``: values of a dataset: for each dimension a number, or start, stop and step; ``most`` at one time.
    """

    ask: str
    path: str
    node: str
    offset: NotRequired[int]
    count: NotRequired[int]
    search: NotRequired[str]
    selection: NotRequired[list[int | list[int]]]
    most: NotRequired[int]


class GroveRequest(TypedDict):
    """What h5grove would be asked, and is answered as h5grove does; the ask is one of five words.

    - ``"grove meta"``: of a node, a group's members among it;
    - ``"grove attr"``: values of attributes, all or some (``attr_keys``);
    - ``"grove data"``: values of a dataset (``selection``, ``flatten``, ``dtype``, ``format``);
    - ``"grove stats"``: of a dataset (``selection``);
    - ``"grove paths"``: of everything below a group.

    ``resolve_links`` is a word of h5grove's: none, only_valid, all.
    """

    ask: str
    path: str
    node: str
    resolve_links: NotRequired[str]
    attr_keys: NotRequired[list[str] | None]
    selection: NotRequired[str | None]
    flatten: NotRequired[bool]
    dtype: NotRequired[str]
    format: NotRequired[str]
