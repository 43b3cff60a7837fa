"""Reading one feed of a run: what next, how long to wait for it, and when to give it up."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import numpy as np

from snakemap.core.frame_ledger import RowRange
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.errors import FileBroken, FileNotReady, FileRefused, FileReplaced, FrameError, SnakemapError
from snakemap.hdf5.frame_reader import FileFingerprint
from snakemap.ingest.file_data import FileData, SummedData
from snakemap.ingest.priority_lock import PriorityLock
from snakemap.ingest.reader_pool import FrameReading, ReaderPool
from snakemap.ingest.worker_stats import WorkerStats

__all__ = ["Announced", "ReadLoop"]

TELL_AFTER_S = 2.0
"""How long a file may keep us waiting before the page says so."""


class Announced:
    """When the rows of one dataset were announced; rows that nobody announced are asked for at once or never.

    >>> announced = Announced()
    >>> announced.add(10, at=100.0)
    >>> announced.add(20, at=101.0)
    >>> announced.at(5), announced.at(12), announced.at(25)
    (100.0, 101.0, None)
    """

    def __init__(self) -> None:
        self._stops: deque[tuple[int, float]] = deque()

    def add(self, stop: int, *, at: float) -> None:
        """Note that the rows before ``stop`` were announced, in seconds since 1970; those noted before stay so."""
        if not self._stops or stop > self._stops[-1][0]:
            self._stops.append((stop, at))

    def at(self, stop: int) -> float | None:
        """Return when the row before ``stop`` was announced; rows before it are not asked for any more."""
        while self._stops and self._stops[0][0] < stop:
            self._stops.popleft()
        return self._stops[0][1] if self._stops else None


class ReadLoop:
    """Reads the row ranges of one feed, one after the other.

    Args:
        run: that it belongs to.
        feed: whose ledger says what to read.
        readers: who reads.
        turns: of the run, so that its feeds read in turn.
        tally: the clock, and where trouble is counted.
        put: takes what has been read.
        at_once: row ranges that are read at one time, each by a reader of its own.
        on_unreadable: is called when nothing of the feed can be read, for a reason that does not mend.

    Attributes:
        idle: set while nothing waits to be read.
        troubles: what went wrong, in words for the page, by what it is about.
        marks: by resource and name, how the files are recognized that were read.
    """

    def __init__(
        self,
        run: Run,
        feed: FileData,
        readers: ReaderPool,
        *,
        turns: PriorityLock,
        tally: WorkerStats,
        put: Callable[[SummedData], Awaitable[None]],
        at_once: int = 1,
        on_unreadable: Callable[[FileData, str], Awaitable[None]] | None = None,
    ) -> None:
        self.run = run
        self.feed = feed
        self.ledger = feed.ledger
        self.readers = readers
        self.turns = turns
        self.tally = tally
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
        self._left: set[str] = set()
        self.marks: dict[str, dict[str, FileFingerprint]] = {}
        self._missing: dict[str, int] = {}
        self._point_s = 0.003
        self._last: RowRange | None = None
        self._last_shown: str | None = None
        self._shown_at = 0.0

    def wake(self) -> None:
        """Have it look at its ledger."""
        self.idle.clear()
        self._wake.set()

    async def work(self) -> None:
        """Read whatever is announced until it is cancelled; numbers not too often, and all at once after the stop."""
        clock = self.tally.clock
        while True:
            rest_s = self._began_at + self.feed.period_s - clock.now()
            if rest_s > 0 and self.run.stop is None:
                await clock.sleep(rest_s)
            self._began_at = clock.now()
            await self.read_pending()
            self.idle.set()
            await self._wake.wait()
            self._wake.clear()

    def expected(self) -> int | None:
        """Return points of its stream, or None while nobody knows.

        A column of numbers may be longer than what was written to it; where nobody tells, it is as long as its cameras
        have points.
        """
        told = (self.run.stop or {}).get("num_events")
        number = told.get(self.feed.stream) if isinstance(told, dict) else None
        expected = number if type(number) is int and number > 0 else None
        if self.feed.stream == self.run.main.stream:
            expected = self.run.expected
        cameras = self.run.streams[self.feed.stream].images.values()
        if expected is not None or self.feed.shows or not cameras:
            return expected
        return max(max(camera.ledger.announced, camera.maps.visited) for camera in cameras) or None

    def announce(self, resource: str, stop: int, *, at: float) -> None:
        """Note when the rows before ``stop`` of a resource were announced."""
        self._announced.setdefault(resource, Announced()).add(stop, at=at)

    def begin_anew(self) -> None:
        """Forget which files were no use, so that each gets another chance."""
        self._blocked.clear()
        self._broken_s.clear()
        self._lengths.clear()
        self._late.clear()
        self._missing.clear()

    def note(self, about: str, trouble: SnakemapError) -> None:
        """Count a trouble, and keeps it for the page."""
        self.troubles[about] = str(trouble)
        self.tally.trouble(trouble, about=f"run {self.run.uid}")

    async def queue_rest(self) -> int:
        """Queue what the files hold and nobody announced, and once more what was given up; returns how many points.

        Of what no document announced only that is read which was written for certain. What was given up is asked for
        again only when the file has grown, or when more points of the scan are known.
        """
        queued = 0
        for resource in list(self.ledger.resources.values()):
            if resource.uid in self._left:
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
            async with self.turns.take(self.feed.rank), self.readers.borrow(self.run.uid) as reader:
                marks = await self.feed.written(reader, resource, rows)
            written[rows.start : rows.stop] = marks[: len(rows)]
        if not grown and not written.any():
            return 0
        self._lengths[resource.uid] = (points, expected or 0)
        return self.ledger.fill(resource.uid, length=length, expected=expected, written=written, again=grown)

    async def read_pending(self) -> None:
        """Read everything that waits; what cannot be read is given up when its time is up."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once - 1):
                group.create_task(self._read_pieces())
            await self._read_pieces()

    async def _read_pieces(self) -> None:
        while (row_range := self._next_row_range()) is not None:
            await self._read(row_range)

    async def show_last(self) -> None:
        """Read the frame of the last point once more, unless it is on the screen already, under its present name."""
        if not self.feed.shows or self._last is None or self._last_shown == self.feed.name:
            return
        self._shown_at = 0.0
        try:
            await self.put(await self._sum(self._last))
        except SnakemapError as trouble:
            self.tally.trouble(trouble, about=f"run {self.run.uid}")

    def _next_row_range(self) -> RowRange | None:
        """Return the next row range to read, of neighbors: frames for about ``pace.reading_s``."""
        if self.run.cancelled:
            return None
        ledger, limit = self.ledger, self.feed.piece_max
        if self.feed.shows:
            limit = min(max(int(self.tally.pace.reading_s / max(self._point_s, 1e-5)), 1), limit)
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
        if row_range.resource in self._left:
            self.ledger.give_up(row_range)
            return
        blocked_until, _ = self._blocked.get(row_range.resource, (0.0, 0.0))
        began = self.tally.clock.now()
        if began < blocked_until:
            self.ledger.give_up(row_range)
            return
        try:
            summed = await self._sum_when_ready(row_range)
        except FileNotReady as trouble:
            await self._read_part(row_range, trouble)
        except FileReplaced as trouble:
            if row_range.resource in self.marks:
                self._leave(row_range, trouble)
            else:  # another run read the file that was there before; it is said once
                self.ledger.put_back(row_range)
        except FileBroken as trouble:
            self._broken_s[row_range.resource] = (
                self._broken_s.get(row_range.resource, 0.0) + self.tally.clock.now() - began
            )
            await self._read_around(row_range, trouble)
        except SnakemapError as trouble:
            self._give_up(row_range, trouble, block=True)
            if isinstance(trouble, FrameError | FileRefused) and not self.ledger.any_read and self.on_unreadable:
                await self.on_unreadable(self.feed, str(trouble))
        else:
            await self.put(summed)
            if self._missing.get(row_range.resource, -1) in range(row_range.index, row_range.index + row_range.count):
                del self._missing[row_range.resource]
            await self._make_up(row_range.resource)

    async def _make_up(self, resource: str) -> None:
        """After a success: asks once more for what was given up because its file was late, and forgets the trouble."""
        if resource in self._late:
            self._late.discard(resource)
            self._lengths.pop(resource, None)
            await self.queue_rest()
        elif resource in self.troubles and not self.ledger.given_up:
            del self.troubles[resource]

    async def _sum_when_ready(self, row_range: RowRange) -> SummedData:
        """Read a row range; one that was announced too early is tried again until its time is up.

        Raises:
            FileNotReady: it is still not there.
            SnakemapError: it cannot be read.
        """
        clock, pace = self.tally.clock, self.tally.pace
        began, wait_s = clock.now(), pace.retry_s
        announced = self._announced.setdefault(row_range.resource, Announced()).at(row_range.index + row_range.count)
        until = began + pace.quiet_s if announced is None else announced + pace.file_timeout_s
        while True:
            try:
                summed = await self._sum(row_range)
            except FileNotReady as trouble:
                if clock.now() >= until or await self._points_there(row_range, trouble):
                    raise
                if clock.now() - began > TELL_AFTER_S:
                    self.troubles["waiting"] = f"Waiting for the file: {trouble}"
                await clock.sleep(wait_s)
                wait_s = min(2 * wait_s, pace.retry_max_s)
            else:
                self.troubles.pop("waiting", None)
                return summed

    async def _sum(self, row_range: RowRange) -> SummedData:
        """Read a row range once.

        Raises:
            SnakemapError: what the reader says.
        """
        clock = self.tally.clock
        async with self.turns.take(self.feed.rank), self.readers.borrow(self.run.uid) as reader:
            began, name = clock.now(), self.feed.name
            show = self.feed.shows and began - self._shown_at >= self.tally.pace.preview_s
            await self._check_unannounced(reader, row_range)
            summed = await self.feed.read(reader, row_range, show=show)
            self._recognize(row_range.resource, reader.marks)
            summed = dataclasses.replace(summed, marks=reader.marks)
        self._point_s += 0.2 * ((clock.now() - began) / row_range.count - self._point_s)
        if self.feed.shows:
            self.tally.work.frames += summed.frames
            self.tally.work.frame_bytes += summed.size_bytes
        self._last, self._last_shown = row_range, name if show else None
        self._shown_at = clock.now() if show else self._shown_at
        return summed

    def _recognize(self, resource: str, marks: Iterable[FileFingerprint]) -> None:
        """Make sure that each file is the one that was read before; the first time it is noted.

        Raises:
            FileReplaced: one of them is not.
        """
        known = self.marks.get(resource)
        if known is None:
            known = self.marks[resource] = self.feed.recorded(resource)
        for mark in marks:
            before = known.get(mark.name)
            if before is not None and not mark.fits(before):
                raise FileReplaced(f"{mark.name} was replaced or changed after it was read")
            if before is None or not before.checksum or not before.inode:
                known[mark.name] = mark

    async def _check_unannounced(self, reader: FrameReading, row_range: RowRange) -> None:
        """Points that no document has announced are read only when it is certain that they were written.

        Raises:
            FileBroken: for some of them it is not.
        """
        unannounced = self.ledger.unannounced(row_range)
        if not unannounced.any():
            return
        resource = self.ledger.resources[row_range.resource]
        rows = range(row_range.index, row_range.index + row_range.count)
        doubtful = unannounced & ~(await self.feed.written(reader, resource, rows))
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
        """Return how many points of a row range are in the file, when it is some and not all."""
        if trouble.ready is not None:
            return trouble.ready if trouble.ready < row_range.count else 0
        try:
            points = await self._points(self.ledger.resources[row_range.resource])
        except SnakemapError:
            return 0
        return points - row_range.index if row_range.index < points < row_range.index + row_range.count else 0

    async def _read_around(self, row_range: RowRange, trouble: FileBroken) -> None:
        """Halve a row range in which something is broken until it is found; unless the file is no use at all."""
        known = trouble.ready is not None
        if self._broken_s[row_range.resource] > self.tally.pace.broken_s or not (
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
        """Read what comes before a point that cannot be read; what comes after it is next."""
        if ready + 1 < row_range.count:
            self.ledger.put_back(row_range.part(ready + 1, row_range.count - ready - 1))
        self._give_up(row_range.part(ready, 1), trouble, block=False)
        if ready:
            await self._read(row_range.part(0, ready))

    def _leave(self, row_range: RowRange, trouble: FileReplaced) -> None:
        """Read no more of a file that is not the one any more that was read before: two would be mixed in one map."""
        self._left.add(row_range.resource)
        self._missing[row_range.resource] = -1
        self.troubles.pop("waiting", None)
        words = f"{trouble}; data read so far are kept, no more are read"
        self.note(row_range.resource, FileReplaced(words))
        self.ledger.give_up(row_range)

    def _give_up(self, row_range: RowRange, trouble: SnakemapError, *, block: bool) -> None:
        """Give a row range up and says why; a file that is no use is left alone for a while, longer each time.

        The page names the first point that is missing, not the one that was tried last.
        """
        self.troubles.pop("waiting", None)
        if row_range.resource not in self.troubles or row_range.index <= self._missing.get(
            row_range.resource, row_range.index
        ):
            self._missing[row_range.resource] = row_range.index
            self.note(row_range.resource, trouble)
        else:
            self.tally.trouble(trouble, about=f"run {self.run.uid}")
        self.ledger.give_up(row_range)
        if block:
            _, pause_s = self._blocked.get(row_range.resource, (0.0, self.tally.pace.file_timeout_s / 2))
            self._blocked[row_range.resource] = (self.tally.clock.now() + 2 * pause_s, 2 * pause_s)

    async def _opens(self, resource: str) -> bool:
        try:
            await self._points(self.ledger.resources[resource])
        except SnakemapError:
            return False
        return True

    async def _points(self, resource: Resource) -> int:
        """Return points that a file holds now."""
        async with self.turns.take(self.feed.rank), self.readers.borrow(self.run.uid) as reader:
            return await self.feed.points(reader, resource)
