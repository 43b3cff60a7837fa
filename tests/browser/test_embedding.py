"""Panes in pages of others, by the very code that docs/embedding.md shows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.support.browser import SCRIPT, Shown, open_page
from tests.support.documented import block
from tests.support.made_up import MadeUpRun
from tests.support.notebook import Notebook
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Stack, die_with_parent
from werkzeug.serving import make_server

START_TIMEOUT_S = 60.0
HOSTS = ("html", "flask", "bokeh")


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Where the pages of others are."""
    return {name: free_port() for name in HOSTS}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str, ports: dict[str, int]) -> Iterator[Stack]:
    """The server of the pages, which knows of the others."""
    origins = ",".join(f"localhost:{port}" for port in ports.values())
    stack = Stack(tmp_path_factory.mktemp("pages"), redis_url=redis_server, ORIGINS=origins).serve()
    try:
        yield stack
    finally:
        stack.end()


@contextmanager
def files_at(directory: Path, port: int) -> Iterator[None]:
    """A web server that knows files only."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("localhost", port), partial(Quiet, directory=str(directory)))
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def flask_at(code: str, port: int) -> Iterator[None]:
    """The application that some code makes."""
    made: dict[str, object] = {"__name__": "overview"}
    exec(compile(code, "embedding.md", "exec"), made)
    server = make_server("localhost", port, made["app"], threaded=True)  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def program_at(arguments: list[str], directory: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that serves a page."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAP_")}
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        assert eventually(lambda: answers(url), timeout_s=START_TIMEOUT_S), log.read_text()[-2000:]
        yield process
    finally:
        process.terminate()
        process.wait(20 * PATIENCE)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=30 * PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def opened(chromium: Browser, url: str) -> Iterator[Shown]:
    """A tab that must complain of nothing."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    shown = open_page(context, url)
    try:
        yield shown
    finally:
        context.close()
    foreign = [url for url in asked if urlsplit(url).hostname not in ("localhost", None)]
    assert not foreign, foreign
    assert shown.errors == []


def shows(shown: Shown, run: MadeUpRun, last: int) -> bool:
    return all(np.array_equal(shown.image(name), grid, equal_nan=True) for name, grid in run.expected(last).items())


def grows(shown: Shown, run: MadeUpRun) -> None:
    """The maps show what there is, and what comes."""
    shown.wait(lambda: shows(shown, run, 33))
    run.add(34, 47)
    shown.wait(lambda: shows(shown, run, 47))


@pytest.fixture
def run(redis_url: str) -> MadeUpRun:
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    return run


def test_a_page_of_plain_html_holds_live_maps(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(block("embedding.md", "html", "<!doctype", pages=served.url))
    with files_at(tmp_path, ports["html"]), opened(chromium, f"http://localhost:{ports['html']}/") as shown:
        grows(shown, run)
        assert shown.frame("map-total")["width"] > 200


def test_a_page_that_nobody_named_shows_nothing_and_the_log_says_whom_to_name(
    served: Stack, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(block("embedding.md", "html", "<!doctype", pages=served.url))
    port = free_port()
    with files_at(tmp_path, port):
        page = chromium.new_page()
        page.set_default_timeout(20_000 * PATIENCE)
        with page.expect_console_message(lambda message: "WebSocket" in message.text and "403" in message.text):
            page.goto(f"http://localhost:{port}/")
        assert page.evaluate("() => window.Bokeh.documents.length") == 0
        page.close()
    assert f"localhost:{port}" in served.pages.log.read_text()


def test_a_page_of_flask_holds_two_panes_in_the_colors_that_it_wants(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun
) -> None:
    code = block("embedding.md", "python", "# flask:", pages=served.url)
    with flask_at(code, ports["flask"]), opened(chromium, f"http://localhost:{ports['flask']}/") as shown:
        grows(shown, run)
        shown.wait(lambda: shown.page.evaluate("() => sm.named('frame') !== undefined"))
        assert shown.page.evaluate("() => sm.models().find((model) => model.theme)?.theme ?? 'light'") == "light"


def test_a_bokeh_server_holds_its_own_figure_and_our_pane(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "overview.py").write_text(block("embedding.md", "python", "# bokeh:", pages=served.url))
    url = f"http://localhost:{ports['bokeh']}/overview"
    arguments = ["-m", "bokeh", "serve", "overview.py", "--port", str(ports["bokeh"])]
    with program_at(arguments, tmp_path, url), opened(chromium, url) as shown:
        grows(shown, run)
        assert shown.page.evaluate("() => sm.named('ring') !== undefined")


@pytest.mark.parametrize("begins", ["# panel:", "# bokeh library:"])
def test_the_panes_are_a_library_for_servers_of_others(
    begins: str, redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    port = free_port()
    code = block("embedding.md", "python", begins, redis=redis_url, port=f"port={port}")
    (tmp_path / "overview.py").write_text(code)
    url = f"http://localhost:{port}/"
    with program_at(["overview.py"], tmp_path, url), ExitStack() as tabs:
        first, second = (tabs.enter_context(opened(chromium, url)) for _ in range(2))
        grows(first, run)
        second.wait(lambda: shows(second, run, 47))
        if begins == "# panel:":
            first.wait(lambda: sum(first.bars()) == 47)


def test_a_notebook_shows_live_maps_while_other_cells_run(
    served: Stack, redis_url: str, chromium: Browser, run: MadeUpRun
) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    shown = Shown(page)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("console", lambda message: shown.errors.append(message.text) if message.type == "error" else None)
    page.route("https://cdn.holoviz.org/**", lambda route: route.fulfill(status=200))  # Panel's style, in a notebook
    page.route("**/notebook", lambda route: route.fulfill(content_type="text/html", body="<!doctype html><body>"))
    page.goto(f"{served.url}/notebook")
    with Notebook(page, assets=served.url) as notebook:
        notebook.run(block("embedding.md", "python", "# notebook", redis=redis_url))
        page.evaluate(SCRIPT)

        def drawn(last: int) -> bool:
            notebook.carry()
            return shows(shown, run, last)

        shown.wait(lambda: drawn(33))
        run.add(34, 47)
        assert notebook.run("print(6 * 7)") == ["42\n"]
        shown.wait(lambda: drawn(47))
    page.close()
    assert shown.errors == []
