"""A real Chromium, one for this directory: while it runs, no other test can run an event loop.

Most of what a browser test costs is the start of servers and the loading of pages. Servers that no test changes are
started once, and every module of tests gets them with an empty data root.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.support.browser import ARGUMENTS, CHROMIUM, Shown, open_page, patient
from tests.support.http_requests import answers
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import START_TIMEOUT_S, Program, Stack

expect.set_options(timeout=20_000 * PATIENCE)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        browser.new_page = patient(browser.new_page)
        browser.new_context = patient(browser.new_context)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shared_pages(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    """The process of :func:`pages`."""
    stack = Stack(tmp_path_factory.mktemp("pages"), BLOCKS_MAX_GB="1", redis_url=redis_server).serve()
    try:
        yield stack
    finally:
        os.kill(stack.pages.pid, signal.SIGCONT)
        stack.end()


@pytest.fixture(scope="module")
def pages(shared_pages: Stack) -> Iterator[Stack]:
    """The pages of a store that tests fill themselves; they stand still while other modules use the store."""
    os.kill(shared_pages.pages.pid, signal.SIGCONT)
    yield shared_pages
    os.kill(shared_pages.pages.pid, signal.SIGSTOP)
    for path in shared_pages.data_root.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[tuple[Stack, str]]:
    """Pages and worker over a simulated beamline that scans when it is asked, without a broker."""
    directory, port = tmp_path_factory.mktemp("beamline"), free_port()
    url = f"http://127.0.0.1:{port}"
    stack = Stack(directory, redis_url=redis_server, BLUEAPI_URL=url, INSTRUMENT_SESSION="cm12345-1")
    environment = stack.pages.environment
    with Program(["simulate", "--rest", str(port)], environment=environment, log=directory / "simulate.log"):
        try:
            assert eventually(lambda: answers(f"{url}/api/v1/plans"), timeout_s=START_TIMEOUT_S, every_s=0.1)
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


@pytest.fixture
def run(redis_url: str) -> MadeUpRun:
    """The first 33 points of a run."""
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    return run
