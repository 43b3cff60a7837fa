"""``GET /metrics``: metrics of this process, and of all processes that report to Redis.

All values of one answer come from one reading. The worker and the page processes have no metrics endpoint: they report
to Redis, and any API process exposes their latest reports. A process that has stopped reporting is left out, so no old
value looks like a new one.
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
from snakemap.core.source_status import SourceState
from snakemap.errors import BlueapiForbids, SnakemapError, StoreUnavailable, kinds
from snakemap.settings import Settings
from snakemap.store.heartbeat import HeartbeatReporter, Histogram
from snakemap.store.readiness import checks_of, wrong
from snakemap.store.redis_info import RedisCondition, RedisInfo, read_redis_info
from snakemap.store.store import Store

__all__ = ["Metrics", "metrics"]

log = logging.getLogger(__name__)

READING_KEPT_S = 1.0
"""Lifetime of a reading, so that frequent scrapes cost Redis nothing."""

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
EXAMPLE = """# HELP snakemap_points_total Points summed from frames and stored.
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
            "description": "Prometheus's text format, or OpenMetrics where the Accept header names it.",
            "content": {
                kind: {"schema": {"type": "string"}, "example": EXAMPLE} for kind in ("text/plain", OPENMETRICS)
            },
        }
    },
)
async def scrape(request: Request) -> Response:
    """Counters, gauges and lags of all processes that share this Redis, for Prometheus."""
    text, media_type = await request.app.state.metrics.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


@dataclass(frozen=True, slots=True)
class MetricReading:
    """One reading of all sources; None where a value could not be read.

    Attributes:
        reports: reports of the processes, by name; None while Redis cannot be reached.
        runs: number of runs, by status.
        redis: of Redis.
        blueapi: whether blueapi answers; None also when none is set.
    """

    reports: Mapping[str, Mapping[str, Any]] | None = None
    runs: Counter[str] | None = None
    redis: RedisInfo | None = None
    blueapi: bool | None = None


class Metrics(Collector):
    """The metrics of one application; it shares nothing with others in the process.

    Args:
        store: the document store.
        settings: of the process.
        ask_blueapi: raises when blueapi does not answer; None when none is set.

    Attributes:
        requests: request counts of this process.
        clients: functions that count the connected clients, by kind, like ``clients["websocket"]``.
        reporter: reports this process to Redis.
    """

    def __init__(
        self, store: Store, settings: Settings, *, ask_blueapi: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self.requests = RequestMetrics()
        self.clients: dict[str, Callable[[], int]] = {}
        self.reporter = HeartbeatReporter(store, "api", port=settings.api_port, fields=self._report)
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
        """Return all metrics, and their media type.

        Args:
            accept: the request's Accept header.
        """
        async with self._lock:
            if time.monotonic() - self._read_at > READING_KEPT_S:
                self._reading = await self._read()
                self._read_at = time.monotonic()
        if OPENMETRICS in accept:
            return generate_openmetrics(self._registry), CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the last reading."""
        reading = self._reading
        yield _gauge("build_info", "Always 1; the labels are the versions.", 1, version=__version__, python=PYTHON)
        yield _gauge("redis_up", "1 while Redis answers.", reading.reports is not None)
        if reading.reports is not None:
            yield _gauge("ready", "1 when data can come through, as /readyz says.", not wrong(_checks(reading)))
            yield from _of_parts(self._reports(reading.reports))
        if reading.redis is not None:
            yield from _of_store(reading.redis, entries_max=self._settings.documents_max)
        if reading.runs is not None:
            counts = [((status,), reading.runs[status]) for status in STATUSES]
            yield _family(GaugeMetricFamily, "runs", "Runs in the store, by status.", ("status",), counts)
        if reading.blueapi is not None:
            yield _gauge("blueapi_up", "1 while blueapi answers, even if it refuses the token.", reading.blueapi)
        yield from self.requests.collect()

    async def _read(self) -> MetricReading:
        (reports, runs, redis), blueapi = await asyncio.gather(self._read_store(), self._read_blueapi())
        return MetricReading(reports, runs, redis, blueapi)

    async def _read_store(self) -> tuple[dict[str, dict[str, Any]] | None, Counter[str] | None, RedisInfo | None]:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                reports = await self._store.reports()
                runs = Counter(str(summary.get("status")) for summary in await self._store.summaries())
                return reports, runs, await read_redis_info(self._store)
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

    def _report(self) -> dict[str, Any]:
        return {"clients": {kind: count() for kind, count in self.clients.items()}}

    def _reports(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Return the reports of all processes, with a current one of this process."""
        return {**reports, self.reporter.part: self.reporter.report()}


PYTHON = platform.python_version()
CODES = frozenset(kind.code for kind in kinds()) | {"restored"}


@dataclass(slots=True)
class _Samples:
    """Samples of one metric; values with the same labels are added up.

    Attributes:
        found: value by labels.
    """

    found: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, labels: tuple[str, ...], value: float) -> None:
        """Add a value."""
        self.found[labels] = self.found.get(labels, 0) + value

    def items(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """Return labels and values."""
        return self.found.items()


def _checks(reading: MetricReading) -> dict[str, str]:
    redis = reading.redis
    return checks_of(reading.reports or {}, redis.condition if redis else RedisCondition())


def _of_parts(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Yield the metrics that the processes report."""
    worker = reports.get("ingest")
    parts = Counter(part.partition(":")[0] for part in reports)
    counts = [((part,), float(parts[part])) for part in PARTS]
    yield _family(GaugeMetricFamily, "processes", "Processes that report, by kind.", ("part",), counts)
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
    yield from _number(GaugeMetricFamily, "worker_start_time_seconds", "When the worker started.", work.get("since"))
    yield from _number(CounterMetricFamily, "points", "Points summed from frames and stored.", work.get("points"))
    yield from _number(CounterMetricFamily, "frames_read", "Frames read from files.", work.get("frames"))
    yield from _number(
        CounterMetricFamily, "frames_read_bytes", "Bytes of the frames that were read, uncompressed.",
        work.get("frame_bytes"),
    )  # fmt: skip
    text = "Points that were announced and have not been read yet."
    yield from _number(GaugeMetricFamily, "frames_waiting", text, report.get("waiting"))
    text = "Documents and worker events that the worker has taken from the store, by name."
    yield _bounded("documents_received", text, "name", work.get("documents"), NAMES)
    text = "Errors in the worker, by code; `document` is an invalid message."
    yield _bounded("worker_errors", text, "code", report.get("errors"), CODES)
    text = "From a message's arrival from the broker until Redis has it, in seconds."
    yield from _lag("store_lag_seconds", text, work.get("store_lag"))
    text = "From a frame's announcement in Redis until its point is stored, in seconds."
    yield from _lag("point_lag_seconds", text, work.get("point_lag"))


def _of_broker(report: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of the worker's broker; none where it has no broker."""
    state = SourceState.of(report.get("broker"))
    if state is SourceState.NONE:
        return
    yield _gauge("broker_connected", "1 while the worker is connected to its broker.", state is SourceState.CONNECTED)
    text = "Messages that wait in the worker's inbox."
    yield from _number(GaugeMetricFamily, "broker_queue_messages", text, report.get("queue"))
    text = "Messages delivered to the worker, not yet stored and acknowledged."
    yield from _number(GaugeMetricFamily, "broker_held_messages", text, report.get("held"))
    text = "How long the oldest of them has waited, in seconds."
    yield from _number(GaugeMetricFamily, "broker_held_seconds", text, report.get("held_s"))
    text = "Messages received from the broker."
    yield from _number(CounterMetricFamily, "broker_messages_received", text, report.get("received"))
    text = "Messages dropped because they were too large."
    yield from _number(CounterMetricFamily, "broker_messages_oversized", text, report.get("oversized"))
    yield from _of_sources(report.get("sources"))


def _of_sources(reports: object) -> Iterator[Metric]:
    """Yield the metrics of each of several document sources; none where there is one."""
    connected, held = _Samples(), _Samples()
    for report in reports if isinstance(reports, list) else []:
        if isinstance(report, Mapping):
            name = str(report.get("name"))
            connected.add((name,), float(SourceState.of(report.get("broker")) is SourceState.CONNECTED))
            held.add((name,), _numbers(report).get("held", 0))
    if list(connected.items()):
        text = "1 while the worker is connected to the source, one of several."
        yield _family(GaugeMetricFamily, "source_connected", text, ("source",), connected.items())
        text = "Messages of the source delivered to the worker, not yet stored and acknowledged."
        yield _family(GaugeMetricFamily, "source_held_messages", text, ("source",), held.items())


def _of_pages(pages: Mapping[str, Mapping[str, Any]], worker: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Yield the metrics of the page processes, and of the reader processes of pages and worker."""
    tabs, most, refused, replaced = _Samples(), _Samples(), _Samples(), _Samples()
    for report in pages.values():
        process = str(report.get("process"))
        numbers = _numbers(report)
        tabs.add((process,), numbers.get("tabs", 0))
        most.add((process,), numbers.get("tabs_max", 0))
        replaced.add((process,), numbers.get("readers_replaced", 0))
        for code, count in _numbers(report.get("refused")).items():
            refused.add((process, code if code in CODES else OTHER), count)
    if worker is not None:
        replaced.add(("worker",), _numbers(worker).get("readers_replaced", 0))
    yield _family(GaugeMetricFamily, "page_sessions", "Open tabs, by process.", ("process",), tabs.items())
    text = "Maximum of open tabs, by process."
    yield _family(GaugeMetricFamily, "page_sessions_max", text, ("process",), most.items())
    text = "Refused tabs, by process and error code."
    yield _family(CounterMetricFamily, "page_sessions_refused", text, ("process", "code"), refused.items())
    text = "Reader processes that were replaced because a file crashed or blocked them, by the process that uses them."
    yield _family(CounterMetricFamily, "readers_replaced", text, ("process",), replaced.items())


def _of_store(redis: RedisInfo, *, entries_max: int) -> Iterator[Metric]:
    yield from _number(GaugeMetricFamily, "stream_entries", "Documents in the stream.", redis.entries)
    text = "Documents that the stream may hold before the oldest runs are removed."
    yield _gauge("stream_entries_max", text, entries_max)
    yield from _number(GaugeMetricFamily, "stream_bytes", "Memory of Redis that the stream takes.", redis.stream_bytes)
    yield from _number(GaugeMetricFamily, "redis_memory_bytes", "Memory that Redis uses.", redis.memory_bytes)
    text = "1 while Redis refuses writes: it is full, a replica, or unable to save."
    yield _gauge("redis_refuses_writes", text, bool(redis.condition.word))
    text = "1 when Redis evicts keys once its memory is full."
    yield _gauge("redis_evicts", text, bool(redis.condition.evicts))
    text = "Memory that Redis may use; 0 is unlimited."
    yield from _number(GaugeMetricFamily, "redis_memory_max_bytes", text, redis.memory_max_bytes)


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    return _family(GaugeMetricFamily, name, text, tuple(labels), [(tuple(labels.values()), float(value))])


def _number(kind: type[Metric], name: str, text: str, value: object) -> Iterator[Metric]:
    """Yield a metric of one number; nothing where there is no number."""
    if isinstance(value, int | float):
        yield _family(kind, name, text, (), [((), float(value))])


def _bounded(name: str, text: str, label: str, counts: object, known: Iterable[str]) -> Metric:
    """Return counts by a label with a bounded set of values; all others are counted as one."""
    samples, known = _Samples(), frozenset(known)
    for value, count in _numbers(counts).items():
        samples.add((value if value in known else OTHER,), count)
    return _family(CounterMetricFamily, name, text, (label,), samples.items())


def _lag(name: str, text: str, buckets: object) -> Iterator[Metric]:
    lags = Histogram.read(buckets)
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


def _numbers(report: object) -> dict[str, float]:
    """Return the numbers of a report by name; other values are ignored, another version may report them."""
    if not isinstance(report, Mapping):
        return {}
    return {str(key): value for key, value in report.items() if isinstance(value, int | float)}
