"""What a tab does to the beamline, over a real desk and a blueapi that answers as it was recorded to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from bokeh.document import Document
from tests.support.patience import patiently
from tests.unit.dashboard.test_session import RunsInMemory, run_of, settle

from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.scan_control import Caller, ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.dashboard.app import _caller
from snakemap.dashboard.panes.scan_control import ScanControlPane
from snakemap.dashboard.panes.status_text import history, sought
from snakemap.dashboard.session import Session
from snakemap.render.cache import RenderCache
from snakemap.settings import load
from snakemap.store.store import Store

HOSTILE = '<img src=x onerror="window.hacked=3">'
PLAN = {
    "name": "grid",
    "description": HOSTILE,
    "schema": {
        "properties": {
            "rows": {"type": "integer", "minimum": 1, "default": 2},
            "columns": {"type": "integer", "default": 3},
            "x_start": {"type": "number", "default": 0.0},
        },
        "additionalProperties": False,
    },
}


class Server:
    """blueapi's answers, and what was asked."""

    def __init__(self) -> None:
        self.state = "IDLE"
        self.tasks: list[dict[str, Any]] = []
        self.refusal: tuple[int, Any] | None = None
        self.tokens: set[str | None] = set()
        self.away = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away")
        self.tokens.add(request.headers.get("authorization"))
        method, path = request.method, request.url.path.removeprefix("/api/v1")
        body = orjson.loads(request.content) if request.content else {}
        if (method, path) == ("POST", "/tasks"):
            if self.refusal is not None:
                return httpx.Response(self.refusal[0], json={"detail": self.refusal[1]})
            self.tasks.append(body)
            return httpx.Response(201, json={"task_id": str(len(self.tasks))})
        if (method, path) == ("PUT", "/worker/task"):
            self.state = "RUNNING"
            return httpx.Response(200, json=body)
        if (method, path) == ("PUT", "/worker/state"):
            self.state = "IDLE"
            return httpx.Response(202, json=body["new_state"])
        if path == "/worker/state":
            return httpx.Response(200, json=self.state)
        if path == "/worker/task":
            return httpx.Response(200, json={"task_id": str(len(self.tasks)) if self.tasks else None})
        if path.startswith("/plans"):
            return httpx.Response(200, json={"plans": [PLAN]} if path == "/plans" else PLAN)
        number = path.removeprefix("/tasks/")
        if not number.isdecimal() or int(number) > len(self.tasks):
            return httpx.Response(404, json={"detail": "Item not found"})
        task = {"name": "grid", "params": self.tasks[int(number) - 1]["params"], "metadata": {}}
        return httpx.Response(200, json={"task_id": number, "task": task, "is_complete": False, "errors": []})


class Page:
    """A tab with its steering."""

    def __init__(self, watch: StatusPoller, name: str, **more: Any) -> None:
        run = run_of("old")
        run.start["plan_name"], run.start["plan_args"] = "grid", {"rows": 4, "columns": 4, "gone": 1}
        self.tab = Session(RunsInMemory(run), RenderCache(), document=Document())
        self.tab.start()
        self.forms: list[bool] = []
        caller = Caller(name, f"tab {name}", "10.0.0.1", "token of the user")
        self.steering = ScanControlPane(self.tab, watch, caller=caller, on_form=self.forms.append, **more)
        self.number = 0

    @property
    def controls(self) -> dict[str, Any]:
        return self.steering.controls.state

    @property
    def form(self) -> dict[str, Any]:
        return self.steering.form.state

    def why(self, name: str) -> str:
        return self.controls["buttons"][name]["why"]

    async def until(self, happens: Callable[[], Any]) -> None:
        async with patiently(10):
            while True:
                await settle(self.tab)
                if happens():
                    return
                await asyncio.sleep(0.01)

    async def look(self) -> None:
        await self.steering.poller.poll()
        self.steering._write()

    def press(self, what: str, **more: Any) -> None:
        self.number += 1
        self.steering.controls.ask = {"number": self.number, "what": what, **more}

    def tell(self, what: str, **more: Any) -> None:
        self.number += 1
        self.steering.form.ask = {"number": self.number, "what": what, **more}


Make = Callable[..., Page]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def make(redis_url: str, server: Server) -> AsyncIterator[Make]:
    store = Store(redis_url)
    pages: list[Page] = []

    def page(name: str = "a", *, session: str = "cm12345-1", **settings: Any) -> Page:
        blueapi = BlueapiClient("http://blueapi", transport=httpx.MockTransport(server))
        told = {"blueapi": blueapi, **settings}
        pages.append(Page(StatusPoller(ScanControl(ControlStore(store), **told)), name, session=session))
        return pages[-1]

    yield page
    for one in pages:
        one.steering.close()
    await store.close()


GOOD = {"rows": "4", "columns": "5", "x_start": "1"}


async def test_a_button_that_is_off_says_why(make: Make, server: Server) -> None:
    page = make()
    await page.until(lambda: page.tab.pipeline.run is not None)
    await page.look()
    assert page.why("again") == ""
    assert not page.controls["buttons"]["abort"]["shown"]
    server.tasks.append({"params": {}})
    server.state = "RUNNING"
    await page.look()
    assert page.why("again") == "A scan is running; the next can start when it ends"
    assert page.controls["buttons"]["abort"] == {"shown": True, "why": ""}
    assert not page.controls["buttons"]["pause"]["shown"]
    server.away = True
    await page.look()
    assert "cannot be reached" in page.why("again")
    assert (page.controls["text"], page.controls["level"]) == ("blueapi unavailable", "bad")
    read_only, alone = make("b", read_only=True), make("c", blueapi=None)
    for other, words in ((read_only, "read-only"), (alone, "SNAKEMAP_BLUEAPI_URL")):
        await other.look()
        assert words in other.why("again")
        assert other.controls["lock"] == {"shown": False}


async def test_the_form_is_filled_checked_confirmed_and_started_once(make: Make, server: Server) -> None:
    page = make()
    await page.until(lambda: page.tab.pipeline.run is not None)
    page.press("again")
    await page.until(lambda: page.form.get("open"))
    assert page.forms == [True]
    assert page.form["values"] == {"rows": "4", "columns": "4", "x_start": "0.0"}
    assert "the run's own documents" in page.form["hint"]
    assert page.form["estimate"].startswith("16 points")
    page.tell("check", values={**GOOD, "rows": "0"}, session="nonsense")
    assert page.form["faults"].keys() == {"rows", "instrument_session"}
    assert page.form["confirm"] == ""
    page.tell("check", values=GOOD, session="cm12345-1")
    assert page.form["confirm"].startswith("Start grid for cm12345-1? 20 points")
    for _ in range(2):
        page.tell("start", values=GOOD, session="cm12345-1")
    await page.until(lambda: not page.form["open"])
    assert [task["params"] for task in server.tasks] == [{"rows": 4, "columns": 5, "x_start": 1.0}]
    assert server.tasks[0]["instrument_session"] == "cm12345-1"
    assert page.forms == [True, False]
    assert page.tab.choices.pinned == ""
    await page.look()
    log = page.steering.audit.entries
    assert [(one["what"], one["came"]) for one in log] == [("start grid", "task 1")]
    assert "token of the user" not in repr(log) + repr(page.controls) + repr(page.form) + repr(page.steering.caller)
    assert "Bearer token of the user" in server.tokens


async def test_what_blueapi_refuses_stands_at_its_field_and_can_be_mended(make: Make, server: Server) -> None:
    page = make()
    page.press("new")
    await page.until(lambda: page.form.get("open"))
    server.refusal = 422, [{"loc": ["body", "params", "rows"], "msg": "too many", "type": "value_error"}]
    page.tell("check", values=GOOD, session="cm12345-1")
    page.tell("start")
    await page.until(lambda: page.form["faults"])
    assert page.form["faults"] == {"rows": "too many"}
    assert not page.form["busy"]
    for refusal, words in (((500, None), "answered with 500"), ((409, "Worker already active"), "Worker already")):
        server.refusal = refusal
        page.tell("check", values=GOOD, session="cm12345-1")
        page.tell("start")
        await page.until(lambda words=words: words in page.form["trouble"])
    server.refusal = None
    page.tell("check", values=GOOD, session="cm12345-1")
    page.tell("start")
    await page.until(lambda: not page.form["open"])
    assert len(server.tasks) == 1


async def test_stopping_needs_control_and_is_logged_with_its_reason(make: Make, server: Server) -> None:
    first, second = make("a"), make("b")
    await first.look()
    first.press("take")
    await first.until(lambda: first.controls["lock"]["text"].startswith("You have control"))
    server.state = "RUNNING"
    server.tasks.append({"params": {}})
    await second.look()
    assert second.why("abort") == "tab a has control"
    second.press("abort", reason="no")
    await second.until(lambda: "take" not in second.steering.background._tasks)
    assert server.state == "RUNNING"
    first.press("abort", reason="wrong sample")
    await first.until(lambda: server.state == "IDLE")
    await first.look()
    await first.until(lambda: [one["detail"] for one in first.steering.audit.entries] == ["reason: wrong sample"])


@pytest.mark.parametrize(
    "asked",
    [
        None,
        {},
        {"what": 3},
        {"what": "abort", "reason": 3},
        {"what": "back", "key": "x" * 900},
        {"what": "back", "key": 3},
    ],
)
async def test_nonsense_from_a_browser_does_nothing(make: Make, server: Server, asked: Any) -> None:
    page = make()
    page.steering.controls.ask = asked or {}
    page.steering._on_controls(SimpleNamespace(new=asked))
    page.steering._on_form(SimpleNamespace(new=asked))
    page.press("new")
    await page.until(lambda: page.form.get("open"))
    for values in (None, 3, {"rows": 3, "nix": "x"}, {"rows": "9" * 30_000}):
        page.tell("check", values=values, session=asked)
        page.tell("start")
    assert server.tasks == []


def test_the_caller_is_told_by_its_request() -> None:
    headers = {"X-Forwarded-Access-Token": "Bearer secret"}
    request = SimpleNamespace(headers=headers, remote_ip="10.1.2.3")
    document: Any = SimpleNamespace(session_context=SimpleNamespace(request=request))
    caller = _caller(document, load(blueapi_token_header="x-forwarded-access-token"))
    assert (caller.token, caller.address) == ("secret", "10.1.2.3")
    assert "secret" not in repr(caller)
    assert _caller(document, load()).token == ""
    assert caller.tab != _caller(document, load()).tab


def test_the_history_tells_of_running_runs_no_more_than_changes_slowly() -> None:
    one = {"uid": "u", "plan_name": "p", "started": 1.0, "ended": None, "status": "running", "points": 5, "picture": 3}
    (told,) = history([{**one, "file": "/data/x/scan.h5"}], now=100.0)
    assert (told["points"], told["file"], told["path"], told["picture"]) == (None, "scan.h5", "/data/x/scan.h5", 10)
    (told,) = history([{**one, "status": "complete"}], now=100.0)
    assert (told["points"], told["picture"]) == (5, 3)
    assert len(history([one] * 500, now=1.0)) == 200


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["c", "b", "a"]),
        ({"text": "GRID  7"}, ["c"]),
        ({"text": "visit/a.h5"}, ["a"]),
        ({"status": "lost"}, ["b"]),
        ({"since": 10.0, "until": 30.0}, ["b", "a"]),
        ({"text": "grid", "status": "complete", "since": 0, "until": 15}, ["a"]),
        ({"text": 3, "status": ["lost"], "since": "x", "until": None}, []),
        ({"text": None, "status": 5}, ["c", "b", "a"]),
    ],
)
def test_runs_are_looked_for_by_plan_number_file_status_and_time(wanted: dict[str, Any], found: list[str]) -> None:
    runs = [
        {"uid": "c", "plan_name": "grid", "scan_id": 7, "status": "complete", "started": 30.0, "file": None},
        {"uid": "b", "plan_name": None, "scan_id": 8, "status": "lost", "started": 20.0, "file": "/visit/b.h5"},
        {"uid": "a", "plan_name": "grid_scan", "status": "complete", "started": 10.0, "file": "/visit/a.h5"},
    ]
    assert [run["uid"] for run in sought(runs, wanted)] == found
