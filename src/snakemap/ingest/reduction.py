"""The worker's care for one run: its frames are read once, summed, and appended to it as documents of our own.

Two tasks share the work, so that reading goes on while Redis takes the sums: this one reads, :class:`Pages` writes.
Both put up with whatever a file or the store does; what cannot be read is given up, and the run says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from snakemap.documents import SETTLED, Document, Entry, Span
from snakemap.errors import DocumentError
from snakemap.frames import Piece
from snakemap.ingest.pages import Pages, Store
from snakemap.ingest.readers import Readers
from snakemap.ingest.reading import Reading
from snakemap.ingest.regions import told_trouble
from snakemap.ingest.tally import Tally
from snakemap.runs import Rectangle, Run, lost_stop

__all__ = ["Reduction", "just_before", "position"]

log = logging.getLogger(__name__)

KEPT = ("start", "descriptor", "resource", "stream_resource", "stop")
"""Documents that a run cannot be begun again without."""


def position(cursor: str) -> tuple[int, int]:
    """A cursor as numbers, which compare as the cursors do.

    >>> position("1795461238076-10") > position("1795461238076-9")
    True
    """
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number or 0)


def just_before(cursor: str) -> str:
    """The greatest cursor that there can be before another one.

    >>> just_before("1795461238076-0"), just_before("1795461238076-3")
    ('1795461238075-18446744073709551615', '1795461238076-2')
    """
    milliseconds, number = position(cursor)
    return f"{milliseconds}-{number - 1}" if number else f"{max(milliseconds - 1, 0)}-{2**64 - 1}"


class Reduction:
    """Everything that is done for one run.

    Args:
        run: folded as far as the store went when it was loaded.
        store: where sums go.
        readers: who reads the files.
        rois: the instrument's ROIs, by name; None where there are none.
        tally: the clock, and where trouble is counted.
        resumed: whether the run is one that another worker, or an earlier life of this one, began.

    Attributes:
        run: kept up to date by :meth:`take`.
        first: cursor of its start document.
        crashed: whether the work on it ended by an error of our own.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        readers: Readers,
        *,
        rois: Mapping[str, Rectangle] | None,
        tally: Tally,
        resumed: bool = False,
    ) -> None:
        self.run = run
        self.store = store
        self.tally = tally
        self.first = run.cursor
        self.crashed = False
        self.pages = Pages(run, store, tally=tally)
        self.reading = Reading(run, readers, rois=rois, tally=tally, put=self.pages.put)
        self._resumed = resumed
        self._kept: dict[str, Document] = {}
        self._spans: list[Piece] = []
        self._last_note = "0-0"
        self._wake = asyncio.Event()

    def take(self, entry: Entry) -> None:
        """Folds an entry of the stream in; what it announces is read soon.

        Our own pages have been folded in when they were written. To do it again could hide a frame that was announced
        for the same point meanwhile.
        """
        if position(entry.cursor) <= position(self.run.cursor):
            return
        if entry.name == "event_page" and entry.doc["descriptor"] == self.run.derived:
            self.run.cursor = entry.cursor
            return
        self.fold(entry)
        self._wake.set()

    def fold(self, entry: Entry) -> None:
        """Folds an entry in; one that cannot be used is counted and left out."""
        self.run.cursor = entry.cursor
        try:
            self.run.apply(entry.document, cursor=entry.cursor)
        except DocumentError as trouble:
            self.reading.note("documents", trouble)
            return
        if entry.name in KEPT:
            self._kept[f"{entry.name} {entry.doc.get('uid')}"] = entry.document
        if entry.name == "descriptor" and entry.doc["uid"] == self.run.derived:
            self.reading.asked_for = told_trouble(entry.doc)
        if entry.name == "stream_datum" and entry.doc["stream_resource"] in self.run.ledger.resources:
            self._announce(entry.doc)

    def documents(self) -> list[Document]:
        """Enough of the run's documents to begin it again from its files, for a store that has lost it.

        What was announced comes in as few stream_datum as will do.
        """
        stop = [document for document in self._kept.values() if document.name == "stop"]
        others = [document for document in self._kept.values() if document.name != "stop"]
        spans = [replace(others[0], name="stream_datum", doc=self._datum(span)) for span in self._spans]
        return [*others, *spans, *stop]

    @property
    def settled(self) -> bool:
        """Whether the run has ended, has been filled from its file, and nothing has come since."""
        return self.run.stop is not None and self.run.settled is not None and not self._unsettled()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do, and all that was done has come back through the store."""
        return self.settled and position(self.run.cursor) >= position(self._last_note)

    @property
    def trouble(self) -> str:
        """What went wrong with this run, in words for the page; empty when nothing did."""
        regions = self.reading.regions
        told = [self.reading.asked_for or (regions.trouble if regions else ""), *self.reading.troubles.values()]
        return " ".join(dict.fromkeys(filter(None, told)))

    def summary(self) -> dict[str, Any]:
        """The run's summary, with what the worker knows beside the documents."""
        summary = self.run.summary()
        note = " ".join(filter(None, (summary["note"], self.trouble)))
        return {
            **summary,
            "note": note,
            "trouble": self.trouble,
            "waiting": self.run.ledger.waiting,
            "settled": self.settled,
            "cursor": self.run.cursor,
        }

    async def lose(self, reason: str) -> None:
        """Closes the run with a stop document of our own, because nobody else will.

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
        """Goes on until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.pages.write(), name=f"pages of {self.run.uid}")
                await self._work()
        except Exception:
            log.exception("run %s: an error of our own; its frames are no longer read", self.run.uid)
            self.tally.errors["error"] += 1
            self.reading.troubles["crash"] = "The worker failed on this run; its log says why."
            self.crashed = True

    async def _work(self) -> None:
        if self._resumed and self.run.stop is None:
            await self.reading.queue_rest()
        while True:
            await self.reading.read_pending()
            if self._unsettled() and (self.run.settled is None or await self._is_quiet()):
                await self._settle()
                continue
            await self._wake.wait()
            self._wake.clear()

    async def _is_quiet(self) -> bool:
        """Whether a while brings nothing: a run that was closed too early is settled again when it has really ended."""
        self._wake.clear()
        await self.tally.clock.sleep(self.tally.pace.quiet_s)
        return not self._wake.is_set()

    def _unsettled(self) -> bool:
        stop, settled = self.run.stop, self.run.settled
        if stop is None:
            return False
        return settled is None or (settled.get("stop"), settled.get("points")) != (stop.get("uid"), self.run.points)

    async def _settle(self) -> None:
        """Fills the run, which has stopped, from its files, and says what came of it."""
        filled = await self._fill()
        await self.reading.show_last()
        await self.pages.written()
        run, stop = self.run, self.run.stop or {}
        missing = max((run.expected or 0) - run.points, run.ledger.given_up)
        if not missing:
            self.reading.troubles.clear()
        note = {
            "run_start": run.uid,
            "time": self.tally.clock.now(),
            "stop": stop.get("uid"),
            "points": run.points,
            "missing": missing,
            "filled": filled,
            "reason": self.trouble,
        }
        document = Document(SETTLED, note, run=run.uid, task_id=run.task_id)
        self._last_note = (await self.tally.insist(lambda: self.store.append([document])))[-1]
        run.apply(document)
        log.info("run %s: %s, %d points, %d missing, %d filled", run.uid, run.status, run.points, missing, filled)

    async def _fill(self) -> int:
        """Reads what the files hold beyond what was announced, until all is there or nothing more comes.

        The stop document comes before the writer closes its file, so that the last frames may still be on their way.

        Returns:
            How many points were queued.
        """
        clock, pace = self.tally.clock, self.tally.pace
        self.reading.begin_anew()
        filled, quiet_since = 0, clock.now()
        while True:
            queued = await self.reading.queue_rest()
            filled += queued
            if queued:
                quiet_since = clock.now()
            await self.reading.read_pending()
            await self.pages.written()
            if self._whole() or clock.now() - quiet_since >= pace.quiet_s:
                return filled
            await clock.sleep(pace.quiet_s / 5)

    def _whole(self) -> bool:
        """Whether every point of the scan has been read."""
        expected = self.run.expected
        return expected is not None and self.run.points >= expected and not self.run.ledger.given_up

    def _announce(self, doc: Mapping[str, Any]) -> None:
        """Notes when rows were announced, for our patience, and which, for a store that loses them."""
        rows, points = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
        resource = doc["stream_resource"]
        self.reading.announce(resource, rows.stop, at=self.run.heard)
        last = self._spans[-1] if self._spans else None
        if last is not None and last.part(last.count, rows.size) == Piece(
            resource, rows.start, points.start, rows.size
        ):
            self._spans[-1] = last.part(0, last.count + rows.size)
        elif rows.size and points.size == rows.size:
            self._spans.append(Piece(resource, rows.start, points.start, rows.size))

    def _datum(self, span: Piece) -> dict[str, Any]:
        return {
            "uid": f"{span.resource}/again-{span.index}",
            "stream_resource": span.resource,
            "descriptor": self.run.ledger.descriptor,
            "indices": {"start": span.index, "stop": span.index + span.count},
            "seq_nums": {"start": span.seq_num, "stop": span.seq_num + span.count},
        }
