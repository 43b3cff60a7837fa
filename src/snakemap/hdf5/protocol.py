"""The messages between a process and its HDF5 reader: a header in JSON and raw bytes, never a pickle.

A message is two lengths (4 bytes each, little-endian) of header and payload, then both of them. The first message, from
the parent, is the :class:`ReaderConfig`; the reader answers ``{"ready": true, ...}``. Then every request has one
answer, which may be ``{"error": code, "message": ...}``.
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
    "INSPECT_PAYLOAD_MAX",
    "LENGTHS",
    "PAYLOAD_MAX",
    "TOTAL_PAYLOAD_MAX",
    "FrameRequest",
    "H5groveRequest",
    "InspectRequest",
    "ReaderConfig",
]

LENGTHS = struct.Struct("<II")
HEADER_MAX = 64 * 1024
PAYLOAD_MAX = 16 * 1024 * 1024
"""Maximum bytes of sums and frames in one answer; more means a corrupt reader."""

INSPECT_PAYLOAD_MAX = 64 * 1024 * 1024
"""Maximum bytes of values in one answer to an inspector."""

TOTAL_PAYLOAD_MAX = 160 * 1024 * 1024
"""Maximum bytes of the sum of frames in one answer: 20 million pixels of 64 bits."""

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
ERRORS[FileMissing.code] = FileNotReady  # a frame reader waits for a missing file
"""Errors of a reader, by code."""


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """The configuration of a reader, sent when it starts.

    Attributes:
        root: the data root, absolute.
        path_map: pairs of the writer's prefix and the local one, for links in files.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: of one request.
        memory_limit_bytes: maximum address space.
        sums: whether it sums frames, and compiles for it at start.
        nice: niceness, 0 to 19.
        blocks: whether it sums blocks of frames, and compiles for it at start.
    """

    root: str
    path_map: tuple[tuple[str, str], ...] = ()
    locking: bool = False
    time_limit_s: float = 10.0
    memory_limit_bytes: int = 4 << 30
    sums: bool = True
    nice: int = 0
    blocks: bool = False


class FrameRequest(TypedDict):
    """A request of a frame reader; ``ask`` is one of seven.

    - ``"reduce"``: sums of frames;
    - ``"add"``: the sum of the frames of the points in ``ranges`` (start and stop each), pixel by pixel, of as many as
      can be read in ``limit_s`` seconds; with ``"add range"`` the reader process asks itself for one range;
    - ``"blocks"``: likewise, the sums of blocks of the frames of each point;
    - ``"scalars"``: one number for each point; ROIs and frames are ignored;
    - ``"written"``: for each point whether it is certainly written, as its own chunks show;
    - ``"shape"``: of a stack of frames, by path and dataset alone;
    - ``"size"``: the shape of any dataset, likewise.

    If there is no file at ``path``, the first existing one of ``instead`` is read.
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
    ranges: NotRequired[list[list[int]]]
    limit_s: NotRequired[float]


class InspectRequest(TypedDict):
    """A request of an inspector; ``ask`` is one of four.

    - ``"members"``: of a group, by ``offset`` and ``count``, or with ``search`` in their names;
    - ``"find"``: everything below the root with ``search`` in its name;
    - ``"about"``: metadata of a node;
    - ``"slice"``: values of a dataset: for each dimension an index, or start, stop and step; ``most`` at one time.
    """

    ask: str
    path: str
    node: str
    offset: NotRequired[int]
    count: NotRequired[int]
    search: NotRequired[str]
    selection: NotRequired[list[int | list[int]]]
    most: NotRequired[int]


class H5groveRequest(TypedDict):
    """A request in the form of h5grove; ``ask`` is one of five.

    - ``"grove meta"``: of a node, with the members of a group;
    - ``"grove attr"``: values of attributes, all or some (``attr_keys``);
    - ``"grove data"``: values of a dataset (``selection``, ``flatten``, ``dtype``, ``format``);
    - ``"grove stats"``: of a dataset (``selection``);
    - ``"grove paths"``: of everything below a group.

    ``resolve_links`` is h5grove's: none, only_valid, all.
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
