"""What can be pressed stays where it is while a scan runs: no update makes anew what is under the hand."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.support.beamline_rest import begin, end, simulated
from tests.support.browser import Shown, open_page
from tests.support.stack import Stack

HELD_S = 3.0

HOLD = """
() => {
  const all = 'button, input, select, option, a[href], li, tr, td, th, .row, .light'
  window.held = []
  const walk = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) walk(node.shadowRoot)
      if (node.matches(all) && node.checkVisibility({visibilityProperty: true})) window.held.push(node)
    }
  }
  walk(document)
  return window.held.length
}
"""
LOST = """
() => window.held.filter((node) => !node.isConnected)
  .map((node) => `${node.localName}.${node.className} ${node.textContent.slice(0, 40)}`)
"""
FOCUS = """
() => {
  let node = document.activeElement
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement
  return node && `${node.localName}.${node.className} ${node.value ?? node.textContent}`
}
"""


@pytest.fixture
def running(beamline: tuple[Stack, str], chromium: Browser) -> Iterator[tuple[Shown, Stack]]:
    """The dashboard over a scan that goes on for longer than any test, after one that has ended."""
    stack, url = beamline
    simulated(url)
    begin(url, rows=100, columns=100, rate_hz=20)
    try:
        tab = open_page(chromium, f"{stack.url}/dashboard", width=1280, height=800)
        tab.wait(lambda: tab.text(".status") == "running" and points(tab) > 0)
        yield tab, stack
        assert tab.errors == []
        tab.page.close()
    finally:
        end(url)


def points(tab: Shown) -> int:
    """How many points the top bar counts."""
    found = re.search(r"([\d,]+)(?: of [\d,]+)? points", tab.text(".figures"))
    return int(found[1].replace(",", "")) if found else 0


def goes_on(tab: Shown, *, seconds: float = HELD_S) -> None:
    """Waits while the scan goes on: at least so long, and until the words have changed three times."""
    deadline, seen = time.monotonic() + seconds, {points(tab)}

    def changed() -> bool:
        seen.add(points(tab))
        return time.monotonic() >= deadline and len(seen) > 3

    tab.wait(changed)


def test_nodes_of_all_lists_stay_while_a_scan_runs(running: tuple[Shown, Stack]) -> None:
    tab, _ = running
    take_control(tab)
    tab.page.locator(".bar .device").first.wait_for()
    for place, least in (("Runs", 50), ("Files", 40), ("Actions", 40)):
        tab.page.get_by_text(place, exact=True).click()
        tab.page.locator({"Runs": "li.run", "Files": ".files .row", "Actions": ".audit li"}[place]).first.wait_for()
        assert tab.page.evaluate(HOLD) >= least
        goes_on(tab)
        assert tab.page.evaluate(LOST) == [], place


def take_control(tab: Shown) -> None:
    """Takes control, once the tab of the test before has lost it."""
    tab.page.locator(".lock button", has_text="Take control").click()
    tab.wait(lambda: tab.text(".lock").startswith("You have control"))


def test_focus_and_selection_stay(running: tuple[Shown, Stack]) -> None:
    tab, _ = running
    take_control(tab)
    tab.page.get_by_role("tab", name="Runs").click()
    search = tab.page.locator(".history .search")
    search.fill("simulated")
    search.select_text()
    goes_on(tab)
    assert tab.page.evaluate(FOCUS) == "input.search simulated"
    assert search.evaluate("(node) => [node.selectionStart, node.selectionEnd]") == [0, 9]
    search.fill("")
    for selector in ("li.run .choose", ".lock button", ".buttons .stop", ".topbar .theme"):
        tab.page.locator(selector).first.focus()
        before = tab.page.evaluate(FOCUS)
        goes_on(tab, seconds=1.0)
        assert tab.page.evaluate(FOCUS) == before


def test_a_press_that_lasts_longer_than_several_updates_is_a_click(running: tuple[Shown, Stack]) -> None:
    tab, _ = running
    take_control(tab)

    def long_press(selector: str, number: int = 0) -> None:
        node = tab.page.locator(selector).nth(number)
        node.hover()
        tab.page.mouse.down()
        goes_on(tab, seconds=1.0)
        tab.page.mouse.up()

    long_press(".lock button")
    tab.wait(lambda: not tab.text(".lock").startswith("You have control"))
    long_press(".lock button")
    tab.wait(lambda: tab.text(".lock").startswith("You have control"))
    long_press(".buttons .stop")
    expect(tab.page.locator("dialog[open]")).to_be_visible()
    tab.page.keyboard.press("Escape")
    tab.page.get_by_text("Files", exact=True).click()
    tab.page.locator(".files .row").first.wait_for()
    long_press(".files .row")
    expect(tab.page.locator(".crumbs .crumb")).not_to_have_count(1)
    tab.page.get_by_text("Runs", exact=True).click()
    long_press("li.run .choose", 1)
    tab.wait(lambda: tab.text(".status") == "complete")


def sizes(tab: Shown) -> list[float]:
    """Width and height of the smallest map, in pixels: what is drawn of it, without the margins of its figure."""
    maps = ["map-red", "map-green", "map-blue", "map-total"]
    shares = tab.page.evaluate(
        """(names) => names.map((name) => {
             const plot = sm.named(name), page = sm.models().find((model) => model.place?.uid)
             const {left, right, bottom, top} = page.place
             return [Math.abs((right - left) / (plot.x_range.end - plot.x_range.start)),
                     Math.abs((top - bottom) / (plot.y_range.end - plot.y_range.start))] })""",
        maps,
    )
    boxes = [tab.frame(name) for name in maps]
    widths = [box["width"] * share[0] for box, share in zip(boxes, shares, strict=True)]
    heights = [box["height"] * share[1] for box, share in zip(boxes, shares, strict=True)]
    return [min(widths), min(heights)]


def test_a_square_map_is_250_pixels_on_a_laptop_and_grows_when_the_table_is_folded(
    running: tuple[Shown, Stack], chromium: Browser
) -> None:
    tab, _ = running
    tab.wait(lambda: min(sizes(tab)) >= 250)
    before = sizes(tab)
    runs = tab.page.get_by_role("tab", name="Runs")
    expect(tab.page.locator(".history").first).to_be_hidden()  # on a screen of this width the maps have the room
    runs.click()
    expect(tab.page.locator(".history").first).to_be_visible()
    runs.press("ArrowDown")
    expect(tab.page.get_by_role("tab", name="Files")).to_be_focused()
    expect(tab.page.get_by_role("tab", selected=True)).to_have_text("Files")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("tab", selected=True)).to_have_count(0)
    tab.wait(lambda: sizes(tab) == before)
    fold = tab.page.get_by_role("button", name="Fold the summary table")
    fold.click()
    expect(tab.page.locator(".sheet tbody").first).to_be_hidden()
    tab.wait(lambda: min(sizes(tab)) >= 260 and sizes(tab)[1] > before[1])  # then the width is the limit
    tab.page.reload()
    tab.wait(lambda: tab.page.locator(".sheet tbody").count() > 0)
    expect(tab.page.locator(".sheet tbody").first).to_be_hidden()  # this browser keeps it
    tab.page.get_by_role("button", name="Show the summary table").click()
    expect(tab.page.locator(".sheet tbody").first).to_be_visible()


ADD_AND_CHANGE = """
() => {
  const shown = Bokeh.documents[0]
  const column = sm.models().find((model) => model.css_classes?.includes('right'))
  const change = (id, attr, value) => ({kind: 'ModelChanged', model: {id}, attr, new: value})
  const patch = (...events) => shown.apply_json_patch({events}, new Map())
  const attributes = {start: 0, end: 10, step: 1, value: 1}
  const slider = {type: 'object', name: 'Slider', id: 'added-by-the-test', attributes}
  patch(change(column.id, 'children', [...column.children.map(({id}) => ({id})), slider]))
  patch(change(slider.id, 'end', 20), change(slider.id, 'title', 'changed'))
  patch(change(slider.id, 'value', 15))
}
"""


def test_a_change_that_comes_while_its_view_is_made_is_applied_when_it_is_drawn(
    pages: Stack, chromium: Browser
) -> None:
    tab = open_page(chromium, f"{pages.url}/dashboard")
    tab.page.evaluate(ADD_AND_CHANGE)
    tab.wait(lambda: tab.page.get_by_text("changed: 15").count() == 1)
    assert tab.page.evaluate("() => sm.models().find((model) => model.id === 'added-by-the-test').end") == 20
    assert tab.errors == []
    tab.page.close()
