"""The runs of one server process, followed once for all its tabs.

One task reads the stream and folds it; every tab reads the same :class:`~snakemap.core.run.Run`, at its own pace.
Everything runs on the server's event loop, without locks and copies.
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
from snakemap.store.redis_info import RedisCondition, read_condition
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
"""How long after its point a preview frame is polled for."""


FrameKey = tuple[str, str]
"""Uid of a run, and the name of a camera; empty for the main one."""


class RunFollower:
    """Follows the store for a process.

    Args:
        store: the document store.
        defaults: geometry of runs whose documents have none.
        period_s: shortest time between two calls of a subscriber.

    Attributes:
        runs: runs that are kept up to date, by uid.
        past: the same runs at earlier moments.
        newest: uid of the run that began last, or None.
        summaries: the list of runs, newest first; read once a second while there are subscribers.
        reports: heartbeats of the other processes, by name, like ``reports["ingest"]["broker"]``.
        progress: progress of moving devices; empty without recent progress.
        store_lost_since: seconds since 1970, or None while Redis answers.
        condition: whether Redis accepts writes; read with the reports.
    """

    def __init__(self, store: Store, *, defaults: ScanDefaults | None = None, period_s: float = 0.1) -> None:
        self.store = store
        self.defaults = defaults or ScanDefaults()
        self._loader = RunLoader(store, defaults=self.defaults)
        self.past = RunHistory(store, defaults=self.defaults)
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
        self._frames: dict[FrameKey, tuple[npt.NDArray[Any], int | None]] = {}
        self._frames_shown: dict[object, FrameKey] = {}
        self._frames_at: dict[FrameKey, tuple[int, float]] = {}

    def start(self) -> None:
        """Start following, once. Needs a running event loop, to which it is bound.

        Raises:
            BeamlineClosed: when it follows in another event loop already.
        """
        if self._tasks:
            self.check_loop()
            return
        works = (self._follow, self._poll, self._poll_frames, self._subscribers.run)
        # in contexts of their own, or the session that starts them would live as long as they do
        self._tasks = [
            asyncio.create_task(work(), name=f"live {work.__name__}", context=contextvars.Context()) for work in works
        ]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that follows; None before the start and after the end."""
        return self._tasks[0].get_loop() if self._tasks else None

    def check_loop(self) -> None:
        """Raise BeamlineClosed in another event loop than the one that follows."""
        if self.loop is not None and asyncio.get_running_loop() is not self.loop:
            raise BeamlineClosed("its runs are followed in another event loop; make one Beamline for each server")

    async def close(self) -> None:
        """Stop following."""
        tasks = [*self._tasks, *self._loading.values()]
        self._tasks = []
        await cancel_tasks(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` after updates, at most once a period; it carries no data and must not block."""
        self._subscribers.add(key, wake)

    def unwatch(self, key: object) -> None:
        """End :meth:`watch`."""
        self._subscribers.remove(key)

    @property
    def watchers(self) -> int:
        """Number of subscribers."""
        return len(self._subscribers)

    async def open(self, uid: str) -> Run:
        """Return a run, up to date, and kept so until :meth:`release`.

        Raises:
            RunNotFound: when the store has no such run.
            StoreUnavailable: when Redis cannot be reached.
        """
        # counted before it is loaded, so that it is not dropped meanwhile
        self._users[uid] = self._users.get(uid, 0) + 1
        try:
            return self.runs.get(uid) or await self._load(uid)
        except BaseException:
            self.release(uid)
            raise

    def release(self, uid: str) -> None:
        """End one :meth:`open`; a few unused runs are kept."""
        left = self._users.get(uid, 0) - 1
        if left > 0:
            self._users[uid] = left
        else:
            self._users.pop(uid, None)
        self._forget()

    def frame(self, uid: str, source: str = "") -> tuple[npt.NDArray[Any] | None, int | None]:
        """Return the newest preview frame of a run and the seq_num of its point; None before the first.

        Args:
            uid: of the run.
            source: camera, a name in :attr:`Run.sources`; empty for the main one.
        """
        return self._frames.get((uid, source), (None, None))

    def show_frames_of(self, key: object, uid: str | None, source: str = "") -> None:
        """Fetch the frames of a run's camera while a tab shows them; None ends this."""
        if uid is None:
            self._frames_shown.pop(key, None)
        else:
            self._frames_shown[key] = (uid, source)

    def fold(self, entries: Iterable[Entry]) -> None:
        """Fold entries of the stream into the runs; invalid ones are logged and ignored."""
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
        """Return whether an entry has been folded already; coalesced entries are not distinct later."""
        run = self.runs.get(entry.run)
        return run is not None and cursor_numbers(entry.cursor) <= cursor_numbers(run.cursor)

    def _begin(self, entry: Entry) -> None:
        try:
            run = self._loader.begin(entry)
        except Exception:  # an invalid run must not affect the others
            log.exception("run %s cannot begin", entry.run)
            return
        self.runs[run.uid] = run
        if not run.opened:  # an opened file is shown by the tab that opened it
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
        """Fold a run from its beginning, then the entries that were followed meanwhile, without a gap."""
        self._arrived[uid] = []
        try:
            while True:
                restarts, self._arrived[uid] = self._restarts, []
                await self._begin_at()
                run = await self._loader.load(uid)
                if restarts == self._restarts:  # else the store was replaced meanwhile
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
        """Drop everything that was read from a replaced store; runs in use are read again."""
        self._place, self.newest = None, None
        self._restarts += 1
        self.runs.clear()
        self.summaries, self.progress = [], []
        self._frames.clear()
        self._frames_at.clear()
        self.past.forget()
        self._subscribers.notify()

    async def _catch_up(self) -> None:
        """Read the list of runs, open the newest run, and load the runs in use."""
        await self._begin_at()
        self.summaries = await self.store.summaries()
        await self._open_newest()
        for uid in [uid for uid in self._users if uid not in self.runs]:
            await self._reopen(uid)
        self._found()

    async def _reopen(self, uid: str) -> None:
        """Load a run in use again; a run that is missing from the store is shown again when it is back."""
        try:
            await self._load(uid)
        except (RunNotFound, DocumentError) as trouble:
            log.warning("a run in use is missing from the store: %s", trouble)

    async def _open_newest(self) -> None:
        """Switch to the newest run of the list, if its start document came before the follower started."""
        uids = measured_uids(self.summaries)
        if not uids or uids[0] == self.newest or (self.newest is not None and self.newest not in uids):
            return  # a run that is not in the list yet has just begun
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
            log.info("Redis is back after %.1f s", time.time() - self.store_lost_since)
            self._subscribers.notify()
        self.store_lost_since, self.store_trouble = None, ""
        self.ready.set()

    async def _poll(self) -> None:
        """Read reports and the list of runs once a second, while there are subscribers."""
        while True:
            await asyncio.sleep(REPORTS_PERIOD_S)
            if not self._subscribers or self.store_lost_since is not None:
                self._subscribers.notify()
                continue
            try:
                self.reports = await self.store.reports()
                self.condition = refuses_of(self.reports, await read_condition(self.store))
                self.summaries = await self.store.summaries()
                await self._open_newest()
            except StoreUnavailable as trouble:
                self._lost(str(trouble))
            self._subscribers.notify()

    async def _poll_frames(self) -> None:
        """Fetch the newest preview frame of each displayed camera, at most four times a second."""
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

    async def _fetch_frame(self, of: FrameKey) -> None:
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
