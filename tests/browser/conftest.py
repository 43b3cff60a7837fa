"""A real Chromium, one a module: while it runs, no other test could run an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.support.browser import ARGUMENTS, CHROMIUM, Shown, open_page
from tests.support.stack import Stack


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


@pytest.fixture
def tab(pages: Stack, chromium: Browser, redis_url: str) -> Iterator[Shown]:
    """The dashboard of an empty store, which must complain of nothing."""
    shown = open_page(chromium, f"{pages.url}/dashboard")
    yield shown
    shown.page.close()
    assert shown.errors == []
