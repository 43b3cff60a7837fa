"""Second half of the worker: follow the store, and reduce every open run.

Documents may come from the listener, the simulator or a recording.
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
"""Maximum of open runs; a beamline has two or three, nested."""

BEHIND = 100
"""A batch of this size means that more entries follow."""


class Reducer:
    """Keeps one :class:`RunReducer` for every open run, and for a few that have ended.

    Args:
        store: the document store.
        readers: pool of readers.
        defaults: geometry of runs whose documents have none.
        rois: the default ROIs, by name; None for none.
        stats: clock and counts.
        listening_since: since when messages arrive without a break; see :func:`lost_because`.
        on_evicted: called with the uid of every run that has left the store.
        background: pool of readers for finished files; None for the same.
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
        stats: WorkerStats,
        listening_since: Callable[[], float | None] = lambda: 0.0,
        on_evicted: Callable[[str], None] = lambda uid: None,
        background: ReaderPool | None = None,
        at_once: int = 1,
    ) -> None:
        self.store = store
        self.readers = readers
        self.defaults = defaults
        self.rois = rois
        self.stats = stats
        self.listening_since = listening_since
        self.on_evicted = on_evicted
        self.background = background or readers
        self.at_once = at_once
        self.reductions: dict[str, RunReducer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dropped: dict[str, str] = {}
        self._saved: dict[str, dict[str, Any]] = {}
        self._drawn_at: dict[str, float] = {}
        self._up_to_date = False
        self._looked_at = 0.0
        self._evicted_at = 0.0

    async def reduce(self) -> None:
        """Load the open runs, then follow the store until cancelled."""
        try:
            cursor = await self._resume()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(cursor), name="reducer follow")
                group.create_task(self._run_maintenance(), name="reducer maintenance")
        finally:
            tasks, self._tasks, self.reductions = list(self._tasks.values()), {}, {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Announced points of all runs that have not been read yet."""
        return sum(reduction.waiting for reduction in self.reductions.values())

    @property
    def replaced(self) -> int:
        """How often a reader process was replaced."""
        return sum(readers.replaced for readers in {self.readers, self.background})

    async def _resume(self) -> str:
        """Load every run that is not settled; return the cursor to follow from.

        A summary is saved with the cursor up to which its run has been folded, and never before those of earlier runs:
        no entry that the last worker has not seen comes before the greatest of these cursors.
        """
        summaries = await self.stats.retry(self.store.summaries)
        self._dropped = {summary["uid"]: str(summary.get("cursor") or BEGINNING) for summary in summaries}
        for summary in reversed(summaries):
            if not summary.get("settled"):
                await self._load(summary["uid"])
        newest_closed = max(self._dropped.values(), key=cursor_numbers, default=BEGINNING)
        open_runs = (reduction.run.cursor for reduction in self.reductions.values())
        return min(open_runs, key=cursor_numbers, default=newest_closed)

    async def _follow(self, cursor: str) -> None:
        place = StreamPosition(cursor)
        while True:
            try:
                async for entries in self.store.follow(place):
                    end_if_cancelled()
                    self.stats.store_found()
                    for entry in entries:
                        await self._take(entry)
                    self._up_to_date = len(entries) < BEHIND
                    await asyncio.sleep(0)
            except StoreRewound as trouble:
                self._up_to_date = False
                self.stats.trouble(trouble, about="all runs are folded again")
                place = StreamPosition(await self._start_over())
            except StoreUnavailable as trouble:
                self._up_to_date = False
                self.stats.store_lost(trouble)
                await self.stats.clock.sleep(self.stats.timeouts.store_retry_s)

    async def _start_over(self) -> str:
        """Load everything again from a store that was emptied or restored; return the cursor to follow from.

        An open run that the store has lost, fully or partly, is restored from its backup and files.
        """
        for reduction in list(self.reductions.values()):
            if not reduction.settled:
                await self._restore_if_lost(reduction)
        for uid in list(self.reductions):
            self._drop(uid)
        self._saved.clear()
        return await self._resume()

    async def _take(self, entry: Entry) -> None:
        self.stats.work.documents[entry.name] += 1
        if entry.name == WORKER:
            self._take_event(entry)
            return
        reduction = self.reductions.get(entry.run)
        if reduction is not None:
            reduction.take(entry)
        elif entry.name == "start" and entry.run not in self._dropped:
            self._begin(entry)
        elif cursor_numbers(entry.cursor) > cursor_numbers(self._dropped.get(entry.run, BEGINNING)):
            await self._load(entry.run)

    def _take_event(self, entry: Entry) -> None:
        try:
            self.stats.take(WorkerEvent.from_body(entry.doc))
        except DocumentError as trouble:
            self.stats.trouble(trouble, about="a worker event was ignored")

    def _begin(self, entry: Entry) -> None:
        reduction = self._reduction(entry, resumed=False)
        log.info("run %s: began, %s, %s", entry.run, entry.doc.get("plan_name"), reduction.run.raster.described)
        self._add(reduction)

    async def _load(self, uid: str) -> None:
        """Fold a run from its start document and add it; a run without one is ignored."""
        reduction = await self.stats.retry(lambda: self._read(uid))
        if reduction is not None and uid not in self.reductions:
            log.info("run %s: resumed with %d points", uid, reduction.run.points)
            self._add(reduction)

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
        readers = self.background if run.opened else self.readers
        reduction = RunReducer(
            run, self.store, readers, rois=self.rois, stats=self.stats, resumed=resumed, at_once=self.at_once
        )
        reduction.fold(start)
        return reduction

    def _add(self, reduction: RunReducer) -> None:
        uid = reduction.run.uid
        self.reductions[uid] = reduction
        self._dropped.pop(uid, None)
        self._tasks[uid] = asyncio.create_task(reduction.work(), name=f"run {uid}")

    def _drop(self, uid: str) -> None:
        """Drop a run from memory; another document of it loads it again."""
        self._dropped[uid] = self.reductions.pop(uid).run.cursor
        self._saved.pop(uid, None)
        self._drawn_at.pop(uid, None)
        self._tasks.pop(uid).cancel()

    async def _run_maintenance(self) -> None:
        """Save summaries four times a second; evict runs and check for lost ones once a second.

        Each step is independent of the others: a full Redis takes no summary until old runs are evicted.
        """
        clock, timeouts = self.stats.clock, self.stats.timeouts
        while True:
            await self._unless_away(self._save_summaries)
            if clock.now() - self._looked_at >= timeouts.report_s:
                self._looked_at = clock.now()
                await self._unless_away(self._evict)
                await self._unless_away(self._check_runs)
            self._drop_settled()
            end_if_cancelled()
            await clock.sleep(timeouts.summary_s)

    async def _unless_away(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreUnavailable as trouble:
            self.stats.store_lost(trouble)
        end_if_cancelled()

    async def _save_summaries(self) -> None:
        """Save changed summaries, those of new runs first; see :meth:`_resume`."""
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
        """Save a thumbnail of the maps, every ``picture_s`` while they grow, and at the end."""
        run, now = reduction.run, self.stats.clock.now()
        if not settled and now - self._drawn_at.get(run.uid, 0.0) < self.stats.timeouts.picture_s:
            return
        self._drawn_at[run.uid] = now
        try:
            png = thumbnail(run.maps)
        except SnakemapError as trouble:
            self.stats.trouble(trouble, about="a run has no thumbnail")
            return
        if png:
            await self.store.save_picture(run.uid, png)
            reduction.pictured = now

    async def _check_runs(self) -> None:
        for reduction in list(self.reductions.values()):
            if not reduction.settled:
                await self._restore_if_lost(reduction)
        if self._up_to_date:
            await self._close_lost()

    async def _evict(self) -> None:
        if self.stats.clock.now() - self._evicted_at >= self.stats.timeouts.evict_s:
            self._evicted_at = self.stats.clock.now()
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
            reason = lost_because(reduction.run, later, stats=self.stats, listening_since=since)
            if not reason and reduction in still_open[:-OPEN_RUNS_MAX]:
                reason = f"more than {OPEN_RUNS_MAX} runs were open"
            if reason:
                await reduction.lose(reason)

    async def _holds(self, reduction: RunReducer) -> bool:
        """Return whether the store still has the first and the last known document of a run."""
        for cursor in (reduction.first, reduction.run.cursor):
            if not await self.store.read(cursor_before(cursor), count=1, until=cursor):
                return False
        return True

    async def _restore_if_lost(self, reduction: RunReducer) -> None:
        held = await self.stats.retry(lambda: self._holds(reduction))
        if not held and self.reductions.get(reduction.run.uid) is reduction:
            await self._restore(reduction)

    async def _restore(self, reduction: RunReducer) -> None:
        """Store a lost run again from its backup; its sums are read from its files again."""
        log.warning("run %s: the store has lost it; it begins again from its files", reduction.run.uid)
        self.stats.errors["restored"] += 1
        documents = reduction.documents()
        self._drop(reduction.run.uid)
        self._dropped.pop(reduction.run.uid, None)
        await self.stats.retry(lambda: self.store.append(documents))

    def _drop_settled(self) -> None:
        at_rest = [uid for uid, reduction in self.reductions.items() if reduction.at_rest]
        for uid in at_rest[:-AT_REST_KEPT]:
            if self._saved.get(uid) == self.reductions[uid].summary():
                self._drop(uid)

    def _forget(self, uid: str) -> None:
        """Drop a run that has left the store."""
        if uid in self.reductions:
            self._drop(uid)
        self._dropped.pop(uid, None)
        self.on_evicted(uid)
