"""A real Chromium, one a module: while it runs, no other test could run an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.support.browser import ARGUMENTS, CHROMIUM, Shown, open_page
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import free_port
from tests.support.stack import Program, Stack

expect.set_options(timeout=20_000 * PATIENCE)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    """The pages of a store that tests fill themselves."""
    stack = Stack(tmp_path_factory.mktemp("pages"), redis_url=redis_server).serve()
    try:
        yield stack
    finally:
        stack.end()


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[tuple[Stack, str]]:
    """Pages and worker over a simulated beamline that scans when it is asked, without a broker."""
    directory, port = tmp_path_factory.mktemp("beamline"), free_port()
    url = f"http://127.0.0.1:{port}"
    stack = Stack(directory, redis_url=redis_server, BLUEAPI_URL=url, INSTRUMENT_SESSION="cm12345-1")
    environment = stack.pages.environment
    with Program(["simulate", "--rest", str(port)], environment=environment, log=directory / "simulate.log"):
        try:
            stack.serve()
            stack.ingest.start()
            yield stack, url
        finally:
            stack.end()


@pytest.fixture
def tab(pages: Stack, chromium: Browser, redis_url: str) -> Iterator[Shown]:
    """The dashboard of an empty store, which must complain of nothing."""
    shown = open_page(chromium, f"{pages.url}/dashboard")
    yield shown
    shown.page.close()
    assert shown.errors == []
