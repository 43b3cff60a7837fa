"""A beamline of fakes for the worker: broker, store, files and clock in memory, and a scan that makes documents.

Time passes only when everybody waits for it, so that tests are quick and the same each time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.core.cursor import cursor_numbers
from snakemap.core.derived_documents import Rectangle
from snakemap.core.documents import WORKER, Document, Entry, Message, WorkerEvent, envelope
from snakemap.core.geometry import ScanDefaults
from snakemap.core.roi import Roi, sum_frames
from snakemap.core.run import Run
from snakemap.core.source_status import SourceState, SourceStatus
from snakemap.errors import (
    FileBroken,
    FileNotReady,
    FrameError,
    RunNotFound,
    SnakemapError,
    StoreRewound,
    StoreUnavailable,
)
from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameSums
from snakemap.ingest.event_log_files import EventLogFiles
from snakemap.ingest.event_log_writer import EventLogWriter
from snakemap.ingest.listener import Listener
from snakemap.ingest.reader_pool import ReaderPool
from snakemap.ingest.reducer import Reducer
from snakemap.ingest.timing import Clock, Timeouts
from snakemap.ingest.worker import Worker
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.store import StreamPosition
from snakemap.transport.document_source import Delivery

__all__ = [
    "Beamline",
    "FakeBroker",
    "FakeClock",
    "FakeFiles",
    "FakeStore",
    "Scan",
    "expected_map",
    "expected_maps",
    "folded",
]

SHAPE = (6, 4)
"""Rows and columns of the frames of a fake scan."""

TURNS = 60
"""Turns of the event loop after which everybody who can go on without time has gone on."""


class FakeClock(Clock):
    """Time that passes when it is told to.

    Attributes:
        time: seconds since 1970.
        ahead: by how much the wall clock is ahead of them, for a test that sets it.
    """

    def __init__(self, time: float = 1_795_000_000.0) -> None:
        self.time = time
        self.ahead = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.time + self.ahead

    def steady(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), future))
        await future

    async def until(self, condition: Callable[[], bool], *, at_most_s: float = 120.0) -> None:
        """Lets time pass until something is true; it is an error when it never is."""
        end = self.time + at_most_s
        while True:
            for _ in range(TURNS):
                if condition():
                    return
                await asyncio.sleep(0)
            assert self.time < end, "it never came to that"
            self._pass()

    async def advance(self, seconds: float) -> None:
        """Lets that much time pass."""
        end = asyncio.ensure_future(self.sleep(seconds))
        await self.until(end.done, at_most_s=seconds + 60)

    def _pass(self) -> None:
        """To the next moment that somebody waits for."""
        while self._sleepers:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.time = max(self.time, at)
                future.set_result(None)
                return
        self.time += 0.1


class FakeStore:
    """The store in memory; while it is down every call fails.

    Attributes:
        entries: the stream.
        runs: summaries by uid, in the order in which their runs began.
        frames: preview frames by uid, and by uid and source where that is not the main one.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.entries: list[Entry] = []
        self.runs: dict[str, dict[str, Any] | None] = {}
        self.frames: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {}
        self.reported: dict[str, dict[str, Any]] = {}
        self.leases: dict[str, str] = {}
        self.progress: list[dict[str, Any]] = []
        self.pictures: dict[str, bytes] = {}
        self.down = False
        self._news = asyncio.Event()
        self._owners: dict[str, str] = {}
        self._lives = 1

    def fail(self) -> None:
        """Goes down, and cuts off whoever waits for news."""
        self.down = True
        self._wake()

    def flush(self) -> None:
        """Loses everything, as a Redis without persistence does when it is killed."""
        self.entries, self.runs, self.frames, self._owners, self.leases = [], {}, {}, {}, {}
        self._lives += 1

    async def append(self, messages: Sequence[Message]) -> list[str]:
        self._check()
        cursors = [self._add(message) for message in messages]
        self._wake()
        await asyncio.sleep(0)
        return cursors

    async def read(self, after: str = "0", *, count: int = 1000, until: str = "+") -> list[Entry]:
        self._check()
        first, last = cursor_numbers(after), cursor_numbers(until) if until != "+" else (math.inf, 0)
        return [entry for entry in self.entries if first < cursor_numbers(entry.cursor) <= last][:count]

    async def check(self, place: StreamPosition) -> None:
        self._check()
        life = str(self._lives)
        there = not place.read or any(entry.cursor == place.cursor for entry in self.entries)
        if (place.life and place.life != life) or not there:
            raise StoreRewound("it was emptied")
        place.life = life

    async def follow(
        self, after: str | StreamPosition, *, block_ms: int = 1000, count: int = 100
    ) -> AsyncIterator[list[Entry]]:
        place = after if isinstance(after, StreamPosition) else StreamPosition(after)
        while True:
            news = self._news
            await self.check(place)
            entries = await self.read(place.cursor, count=count)
            if entries:
                place.cursor, place.read = entries[-1].cursor, True
            yield entries
            if not entries:
                await news.wait()

    async def run_entries(
        self, uid: str, *, after: str = "0", until: str = "", count: int = 1000
    ) -> AsyncIterator[list[Entry]]:
        read = await self.read(after, count=1_000_000, until=until or "+")
        own = [entry for entry in read if entry.run == uid]
        if uid not in self.runs:
            raise RunNotFound(f"no run {uid}")
        size = min(count, 7)
        for start in range(0, len(own), size):
            yield own[start : start + size]
            self._check()

    async def run_span(self, uid: str) -> tuple[str, str]:
        self._check()
        own = [entry.cursor for entry in self.entries if entry.run == uid]
        if uid not in self.runs or not own:
            raise RunNotFound(f"no run {uid}")
        return own[0], own[-1]

    async def span(self) -> tuple[str, str]:
        self._check()
        return (self.entries[0].cursor, self.entries[-1].cursor) if self.entries else ("0-0", "0-0")

    async def save_summary(self, uid: str, summary: dict[str, Any]) -> None:
        self._check()
        self.runs[uid] = orjson.loads(orjson.dumps(summary))

    async def summaries(self, *, count: int | None = None) -> list[dict[str, Any]]:
        self._check()
        return [summary for summary in reversed(self.runs.values()) if summary is not None][:count]

    async def save_frame(self, uid: str, frame: npt.NDArray[Any], *, about: dict[str, Any], source: str = "") -> None:
        self._check()
        self.frames[f"{uid} {source}" if source else uid] = (frame, about)

    async def latest(self) -> str:
        self._check()
        return self.entries[-1].cursor if self.entries else "0-0"

    async def save_progress(self, progress: list[dict[str, Any]]) -> None:
        self._check()
        self.progress = progress

    async def save_picture(self, uid: str, png: bytes) -> None:
        self._check()
        self.pictures[uid] = png

    async def owners(self) -> dict[str, str]:
        self._check()
        return dict(self._owners)

    async def evict(self) -> list[str]:
        self._check()
        return []

    async def report(self, part: str, state: dict[str, Any], *, ttl_s: float) -> None:
        self._check()
        self.reported[part] = state

    async def lease(self, name: str, holder: str, ttl_s: float, *, instead_of: str | None = None) -> bool:
        self._check()
        if self.leases.get(name, holder) not in (holder, instead_of):
            return False
        self.leases[name] = holder
        return True

    async def holder(self, name: str) -> str | None:
        self._check()
        return self.leases.get(name)

    async def release(self, name: str, holder: str) -> None:
        self._check()
        if self.leases.get(name) == holder:
            del self.leases[name]

    def of(self, name: str, run: str = "") -> list[dict[str, Any]]:
        """The documents of one name, oldest first."""
        return [entry.doc for entry in self.entries if entry.name == name and run in ("", entry.run)]

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("Redis at memory cannot be reached")

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _add(self, message: Message) -> str:
        last = cursor_numbers(self.entries[-1].cursor) if self.entries else (0, 0)
        milliseconds = int(self.clock.time * 1000)
        cursor = f"{milliseconds}-0" if milliseconds > last[0] else f"{last[0]}-{last[1] + 1}"
        if isinstance(message, WorkerEvent):
            self.entries.append(Entry(cursor, WORKER, "", message.task_id, message.body))
            return cursor
        doc = orjson.loads(orjson.dumps(message.doc))
        self.entries.append(Entry(cursor, message.name, message.run, message.task_id, doc))
        self.runs.setdefault(message.run, None)
        if message.name in ("start", "descriptor", "stream_resource"):
            self._owners[doc["uid"]] = message.run
        return cursor


class FakeFiles:
    """Files in memory.

    Attributes:
        frames: (frames, rows, columns), or numbers (points,), by uri.
        trouble: what reading a uri raises instead.
        broken: rows of a uri that cannot be read.
        hanging: uris whose reading never ends until :meth:`let_go`.
        unproved: rows of a uri of which nothing proves that they were written.
        reads: every batch of frames that was asked for.
        scalar_reads: every batch of numbers that was asked for.
        launches: how often the process that reads was started.
    """

    def __init__(self) -> None:
        self.launches = 1
        self.marks: tuple[FileFingerprint, ...] = ()
        self.frames: dict[str, npt.NDArray[Any]] = {}
        self.trouble: dict[str, SnakemapError] = {}
        self.broken: dict[str, set[int]] = {}
        self.unproved: dict[str, set[int]] = {}
        self.hanging: set[str] = set()
        self.reads: list[FrameBatch] = []
        self.scalar_reads: list[FrameBatch] = []
        self._go_on = asyncio.Event()

    def let_go(self) -> None:
        """Ends the reading of what hangs, as the reader's own time limit does."""
        self._go_on.set()

    async def start(self) -> None:
        return

    async def close(self) -> None:
        return

    async def length(self, uri: str, dataset: str) -> int:
        return (await self.size(uri, dataset))[0]

    async def size(self, uri: str, dataset: str) -> tuple[int, ...]:
        await self._open(uri)
        return self.frames[uri].shape

    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]:
        return await self.size(uri, dataset)

    async def written(self, batch: FrameBatch) -> npt.NDArray[np.bool_]:
        await self._open(batch.uri)
        unproved, each = self.unproved.get(batch.uri, set()), batch.frames_per_point
        length = len(self.frames[batch.uri]) // each
        return np.array([row < length and row not in unproved for row in range(batch.start, batch.stop)])

    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        self.scalar_reads.append(batch)
        await self._open(batch.uri)
        values, each = self.frames[batch.uri], batch.frames_per_point
        if batch.stop * each > len(values):
            raise FileNotReady(f"{batch.uri} holds {len(values)} values, and {batch.stop * each} were announced")
        return values[batch.start * each : batch.stop * each].reshape(batch.stop - batch.start, -1).sum(axis=1)

    async def reduce(self, batch: FrameBatch) -> FrameSums:
        self.reads.append(batch)
        await self._open(batch.uri)
        frames, each = self.frames[batch.uri], batch.frames_per_point
        if batch.stop * each > len(frames):
            raise FileNotReady(f"{batch.uri} holds {len(frames)} frames, and {batch.stop * each} were announced")
        if self.broken.get(batch.uri, set()) & set(range(batch.start * each, batch.stop * each)):
            raise FileBroken(f"{batch.uri} has a frame that cannot be read")
        chosen = frames[batch.start * each : batch.stop * each]
        if chosen.shape[1:] != batch.frame_shape:
            raise FrameError(f"frames of {chosen.shape[1:]}, and {batch.frame_shape} were promised")
        sums = sum_frames(chosen, [Roi("", *roi) for roi in batch.rois])
        sums = sums.reshape(batch.stop - batch.start, each, -1).sum(axis=1)
        return self._reduced(batch, sums, chosen)

    def _reduced(self, batch: FrameBatch, sums: npt.NDArray[Any], chosen: npt.NDArray[Any]) -> FrameSums:
        frame = chosen[-1] if batch.preview else None
        length = len(self.frames[batch.uri])
        return FrameSums(sums=sums, length=length, frame=frame, identity=(1, 1), size_bytes=chosen.nbytes)

    async def _open(self, uri: str) -> None:
        await asyncio.sleep(0)
        if uri in self.hanging:
            await self._go_on.wait()
            raise FileBroken(f"{uri} hung the reader")
        if uri in self.trouble:
            raise self.trouble[uri]
        if uri not in self.frames:
            raise FileNotReady(f"{uri} is not there (yet)")


class FakeBroker:
    """A durable queue: what is not acknowledged comes again to the next who asks.

    Attributes:
        unacknowledged: messages that were not acknowledged yet, oldest first.
        consumers: subscriptions that are open.
    """

    queued, oversized, held_s, subscription = 0, 0, 0.0, "test"

    def __init__(self) -> None:
        self.status = SourceStatus(SourceState.CONNECTED, 0.0)
        self.consumers = 0
        self.unacknowledged: dict[str, Delivery] = {}
        self._delivered: set[str] = set()
        self._numbers = itertools.count()
        self._news = asyncio.Event()

    @property
    def held(self) -> int:
        return len(self._delivered)

    def publish(self, body: dict[str, Any] | bytes, *, correlation_id: str | None = None, arrived: float = 0.0) -> None:
        """Takes one message, which is said to have arrived then."""
        text = body if isinstance(body, bytes) else orjson.dumps(body)
        number = str(next(self._numbers))
        headers = {"correlation-id": correlation_id} if correlation_id else {}
        self.unacknowledged[number] = Delivery(text, number, headers, arrived=arrived)
        self._news.set()

    async def batches(self) -> AsyncGenerator[list[Delivery]]:
        self.consumers += 1
        self._delivered.clear()
        while True:
            batch = [one for one in self.unacknowledged.values() if one.ack_id not in self._delivered][:20]
            if batch:
                self._delivered.update(one.ack_id for one in batch)
                yield batch
            else:
                self._news.clear()
                await self._news.wait()

    async def leave(self) -> None:
        self.consumers -= 1
        self._delivered.clear()

    async def close(self) -> None:
        return

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.unacknowledged.pop(one.ack_id, None)
            self._delivered.discard(one.ack_id)


@dataclass
class Scan:
    """The documents of one run, and its frames.

    Attributes:
        uid: of the run.
        shape: points, slow by fast.
        frames: (frames, rows, columns); more than points when the RunEngine has rewound.
        task: blueapi's.
        each: frames of one point.
        start_extra: more for the start document.
        others: what else is in files, each in its own: frames (frames, rows, columns) of another camera, or numbers
            (points,), by data key.
        stream: name of the stream.
    """

    uid: str = "run"
    shape: tuple[int, int] = (3, 4)
    frames: npt.NDArray[Any] = field(default_factory=lambda: some_frames(12))
    task: str = "task"
    each: int = 1
    uri: str = ""
    start_extra: dict[str, Any] = field(default_factory=dict)
    frame_shape: Sequence[int] = SHAPE
    others: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    stream: str = "primary"

    def __post_init__(self) -> None:
        self.uri = self.uri or f"file://localhost/data/{self.uid}.h5"

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def start(self) -> dict[str, Any]:
        doc = {"uid": self.uid, "time": 1_795_000_000.0, "shape": list(self.shape), "plan_name": "scan"}
        doc |= {"blueapi_task_id": self.task, "instrument": "b01-1"}
        return envelope("start", doc | self.start_extra, task_id=self.task)

    @property
    def files(self) -> dict[str, npt.NDArray[Any]]:
        """What is in its files, by uri."""
        return {self.uri: self.frames} | {self.uri_of(key): array for key, array in self.others.items()}

    def uri_of(self, key: str) -> str:
        """The file of a data key."""
        return self.uri if key == "camera" else self.uri.replace(".h5", f"-{key}.h5")

    def descriptor(self) -> dict[str, Any]:
        keys = {"camera": {"shape": [self.each, *self.frame_shape], "external": "STREAM:", "dtype": "array"}}
        for key, array in self.others.items():
            kind = "array" if array.ndim > 1 else "number"
            keys[key] = {"shape": [self.each, *array.shape[1:]], "external": "STREAM:", "dtype": kind}
        doc = {"uid": f"{self.uid}-d", "run_start": self.uid, "name": self.stream, "data_keys": keys, "time": 0.0}
        return envelope("descriptor", doc, task_id=self.task)

    def resource(self, key: str = "camera") -> dict[str, Any]:
        doc = {"uid": self._resource(key), "data_key": key, "uri": self.uri_of(key), "run_start": self.uid}
        doc |= {"parameters": {"dataset": "/entry/data/data"}, "mimetype": "application/x-hdf5"}
        return envelope("stream_resource", doc, task_id=self.task)

    def datum(self, index: int, count: int = 1, *, seq_num: int | None = None, key: str = "camera") -> dict[str, Any]:
        seq_num, resource = index + 1 if seq_num is None else seq_num, self._resource(key)
        doc = {"uid": f"{resource}/{index}", "stream_resource": resource, "descriptor": f"{self.uid}-d"}
        doc |= {"indices": {"start": index, "stop": index + count}}
        doc |= {"seq_nums": {"start": seq_num, "stop": seq_num + count}}
        return envelope("stream_datum", doc, task_id=self.task)

    def data(self, index: int, count: int = 1, *, seq_num: int | None = None) -> list[dict[str, Any]]:
        """A stream_datum for every data key, as a step scan makes them."""
        return [self.datum(index, count, seq_num=seq_num, key=key) for key in ("camera", *self.others)]

    def opening(self) -> list[dict[str, Any]]:
        """The documents before the first point."""
        return [self.start(), self.descriptor(), *map(self.resource, ("camera", *self.others))]

    def _resource(self, key: str) -> str:
        return f"{self.uid}-r" if key == "camera" else f"{self.uid}-r-{key}"

    def stop(self, status: str = "success", **extra: Any) -> dict[str, Any]:
        doc = {"uid": f"{self.uid}-stop", "run_start": self.uid, "exit_status": status, "reason": "", "time": 1.0}
        return envelope("stop", doc | {"num_events": {"primary": self.size}} | extra, task_id=self.task)

    def whole(self) -> list[dict[str, Any]]:
        """All documents of a step scan in which nothing goes wrong."""
        return [*self.opening(), *itertools.chain(*map(self.data, range(self.size))), self.stop()]


def worker_event(state: str, task: str | None, *, complete: bool = False) -> dict[str, Any]:
    """A worker event as blueapi publishes it."""
    status = {"task_id": task, "result": None, "task_complete": complete, "task_failed": False} if task else None
    return {"state": state, "task_status": status, "errors": [], "warnings": []}


def some_frames(count: int, *, shape: tuple[int, int] = SHAPE, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Frames (count, rows, columns) of noise."""
    return np.random.default_rng(seed).integers(0, 4000, (count, *shape), dtype=np.uint16)


class Beamline:
    """Everything around a worker, and the worker; the worker can be killed and started again.

    Args:
        rois: the instrument's ROIs.
        timeouts: the worker's patience.
        defaults: what to assume where documents are silent.
        log: makes the log of events of each worker; None for no log.
    """

    def __init__(
        self,
        *,
        rois: dict[str, Rectangle] | None = None,
        timeouts: Timeouts | None = None,
        defaults: ScanDefaults | None = None,
        log: Callable[[], EventLogFiles] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.files = FakeFiles()
        self.broker = FakeBroker()
        self.rois = rois
        self.timeouts = timeouts or Timeouts()
        self.defaults = defaults or ScanDefaults()
        self.log = log
        self.stats = WorkerStats(self.clock, self.timeouts)
        self.worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Beamline:
        self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kill()

    def start(self) -> None:
        """Starts a worker."""
        self.stats = WorkerStats(self.clock, self.timeouts)
        event_log = EventLogWriter(self.store, self.log(), stats=self.stats, aside=at_once) if self.log else None
        listener = Listener(self.broker, self.store, stats=self.stats, event_log=event_log)
        reducer = Reducer(
            self.store,
            ReaderPool(lambda: self.files),
            defaults=self.defaults,
            rois=self.rois,
            stats=self.stats,
            listening_since=lambda: self.broker.status.connected_since,
            on_evicted=listener.forget,
        )
        self.worker = Worker(
            self.store,
            reducer,
            stats=self.stats,
            listener=listener,
            event_log=event_log,
            holder="here:1",
        )
        self._task = asyncio.create_task(self.worker.work())

    async def kill(self) -> None:
        """Ends the worker where it stands."""
        if self._task is not None:
            self._task.cancel()
            result = await asyncio.gather(self._task, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in result), result
            self._task = None

    def publish(self, *bodies: dict[str, Any] | bytes) -> None:
        """Sends messages."""
        for body in bodies:
            self.broker.publish(body)

    async def until(self, condition: Callable[[], bool], *, at_most_s: float = 120.0) -> None:
        """Lets time pass until something is true."""

        def checked() -> bool:
            assert self._task is None or not self._task.done(), self._task
            return condition()

        await self.clock.until(checked, at_most_s=at_most_s)

    async def until_settled(self, *uids: str) -> None:
        """Lets time pass until runs have ended and have been filled."""
        await self.until(lambda: all(self.summary(uid).get("settled") for uid in uids))

    def summary(self, uid: str = "run") -> dict[str, Any]:
        """What the list of runs says; empty while there is nothing to say."""
        return self.store.runs.get(uid) or {}

    def points(self, uid: str = "run") -> int:
        """Points that are in the store."""
        return len({seq_num for page in self.store.of("event_page", uid) for seq_num in page["seq_num"]})


async def at_once(work: Callable[[], Any]) -> Any:
    """Does in place what a worker does in a thread, whose time a clock of ours cannot tell."""
    return work()


def folded(entries: Iterable[Entry], uid: str, *, defaults: ScanDefaults | None = None) -> Run:
    """A run as anybody sees it who reads the store from its beginning."""
    own = [entry for entry in entries if entry.run == uid]
    start = next(entry for entry in own if entry.name == "start")
    run = Run(start.doc, defaults=defaults)
    for entry in own:
        run.apply(Document(entry.name, entry.doc, run=uid, task_id=entry.task_id), cursor=entry.cursor)
    return run


def expected_map(scan: Scan, rows_of_points: dict[int, int], key: str) -> npt.NDArray[np.float64]:
    """The map (rows, columns) of numbers from a file, by numpy alone, of a snaked scan; as :func:`expected_maps`."""
    rows, columns = scan.shape
    grid = np.full((rows, columns), np.nan)
    for seq_num, index in rows_of_points.items():
        row, column = divmod(seq_num - 1, columns)
        column = columns - 1 - column if row % 2 else column
        grid[row, column] = scan.others[key][index * scan.each : (index + 1) * scan.each].sum()
    return grid


def expected_maps(
    scan: Scan, rows_of_points: dict[int, int], rois: Sequence[Roi], *, key: str = "camera"
) -> npt.NDArray[np.float64]:
    """The maps (channels, rows, columns), by numpy alone, of a snaked scan.

    Args:
        scan: with its frames.
        rows_of_points: by seq_num, the row of the dataset that counts.
        rois: what is summed over; the total comes last.
        key: of the camera.
    """
    all_frames = scan.frames if key == "camera" else scan.others[key]
    rows, columns = scan.shape
    grids = np.full((len(rois) + 1, rows, columns), np.nan)
    for seq_num, index in rows_of_points.items():
        row, column = divmod(seq_num - 1, columns)
        column = columns - 1 - column if row % 2 else column
        frames = all_frames[index * scan.each : (index + 1) * scan.each]
        frames = frames.astype({"f": np.float64, "i": np.int64}.get(frames.dtype.kind, np.uint64))
        for number, roi in enumerate(rois):
            grids[number, row, column] = frames[:, roi.y0 : roi.y1, roi.x0 : roi.x1].sum()
        grids[-1, row, column] = frames.sum()
    return grids
