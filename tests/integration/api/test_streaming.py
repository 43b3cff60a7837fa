"""The one stream as its clients get it: by WebSocket, as server-sent events and in pages, from any cursor on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from tests.integration.api.test_api import Api, farewell, heard, serving, until, worker
from tests.support import scans
from tests.support.beamline import Scan
from tests.support.http_requests import answers
from tests.support.patience import PATIENCE, eventually, patiently
from tests.support.rabbitmq import free_port
from tests.support.stack import Program
from websockets.exceptions import InvalidStatus

from snakemap.api import streaming
from snakemap.core.documents import Document, WorkerEvent
from snakemap.core.run import Run
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionSlots

TIMEOUT_S = 20.0
NEW, LARGE = 160, 100_000

CLIENT = """
import asyncio, json, sys
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], compression=None) as socket:
        print("open", flush=True)
        async for message in socket:
            print(json.loads(message)["cursor"], flush=True)
            if "LAST" in message:
                return

asyncio.run(main())
"""


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with serving(redis_url) as api:
        yield api


@dataclass
class Event:
    """A server-sent event as a browser reads it."""

    id: str = ""
    name: str = ""
    data: str = ""
    comments: list[str] = field(default_factory=list)

    @property
    def told(self) -> Any:
        return json.loads(self.data)


@asynccontextmanager
async def listening(api: Api, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a path, comments among them."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE * TIMEOUT_S) as client,
        client.stream("GET", f"http://{api.authority}/api{path}", headers=sent) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    event = Event()
    async for line in answer.aiter_lines():
        name, _, value = line.partition(":")
        match name:
            case "id":
                event.id = value.strip()
            case "event":
                event.name = value.strip()
            case "data":
                event.data += value.strip()
            case "" if line:
                event.comments.append(value.strip())
            case "" if not line:
                yield event
                event = Event()


async def next_documents(events: AsyncIterator[Event], number: int) -> list[Event]:
    """The next events that are no comments."""
    found: list[Event] = []
    async with patiently(TIMEOUT_S):
        while len(found) < number:
            event = await anext(events)
            found += [event] if event.data else []
    return found


async def test_events_are_what_a_websocket_tells_with_the_cursor_as_their_id(api: Api) -> None:
    await api.store.append([worker("OLD")])
    async with listening(api, "/documents/events") as events, api.socket("/documents") as socket:
        assert (await anext(events)).comments
        cursors = await api.store.append([*scans.documents(Scan("run"), points=1), worker("IDLE")])
        told = await next_documents(events, 6)
        assert [event.told for event in told] == await heard(socket, 6)
    assert [event.id for event in told] == cursors
    assert [event.name for event in told] == [
        "start", "descriptor", "stream_resource", "descriptor", "event_page", "worker",
    ]  # fmt: skip


async def test_events_go_on_where_they_were_cut_off(api: Api) -> None:
    cursors = await api.store.append([worker(str(number)) for number in range(250)])
    async with listening(api, "/documents/events?after=0") as events:
        first = await next_documents(events, 120)
    async with listening(api, "/documents/events?after=0", Last_Event_ID=first[-1].id) as events:
        rest = await next_documents(events, 130)
        more = await api.store.append([worker("NEW")])
        rest += await next_documents(events, 1)
    assert [event.id for event in (*first, *rest)] == [*cursors, *more]


async def test_events_of_a_run_are_its_own_from_any_cursor_on(api: Api) -> None:
    mine, other = Scan("mine"), Scan("other")
    cursors = await api.store.append([*scans.documents(mine, points=3), *scans.documents(other, points=3)])
    async with listening(api, "/runs/mine/documents/events") as events:
        assert [event.id for event in await next_documents(events, 7)] == cursors[:7]
    async with listening(api, f"/runs/mine/documents/events?after={cursors[4]}") as events:
        assert [event.id for event in await next_documents(events, 2)] == cursors[5:7]
        ends = await api.store.append([scans.stop(other), scans.stop(mine)])
        assert [event.id for event in await next_documents(events, 1)] == ends[1:]


async def test_a_run_is_gone_on_with_by_websocket_and_in_pages(api: Api) -> None:
    mine, other = Scan("mine"), Scan("other")
    cursors = await api.store.append([*scans.documents(mine, points=3), *scans.documents(other, points=3)])
    async with api.socket(f"/runs/mine/documents?after={cursors[4]}") as socket:
        messages = await heard(socket, 2)
        ends = await api.store.append([scans.stop(mine)])
        messages += await heard(socket, 1)
    assert [message["cursor"] for message in messages] == [*cursors[5:7], *ends]
    answer = await api.get(f"/api/runs/mine/documents?after={cursors[4]}")
    assert [json.loads(line)["cursor"] for line in answer.text.splitlines()] == [*cursors[5:7], *ends]
    assert (await api.get(f"/api/runs/mine/documents?after={ends[0]}")).text == ""


async def test_pages_put_together_are_the_stream(api: Api) -> None:
    cursors = await api.store.append([worker(str(number)) for number in range(450)])
    found: list[str] = []
    while lines := (await api.get(f"/api/documents?count=200&after={found[-1] if found else 0}")).text.splitlines():
        assert len(lines) <= 200
        found += [json.loads(line)["cursor"] for line in lines]
    assert found == cursors


async def test_a_page_of_large_documents_has_fewer_of_them(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PAGE_BYTES_MAX", 10 * LARGE)
    monkeypatch.setattr(streaming, "ENTRIES_AT_ONCE", 2)
    cursors = await api.store.append([WorkerEvent.from_body({"state": "x" * LARGE})] * 30)
    lines = (await api.get("/api/documents")).text.splitlines()
    assert [json.loads(line)["cursor"] for line in lines] == cursors[:10]


async def test_silence_is_filled_so_that_no_proxy_takes_it_for_death(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_S", 0.5)
    async with listening(api, "/documents/events") as events, patiently(TIMEOUT_S):
        await anext(events)
        assert (await anext(events)).comments == ["nothing new"]
        cursors = await api.store.append([worker("IDLE")])
        assert [event.id for event in await next_documents(events, 1)] == cursors


async def test_a_listener_that_does_not_read_is_let_go_and_holds_nobody_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 0.3)
    large = WorkerEvent.from_body({"state": "x" * LARGE})
    async with listening(api, "/documents/events") as slow, listening(api, "/documents/events") as quick:
        await anext(slow)
        for _ in range(10):
            cursors = await api.store.append([large] * 20)
            assert [event.id for event in await next_documents(quick, 20)] == cursors
        await until(lambda: api.service.streams.clients == 1)
        async with patiently(TIMEOUT_S):
            comments = [comment for event in [event async for event in slow] for comment in event.comments]
        assert comments == ["too slow: reconnect after the last id received"]


async def test_a_listener_that_has_gone_leaves_nothing_behind(api: Api) -> None:
    before = asyncio.all_tasks()
    for path in ("/documents/events?after=0", "/documents/events"):
        async with listening(api, path) as events:
            await api.store.append([worker("IDLE")])
            await next_documents(events, 1)
    await until(lambda: not asyncio.all_tasks() - before and api.service.streams.clients == 0)


@pytest.mark.parametrize("path", ["/documents", "/documents/events", "/runs/run/documents"])
@pytest.mark.parametrize(
    ("after", "status", "code"),
    [("yesterday", 422, "cursor"), ("9" * 20, 422, "cursor"), ("18446744073709551615-1", 422, "cursor")],
)
async def test_a_cursor_that_is_none_or_lies_in_the_future_is_refused(
    api: Api, path: str, after: str, status: int, code: str
) -> None:
    await api.store.append(scans.documents(Scan("run"), points=1))
    answer = await api.get(f"/api{path}?after={after}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if "events" not in path:
        async with api.socket(f"{path}?after={after}") as socket:
            assert (await farewell(socket))[0] == 1008


async def test_a_cursor_whose_documents_have_left_the_store_is_told_to_begin_again(redis_url: str) -> None:
    async with serving(redis_url) as api:
        store = Store(redis_url, keep_days=1e-9)
        cursors = await store.append(scans.documents(Scan("old"), points=3))
        await store.evict()
        kept = await store.append([worker("IDLE")])
        await store.close()
        for path in ("/api/documents", "/api/documents/events"):
            answer = await api.get(f"{path}?after={cursors[3]}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "cursor_gone")
            assert "after=0" in answer.json()["error"]["message"]
        async with api.socket(f"/documents?after={cursors[3]}") as socket:
            code, reason = await farewell(socket)
            assert (code, "after=0" in reason) == (1008, True)
        lines = (await api.get("/api/documents?after=0")).text.splitlines()
        assert [json.loads(line)["cursor"] for line in lines] == kept
        assert (await api.get("/api/runs/old/documents?after=0")).status_code == 404


@pytest.mark.parametrize("path", ["/documents", "/runs/run/documents"])
async def test_streams_of_a_store_that_was_emptied_end_and_say_from_where_to_go_on(
    api: Api, redis_url: str, path: str
) -> None:
    await api.store.append(scans.documents(Scan("run"), points=2))
    async with listening(api, f"{path}/events?after=0") as events, api.socket(f"{path}?after=0") as socket:
        await next_documents(events, 6)
        async with patiently(TIMEOUT_S):
            for _ in range(6):
                await socket.recv()
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        code, reason = await farewell(socket)
        assert (code, "emptied or restored" in reason) == (1013, True)
        async with patiently(TIMEOUT_S):
            last = [event async for event in events][-1]
        assert (last.id, last.data, "emptied or restored" in last.comments[0]) == ("0", "", True)
    await api.store.append(scans.documents(Scan("run"), points=1))
    async with listening(api, "/documents/events", Last_Event_ID=last.id) as events:
        assert next(event.name for event in await next_documents(events, 5)) == "start"


async def test_a_cursor_is_good_as_long_as_nothing_after_it_has_gone(api: Api, redis_url: str) -> None:
    store = Store(redis_url, keep_days=1e-9)
    cursors = await store.append(scans.documents(Scan("old"), points=3))
    await store.evict()
    await store.close()
    assert (await api.get(f"/api/documents?after={cursors[-1]}")).text == ""
    assert (await api.get("/api/documents?after=0")).text == ""


async def test_one_address_cannot_take_all_places(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.service.streams, "places", ConnectionSlots(most=9, each=1))
    async with listening(api, "/documents/events") as events:
        await anext(events)
        for path in ("/api/documents/events", "/api/documents"):
            refused = await api.get(path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_clients")
        async with api.socket("/documents") as socket:
            assert await farewell(socket) == (1013, "too many clients from this address; try again later")
    await until(lambda: api.service.streams.clients == 0)
    assert (await api.get("/api/documents")).status_code == 200


@pytest.mark.parametrize("path", ["/documents?after=0", "/runs/run/documents", "/random/documents?rate_hz=1"])
async def test_clients_that_disconnect_may_connect_again_at_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(api.service.streams, "places", ConnectionSlots(most=12, each=12))
    await api.store.append(scans.documents(Scan("run"), points=1))

    async def visit() -> None:
        async with api.socket(path) as socket:
            await heard(socket, 2)

    for _ in range(6):
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(visit())


async def test_events_end_when_the_server_does_and_it_says_nothing_of_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(redis_url) as api, listening(api, "/documents/events") as events:
        await anext(events)
        ending = asyncio.create_task(anext(events, None))
        api.service.streams.end()
        async with patiently(TIMEOUT_S):
            assert await ending is None
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_of_ten_clients_one_is_killed_and_one_does_not_read_and_eight_get_everything_in_order(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 3.0)
    async with serving(redis_url) as api:
        before = await api.store.append([worker(f"old {number}") for number in range(50)])
        async with api.socket("/documents?after=0", max_queue=1) as slow, asyncio.TaskGroup() as group:
            doomed, *good = await asyncio.gather(*(_client(api) for _ in range(9)))
            assert doomed.stdout is not None
            readers = [group.create_task(_cursors(process)) for process in good]
            large = WorkerEvent.from_body({"state": "x" * LARGE})
            new = list(await api.store.append([large] * (NEW // 2)))
            await doomed.stdout.readline()
            os.kill(doomed.pid, signal.SIGKILL)
            for _ in range(NEW // 20):
                new += await api.store.append([large] * 10)
            new += await api.store.append([worker("LAST")])
            told = [await reader for reader in readers]
            await until(lambda: api.service.streams.clients == 0)
            assert await farewell(slow) == (1013, "too slow: reconnect after the last cursor received")
        await doomed.wait()
    assert len(told) == 8
    for cursors in told:
        assert cursors == [*before, *new]


async def _client(api: Api) -> asyncio.subprocess.Process:
    """A client in a process of its own, which tells the cursors that it hears."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, f"ws://{api.authority}/api/documents?after=0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"open"
    return process


async def _cursors(process: asyncio.subprocess.Process) -> list[str]:
    out, _ = await process.communicate()
    return out.decode().split()


def test_the_program_ends_at_once_while_events_are_listened_to(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"SNAKEMAP_REDIS_URL": redis_url, "SNAKEMAP_API_PORT": str(port)}
    with Program(["api"], environment=environment, log=tmp_path / "log") as program:
        assert eventually(lambda: answers(f"{url}/healthz"), timeout_s=TIMEOUT_S, every_s=0.1)
        with httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/api/documents/events") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(":")
            assert program.process is not None
            program.process.send_signal(signal.SIGTERM)
            assert list(lines)[-1] == ""
        assert program.end() == 0
    assert "ERROR" not in (tmp_path / "log").read_text()


async def test_a_random_scan_is_told_as_a_true_one_and_then_it_is_over(api: Api) -> None:
    async with api.socket("/random/documents?shape=5x6&rate_hz=200&seed=3") as socket:
        messages = await heard(socket, 5)
        while messages[-1]["name"] != "stop":
            messages += await heard(socket, 1)
        assert await farewell(socket) == (1000, "end of the stream")
    run = Run(messages[0]["doc"])
    for message in messages:
        run.apply(Document(message["name"], message["doc"], run=message["run"]), cursor=message["cursor"])
    assert (run.status, run.points) == ("complete", 30)
    told = (await api.get("/api/random/map?shape=5x6&seed=3")).json()
    assert told["channels"] == dict(zip(run.maps.channels, run.maps.grids.tolist(), strict=True))


@pytest.mark.parametrize(
    "query", ["shape=501x4", "rate_hz=0", "rate_hz=1e9", "seed=-1", "seed=x", "shape=" + "1" * 999]
)
async def test_a_random_scan_that_cannot_be_is_refused(api: Api, query: str) -> None:
    async with api.socket(f"/random/documents?{query}") as socket:
        code, reason = await farewell(socket)
    assert (code, reason.startswith(query.partition("=")[0])) == (1008, True)


async def test_a_random_scan_takes_a_place_and_is_not_for_pages_of_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.service.streams, "places", ConnectionSlots(most=1, each=1))
    async with api.socket("/random/documents?rate_hz=1") as first:
        await heard(first, 1)
        async with api.socket("/random/documents") as second:
            assert (await farewell(second))[0] == 1013
    await until(lambda: api.service.streams.clients == 0)
    with pytest.raises(InvalidStatus):
        await api.socket("/random/documents", origin="http://evil.example")
