"""What a process and its HDF5 reader say to each other: a header in JSON and raw bytes, never a pickle.

A message is two lengths (4 bytes each, little-endian), that of the header and that of the payload, then both of them.
The first message, from the parent, holds what the reader is to know for good (:class:`Terms`); the reader answers it
with ``{"ready": true, ...}``. After that every request has one answer, ``{"error": code, "message": ...}`` among them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from snakemap.errors import FileBroken, FileNotReady, FileRefused, FrameError, RoiError, SnakemapError

__all__ = ["ERRORS", "HEADER_MAX", "LENGTHS", "PAYLOAD_MAX", "FrameRequest", "Terms"]

LENGTHS = struct.Struct("<II")
HEADER_MAX = 64 * 1024
PAYLOAD_MAX = 16 * 1024 * 1024
"""Bytes of sums and frames in one answer; more is taken for a reader gone mad."""

ERRORS: dict[str, type[SnakemapError]] = {
    error.code: error for error in (FileBroken, FileNotReady, FileRefused, FrameError, RoiError)
}
"""What a reader may answer instead, by code."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a reader is told once, when it starts.

    Attributes:
        root: the data root, absolute.
        path_map: pairs of the writer's prefix and ours, for links in files.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: seconds that a request may take.
        memory_limit_bytes: address space that the reader may use.
    """

    root: str
    path_map: tuple[tuple[str, str], ...] = ()
    locking: bool = False
    time_limit_s: float = 10.0
    memory_limit_bytes: int = 4 << 30


class FrameRequest(TypedDict):
    """One request; the ask is one of four words.

    - ``"reduce"``: sums of frames;
    - ``"scalars"``: numbers, one a point, for which ROIs and frames mean nothing;
    - ``"shape"``: of a stack of frames, by path and dataset alone;
    - ``"size"``: the shape of any dataset, in the same way.
    """

    ask: str
    path: str
    dataset: str
    start: int
    stop: int
    frames_per_point: int
    rois: list[list[int]]
    frame_shape: list[int] | None
    point_shape: NotRequired[list[int]]
    preview: bool
