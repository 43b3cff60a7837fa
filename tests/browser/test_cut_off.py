"""A page in Chromium that loses its server: it says so by its own clock, and comes back by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from bokeh.util.token import generate_jwt_token, get_session_id
from playwright.sync_api import Browser, Error, Page, Route, WebSocket
from tests.browser.test_chain import maps_of_file, scan
from tests.browser.test_embedding import files_at, pane_script, program_at
from tests.support.browser import CHANNELS, LOOK_EVERY_S, SCRIPT, Shown, open_page, said_where
from tests.support.documented import block
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, eventually
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ, free_port
from tests.support.stack import Program, Stack

from snakemap.synthetic.request import ScanRequest

PANES = ("maps", "histogram", "frame", "summary", "log")
BACK_S = 30.0
"""A page is opened again by a busy machine in that time."""

SILENCE_S, SLACK_S = 3.0, 1.0 * PATIENCE
WATCH = """
window.cutAt = window.beatAt = 0
const seen = new MutationObserver(() => { if (!cutAt && document.title.startsWith('⚠')) cutAt = performance.now() })
const all = {subtree: true, childList: true, characterData: true}
addEventListener('DOMContentLoaded', () => seen.observe(document.head, all))
"""


@pytest.fixture
def served(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    """Pages that may be killed."""
    stack = Stack(tmp_path, redis_url=redis_url).serve()
    try:
        yield stack
    finally:
        if stack.pages.process is not None and stack.pages.process.poll() is None:
            os.kill(stack.pages.pid, signal.SIGCONT)
        stack.end()


@pytest.fixture
def proxy(pages: Stack) -> Iterator[Proxy]:
    with Proxy(pages.port) as between:
        yield between


@contextmanager
def opened(chromium: Browser, url: str) -> Iterator[Shown]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(WATCH)
    shown = open_page(context, url, silent_s=0)
    try:
        yield shown
    finally:
        context.close()


def safely(look: Callable[[], Any]) -> Callable[[], Any]:
    """What is looked for in a page that may be opened again at the same moment."""

    def looked() -> Any:
        try:
            return look()
        except Error:
            return False

    return looked


def holds(look: Callable[[], Any], *, timeout_s: float = BACK_S) -> bool:
    return eventually(safely(look), timeout_s=timeout_s, every_s=LOOK_EVERY_S)


def shows(shown: Shown, run: MadeUpRun, last: int) -> bool:
    return all(np.array_equal(shown.image(name), grid, equal_nan=True) for name, grid in run.expected(last).items())


def is_cut(page: Page) -> bool:
    said = [text for selector in (".figures", ".line") for text in page.locator(selector).all_inner_texts()]
    return any("No connection to the server since" in text for text in said)


def is_back(page: Page) -> bool:
    return page.evaluate("() => 'opened' in document.documentElement.dataset") and not is_cut(page)


def ours(shown: Shown) -> list[str]:
    """What the page complained of, but for requests that could not be answered."""
    expected = ("Failed to load resource", "WebSocket", "not connected so cannot send")
    return [error for error in shown.errors if not any(part in error for part in expected)]


def tabs_of(redis_url: str) -> int:
    """Tabs that the pages' process reports."""
    with redis.Redis.from_url(redis_url) as client:
        keys: Any = client.keys("snakemap:report:pages:*")
        texts: Any = client.mget(keys) if keys else []
    return sum(json.loads(text).get("tabs", 0) for text in texts if text)


def test_silence_is_seen_within_three_seconds_and_the_same_session_goes_on(
    proxy: Proxy, chromium: Browser, run: MadeUpRun, redis_url: str
) -> None:
    """5 s of packets that come late: the old socket carries on, and nothing is opened again."""
    with opened(chromium, f"{proxy.url}/dashboard") as shown:
        shown.wait(lambda: shows(shown, run, 33))
        page = shown.page
        session = page.evaluate("() => { window.mark = 1; return Bokeh.documents[0].roots().length }")
        # the page's own clock begins with the last beat, which it notes
        page.evaluate(
            "() => Bokeh.documents[0].on_message('snakemap-beat', () => { beatAt = performance.now(); cutAt = 0 })"
        )
        page.wait_for_function("() => window.beatAt")
        proxy.hold()
        page.wait_for_function("() => cutAt")
        silent = page.evaluate("() => cutAt - beatAt")
        assert 2_500 < silent < 1000 * (SILENCE_S + SLACK_S), silent
        assert shown.lights() == ["no connection"]
        assert page.title() == "⚠ no connection · snakemap"
        assert page.evaluate("() => document.querySelector('link[rel~=icon]').href").startswith("data:image/svg")
        assert re.search(r"since \d\d:\d\d:\d\d; trying again$", shown.text(".figures"))
        run.add(34, 47)
        page.wait_for_timeout(2000)
        proxy.release()
        shown.wait(lambda: "no connection" not in shown.lights() and shows(shown, run, 47), timeout_s=BACK_S)
        assert page.evaluate("() => [window.mark, Bokeh.documents[0].roots().length]") == [1, session]
        shown.wait(lambda: page.title() == "58 % · snakemap")
        assert page.evaluate("() => document.querySelector('link[rel~=icon]').href").endswith("favicon.ico")
        assert ours(shown) == []


def test_a_connection_that_never_carries_again_is_replaced_and_its_session_is_freed(
    proxy: Proxy, chromium: Browser, run: MadeUpRun, redis_url: str
) -> None:
    """60 s of dropped packets: TCP is given up by nobody, so the page opens a new connection itself."""
    with opened(chromium, f"{proxy.url}/dashboard?theme=light") as shown:
        shown.wait(lambda: shows(shown, run, 33))
        page = shown.page
        before = tabs_of(redis_url)
        page.evaluate("() => { window.mark = 1 }")
        address = page.url
        proxy.lose()
        assert holds(lambda: is_cut(page))
        began = time.monotonic()
        while time.monotonic() - began < 60:
            page.wait_for_timeout(1000)
            assert shown.lights() == ["no connection"]
        run.add(34, 47)
        proxy.release()
        assert holds(lambda: is_back(page) and page.evaluate("() => window.mark === undefined"))
        assert holds(lambda: shows(shown, run, 47))
        assert page.url == address
        assert ours(shown) == []
        assert eventually(lambda: tabs_of(redis_url) <= max(before, 1), timeout_s=60)


def test_only_pages_that_may_embed_ours_can_read_whether_we_are_there(pages: Stack) -> None:
    with httpx.Client(base_url=pages.url, trust_env=False, timeout=60) as client:
        allowed = client.get("/healthz", headers={"Origin": pages.url})
        other = client.get("/healthz", headers={"Origin": "http://elsewhere:8000"})
    assert allowed.headers["Access-Control-Allow-Origin"] == pages.url
    assert other.status_code == 200
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_pane_of_the_library_says_so_while_its_host_stands_still(
    redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    """The page belongs to the host: nothing is asked of its server, and it keeps its title."""
    port = free_port()
    code = block("embedding.md", "python", "# panel:", redis=redis_url, port=f"port={port}")
    (tmp_path / "overview.py").write_text(code)
    url = f"http://localhost:{port}/"
    with program_at(["overview.py"], tmp_path, url) as host, opened(chromium, url) as shown:
        shown.wait(lambda: shows(shown, run, 33))
        page, width = shown.page, shown.frame("map-total")["width"]
        assert width > 100
        title = page.title()
        os.kill(host.pid, signal.SIGSTOP)
        try:
            assert holds(lambda: is_cut(page))
            assert page.locator(".line").first.inner_text().endswith("; the page shows data from then")
            assert page.title() == title
            run.add(34, 47)
        finally:
            os.kill(host.pid, signal.SIGCONT)
        assert holds(lambda: not is_cut(page) and shows(shown, run, 47))
        assert ours(shown) == []


@pytest.mark.parametrize("path", ["dashboard?theme=light", "maps", "log"])
def test_a_reset_connection_comes_back_at_the_same_address_with_the_truth(
    proxy: Proxy, chromium: Browser, run: MadeUpRun, path: str
) -> None:
    with opened_any(chromium, f"{proxy.url}/{path}") as shown:
        page = shown.page
        assert holds(lambda: is_back(page))
        page.evaluate("() => { window.mark = 1 }")
        address = page.url
        proxy.reset()
        run.add(34, 47)
        assert holds(lambda: page.evaluate("() => window.mark === undefined") and is_back(page))
        assert page.url == address
        if path != "log":
            assert holds(lambda: shows(shown, run, 47))
        else:
            assert holds(lambda: page.get_by_text("seq_num 34..47").count() == 1)
        assert ours(shown) == []


@contextmanager
def opened_any(chromium: Browser, url: str) -> Iterator[Shown]:
    """A page of ours, whatever is on it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    shown = Shown(page)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("console", lambda message: shown.errors.append(said_where(message)) if message.type == "error" else None)
    page.add_init_script(SCRIPT)
    page.goto(url)
    page.wait_for_function("() => 'opened' in document.documentElement.dataset")
    try:
        yield shown
    finally:
        context.close()


def test_every_pane_says_that_it_is_cut_off_while_the_server_stands_still(
    pages: Stack, chromium: Browser, run: MadeUpRun
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    tabs: list[Page] = []
    for name in PANES:
        page = context.new_page()
        page.goto(f"{pages.url}/{name}")
        page.wait_for_function("() => 'opened' in document.documentElement.dataset")
        page.evaluate("() => { window.mark = 1 }")
        tabs.append(page)
    os.kill(pages.pages.pid, signal.SIGSTOP)
    try:
        for page in tabs:
            assert holds(lambda page=page: is_cut(page)), page.url
            assert page.title().startswith("⚠ no connection · snakemap")
            stale = "() => getComputedStyle(document.documentElement).getPropertyValue('--sm-stale')"
            assert "grayscale" in page.evaluate(stale)
    finally:
        os.kill(pages.pages.pid, signal.SIGCONT)
    for page in tabs:
        assert holds(lambda page=page: is_back(page)), page.url
        assert page.evaluate("() => window.mark") == 1, f"{page.url} was opened again, though its session lived"
    context.close()


def test_what_is_pressed_while_cut_off_is_refused_and_never_sent_later(
    proxy: Proxy, chromium: Browser, run: MadeUpRun
) -> None:
    with opened(chromium, f"{proxy.url}/dashboard") as shown:
        shown.wait(lambda: shows(shown, run, 33) and sum(shown.bars()) == 33)
        page = shown.page
        proxy.hold()
        assert holds(lambda: is_cut(page))
        box = page.get_by_role("button", name="green").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert shown.text(".figures").startswith("Not sent. No connection to the server since")
        proxy.release()
        shown.wait(lambda: "no connection" not in shown.lights(), timeout_s=BACK_S)
        run.add(34, 47)
        shown.wait(lambda: shows(shown, run, 47))
        assert page.evaluate("() => sm.named('histogram').title.text").startswith("total")
        page.get_by_role("button", name="green").click()
        shown.wait(lambda: page.evaluate("() => sm.named('histogram').title.text").startswith("green"))


def test_a_server_that_was_killed_and_started_with_another_key_gets_its_pages_back(
    served: Stack, chromium: Browser, run: MadeUpRun
) -> None:
    with opened(chromium, f"{served.url}/dashboard") as shown:
        shown.wait(lambda: shows(shown, run, 33))
        page = shown.page
        page.evaluate("() => { window.mark = 1 }")
        served.pages.kill()
        assert holds(lambda: is_cut(page))
        run.add(34, 47)
        served.pages.environment["SNAKEMAP_SECRET_KEY"] = "another key " * 4
        served.serve()
        assert holds(lambda: page.evaluate("() => window.mark === undefined") and is_back(page))
        assert holds(lambda: shows(shown, run, 47))
        assert ours(shown) == []


def test_a_page_whose_token_is_too_old_is_opened_again(pages: Stack, chromium: Browser, run: MadeUpRun) -> None:
    """As a browser has it that restores a tab from its cache."""
    state = Path(pages.pages.environment["SNAKEMAP_STATE_DIR"])
    key = (state / "secret-key").read_text().strip().encode()
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    opened_times: list[str] = []

    def age(route: Route) -> None:
        opened_times.append(route.request.url)
        if len(opened_times) > 1:
            route.continue_()
            return
        answer = route.fetch()
        text = answer.text()
        found = re.search(r'"token":"([^"]+)"', text)
        assert found is not None
        old = generate_jwt_token(get_session_id(found[1]), secret_key=key, signed=True, expiration=-10)
        route.fulfill(response=answer, body=text.replace(found[1], old))

    page.route("**/dashboard", age)
    page.goto(f"{pages.url}/dashboard")
    assert holds(lambda: "No connection to the server" in page.locator("p[role=status]").inner_text())
    assert holds(lambda: is_back(page))
    assert len(opened_times) == 2
    context.close()


def test_a_page_of_a_server_that_develops_is_opened_again_and_goes_on_beating(
    tmp_path: Path, redis_url: str, chromium: Browser, run: MadeUpRun
) -> None:
    served = Stack(tmp_path, redis_url=redis_url)
    served.pages.arguments.append("--dev")
    served.serve()
    try:
        with opened(chromium, f"{served.url}/dashboard") as shown:
            shown.wait(lambda: shows(shown, run, 33))
            page = shown.page
            page.evaluate("() => { window.mark = 1 }")
            os.utime(Path(__file__).parents[2] / "app" / "dashboard.py")
            assert holds(lambda: page.evaluate("() => window.mark === undefined") and is_back(page))
            run.add(34, 47)
            assert holds(lambda: shows(shown, run, 47))
            page.wait_for_timeout(1000 * SILENCE_S + 1000)
            assert "no connection" not in shown.lights()
    finally:
        served.end()


def copies(page: Page) -> list[int]:
    """How many documents, headings, lines about the connection, and elements beside the heading there are."""
    beside = "document.querySelector('h1').nextElementSibling.children.length"
    documents, elements = page.evaluate(f"() => [Bokeh.documents.length, {beside}]")
    return [documents, page.locator("h1").count(), page.locator(".line").count(), elements]


def test_a_pane_in_a_page_of_others_comes_back_in_its_place(
    tmp_path: Path, redis_url: str, chromium: Browser, run: MadeUpRun
) -> None:
    """The page around it is never opened again, and keeps its title."""
    port = free_port()
    served = Stack(tmp_path, redis_url=redis_url, ORIGINS=f"localhost:{port}").serve()
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(block("embedding.md", "html", "<!doctype", pages=served.url))
    try:
        with files_at(site, port), opened(chromium, f"http://localhost:{port}/") as shown:
            shown.wait(lambda: shows(shown, run, 33))
            page = shown.page
            page.evaluate("() => { window.mark = 1 }")
            served.pages.kill()
            assert holds(lambda: is_cut(page))
            assert page.title() == "Overview"
            run.add(34, 47)
            served.serve()
            assert holds(lambda: not is_cut(page) and shows(shown, run, 47))
            assert page.evaluate("() => window.mark") == 1
            # a page that is slow may be cut off once more, and has two panes while the next one is drawn
            assert holds(lambda: copies(page) == [1, 1, 1, 1])
            run.add(48, 60)
            assert holds(lambda: shows(shown, run, 60))
            assert ours(shown) == []
    finally:
        served.end()


def test_every_pixel_of_the_open_page_is_that_of_the_file_and_the_api_though_the_pages_were_killed_in_mid_scan(
    tmp_path: Path, redis_url: str, rabbitmq: RabbitMQ, chromium: Browser
) -> None:
    request = ScanRequest(shape=(20, 30), mode="fly", rate_hz=20, frame_shape=(48, 64), flush_period_s=0.2)
    api_port = free_port()
    stack = Stack(tmp_path, redis_url=redis_url, stomp_url=rabbitmq.stomp_url, API_PORT=str(api_port)).serve()
    api = Program(["api"], environment=stack.pages.environment, log=tmp_path / "api.log").start()
    stack.ingest.start()
    try:
        assert eventually(lambda: "Listening" in stack.ingest.log.read_text(), timeout_s=30)
        with opened(chromium, f"{stack.url}/dashboard") as shown:
            thread, files = scan(stack, rabbitmq, request)
            shown.wait(lambda: np.isfinite(shown.image("total")).sum() > 60)
            shown.page.evaluate("() => { window.mark = 1 }")
            stack.pages.kill()
            assert holds(lambda: is_cut(shown.page))
            assert np.isfinite(shown.image("total")).sum() < request.points
            stack.serve()
            thread.join(240)
            assert holds(lambda: shown.text(".status") == "complete")
            assert shown.page.evaluate("() => window.mark === undefined")
            expected, drawn = maps_of_file(files[0], request), shown.maps()
            with httpx.Client(base_url=f"http://127.0.0.1:{api_port}", trust_env=False, timeout=60) as client:
                (run,) = client.get("/api/runs").json()
                channels = client.get(f"/api/runs/{run['uid']}/maps").json()["channels"]
            for name in CHANNELS:
                np.testing.assert_array_equal(drawn[name], expected[name], err_msg=name)
                np.testing.assert_array_equal(drawn[name], np.array(channels[name], float), err_msg=name)
            assert ours(shown) == []
    finally:
        api.end()
        stack.end()


@dataclass(frozen=True, slots=True)
class HostPage:
    """A page of others that holds a pane, which reaches its server through a proxy.

    Attributes:
        shown: the page.
        proxy: between it and the server.
        pane: of :data:`PANES`, or the dashboard.
        sockets: WebSockets that the page has opened.
    """

    shown: Shown
    proxy: Proxy
    pane: str
    sockets: list[WebSocket]

    @property
    def sockets_open(self) -> int:
        """WebSockets that are open in the browser."""
        return sum(not socket.is_closed() for socket in self.sockets)

    def take_out(self) -> None:
        """Remove the element of the pane from the page, without a word to Bokeh."""
        self.shown.page.evaluate("() => { window.taken = document.querySelector('#place'); taken.remove() }")

    def put_back(self) -> None:
        """Put it back into the page."""
        self.shown.page.evaluate("() => document.body.append(window.taken)")


GONE_S = 2.0


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[tuple[Stack, Path, int]]:
    """Pages that a site may embed, and the site."""
    port, directory = free_port(), tmp_path_factory.mktemp("hosted")
    site = directory / "site"
    site.mkdir()
    stack = Stack(directory, redis_url=redis_server, ORIGINS=f"localhost:{port}").serve()
    try:
        with files_at(site, port):
            yield stack, site, port
    finally:
        stack.end()


@pytest.fixture(params=["maps", "dashboard"])
def host_page(
    request: pytest.FixtureRequest, hosted: tuple[Stack, Path, int], chromium: Browser, run: MadeUpRun, redis_url: str
) -> Iterator[HostPage]:
    stack, site, port = hosted
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        with Proxy(stack.port) as proxy:
            script = pane_script(proxy.url, request.param)
            (site / "index.html").write_text(f'<!doctype html><div id="place" style="height:600px">{script}</div>')
            context.add_init_script(f"window.snakemapGoneMs = {1000 * GONE_S}")
            context.add_init_script(SCRIPT)
            page = context.new_page()
            sockets: list[WebSocket] = []
            page.on("websocket", lambda socket: sockets.append(socket))
            page.goto(f"http://localhost:{port}/")
            shown = Shown(page)
            page.wait_for_function("() => window.Bokeh && Bokeh.documents.length && sm.cells()")
            shown.wait(lambda: shows(shown, run, 33))
            yield HostPage(shown, proxy, request.param, sockets)
    finally:
        context.close()


def is_freed(host: HostPage, redis_url: str) -> bool:
    """Whether neither browser nor server has anything left of the pane."""
    documents = host.shown.page.evaluate("() => Bokeh.documents.length")
    return (host.sockets_open, documents, tabs_of(redis_url)) == (0, 0, 0)


@pytest.mark.parametrize("trouble", ["none", "silence", "refused"])
def test_a_pane_that_its_host_throws_away_leaves_no_socket_and_no_session(
    host_page: HostPage, redis_url: str, trouble: str
) -> None:
    page, proxy = host_page.shown.page, host_page.proxy
    assert eventually(lambda: (host_page.sockets_open, tabs_of(redis_url)) == (1, 1), timeout_s=20)
    if trouble != "none":
        proxy.hold() if trouble == "silence" else proxy.cut()
        host_page.shown.wait(lambda: is_cut(page))
    host_page.take_out()
    if trouble != "none":
        proxy.release() if trouble == "silence" else proxy.restore()
    assert holds(lambda: is_freed(host_page, redis_url)), (host_page.sockets_open, tabs_of(redis_url))


@pytest.mark.parametrize("host_page", ["maps"], indirect=True)
def test_a_pane_that_is_moved_goes_on_and_one_that_comes_back_later_is_loaded_again(
    host_page: HostPage, redis_url: str, run: MadeUpRun
) -> None:
    shown, page = host_page.shown, host_page.shown.page
    page.evaluate(
        """() => { const place = document.querySelector('#place'), other = document.createElement('section')
        place.remove()
        setTimeout(() => { document.body.append(other); other.append(place) }, 500) }"""
    )
    page.wait_for_function("() => document.querySelector('section #place')")
    page.evaluate(f"() => new Promise((done) => setTimeout(done, {1500 * GONE_S}))")  # it must not be left later either
    run.add(34, 40)
    shown.wait(lambda: shows(shown, run, 40))
    assert len(host_page.sockets) == 1
    host_page.take_out()
    assert holds(lambda: is_freed(host_page, redis_url))
    run.add(41, 50)
    host_page.put_back()
    assert holds(lambda: shows(shown, run, 50))
    assert holds(lambda: (host_page.sockets_open, page.locator(".line").count(), tabs_of(redis_url)) == (1, 1, 1))
    run.add(51, 60)
    assert holds(lambda: shows(shown, run, 60))


@pytest.mark.parametrize("host_page", ["maps"], indirect=True)
def test_a_pane_that_is_thrown_away_while_its_successor_loads_does_not_come_back(
    host_page: HostPage, redis_url: str
) -> None:
    page, proxy = host_page.shown.page, host_page.proxy
    loading: list[Route] = []
    page.route(re.compile("autoload.js.*snakemap-again-"), lambda route: loading.append(route))
    page.evaluate("() => { window.pane = [...Bokeh.index.roots][0].el.parentElement }")
    proxy.cut()
    host_page.shown.wait(lambda: is_cut(page))
    proxy.restore()
    # what has happened in the browser becomes known while it is asked something
    host_page.shown.wait(lambda: page.title() == "" and loading)
    page.evaluate("() => window.pane.remove()")
    loading[0].continue_()
    # the successor connects, and finds that it is not wanted
    assert holds(lambda: page.title() == "" and len(host_page.sockets) == 2)
    assert holds(lambda: is_freed(host_page, redis_url)), (host_page.sockets_open, tabs_of(redis_url))
    assert page.locator(".line").count() == 0
    assert page.evaluate("() => document.querySelector('#place').children.length") <= 1  # the first script may be left
