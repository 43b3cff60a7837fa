"""The worker's care for one run: what is in its files is read once and appended to it as documents of our own.

Several tasks share the work: one for each camera and each scalar, which read in turn, so that a file that is late holds
up none of the others; and :class:`DerivedWriter`, so that reading goes on while Redis takes the sums. All put up with
whatever a file or the store does; what cannot be read is given up, and the run says so.
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
    """Everything that is done for one run.

    Args:
        run: folded as far as the store went when it was loaded.
        store: where sums go.
        readers: who reads the files.
        rois: the instrument's ROIs, by name; None where there are none.
        tally: the clock, and where trouble is counted.
        resumed: whether the run is one that another worker, or an earlier life of this one, began.
        at_once: readers that may work on a finished file at one time.

    Attributes:
        run: kept up to date by :meth:`take`.
        first: cursor of its start document.
        readings: of each camera and each scalar, by stream and data key.
        troubles: what went wrong beside reading, in words for the page, by what it is about.
        crashed: whether the work on it ended by an error of our own.
    """

    def __init__(
        self,
        run: Run,
        store: WorkerStore,
        readers: ReaderPool,
        *,
        rois: Mapping[str, Rectangle] | None,
        tally: WorkerStats,
        resumed: bool = False,
        at_once: int = 1,
    ) -> None:
        self.run = run
        self.store = store
        self.readers = readers
        self.rois = rois
        self.tally = tally
        self.first = run.cursor
        self.crashed = False
        self.pages = DerivedWriter(run, store, tally=tally)
        self.readings: dict[tuple[str, str], ReadLoop] = {}
        self.troubles: dict[str, str] = {}
        self.pictured = 0.0
        # a finished file is read as fast as this machine can; a scan that is taken is not in a hurry
        self._at_once = at_once if run.opened else 1
        self._turns = PriorityLock(self._at_once)
        self._resumed = resumed
        self._kept = RunBackup()
        self._blank = ""
        self._last_note = BEGINNING
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    def take(self, entry: Entry) -> None:
        """Fold an entry of the stream in; what it announces is read soon.

        Our own pages have been folded in when they were written. To do it again could hide a frame that was announced
        for the same point meanwhile.
        """
        if cursor_numbers(entry.cursor) <= cursor_numbers(self.run.cursor):
            return
        if self._is_ours(entry) and self.pages.wrote(entry.doc):
            self.run.cursor = entry.cursor
            return
        self.fold(entry, live=True)
        self._wake.set()

    def fold(self, entry: Entry, *, live: bool = False) -> None:
        """Fold an entry in; one that cannot be used is counted and left out.

        Args:
            entry: the next one.
            live: whether it comes while we follow the store, so that it can be told how late its points are.
        """
        self.run.cursor = max(self.run.cursor, entry.cursor, key=cursor_numbers)
        try:
            self.run.apply(entry.document, cursor=entry.cursor)
        except DocumentError as trouble:
            self.note("documents", trouble)
        else:
            self._keep(entry, live=live)
        if entry.name == "descriptor":
            self._take_up()

    def note(self, about: str, trouble: SnakemapError) -> None:
        """Count a trouble, and keeps it for the page."""
        self.troubles[about] = str(trouble)
        self.tally.trouble(trouble, about=f"run {self.run.uid}")

    def documents(self) -> list[Document]:
        """Enough of the run's documents to begin it again from its files, for a store that has lost it."""
        return self._kept.documents()

    @property
    def waiting(self) -> int:
        """Points that were announced and have not been read yet."""
        if self.run.cancelled:
            return 0
        return max((reading.ledger.waiting for reading in self.readings.values()), default=0)

    @property
    def settled(self) -> bool:
        """Whether the run has ended, has been filled from its file, and nothing has come since."""
        return self.run.stop is not None and self.run.settled is not None and not self._unsettled()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do, and all that was done has come back through the store."""
        return self.settled and not self.waiting and cursor_numbers(self.run.cursor) >= cursor_numbers(self._last_note)

    @property
    def trouble(self) -> str:
        """What went wrong with this run, in words for the page; empty when nothing did."""
        told = [*self.run.remarks, *(self._asked_for(reading.feed) for reading in self.readings.values())]
        told += self.troubles.values()
        for reading in self.readings.values():
            if reading.ledger.unread_reason:
                continue
            told += reading.troubles.values()
            unread = reading.ledger.given_up
            if unread and reading.feed.name:
                told.append(f"{unread:,} point{'s' if unread > 1 else ''} of {reading.feed.name} could not be read.")
        return _sentences(dict.fromkeys(filter(None, [*told, self._blank])))

    def summary(self) -> dict[str, Any]:
        """Return the run's summary, with what the worker knows beside the documents."""
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
        """Close the run with a stop document of our own, because nobody else will.

        Raises:
            StoreUnavailable: to be tried again.
        """
        stop = lost_stop(self.run, reason, time=self.tally.clock.now())
        document = Document("stop", stop, run=self.run.uid, task_id=self.run.task_id)
        await self.store.append([document])
        log.warning("run %s: lost: %s", self.run.uid, reason)
        self.run.apply(document)
        self._wake.set()

    async def work(self) -> None:
        """Go on until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.pages.write(), name=f"pages of {self.run.uid}")
                if self._resumed and self.run.stop is None:
                    await self._queue_rest()
                self._group = group
                for reading in self.readings.values():
                    self._begin(reading)
                await self._work()
        except Exception:
            log.exception("run %s: an error of our own; its frames are no longer read", self.run.uid)
            self.tally.errors["error"] += 1
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
        """Return whether a finished file that was opened has been read to its end, and nothing says so yet."""
        run = self.run
        if not run.opened or run.stop is not None:
            return False
        return bool(self.readings) and run.ledger.announced >= (run.expected or 1)

    async def _close_opened(self) -> None:
        """End the run of a finished file; a file of which nothing could be read has failed."""
        await self.pages.written()
        status, reason = ("success", "") if self.run.points else ("fail", self.trouble or "nothing of it can be read")
        stop = opened_stop(self.run.uid, time=self.tally.clock.now(), status=status, reason=reason)
        document = Document("stop", stop, run=self.run.uid)
        await self.tally.insist(lambda: self.store.append([document]))
        self.run.apply(document)

    async def _idle(self) -> None:
        """Return when nothing waits to be read."""
        while busy := [reading for reading in self.readings.values() if not reading.idle.is_set()]:
            await busy[0].idle.wait()

    async def _queue_rest(self) -> int:
        """Queue what the files hold and nobody announced; returns how many points."""
        return sum([await reading.queue_rest() for reading in list(self.readings.values())])

    def _take_up(self) -> None:
        """Have everything read that the run has files of."""
        for stream in self.run.streams.values():
            for key in (*stream.images, *stream.files):
                if (stream.name, key) not in self.readings:
                    reading = self._reading(self._feed(stream, key))
                    self.readings[stream.name, key] = reading
                    if self._group is not None:
                        self._begin(reading)

    def _feed(self, stream: Stream, key: str) -> FileData:
        source = stream.images.get(key)
        return ImageData(self.run, source, rois=self.rois) if source else ScalarData(self.run, stream, key)

    def _reading(self, feed: FileData) -> ReadLoop:
        return ReadLoop(
            self.run, feed, self.readers, turns=self._turns, tally=self.tally, put=self.pages.put,
            at_once=self._at_once if feed.shows else 1, on_unreadable=self._say_unreadable,
        )  # fmt: skip

    async def _say_unreadable(self, feed: FileData, reason: str) -> None:
        """Say in the run that nothing of a camera can be read, so that every reader draws something else first."""
        if not isinstance(feed, ImageData) or feed.ledger.unreadable:
            return
        doc = unread_descriptor(self.run, feed.source, reason, time=self.tally.clock.now())
        document = Document("descriptor", doc, run=self.run.uid, task_id=self.run.task_id)
        await self.tally.insist(lambda: self.store.append([document]))
        self.run.apply(document)

    def _begin(self, reading: ReadLoop) -> None:
        if self._group is not None:
            self._group.create_task(reading.work(), name=f"{reading.feed.key} of {self.run.uid}")

    def _is_ours(self, entry: Entry) -> bool:
        return entry.name == "event_page" and entry.doc["descriptor"] in self.run.derived_uids

    def _asked_for(self, feed: FileData) -> str:
        """Return why the ROIs of a camera are not those that were asked for, as our descriptor tells, or will tell."""
        if not isinstance(feed, ImageData):
            return ""
        told = feed.source.derived_descriptor
        return told.trouble if told else feed.regions.trouble if feed.regions else ""

    async def _is_quiet(self) -> bool:
        """Wait for new entries of a run that was closed too early; return whether none arrived."""
        self._wake.clear()
        await self.tally.clock.sleep(self.tally.pace.quiet_s)
        return not self._wake.is_set()

    def _unsettled(self) -> bool:
        stop, settled = self.run.stop, self.run.settled
        if stop is None:
            return False
        return settled is None or (settled.get("stop"), settled.get("points")) != (stop.get("uid"), self.run.points)

    async def _settle(self) -> None:
        """Fill the run, which has stopped, from its files, and says what came of it."""
        await self._fill()
        for reading in list(self.readings.values()):
            await reading.show_last()
        await self.pages.written()
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
            "time": self.tally.clock.now(),
            "stop": stop.get("uid"),
            "points": run.points,
            "missing": missing,
            "filled": run.filled,
            "reason": self.trouble,
        }
        document = Document(SETTLED, note, run=run.uid, task_id=run.task_id)
        self._last_note = (await self.tally.insist(lambda: self.store.append([document])))[-1]
        run.apply(document)
        words = "run %s: %s, %d points, %d missing, %d filled"
        log.info(words, run.uid, run.status, run.points, missing, run.filled)

    async def _fill(self) -> None:
        """Read what the files hold beyond what was announced, until all is there or nothing more comes.

        The stop document comes before the writer closes its file, so that the last frames may still be on their way.
        A run without files has nothing to wait for.
        """
        if self.run.cancelled:
            return
        clock, pace = self.tally.clock, self.tally.pace
        for reading in self.readings.values():
            reading.begin_anew()
        quiet_since = clock.now()
        while any(reading.ledger.resources for reading in self.readings.values()):
            if await self._queue_rest():
                quiet_since = clock.now()
            await self._idle()
            await self.pages.written()
            if self._whole() or clock.now() - quiet_since >= pace.quiet_s:
                return
            await clock.sleep(pace.quiet_s / 5)

    def _whole(self) -> bool:
        """Return whether every point of the scan has been read, of all that is in files."""
        expected = self.run.expected
        if expected is None or self.run.points < expected or self.run.ledger.given_up:
            return False
        ledgers = [reading.ledger for reading in self.readings.values() if reading.feed.stream == self.run.main.stream]
        others = [ledger for ledger in ledgers if ledger is not self.run.ledger and ledger.resources]
        return all(ledger.announced >= expected and not ledger.given_up for ledger in others)

    def _blank_points(self) -> str:
        """Return how many points have no number for a sum, because pixels of their frames have none, in words."""
        told = []
        for source in self.run.sources.values():
            if source.kind == "frames" and source.derived_descriptor is not None:
                totals = source.maps.grids[-1].reshape(-1)[source.maps.visited_cells()]
                blank = int(np.count_nonzero(~np.isfinite(totals)))
                if blank:
                    which = f"{blank:,} point{'s' if blank > 1 else ''} of {self.run.name_of(source)}"
                    told.append(f"{which} cannot be summed: their frames contain NaN.")
        return " ".join(told)

    def _keep(self, entry: Entry, *, live: bool) -> None:
        """Keep what a store that loses it will need, and has read what was announced."""
        if entry.name == "stream_datum":
            for reading in self.readings.values():
                if _speaks_of(entry.doc, reading.ledger):
                    self._kept.take(entry.document)
                    rows = Span.read(entry.doc["indices"], "indices")
                    reading.announce(entry.doc["stream_resource"], rows.stop, at=self.run.updated)
                    reading.wake()
                    if live and reading.feed.shows:
                        self.pages.lags.announce(
                            entry.doc["stream_resource"], rows.start, rows.stop, at=self.run.updated
                        )
        elif not self._is_ours(entry):
            self._kept.take(entry.document)
            for ledger, pointer in self.run.new_pointers:
                self._announce_point(ledger, *pointer, live=live)

    def _announce_point(self, ledger: FrameLedger, resource: str, row: int, *, live: bool) -> None:
        """Have read what an event has announced together with a datum."""
        for reading in self.readings.values():
            if reading.ledger is ledger:
                reading.announce(resource, row + 1, at=self.run.updated)
                reading.wake()
                if live and reading.feed.shows:
                    self.pages.lags.announce(resource, row, row + 1, at=self.run.updated)


def _speaks_of(datum: Mapping[str, Any], ledger: FrameLedger) -> bool:
    """Return whether a stream_datum is of the frames that a ledger keeps account of."""
    return datum["stream_resource"] in ledger.resources and datum["descriptor"] in ledger.descriptors


def _sentences(texts: Iterable[str]) -> str:
    """Return texts one after the other, each a sentence.

    >>> _sentences(["scan.h5 is not there (yet)", "Three points are missing."])
    'scan.h5 is not there (yet). Three points are missing.'
    """
    told = list(texts)
    return " ".join([text if text.endswith(".") else f"{text}." for text in told[:-1]] + told[-1:])
