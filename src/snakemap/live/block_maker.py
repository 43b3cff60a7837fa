"""Make the block sums of runs, a portion of their frames at a time, in a reader process of its own.

::

    points that are measured and have no sums -> their rows, a portion of a quarter of a second
       -> the reader process sums the blocks -> the sums are written to the files of the run

One process at a time writes the sums of a camera in a run; another one that wants them waits, and reads what is there.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from snakemap.blocks.block_directory import BlockDirectory
from snakemap.blocks.block_files import BlockKey, BlockWriter
from snakemap.core.block_sums import BlockFormat
from snakemap.core.frame_ledger import RowRange
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.errors import FileRefused, FileReplaced, FrameError, SnakemapError, TooLarge
from snakemap.hdf5.block_answer import BlockSums
from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameReader, recorded_fingerprints
from snakemap.live.measured import check_readable, measured, recognize
from snakemap.settings import Settings

__all__ = ["BlockMaker", "block_directory", "key_of"]

log = logging.getLogger(__name__)

PORTION_S = 0.25
"""Seconds for which frames are read before the sums are written."""

POINTS_MAX, RANGES_MAX = 4096, 500
"""Points and row ranges in one portion."""

PAUSE_S = 60.0
"""Seconds until sums are tried again after the disk was full, or the whole file could not be read."""

OTHER_S = 1.0
"""Seconds until the lock is tried again that another process has."""

ROOM_BYTES = 64 << 20
"""Bytes that are written until the sizes of all files are looked up again."""

WRITERS_KEPT = 4
NICE = 15
"""Niceness of the reader process: every other work comes first."""

WHOLE_FILE = (FileRefused, FileReplaced, FrameError, TooLarge)
"""Errors that are not those of single frames."""

Ints = npt.NDArray[np.int64]


def block_directory(settings: Settings) -> BlockDirectory | None:
    """Return the directory of block sums; None if the settings want none."""
    if settings.blocks_max_gb <= 0:
        return None
    return BlockDirectory(settings.blocks_path, bytes_max=int(settings.blocks_max_gb * 1e9))


def key_of(run: Run, source: MapSource) -> BlockKey:
    """Return the key of the sums of a source."""
    return BlockKey(run.uid, source.stream, source.key)


@dataclass(eq=False, slots=True)
class _Making:
    """The state of one source.

    Attributes:
        lock: of its directory; None while another process has it.
        writer: of its sums; None before the first portion.
        step: points of the next portion.
        skipped: places of frames that cannot be read.
        not_before: when to go on, by :func:`time.monotonic`.
        done: version of the maps for which all sums are there.
        marks: fingerprints of the files, by resource and name.
    """

    lock: int | None = None
    writer: BlockWriter | None = None
    step: int = POINTS_MAX
    skipped: set[int] = field(default_factory=set)
    not_before: float = 0.0
    done: int = -1
    marks: dict[str, dict[str, FileFingerprint]] = field(default_factory=dict)


class BlockMaker:
    """Makes block sums, for one source at a time.

    Args:
        directory: of the sums.
        make: makes the reader, which starts with the first portion.

    Attributes:
        made: number of points whose sums were made.
        seconds: that this took, by the clock.
    """

    def __init__(self, directory: BlockDirectory, make: Callable[[], FrameReader]) -> None:
        self.directory = directory
        self._reader = make()
        self._lock = asyncio.Lock()
        self._makings: OrderedDict[BlockKey, _Making] = OrderedDict()
        self._room = 0
        self.made = 0
        self.seconds = 0.0

    @classmethod
    def of(cls, settings: Settings) -> BlockMaker | None:
        """Return one for the files of the data root; None if the settings want no sums."""
        directory = block_directory(settings)
        if directory is None:
            return None
        return cls(directory, functools.partial(FrameReader.of, settings, sums=False, nice=NICE, blocks=True))

    async def close(self) -> None:
        """End the reader process and close all files; another portion begins again."""
        async with self._lock:
            await self._reader.close()
            while self._makings:
                _close(self._makings.popitem()[1])

    async def portion(self, run: Run, source: MapSource) -> bool:
        """Make the sums of some points that have none; return False if there is nothing to do now.

        Errors are logged: without these sums everything works, only slower.

        Args:
            run: folded by this event loop.
            source: one of its sources.
        """
        async with self._lock:
            try:
                return await self._portion(run, source)
            except SnakemapError as trouble:
                log.info("run %s: no sums of blocks: %s", run.uid, trouble)
            except OSError as trouble:
                log.warning("run %s: sums of blocks cannot be written: %s", run.uid, trouble)
                self._pause(self._makings[key_of(run, source)])
            return False

    async def _portion(self, run: Run, source: MapSource) -> bool:
        key = key_of(run, source)
        making = self._making(key)
        if time.monotonic() < making.not_before or making.done == source.maps.version or not _is_readable(run, source):
            return False
        version = source.maps.version
        if making.lock is None and not await self._begin(key, making):
            return False
        seq_nums, places = measured(source)
        wanted = ~np.isin(places, list(making.skipped)) if making.skipped else np.ones(len(places), bool)
        if making.writer is not None:
            wanted &= making.writer.lacking(seq_nums, places)
        if not wanted.any():
            making.done = version
            return False
        place_of = np.full(int(seq_nums.max(initial=0)) + 1, -1, np.int64)
        place_of[seq_nums] = places
        await self._make(key, making, source, seq_nums[wanted], place_of)
        return making.not_before <= time.monotonic()

    async def _begin(self, key: BlockKey, making: _Making) -> bool:
        """Lock the directory of a source, and open the sums that are there; return False if another process has it."""
        making.lock = await asyncio.to_thread(self.directory.lock, key)
        if making.lock is None:
            making.not_before = time.monotonic() + OTHER_S
            return False
        self._close_others(making)
        reader = self.directory.reader(key)
        await asyncio.to_thread(reader.refresh)
        if reader.format is not None:
            making.writer = await asyncio.to_thread(self.directory.writer, key, reader.format, lock=making.lock)
        return True

    async def _make(self, key: BlockKey, making: _Making, source: MapSource, seq_nums: Ints, place_of: Ints) -> None:
        """Make the sums of the first of some points."""
        resource, ranges = _first_rows(source, seq_nums, making.step)
        if resource.uid not in making.marks:
            files = source.derived_descriptor.files if source.derived_descriptor is not None else ()
            making.marks[resource.uid] = recorded_fingerprints(files, resource.uid)
        began = time.monotonic()
        try:
            summed = await _summed(self._reader, resource, ranges, source)
            recognize(self._reader.marks, making.marks[resource.uid])
        except SnakemapError as error:
            self._fail(making, ranges, place_of, error)
            return
        making.step = min(2 * making.step, POINTS_MAX)
        if making.lock is None:
            return
        if making.writer is None:
            making.writer = await asyncio.to_thread(self.directory.writer, key, summed.format, lock=making.lock)
        if making.writer.format != summed.format:
            self._fail(making, ranges, place_of, FrameError("the frames of the run have several dtypes"))
        else:
            await asyncio.to_thread(self._write, making, making.writer, ranges, place_of, summed)
            self.made += summed.points
        self.seconds += time.monotonic() - began

    def _write(
        self, making: _Making, writer: BlockWriter, ranges: list[RowRange], place_of: Ints, summed: BlockSums
    ) -> None:
        """Write the sums of points, if there is room."""
        self._room -= summed.sums.nbytes
        if self._room < 0:
            left = self.directory.make_room(summed.sums.nbytes, keep=writer.directory)
            self._room = min(left, ROOM_BYTES)
        if self._room < 0:
            log.warning("no room for sums of blocks; they are made for the frames so far (SNAKEMAP_BLOCKS_MAX_GB)")
            self._pause(making)
            return
        begin = 0
        for one in ranges:
            count = min(one.count, summed.points - begin)
            if count <= 0:
                return
            seq_nums = np.arange(one.seq_num, one.seq_num + count)
            # points that are not measured, or whose frames are elsewhere, have no place here
            writer.put(seq_nums, place_of[seq_nums], summed.sums[begin : begin + count])
            begin += count

    def _fail(self, making: _Making, ranges: list[RowRange], place_of: Ints, error: SnakemapError) -> None:
        """Halve the portion until the point is found that cannot be read; or leave the file for a while."""
        points = sum(one.count for one in ranges)
        if isinstance(error, WHOLE_FILE):
            log.info("no sums of blocks: %s", error)
            self._pause(making)
        elif points > 1:
            making.step = points // 2
        else:
            making.skipped.add(int(place_of[ranges[0].seq_num]))

    def _pause(self, making: _Making) -> None:
        making.not_before = time.monotonic() + PAUSE_S

    def _making(self, key: BlockKey) -> _Making:
        making = self._makings.setdefault(key, _Making())
        self._makings.move_to_end(key)
        return making

    def _close_others(self, making: _Making) -> None:
        """Close the files of all sources but some, so that other processes may write them."""
        opened = [one for one in self._makings.values() if one.lock is not None and one is not making]
        for one in opened[: max(0, len(opened) - WRITERS_KEPT + 1)]:
            _close(one)
        while len(self._makings) > 16 * WRITERS_KEPT:
            _close(self._makings.popitem(last=False)[1])

    def release(self, run: Run, source: MapSource) -> None:
        """Close the files of a source, so that another process may write them."""
        making = self._makings.get(key_of(run, source))
        if making is not None and not self._lock.locked():
            _close(making)


def _close(making: _Making) -> None:
    if making.writer is not None:
        making.writer.close()
    elif making.lock is not None:
        os.close(making.lock)
    making.writer = making.lock = None


def _is_readable(run: Run, source: MapSource) -> bool:
    try:
        check_readable(run, source, ())
    except SnakemapError:
        return False
    return True


def _first_rows(source: MapSource, seq_nums: Ints, points: int) -> tuple[Resource, list[RowRange]]:
    """Return the rows of the first of some points, all of one resource."""
    ranges = list[RowRange]()
    for one in source.ledger.row_ranges(seq_nums):
        if not points or len(ranges) == RANGES_MAX or (ranges and ranges[0].resource != one.resource):
            break
        ranges.append(one.part(0, min(points, one.count)))
        points -= ranges[-1].count
    return source.ledger.resources[ranges[0].resource], ranges


async def _summed(reader: FrameReader, resource: Resource, ranges: list[RowRange], source: MapSource) -> BlockSums:
    """Return the block sums of the first points of some rows, of as many as can be read in the time of a portion."""
    if resource.template:
        row = ranges[0].index
        frames = range(row * resource.frames_per_point, (row + 1) * resource.frames_per_point)
        parts = [await _of_file(reader, resource, frame, source.frame_shape) for frame in frames]
        if len({part.format for part in parts}) > 1:
            raise FrameError("the frames of a point have several dtypes")
        form = BlockFormat(parts[0].format.frame_shape, parts[0].format.dtype.replace("4", "8"))
        return BlockSums(np.sum([part.sums for part in parts], axis=0, dtype=form.dtype), form)
    batch = FrameBatch(
        resource.uri,
        resource.dataset,
        0,
        1,
        frames_per_point=resource.frames_per_point,
        frame_shape=source.frame_shape,
        point_shape=resource.point_shape,
        columns=resource.columns,
    )
    rows = [(one.index, one.index + one.count) for one in ranges]
    return await reader.blocks(batch, rows, limit_s=PORTION_S)


async def _of_file(
    reader: FrameReader, resource: Resource, frame: int, frame_shape: tuple[int, int] | None
) -> BlockSums:
    """Return the block sums of a frame with a file of its own."""
    uri = resource.uri_of(frame)
    size = await reader.size(uri, resource.dataset)
    count, point_shape = (1, size) if len(size) == 2 else (size[0], ())
    batch = FrameBatch(uri, resource.dataset, 0, 1, count, frame_shape=frame_shape, point_shape=point_shape)
    return await reader.blocks(batch, [(0, 1)], limit_s=PORTION_S)
