"""The worker as a whole: one a store, with a heartbeat, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from snakemap import __version__
from snakemap.core.geometry import ScanDefaults
from snakemap.errors import SettingsError, SnakemapError, StoreUnavailable
from snakemap.hdf5.frame_reader import FrameReader
from snakemap.ingest.dask_reader import AT_ONCE, DaskCluster, DaskReader
from snakemap.ingest.event_log_files import EventLogFiles
from snakemap.ingest.event_log_writer import EventLogWriter
from snakemap.ingest.listener import Listener
from snakemap.ingest.reader_pool import ReaderPool
from snakemap.ingest.reducer import Reducer
from snakemap.ingest.timing import Clock, Timeouts
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.interfaces import SharedState
from snakemap.store.store import Store
from snakemap.store.tasks import cancel_tasks, end_if_cancelled
from snakemap.transport.stomp_source import StompSource

__all__ = ["Worker", "ingest", "run"]

log = logging.getLogger(__name__)

PART = "ingest"
"""The worker's name among the leases and the heartbeats."""


PATIENCE = 15
"""How far those stand back who read finished files; 19 is farthest."""


class BrokerState(Protocol):
    """What the heartbeat tells of the broker."""

    @property
    def state(self) -> str: ...
    @property
    def since(self) -> float: ...
    @property
    def queued(self) -> int: ...
    @property
    def oversized(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def held_s(self) -> float: ...
    @property
    def subscription(self) -> str: ...


class LeaseLost(Exception):
    """Another worker has taken our place, because we were silent for too long."""


class Worker:
    """Both halves, and what holds them together: a lease, so that a store has one worker, and a heartbeat.

    Args:
        store: where the lease and the heartbeat are kept.
        reducer: sees to the runs in the store.
        tally: the clock, and what has been counted.
        listener: brings documents into the store; None where there is no broker.
        broker: the listener's, for the heartbeat.
        scribe: keeps the log of events; None for no log.
        holder: who we are, ``"host:pid"``.
    """

    def __init__(
        self,
        store: SharedState,
        reducer: Reducer,
        *,
        tally: WorkerStats,
        listener: Listener | None = None,
        broker: BrokerState | None = None,
        scribe: EventLogWriter | None = None,
        holder: str = "",
    ) -> None:
        self.store = store
        self.reducer = reducer
        self.tally = tally
        self.listener = listener
        self.broker = broker
        self.scribe = scribe
        self.holder = holder or own_name()
        self._leads_until = float("-inf")

    @property
    def leads(self) -> bool:
        """Whether the lease is ours for certain, by a clock that nobody sets: no other worker can have it now."""
        return self.tally.clock.steady() < self._leads_until

    async def work(self) -> None:
        """Go on until it is cancelled; begins anew when it has lost its place to another worker and got it back."""
        try:
            while True:
                await self._take_lease()
                try:
                    # a task of its own, because a task group that fails leaves its task marked as cancelled
                    await asyncio.create_task(self._serve(), name="worker, serving")
                except* LeaseLost:
                    log.warning("another worker uses this store now; this one waits until that one ends")
        finally:
            await self._release_lease()

    async def _serve(self) -> None:
        """Go on until it is cancelled, or until our place is lost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name="heartbeat")
            group.create_task(self.reducer.reduce(), name="reducer")
            if self.scribe is not None:
                group.create_task(self.scribe.write(), name="scribe")
            if self.listener is not None:
                group.create_task(self._listen(self.listener), name="listener")

    async def _listen(self, listener: Listener) -> None:
        """Listen while the lease is ours, and not a moment longer: the messages may be another worker's by then."""
        clock, look_s = self.tally.clock, self.tally.pace.report_s / 4
        while True:
            while not self.leads:
                await clock.sleep(look_s)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(listener.listen(), name="listening")
                while self.leads:
                    await clock.sleep(look_s)
                log.warning("the lease cannot be renewed; messages wait at the broker until it is")
                await cancel_tasks(listening)

    async def _take_lease(self) -> None:
        """Return when we are the only worker; a dead one on this host is replaced at once."""
        clock, pace = self.tally.clock, self.tally.pace
        said, vacant_since = "", float("-inf")
        while True:
            other = await self.tally.insist(lambda: self.store.holder(PART)) or ""
            dead = other if other and self._is_dead(other) else None
            if other:
                vacant_since = clock.steady()
            if not other or other == self.holder or dead:
                # a worker that is alive takes a lost lease back within a second; it knows the runs that are open
                waited = not said or dead or clock.steady() - vacant_since >= pace.vacant_s
                if waited and await self.tally.insist(lambda dead=dead: self._renew(instead_of=dead)):
                    return
            elif other != said:
                log.warning("waiting: %s is the worker of this store", other)
                said = other
            await clock.sleep(pace.report_s / 4)

    async def _renew(self, *, instead_of: str | None = None) -> bool:
        """Take the lease or renews it; the time that it holds is counted from before we asked."""
        asked = self.tally.clock.steady()
        if not await self.store.lease(PART, self.holder, self.tally.pace.lease_s, instead_of=instead_of):
            self._leads_until = float("-inf")
            return False
        self._leads_until = asked + self.tally.pace.lease_s
        return True

    def _is_dead(self, other: str) -> bool:
        """Return whether another worker was on this host and is no more."""
        host, _, pid = other.rpartition(":")
        if host != self.holder.rpartition(":")[0] or not pid.isdecimal():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    async def _release_lease(self) -> None:
        try:
            await self.store.release(PART, self.holder)
        except StoreUnavailable as trouble:
            log.info("the lease ends by itself: %s", trouble)

    async def _beat(self) -> None:
        pace = self.tally.pace
        while True:
            try:
                if not await self._renew():
                    raise LeaseLost
                await self.store.report(PART, self.report(), ttl_s=5 * pace.report_s)
            except StoreUnavailable as trouble:
                self.tally.store_lost(trouble)
            end_if_cancelled()
            await self.tally.clock.sleep(pace.report_s)

    def report(self) -> dict[str, Any]:
        """Return the heartbeat: plain JSON."""
        return {
            "broker": self.broker.state if self.broker else "none",
            "broker_since": self.broker.since if self.broker else None,
            "queue": self.broker.queued if self.broker else 0,
            "received": self.listener.received if self.listener else 0,
            "oversized": self.broker.oversized if self.broker else 0,
            "held": self.broker.held if self.broker else 0,
            "held_s": round(self.broker.held_s, 1) if self.broker else 0.0,
            "orphans": self.listener.orphans if self.listener else 0,
            "subscription": self.broker.subscription if self.broker else "",
            "refused": self.tally.refused,
            "worker_state": self.tally.worker_state,
            "task_id": self.tally.task_id,
            "waiting": self.reducer.waiting,
            "readers_replaced": self.reducer.replaced,
            "work": self.tally.work.told(),
            "errors": dict(self.tally.errors),
            "version": __version__,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": self.tally.clock.now(),
        }


def own_name() -> str:
    """This process among the holders of leases, ``"host:pid"``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _listening_since(broker: StompSource | None) -> Callable[[], float | None]:
    if broker is None:
        return lambda: 0.0
    return lambda: broker.since if broker.state == "connected" else None


def _broker(settings: Settings) -> StompSource | None:
    if not settings.stomp_url:
        return None
    return StompSource(
        settings.stomp_url,
        destination=settings.stomp_destination,
        subscription=settings.stomp_subscription or _subscription(settings.redis_url.rpartition("@")[2]),
    )


def _scribe(settings: Settings, store: Store, tally: WorkerStats) -> EventLogWriter | None:
    if settings.log_dir is None:
        return None
    keep_bytes = int(settings.log_max_gb * 1e9)
    return EventLogWriter(
        store, EventLogFiles(settings.log_dir, keep_days=settings.keep_days, keep_bytes=keep_bytes), tally=tally
    )


def _reader(settings: Settings, *, nice: int = 0) -> FrameReader:
    return FrameReader(
        settings.root,
        path_map=settings.path_map,
        locking=settings.file_locking,
        time_limit_s=settings.file_timeout_s,
        nice=nice,
    )


def _cluster_reader(settings: Settings, cluster: DaskCluster) -> DaskReader:
    own = _reader(settings, nice=PATIENCE)
    return DaskReader(cluster, own.terms, make=lambda: own)


def _subscription(place: str) -> str:
    """Return the name of a queue that is always the same for this host and a store, and no other's."""
    return f"snakemap-{socket.gethostname()}-{uuid5(NAMESPACE_URL, place).hex[:12]}"


async def ingest(settings: Settings, *, stop: asyncio.Event) -> None:
    """Work until ``stop`` is set: from the broker into the store, from the files into the maps.

    Args:
        settings: of the process, ``redis_url`` among them; :func:`run` fills it in where it is empty.
        stop: ends the work; what is unfinished goes on with the next start.

    Raises:
        SettingsError: when a setting cannot be used.
    """
    if not settings.redis_url:
        raise SettingsError("SNAKEMAP_REDIS_URL: the worker needs to know its store")
    clock, pace = Clock(), Timeouts(file_timeout_s=settings.file_timeout_s, silence_s=settings.silence_s)
    tally = WorkerStats(clock, pace)
    name = own_name()
    store = Store(settings.redis_url, documents_max=settings.documents_max, keep_days=settings.keep_days, worker=name)
    broker = _broker(settings)
    readers = ReaderPool(lambda: _reader(settings))
    # finished files have processes of their own, which stand back behind those of scans that are taken; two at least,
    # because one waits for us while the other reads
    at_once = max(2, len(os.sched_getaffinity(0)) - 1)
    cluster = DaskCluster(settings.dask) if settings.dask else None
    patient = ReaderPool(lambda: _reader(settings, nice=PATIENCE), at_most=at_once)
    if cluster is not None:
        at_once = AT_ONCE
        patient = ReaderPool(lambda: _cluster_reader(settings, cluster), at_most=at_once)
    scribe = _scribe(settings, store, tally)
    listener = Listener(broker, store, tally=tally, scribe=scribe) if broker else None
    reducer = Reducer(
        store,
        readers,
        defaults=ScanDefaults(settings.grid, snake=settings.snake),
        rois=settings.rois,
        tally=tally,
        listening_since=_listening_since(broker),
        on_evicted=listener.forget if listener else lambda uid: None,
        patient=patient,
        at_once=at_once,
    )
    worker = Worker(store, reducer, tally=tally, listener=listener, broker=broker, scribe=scribe, holder=name)
    try:
        await _start(readers)
        await _until(stop, worker.work())
    finally:
        if broker is not None:
            await broker.close()
        await readers.close()
        await patient.close()
        if cluster is not None:
            await cluster.close()
        await store.close()


async def _start(readers: ReaderPool) -> None:
    """Have a reader ready before the first frame; one that does not start now is tried again with that frame."""
    try:
        await readers.start()
    except SnakemapError as trouble:
        log.error("frames cannot be read: %s", trouble)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Work until told to stop, or until the work fails."""
    working, stopping = asyncio.create_task(work, name="worker"), asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def run(settings: Settings) -> int:
    """Return the whole life of a worker process: ends in good order on SIGINT and SIGTERM.

    Where no Redis is set, the private one is joined, and started when nobody has.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when a setting cannot be used.
    """
    if settings.redis_url:
        asyncio.run(_with_signals(settings))
        return 0
    # the address of the private Redis may change from one start to the next, and the name of our queue must not
    name = settings.stomp_subscription or _subscription(str(settings.state_dir))
    with EmbeddedRedis(settings.state_dir) as url:
        asyncio.run(_with_signals(settings.model_copy(update={"redis_url": url, "stomp_subscription": name})))
    return 0


async def _with_signals(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await ingest(settings, stop=stop)
