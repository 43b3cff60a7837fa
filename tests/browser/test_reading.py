"""What the user reads or has chosen stays where it is while events arrive and files grow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pytest
import redis
from playwright.sync_api import Browser, Page
from tests.support.browser import SCRIPT, open_page
from tests.support.patience import PATIENCE, eventually
from tests.support.stack import Stack

STREAM = "snakemap:documents"
BEGAN_MS = 1_795_461_000_000
KEPT = 3000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    """Pages that keep few events, so that old ones leave the list while new ones arrive."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
        add(client, range(KEPT))
    stack = Stack(tmp_path_factory.mktemp("reading"), redis_url=redis_server, LOG_ROWS=str(KEPT)).serve()
    try:
        yield stack
    finally:
        stack.end()


@pytest.fixture
def store(redis_server: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server) as client:
        yield client


def add(client: redis.Redis, numbers: range) -> None:
    """Append events to the store."""
    with client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            doc = json.dumps({"descriptor": "d", "seq_num": number, "data": {"x": number}})
            fields: dict[Any, Any] = {"name": "event", "run": "run-1", "task": "", "doc": doc}
            pipeline.xadd(STREAM, fields, id=f"{BEGAN_MS + number}-0")
        pipeline.execute()


def newest(client: redis.Redis) -> int:
    """The number of the newest event in the store."""
    found: Any = client.xrevrange(STREAM, count=1)
    return int(found[0][0].partition(b"-")[0]) - BEGAN_MS


SEEN = """(view) => {
  const sees = (row) => row.offsetTop + 24 > view.scrollTop && row.offsetTop < view.scrollTop + view.clientHeight
  return [...view.querySelectorAll('.row')].filter((row) => row.dataset.cursor && sees(row))
    .map((row) => [row.dataset.cursor, row.offsetTop - view.scrollTop]).sort((a, b) => a[1] - b[1])
}"""


def seen(page: Page) -> list[tuple[int, float]]:
    """Numbers of the events in sight, and how far below the upper edge of the list each is."""
    found = page.locator(".view").evaluate(SEEN)
    return [(int(cursor.partition("-")[0]) - BEGAN_MS, top) for cursor, top in found]


def is_still(page: Page) -> bool:
    """Whether the list does not scroll between two frames of the browser."""
    before = seen(page)
    page.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    return seen(page) == before


def told(page: Page) -> int:
    """How many events the page knows of, those that have left the list included."""
    return page.evaluate("() => Math.max(...sm.models().map((model) => model.news?.stop ?? 0))")


def watched(page: Page, number: int) -> None:
    """Note in every frame of the browser where an event is on the screen."""
    script = """(view, cursor) => {
      window.places = []
      const look = () => {
        const row = view.querySelector(`.row[data-cursor="${cursor}"]`)
        const place = row ? Math.round(row.offsetTop - view.scrollTop) : 'gone'
        if (!window.places.includes(place)) window.places.push(place)
        requestAnimationFrame(look)
      }
      look()
    }"""
    page.locator(".view").evaluate(script, f"{BEGAN_MS + number}-0")


def opened_log(chromium: Browser, url: str) -> Page:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(30_000 * PATIENCE)
    page.add_init_script(SCRIPT)
    page.goto(f"{url}/log")
    page.locator(".row[data-cursor]").first.wait_for()
    return page


@pytest.mark.parametrize("hand", ["wheel", "scroll bar", "key"])
def test_a_log_that_was_scrolled_stays_still_and_one_at_its_end_follows(
    served: Stack, chromium: Browser, store: redis.Redis, hand: str
) -> None:
    page, last = opened_log(chromium, served.url), newest(store)
    view = page.locator(".view")

    def shows(number: int) -> bool:
        return number in [event for event, _ in seen(page)]

    assert eventually(lambda: shows(last), timeout_s=30)  # the newest, while older ones are still being read
    assert eventually(lambda: page.locator(".note").inner_text().startswith("3,0"), timeout_s=30)
    add(store, range(last + 1, last + 31))
    assert eventually(lambda: shows(last + 30))

    if hand == "wheel":
        view.hover()
        page.mouse.wheel(0, -10_000)
    elif hand == "key":
        view.focus()
        for _ in range(10):
            page.keyboard.press("PageUp")
    else:  # a scroll bar that is dragged sends no event but the scrolling itself
        view.evaluate("(view) => { view.scrollTop = 48_000 }")
    assert eventually(lambda: "not following" in page.locator(".note").inner_text())
    assert eventually(lambda: len(seen(page)) > 10 and seen(page)[-1][0] < last - 100 and is_still(page))
    number, top = seen(page)[len(seen(page)) // 2]
    watched(page, number)
    before = told(page)
    for first in range(last + 31, last + 631, 30):  # as many leave the list at its beginning
        add(store, range(first, first + 30))
        page.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    add(store, range(last + 631, last + 632))
    assert eventually(lambda: told(page) == before + 601)
    assert page.evaluate("() => window.places") == [round(top)]

    view.evaluate("(view) => { view.scrollTop = view.scrollHeight }")
    assert eventually(lambda: shows(last + 631))
    assert "not following" not in page.locator(".note").inner_text()
    add(store, range(last + 632, last + 662))
    assert eventually(lambda: shows(last + 661))
    page.close()


FOCUS = """() => {
  let node = document.activeElement
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement
  return node && `${node.localName}.${node.className} ${node.getAttribute('aria-label') ?? ''}`
}"""


def test_focus_and_choice_in_files_and_tree_survive_updates_of_a_growing_file(served: Stack, chromium: Browser) -> None:
    growing, other = served.data_root / "growing.h5", served.data_root / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.arange(3.0)
    with h5py.File(growing, "w", libver="latest") as file:
        data = file.create_dataset("stack", (1, 4, 5), "u2", maxshape=(None, 4, 5), chunks=(1, 4, 5))
        file.swmr_mode = True
        tab = open_page(chromium, f"{served.url}/dashboard")
        page = tab.page
        page.get_by_text("Files", exact=True).click()
        row = page.locator(".files .row", has_text=growing.name)
        row.wait_for()

        def grow() -> str:
            data.resize(data.shape[0] + 50, axis=0)
            data[-50:] = 1
            data.flush()
            return row.locator(".size").inner_text()

        page.locator(".files .row", has_text=other.name).click()
        page.locator("[role=treeitem] .name", has_text="x").first.wait_for()  # the tree has come into view
        page.get_by_text("Files", exact=True).click()
        for selector, key in ((".files .view", "ArrowDown"), (".files .search", "o"), (".files .sort", "")):
            page.locator(selector).focus()
            if key:
                page.keyboard.press(key)
            before, size = page.evaluate(FOCUS), grow()
            tab.wait(lambda size=size: row.locator(".size").inner_text() != size)
            assert page.evaluate(FOCUS) == before
        assert page.locator(".files .search").input_value() == "o"
        chosen = page.locator(".files .row[aria-selected=true] .name").all_inner_texts()
        assert chosen == [other.name]
        tab.wait(lambda: row.locator(".live").inner_text() == "live")

        row.click()
        node = page.locator("[role=treeitem] .name", has_text="stack")
        node.click()
        before = page.evaluate(FOCUS)
        words = page.locator("[role=treeitem]", has_text="stack").inner_text()
        grow()
        tab.wait(lambda: page.locator("[role=treeitem]", has_text="stack").inner_text() != words)
        assert page.evaluate(FOCUS) == before
        assert page.locator("[role=treeitem][aria-selected=true] .name").all_inner_texts() == ["stack"]
        assert tab.errors == []
        page.close()
