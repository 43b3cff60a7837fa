"""SNAKEMAP_READ_ONLY: every action of the API and of the page is tried, and nothing has changed afterwards."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
import redis
from fastapi.routing import APIRoute
from tests.integration.dashboard.test_scan_control import Page, Server
from tests.support.made_up import MadeUpRun
from tests.support.served import serving

from snakemap.api.models import Tag
from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.scan_control import ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.core.documents import Document
from snakemap.errors import ReadOnly
from snakemap.live.file_runs import cancel_reading
from snakemap.store.store import Store


def everything(redis_url: str) -> dict[bytes, Any]:
    """All that Redis holds, but for the reports of processes and the sessions of clients."""
    with redis.Redis.from_url(redis_url) as client:
        keys = cast("list[bytes]", client.keys("*"))
        own = (b"snakemap:report:", b"snakemap:parts", b"snakemap:session", b"snakemap:visitor")
        return {key: client.dump(key) for key in keys if not key.startswith(own)}


@pytest.fixture
def run(redis_url: str) -> MadeUpRun:
    run = MadeUpRun(redis_url)
    run.add(1, 3)
    return run


async def test_no_route_of_the_api_changes_anything_but_the_sessions_of_clients(redis_url: str, run: MadeUpRun) -> None:
    before = everything(redis_url)
    tried = []
    async with (
        serving(redis_url, read_only=True, blueapi_url="http://127.0.0.1:9") as served,
        served.client() as client,
    ):
        routes = [route for route in all_routes(served.app.routes) if Tag.SESSIONS not in route.tags]
        for route in routes:
            for method in sorted((route.methods or set()) - {"GET", "HEAD", "OPTIONS"}):
                path = route.path.replace("{action}", "abort")
                answer = await client.request(method, re.sub(r"{\w+(:\w+)?}", run.uid, path), json={})
                assert (path, answer.status_code) == (path, 403)
                assert answer.json()["error"]["code"] == "read_only"
                tried.append(f"{method} {route.path}")
        own = await client.post("/api/sessions", json={})
        assert own.status_code == 201
    assert {"POST /api/demo", "POST /api/runs/{uid}/again", "POST /api/worker/{action}"} <= set(tried)
    assert everything(redis_url) == before


def all_routes(routes: Any) -> list[APIRoute]:
    """The routes of an application, those of its routers among them."""
    found: list[APIRoute] = []
    for one in routes:
        if isinstance(one, APIRoute):
            found.append(one)
        elif hasattr(one, "routes"):
            found += all_routes(one.routes)
        elif hasattr(one, "original_router"):
            found += all_routes(one.original_router.routes)
    return found


@pytest.fixture
async def page(redis_url: str, run: MadeUpRun) -> AsyncIterator[tuple[Page, Server]]:
    server = Server()
    store = Store(redis_url, read_only=True)
    blueapi = BlueapiClient("http://blueapi", transport=httpx.MockTransport(server))
    watch = StatusPoller(ScanControl(ControlStore(store), blueapi, read_only=True, pausing=True))
    made = Page(watch, "a")
    yield made, server
    made.steering.close()
    await watch.control.close()
    await store.close()


ACTIONS = ("again", "new", "stop", "abort", "pause", "resume", "take", "ask", "release", "deny", "back")


async def test_no_action_of_the_page_changes_anything(redis_url: str, page: tuple[Page, Server]) -> None:
    shown, server = page
    before = everything(redis_url)
    for action in ACTIONS:
        shown.press(action, key="a" * 32, reason="")
        await shown.until(lambda: not shown.steering.background._tasks)
        await shown.look()
    assert everything(redis_url) == before
    assert (server.tasks, server.state) == ([], "IDLE")


async def test_what_a_store_does_is_refused_unless_it_is_named_as_harmless(redis_url: str, run: MadeUpRun) -> None:
    before = everything(redis_url)
    store = Store(redis_url, read_only=True)
    desk = ControlStore(store)
    changing: list[Any] = [
        store.append([Document("start", {"uid": "x", "time": 1.0}, run="x")]),
        cancel_reading(store, run.uid),
        store.lease("start", "me", 5),
        store.script("return redis.call('SET', 'x', 1)")([]),
        desk.take("t", key="k", name="n", address="a"),
        desk.take("t", key="k", name="n", address="a", back=True),
        desk.seen("t"),
        desk.ask("t", key="k", name="n", address="a"),
        desk.release("t"),
        desk.deny("t"),
        desk.note({}),
        desk.reserve("k"),
        desk.complete("k", "x"),
        desk.complete("k", ""),
        desk.allow("a", per_minute=1),
        desk.keep_task("i", {}),
    ]
    try:
        for one in changing:
            with pytest.raises(ReadOnly, match="SNAKEMAP_READ_ONLY"):
                await one
        assert (await desk.lock(), await desk.audit(), await desk.task("i")) == (None, [], None)
        assert len(await store.read()) > 0
    finally:
        await store.close()
    assert everything(redis_url) == before
