"""Pane pages and the log: every text can be read, also while they are cut off, and no page begins in other colors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page
from tests.support.axe import serious
from tests.support.browser import SCRIPT, Shown
from tests.support.contrast import faint
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, eventually
from tests.support.proxy import Proxy
from tests.support.stack import Stack

LEAST = {"dashboard": 60, "maps": 4, "histogram": 0, "frame": 0, "summary": 30, "log": 20}
"""How many texts each page has at least; those of figures are on a canvas."""

PAGE_COLORS = {"dark": "rgb(20, 23, 28)", "light": "rgb(238, 240, 243)"}


@pytest.fixture(scope="module")
def run(redis_server: str) -> MadeUpRun:
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    run = MadeUpRun(redis_server)
    run.add(1, 33)
    return run


@contextmanager
def browser_of(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000 * PATIENCE)
    context.add_init_script(SCRIPT)
    try:
        yield context
    finally:
        context.close()


def ready(page: Page, name: str) -> None:
    """Wait until a page shows the run."""
    page.wait_for_function("() => 'opened' in document.documentElement.dataset")
    if name in ("dashboard", "summary"):
        page.locator("table td", has_text="green").first.wait_for()
    if name in ("dashboard", "maps"):
        page.wait_for_function("() => sm.cells()?.data.total?.[0]?.length")
    if name == "log":
        page.locator(".row[data-name=event_page]").first.wait_for()


def read(page: Page, state: str, least: int) -> list[str]:
    """The texts of a page that are too faint; fails where the page has fewer than ``least``."""
    shown = Shown(page)
    assert eventually(lambda: faint(shown)[0] >= least), (state, faint(shown)[0])
    return [f"{state}: {text.contrast} {text.words!r} in {text.where}" for text in faint(shown)[1]]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_pane_pages_and_the_log_can_be_read_also_while_cut_off(
    pages: Stack, chromium: Browser, run: MadeUpRun, theme: str
) -> None:
    found: list[str] = []
    with Proxy(pages.port) as proxy, browser_of(chromium) as context:
        opened = {name: context.new_page() for name in LEAST}
        for name, page in opened.items():
            page.goto(f"{proxy.url}/{name}?theme={theme}", wait_until="commit")
        for name, page in opened.items():
            ready(page, name)
            assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == PAGE_COLORS[theme]
        box = Shown(opened["maps"]).frame("map-total")
        opened["maps"].mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.8 * box["height"])
        opened["maps"].locator(".readout").wait_for()
        opened["log"].locator(".row[data-name=event_page]").first.click()
        opened["log"].locator(".detail .text").wait_for()
        for name, page in opened.items():
            found += read(page, name, LEAST[name])
            found += [f"{name}: {fault}" for fault in serious(Shown(page), theme=theme)]
        proxy.hold()
        for name, page in opened.items():
            words = page.get_by_text("No connection to the server since").first
            words.wait_for()
            assert "no connection" in page.title()
            found += read(page, f"{name}, cut off", max(1, LEAST[name]))
    assert found == []


WATCH = """
window.worn = {}
const note = (what, color) => {
  const seen = (window.worn[what] ??= [])
  if (color && !seen.includes(color)) seen.push(color)
}
const hosts = (root) => [...root.querySelectorAll('*')].filter((one) => one.shadowRoot)
const deep = (root, selector) => root.querySelector(selector) ??
  hosts(root).map((one) => deep(one.shadowRoot, selector)).find(Boolean)
const look = () => {
  if (document.querySelector('style') && document.body) note('page', getComputedStyle(document.body).backgroundColor)
  const cell = document.body && deep(document.body, 'tbody td')
  if (cell) note('channel', getComputedStyle(cell).color)
  if (window.Bokeh?.documents?.length) {
    const figure = sm.named('histogram') ?? sm.view('map-total')?.model
    if (figure) note('figure', figure.border_fill_color)
  }
  requestAnimationFrame(look)
}
look()
"""


def kept(context: BrowserContext) -> list[str | None]:
    """The theme that the next page is drawn in from the start."""
    return [one.get("value") for one in context.cookies() if one.get("name") == "snakemap-theme"]


def test_a_page_is_in_the_colors_that_were_chosen_from_its_first_frame(
    pages: Stack, chromium: Browser, run: MadeUpRun
) -> None:
    with browser_of(chromium) as context:
        page = context.new_page()
        page.goto(f"{pages.url}/dashboard")
        ready(page, "dashboard")
        page.locator("button.theme").click()
        page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
        assert kept(context) == ["light"]
        context.clear_cookies(name="snakemap-theme")  # as a browser has it that was here before there was the cookie
        page.reload()
        ready(page, "dashboard")
        page.close()
        assert kept(context) == ["light"]
        context.add_init_script(WATCH)
        for name in ("dashboard", "maps", "log"):
            page = context.new_page()
            page.goto(f"{pages.url}/{name}")
            ready(page, name)
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            worn = page.evaluate("() => window.worn")
            assert worn["page"] in ([PAGE_COLORS["light"]], ["rgba(0, 0, 0, 0)", PAGE_COLORS["light"]]), name
            assert worn.get("channel", ["rgb(200, 40, 30)"]) == ["rgb(200, 40, 30)"], name
            assert worn.get("figure", ["#ffffff"]) == ["#ffffff"], name
            page.close()
        page = context.new_page()
        page.goto(f"{pages.url}/maps?theme=dark")  # an address goes before what was kept
        ready(page, "maps")
        assert page.evaluate("() => window.worn.figure") == ["#1c2027"]
