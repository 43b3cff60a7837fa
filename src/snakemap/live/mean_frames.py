"""The mean of the frames of many points: frames are added pixel by pixel, in the reader processes of the regions.

::

    points -> the rows of their frames -> portions of half a second -> a reader process adds the frames of a portion
       -> the sums of all portions are added here -> the mean so far, after every portion

Sums of integers are exact. Those of floats are float64, added portion by portion.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.frame_ledger import RowRange
from snakemap.core.roi import shrink
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.errors import FileRefused, FileReplaced, FrameError, SnakemapError, TooLarge
from snakemap.hdf5.frame_reader import (
    FileFingerprint,
    FrameBatch,
    FrameReader,
    FrameTotal,
    recorded_fingerprints,
)
from snakemap.live.region_maps import PORTION_S, check_readable, measured, recognize

__all__ = ["FrameMean", "MeanFrames", "picture_of"]

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


@dataclass(slots=True)
class MeanFrames:
    """Computes means of frames, a portion at a time, for all tabs of a process.

    Args:
        lend: lends a reader process for one portion.
    """

    lend: Callable[[], AbstractAsyncContextManager[FrameReader]]
    bytes_kept: int = BYTES_KEPT
    _running: list[FrameMean] = field(default_factory=list)
    _kept: OrderedDict[int, FrameMean] = field(default_factory=OrderedDict)

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
