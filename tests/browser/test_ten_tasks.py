"""Tasks of a user at a running scan, on one page that is opened once: each takes three clicks at most.

A click is a press that stays where it is; a drag marks what it is about, and is counted by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from tests.support.beamline_rest import begin, end, simulated
from tests.support.browser import Shown, open_page
from tests.support.stack import Stack

COUNT = """() => {
  window.clicks = window.drags = 0
  let from = null
  document.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY] }, true)
  document.addEventListener("pointerup", (event) => {
    if (!from) return
    if (Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 3) drags += 1
    else clicks += 1
    from = null
  }, true)
}"""


@pytest.fixture
def tab(beamline: tuple[Stack, str], chromium: Browser) -> Iterator[Shown]:
    stack, url = beamline
    simulated(url, rows=20, columns=20, seed=3)
    begin(url, rows=20, columns=20, rate_hz=8, seed=4)
    shown = open_page(chromium, f"{stack.url}/dashboard", width=1280, height=800)
    shown.page.evaluate(COUNT)
    try:
        yield shown
    finally:
        end(url)
        shown.page.close()
    assert shown.errors == []


@contextmanager
def task(tab: Shown, name: str, *, clicks: int = 0, drags: int = 0) -> Iterator[None]:
    """A task with its clicks and drags, which are counted by the browser."""
    assert clicks <= 3
    before = tab.page.evaluate("() => [clicks, drags]")
    yield
    after = tab.page.evaluate("() => [clicks, drags]")
    assert [now - then for now, then in zip(after, before, strict=True)] == [clicks, drags], name


def points(tab: Shown) -> int:
    return int(np.isfinite(tab.image("total")).sum())


def limits(tab: Shown) -> list[float]:
    """Left, right, bottom and top of the maps."""
    return tab.page.evaluate(
        """() => { const {left, right, bottom, top} = sm.models().find((model) => model.place?.uid).place
                   return [left, right, bottom, top] }"""
    )


def test_ten_tasks_at_a_running_scan_take_three_clicks_at_most(tab: Shown) -> None:
    page = tab.page
    tab.wait(lambda: tab.text(".status") == "running" and points(tab) > 40)

    with task(tab, "time left"):
        tab.wait(lambda: re.match(r"\d+:\d\d left", tab.text(".figures")) is not None)

    with task(tab, "counts at a pixel"):
        box = tab.frame("map-total")
        x0, x1, y0, y1 = page.evaluate(
            "() => { const {x_range: x, y_range: y} = sm.named('map-total'); return [x.start, x.end, y.start, y.end] }"
        )
        left, right, bottom, top = limits(tab)
        x, y = left + (right - left) * 3.5 / 20, bottom + (top - bottom) * 0.5 / 20
        at = (box["x"] + (x - x0) / (x1 - x0) * box["width"], box["y"] + (y1 - y) / (y1 - y0) * box["height"])
        page.mouse.move(*at)
        tab.wait(lambda: f"total {tab.image('total')[0, 3]:,.0f}" in " ".join(tab.text(".readout").split()))

    with task(tab, "frame of a moment", clicks=1):
        page.mouse.click(*at)
        tab.wait(lambda: page.evaluate("() => sm.named('frame').title.text") == "frame of point 4")

    with task(tab, "mark the brightest", drags=1):
        tab.drag("histogram", (0.5, 0.5), (0.99, 0.5))
        tab.wait(lambda: bool(tab.image("dimmed").any()))

    with task(tab, "distance from that point"):
        page.mouse.move(at[0] + (right - left) / 20 * 4 * box["width"] / (x1 - x0), at[1])
        tab.wait(lambda: "distance 0." in " ".join(tab.text(".readout").split()))

    with task(tab, "compare with the run before", clicks=1):
        page.get_by_role("button", name="Compare", exact=True).click()
        names = "() => ['first', 'second'].map((part) => sm.view(`compare ${part}`)?.model.title.text ?? '')"
        tab.wait(lambda: [title[:3] for title in page.evaluate(names)] == ["A: ", "B: "])
        shape = "() => sm.view('compare difference').model.renderers[0].data_source.data.image[0]?.shape"
        tab.wait(lambda: page.evaluate(shape) == [20, 20])
        first, second = (int(title.rsplit(" · ")[-1]) for title in page.evaluate(names))
        assert second - first == 1

    page.locator(".bk-btn:visible", has_text="‹ Maps").click()
    with task(tab, "save a map", clicks=2):
        page.get_by_role("button", name="Save", exact=True).click()
        with page.expect_download() as download:
            page.get_by_text("NumPy archive", exact=True).click()
        with np.load(Path(download.value.path())) as saved:
            assert saved["total"].shape == (20, 20)

    with task(tab, "copy a link", clicks=1):
        page.locator("button.link", has_text="Copy link").click()
        page.wait_for_function("() => location.search.includes('brush=')")

    with task(tab, "stop", clicks=2):
        page.locator(".buttons .stop").click()
        page.locator("dialog[open] .danger").click()
        tab.wait(lambda: tab.text(".status") in ("incomplete", "complete"))

    with task(tab, "run again", clicks=3):
        expect(page.locator(".buttons .again")).to_be_enabled()
        page.locator(".buttons .again").click()
        page.locator(".plan button.start", has_text="Check").click()
        page.locator(".plan.confirming button.start").click()
        tab.wait(lambda: tab.text(".status") == "running")
    whole = limits(tab)
    page.locator(".buttons .stop").click()
    page.locator("dialog[open] .danger").click()
    tab.wait(lambda: tab.text(".status") == "incomplete")

    with task(tab, "rescan a region", clicks=3, drags=1):
        expect(page.locator(".buttons .again")).to_be_enabled()
        page.locator(".buttons .again").click()
        page.locator(".plan [name=x_start]").wait_for()
        before = page.locator(".plan [name=x_start]").input_value()
        box = tab.frame("map-red")
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        page.keyboard.down("Shift")
        tab.drag("map-red", (0.4, 0.4), (0.6, 0.6))
        page.keyboard.up("Shift")
        tab.wait(lambda: page.locator(".plan [name=x_start]").input_value() != before)
        page.locator(".plan button.start", has_text="Check").click()
        page.locator(".plan.confirming button.start").click()
        tab.wait(lambda: tab.text(".status") == "running" and limits(tab) != whole)
    left, right, bottom, top = limits(tab)
    assert whole[0] < left < right < whole[1]
    assert whole[2] < bottom < top < whole[3]
    tools = "() => sm.named('map-red').toolbar.tools.filter((tool) => tool.active).map((tool) => tool.type)"
    assert "PanTool" in page.evaluate(tools)
    assert "BoxSelectTool" not in page.evaluate(tools)
