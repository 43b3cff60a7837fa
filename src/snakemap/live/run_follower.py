"""The runs of one server process, followed once for all its tabs.

One task reads the stream and folds it; every tab looks at the same :class:`~snakemap.core.run.Run`, at its own pace.
All of it happens on the server's event loop, so that nothing is locked and nothing is copied.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import numpy.typing as npt

from snakemap.core.coalesce import coalesce
from snakemap.core.cursor import BEGINNING, cursor_numbers
from snakemap.core.documents import Entry
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.errors import BeamlineClosed, DocumentError, RunNotFound, StoreRewound, StoreUnavailable
from snakemap.live.run_history import RunHistory
from snakemap.live.run_loader import RunLoader
from snakemap.live.subscribers import Subscribers
from snakemap.store.readiness import refuses_of
from snakemap.store.redis_info import RedisCondition, condition
from snakemap.store.run_index import measured_uids
from snakemap.store.store import Store, StreamPosition
from snakemap.store.tasks import cancel_tasks

__all__ = ["RunFollower"]

log = logging.getLogger(__name__)

RETRY_S = 1.0
REPORTS_PERIOD_S = 1.0
IDLE_RUNS_KEPT = 4
FRAME_PERIOD_S = 0.25
FRAME_LATE_S = 2.0
"""How long after its point a frame may come; so long it is asked for."""


Shown = tuple[str, str]
"""Uid of a run, and the name of a camera of it; empty for the main one."""


class RunFollower:
    """Follows the store for a process.

    Args:
        store: the documents.
        habits: what to assume where they are silent.
        period_s: shortest time between two updates of a tab.

    Attributes:
        runs: those that are kept up to date, by uid.
        past: the same runs as they were.
        newest: uid of the run that began last, or None.
        summaries: what the list of runs shows, newest first; read anew once a second while anyone looks.
        reports: what the other processes say of themselves, by name, like ``reports["ingest"]["broker"]``.
        progress: how far the devices are that the plan waits for; empty when nothing was heard lately.
        store_lost_since: seconds since 1970, or None while Redis answers.
        condition: whether a Redis that answers stores what is new; read with the reports.
    """

    def __init__(self, store: Store, *, habits: ScanDefaults | None = None, period_s: float = 0.1) -> None:
        self.store = store
        self.habits = habits or ScanDefaults()
        self._loader = RunLoader(store, habits=self.habits)
        self.past = RunHistory(store, habits=self.habits)
        self.runs: dict[str, Run] = {}
        self.newest: str | None = None
        self.summaries: list[dict[str, Any]] = []
        self.reports: dict[str, dict[str, Any]] = {}
        self.progress: list[dict[str, Any]] = []
        self.store_lost_since: float | None = None
        self.store_trouble = ""
        self.condition = RedisCondition()
        self.ready = asyncio.Event()
        self._subscribers = Subscribers(period_s)
        self._users: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loading: dict[str, asyncio.Task[Run]] = {}
        self._arrived: dict[str, list[Entry]] = {}
        self._place: StreamPosition | None = None
        self._restarts = 0
        self._frames: dict[Shown, tuple[npt.NDArray[Any], int | None]] = {}
        self._frames_shown: dict[object, Shown] = {}
        self._frames_at: dict[Shown, tuple[int, float]] = {}

    def start(self) -> None:
        """Begin to follow; calling it again does nothing. Needs a running event loop, and keeps to it.

        Raises:
            BeamlineClosed: when it is followed by another event loop already.
        """
        if self._tasks:
            self.check_loop()
            return
        works = (self._follow, self._look, self._watch_frames, self._subscribers.run)
        # in a context of their own, or the session that happens to start them lives as long as they do
        self._tasks = [
            asyncio.create_task(work(), name=f"live {work.__name__}", context=contextvars.Context()) for work in works
        ]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that follows; None before it has begun, and when it has ended."""
        return self._tasks[0].get_loop() if self._tasks else None

    def check_loop(self) -> None:
        """Raise BeamlineClosed in an event loop that is not the one that follows."""
        if self.loop is not None and asyncio.get_running_loop() is not self.loop:
            raise BeamlineClosed("its runs are followed by another event loop; make one Beamline for each server")

    async def close(self) -> None:
        """Stop following."""
        tasks = [*self._tasks, *self._loading.values()]
        self._tasks = []
        await cancel_tasks(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` after news, at most once a period; it carries no data and must not block."""
        self._subscribers.add(key, wake)

    def unwatch(self, key: object) -> None:
        """End :meth:`watch`."""
        self._subscribers.remove(key)

    @property
    def watchers(self) -> int:
        """Tabs that are being woken."""
        return len(self._subscribers)

    async def open(self, uid: str) -> Run:
        """Return the run, with everything so far, kept up to date until :meth:`release`.

        Raises:
            RunNotFound: when the store has no such run.
            StoreUnavailable: when Redis is away.
        """
        # counted before it is loaded, so that it is not forgotten on the way
        self._users[uid] = self._users.get(uid, 0) + 1
        try:
            return self.runs.get(uid) or await self._load(uid)
        except BaseException:
            self.release(uid)
            raise

    def release(self, uid: str) -> None:
        """End one :meth:`open`; runs that nobody looks at are forgotten after a few others."""
        left = self._users.get(uid, 0) - 1
        if left > 0:
            self._users[uid] = left
        else:
            self._users.pop(uid, None)
        self._forget()

    def frame(self, uid: str, source: str = "") -> tuple[npt.NDArray[Any] | None, int | None]:
        """Return the frame of a run that came last, downsampled, and the seq_num of its point; None before the first.

        Args:
            uid: of the run.
            source: the camera, as :attr:`Run.sources` names it; empty for the main one.
        """
        return self._frames.get((uid, source), (None, None))

    def show_frames_of(self, key: object, uid: str | None, source: str = "") -> None:
        """Fetch the frames of a run's camera while a tab shows them; None ends it."""
        if uid is None:
            self._frames_shown.pop(key, None)
        else:
            self._frames_shown[key] = (uid, source)

    def fold(self, entries: Iterable[Entry]) -> None:
        """Fold entries of the stream into the runs that are kept; what cannot be used is logged and left out."""
        for entry in coalesce(entry for entry in entries if not self._known(entry)):
            run = self.runs.get(entry.run)
            if run is not None:
                self._loader.apply(run, entry)
            elif entry.name == "start":
                self._begin(entry)
            elif entry.run in self._arrived:
                self._arrived[entry.run].append(entry)
        self._subscribers.notify()

    def _known(self, entry: Entry) -> bool:
        """Return whether an entry is in its run already; what comes joined has no order of its own any more."""
        run = self.runs.get(entry.run)
        return run is not None and cursor_numbers(entry.cursor) <= cursor_numbers(run.cursor)

    def _begin(self, entry: Entry) -> None:
        try:
            run = self._loader.begin(entry)
        except Exception:  # one run must not cost all tabs the others
            log.exception("run %s cannot begin", entry.run)
            return
        self.runs[run.uid] = run
        if not run.opened:  # that is for the tab that opened it
            self.newest = run.uid
        self._forget()

    def _forget(self) -> None:
        idle = [uid for uid in self.runs if uid not in self._users and uid != self.newest]
        for uid in idle[: max(0, len(idle) - IDLE_RUNS_KEPT)]:
            del self.runs[uid]

    async def _load(self, uid: str) -> Run:
        if uid not in self._loading:
            task = asyncio.create_task(self._read(uid), name=f"live load {uid}", context=contextvars.Context())
            self._loading[uid] = task
            task.add_done_callback(lambda _: self._loading.pop(uid, None))
        return await asyncio.shield(self._loading[uid])

    async def _read(self, uid: str) -> Run:
        """Fold a run from its beginning, and what the follower came by meanwhile, so that there is no gap between."""
        self._arrived[uid] = []
        try:
            while True:
                restarts, self._arrived[uid] = self._restarts, []
                await self._begin_at()
                run = await self._loader.load(uid)
                if restarts == self._restarts:  # else the store is another one by now
                    break
            loaded = cursor_numbers(run.cursor)
            for entry in self._arrived[uid]:
                if cursor_numbers(entry.cursor) > loaded:
                    self._loader.apply(run, entry)
        finally:
            del self._arrived[uid]
        return self.runs.setdefault(uid, run)

    async def _follow(self) -> None:
        while True:
            try:
                await self._catch_up()
                async with aclosing(self.store.follow(await self._begin_at())) as batches:
                    async for entries in batches:
                        self._found()
                        if entries:
                            self.fold(entries)
                            await asyncio.sleep(0)
            except StoreRewound as trouble:
                log.warning("all runs are folded again: %s", trouble)
                self._start_over()
            except StoreUnavailable as trouble:
                self._lost(str(trouble))
                await asyncio.sleep(RETRY_S)

    async def _begin_at(self) -> StreamPosition:
        """Return the cursor to follow from, fixed before any run is read, so that no run misses later entries."""
        if self._place is None:
            latest = await self.store.latest()
            self._place = self._place or StreamPosition(latest, read=latest != BEGINNING)
        return self._place

    def _start_over(self) -> None:
        """Forget all that was read from a store that is not the same any more; what is in use is read again."""
        self._place, self.newest = None, None
        self._restarts += 1
        self.runs.clear()
        self.summaries, self.progress = [], []
        self._frames.clear()
        self._frames_at.clear()
        self.past.forget()
        self._subscribers.notify()

    async def _catch_up(self) -> None:
        """Open the newest run."""
        await self._begin_at()
        self.summaries = await self.store.summaries()
        await self._open_newest()
        for uid in [uid for uid in self._users if uid not in self.runs]:
            await self._reopen(uid)
        self._found()

    async def _reopen(self, uid: str) -> None:
        """Read a run in use again; one that the store has no more is shown again when it comes back."""
        try:
            await self._load(uid)
        except (RunNotFound, DocumentError) as trouble:
            log.warning("a run that is in use has gone: %s", trouble)

    async def _open_newest(self) -> None:
        """Turn to the newest run of the list, whose beginning the follower may have come too late for."""
        uids = measured_uids(self.summaries)
        if not uids or uids[0] == self.newest or (self.newest is not None and self.newest not in uids):
            return  # a run that is not in the list has only just begun
        before = self.newest
        try:
            if uids[0] not in self.runs:
                await self._load(uids[0])
        except (RunNotFound, DocumentError) as trouble:
            log.warning("cannot show the newest run: %s", trouble)
            return
        if self.newest == before:
            self.newest = uids[0]

    def _lost(self, trouble: str) -> None:
        if self.store_lost_since is None:
            self.store_lost_since = time.time()
            log.warning("lost the store: %s", trouble)
        self.store_trouble = trouble
        self._subscribers.notify()

    def _found(self) -> None:
        if self.store_lost_since is not None:
            log.info("the store is back after %.1f s", time.time() - self.store_lost_since)
            self._subscribers.notify()
        self.store_lost_since, self.store_trouble = None, ""
        self.ready.set()

    async def _look(self) -> None:
        """Once a second, while anyone looks: the list of runs, and what the other processes report."""
        while True:
            await asyncio.sleep(REPORTS_PERIOD_S)
            if not self._subscribers or self.store_lost_since is not None:
                self._subscribers.notify()
                continue
            try:
                self.reports = await self.store.reports()
                self.condition = refuses_of(self.reports, await condition(self.store))
                self.summaries = await self.store.summaries()
                await self._open_newest()
            except StoreUnavailable as trouble:
                self._lost(str(trouble))
            self._subscribers.notify()

    async def _watch_frames(self) -> None:
        """Four times a second at most, fetches the last frame of every run whose frames are on a screen."""
        while True:
            await asyncio.sleep(FRAME_PERIOD_S)
            shown = set(self._frames_shown.values())
            self._frames = {of: frame for of, frame in self._frames.items() if of in shown}
            self._frames_at = {of: at for of, at in self._frames_at.items() if of in shown}
            for of in shown:
                await self._fetch_frame(of)
            await self._fetch_progress()

    async def _fetch_progress(self) -> None:
        if not self._subscribers or self.store_lost_since is not None:
            return
        try:
            progress = await self.store.progress()
        except StoreUnavailable as trouble:
            self._lost(str(trouble))
            return
        if progress != self.progress:
            self.progress = progress
            self._subscribers.notify()

    async def _fetch_frame(self, of: Shown) -> None:
        run = self.runs.get(of[0])
        if run is None or self.store_lost_since is not None:
            return
        version, since = self._frames_at.get(of, (-1, 0.0))
        if version != run.version:
            self._frames_at[of] = run.version, time.monotonic()
        elif time.monotonic() - since > FRAME_LATE_S:
            return
        try:
            found = await self.store.frame(*of)
        except StoreUnavailable as trouble:
            self._lost(str(trouble))
            return
        if found is None:
            return
        frame, about = found
        if of not in self._frames or about.get("seq_num") != self._frames[of][1]:
            self._subscribers.notify()
        self._frames[of] = (frame, about.get("seq_num"))
