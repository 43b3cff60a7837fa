"""Read the data of one key of a run: what to read next, how long to wait, when to skip."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import numpy as np

from snakemap.core.frame_ledger import RowRange
from snakemap.core.json_values import is_dict
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.errors import FileBroken, FileNotReady, FileRefused, FileReplaced, FrameError, SnakemapError
from snakemap.hdf5.frame_reader import FileFingerprint
from snakemap.ingest.file_data import FileData, SummedData
from snakemap.ingest.priority_lock import PriorityLock
from snakemap.ingest.reader_pool import FrameReading, ReaderPool
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.live.measured import recognize

__all__ = ["Announced", "ReadLoop"]

TELL_AFTER_S = 2.0
"""Delay before the page reports that a file is awaited."""


class Announced:
    """When the rows of one dataset were announced.

    >>> announced = Announced()
    >>> announced.add(10, at=100.0)
    >>> announced.add(20, at=101.0)
    >>> announced.at(5), announced.at(12), announced.at(25)
    (100.0, 101.0, None)
    """

    def __init__(self) -> None:
        self._stops: deque[tuple[int, float]] = deque()

    def add(self, stop: int, *, at: float) -> None:
        """Record that the rows before ``stop`` were announced, in seconds since 1970; earlier records stay."""
        if not self._stops or stop > self._stops[-1][0]:
            self._stops.append((stop, at))

    def at(self, stop: int) -> float | None:
        """Return when the row before ``stop`` was announced, or None; earlier rows are forgotten."""
        while self._stops and self._stops[0][0] < stop:
            self._stops.popleft()
        return self._stops[0][1] if self._stops else None


class ReadLoop:
    """Reads the row ranges of one data key, one after the other.

    Args:
        run: its run.
        file_data: the data; its ledger says what to read.
        readers: pool of readers.
        lock: lock shared by the loops of the run.
        stats: clock and counts.
        put: receives the sums.
        at_once: row ranges that are read at one time, each by a reader of its own.
        on_unreadable: called when nothing can be read for a permanent reason.

    Attributes:
        idle: set while nothing waits to be read.
        troubles: messages for the page, by subject.
        marks: fingerprints of the files that were read, by resource and name.
    """

    def __init__(
        self,
        run: Run,
        file_data: FileData,
        readers: ReaderPool,
        *,
        lock: PriorityLock,
        stats: WorkerStats,
        put: Callable[[SummedData], Awaitable[None]],
        at_once: int = 1,
        on_unreadable: Callable[[FileData, str], Awaitable[None]] | None = None,
    ) -> None:
        self.run = run
        self.file_data = file_data
        self.ledger = file_data.ledger
        self.readers = readers
        self.lock = lock
        self.stats = stats
        self.put = put
        self.at_once = at_once
        self.on_unreadable = on_unreadable
        self.idle = asyncio.Event()
        self.troubles: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._began_at = 0.0
        self._announced: dict[str, Announced] = {}
        self._blocked: dict[str, tuple[float, float]] = {}
        self._broken_s: dict[str, float] = {}
        self._lengths: dict[str, tuple[int, int]] = {}
        self._late: set[str] = set()
        self._dropped: set[str] = set()
        self.marks: dict[str, dict[str, FileFingerprint]] = {}
        self._missing: dict[str, int] = {}
        self._point_s = 0.003
        self._last: RowRange | None = None
        self._last_shown: str | None = None
        self._shown_at = 0.0

    def wake(self) -> None:
        """Check the ledger again."""
        self.idle.clear()
        self._wake.set()

    async def work(self) -> None:
        """Read what is announced until cancelled, at most every ``period_s`` before the stop."""
        clock = self.stats.clock
        while True:
            rest_s = self._began_at + self.file_data.period_s - clock.now()
            if rest_s > 0 and self.run.stop is None:
                await clock.sleep(rest_s)
            self._began_at = clock.now()
            await self.read_pending()
            self.idle.set()
            await self._wake.wait()
            self._wake.clear()

    def expected(self) -> int | None:
        """Return the number of points of its stream, or None while unknown.

        A column of scalars may be longer than what was written; without a number of points, its length is that of the
        stream's cameras.
        """
        counts = (self.run.stop or {}).get("num_events")
        number = counts.get(self.file_data.stream) if is_dict(counts) else None
        expected = number if type(number) is int and number > 0 else None
        if self.file_data.stream == self.run.main.stream:
            expected = self.run.expected
        cameras = self.run.streams[self.file_data.stream].images.values()
        if expected is not None or self.file_data.shows or not cameras:
            return expected
        return max(max(camera.ledger.announced, camera.maps.visited) for camera in cameras) or None

    def announce(self, resource: str, stop: int, *, at: float) -> None:
        """Record when the rows before ``stop`` of a resource were announced."""
        self._announced.setdefault(resource, Announced()).add(stop, at=at)

    def reset(self) -> None:
        """Forget which files failed, so that each is tried again."""
        self._blocked.clear()
        self._broken_s.clear()
        self._lengths.clear()
        self._late.clear()
        self._missing.clear()

    def note(self, about: str, trouble: SnakemapError) -> None:
        """Count an error, and keep it for the page."""
        self.troubles[about] = str(trouble)
        self.stats.trouble(trouble, about=f"run {self.run.uid}")

    async def queue_rest(self) -> int:
        """Queue rows that the files hold without announcement, and skipped rows; return the number of points.

        Unannounced rows are read only if they have certainly been written. Skipped rows are queued again only when the
        file has grown, or when more points of the scan are known.
        """
        queued = 0
        for resource in list(self.ledger.resources.values()):
            if resource.uid in self._dropped:
                continue
            try:
                queued += await self._queue_rest_of(resource)
            except SnakemapError as trouble:
                self.note(resource.uid, trouble)
        if queued:
            self.wake()
        return queued

    async def _queue_rest_of(self, resource: Resource) -> int:
        points, expected = await self._points(resource), self.expected()
        grown = (points, expected or 0) > self._lengths.get(resource.uid, (-1, 0))
        length = points * resource.frames_per_point
        written = np.zeros(points, bool)
        for rows in self.ledger.unannounced_rows(resource.uid, length=length, expected=expected):
            async with self.lock.take(self.file_data.rank), self.readers.borrow(self.run.uid) as reader:
                marks = await self.file_data.written(reader, resource, rows)
            written[rows.start : rows.stop] = marks[: len(rows)]
        if not grown and not written.any():
            return 0
        self._lengths[resource.uid] = (points, expected or 0)
        return self.ledger.fill(resource.uid, length=length, expected=expected, written=written, again=grown)

    async def read_pending(self) -> None:
        """Read everything that is pending; skip what cannot be read in time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once - 1):
                group.create_task(self._read_pieces())
            await self._read_pieces()

    async def _read_pieces(self) -> None:
        while (row_range := self._next_row_range()) is not None:
            await self._read(row_range)

    async def show_last(self) -> None:
        """Read the frame of the last point again, unless it is displayed already, under its present name."""
        if not self.file_data.shows or self._last is None or self._last_shown == self.file_data.name:
            return
        self._shown_at = 0.0
        try:
            await self.put(await self._sum(self._last))
        except SnakemapError as trouble:
            self.stats.trouble(trouble, about=f"run {self.run.uid}")

    def _next_row_range(self) -> RowRange | None:
        """Return the next row range to read, of neighbors: frames for about ``timeouts.reading_s``."""
        if self.run.cancelled:
            return None
        ledger, limit = self.ledger, self.file_data.piece_max
        if self.file_data.shows:
            limit = min(max(int(self.stats.timeouts.reading_s / max(self._point_s, 1e-5)), 1), limit)
        row_range = ledger.pending(limit=limit)
        while row_range is not None and row_range.count < limit:
            more = ledger.pending(limit=limit - row_range.count)
            if more is None:
                break
            if more != row_range.part(row_range.count, more.count):
                ledger.put_back(more)
                break
            row_range = row_range.part(0, row_range.count + more.count)
        return row_range

    async def _read(self, row_range: RowRange) -> None:
        """Read a row range, or as much of it as can be read."""
        if row_range.resource in self._dropped:
            self.ledger.give_up(row_range)
            return
        blocked_until, _ = self._blocked.get(row_range.resource, (0.0, 0.0))
        began = self.stats.clock.now()
        if began < blocked_until:
            self.ledger.give_up(row_range)
            return
        try:
            summed = await self._sum_when_ready(row_range)
        except FileNotReady as trouble:
            await self._read_part(row_range, trouble)
        except FileReplaced as trouble:
            if row_range.resource in self.marks:
                self._drop(row_range, trouble)
            else:  # the recorded fingerprint is of an earlier file; it is reported once
                self.ledger.put_back(row_range)
        except FileBroken as trouble:
            self._broken_s[row_range.resource] = (
                self._broken_s.get(row_range.resource, 0.0) + self.stats.clock.now() - began
            )
            await self._read_around(row_range, trouble)
        except SnakemapError as trouble:
            self._give_up(row_range, trouble, block=True)
            if isinstance(trouble, FrameError | FileRefused) and not self.ledger.any_read and self.on_unreadable:
                await self.on_unreadable(self.file_data, str(trouble))
        else:
            await self.put(summed)
            if self._missing.get(row_range.resource, -1) in range(row_range.index, row_range.index + row_range.count):
                del self._missing[row_range.resource]
            await self._make_up(row_range.resource)

    async def _make_up(self, resource: str) -> None:
        """After a success, queue what was skipped because its file was late, and clear the error."""
        if resource in self._late:
            self._late.discard(resource)
            self._lengths.pop(resource, None)
            await self.queue_rest()
        elif resource in self.troubles and not self.ledger.given_up:
            del self.troubles[resource]

    async def _sum_when_ready(self, row_range: RowRange) -> SummedData:
        """Read a row range; one that was announced too early is tried again until its time is up.

        Raises:
            FileNotReady: when it is still not there.
            SnakemapError: when it cannot be read.
        """
        clock, timeouts = self.stats.clock, self.stats.timeouts
        began, wait_s = clock.now(), timeouts.retry_s
        announced = self._announced.setdefault(row_range.resource, Announced()).at(row_range.index + row_range.count)
        until = began + timeouts.quiet_s if announced is None else announced + timeouts.file_timeout_s
        while True:
            try:
                summed = await self._sum(row_range)
            except FileNotReady as trouble:
                if clock.now() >= until or await self._points_there(row_range, trouble):
                    raise
                if clock.now() - began > TELL_AFTER_S:
                    self.troubles["waiting"] = f"Waiting for the file: {trouble}"
                await clock.sleep(wait_s)
                wait_s = min(2 * wait_s, timeouts.retry_max_s)
            else:
                self.troubles.pop("waiting", None)
                return summed

    async def _sum(self, row_range: RowRange) -> SummedData:
        """Read a row range once.

        Raises:
            SnakemapError: from the reader.
        """
        clock = self.stats.clock
        async with self.lock.take(self.file_data.rank), self.readers.borrow(self.run.uid) as reader:
            began, name = clock.now(), self.file_data.name
            show = self.file_data.shows and began - self._shown_at >= self.stats.timeouts.preview_s
            await self._check_unannounced(reader, row_range)
            summed = await self.file_data.read(reader, row_range, show=show)
            self._recognize(row_range.resource, reader.marks)
            summed = dataclasses.replace(summed, marks=reader.marks)
        self._point_s += 0.2 * ((clock.now() - began) / row_range.count - self._point_s)
        if self.file_data.shows:
            self.stats.work.frames += summed.frames
            self.stats.work.frame_bytes += summed.size_bytes
        self._last, self._last_shown = row_range, name if show else None
        self._shown_at = clock.now() if show else self._shown_at
        return summed

    def _recognize(self, resource: str, marks: Iterable[FileFingerprint]) -> None:
        """Check that each file is the one that was read before; record new ones.

        Raises:
            FileReplaced: when one was replaced or changed.
        """
        known = self.marks.get(resource)
        if known is None:
            known = self.marks[resource] = self.file_data.recorded(resource)
        recognize(marks, known)

    async def _check_unannounced(self, reader: FrameReading, row_range: RowRange) -> None:
        """Check that unannounced rows have certainly been written.

        Raises:
            FileBroken: when some may not have been.
        """
        unannounced = self.ledger.unannounced(row_range)
        if not unannounced.any():
            return
        resource = self.ledger.resources[row_range.resource]
        rows = range(row_range.index, row_range.index + row_range.count)
        doubtful = unannounced & ~(await self.file_data.written(reader, resource, rows))
        if doubtful.any():
            first = int(np.argmax(doubtful))
            words = f"frame {row_range.index + first + 1:,} is not in the documents and may not have been written"
            trouble = FileBroken(f"{resource.dataset}: {words}")
            trouble.ready = first
            raise trouble

    async def _read_part(self, row_range: RowRange, trouble: FileNotReady) -> None:
        """Read as much of a row range as is there; the rest comes next."""
        there = await self._points_there(row_range, trouble)
        if not there:
            self._late.add(row_range.resource)
            self._give_up(row_range, trouble, block=False)
            return
        self.ledger.put_back(row_range.part(there, row_range.count - there))
        await self._read(row_range.part(0, there))

    async def _points_there(self, row_range: RowRange, trouble: FileNotReady) -> int:
        """Return how many points of a row range are in the file; 0 when it is none or all."""
        if trouble.ready is not None:
            return trouble.ready if trouble.ready < row_range.count else 0
        try:
            points = await self._points(self.ledger.resources[row_range.resource])
        except SnakemapError:
            return 0
        return points - row_range.index if row_range.index < points < row_range.index + row_range.count else 0

    async def _read_around(self, row_range: RowRange, trouble: FileBroken) -> None:
        """Halve a row range until the broken point is found, unless the whole file is broken."""
        known = trouble.ready is not None
        if self._broken_s[row_range.resource] > self.stats.timeouts.broken_s or not (
            known or await self._opens(row_range.resource)
        ):
            self._give_up(row_range, trouble, block=True)
        elif trouble.ready is not None and trouble.ready < row_range.count:
            await self._read_before(row_range, trouble, trouble.ready)
        elif row_range.count == 1:
            self._give_up(row_range, trouble, block=False)
        else:
            half = row_range.count // 2
            await self._read(row_range.part(0, half))
            await self._read(row_range.part(half, row_range.count - half))

    async def _read_before(self, row_range: RowRange, trouble: FileBroken, ready: int) -> None:
        """Read the points before one that cannot be read, and queue those after it."""
        if ready + 1 < row_range.count:
            self.ledger.put_back(row_range.part(ready + 1, row_range.count - ready - 1))
        self._give_up(row_range.part(ready, 1), trouble, block=False)
        if ready:
            await self._read(row_range.part(0, ready))

    def _drop(self, row_range: RowRange, trouble: FileReplaced) -> None:
        """Stop reading a file that was replaced: otherwise two files would be mixed in one map."""
        self._dropped.add(row_range.resource)
        self._missing[row_range.resource] = -1
        self.troubles.pop("waiting", None)
        words = f"{trouble}; data read so far are kept, no more are read"
        self.note(row_range.resource, FileReplaced(words))
        self.ledger.give_up(row_range)

    def _give_up(self, row_range: RowRange, trouble: SnakemapError, *, block: bool) -> None:
        """Skip a row range and record why; a file that is useless is not tried for a while, longer each time.

        The page names the first missing point, not the latest one.
        """
        self.troubles.pop("waiting", None)
        if row_range.resource not in self.troubles or row_range.index <= self._missing.get(
            row_range.resource, row_range.index
        ):
            self._missing[row_range.resource] = row_range.index
            self.note(row_range.resource, trouble)
        else:
            self.stats.trouble(trouble, about=f"run {self.run.uid}")
        self.ledger.give_up(row_range)
        if block:
            _, pause_s = self._blocked.get(row_range.resource, (0.0, self.stats.timeouts.file_timeout_s / 2))
            self._blocked[row_range.resource] = (self.stats.clock.now() + 2 * pause_s, 2 * pause_s)

    async def _opens(self, resource: str) -> bool:
        try:
            await self._points(self.ledger.resources[resource])
        except SnakemapError:
            return False
        return True

    async def _points(self, resource: Resource) -> int:
        """Return the number of points in the file."""
        async with self.lock.take(self.file_data.rank), self.readers.borrow(self.run.uid) as reader:
            return await self.file_data.points(reader, resource)
