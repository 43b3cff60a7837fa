"""blueapi's REST as recorded, and everything it can answer that is no answer: each is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import httpx
import orjson
import pytest
from tests.support import recordings

from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.scan_control import ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.errors import (
    BlueapiFailed,
    BlueapiForbids,
    BlueapiUnavailable,
    ParamsRefused,
    PlanNotFound,
    SettingsError,
    SnakemapError,
    TransitionRefused,
    WorkerBusy,
)

CASES = ("small_step", "small_aborted", "blob_fly")


class Recorded:
    """A server that answers as it was recorded, and only to what was asked then, in that order."""

    def __init__(self, case: str) -> None:
        path = recordings.FOLDER / f"{case}.rest.jsonl"
        self.exchanges = [json.loads(line) for line in path.read_text().splitlines()]
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        exchange = self.exchanges[self.asked]
        self.asked += 1
        assert (request.method, request.url.path) == (exchange["method"], exchange["path"])
        body = orjson.loads(request.content) if request.content else None
        assert body == exchange["request"]
        return httpx.Response(exchange["status"], text=exchange["response"])


def server(answer: Callable[[httpx.Request], httpx.Response], **more: Any) -> BlueapiClient:
    return BlueapiClient("http://blueapi:8000", transport=httpx.MockTransport(answer), **more)


def saying(status: int, body: Any = None, *, text: str | None = None) -> BlueapiClient:
    return server(lambda _: httpx.Response(status, text=text if text is not None else json.dumps(body)))


@pytest.mark.parametrize("case", CASES)
async def test_recorded_exchanges_are_asked_and_read_as_they_were(case: str) -> None:
    recorded = Recorded(case)
    blueapi = server(recorded)
    for exchange in recorded.exchanges:
        method, path, body = exchange["method"], exchange["path"].removeprefix("/api/v1"), exchange["request"]
        told = orjson.loads(exchange["response"])
        if (method, path) == ("POST", "/tasks"):
            session = body["instrument_session"]
            assert await blueapi.submit(body["name"], body["params"], instrument_session=session) == told["task_id"]
        elif path.startswith("/tasks/"):
            task = await blueapi.task(path.rpartition("/")[2])
            assert (task.name, task.params) == (told["task"]["name"], told["task"]["params"])
            assert (task.complete, list(task.errors)) == (told["is_complete"], told["errors"])
            assert task.instrument_session == "cm12345-1"
        elif (method, path) == ("PUT", "/worker/task"):
            await blueapi.begin(body["task_id"])
        elif (method, path) == ("GET", "/worker/task"):
            assert await blueapi.active_task() == told["task_id"]
        elif (method, path) == ("GET", "/worker/state"):
            assert await blueapi.state() == told
        elif (method, path) == ("PUT", "/worker/state"):
            assert await blueapi.change(body["new_state"], reason=body.get("reason", "")) == told
    assert recorded.asked == len(recorded.exchanges)
    await blueapi.close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (409, {"detail": "Worker already active"}, WorkerBusy, "busy: Worker already active"),
        (404, {"detail": "Item not found"}, PlanNotFound, "the task is done"),
        (400, {"detail": "Cannot transition from IDLE to ABORTING"}, TransitionRefused, "refuses: Cannot transition"),
        (401, {"detail": "Not authenticated"}, BlueapiForbids, "requires a valid token: Not auth"),
        (403, {"detail": "Not authorized to set worker state"}, BlueapiForbids, "does not allow this: Not auth"),
        (500, None, BlueapiFailed, "answered with 500"),
        (502, "<html>", BlueapiFailed, "answered with 502"),
        (307, None, BlueapiFailed, "answered with 307"),
        (422, {"detail": "odd"}, ParamsRefused, "odd"),
        (422, None, ParamsRefused, "refuses the parameters"),
        (422, {"detail": [1, {"loc": None}]}, ParamsRefused, "cannot be used"),
    ],
)
async def test_every_refusal_is_told_as_what_it_is(
    status: int, body: Any, kind: type[SnakemapError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await saying(status, body).begin("t")


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"task": 3}', '{"task": {"name": "x", "params": 3}}'])
async def test_an_answer_that_cannot_be_read_is_an_error_of_blueapi(text: str) -> None:
    for call in (
        lambda blueapi: blueapi.task("t"),
        lambda blueapi: blueapi.plan("p"),
        lambda blueapi: blueapi.plans(),
        lambda blueapi: blueapi.state(),
        lambda blueapi: blueapi.submit("p", {}, instrument_session="aa1-1"),
    ):
        with pytest.raises(BlueapiFailed):
            await call(saying(200, text=text))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("no"), "cannot be reached"),
        (httpx.ReadTimeout("late"), "does not answer in time"),
        (httpx.RemoteProtocolError("?"), "cannot be reached"),
    ],
)
async def test_a_server_that_is_away_is_said_to_be(error: Exception, words: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(BlueapiUnavailable, match=f"blueapi at blueapi:8000 {words}"):
        await server(fail).state()


async def test_faults_are_told_by_parameter() -> None:
    detail = [
        {"loc": ["body", "params", "rows"], "msg": "Input should be a valid integer", "type": "int_parsing"},
        {"loc": ["body", "params", "spec", "outer", 0], "msg": "Value error, odd", "type": "value_error"},
        {"loc": ["body", "instrument_session"], "msg": "Field required", "type": "missing"},
    ]
    with pytest.raises(ParamsRefused) as refused:
        await saying(422, {"detail": detail}).submit("p", {}, instrument_session="")
    assert refused.value.faults == {
        "rows": "Input should be a valid integer",
        "spec": "outer.0: odd",
        "instrument_session": "Field required",
    }


async def test_a_blueapi_that_knows_no_session_is_asked_without() -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        if "instrument_session" in bodies[-1]:
            fault = {"loc": ["body", "instrument_session"], "msg": "Extra", "type": "extra_forbidden"}
            return httpx.Response(422, json={"detail": [fault]})
        return httpx.Response(201, json={"task_id": "t"})

    assert await server(answer).submit("p", {"a": 1}, instrument_session="aa1-1") == "t"
    assert bodies[-1] == {"name": "p", "params": {"a": 1}}


async def test_a_token_goes_to_blueapi_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(307, headers={"location": "http://evil/api/v1/worker/state"})

    blueapi = server(answer, token="of-the-setting")
    caplog.set_level("DEBUG")
    for token in ("", "of-the-user"):
        with pytest.raises(BlueapiFailed) as failed:
            await blueapi.state(token=token)
        assert "of-the" not in str(failed.value)
    assert seen == [("blueapi", "Bearer of-the-setting"), ("blueapi", "Bearer of-the-user")]
    assert "of-the" not in caplog.text


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snakemap.blueapi.client.ANSWER_BYTES_MAX", 1000)
    with pytest.raises(BlueapiFailed, match="more than 1,000 bytes"):
        await saying(200, text="x" * 2000).state()


@pytest.mark.parametrize("url", ["blueapi:8000", "ftp://host", "http://", "nonsense"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="SNAKEMAP_BLUEAPI_URL"):
        BlueapiClient(url)


async def test_the_watch_looks_with_the_token_of_a_tab_where_none_is_set() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != "Bearer of-a-user":
            return httpx.Response(401, json={"detail": "Not authenticated"})
        path = request.url.path.removeprefix("/api/v1")
        return httpx.Response(200, json={"task_id": None} if path == "/worker/task" else "IDLE")

    watch = StatusPoller(ScanControl(cast("ControlStore", None), server(answer)))
    await watch.poll_worker()
    assert "requires a valid token" in watch.worker.trouble
    watch._users = {"tab": "of-a-user", "another": ""}
    await watch.poll_worker()
    assert (watch.worker.state, watch.worker.trouble) == ("IDLE", "")
    await watch.poll_worker(token="of-yesterday")
    assert watch.worker.trouble.endswith("Not authenticated; reload the page to renew its token")
    watch._users = {}
    await watch.poll_worker(token="of-a-user")
    assert watch.worker.idle
