"""The mean of the frames of many points: frames are added pixel by pixel, in the reader processes of the regions.

::

    points -> the rows of their frames -> portions of half a second -> a reader process adds the frames of a portion
       -> the sums of all portions are added here -> the mean so far, after every portion

Sums of integers are exact. Those of floats are float64, added portion by portion.
"""

from __future__ import annotations

import asyncio
import io
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.core.frame_ledger import RowRange
from snakemap.core.points_text import points_from_text
from snakemap.core.roi import shrink
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.errors import FileRefused, FileReplaced, FrameError, SnakemapError, TooBusy, TooLarge
from snakemap.hdf5.frame_reader import (
    FileFingerprint,
    FrameBatch,
    FrameReader,
    FrameTotal,
    recorded_fingerprints,
)
from snakemap.live.block_access import BlockAccess
from snakemap.live.measured import check_readable, measured, recognize
from snakemap.live.region_maps import PORTION_S, TIME_LIMIT_S, WAITING_MAX
from snakemap.live.run_cache import RunCache, WrittenBytes, source_of

__all__ = ["FrameMean", "MeanFormat", "MeanFrames", "mean_of_points", "picture_of"]

RUNNING_MAX = 4
"""Means that grow at one time in a process; others wait."""

BYTES_KEPT = 128 << 20
"""Memory of the sums of complete means, to which the frames of new points can be added."""

RANGES_MAX = 500
"""Row ranges in one portion."""

STEP_MAX = 1 << 16
"""Points in one portion."""

FAILED_S_MAX, FAILED_MAX = 20.0, 200
"""Seconds of requests that failed, and unreadable points in succession, after which a file is not read any more."""

WHOLE_FILE = (FileRefused, FileReplaced, FrameError, TooLarge)
"""Errors that are not those of single frames."""

ASKED_MAX = 16
"""Requested means that are kept, complete or not."""

JSON_VALUES_MAX = 4_000_000
"""Values of a frame in JSON."""


class MeanFormat(StrEnum):
    """A file format of frames."""

    JSON = "json"
    NPZ = "npz"


Ints = npt.NDArray[np.int64]


@dataclass(eq=False, slots=True)
class FrameMean:
    """The mean of the frames of some points of a run, as far as they are read.

    Attributes:
        resources: of the run, by uid.
        frame_shape: rows and columns of a frame.
        marks: fingerprints of files, by resource and name.
        places: of the frames of all points, as :meth:`FrameLedger.places` has them.
        pending: rows that are not read yet.
        sums: of the frames so far; None before the first, and when they are forgotten.
        points: number of points whose frames are in it.
        frames: number of frames in it.
        lost: number of points whose frames cannot be read.
        trouble: why, a sentence for the user; empty if all can be read.
    """

    resources: dict[str, Resource]
    frame_shape: tuple[int, int] | None
    marks: dict[str, dict[str, FileFingerprint]]
    places: Ints
    pending: deque[RowRange]
    sums: npt.NDArray[Any] | None = None
    points: int = 0
    frames: int = 0
    lost: int = 0
    trouble: str = ""
    _step: int = STEP_MAX
    _failed_s: float = 0.0
    _failed: int = 0

    @property
    def wanted(self) -> int:
        """The number of points."""
        return len(self.places)

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be read."""
        return not self.pending

    def values(self) -> npt.NDArray[np.float64]:
        """Return the mean (rows, columns), or (rows, columns, 3) in color.

        Raises:
            FrameError: no frame has been read.
        """
        if self.sums is None or not self.frames:
            raise FrameError(self.trouble or "no frame of these points has been read")
        return self.sums / self.frames

    @property
    def state(self) -> dict[str, Any]:
        """How far it is read, for programs."""
        return {
            "measured": self.wanted,
            "read": self.points,
            "lost": self.lost,
            "frames": self.frames,
            "complete": self.complete,
            "trouble": self.trouble,
        }

    @property
    def version(self) -> str:
        """Text that differs when the values do."""
        return f"{zlib.crc32(self.places.tobytes()):08x}-{self.points}-{self.lost}"

    def next(self) -> tuple[Resource, list[RowRange]]:
        """Return the rows of the next portion, all of one resource."""
        name, ranges, room = self.pending[0].resource, list[RowRange](), self._step
        for row_range in self.pending:
            if row_range.resource != name or not room or len(ranges) == RANGES_MAX:
                break
            ranges.append(row_range.part(0, min(room, row_range.count)))
            room -= ranges[-1].count
        return self.resources[name], ranges

    def take(self, total: FrameTotal) -> None:
        """Add the sum of the frames of the first points of a portion.

        Raises:
            FrameError: they have another shape than those before.
        """
        if self.sums is None:
            kind = total.sums.dtype.kind
            self.sums = total.sums.astype({"u": np.uint64, "i": np.int64}.get(kind, np.float64))
        elif self.sums.shape != total.sums.shape:
            raise FrameError("the frames of the selection have several shapes")
        elif self.sums.dtype.kind == "f":
            self.sums += total.sums
        else:
            np.add(self.sums, total.sums, out=self.sums, casting="unsafe")
        self.frames += total.frames

    def read(self, points: int) -> None:
        """Note that the frames of the first pending points are added."""
        self.points += points
        self._drop(points)
        self._step, self._failed = min(4 * self._step, STEP_MAX), 0

    def fail(self, points: int, error: SnakemapError, *, seconds: float) -> None:
        """Note that a portion cannot be read: halve it, until the point is found that has no readable frame."""
        self._failed_s += seconds
        if isinstance(error, WHOLE_FILE) or self._failed_s > FAILED_S_MAX or self._failed >= FAILED_MAX:
            self.trouble = str(error)
            name = self.pending[0].resource
            while self.pending and self.pending[0].resource == name:
                self.lost += self.pending.popleft().count
            self._step, self._failed = STEP_MAX, 0
        elif points > 1:
            self._step = points // 2
        else:
            self.trouble = str(error)
            self.lost += 1
            self._failed += 1
            self._drop(1)

    def _drop(self, points: int) -> None:
        while points:
            row_range = self.pending.popleft()
            if row_range.count > points:
                self.pending.appendleft(row_range.part(points, row_range.count - points))
                return
            points -= row_range.count


@dataclass(frozen=True, slots=True)
class MeanSoFar:
    """A mean as it was at the end of a request.

    Attributes:
        values: (rows, columns), or (rows, columns, 3) in color.
        state: see :attr:`FrameMean.state`.
        version: of the values.
    """

    values: npt.NDArray[np.float64]
    state: dict[str, Any]
    version: str


@dataclass(slots=True)
class _Asked:
    """A mean that was requested from outside.

    Attributes:
        mean: of frames.
        lock: held by the request that reads.
    """

    mean: FrameMean
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class MeanFrames:
    """Computes means of frames, a portion at a time, for all tabs of a process.

    Args:
        lend: lends a reader process for one portion.
        blocks: sums of blocks, whose mean is had at once; None for none.
    """

    lend: Callable[[], AbstractAsyncContextManager[FrameReader]]
    bytes_kept: int = BYTES_KEPT
    blocks: BlockAccess | None = None
    _running: list[FrameMean] = field(default_factory=list)
    _kept: OrderedDict[int, FrameMean] = field(default_factory=OrderedDict)
    _asked: OrderedDict[tuple[Any, ...], _Asked] = field(default_factory=OrderedDict)
    _waiting: int = 0

    def mean_of(self, run: Run, source: MapSource, seq_nums: Ints) -> FrameMean:
        """Return the mean of the frames of points; nothing is read yet. Points that are not measured are left out.

        Args:
            run: of the source.
            source: one of its cameras.
            seq_nums: the points (n,), in rising order.

        Raises:
            FrameError: the source has no frames in files.
            TooLarge: the run has too many points.
        """
        check_readable(run, source, ())
        points, places = _chosen(source, seq_nums)
        files = source.derived_descriptor.files if source.derived_descriptor is not None else ()
        marks = {name: recorded_fingerprints(files, name) for name in source.ledger.resources}
        pending = deque(source.ledger.row_ranges(points))
        return FrameMean(dict(source.ledger.resources), source.frame_shape, marks, places, pending)

    def extend(self, mean: FrameMean, source: MapSource, seq_nums: Ints) -> bool:
        """Add points to a complete mean; return False if it has points that are not among them, or lost its sums.

        Args:
            mean: of frames of the source.
            source: one of the cameras of the run.
            seq_nums: all points (n,) that the mean should have, in rising order.
        """
        points, places = _chosen(source, seq_nums)
        new = ~np.isin(places, mean.places)
        if len(places) - np.count_nonzero(new) != len(mean.places):
            return False
        if mean.sums is None or not new.any():
            return not new.any()
        mean.places = places
        mean.resources.update(source.ledger.resources)
        mean.pending.extend(source.ledger.row_ranges(points[new]))
        return True

    async def read(self, run: Run, source: MapSource, seq_nums: Ints, *, limit_s: float = TIME_LIMIT_S) -> MeanSoFar:
        """Return the mean of the frames of points, as far as it can be read in a time; the next call goes on.

        Args:
            run: of the source; not used after the first await.
            source: one of its cameras.
            seq_nums: the points (n,), in rising order.
            limit_s: seconds.

        Raises:
            FrameError: the source has no frames in files, or none of these could be read.
            TooLarge: the run has too many points.
            TooBusy: too many requests wait, or another one reads the same frames all the time.
        """
        until = time.monotonic() + limit_s
        key = run.uid, source.stream, source.key, zlib.crc32(seq_nums.tobytes()), len(seq_nums)
        asked = self._asked.get(key)
        if asked is None or not (asked.lock.locked() or self.extend(asked.mean, source, seq_nums)):
            asked = _Asked(self.mean_of(run, source, seq_nums))
        self._asked[key] = asked
        self._asked.move_to_end(key)
        self._drop_asked()
        if self._waiting >= WAITING_MAX:
            raise TooBusy("too many requests wait for the frames of runs; try again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + limit_s):
                await asked.lock.acquire()
        except TimeoutError as error:
            raise TooBusy("another request reads the same frames; try again in a moment") from error
        finally:
            self._waiting -= 1
        try:
            while not asked.mean.complete and time.monotonic() < until:
                await self.grow(asked.mean)
            return MeanSoFar(await asyncio.to_thread(asked.mean.values), asked.mean.state, asked.mean.version)
        finally:
            self.end(asked.mean)
            asked.lock.release()

    def _drop_asked(self) -> None:
        """Drop the means that were asked for longest ago."""
        kept_bytes = sum(_size(asked.mean) for asked in self._asked.values())
        while len(self._asked) > 1 and (len(self._asked) > ASKED_MAX or kept_bytes > self.bytes_kept):
            _, dropped = self._asked.popitem(last=False)
            kept_bytes -= _size(dropped.mean)

    async def grow(self, mean: FrameMean) -> bool:
        """Add the frames of one portion; return False if too many other means grow, and nothing was read."""
        if mean.complete:
            return True
        if mean not in self._running:
            if len(self._running) >= RUNNING_MAX:
                await asyncio.sleep(PORTION_S)
                return False
            self._running.append(mean)
            self._kept.pop(id(mean), None)
        resource, ranges = mean.next()
        began = time.monotonic()
        try:
            async with self.lend() as reader:
                began = time.monotonic()
                total = await _added(reader, resource, ranges, mean)
            await asyncio.to_thread(mean.take, total)
            mean.read(total.points)
        except SnakemapError as error:
            points = sum(row_range.count for row_range in ranges)
            mean.fail(points, error, seconds=time.monotonic() - began)
        if mean.complete:
            self.end(mean, keep=True)
        return True

    def end(self, mean: FrameMean, *, keep: bool = False) -> None:
        """Make room for other means: this one is complete, or it is not wanted any more.

        Args:
            mean: of frames.
            keep: whether points may be added later.
        """
        self._running = [one for one in self._running if one is not mean]
        self._kept.pop(id(mean), None)
        if keep and mean.sums is not None:
            self._kept[id(mean)] = mean
        while len(self._kept) > 1 and sum(_size(one) for one in self._kept.values()) > self.bytes_kept:
            self._kept.popitem(last=False)[1].sums = None


async def mean_of_points(
    runs: RunCache,
    means: MeanFrames,
    uid: str,
    form: MeanFormat,
    *,
    points: str,
    source: str = "",
    known: Collection[str] = (),
) -> WrittenBytes:
    """Return the mean frame of points of a run, encoded.

    Args:
        runs: cache of runs.
        means: reads the frames.
        uid: of the run.
        form: format of the frame.
        points: as text, see :func:`~snakemap.core.points_text.points_from_text`.
        source: name in :attr:`Run.sources`; empty for the main one.
        known: versions that the client has, or ``*`` for any; then the body is None.

    Raises:
        RequestRefused: the text has another form.
        RunNotFound: there is no such run or source.
        FrameError: no frame has been read.
        SnakemapError: as :meth:`MeanFrames.read`.
    """
    seq_nums = points_from_text(points)
    run = await runs.run(uid)
    found = source_of(run, source)
    name = run.name_of(found)
    mean = await means.read(run, found, seq_nums)
    version = f"{mean.version}-{form}"
    if version in known or "*" in known:
        return WrittenBytes(version, None)
    about = {"source": name, "requested": len(seq_nums), **mean.state}
    return WrittenBytes(version, await asyncio.to_thread(_written, mean.values, about, form))


def _written(values: npt.NDArray[np.float64], about: dict[str, Any], form: MeanFormat) -> bytes:
    if form is MeanFormat.NPZ:
        buffer = io.BytesIO()
        np.savez(buffer, frame=values, about=np.array(orjson.dumps(about).decode()))
        return buffer.getvalue()
    if values.size > JSON_VALUES_MAX:
        raise TooLarge(f"a frame of {values.size:,} values is too large for JSON; ask for format=npz")
    written = {**about, "shape": list(values.shape), "values": values}
    return orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)


async def picture_of(mean: FrameMean) -> npt.NDArray[np.float64]:
    """Return a mean as small as a screen needs it.

    Raises:
        FrameError: no frame has been read.
    """
    if mean.sums is None:
        raise FrameError(mean.trouble or "no frame of these points has been read")
    return await asyncio.to_thread(lambda sums, frames: shrink(sums / frames), mean.sums, mean.frames)


async def _added(reader: FrameReader, resource: Resource, ranges: list[RowRange], mean: FrameMean) -> FrameTotal:
    """Return the sum of the frames of as many points as can be read in the time of a portion.

    Raises:
        FileReplaced: a file is not the one whose frames are on the maps.
        SnakemapError: from the reader.
    """
    if resource.template:
        return await _added_files(reader, resource, ranges, mean)
    batch = _batch(resource, mean)
    rows = [(one.index, one.index + one.count) for one in ranges]
    total = await reader.add(batch, rows, limit_s=PORTION_S)
    recognize(reader.marks, mean.marks.setdefault(resource.uid, {}))
    return total


async def _added_files(reader: FrameReader, resource: Resource, ranges: list[RowRange], mean: FrameMean) -> FrameTotal:
    """Do the same where each frame has a file of its own."""
    until, points, whole = time.monotonic() + PORTION_S, 0, _no_frames(mean)
    try:
        for row in _rows(ranges):
            for one in [await _one(reader, resource, frame, mean) for frame in _frames(resource, row)]:
                whole.take(one)
            points += 1
            if time.monotonic() > until:
                break
    except SnakemapError:
        if not points:
            raise
    if whole.sums is None:
        raise FrameError(f"{resource.dataset} has no frames")
    return FrameTotal(whole.sums, points, whole.frames)


def _no_frames(mean: FrameMean) -> FrameMean:
    """Return a mean that has no frames yet, of the same kind."""
    return FrameMean({}, mean.frame_shape, {}, np.empty(0, np.int64), deque())


async def _one(reader: FrameReader, resource: Resource, frame: int, mean: FrameMean) -> FrameTotal:
    """Return the frame, or the sum of the frames, of a file."""
    uri = resource.uri_of(frame)
    size = await reader.size(uri, resource.dataset)
    count = size[0] if len(size) != 2 else 1
    point_shape = size if len(size) == 2 else ()
    batch = FrameBatch(uri, resource.dataset, 0, 1, count, frame_shape=mean.frame_shape, point_shape=point_shape)
    return await reader.add(batch, [(0, 1)], limit_s=PORTION_S)


def _batch(resource: Resource, mean: FrameMean) -> FrameBatch:
    return FrameBatch(
        resource.uri,
        resource.dataset,
        0,
        1,
        frames_per_point=resource.frames_per_point,
        frame_shape=mean.frame_shape,
        point_shape=resource.point_shape,
        columns=resource.columns,
    )


def _rows(ranges: list[RowRange]) -> Iterator[int]:
    for row_range in ranges:
        yield from range(row_range.index, row_range.index + row_range.count)


def _frames(resource: Resource, row: int) -> range:
    return range(row * resource.frames_per_point, (row + 1) * resource.frames_per_point)


def _chosen(source: MapSource, seq_nums: Ints) -> tuple[Ints, Ints]:
    """Return those points (n,) that are measured, and the places (n,) of their frames."""
    points, places = measured(source)
    chosen = np.isin(points, seq_nums)
    return points[chosen], places[chosen]


def _size(mean: FrameMean) -> int:
    return 0 if mean.sums is None else mean.sums.nbytes
