"""The worker process: lease, heartbeat, start and end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from snakemap import __version__
from snakemap.core.geometry import ScanDefaults
from snakemap.core.source_status import SourceState
from snakemap.errors import SettingsError, SnakemapError, StoreUnavailable
from snakemap.hdf5.frame_reader import FrameReader
from snakemap.ingest.block_loop import BlockLoop
from snakemap.ingest.dask_reader import AT_ONCE, DaskCluster, DaskReader
from snakemap.ingest.event_log_files import EventLogFiles
from snakemap.ingest.event_log_writer import EventLogWriter
from snakemap.ingest.listener import Listener
from snakemap.ingest.reader_pool import ReaderPool
from snakemap.ingest.reducer import Reducer
from snakemap.ingest.timing import Clock, Timeouts
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.live.block_maker import BlockMaker
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.interfaces import SharedState
from snakemap.store.store import Store
from snakemap.store.tasks import cancel_tasks, end_if_cancelled
from snakemap.transport.document_source import DocumentSource
from snakemap.transport.merged_source import MergedSource
from snakemap.transport.sources import open_source

__all__ = ["Worker", "ingest", "run"]

log = logging.getLogger(__name__)

PART = "ingest"
"""Name of the worker's lease and heartbeat."""


BACKGROUND_NICE = 15
"""Niceness of readers of finished files, 0 to 19."""


class LeaseLost(Exception):
    """Another worker has taken the lease."""


class Worker:
    """Both halves of the worker, a lease so that a store has one worker, and a heartbeat.

    Args:
        store: for lease and heartbeat.
        reducer: second half.
        stats: clock and counts.
        listener: first half; None without a document source.
        event_log: writer of the event log; None for no log.
        blocks: makes sums of blocks of frames; None for none.
        holder: name of this worker, ``"host:pid"``.
    """

    def __init__(
        self,
        store: SharedState,
        reducer: Reducer,
        *,
        stats: WorkerStats,
        listener: Listener | None = None,
        event_log: EventLogWriter | None = None,
        blocks: BlockLoop | None = None,
        holder: str = "",
    ) -> None:
        self.store = store
        self.reducer = reducer
        self.stats = stats
        self.listener = listener
        self.event_log = event_log
        self.blocks = blocks
        self.holder = holder or own_name()
        self._leads_until = float("-inf")

    @property
    def leads(self) -> bool:
        """Whether this worker certainly holds the lease, by the monotonic clock."""
        return self.stats.clock.steady() < self._leads_until

    async def work(self) -> None:
        """Work until cancelled; wait again after another worker has taken the lease."""
        try:
            while True:
                await self._take_lease()
                try:
                    # a task of its own: a failed task group leaves its task marked as cancelled
                    await asyncio.create_task(self._serve(), name="worker, serving")
                except* LeaseLost:
                    log.warning("another worker uses this store now; waiting until it ends")
        finally:
            await self._release_lease()

    async def _serve(self) -> None:
        """Work until cancelled, or until the lease is lost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name="heartbeat")
            group.create_task(self.reducer.reduce(), name="reducer")
            if self.event_log is not None:
                group.create_task(self.event_log.write(), name="event log writer")
            if self.blocks is not None:
                group.create_task(self.blocks.work(), name="sums of blocks")
            if self.listener is not None:
                group.create_task(self._listen(self.listener), name="listener")

    async def _listen(self, listener: Listener) -> None:
        """Listen only while the lease is held: otherwise the messages may belong to another worker."""
        clock, look_s = self.stats.clock, self.stats.timeouts.report_s / 4
        while True:
            while not self.leads:
                await clock.sleep(look_s)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(listener.listen(), name="listening")
                while self.leads:
                    await clock.sleep(look_s)
                log.warning("the lease cannot be renewed; messages wait in the broker until it is")
                await cancel_tasks(listening)

    async def _take_lease(self) -> None:
        """Return when this is the only worker; a dead worker on this host is replaced at once."""
        clock, timeouts = self.stats.clock, self.stats.timeouts
        logged, vacant_since = "", float("-inf")
        while True:
            other = await self.stats.retry(lambda: self.store.holder(PART)) or ""
            dead = other if other and self._is_dead(other) else None
            if other:
                vacant_since = clock.steady()
            if not other or other == self.holder or dead:
                # a running worker takes a lost lease back within a second; it knows the open runs
                waited = not logged or dead or clock.steady() - vacant_since >= timeouts.vacant_s
                if waited and await self.stats.retry(lambda dead=dead: self._renew(instead_of=dead)):
                    return
            elif other != logged:
                log.warning("waiting: %s is the worker of this store", other)
                logged = other
            await clock.sleep(timeouts.report_s / 4)

    async def _renew(self, *, instead_of: str | None = None) -> bool:
        """Take or renew the lease; it counts from before the request."""
        asked = self.stats.clock.steady()
        if not await self.store.lease(PART, self.holder, self.stats.timeouts.lease_s, instead_of=instead_of):
            self._leads_until = float("-inf")
            return False
        self._leads_until = asked + self.stats.timeouts.lease_s
        return True

    def _is_dead(self, other: str) -> bool:
        """Return whether another worker was on this host and has ended."""
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
            log.info("the lease expires: %s", trouble)

    async def _beat(self) -> None:
        timeouts = self.stats.timeouts
        while True:
            try:
                if not await self._renew():
                    raise LeaseLost
                await self.store.report(PART, self.report(), ttl_s=5 * timeouts.report_s)
            except StoreUnavailable as trouble:
                self.stats.store_lost(trouble)
            end_if_cancelled()
            await self.stats.clock.sleep(timeouts.report_s)

    def report(self) -> dict[str, Any]:
        """Return the heartbeat as JSON."""
        return {
            **_source_report(self.listener),
            "refused": self.stats.refused,
            "worker_state": self.stats.worker_state,
            "task_id": self.stats.task_id,
            "waiting": self.reducer.waiting,
            "readers_replaced": self.reducer.replaced,
            "work": self.stats.work.to_json(),
            "errors": dict(self.stats.errors),
            "version": __version__,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": self.stats.clock.now(),
        }


def own_name() -> str:
    """Return the name of this process as a lease holder, ``"host:pid"``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _source_report(listener: Listener | None) -> dict[str, Any]:
    """Return the part of the heartbeat about the document source."""
    source = listener.source if listener else None
    return {
        "broker": str(source.status) if source else str(SourceState.NONE),
        "broker_since": source.status.since if source else None,
        "queue": source.queued if source else 0,
        "received": listener.received if listener else 0,
        "oversized": source.oversized if source else 0,
        "held": source.held if source else 0,
        "held_s": round(source.held_s, 1) if source else 0.0,
        "orphans": listener.orphans if listener else 0,
        "subscription": source.subscription if source else "",
        "sources": [_one_source(name, one) for name, one in source.sources.items()]
        if isinstance(source, MergedSource)
        else [],
    }


def _one_source(name: str, source: DocumentSource) -> dict[str, Any]:
    """Return the part of the heartbeat about one of several sources."""
    return {
        "name": name,
        "broker": str(source.status),
        "held": source.held,
        "held_s": round(source.held_s, 1),
        "subscription": source.subscription,
    }


def _listening_since(source: DocumentSource | None) -> Callable[[], float | None]:
    return (lambda: 0.0) if source is None else (lambda: source.status.connected_since)


def _with_subscription(settings: Settings, place: str) -> Settings:
    """Return settings with a name of the queue; its default is stable for this host and a store."""
    name = settings.stomp_subscription or f"snakemap-{socket.gethostname()}-{uuid5(NAMESPACE_URL, place).hex[:12]}"
    return settings.model_copy(update={"stomp_subscription": name})


def _event_log(settings: Settings, store: Store, stats: WorkerStats) -> EventLogWriter | None:
    if settings.log_dir is None:
        return None
    keep_bytes = int(settings.log_max_gb * 1e9)
    return EventLogWriter(
        store, EventLogFiles(settings.log_dir, keep_days=settings.keep_days, keep_bytes=keep_bytes), stats=stats
    )


def _cluster_reader(settings: Settings, cluster: DaskCluster) -> DaskReader:
    own = FrameReader.of(settings, nice=BACKGROUND_NICE)
    return DaskReader(cluster, own.config, make=lambda: own)


async def ingest(settings: Settings, *, stop: asyncio.Event) -> None:
    """Run the worker until ``stop`` is set.

    Args:
        settings: of the process, with ``redis_url``; :func:`run` sets it where it is empty.
        stop: ends the worker; unfinished work continues at the next start.

    Raises:
        SettingsError: when a setting is invalid.
    """
    if not settings.redis_url:
        raise SettingsError("SNAKEMAP_REDIS_URL: the worker needs a Redis address")
    clock, timeouts = Clock(), Timeouts(file_timeout_s=settings.file_timeout_s, silence_s=settings.silence_s)
    stats = WorkerStats(clock, timeouts)
    name = own_name()
    store = Store(settings.redis_url, documents_max=settings.documents_max, keep_days=settings.keep_days, worker=name)
    source = open_source(_with_subscription(settings, settings.redis_url.rpartition("@")[2]))
    readers = ReaderPool(lambda: FrameReader.of(settings))
    # finished files have reader processes of their own, with lower priority than those of current scans; at least two,
    # because one waits for the worker while the other reads
    at_once = max(2, len(os.sched_getaffinity(0)) - 1)
    cluster = DaskCluster(settings.dask) if settings.dask else None
    background = ReaderPool(lambda: FrameReader.of(settings, nice=BACKGROUND_NICE), at_most=at_once)
    if cluster is not None:
        at_once = AT_ONCE
        background = ReaderPool(lambda: _cluster_reader(settings, cluster), at_most=at_once)
    event_log = _event_log(settings, store, stats)
    listener = Listener(source, store, stats=stats, event_log=event_log) if source else None
    reducer = Reducer(
        store,
        readers,
        defaults=ScanDefaults(settings.grid, snake=settings.snake),
        rois=settings.rois,
        stats=stats,
        listening_since=_listening_since(source),
        on_evicted=listener.forget if listener else lambda uid: None,
        background=background,
        at_once=at_once,
    )
    maker = BlockMaker.of(settings)
    blocks = BlockLoop(maker, lambda: reducer.reductions, stats=stats) if maker is not None else None
    worker = Worker(store, reducer, stats=stats, listener=listener, event_log=event_log, blocks=blocks, holder=name)
    try:
        await _start(readers)
        await _until(stop, worker.work())
    finally:
        if source is not None:
            await source.close()
        await readers.close()
        await background.close()
        if maker is not None:
            await maker.close()
        if cluster is not None:
            await cluster.close()
        await store.close()


async def _start(readers: ReaderPool) -> None:
    """Start a reader before the first frame; a failed start is repeated with that frame."""
    try:
        await readers.start()
    except SnakemapError as trouble:
        log.error("frames cannot be read: %s", trouble)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Work until ``stop`` is set, or until the work fails."""
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
    """Run the worker process until SIGINT or SIGTERM.

    Without a Redis address it uses the embedded Redis, which it starts if necessary.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when a setting is invalid.
    """
    if settings.redis_url:
        asyncio.run(_with_signals(settings))
        return 0
    # the address of the embedded Redis may change between starts, the name of the queue must not
    settings = _with_subscription(settings, str(settings.state_dir))
    with EmbeddedRedis(settings.state_dir) as url:
        asyncio.run(_with_signals(settings.model_copy(update={"redis_url": url})))
    return 0


async def _with_signals(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await ingest(settings, stop=stop)
