"""The API as others meet it: a real server, a real Redis, real WebSockets, and clients of every kind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from tests.support import scans
from tests.support.beamline import Scan
from tests.support.patience import PATIENCE, patiently
from tests.support.rabbitmq import free_port
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from snakemap.api import server, streaming
from snakemap.api.service import Service
from snakemap.core.documents import Document, WorkerEvent
from snakemap.core.run import Run
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionSlots
from snakemap.web.ports import listen

TIMEOUT_S = 20.0
COMMAND = (sys.executable, "-m", "snakemap")


@dataclass(frozen=True, slots=True)
class Api:
    """A server that answers.

    Attributes:
        store: to put documents into.
        authority: its host and port.
        service: what its routes stand on.
    """

    store: Store
    authority: str
    service: Service

    def socket(self, path: str, **options: Any) -> connect:
        """A WebSocket to be entered."""
        told = {"open_timeout": PATIENCE * TIMEOUT_S, **options}
        return connect(f"ws://{self.authority}/api{path}", compression=None, **told)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://{self.authority}{path}", timeout=PATIENCE * TIMEOUT_S)


@asynccontextmanager
async def serving(redis_url: str, **settings: Any) -> AsyncIterator[Api]:
    """The API, served within this process."""
    told = Settings(host="127.0.0.1", **settings)
    store = Store(redis_url)
    with listen("127.0.0.1", 0, setting="port") as listening:
        configuration = server.configuration(told, Store(redis_url))
        serving = server.Server(configuration)
        task = asyncio.create_task(serving.serve(sockets=[listening]))
        try:
            await until(lambda: serving.started)
            service = cast("FastAPI", configuration.app).state.service
            yield Api(store, f"127.0.0.1:{listening.getsockname()[1]}", service)
        finally:
            serving.should_exit = True
            await task
            await store.close()


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with serving(redis_url) as api:
        yield api


async def until(happens: Callable[[], bool]) -> None:
    """Returns when something is so."""
    async with patiently(TIMEOUT_S):
        while not happens():
            await asyncio.sleep(0.01)


async def heard(socket: ClientConnection, number: int) -> list[dict[str, Any]]:
    """The next messages."""
    async with patiently(TIMEOUT_S):
        return [json.loads(await socket.recv()) for _ in range(number)]


async def farewell(socket: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the server ends it."""
    async with patiently(TIMEOUT_S):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "it was cut off")


def worker(state: str) -> WorkerEvent:
    return WorkerEvent.from_body({"state": state, "task_status": None})


async def test_a_client_hears_every_event_from_when_it_came(api: Api) -> None:
    await api.store.append([worker("OLD")])
    async with api.socket("/documents") as socket:
        cursors = await api.store.append([worker("IDLE"), *scans.documents(Scan("run"), points=1)])
        messages = await heard(socket, 6)
    assert [message["cursor"] for message in messages] == cursors
    assert messages[0] == {"cursor": cursors[0], "name": "worker", "run": "", "doc": worker("IDLE").body}
    assert [(message["name"], message["run"]) for message in messages[1:]] == [
        (name, "run") for name in ("start", "descriptor", "stream_resource", "descriptor", "event_page")
    ]


async def test_a_late_client_gets_everything_and_then_the_tail_without_a_gap(api: Api) -> None:
    cursors = await api.store.append([worker(str(number)) for number in range(1200)])
    async with api.socket("/documents?after=0") as socket, asyncio.TaskGroup() as group:
        appending = group.create_task(append_slowly(api.store, 100))
        messages = await heard(socket, 1300)
    assert [message["cursor"] for message in messages] == [*cursors, *appending.result()]


async def append_slowly(store: Store, number: int) -> list[str]:
    return [cursor for state in range(number) for cursor in await store.append([worker(f"late {state}")])]


async def test_a_client_goes_on_where_it_has_left_off(api: Api) -> None:
    cursors = await api.store.append([worker(str(number)) for number in range(10)])
    async with api.socket(f"/documents?after={cursors[6]}") as socket:
        assert [message["cursor"] for message in await heard(socket, 3)] == cursors[7:]


async def test_a_run_is_told_from_its_start_on_and_nothing_else_with_it(api: Api) -> None:
    mine, other = Scan("mine"), Scan("other")
    documents = scans.documents(mine, points=2)
    await api.store.append([*scans.documents(other, points=2), *documents[:5], worker("RUNNING")])
    async with api.socket("/runs/mine/documents") as socket:
        messages = await heard(socket, 5)
        await api.store.append([scans.stop(other), documents[5], scans.stop(mine)])
        messages += await heard(socket, 2)
    assert {message["run"] for message in messages} == {"mine"}
    assert [message["doc"] for message in messages] == [*(document.doc for document in documents), mine.stop()["doc"]]


async def test_what_a_client_hears_folds_into_the_maps_that_the_api_tells(api: Api) -> None:
    scan = Scan("run")
    await api.store.append([*scans.documents(scan, points=12), scans.stop(scan)])
    await api.store.save_summary("run", {"uid": "run"})
    run: Run | None = None
    async with api.socket("/runs/latest/documents") as socket:
        for message in await heard(socket, 17):
            run = run or Run(message["doc"])
            run.apply(Document(message["name"], message["doc"], run="run"), cursor=message["cursor"])
    assert run is not None
    told = (await api.get("/api/runs/latest/maps")).json()
    assert told["channels"] == dict(zip(run.maps.channels, run.maps.grids.tolist(), strict=True))
    assert told["cursor"] == run.cursor


async def test_a_client_that_does_not_read_is_let_go_and_holds_nobody_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 0.3)
    large = WorkerEvent.from_body({"state": "x" * 100_000})
    async with api.socket("/documents", max_queue=1) as slow, api.socket("/documents") as quick:
        for _ in range(10):
            await api.store.append([large] * 20)
            assert len(await heard(quick, 20)) == 20
        await until(lambda: api.service.streams.clients == 1)
        assert await farewell(slow) == (1013, "too slow: reconnect after the last cursor received")
        cursors = await api.store.append([worker("IDLE")])
        assert [message["cursor"] for message in await heard(quick, 1)] == cursors


async def test_a_client_that_has_gone_leaves_nothing_behind(api: Api) -> None:
    before = asyncio.all_tasks()
    for path in ("/documents", "/documents?after=0"):
        async with api.socket(path) as socket:
            await api.store.append([worker("IDLE")])
            await heard(socket, 1)
    await until(lambda: not asyncio.all_tasks() - before)


@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("/documents?after=yesterday", 1008, "not a cursor"),
        ("/documents?after=99999999999999999999999", 1008, "not a cursor"),
        ("/runs/nobody/documents", 1008, "nobody"),
        ("/runs/latest/documents", 1008, "no run"),
        (f"/runs/{'x' * 2000}/documents", 1008, "No run"),
    ],
)
async def test_a_client_that_asks_for_what_is_not_there_is_told_so(api: Api, path: str, code: int, word: str) -> None:
    async with api.socket(path) as socket:
        told, reason = await farewell(socket)
    assert told == code
    assert word in reason


async def test_a_client_too_many_is_asked_to_come_later(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.service.streams, "places", ConnectionSlots(most=1, each=2))
    async with api.socket("/documents") as first:
        async with api.socket("/documents") as second:
            assert await farewell(second) == (1013, "too many clients; try again later")
        refused = await api.get("/api/documents/events")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "5"
        await api.store.append([worker("IDLE")])
        assert len(await heard(first, 1)) == 1


async def test_web_pages_of_others_may_not_read_along(redis_url: str) -> None:
    async with serving(redis_url, origins="dashboard.beamline:5006") as api:
        for origin in ("http://evil.example", "null", f"http://{api.authority}.evil.example"):
            with pytest.raises(InvalidStatus) as refused:
                await api.socket("/documents", origin=origin)
            assert refused.value.response.status_code == 403
            assert json.loads(refused.value.response.body or b"")["error"]["code"] == "origin_refused"
        for origin in ("http://dashboard.beamline:5006", f"http://{api.authority}"):
            async with api.socket("/documents", origin=origin) as socket:
                await api.store.append([worker("IDLE")])
                assert len(await heard(socket, 1)) == 1


async def test_clients_are_told_when_redis_is_away() -> None:
    async with serving(f"redis://127.0.0.1:{free_port()}") as api:
        for path in ("/documents", "/documents?after=0", "/runs/run/documents"):
            async with api.socket(path) as socket:
                code, reason = await farewell(socket)
            assert (code, reason[:8]) == (1013, "Redis at")
        assert (await api.get("/api/runs")).json()["error"]["code"] == "store_unavailable"
        ready = await api.get("/readyz")
        assert (ready.status_code, list(ready.json()["checks"])) == (503, ["redis"])


async def test_large_maps_hold_nobody_up(api: Api) -> None:
    scan = Scan("run", start_extra={"shape": [1000, 1000]})
    await api.store.append(scans.documents(scan, points=1))
    asking = asyncio.create_task(api.get("/api/runs/run/maps"))
    answered = 0
    async with httpx.AsyncClient(trust_env=False) as client:
        while not asking.done():
            answered += (await client.get(f"http://{api.authority}/healthz")).status_code == 200
    maps = (await asking).json()
    assert (maps["shape"], maps["channels"]["total"][0][:2]) == ([1000, 1000], [3001, None])
    assert answered >= 5


def environment(redis_url: str, port: int) -> dict[str, str]:
    return {**os.environ, "SNAKEMAP_REDIS_URL": redis_url, "SNAKEMAP_API_PORT": str(port)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_program_serves_until_it_is_told_to_end(redis_url: str, number: signal.Signals) -> None:
    port = free_port()
    process = subprocess.Popen((*COMMAND, "api"), env=environment(redis_url, port), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE * TIMEOUT_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert time.monotonic() < deadline
                assert process.poll() is None
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        assert answer.status_code == 200
        async with connect(f"ws://127.0.0.1:{port}/api/documents") as socket:
            process.send_signal(number)
            assert (await farewell(socket))[0] == 1012
        _, said = process.communicate(timeout=PATIENCE * TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, b"Traceback" in said) == (0, False)


def test_a_port_that_is_taken_is_told_in_one_line(redis_url: str) -> None:
    with listen("127.0.0.1", 0, setting="port") as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            (*COMMAND, "api"),
            env=environment(redis_url, port),
            capture_output=True,
            text=True,
            timeout=PATIENCE * TIMEOUT_S,
        )
    assert run.returncode == 2
    assert (
        run.stderr == f"snakemap: SNAKEMAP_API_PORT: nothing can listen on 127.0.0.1:{port}: Address already in use\n"
    )
