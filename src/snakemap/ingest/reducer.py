"""The second half of the worker: it follows the store, and sees to every run that is open there.

It asks nobody where documents come from: the listener, the simulator or a recording may have put them into the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from snakemap.core.coalesce import coalesce
from snakemap.core.cursor import BEGINNING, cursor_before, cursor_numbers
from snakemap.core.derived_documents import Rectangle
from snakemap.core.documents import WORKER, Entry, WorkerEvent
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.errors import DocumentError, RunNotFound, SnakemapError, StoreRewound, StoreUnavailable
from snakemap.ingest.lost_runs import lost_because
from snakemap.ingest.reader_pool import ReaderPool
from snakemap.ingest.run_reducer import RunReducer
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.render.thumbnail import thumbnail
from snakemap.store.interfaces import WorkerStore
from snakemap.store.store import StreamPosition
from snakemap.store.tasks import end_if_cancelled

__all__ = ["Reducer"]

log = logging.getLogger(__name__)

AT_REST_KEPT = 4
OPEN_RUNS_MAX = 32
"""Runs that may be open at one time; a beamline has two or three, one in another."""

BEHIND = 100
"""A batch of so many entries means that more wait behind it."""


class Reducer:
    """Keeps one :class:`RunReducer` for every run that is open, and for a few that have ended.

    Args:
        store: the documents.
        readers: who reads the files.
        defaults: what to assume where documents are silent.
        rois: the instrument's ROIs, by name; None where there are none.
        tally: the clock, and where trouble is counted.
        listening_since: since when the broker's messages have come in without a break; see :func:`lost_because`.
        on_evicted: called with the uid of every run that has left the store.
        patient: who reads finished files; None: the same readers.
        at_once: readers that may work on a finished file at one time.

    Attributes:
        reductions: by uid of the run, in the order in which the runs began.
    """

    def __init__(
        self,
        store: WorkerStore,
        readers: ReaderPool,
        *,
        defaults: ScanDefaults,
        rois: Mapping[str, Rectangle] | None,
        tally: WorkerStats,
        listening_since: Callable[[], float | None] = lambda: 0.0,
        on_evicted: Callable[[str], None] = lambda uid: None,
        patient: ReaderPool | None = None,
        at_once: int = 1,
    ) -> None:
        self.store = store
        self.readers = readers
        self.defaults = defaults
        self.rois = rois
        self.tally = tally
        self.listening_since = listening_since
        self.on_evicted = on_evicted
        self.patient = patient or readers
        self.at_once = at_once
        self.reductions: dict[str, RunReducer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, str] = {}
        self._saved: dict[str, dict[str, Any]] = {}
        self._drawn_at: dict[str, float] = {}
        self._up_to_date = False
        self._looked_at = 0.0
        self._evicted_at = 0.0

    async def reduce(self) -> None:
        """Go on until it is cancelled: takes up the runs that are open, then follows the store."""
        try:
            cursor = await self._resume()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(cursor), name="reducer follow")
                group.create_task(self._keep_books(), name="reducer books")
        finally:
            tasks, self._tasks, self.reductions = list(self._tasks.values()), {}, {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Points that were announced and have not been read yet, of all runs."""
        return sum(reduction.waiting for reduction in self.reductions.values())

    @property
    def replaced(self) -> int:
        """How often a reading process had to be replaced."""
        return sum(readers.replaced for readers in {self.readers, self.patient})

    async def _resume(self) -> str:
        """Take up every run that is not settled; returns the cursor to follow from.

        A summary is saved with the cursor up to which its run has been folded, and no summary before those of the runs
        that began earlier: nothing that the last worker has not seen can come before the greatest of these cursors.
        """
        summaries = await self.tally.insist(self.store.summaries)
        self._left = {summary["uid"]: str(summary.get("cursor") or BEGINNING) for summary in summaries}
        for summary in reversed(summaries):
            if not summary.get("settled"):
                await self._load(summary["uid"])
        newest_closed = max(self._left.values(), key=cursor_numbers, default=BEGINNING)
        open_runs = (reduction.run.cursor for reduction in self.reductions.values())
        return min(open_runs, key=cursor_numbers, default=newest_closed)

    async def _follow(self, cursor: str) -> None:
        place = StreamPosition(cursor)
        while True:
            try:
                async for entries in self.store.follow(place):
                    end_if_cancelled()
                    self.tally.store_found()
                    for entry in entries:
                        await self._take(entry)
                    self._up_to_date = len(entries) < BEHIND
                    await asyncio.sleep(0)
            except StoreRewound as trouble:
                self._up_to_date = False
                self.tally.trouble(trouble, about="all runs are folded again")
                place = StreamPosition(await self._start_over())
            except StoreUnavailable as trouble:
                self._up_to_date = False
                self.tally.store_lost(trouble)
                await self.tally.clock.sleep(self.tally.pace.store_retry_s)

    async def _start_over(self) -> str:
        """Take everything up again from a store that was emptied or restored; returns the cursor to follow from.

        A run that is open and that the store has lost, all of it or its last documents, begins again from its files.
        """
        for reduction in list(self.reductions.values()):
            if not reduction.settled:
                await self._restore_if_lost(reduction)
        for uid in list(self.reductions):
            self._leave(uid)
        self._saved.clear()
        return await self._resume()

    async def _take(self, entry: Entry) -> None:
        self.tally.work.documents[entry.name] += 1
        if entry.name == WORKER:
            self._hear(entry)
            return
        reduction = self.reductions.get(entry.run)
        if reduction is not None:
            reduction.take(entry)
        elif entry.name == "start" and entry.run not in self._left:
            self._begin(entry)
        elif cursor_numbers(entry.cursor) > cursor_numbers(self._left.get(entry.run, BEGINNING)):
            await self._load(entry.run)

    def _hear(self, entry: Entry) -> None:
        try:
            self.tally.take(WorkerEvent.from_body(entry.doc))
        except DocumentError as trouble:
            self.tally.trouble(trouble, about="a worker event was left out")

    def _begin(self, entry: Entry) -> None:
        reduction = self._reduction(entry, resumed=False)
        log.info("run %s: began, %s, %s", entry.run, entry.doc.get("plan_name"), reduction.run.raster.described)
        self._adopt(reduction)

    async def _load(self, uid: str) -> None:
        """Fold a run from its beginning and goes on with it; one whose beginning is gone is left alone."""
        reduction = await self.tally.insist(lambda: self._read(uid))
        if reduction is not None and uid not in self.reductions:
            log.info("run %s: resumed with %d points", uid, reduction.run.points)
            self._adopt(reduction)

    async def _read(self, uid: str) -> RunReducer | None:
        reduction: RunReducer | None = None
        try:
            async for entries in self.store.run_entries(uid):
                for entry in coalesce(entries):
                    if reduction is not None:
                        reduction.fold(entry)
                    elif entry.name == "start":
                        reduction = self._reduction(entry, resumed=True)
                await asyncio.sleep(0)
        except RunNotFound:
            return None
        return reduction

    def _reduction(self, start: Entry, *, resumed: bool) -> RunReducer:
        run = Run(start.doc, defaults=self.defaults)
        run.cursor = start.cursor
        readers = self.patient if run.opened else self.readers
        reduction = RunReducer(
            run, self.store, readers, rois=self.rois, tally=self.tally, resumed=resumed, at_once=self.at_once
        )
        reduction.fold(start)
        return reduction

    def _adopt(self, reduction: RunReducer) -> None:
        uid = reduction.run.uid
        self.reductions[uid] = reduction
        self._left.pop(uid, None)
        self._tasks[uid] = asyncio.create_task(reduction.work(), name=f"run {uid}")

    def _leave(self, uid: str) -> None:
        """Give a run out of hand; should a document of it come, it is read from the store again."""
        self._left[uid] = self.reductions.pop(uid).run.cursor
        self._saved.pop(uid, None)
        self._drawn_at.pop(uid, None)
        self._tasks.pop(uid).cancel()

    async def _keep_books(self) -> None:
        """Four times a second: summaries; once a second: what can go, what was lost.

        Each is done whether the others could be or not: a Redis that is full takes no summary until old runs are gone.
        """
        clock, pace = self.tally.clock, self.tally.pace
        while True:
            await self._unless_away(self._save_summaries)
            if clock.now() - self._looked_at >= pace.report_s:
                self._looked_at = clock.now()
                await self._unless_away(self._evict)
                await self._unless_away(self._look_after)
            self._leave_some()
            end_if_cancelled()
            await clock.sleep(pace.summary_s)

    async def _unless_away(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreUnavailable as trouble:
            self.tally.store_lost(trouble)
        end_if_cancelled()

    async def _save_summaries(self) -> None:
        """Save what has changed, runs that have none yet before the others: see :meth:`_resume`."""
        for uid, reduction in sorted(self.reductions.items(), key=lambda item: item[0] in self._saved):
            summary = reduction.summary()
            before = self._saved.get(uid)
            if summary == before:
                continue
            await self._save_picture(reduction, settled=bool(summary["settled"]))
            summary = reduction.summary()
            await self.store.save_summary(uid, summary)
            self._saved[uid] = summary
            if summary["settled"] and not (before or {}).get("settled"):
                self._evicted_at = 0.0

    async def _save_picture(self, reduction: RunReducer, *, settled: bool) -> None:
        """Keep a small picture of the maps, now and then while they grow, and in the end."""
        run, now = reduction.run, self.tally.clock.now()
        if not settled and now - self._drawn_at.get(run.uid, 0.0) < self.tally.pace.picture_s:
            return
        self._drawn_at[run.uid] = now
        try:
            png = thumbnail(run.maps)
        except SnakemapError as trouble:
            self.tally.trouble(trouble, about="a run has no small picture")
            return
        if png:
            await self.store.save_picture(run.uid, png)
            reduction.pictured = now

    async def _look_after(self) -> None:
        for reduction in list(self.reductions.values()):
            if not reduction.settled:
                await self._restore_if_lost(reduction)
        if self._up_to_date:
            await self._close_lost()

    async def _evict(self) -> None:
        if self.tally.clock.now() - self._evicted_at >= self.tally.pace.evict_s:
            self._evicted_at = self.tally.clock.now()
            for uid in await self.store.evict():
                self._forget(uid)

    async def _close_lost(self) -> None:
        """Close the runs that will get no stop document, and the oldest when too many are open."""
        reductions = list(self.reductions.values())
        still_open = [reduction for reduction in reductions if reduction.run.stop is None]
        since = self.listening_since()
        for number, reduction in enumerate(reductions):
            if reduction.run.stop is not None:
                continue
            later = [other.run for other in reductions[number + 1 :]]
            reason = lost_because(reduction.run, later, tally=self.tally, listening_since=since)
            if not reason and reduction in still_open[:-OPEN_RUNS_MAX]:
                reason = f"more than {OPEN_RUNS_MAX} runs were open"
            if reason:
                await reduction.lose(reason)

    async def _holds(self, reduction: RunReducer) -> bool:
        """Return whether the store still has the first and the last document of a run that we have seen."""
        for cursor in (reduction.first, reduction.run.cursor):
            if not await self.store.read(cursor_before(cursor), count=1, until=cursor):
                return False
        return True

    async def _restore_if_lost(self, reduction: RunReducer) -> None:
        held = await self.tally.insist(lambda: self._holds(reduction))
        if not held and self.reductions.get(reduction.run.uid) is reduction:
            await self._restore(reduction)

    async def _restore(self, reduction: RunReducer) -> None:
        """Begin a run again in a store that has lost it; its sums are read from its files once more."""
        log.warning("run %s: the store has lost it; it begins again from its files", reduction.run.uid)
        self.tally.errors["restored"] += 1
        documents = reduction.documents()
        self._leave(reduction.run.uid)
        self._left.pop(reduction.run.uid, None)
        await self.tally.insist(lambda: self.store.append(documents))

    def _leave_some(self) -> None:
        at_rest = [uid for uid, reduction in self.reductions.items() if reduction.at_rest]
        for uid in at_rest[:-AT_REST_KEPT]:
            if self._saved.get(uid) == self.reductions[uid].summary():
                self._leave(uid)

    def _forget(self, uid: str) -> None:
        """Forget a run that has left the store."""
        if uid in self.reductions:
            self._leave(uid)
        self._left.pop(uid, None)
        self.on_evicted(uid)
