"""The API in a real browser: its description without the internet, and server-sent events as browsers read them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.support import scans
from tests.support.beamline import Scan
from tests.support.http_requests import answers
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Program

from snakemap.core.documents import Document
from snakemap.store.store import Store

LISTEN = """
path => {
  window.heard = []
  window.source = new EventSource(path)
  for (const name of ['start', 'descriptor', 'event_page', 'stop'])
    source.addEventListener(name, event => heard.push([event.lastEventId, name, JSON.parse(event.data).doc]))
}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("api") / "log"
    url = f"http://localhost:{port}"
    with Program(["api"], environment={"SNAKEMAP_REDIS_URL": redis_server, "SNAKEMAP_API_PORT": str(port)}, log=log):
        assert eventually(lambda: answers(f"{url}/healthz"), timeout_s=60, every_s=0.1)
        yield url


@pytest.fixture
def alone(chromium: Browser, api: str) -> Iterator[tuple[Page, list[str]]]:
    """A tab that can reach the API and nothing else, and what it wanted besides, or complained of."""
    page, wanted = chromium.new_page(), []

    def only_ours(route: Route) -> None:
        if urlsplit(route.request.url).netloc == urlsplit(api).netloc or route.request.url.startswith("data:"):
            route.continue_()
        else:
            wanted.append(route.request.url)
            route.abort()

    page.route("**/*", only_ours)
    page.on("pageerror", lambda error: wanted.append(str(error)))
    page.on("console", lambda said: wanted.append(said.text) if said.type == "error" else None)
    yield page, wanted
    page.close()


def test_the_description_is_there_without_the_internet(alone: tuple[Page, list[str]], api: str, tmp_path: Path) -> None:
    page, wanted = alone
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{api}/docs")
    for tag in ("Runs", "Maps", "Documents", "Files", "Plans", "Demo", "Sessions", "Meta"):
        expect(page.locator(f"#operations-tag-{tag}")).to_be_visible(timeout=30_000 * PATIENCE)
    route = page.locator("#operations-Maps-run_maps_api_runs__uid__maps_get")
    route.locator("button").first.click()
    expect(route.get_by_text("The maps of a run as they are now").first).to_be_visible()
    page.screenshot(path=tmp_path / "docs.png")
    assert wanted == []


def test_a_browser_hears_a_run_and_what_comes_of_it(alone: tuple[Page, list[str]], api: str, redis_url: str) -> None:
    page, wanted = alone
    scan = Scan("run")
    begun = put(redis_url, scans.documents(scan, points=2))
    page.goto(f"{api}/healthz")
    page.evaluate(LISTEN, "/api/runs/run/documents/events")
    page.wait_for_function("heard.length == 5", timeout=20_000 * PATIENCE)
    ended = put(redis_url, [scans.stop(scan)])
    page.wait_for_function("heard.length == 6", timeout=20_000 * PATIENCE)
    heard = page.evaluate("heard")
    told = [cursor for cursor, name in zip(begun, NAMES, strict=True) if name != "stream_resource"]
    assert [cursor for cursor, *_ in heard] == [*told, *ended]
    assert heard[0][2] == scan.start()["doc"]
    assert wanted == []


NAMES = ["start", "descriptor", "stream_resource", "descriptor", "event_page", "event_page"]


def put(redis_url: str, documents: list[Document]) -> list[str]:
    async def append() -> list[str]:
        store = Store(redis_url)
        try:
            return await store.append(documents)
        finally:
            await store.close()

    found: list[list[str]] = []

    def work() -> None:
        found.append(asyncio.run(append()))

    # Playwright has a loop of its own in this thread
    thread = Thread(target=work)
    thread.start()
    thread.join()
    return found[0]
