"""What /metrics tells: every process's own numbers, in both formats, with labels that nobody can make up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx
import numpy as np
import orjson
import pytest
from fastapi import FastAPI, Response
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send
from tests.support.beamline import Beamline, FakeClock, FakeStore, Scan, worker_event
from tests.support.patience import PATIENCE, patiently

from snakemap.api import create_app
from snakemap.api.middleware.request_metrics import RequestMetrics, RequestMetricsMiddleware
from snakemap.api.routes import metrics
from snakemap.api.routes.metrics import Metrics
from snakemap.core.derived_documents import OPENED
from snakemap.core.frame_ledger import RowRange
from snakemap.errors import BlueapiForbids, BlueapiUnavailable, RunNotFound, StoreUnavailable
from snakemap.ingest.latency import LatencyTracker
from snakemap.settings import load
from snakemap.store.heartbeat import LAG_S, HeartbeatReporter, Histogram, Work
from snakemap.store.store import Store

INFO = {"redis_version": "7.2.0", "used_memory": 5_000_000, "maxmemory": 0, "aof_enabled": 1}
ANSWERS: dict[str, Any] = {"INFO": INFO, "XLEN": 5, "MEMORY": 1234}


class MetricsStore(FakeStore):
    """A store in memory that counts how often it was read."""

    address = "memory"

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.looks = 0

    async def reports(self) -> dict[str, dict[str, Any]]:
        self._check()
        self.looks += 1
        return orjson.loads(orjson.dumps(self.reported))

    async def summary(self, uid: str) -> dict[str, Any]:
        self._check()
        raise RunNotFound(f"no run {uid}")

    async def command(self, *words: str | int) -> Any:
        self._check()
        return ANSWERS.get(str(words[0]))

    def script(self, text: str, *, changes: bool = True) -> Any:
        async def call(keys: Any, *arguments: Any) -> Any:
            raise StoreUnavailable("no scripts in memory")

        return call

    async def close(self) -> None:
        return


@pytest.fixture
def store() -> MetricsStore:
    return MetricsStore()


@pytest.fixture
def app(store: MetricsStore) -> FastAPI:
    return create_app(load(), cast("Store", store))


@pytest.fixture
async def client(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(metrics, "READING_KEPT_S", -1.0)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


Samples = dict[tuple[str, ...], float]


async def scraped(client: httpx.AsyncClient) -> dict[str, Samples]:
    """Every sample, by its name and the values of its labels, in the order of the labels' names."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_what_a_worker_has_done_is_told(client: httpx.AsyncClient, store: MetricsStore) -> None:
    scan = Scan()
    beamline = Beamline()
    beamline.files.frames[scan.uri] = scan.frames
    async with beamline:
        beamline.broker.publish(worker_event("RUNNING", "task"), arrived=beamline.clock.time - 0.04)
        beamline.publish(*scan.whole(), b"poison")
        await beamline.until_settled("run")
        await beamline.clock.advance(2)
        store.reported, store.runs = beamline.store.reported, beamline.store.runs
        told = await scraped(client)
    assert told["snakemap_worker_up"] == told["snakemap_ready"] == told["snakemap_broker_connected"] == {(): 1}
    assert told["snakemap_points_total"] == {(): 12}
    assert told["snakemap_frames_read_total"][()] >= 12
    frame_bytes = told["snakemap_frames_read_bytes_total"][()] / told["snakemap_frames_read_total"][()]
    assert frame_bytes == scan.frames[0].nbytes
    assert told["snakemap_documents_received_total"]["stream_datum",] == 12
    assert told["snakemap_worker_errors_total"] == {("document",): 1}
    assert told["snakemap_broker_messages_received_total"] == {(): len(scan.whole()) + 2}
    assert told["snakemap_broker_held_messages"] == told["snakemap_broker_held_seconds"] == {(): 0}
    assert told["snakemap_broker_queue_messages"] == told["snakemap_frames_waiting"] == {(): 0}
    assert told["snakemap_point_lag_seconds_count"] == {(): 12}
    assert told["snakemap_store_lag_seconds_count"] == {(): 1}
    assert 0.0399 <= told["snakemap_store_lag_seconds_sum"][()] < 0.2 * PATIENCE
    assert told["snakemap_runs"]["complete",] == 1
    assert told["snakemap_readers_replaced_total"] == {("worker",): 0}


async def test_lags_are_those_of_the_points_and_not_of_the_pieces_they_are_read_in() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.publish(*scan.opening(), scan.datum(0, 4))
        await beamline.clock.advance(1.0)
        beamline.publish(scan.datum(4, 8))
        await beamline.clock.advance(1.0)
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: beamline.points() == 12)
        lags = beamline.stats.work.point_lag
    assert sum(lags.counts) == 12
    below = dict(zip(lags.bounds, lags.buckets(), strict=False))
    assert (below[0.5][1], below[2.5][1]) == (0, 12)
    assert 4 * 2 + 8 * 1 <= lags.sum < 4 * 2 + 8 * 1 + 12 * 0.6


async def test_frames_of_a_file_that_was_opened_do_not_count_as_late() -> None:
    scan = Scan(start_extra={OPENED: {}})
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")
        work = beamline.stats.work
    assert (work.points, sum(work.point_lag.counts)) == (12, 0)


def test_the_lag_of_rows_that_come_twice_or_late_is_counted_once() -> None:
    lags = LatencyTracker(Histogram((1.0,)))
    lags.announce("r", 0, 10, at=0.0)
    for index, count in ((0, 3), (0, 3), (5, 2)):
        lags.written(RowRange("r", index, index + 1, count), at=0.5)
    lags.written(RowRange("other", 0, 1, 5), at=0.5)
    assert lags.histogram.counts == [5, 0]
    lags.written(RowRange("r", 7, 8, 3), at=2.0)
    assert (lags.histogram.counts, lags.histogram.sum) == ([5, 3], 5 * 0.5 + 3 * 2.0)


def test_a_histogram_counts_a_value_that_equals_a_bound_below_it() -> None:
    values = np.random.default_rng(1).uniform(-0.1, 40, 1000).tolist() + list(LAG_S)
    histogram = Histogram(LAG_S)
    for value in values:
        histogram.observe(value)
    for bound, count in histogram.buckets():
        assert count == sum(value <= float(bound) for value in values)
    assert Histogram.read(orjson.loads(orjson.dumps(histogram.to_json()))).counts == histogram.counts  # pyright: ignore


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        "text",
        {},
        {"bounds": [1.0], "counts": [1], "sum": 0.0},
        {"bounds": [2.0, 1.0], "counts": [1, 1, 1], "sum": 0.0},
        {"bounds": [1.0], "counts": [1, -1], "sum": 0.0},
        {"bounds": ["x"], "counts": [1, 1], "sum": 0.0},
        {"bounds": [1.0], "counts": [1, 1], "sum": None},
    ],
)
async def test_a_report_of_another_version_costs_nothing_but_its_own_numbers(
    client: httpx.AsyncClient, store: MetricsStore, told: object
) -> None:
    work = {"points": "many", "documents": {"start": 2, "made up": 3, "<b>": 4}, "point_lag": told}
    store.reported["ingest"] = {"broker": 7, "errors": ["x"], "work": work, "waiting": None}
    found = await scraped(client)
    assert "snakemap_points_total" not in found
    assert "snakemap_point_lag_seconds_count" not in found
    assert found["snakemap_documents_received_total"] == {("start",): 2, ("other",): 7}
    store.reported["ingest"] = {"work": told}
    assert (await scraped(client))["snakemap_worker_up"] == {(): 1}


async def test_each_of_several_document_sources_has_its_own_numbers(
    client: httpx.AsyncClient, store: MetricsStore
) -> None:
    sources = [{"name": "a", "broker": "connected", "held": 3}, {"name": "b", "broker": "lost: x"}, "nonsense"]
    store.reported["ingest"] = {"broker": "lost: b: x", "sources": sources}
    found = await scraped(client)
    assert found["snakemap_broker_connected"] == {(): 0}
    assert found["snakemap_source_connected"] == {("a",): 1, ("b",): 0}
    assert found["snakemap_source_held_messages"] == {("a",): 3, ("b",): 0}


async def test_the_processes_of_the_pages_have_their_own_numbers(
    client: httpx.AsyncClient, store: MetricsStore
) -> None:
    page = {"tabs": 3, "tabs_max": 200, "refused": {"session_refused": 2, "made up": 1}, "readers_replaced": 1}
    store.reported["pages:a:1"] = {"process": "a:5006", **page}
    store.reported["pages:a:2"] = {"process": "a:5006", **page}
    store.reported["pages:b:3"] = {"process": "b:5006", **page}
    store.reported["api:b:4"] = {"process": "b:8080", "clients": {"websocket": 5, "sse": 1}}
    told = await scraped(client)
    assert told["snakemap_page_sessions"] == {("a:5006",): 6, ("b:5006",): 3}
    assert told["snakemap_page_sessions_max"] == {("a:5006",): 400, ("b:5006",): 200}
    assert told["snakemap_page_sessions_refused_total"]["session_refused", "b:5006"] == 2
    assert told["snakemap_page_sessions_refused_total"]["other", "b:5006"] == 1
    assert told["snakemap_readers_replaced_total"] == {("a:5006",): 2, ("b:5006",): 1}
    assert told["snakemap_processes"] == {("ingest",): 0, ("pages",): 3, ("api",): 2}
    assert told["snakemap_api_clients"]["websocket", "b:8080"] == 5
    assert told["snakemap_api_clients"]["sse", "b:8080"] == 1


async def test_clients_of_this_process_are_told_as_they_are_now(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.metrics.clients["session"] = lambda: 7
    told = (await scraped(client))["snakemap_api_clients"]
    assert {kind: count for (kind, _), count in told.items()} == {"stream": 0, "session": 7}
    assert app.state.metrics.reporter.report()["clients"] == {"stream": 0, "session": 7}


async def test_while_redis_is_away_the_process_tells_of_itself(client: httpx.AsyncClient, store: MetricsStore) -> None:
    store.reported["ingest"] = {"broker": "none", "work": Work(since=1.0).to_json()}
    assert (await scraped(client))["snakemap_redis_up"] == {(): 1}
    store.down = True
    told = await scraped(client)
    assert told["snakemap_redis_up"] == {(): 0}
    assert not {"snakemap_points_total", "snakemap_ready", "snakemap_runs", "snakemap_stream_entries"} & set(told)
    assert told["process_resident_memory_bytes"][()] > 1e6
    store.down = False
    assert (await scraped(client))["snakemap_stream_bytes"] == {(): 1234}


async def test_a_redis_that_tells_nothing_of_itself_is_up_all_the_same(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(ANSWERS):
        monkeypatch.delitem(ANSWERS, name)
    told = await scraped(client)
    assert told["snakemap_redis_up"] == {(): 1}
    assert "snakemap_redis_memory_bytes" not in told


@pytest.mark.parametrize(
    ("trouble", "up"), [(None, 1), (BlueapiForbids("no token"), 1), (BlueapiUnavailable("away"), 0)]
)
async def test_whether_blueapi_answers_is_told(store: MetricsStore, trouble: Exception | None, up: float) -> None:
    async def ask() -> str:
        if trouble is not None:
            raise trouble
        return "IDLE"

    text, _ = await Metrics(cast("Store", store), load(), ask_blueapi=ask).text("")
    assert f"snakemap_blueapi_up {up:.1f}\n" in text.decode()
    text, _ = await Metrics(cast("Store", store), load()).text("")
    assert "blueapi_up" not in text.decode()


async def test_those_who_ask_at_once_or_often_share_one_reading(
    client: httpx.AsyncClient, store: MetricsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "READING_KEPT_S", 60.0)
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert store.looks == 1


async def test_openmetrics_is_answered_to_those_who_accept_it(client: httpx.AsyncClient, store: MetricsStore) -> None:
    store.reported["ingest"] = {"broker": "connected", "work": Work(since=1.0).to_json(), "errors": {"frame": 1}}
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    names = {family.name for family in read_openmetrics(answer.text)}
    assert {"snakemap_points", "snakemap_point_lag_seconds", "process_cpu_seconds"} <= names


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/json", "\xff", "a" * 5000, "a;version=\x01"])
async def test_whatever_else_is_accepted_prometheus_text_is_answered(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept.encode("latin-1")})  # pyright: ignore
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"


async def test_names_follow_the_conventions(client: httpx.AsyncClient, store: MetricsStore) -> None:
    store.reported["ingest"] = {"broker": "connected", "work": Work(since=1.0).to_json()}
    await client.get("/api/runs")
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        assert family.name.startswith(("snakemap_", "process_"))
        assert family.type in ("counter", "gauge", "histogram")
        assert family.type != "counter" or all(sample.name.endswith("_total") for sample in family.samples)
        assert not any({"run", "uid", "path", "plan"} & set(sample.labels) for sample in family.samples)
        if family.name.startswith("snakemap_"):
            assert family.documentation.endswith("."), family.name


async def test_requests_are_counted_by_the_template_of_their_route(client: httpx.AsyncClient) -> None:
    for path in ("/api/runs", "/api/runs/one", "/api/runs/two", "/nowhere/1", "/nowhere/2"):
        await client.get(path)
    await client.post("/api/runs")
    await client.request("BREW", "/api/runs")
    told = await scraped(client)
    assert told["snakemap_api_requests_total"] == {
        ("GET", "/api/runs", "2xx"): 1,
        ("GET", "/api/runs/{uid}", "4xx"): 2,
        ("GET", "none", "4xx"): 2,
        ("POST", "/api/runs", "4xx"): 1,
        ("other", "/api/runs", "4xx"): 1,
    }
    assert told["snakemap_api_errors_total"] == {
        ("run_not_found",): 2,
        ("not_found",): 2,
        ("method_not_allowed",): 2,
    }
    assert told["snakemap_api_request_duration_seconds_count"]["GET", "/api/runs/{uid}"] == 2


async def test_a_request_that_failed_by_an_error_of_ours_is_counted_as_one(
    client: httpx.AsyncClient, store: MetricsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "summaries", fail)
    assert (await client.get("/api/runs")).status_code == 500
    monkeypatch.undo()
    requests = (await client.get("/metrics")).text
    assert 'snakemap_api_requests_total{method="GET",route="/api/runs",status="5xx"} 1.0' in requests
    assert 'snakemap_api_errors_total{code="error"} 1.0' in requests


async def test_a_stream_passes_as_it_comes_and_is_timed_to_its_beginning() -> None:
    requests, sent, go_on = RequestMetrics(), [], asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    scope: Scope = {"type": "http", "method": "GET", "path": "/"}
    streaming = asyncio.create_task(RequestMetricsMiddleware(stream, requests=requests)(scope, receive, send))
    while len(sent) < 2:
        await asyncio.sleep(0)
    assert sent[1]["body"] == b"one"
    assert requests.counts == {("GET", "none", "2xx"): 1}
    go_on.set()
    await streaming
    assert requests.counts.total() == 1


@pytest.mark.parametrize(
    ("answer", "status"), [({"type": "websocket.accept"}, "1xx"), ({"type": "websocket.close", "code": 1008}, "4xx")]
)
async def test_a_websocket_is_counted_when_it_is_let_in_or_not(answer: Message, status: str) -> None:
    requests = RequestMetrics()

    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        await send(answer)

    async def nothing(*_: object) -> Any:
        return None

    await RequestMetricsMiddleware(socket, requests=requests)({"type": "websocket", "path": "/"}, nothing, nothing)
    assert requests.counts == {("WEBSOCKET", "none", status): 1}
    assert requests.waits == {}


async def test_two_applications_in_one_process_share_nothing(store: MetricsStore) -> None:
    apps = [create_app(load(), cast("Store", store)) for _ in range(2)]
    for app, asked in zip(apps, (1, 0), strict=True):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            for _ in range(asked):
                await client.get("/api/runs")
            counts = (await scraped(client)).get("snakemap_api_requests_total", {})
            assert sum(counts.values()) == asked
    assert [name for name in REGISTRY._names_to_collectors if name.startswith("snakemap")] == []


async def test_a_process_reports_itself_until_it_ends_whatever_the_store_does() -> None:
    clock = FakeClock()
    store = FakeStore(clock)
    reporter = HeartbeatReporter(store, "pages", port=5006, fields=lambda: {"tabs": 4}, period_s=0.001)
    store.down = True
    reporter.start()
    reporter.start()
    await asyncio.sleep(0)
    store.down = False
    await until(lambda: reporter.part in store.reported)
    assert store.reported[reporter.part]["tabs"] == 4
    assert store.reported[reporter.part]["process"].endswith(":5006")
    await reporter.close()
    store.reported.clear()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert store.reported == {}


async def until(happens: Callable[[], bool]) -> None:
    """Returns when something is so."""
    async with patiently(10):
        while not happens():
            await asyncio.sleep(0.001)


async def test_an_answer_of_no_known_route_is_counted_too() -> None:
    requests = RequestMetrics()
    app = RequestMetricsMiddleware(Response("mounted"), requests=requests)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/x")).text == "mounted"
    assert requests.counts == {("GET", "none", "2xx"): 1}
