"""What another browser, or another tab of the same one, gets of a tab: nothing of its session or its control."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from bokeh.util.token import get_session_id
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import free_port
from tests.support.stack import Stack

MINE, ANOTHER = "You have control", "has control (since"
TIMEOUT_MS = 40_000 * PATIENCE


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    """Pages of a beamline whose blueapi is away: control can be taken, and nothing more."""
    blueapi = f"http://127.0.0.1:{free_port()}"
    stack = Stack(tmp_path_factory.mktemp("pages"), redis_url=redis_server, BLUEAPI_URL=blueapi).serve()
    try:
        yield stack
    finally:
        stack.end()


@pytest.fixture
def context(chromium: Browser, redis_url: str) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield made
    made.close()


def holder(page: Page) -> str:
    return page.locator(".holder").first.inner_text()


def in_control(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    page.get_by_text("Take control", exact=True).click(timeout=TIMEOUT_MS)
    says(page, MINE)
    return page


def says(page: Page, words: str) -> None:
    expect(page.locator(".holder").first).to_contain_text(words, timeout=TIMEOUT_MS)


def opened_by(page: Page, script: str) -> Page:
    with page.context.expect_page() as opened:
        page.evaluate(script)
    return opened.value


@pytest.mark.parametrize(
    "script",
    [
        "() => { window.open(location.href) }",
        "() => { window.open(location.href, '', 'popup') }",
        "() => { const a = document.createElement('a'); a.href = location.href; a.target = '_blank';"
        " a.rel = 'opener'; document.body.append(a); a.click() }",
    ],
    ids=["window", "popup", "link"],
)
def test_a_tab_that_a_tab_opens_does_not_inherit_its_control(
    steered: Stack, context: BrowserContext, script: str
) -> None:
    page = in_control(context, f"{steered.url}/dashboard")
    copy = opened_by(page, script)
    says(copy, ANOTHER)
    assert MINE not in holder(copy)
    copy.reload()
    says(copy, ANOTHER)
    assert MINE not in holder(copy)
    assert MINE in holder(page)


def test_a_tab_keeps_its_control_over_reloads_and_not_for_a_tab_opened_afterwards(
    steered: Stack, context: BrowserContext
) -> None:
    page = in_control(context, f"{steered.url}/dashboard")
    for _ in range(2):
        page.reload()
        says(page, MINE)
    page.goto(f"{steered.url}/dashboard?theme=light")
    says(page, MINE)
    copy = opened_by(page, "() => { window.open(location.href) }")
    says(copy, ANOTHER)
    assert MINE not in holder(copy)


def test_the_address_of_a_session_shows_another_browser_nothing(
    steered: Stack, chromium: Browser, context: BrowserContext
) -> None:
    page = context.new_page()
    loaded = page.goto(f"{steered.url}/dashboard")
    assert loaded is not None
    found = re.search(r'"token":"([^"]+)"', loaded.text())
    assert found is not None
    session = get_session_id(found[1])
    page.get_by_text("Take control", exact=True).click(timeout=TIMEOUT_MS)
    says(page, MINE)
    for mine in (context, chromium.new_context()):
        other = mine.new_page()
        answer = other.goto(f"{steered.url}/dashboard?bokeh-session-id={session}")
        assert answer is not None
        assert answer.status == 403
        assert "must not contain a session id" in other.inner_text("body")
        other.close()
    assert MINE in holder(page)


def test_a_new_browser_with_two_tabs_at_once_shows_both(steered: Stack, chromium: Browser, redis_url: str) -> None:
    context = chromium.new_context()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.evaluate(f"() => {{ setTimeout(() => {{ location.href = '{steered.url}/dashboard' }}, 0) }}")
    for tab in tabs:
        says(tab, "No tab has control")
    context.close()
