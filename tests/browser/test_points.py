"""From the map to the frame in Chromium: a click, arrow keys and a link show the frame of a point, during a scan."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote_plus, urlsplit

import h5py
import numpy as np
from playwright.sync_api import Browser
from tests.support.browser import Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.stack import Stack

POINTS = 80


def seen(shown: Shown) -> tuple[str, set[int]]:
    """The title of the frame, and the values of its pixels."""
    title, values = shown.page.evaluate(
        """() => [sm.named('frame').title.text, Array.from(sm.named('frame').renderers.find((one) =>
                  one.glyph.type === 'Image').data_source.data.image[0])]"""
    )
    return title, set(values)


def shows(shown: Shown, point: int) -> bool:
    return seen(shown) == (f"frame of point {point}", {point - 1})


def click(shown: Shown, column: int, row: int) -> None:
    """Click the middle of a pixel of the total map, counted from the left and from below."""
    box = shown.frame("map-total")
    place = shown.page.evaluate("() => sm.models().find((model) => model.place?.uid).place")
    start, end, bottom, top = shown.page.evaluate(
        "() => { const {x_range: x, y_range: y} = sm.view('map-total').model; return [x.start, x.end, y.start, y.end] }"
    )
    x, y = place["left"] + (column + 0.5) * place["dx"], place["bottom"] + (row + 0.5) * place["dy"]
    at = box["x"] + (x - start) / (end - start) * box["width"], box["y"] + (top - y) / (top - bottom) * box["height"]
    shown.page.mouse.click(*at)


def test_a_click_on_a_pixel_shows_its_frame_and_keys_and_a_link_go_on(
    pages: Stack, chromium: Browser, tab: Shown, redis_url: str
) -> None:
    frames = np.arange(POINTS, dtype=np.uint8)[:, None, None] + np.zeros((1, 24, 8), np.uint8)
    with h5py.File(pages.data_root / "frames.h5", "w") as file:
        file["data"] = frames
    run = MadeUpRun(redis_url, file=(pages.data_root / "frames.h5").as_uri())
    run.add(1, 40)
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 40)
    click(tab, 2, 0)
    tab.wait(lambda: shows(tab, 3))
    tab.wait(lambda: "row 2" in tab.text(".pointbar .source"))
    assert tab.text(".pointbar .source").startswith("frames.h5")
    assert f"total {int(run.value('total', 3)):,}" in tab.text(".pointbar .counts")
    assert "stage-x" in tab.text(".pointbar .place")
    tab.page.keyboard.press("ArrowUp")  # the row above runs back
    tab.wait(lambda: shows(tab, 18))
    tab.page.keyboard.press("ArrowRight")
    tab.wait(lambda: shows(tab, 17))
    tab.page.keyboard.press("Shift+ArrowRight")
    tab.wait(lambda: shows(tab, 18))
    run.add(41, 50)  # the scan goes on, the frame stays
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 50)
    assert shows(tab, 18)
    tab.wait(lambda: "point=18" in tab.page.evaluate("location.href"))
    link = tab.page.evaluate("() => sm.models().find((model) => model.data?.state?.link)?.data.state.link")
    assert parse_qs(urlsplit(f"?{link}").query) == {"run": [run.uid], "point": ["18"]}
    other = open_page(chromium, f"{pages.url}/dashboard?{link}")
    other.wait(lambda: shows(other, 18))
    other.page.locator(".pointbar .point").fill("60")
    other.page.locator(".pointbar .point").press("Enter")
    other.wait(lambda: seen(other)[0] == "point 60 is not measured yet")
    run.add(51, 60)
    other.wait(lambda: shows(other, 60))
    other.page.locator(".pointbar .newest").click()
    other.page.locator(".pointbar").wait_for(state="hidden")
    other.wait(lambda: "point=" not in other.page.evaluate("location.href"))
    (pages.data_root / "frames.h5").unlink()
    click(other, 0, 0)
    other.wait(lambda: seen(other)[0] == "frame of point 1 cannot be read")
    other.page.close()
    assert other.errors == []


def test_regions_are_typed_and_drawn_and_become_maps_of_the_tab(
    pages: Stack, chromium: Browser, tab: Shown, redis_url: str
) -> None:
    frames = np.random.default_rng(2).integers(0, 200, (POINTS, 24, 8), dtype=np.uint8)
    with h5py.File(pages.data_root / "frames.h5", "w") as file:
        file["data"] = frames
    run = MadeUpRun(redis_url, file=(pages.data_root / "frames.h5").as_uri())
    run.add(1, 40)

    def equals(shown: Shown, name: str, part: tuple[slice, slice], last: int) -> bool:
        """Whether a map is that of a part of the frames, as drawn."""
        sums = frames[(slice(None), *part)].sum(axis=(1, 2), dtype=np.float64)
        sums[last:] = np.nan
        drawn = sums.reshape(8, 10)
        drawn[1::2] = drawn[1::2, ::-1]
        return np.array_equal(shown.image(name), drawn, equal_nan=True)

    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 40)
    field = tab.page.locator(".regions .new")
    field.fill("spot:1,5,2,7")
    field.press("Enter")
    tab.wait(lambda: equals(tab, "spot", np.s_[1:5, 2:7], 40))
    run.add(41, 60)
    tab.wait(lambda: equals(tab, "spot", np.s_[1:5, 2:7], 60))
    assert "spot" in tab.table()
    field.fill("<img src=x>")
    field.press("Enter")
    tab.page.locator(".regions .refusal").get_by_text("four whole numbers").wait_for()
    tab.wait(lambda: "roi=spot:1,5,2,7" in tab.page.evaluate("decodeURIComponent(location.href)"))
    link = tab.page.evaluate("() => sm.models().find((model) => model.data?.state?.link)?.data.state.link")
    saved = tab.page.locator(".save a").nth(1).get_attribute("href")
    assert saved is not None
    assert parse_qs(urlsplit(saved).query)["roi"] == ["spot:1,5,2,7"]
    table = tab.page.request.get(f"{pages.url}/{saved}").text().splitlines()
    assert table[0].endswith("total,spot")
    assert float(table[1].split(",")[-1]) == frames[0, 1:5, 2:7].sum()
    other = open_page(chromium, f"{pages.url}/dashboard?{link}")
    other.wait(lambda: equals(other, "spot", np.s_[1:5, 2:7], 60))
    other.page.evaluate(
        """() => { const tools = sm.named('frame').toolbar.tools
                   tools.find((tool) => tool.type === 'BoxSelectTool').active = true }"""
    )
    other.settled_frame("frame")
    start, end = other.page.evaluate("() => { const {x_range: x} = sm.view('frame').model; return [x.start, x.end] }")
    share = [(x - start) / (end - start) for x in (1.5, 5.5)]
    other.drag("frame", (share[0], 0.5), (share[1], 0.8))  # below the toolbar, which lies over the frame
    other.wait(lambda: other.page.locator(".regions .list .row").count() == 2)
    text = other.page.locator(".regions .list .rectangle").nth(1).input_value()
    name, _, numbers = text.partition(":")
    y0, y1, x0, x1 = map(int, numbers.split(","))
    assert (name, x0, x1) == ("roi 1", 1, 6)
    other.wait(lambda: equals(other, "roi 1", np.s_[y0:y1, x0:x1], 60))
    other.page.locator(".regions .remove").first.click()
    other.wait(lambda: "spot" not in other.table() and "roi 1" in other.table())

    def bounds() -> tuple[int, int, int, int]:
        numbers = other.page.locator(".regions .list .rectangle").first.input_value().partition(":")[2]
        y0, y1, x0, x1 = map(int, numbers.split(","))
        return y0, y1, x0, x1

    def of_blocks() -> bool:
        """Whether the map is that of the shares of the two blocks, rows 0 to 15 and 16 to 23, which the region cuts."""
        y0, y1, x0, x1 = bounds()
        upper, lower = (frames[:, part].sum(axis=(1, 2), dtype=np.float64) for part in (np.s_[:16], np.s_[16:]))
        rows = max(0, min(y1, 16) - y0), max(0, y1 - max(y0, 16))
        sums = np.rint((upper * rows[0] / 16 + lower * rows[1] / 8) * (x1 - x0) / 8)
        sums[60:] = np.nan
        drawn = sums.reshape(8, 10)
        drawn[1::2] = drawn[1::2, ::-1]
        return np.array_equal(other.image("roi 1"), drawn, equal_nan=True)

    # by hand: the map is that of the blocks while the mouse is down, and that of the pixels when the region rests
    before, box = bounds(), other.settled_frame("frame")
    (left, right), (bottom, top) = other.page.evaluate(
        "() => { const {x_range: x, y_range: y} = sm.view('frame').model; return [[x.start, x.end], [y.start, y.end]] }"
    )

    def at(x: float, y: float) -> tuple[float, float]:
        """Return the place of a pixel of the frame on the page."""
        across, down = (x - left) / (right - left), (y - top) / (bottom - top)
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    middle = (before[2] + before[3]) / 2, (before[0] + before[1]) / 2
    other.page.mouse.move(*at(*middle))
    other.page.mouse.down()
    other.page.mouse.move(*at(middle[0] + 0.5, middle[1] - 1), steps=3)
    other.page.mouse.move(*at(middle[0] + 1, middle[1] - 3), steps=3)
    other.wait(lambda: bounds() == (before[0] - 3, before[1] - 3, before[2] + 1, before[3] + 1) and of_blocks())
    other.page.mouse.up()
    y0, y1, x0, x1 = bounds()
    other.wait(lambda: equals(other, "roi 1", np.s_[y0:y1, x0:x1], 60))
    other.wait(lambda: f"roi=roi 1:{y0},{y1},{x0},{x1}" in unquote_plus(other.page.evaluate("location.href")))
    other.page.locator(".regions .mark").first.focus()
    other.page.keyboard.press("ArrowUp")
    for _ in range(3):
        other.page.keyboard.press("Shift+ArrowRight")  # no further than to the edge
    other.page.keyboard.press("Shift+ArrowDown")
    other.wait(lambda: bounds() == (y0 - 1, y1, x0, 8))
    other.wait(lambda: equals(other, "roi 1", np.s_[y0 - 1 : y1, x0:8], 60))
    other.page.close()
    assert other.errors == []
