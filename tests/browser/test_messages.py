"""Messages lie where there is nothing to press; pictures are saved; a zoom is taken back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog
from tests.support.browser import Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.patience import eventually
from tests.support.stack import Stack

COVERED = """
() => {
  const controls = 'button, input, select, textarea, a[href], [role=button], [role=option], .bk-tab, .bk-ToolButton, li'
  const parent = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null
  const toasts = [...document.querySelectorAll('.notyf__toast:not(.notyf__toast--disappear)')]
  const found = []
  const walk = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) walk(node.shadowRoot)
      if (!node.matches(controls)) continue
      if (node.closest('.notyf') || !node.checkVisibility({visibilityProperty: true})) continue
      let box = node.getBoundingClientRect()
      let [left, right, top, bottom] = [box.left, box.right, box.top, box.bottom]
      for (let at = parent(node); at; at = parent(at)) {  // what is scrolled out of its list cannot be pressed
        if (getComputedStyle(at).overflow === 'visible') continue
        box = at.getBoundingClientRect()
        left = Math.max(left, box.left); right = Math.min(right, box.right)
        top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom)
      }
      if (right - left < 1 || bottom - top < 1) continue
      for (const toast of toasts) {
        const over = toast.getBoundingClientRect()
        if (left < over.right && over.left < right && top < over.bottom && over.top < bottom)
          found.push(`${node.localName}.${node.className} ${node.textContent.slice(0, 30)}`)
      }
    }
  }
  walk(document)
  return found
}
"""

STAY = """
() => {  // a message does not go by itself, however slow the machine is
  const timer = window.setTimeout
  window.setTimeout = (does, ms, ...more) => ms >= 8000 ? 0 : timer(does, ms, ...more)
}
"""


def shape(tab: Shown, text: str) -> None:
    """Types a shape over the maps."""
    tab.page.locator("input.bk-input[placeholder=shape]").fill(text)
    tab.page.keyboard.press("Enter")


@pytest.mark.parametrize("size", [(1024, 768), (1280, 800)])
def test_no_control_of_the_toolbar_is_cut_off(
    pages: Stack, chromium: Browser, redis_url: str, size: tuple[int, int]
) -> None:
    diode = np.random.default_rng(0).random(80)
    run = MadeUpRun(redis_url, scalars={"diode": diode})
    run.add(1, 80)
    tab = open_page(chromium, f"{pages.url}/dashboard", width=size[0], height=size[1])
    tab.wait(lambda: tab.page.locator(".center select:visible").count() == 6)  # the source is one of them
    pane: Any = tab.page.locator(".center:visible").first.bounding_box()
    controls = tab.page.locator(".center select:visible, .center input:visible, .center button:visible").all()
    assert len(controls) >= 9
    boxes: list[Any] = [control.bounding_box() for control in controls]
    assert [box for box in boxes if box["x"] < pane["x"] or box["x"] + box["width"] > pane["x"] + pane["width"]] == []
    assert min(box["width"] for box in boxes) >= 30
    tab.page.close()


@pytest.mark.parametrize("size", [(1024, 768), (1280, 800), (1920, 1080)])
def test_no_message_lies_over_a_button_however_many_there_are(
    pages: Stack, chromium: Browser, redis_url: str, size: tuple[int, int]
) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 40)
    tab = open_page(chromium, f"{pages.url}/dashboard", width=size[0], height=size[1])
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 40)
    tab.page.evaluate(STAY)
    toasts = tab.page.locator(".notyf__toast:not(.notyf__toast--disappear)")
    for number in range(5):
        shape(tab, f"{number} by nine {'and a long word ' * number}")
        tab.page.locator(".notyf__message", has_text=f"'{number} by nine").wait_for()
        tab.wait(lambda number=number: toasts.count() == min(number + 1, 3))
        assert tab.page.evaluate(COVERED) == []
    assert tab.page.locator(".notyf__message").last.inner_text().startswith("'4 by nine and a long word")
    for name in ("Files", "Tree", "Runs"):
        tab.page.get_by_text(name, exact=True).click()
        assert tab.page.evaluate(COVERED) == []
    shape(tab, "")
    shape(tab, "4 by nine " + "and a long word " * 4)
    assert toasts.count() <= 3
    tab.page.locator(".notyf__dismiss-btn").last.click()
    assert tab.errors == []
    tab.page.close()


def test_markup_in_a_message_is_text(tab: Shown, redis_url: str) -> None:
    shape(tab, "<b id=x>7</b>")
    message = tab.page.locator(".notyf__message")
    message.wait_for()
    assert "<b id=x>7</b>" in message.inner_text()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_save_tool_downloads_the_maps_as_they_are_seen(
    pages: Stack, chromium: Browser, redis_url: str, theme: str
) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, run.points)
    tab = open_page(chromium, f"{pages.url}/dashboard?theme={theme}", width=1280, height=800)
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == run.points)
    named = "() => sm.models().some((model) => model.filename?.startsWith('snakemap-made_up'))"
    tab.wait(lambda: tab.page.evaluate(named))
    asked: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    tab.page.on("dialog", dismiss)
    with tab.page.expect_download() as download:
        tab.page.locator(".bk-tool-icon-save").first.click()
    assert download.value.suggested_filename == f"snakemap-made_up-7-{run.uid[:8]}.png"
    assert asked == []
    picture = Image.open(download.value.path()).convert("RGB")
    screen = Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")
    frames = {name: tab.frame(f"map-{name}") for name in ("red", "green", "blue", "total")}
    left, top = min(f["x"] for f in frames.values()), min(f["y"] for f in frames.values())
    grid: Any = tab.page.locator(".bk-GridPlot").first.bounding_box()
    assert picture.size == (pytest.approx(grid["width"], abs=1), pytest.approx(grid["height"], abs=1))
    assert left > grid["x"]
    assert top > grid["y"]
    for name, frame in frames.items():
        for x, y in ((0.34, 0.3), (0.55, 0.44), (0.72, 0.6)):  # no edge of a cell
            at = frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]
            there = int(at[0] - grid["x"]), int(at[1] - grid["y"])
            assert near(picture.getpixel(there), screen.getpixel((int(at[0]), int(at[1])))), (name, x, y)
    panel = (255, 255, 255) if theme == "light" else (28, 32, 39)
    assert near(picture.getpixel((2, 2)), panel)
    assert len(picture.getcolors(1 << 24) or []) > 100
    assert tab.errors == []
    tab.page.close()


def near(one: Any, other: Any) -> bool:
    """Whether two colors are the same but for rounding."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 3


def test_a_zoom_is_taken_back_by_a_double_click_and_by_escape(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 80)
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 80)
    for name in ("frame", "map-red", "map-total"):

        def ranges(name: str = name) -> list[float]:
            told = """(name) => { const plot = sm.view(name).model
                                  return [plot.x_range, plot.y_range].flatMap((r) => [r.start, r.end]) }"""
            return tab.page.evaluate(told, name)

        def home(name: str = name) -> list[float]:
            told = """(name) => { const plot = sm.view(name).model
                                  return [plot.x_range, plot.y_range].flatMap((r) => [r.reset_start, r.reset_end]) }"""
            return tab.page.evaluate(told, name)

        # the figure has its proportions
        tab.wait(lambda home=home, ranges=ranges: None not in home() and ranges() == pytest.approx(home()))
        whole = ranges()
        box = tab.frame(name)
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def zoom(whole: list[float] = whole, middle: tuple[float, float] = middle) -> None:
            tab.page.mouse.move(*middle)
            tab.page.mouse.wheel(0, -300)
            tab.wait(lambda: ranges() != pytest.approx(whole))

        def double_click(whole: list[float] = whole, middle: tuple[float, float] = middle) -> bool:
            tab.page.mouse.dblclick(*middle)  # on a busy machine two clicks may be too far apart to be one
            return eventually(lambda: ranges() == pytest.approx(whole), timeout_s=1)

        if name == "frame":  # on a map it is for that map alone
            zoom()
            tab.wait(double_click)
        zoom()
        tab.page.keyboard.press("Escape")
        tab.wait(lambda whole=whole: ranges() == pytest.approx(whole))
        zoom()
        tab.page.mouse.move(5, 5)  # the key is for the figure under the pointer alone
        tab.page.keyboard.press("Escape")
        tab.page.wait_for_timeout(300)
        assert ranges() != pytest.approx(whole)
        tab.page.mouse.move(*middle)
        tab.page.keyboard.press("Escape")
        tab.wait(lambda whole=whole: ranges() == pytest.approx(whole))
    before = tab.frame("map-total")
    tab.page.mouse.dblclick(before["x"] + 9, before["y"] + 40)
    tab.wait(lambda: tab.frame("map-total")["width"] > 1.8 * before["width"] and "map=total" in tab.page.url)
    assert [tab.page.evaluate("(name) => sm.named(`map-${name}`).visible", name) for name in ("red", "total")] == [
        False, True,
    ]  # fmt: skip
    tab.page.mouse.move(5, 5)
    tab.page.keyboard.press("Escape")
    tab.wait(lambda: tab.frame("map-total") == before and "map=" not in tab.page.url)
