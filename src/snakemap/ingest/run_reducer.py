"""Reduce one run: read its files once, and append the sums to the run as derived documents.

Several tasks share the work: a :class:`ReadLoop` for each camera and each scalar, in turn, so that a late file delays
no other; and :class:`DerivedWriter`, so that reading continues while Redis stores the sums. Points that cannot be read
are skipped, and the summary of the run says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from snakemap.core.cursor import BEGINNING, cursor_numbers
from snakemap.core.derived_documents import Rectangle, lost_stop, opened_stop, unread_descriptor
from snakemap.core.documents import SETTLED, Document, Entry, Span
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.run import Run
from snakemap.core.streams import Stream
from snakemap.errors import DocumentError, SnakemapError
from snakemap.ingest.derived_writer import DerivedWriter
from snakemap.ingest.file_data import FileData, ImageData, ScalarData
from snakemap.ingest.priority_lock import PriorityLock
from snakemap.ingest.read_loop import ReadLoop
from snakemap.ingest.reader_pool import ReaderPool
from snakemap.ingest.run_backup import RunBackup
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import WorkerStore

__all__ = ["RunReducer"]

log = logging.getLogger(__name__)


class RunReducer:
    """The worker's state of one run.

    Args:
        run: folded up to the end of the store.
        store: for the sums.
        readers: pool of readers.
        rois: the default ROIs, by name; None for none.
        stats: clock and counts.
        resumed: whether the run was begun by an earlier worker.
        at_once: readers that may work on a finished file at one time.

    Attributes:
        run: kept up to date by :meth:`take`.
        first: cursor of its start document.
        readings: read loops of each camera and each scalar, by stream and data key.
        troubles: other errors for the page, by subject.
        crashed: whether the work ended with an unexpected error.
    """

    def __init__(
        self,
        run: Run,
        store: WorkerStore,
        readers: ReaderPool,
        *,
        rois: Mapping[str, Rectangle] | None,
        stats: WorkerStats,
        resumed: bool = False,
        at_once: int = 1,
    ) -> None:
        self.run = run
        self.store = store
        self.readers = readers
        self.rois = rois
        self.stats = stats
        self.first = run.cursor
        self.crashed = False
        self.writer = DerivedWriter(run, store, stats=stats)
        self.readings: dict[tuple[str, str], ReadLoop] = {}
        self.troubles: dict[str, str] = {}
        self.pictured = 0.0
        # a finished file is read as fast as possible; a current scan needs one reader
        self._at_once = at_once if run.opened else 1
        self._lock = PriorityLock(self._at_once)
        self._resumed = resumed
        self._kept = RunBackup()
        self._blank = ""
        self._last_note = BEGINNING
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    def take(self, entry: Entry) -> None:
        """Fold an entry of the stream; what it announces is read soon.

        The writer's own pages have been folded when they were written. Folding them again could hide a frame that was
        announced for the same point meanwhile.
        """
        if cursor_numbers(entry.cursor) <= cursor_numbers(self.run.cursor):
            return
        if self._is_ours(entry) and self.writer.wrote(entry.doc):
            self.run.cursor = entry.cursor
            return
        self.fold(entry, live=True)
        self._wake.set()

    def fold(self, entry: Entry, *, live: bool = False) -> None:
        """Fold an entry; an invalid one is counted and ignored.

        Args:
            entry: the next one.
            live: whether the store is being followed, so that the latency of its points counts.
        """
        self.run.cursor = max(self.run.cursor, entry.cursor, key=cursor_numbers)
        try:
            self.run.apply(entry.document, cursor=entry.cursor)
        except DocumentError as trouble:
            self.note("documents", trouble)
        else:
            self._keep(entry, live=live)
        if entry.name == "descriptor":
            self._add_read_loops()

    def note(self, about: str, trouble: SnakemapError) -> None:
        """Count an error, and keep it for the page."""
        self.troubles[about] = str(trouble)
        self.stats.trouble(trouble, about=f"run {self.run.uid}")

    def documents(self) -> list[Document]:
        """Return documents from which a store that has lost the run can restore it."""
        return self._kept.documents()

    @property
    def waiting(self) -> int:
        """Announced points that have not been read yet."""
        if self.run.cancelled:
            return 0
        return max((reading.ledger.waiting for reading in self.readings.values()), default=0)

    @property
    def settled(self) -> bool:
        """Whether the run has ended, has been filled from its files, and nothing has changed since."""
        return self.run.stop is not None and self.run.settled is not None and not self._unsettled()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do, and all written documents have come back through the store."""
        return self.settled and not self.waiting and cursor_numbers(self.run.cursor) >= cursor_numbers(self._last_note)

    @property
    def trouble(self) -> str:
        """Problems of this run, as sentences for the page; empty when there are none."""
        texts = [*self.run.remarks, *(self._roi_trouble(reading.file_data) for reading in self.readings.values())]
        texts += self.troubles.values()
        for reading in self.readings.values():
            if reading.ledger.unread_reason:
                continue
            texts += reading.troubles.values()
            unread = reading.ledger.given_up
            if unread and reading.file_data.name:
                texts.append(
                    f"{unread:,} point{'s' if unread > 1 else ''} of {reading.file_data.name} could not be read."
                )
        return _sentences(dict.fromkeys(filter(None, [*texts, self._blank])))

    def summary(self) -> dict[str, Any]:
        """Return the run's summary, with the state of the worker."""
        summary = self.run.summary()
        note = " ".join(filter(None, (self.run.raster.note, self.trouble)))
        return {
            **summary,
            "picture": int(self.pictured),
            "note": note,
            "trouble": self.trouble,
            "waiting": self.waiting,
            "settled": self.settled,
            "cursor": self.run.cursor,
        }

    async def lose(self, reason: str) -> None:
        """Append a stop document to a run that gets none otherwise.

        Raises:
            StoreUnavailable: when it was not stored.
        """
        stop = lost_stop(self.run, reason, time=self.stats.clock.now())
        document = Document("stop", stop, run=self.run.uid, task_id=self.run.task_id)
        await self.store.append([document])
        log.warning("run %s: lost: %s", self.run.uid, reason)
        self.run.apply(document)
        self._wake.set()

    async def work(self) -> None:
        """Reduce the run until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.writer.write(), name=f"pages of {self.run.uid}")
                if self._resumed and self.run.stop is None:
                    await self._queue_rest()
                self._group = group
                for reading in self.readings.values():
                    self._begin(reading)
                await self._work()
        except Exception:
            log.exception("run %s: unexpected error; its frames are no longer read", self.run.uid)
            self.stats.errors["error"] += 1
            self.troubles["crash"] = "The worker failed on this run; see the log of the worker."
            self.crashed = True

    async def _work(self) -> None:
        while True:
            await self._idle()
            if self._is_read():
                await self._close_opened()
                continue
            if self._unsettled() and (self.run.settled is None or await self._is_quiet()):
                await self._settle()
                continue
            await self._wake.wait()
            self._wake.clear()

    def _is_read(self) -> bool:
        """Return whether an opened file has been read to its end, and has no stop document yet."""
        run = self.run
        if not run.opened or run.stop is not None:
            return False
        return bool(self.readings) and run.ledger.announced >= (run.expected or 1)

    async def _close_opened(self) -> None:
        """Append the stop document of an opened file; it has failed if nothing could be read."""
        await self.writer.written()
        status, reason = ("success", "") if self.run.points else ("fail", self.trouble or "nothing of it can be read")
        stop = opened_stop(self.run.uid, time=self.stats.clock.now(), status=status, reason=reason)
        document = Document("stop", stop, run=self.run.uid)
        await self.stats.retry(lambda: self.store.append([document]))
        self.run.apply(document)

    async def _idle(self) -> None:
        """Return when nothing waits to be read."""
        while busy := [reading for reading in self.readings.values() if not reading.idle.is_set()]:
            await busy[0].idle.wait()

    async def _queue_rest(self) -> int:
        """Queue what the files hold without announcement; return the number of points."""
        return sum([await reading.queue_rest() for reading in list(self.readings.values())])

    def _add_read_loops(self) -> None:
        """Start a read loop for each new camera and scalar in files."""
        for stream in self.run.streams.values():
            for key in (*stream.images, *stream.files):
                if (stream.name, key) not in self.readings:
                    reading = self._reading(self._file_data(stream, key))
                    self.readings[stream.name, key] = reading
                    if self._group is not None:
                        self._begin(reading)

    def _file_data(self, stream: Stream, key: str) -> FileData:
        source = stream.images.get(key)
        return ImageData(self.run, source, rois=self.rois) if source else ScalarData(self.run, stream, key)

    def _reading(self, file_data: FileData) -> ReadLoop:
        return ReadLoop(
            self.run, file_data, self.readers, lock=self._lock, stats=self.stats, put=self.writer.put,
            at_once=self._at_once if file_data.shows else 1, on_unreadable=self._mark_unreadable,
        )  # fmt: skip

    async def _mark_unreadable(self, file_data: FileData, reason: str) -> None:
        """Append a descriptor that marks a camera as unreadable, so that pages draw another source first."""
        if not isinstance(file_data, ImageData) or file_data.ledger.unreadable:
            return
        doc = unread_descriptor(self.run, file_data.source, reason, time=self.stats.clock.now())
        document = Document("descriptor", doc, run=self.run.uid, task_id=self.run.task_id)
        await self.stats.retry(lambda: self.store.append([document]))
        self.run.apply(document)

    def _begin(self, reading: ReadLoop) -> None:
        if self._group is not None:
            self._group.create_task(reading.work(), name=f"{reading.file_data.key} of {self.run.uid}")

    def _is_ours(self, entry: Entry) -> bool:
        return entry.name == "event_page" and entry.doc["descriptor"] in self.run.derived_uids

    def _roi_trouble(self, file_data: FileData) -> str:
        """Return why the ROIs of a camera are not the requested ones; empty when they are."""
        if not isinstance(file_data, ImageData):
            return ""
        descriptor = file_data.source.derived_descriptor
        return descriptor.trouble if descriptor else file_data.regions.trouble if file_data.regions else ""

    async def _is_quiet(self) -> bool:
        """Wait for new entries of a run that was closed too early; return whether none arrived."""
        self._wake.clear()
        await self.stats.clock.sleep(self.stats.timeouts.quiet_s)
        return not self._wake.is_set()

    def _unsettled(self) -> bool:
        stop, settled = self.run.stop, self.run.settled
        if stop is None:
            return False
        return settled is None or (settled.get("stop"), settled.get("points")) != (stop.get("uid"), self.run.points)

    async def _settle(self) -> None:
        """Read the rest of a stopped run from its files, then append the ``settled`` document."""
        await self._fill()
        for reading in list(self.readings.values()):
            await reading.show_last()
        await self.writer.written()
        run, stop = self.run, self.run.stop or {}
        missing = max((run.expected or 0) - run.points, run.ledger.given_up)
        for reading in self.readings.values():
            if not missing and not reading.ledger.given_up:
                reading.troubles.clear()
        if not missing:
            self.troubles.clear()
        self._blank = self._blank_points()
        note = {
            "run_start": run.uid,
            "time": self.stats.clock.now(),
            "stop": stop.get("uid"),
            "points": run.points,
            "missing": missing,
            "filled": run.filled,
            "reason": self.trouble,
        }
        document = Document(SETTLED, note, run=run.uid, task_id=run.task_id)
        self._last_note = (await self.stats.retry(lambda: self.store.append([document])))[-1]
        run.apply(document)
        words = "run %s: %s, %d points, %d missing, %d filled"
        log.info(words, run.uid, run.status, run.points, missing, run.filled)

    async def _fill(self) -> None:
        """Read what the files hold beyond the announcements, until all is there or nothing more appears.

        The stop document comes before the writer closes its file, so the last frames may be missing. A run without
        files does not wait.
        """
        if self.run.cancelled:
            return
        clock, timeouts = self.stats.clock, self.stats.timeouts
        for reading in self.readings.values():
            reading.reset()
        quiet_since = clock.now()
        while any(reading.ledger.resources for reading in self.readings.values()):
            if await self._queue_rest():
                quiet_since = clock.now()
            await self._idle()
            await self.writer.written()
            if self._whole() or clock.now() - quiet_since >= timeouts.quiet_s:
                return
            await clock.sleep(timeouts.quiet_s / 5)

    def _whole(self) -> bool:
        """Return whether every point of the scan has been read, of all data in files."""
        expected = self.run.expected
        if expected is None or self.run.points < expected or self.run.ledger.given_up:
            return False
        ledgers = [
            reading.ledger for reading in self.readings.values() if reading.file_data.stream == self.run.main.stream
        ]
        others = [ledger for ledger in ledgers if ledger is not self.run.ledger and ledger.resources]
        return all(ledger.announced >= expected and not ledger.given_up for ledger in others)

    def _blank_points(self) -> str:
        """Return a sentence about points that cannot be summed, because pixels of their frames are NaN."""
        sentences: list[str] = []
        for source in self.run.sources.values():
            if source.kind == "frames" and source.derived_descriptor is not None:
                totals = source.maps.grids[-1].reshape(-1)[source.maps.visited_cells()]
                blank = int(np.count_nonzero(~np.isfinite(totals)))
                if blank:
                    which = f"{blank:,} point{'s' if blank > 1 else ''} of {self.run.name_of(source)}"
                    sentences.append(f"{which} cannot be summed: their frames contain NaN.")
        return " ".join(sentences)

    def _keep(self, entry: Entry, *, live: bool) -> None:
        """Back up an entry, and queue what it announces."""
        if entry.name == "stream_datum":
            for reading in self.readings.values():
                if _announces(entry.doc, reading.ledger):
                    self._kept.take(entry.document)
                    rows = Span.read(entry.doc["indices"], "indices")
                    reading.announce(entry.doc["stream_resource"], rows.stop, at=self.run.updated)
                    reading.wake()
                    if live and reading.file_data.shows:
                        self.writer.latency.announce(
                            entry.doc["stream_resource"], rows.start, rows.stop, at=self.run.updated
                        )
        elif not self._is_ours(entry):
            self._kept.take(entry.document)
            for ledger, pointer in self.run.new_pointers:
                self._announce_point(ledger, *pointer, live=live)

    def _announce_point(self, ledger: FrameLedger, resource: str, row: int, *, live: bool) -> None:
        """Queue a row that an event with a datum announces."""
        for reading in self.readings.values():
            if reading.ledger is ledger:
                reading.announce(resource, row + 1, at=self.run.updated)
                reading.wake()
                if live and reading.file_data.shows:
                    self.writer.latency.announce(resource, row, row + 1, at=self.run.updated)


def _announces(datum: Mapping[str, Any], ledger: FrameLedger) -> bool:
    """Return whether a stream_datum announces rows of a ledger."""
    return datum["stream_resource"] in ledger.resources and datum["descriptor"] in ledger.descriptors


def _sentences(texts: Iterable[str]) -> str:
    """Return texts as sentences, one after the other.

    >>> _sentences(["scan.h5 is not there (yet)", "Three points are missing."])
    'scan.h5 is not there (yet). Three points are missing.'
    """
    done = list(texts)
    return " ".join([text if text.endswith(".") else f"{text}." for text in done[:-1]] + done[-1:])
