"""Stacks of frames in several files, linked from a DECTRIS master: links ``data_000001``, ``data_000002``, ...

    /entry/data/data_000001 -> scan_data_000001.h5   frames 1 to 4
    /entry/data/data_000002 -> scan_data_000002.h5   frames 5 to 8
    /entry/data/data_000003 -> (not there)           frames 9 to 12

All files but the last hold the same number of frames, so the frames of a missing one are known.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from snakemap.errors import SnakemapError
from snakemap.hdf5.child.dtypes import dtype_of, values_of
from snakemap.hdf5.child.hdf_file import Node, OpenDataset, reading
from snakemap.hdf5.child.nexus import signal_of
from snakemap.hdf5.child.open_files import OpenFiles, link_of

__all__ = ["StackPart", "StackParts", "parts_of"]

NAME = re.compile(r"data_(\d{6})")
PARTS_MAX = 1000
MEMBERS_MAX = 4 * PARTS_MAX
KEPT_S, KEPT_MAX = 1.0, 16
"""Parts are searched once a second, for at most this number of groups."""

COUNTS = "instrument/detector/detectorSpecific"
RANK = 3


@dataclass(frozen=True, slots=True)
class StackPart:
    """One file of a stack.

    Attributes:
        path: of its link, in the master file.
        start: its first frame in the stack.
        count: of frames.
        there: whether it can be read.
    """

    path: str
    start: int
    count: int
    there: bool

    @property
    def stop(self) -> int:
        """The frame after its last one."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class StackParts:
    """A stack of frames in several files.

    Attributes:
        parts: in order, including missing ones.
        shape: frames, rows and columns. The frames end with the last existing file, unless the master has their number.
        dtype: of the values.
    """

    parts: tuple[StackPart, ...]
    shape: tuple[int, ...]
    dtype: Any

    def at(self, frame: int) -> StackPart:
        """Return the part with a frame of the stack."""
        return next(part for part in self.parts if part.start <= frame < part.stop)

    @property
    def readable_ranges(self) -> list[tuple[int, int]]:
        """Frames that can be read, as half-open ranges in order.

        >>> parts = [StackPart("1", 0, 4, True), StackPart("2", 4, 4, False), StackPart("3", 8, 2, True)]
        >>> StackParts(tuple(parts), (10, 8, 8), None).readable_ranges
        [(0, 4), (8, 10)]
        """
        return _merged_ranges(part for part in self.parts if part.there)

    @property
    def missing(self) -> str:
        """A sentence about the files that cannot be read; empty if all can.

        >>> parts = [StackPart("1", 0, 4, True), StackPart("2", 4, 4, True), StackPart("3", 8, 4, False)]
        >>> StackParts(tuple(parts), (8, 8, 8), None).missing
        '2 of 3 data files are there; frames 9 to 12 are missing.'
        """
        gone = [part for part in self.parts if not part.there]
        if not gone:
            return ""
        frames = [f"{start + 1:,} to {stop:,}" for start, stop in _merged_ranges(iter(gone))]
        count = len(self.parts) - len(gone)
        are = "is" if count == 1 else "are"
        return f"{count:,} of {len(self.parts):,} data files {are} there; frames {' and '.join(frames)} are missing."


def parts_of(files: OpenFiles, node: Node) -> StackParts | None:
    """Return the stack linked from a group; None if there is none, or none of its files can be read."""
    if not isinstance(node.item, h5py.Group):
        return None
    key = (str(node.file.name), *node.file.identity, node.place)
    known = files.parts.get(key)
    if known is None or time.monotonic() - known[0] > KEPT_S:
        if len(files.parts) >= KEPT_MAX:
            files.parts.clear()
        known = files.parts[key] = (time.monotonic(), _found(files, node))
    return known[1]


def _found(files: OpenFiles, node: Node) -> StackParts | None:
    names = _names(node)
    if not names:
        return None
    place = node.place.rstrip("/")
    shapes = [_part_shape(files, node, f"{place}/{name}") for name in names]
    first = next((one for one in shapes if one is not None), None)
    if first is None:
        return None
    lengths = [
        one[0][0] if one is not None and (one[0][1:], one[1]) == (first[0][1:], first[1]) else 0 for one in shapes
    ]
    whole = max(lengths)
    if not whole:
        return None
    frame_count = _master_frame_count(files, node) or 0
    parts: list[StackPart] = []
    start = 0
    for name, length in zip(names, lengths, strict=True):
        left = frame_count - start
        count = length or (min(whole, left) if left > 0 else whole)
        parts.append(StackPart(f"{place}/{name}", start, count, there=length > 0))
        start += count
    frames = max(part.stop for part in parts if part.there)
    return StackParts(tuple(parts), (max(frames, min(frame_count, start)), *first[0][1:]), first[1])


def _names(node: Node) -> list[str]:
    """Return the names of the parts in order, including missing ones; none if the group has another signal."""
    group = node.item
    if not isinstance(group, h5py.Group):
        return []
    with reading(node.file, "its members cannot be listed"):
        if not 0 < group.id.get_num_objs() <= MEMBERS_MAX:
            return []
        numbers: list[int] = []

        def take(name: bytes) -> None:
            if match := NAME.fullmatch(name.decode("ascii", "replace")):
                numbers.append(int(match[1]))

        group.id.links.iterate(take)
        if not numbers or max(numbers) - min(numbers) >= PARTS_MAX:
            return []
        names = [f"data_{number:06}" for number in range(min(numbers), max(numbers) + 1)]
        links = [isinstance(link_of(group, f"data_{number:06}"), h5py.ExternalLink) for number in numbers]
        signal = signal_of(group)
        return names if all(links) and (not signal or signal in names) else []


def _part_shape(files: OpenFiles, node: Node, path: str) -> tuple[tuple[int, ...], Any] | None:
    """Return shape and dtype of a part; None if it is no stack of frames, or cannot be read."""
    try:
        there = files.node(files.again(node.file), path)
        if not isinstance(there.item, h5py.Dataset):
            return None
        found = OpenDataset(there.file, there.item, there.path)
        files.allow(found)
        with reading(there.file, "its frames cannot be read"):
            shape, dtype = there.item.shape, dtype_of(there.item.id.get_type())
        return (
            (shape, dtype) if shape and len(shape) == RANK and 0 not in shape and values_of(dtype) == "number" else None
        )
    except SnakemapError:
        return None
    finally:
        files.trim(node.file)


def _master_frame_count(files: OpenFiles, node: Node) -> int | None:
    """Return the number of frames from the master: images of a series, times the series."""
    entry = node.place.rstrip("/").rpartition("/")[0]
    counts = [_whole(files, node, f"{entry}/{COUNTS}/{name}") for name in ("nimages", "ntrigger")]
    return None if counts[0] is None else math.prod(count for count in counts if count is not None)


def _whole(files: OpenFiles, node: Node, path: str) -> int | None:
    try:
        there = files.node(files.again(node.file), path)
        if not isinstance(there.item, h5py.Dataset) or there.item.shape not in ((), (1,)):
            return None
        files.allow(OpenDataset(there.file, there.item, there.path))
        with reading(there.file, "its frames cannot be counted"):
            value = there.item[()]
            return int(value.item()) if there.item.dtype.kind in "iu" else None
    except SnakemapError:
        return None


def _merged_ranges(parts: Iterator[StackPart]) -> list[tuple[int, int]]:
    """Return the frames of parts as half-open ranges; neighbors are one range."""
    ranges: list[tuple[int, int]] = []
    for part in parts:
        if ranges and ranges[-1][1] == part.start:
            ranges[-1] = (ranges[-1][0], part.stop)
        else:
            ranges.append((part.start, part.stop))
    return ranges
