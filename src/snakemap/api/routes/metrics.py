"""``GET /metrics``: what Prometheus is told, of this process and of all the others that report to the store.

Everything in one answer comes from one reading. The worker and the pages have no metrics of their own to be scraped:
they report to the store, and whichever API is asked tells what all of them have said lately. Who is silent is left out,
so that no old number looks like a new one.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from snakemap import __version__
from snakemap.api.middleware.request_metrics import RequestMetrics
from snakemap.api.models import Tag
from snakemap.core.documents import SETTLED, WORKER
from snakemap.errors import BlueapiForbids, SnakemapError, StoreUnavailable, kinds
from snakemap.settings import Settings
from snakemap.store.heartbeat import HeartbeatReporter, Histogram
from snakemap.store.readiness import checks_of, wrong
from snakemap.store.redis_info import RedisCondition, RedisInfo, vitals
from snakemap.store.store import Store

__all__ = ["Metrics", "metrics"]

log = logging.getLogger(__name__)

READING_KEPT_S = 1.0
"""Who asks more often gets the same again, so that asking costs Redis nothing."""

STORE_TIMEOUT_S = 3.0
OPENMETRICS = "application/openmetrics-text"
STATUSES = ("running", "complete", "incomplete", "aborted", "failed", "lost")
PARTS = ("ingest", "pages", "api")
NAMES = frozenset(
    (
        *("start", "descriptor", "event", "event_page", "resource", "datum", "datum_page"),
        *("stream_resource", "stream_datum", "stop", WORKER, SETTLED),
    )
)
OTHER = "other"
TOLD = """# HELP snakemap_points_total Points summed from frames and stored.
# TYPE snakemap_points_total counter
snakemap_points_total 4210.0
"""

metrics = APIRouter(tags=[Tag.META])


@metrics.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text, or OpenMetrics for those who accept it.",
            "content": {kind: {"schema": {"type": "string"}, "example": TOLD} for kind in ("text/plain", OPENMETRICS)},
        }
    },
)
async def scrape(request: Request) -> Response:
    """Counters, gauges and lags of all processes on this store, for Prometheus."""
    text, media_type = await request.app.state.metrics.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


@dataclass(frozen=True, slots=True)
class MetricReading:
    """What one look at everything has found; None is what could not be found out.

    Attributes:
        reports: what the processes say of themselves, by name; None while Redis is away.
        runs: how many there are, by status.
        vitals: of Redis.
        blueapi: whether it answers; None where none is set, too.
    """

    reports: Mapping[str, Mapping[str, Any]] | None = None
    runs: Counter[str] | None = None
    vitals: RedisInfo | None = None
    blueapi: bool | None = None


class Metrics(Collector):
    """The metrics of one application; two in one process share nothing.

    Args:
        store: the documents.
        settings: of the process.
        ask_blueapi: raises when it does not answer; None where none is set.

    Attributes:
        requests: what was asked of this process.
        clients: counts those who are connected to this process, by kind, like ``clients["websocket"]``.
        reporter: tells the others of this process.
    """

    def __init__(
        self, store: Store, settings: Settings, *, ask_blueapi: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self.requests = RequestMetrics()
        self.clients: dict[str, Callable[[], int]] = {}
        self.reporter = HeartbeatReporter(store, "api", port=settings.api_port, tell=self._tell)
        self._store = store
        self._settings = settings
        self._ask_blueapi = ask_blueapi
        self._lock = asyncio.Lock()
        self._reading = MetricReading()
        self._read_at = float("-inf")
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their media type.

        Args:
            accept: the request's header.
        """
        async with self._lock:
            if time.monotonic() - self._read_at > READING_KEPT_S:
                self._reading = await self._read()
                self._read_at = time.monotonic()
        if OPENMETRICS in accept:
            return generate_openmetrics(self._registry), CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Everything that the last reading has found."""
        reading = self._reading
        yield _gauge("build_info", "Always 1; its labels tell the version.", 1, version=__version__, python=PYTHON)
        yield _gauge("redis_up", "1 while Redis answers.", reading.reports is not None)
        if reading.reports is not None:
            yield _gauge("ready", "1 when data can come through, as /readyz says.", not wrong(_checks(reading)))
            yield from _of_parts(self._reports(reading.reports))
        if reading.vitals is not None:
            yield from _of_store(reading.vitals, entries_max=self._settings.documents_max)
        if reading.runs is not None:
            counts = [((status,), reading.runs[status]) for status in STATUSES]
            yield _family(GaugeMetricFamily, "runs", "Runs in the store, by status.", ("status",), counts)
        if reading.blueapi is not None:
            yield _gauge("blueapi_up", "1 while blueapi answers, be it that it wants another token.", reading.blueapi)
        yield from self.requests.collect()

    async def _read(self) -> MetricReading:
        (reports, runs, told), blueapi = await asyncio.gather(self._read_store(), self._read_blueapi())
        return MetricReading(reports, runs, told, blueapi)

    async def _read_store(self) -> tuple[dict[str, dict[str, Any]] | None, Counter[str] | None, RedisInfo | None]:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                reports = await self._store.reports()
                runs = Counter(str(summary.get("status")) for summary in await self._store.summaries())
                return reports, runs, await vitals(self._store)
        except (TimeoutError, StoreUnavailable) as trouble:
            log.debug("no metrics of the store: %s", trouble)
            return None, None, None

    async def _read_blueapi(self) -> bool | None:
        if self._ask_blueapi is None:
            return None
        try:
            await self._ask_blueapi()
        except BlueapiForbids:
            return True
        except SnakemapError as trouble:
            log.debug("no metrics of blueapi: %s", trouble)
            return False
        return True

    def _tell(self) -> dict[str, Any]:
        return {"clients": {kind: count() for kind, count in self.clients.items()}}

    def _reports(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """What all processes say, ours as it is now."""
        return {**reports, self.reporter.part: self.reporter.told()}


PYTHON = platform.python_version()
CODES = frozenset(kind.code for kind in kinds()) | {"restored"}


@dataclass(slots=True)
class _Samples:
    """Samples of one kind of process on their way into families; those with the same labels are one.

    Attributes:
        found: number by labels.
    """

    found: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, labels: tuple[str, ...], value: float) -> None:
        """One more."""
        self.found[labels] = self.found.get(labels, 0) + value

    def items(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """All of them."""
        return self.found.items()


def _checks(reading: MetricReading) -> dict[str, str]:
    told = reading.vitals
    return checks_of(reading.reports or {}, told.condition if told else RedisCondition())


def _of_parts(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """What the processes say of themselves."""
    worker = reports.get("ingest")
    parts = Counter(part.partition(":")[0] for part in reports)
    counts = [((part,), float(parts[part])) for part in PARTS]
    yield _family(GaugeMetricFamily, "processes", "Processes that report, by what they do.", ("part",), counts)
    yield _gauge("worker_up", "1 while the worker reports.", worker is not None)
    if worker is not None:
        yield from _of_worker(worker)
        yield from _of_broker(worker)
    yield from _of_pages({part: report for part, report in reports.items() if part.startswith("pages:")}, worker)
    clients = _Samples()
    for part, report in reports.items():
        if part.startswith("api:"):
            for kind, count in _numbers(report.get("clients")).items():
                clients.add((str(report.get("process")), kind), count)
    text = "Clients connected to the APIs, by kind."
    yield _family(GaugeMetricFamily, "api_clients", text, ("process", "kind"), clients.items())


def _of_worker(report: Mapping[str, Any]) -> Iterator[Metric]:
    work = report.get("work")
    work = work if isinstance(work, Mapping) else {}
    yield from _told(GaugeMetricFamily, "worker_start_time_seconds", "When the worker began.", work.get("since"))
    yield from _told(CounterMetricFamily, "points", "Points summed from frames and stored.", work.get("points"))
    yield from _told(CounterMetricFamily, "frames_read", "Frames read from files.", work.get("frames"))
    yield from _told(
        CounterMetricFamily, "frames_read_bytes", "Bytes of the frames that were read, unpacked.",
        work.get("frame_bytes"),
    )  # fmt: skip
    text = "Points that were announced and have not been read yet."
    yield from _told(GaugeMetricFamily, "frames_waiting", text, report.get("waiting"))
    text = "Documents and worker events that the worker has taken from the store, by name."
    yield _bounded("documents_received", text, "name", work.get("documents"), NAMES)
    text = "What went wrong in the worker, by the code of the error: document is a message that cannot be used."
    yield _bounded("worker_errors", text, "code", report.get("errors"), CODES)
    text = "From a message's arrival from the broker until the store has it, in seconds."
    yield from _lag("store_lag_seconds", text, work.get("store_lag"))
    text = "From a frame's announcement in the store until its point is there, in seconds."
    yield from _lag("point_lag_seconds", text, work.get("point_lag"))


def _of_broker(report: Mapping[str, Any]) -> Iterator[Metric]:
    """The worker's broker; nothing where it has none."""
    state = report.get("broker")
    if state in (None, "none"):
        return
    yield _gauge("broker_connected", "1 while the worker is connected to its broker.", state == "connected")
    text = "Messages that wait in the worker until it has read those before."
    yield from _told(GaugeMetricFamily, "broker_queue_messages", text, report.get("queue"))
    text = "Messages that were delivered to the worker and are not stored and acknowledged yet."
    yield from _told(GaugeMetricFamily, "broker_held_messages", text, report.get("held"))
    text = "How long the oldest of them has waited, in seconds."
    yield from _told(GaugeMetricFamily, "broker_held_seconds", text, report.get("held_s"))
    text = "Messages that came from the broker."
    yield from _told(CounterMetricFamily, "broker_messages_received", text, report.get("received"))
    text = "Messages left out because they were too large."
    yield from _told(CounterMetricFamily, "broker_messages_oversized", text, report.get("oversized"))


def _of_pages(pages: Mapping[str, Mapping[str, Any]], worker: Mapping[str, Any] | None) -> Iterator[Metric]:
    """The tabs of the page processes, and the processes that read files for them and for the worker."""
    tabs, most, refused, replaced = _Samples(), _Samples(), _Samples(), _Samples()
    for report in pages.values():
        process = str(report.get("process"))
        told = _numbers(report)
        tabs.add((process,), told.get("tabs", 0))
        most.add((process,), told.get("tabs_max", 0))
        replaced.add((process,), told.get("readers_replaced", 0))
        for code, count in _numbers(report.get("refused")).items():
            refused.add((process, code if code in CODES else OTHER), count)
    if worker is not None:
        replaced.add(("worker",), _numbers(worker).get("readers_replaced", 0))
    yield _family(GaugeMetricFamily, "page_sessions", "Tabs that are open, by process.", ("process",), tabs.items())
    text = "Tabs that may be open, by process."
    yield _family(GaugeMetricFamily, "page_sessions_max", text, ("process",), most.items())
    text = "Tabs that were refused, by process and code of the error."
    yield _family(CounterMetricFamily, "page_sessions_refused", text, ("process", "code"), refused.items())
    text = (
        "Processes that read files and were replaced, because a file crashed them or held them up; by whose they are."
    )
    yield _family(CounterMetricFamily, "readers_replaced", text, ("process",), replaced.items())


def _of_store(told: RedisInfo, *, entries_max: int) -> Iterator[Metric]:
    yield from _told(GaugeMetricFamily, "stream_entries", "Documents in the store's stream.", told.entries)
    text = "Documents that the stream may hold before the oldest runs go."
    yield _gauge("stream_entries_max", text, entries_max)
    yield from _told(GaugeMetricFamily, "stream_bytes", "Memory of Redis that the stream takes.", told.stream_bytes)
    yield from _told(GaugeMetricFamily, "redis_memory_bytes", "Memory that Redis uses.", told.memory_bytes)
    text = "1 while Redis refuses to store anything new, be it full, a replica, or unable to save."
    yield _gauge("redis_refuses_writes", text, bool(told.condition.word))
    text = "1 when Redis removes keys of its own accord once its memory is full."
    yield _gauge("redis_evicts", text, bool(told.condition.evicts))
    text = "Memory that Redis may use; 0: as much as there is."
    yield from _told(GaugeMetricFamily, "redis_memory_max_bytes", text, told.memory_max_bytes)


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    return _family(GaugeMetricFamily, name, text, tuple(labels), [(tuple(labels.values()), float(value))])


def _told(kind: type[Metric], name: str, text: str, value: object) -> Iterator[Metric]:
    """A family of one number; nothing where nobody has told it."""
    if isinstance(value, int | float):
        yield _family(kind, name, text, (), [((), float(value))])


def _bounded(name: str, text: str, label: str, counts: object, known: Iterable[str]) -> Metric:
    """Counts by a label that has no other values than the known ones, and one for all others."""
    samples, known = _Samples(), frozenset(known)
    for value, count in _numbers(counts).items():
        samples.add((value if value in known else OTHER,), count)
    return _family(CounterMetricFamily, name, text, (label,), samples.items())


def _lag(name: str, text: str, told: object) -> Iterator[Metric]:
    lags = Histogram.read(told)
    if lags is not None:
        family = HistogramMetricFamily(f"snakemap_{name}", text)
        family.add_metric((), lags.buckets(), lags.sum)
        yield family


def _family(
    kind: type[Metric],
    name: str,
    text: str,
    labels: tuple[str, ...],
    samples: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family: Any = kind(f"snakemap_{name}", text, labels=labels)  # pyright: ignore[reportCallIssue]
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _numbers(told: object) -> dict[str, float]:
    """The numbers of an object, by name; nothing else of it, as another version of us may tell other things."""
    if not isinstance(told, Mapping):
        return {}
    return {str(key): value for key, value in told.items() if isinstance(value, int | float)}
