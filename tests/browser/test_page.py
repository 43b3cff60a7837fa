"""The page under somebody's hand, over a run that is made up in the store."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import redis
from PIL import Image
from playwright.sync_api import Browser
from tests.support.browser import CHANNELS, Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, eventually
from tests.support.stack import Stack

from snakemap.render.palettes import palette

NASTY = '<img src=x onerror="window.hacked=1">'


def shows(shown: Shown, run: MadeUpRun, last: int) -> bool:
    """Whether a tab shows exactly the first points of a run."""
    if shown.image("total").shape != run.sums.shape[1:]:
        return False
    return all(np.array_equal(shown.image(name), grid, equal_nan=True) for name, grid in run.expected(last).items())


def test_a_page_opened_in_mid_run_shows_everything_so_far_and_goes_on_and_a_reload_loses_nothing(
    pages: Stack, chromium: Browser, redis_url: str
) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    late = open_page(chromium, f"{pages.url}/dashboard")
    late.wait(lambda: shows(late, run, 33))
    run.add(34, 35)
    run.add(36, 47)
    late.wait(lambda: shows(late, run, 47))
    again = open_page(chromium, f"{pages.url}/dashboard")
    again.wait(lambda: shows(again, run, 47))
    run.add(48, run.points)
    run.stop()
    for shown in (late, again):
        shown.wait(lambda shown=shown: shows(shown, run, run.points) and shown.text(".status") == "complete")
        assert shown.errors == []
        shown.page.close()


COUNT_SAME_SHEETS = """
() => {
  const {get, set} = Object.getOwnPropertyDescriptor(Node.prototype, "textContent")
  window.writes = {same: 0, words: 0}
  Object.defineProperty(Node.prototype, "textContent", {configurable: true, get, set(text) {
    if (this instanceof HTMLStyleElement) writes.same += get.call(this) === text
    else writes.words += 1
    set.call(this, text)
  }})
}
"""


def test_an_update_writes_no_style_sheet_that_stays_as_it_is(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 12)
    tab.wait(lambda: shows(tab, run, 12))
    tab.page.evaluate(COUNT_SAME_SHEETS)
    for number in range(13, 20):
        run.add(number, number)
        tab.wait(lambda number=number: shows(tab, run, number))
    assert tab.page.evaluate("() => writes.words") > 0
    assert tab.page.evaluate("() => writes.same") == 0


def test_the_table_says_what_numpy_says(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 55)
    tab.wait(lambda: shows(tab, run, 55))
    expected = run.expected(55)
    tab.wait(lambda: tab.table().get("total", [""] * 7)[6] == "55")
    table = tab.table()
    for name in CHANNELS:
        grid = expected[name]
        row, column = np.unravel_index(np.nanargmax(grid), grid.shape)
        texts = [
            f"{np.nanmin(grid):,.0f}",
            f"{np.nanmax(grid):,.0f}",
            f"{np.nanmean(grid):,.1f}",
            f"{np.nansum(grid):,.0f}",
        ]
        assert table[name][:5] == [*texts, f"{row}, {column}"]
    assert "55 of 80 points" in tab.text(".figures")


def test_a_brushed_range_veils_all_other_pixels_in_all_maps_while_data_grow_and_narrows_the_table(
    tab: Shown, redis_url: str
) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 40)
    tab.wait(lambda: shows(tab, run, 40))
    tab.drag("histogram", (0.3, 0.5), (0.6, 0.5))
    tab.wait(lambda: tab.image("dimmed").any())
    low, high = tab.page.evaluate("() => sm.models().find((m) => m.brush !== undefined && m.base).brush.slice(1)")
    assert low == pytest.approx(0.3, abs=0.02)
    assert high == pytest.approx(0.6, abs=0.02)
    for last in (40, 41, 77, 80):
        if last > 40:
            run.add({41: 41, 77: 42, 80: 78}[last], last)
        total = run.expected(last)["total"]
        top = np.nanmax(total)
        dimmed = ~np.isnan(total) & ~((total >= low * top) & (total <= high * top))
        tab.wait(lambda last=last: shows(tab, run, last))
        tab.wait(lambda dimmed=dimmed: np.array_equal(tab.image("dimmed").astype(bool), dimmed))
    inside = ~np.isnan(total) & ~dimmed
    tab.wait(lambda: tab.table()["red"][6] == str(int(inside.sum())))
    assert tab.table()["red"][1] == f"{run.expected(80)['red'][inside].max():,.0f}"
    tab.page.get_by_role("button", name="Clear").click()
    tab.wait(lambda: not tab.image("dimmed").any() and tab.table()["red"][6] == "80")


def test_a_box_drawn_on_a_map_makes_the_histogram_that_of_the_box(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url, shape=(10, 10))
    run.add(1, 100)
    tab.wait(lambda: shows(tab, run, 100) and sum(tab.bars()) == 100)
    tab.page.evaluate(
        "() => sm.models().filter((m) => m.description === 'Histogram of a box').forEach((m) => { m.active = true })"
    )
    ranges = tab.page.evaluate(
        "() => { const m = sm.named('map-red'); return [m.x_range, m.y_range].map((r) => [r.start, r.end]) }"
    )
    (x0, x1), (y0, y1) = ranges

    def share(column: float, row: float) -> tuple[float, float]:
        """Where the lower left corner of a cell is on the map, as shares from the top left."""
        (low_y, high_y), (low_x, high_x) = run.run.raster.extents
        x, y = low_x + column * (high_x - low_x) / 10, low_y + row * (high_y - low_y) / 10
        return (x - x0) / (x1 - x0), 1 - (y - y0) / (y1 - y0)

    tab.drag("map-red", share(2.1, 6.9), share(4.9, 3.1))
    tab.wait(lambda: sum(tab.bars()) == 4 * 3)
    part = run.expected(100)["total"][3:7, 2:5] / run.expected(100)["total"].max()
    assert tab.bars() == np.histogram(part, bins=64, range=(0, 1))[0].tolist()


def test_distances_are_true_on_the_screen_or_cells_square_and_the_readout_says_where_the_pointer_is(
    tab: Shown, redis_url: str
) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 80)
    tab.wait(lambda: shows(tab, run, 80))
    (low_y, high_y), (low_x, high_x) = run.run.raster.extents

    def elongation() -> float:
        """Width of the cells by their height, in pixels."""
        (x0, x1), (y0, y1) = ranges()
        box = tab.frame("map-blue")
        return (high_x - low_x) / 10 / (x1 - x0) * box["width"] / ((high_y - low_y) / 8 / (y1 - y0) * box["height"])

    def ranges() -> list[list[float]]:
        return tab.page.evaluate(
            "() => { const m = sm.named('map-blue'); return [m.x_range, m.y_range].map((r) => [r.start, r.end]) }"
        )

    tab.wait(lambda: elongation() == pytest.approx((high_x - low_x) / 10 / ((high_y - low_y) / 8), rel=0.01))
    tab.page.get_by_role("combobox").filter(has_text="square pixels").select_option("square pixels")
    tab.wait(lambda: elongation() == pytest.approx(1, rel=0.01))
    tab.wait(lambda: "stage-y is stretched by 1.56" in tab.text(".idle"))
    (x0, x1), (y0, y1) = ranges()
    box = tab.frame("map-blue")
    x, y = low_x + 3.5 * (high_x - low_x) / 10, low_y + 2.5 * (high_y - low_y) / 8
    tab.page.mouse.move(box["x"] + (x - x0) / (x1 - x0) * box["width"], box["y"] + (y1 - y) / (y1 - y0) * box["height"])
    tab.wait(lambda: "row 2" in " ".join(tab.text(".readout").split()))
    said = " ".join(tab.text(".readout").split())
    assert "column 3" in said
    assert re.search(r"stage-x -?\d+\.\d+ mm", said)
    assert re.search(r"stage-y \d+\.\d+ mm", said)
    for name in CHANNELS:
        assert f"{name} {run.expected(80)[name][2, 3]:,.0f}" in said


def test_colors_follow_the_running_maximum_or_stay_or_are_set_by_hand(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 40)
    mapper = "sm.named(`map-${name}`).renderers[0].glyph.color_mapper"
    script = f"() => {[*CHANNELS]}.map((name) => {mapper}).map((m) => [m.type, m.low, m.high])"

    def highs() -> list[float]:
        return sorted(mapper[2] for mapper in tab.page.evaluate(script) if mapper[2] is not None)

    def maxima(last: int) -> list[float]:
        return sorted(np.nanmax(grid) for grid in run.expected(last).values())

    tab.wait(lambda: highs() == maxima(40))
    select = tab.page.locator(".center select:visible")
    select.nth(0).select_option("locked")
    # the server takes choices in order: when the second shows, the first has been taken
    tab.page.get_by_role("button", name="green").click()
    tab.wait(lambda: tab.page.evaluate("() => sm.named('histogram').title.text").startswith("green"))
    before = highs()
    run.add(41, 80)
    tab.wait(lambda: shows(tab, run, 80))
    assert highs() == before
    select.nth(0).select_option("0 to maximum")
    tab.wait(lambda: highs() == maxima(80))
    select.nth(1).select_option("log")
    tab.wait(lambda: {mapper[0] for mapper in tab.page.evaluate(script)} >= {"LogColorMapper"})


def test_what_one_tab_chooses_does_not_show_in_another(pages: Stack, chromium: Browser, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 80)
    one, other = (open_page(chromium, f"{pages.url}/dashboard") for _ in range(2))
    for shown in (one, other):
        shown.wait(lambda shown=shown: shows(shown, run, 80) and sum(shown.bars()) == 80)
    bars = other.bars()
    one.page.get_by_role("button", name="green").click()
    one.drag("histogram", (0.2, 0.5), (0.7, 0.5))
    one.page.locator(".center select:visible").nth(0).select_option("locked")
    one.wait(lambda: one.image("dimmed").any() and one.bars() != bars)
    assert other.bars() == bars
    assert not other.image("dimmed").any()
    assert other.page.locator(".center select:visible").nth(0).input_value() == "0 to maximum"
    for shown in (one, other):
        assert shown.errors == []
        shown.page.close()


def test_a_made_up_session_id_is_refused_and_ids_are_signed(pages: Stack) -> None:
    with httpx.Client(base_url=pages.url, trust_env=False, timeout=30 * PATIENCE) as client:
        answers = [
            client.get("/dashboard", params={"bokeh-session-id": "chosen"}),
            client.get("/dashboard", headers={"Bokeh-Session-Id": "chosen"}),
        ]
    for answer in answers:
        assert answer.status_code == 403
        assert "snakemap" not in answer.text


def test_open_tabs_are_reported_for_the_metrics(tab: Shown, pages: Stack, redis_url: str) -> None:
    def reported() -> list[dict[str, Any]]:
        with redis.Redis.from_url(redis_url) as client:
            keys: Any = client.keys("snakemap:report:pages:*")
            texts: Any = client.mget(keys) if keys else []
            return [json.loads(text) for text in texts if text]

    assert eventually(lambda: [report for report in reported() if report.get("tabs", 0) >= 1])
    (report,) = reported()
    assert report["process"].endswith(f":{pages.port}")
    assert (report["tabs_max"], report["pid"], report["readers_replaced"]) == (200, pages.pages.pid, 0)


def hovered(shown: Shown, name: str) -> bool:
    """Whether the pointer over the middle of a map has made the readout say where it is."""
    box = shown.frame(name)
    for step in (0, 1):  # a figure that was just laid out may have missed the first
        shown.page.mouse.move(box["x"] + box["width"] / 2 + step, box["y"] + box["height"] / 2)
    readout = shown.page.locator(".readout")
    return readout.count() > 0 and "row" in readout.first.inner_text()


def test_names_from_documents_run_no_script(tab: Shown, redis_url: str) -> None:
    rois = {NASTY: (0, 8, 0, 8), "b": (8, 16, 0, 8)}
    spec_axis = {"plan_name": NASTY, "scan_id": NASTY, "units": {"stage-x": NASTY, "stage-y": NASTY}}
    run = MadeUpRun(redis_url, rois=rois, start=spec_axis)
    run.add(1, 80)
    tab.wait(lambda: tab.page.evaluate("(name) => name in (sm.cells()?.data ?? {})", NASTY))
    tab.wait(lambda: np.count_nonzero(~np.isnan(tab.image("b"))) == 80)
    tab.wait(lambda: hovered(tab, "map-b"))
    tab.wait(lambda: NASTY in tab.table())
    assert NASTY in tab.text(".plan")
    assert tab.page.evaluate("() => window.hacked") is None


def test_nothing_on_the_page_moves_from_the_first_point_to_the_last(
    pages: Stack, chromium: Browser, redis_url: str
) -> None:
    names = ["map-red", "map-green", "map-blue", "map-total", "histogram", "frame"]
    run = MadeUpRun(redis_url, shape=(30, 40))
    run.add(1, 1)
    shown = open_page(chromium, f"{pages.url}/dashboard", width=1280, height=800)
    shown.wait(lambda: shows(shown, run, 1) and sum(shown.bars()) == 1)
    where = [shown.frame(name) for name in names]
    for first, last in ((2, 600), (601, 1200)):
        run.add(first, last)
        shown.wait(lambda last=last: shows(shown, run, last))
        assert [shown.frame(name) for name in names] == where
    size = shown.page.evaluate("() => { const e = document.documentElement; return [e.scrollWidth, e.scrollHeight] }")
    assert size == [1280, 800]
    for width, height in ((1024, 768), (390, 844)):  # a tablet, a phone
        shown.page.set_viewport_size({"width": width, "height": height})

        def fits(width: int = width) -> bool:
            boxes = [shown.frame(name) for name in names]
            inside = all(box["width"] > 80 and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
            return inside and shown.page.evaluate("() => document.documentElement.scrollWidth") <= width

        shown.wait(fits)
        for control in shown.page.locator("select:visible, button:visible").all():
            box = control.bounding_box()
            assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= width), control.inner_text()
    assert shown.errors == []
    shown.page.close()


def test_a_map_with_more_cells_than_the_screen_is_sent_as_means_and_a_zoom_brings_the_cells(
    tab: Shown, redis_url: str, tmp_path: Path
) -> None:
    run = MadeUpRun(redis_url, shape=(700, 800))
    run.add(1, 560_000)
    grid = run.expected(560_000)["total"]

    def coarse() -> bool:
        image = tab.image("total")
        step = round(800 / image.shape[1])
        if step < 2 or image.shape != (-(-700 // step), -(-800 // step)):
            return False
        padded = np.full((image.shape[0] * step, image.shape[1] * step), np.nan)
        padded[:700, :800] = grid
        blocks = padded.reshape(image.shape[0], step, image.shape[1], step)
        return np.allclose(image, np.nanmean(blocks, axis=(1, 3)), rtol=1e-12)

    tab.wait(coarse, timeout_s=60)
    tab.page.evaluate(
        """() => {
            const map = sm.named('map-red')
            map.x_range.setv({start: 0.0, end: 0.2})
            map.y_range.setv({start: 1.5, end: 1.6})
        }"""
    )

    def fine() -> bool:
        place = tab.page.evaluate("() => sm.models().find((m) => m.place && m.place.image).place")
        image = tab.image("total")
        if place["step"] != 1:
            return False
        column = round((place["image"]["left"] - place["left"]) / place["dx"])
        row = round((place["image"]["bottom"] - place["bottom"]) / place["dy"])
        part = grid[row : row + image.shape[0], column : column + image.shape[1]]
        return image.shape[1] < 800 and np.array_equal(image, part)

    tab.wait(fine, timeout_s=30)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_each_pane_is_a_page_of_its_own_that_grows(pages: Stack, chromium: Browser, redis_url: str, theme: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 20)
    alone = {
        name: open_page(chromium, f"{pages.url}/{name}?theme={theme}")
        for name in ("maps", "histogram", "summary", "frame")
    }
    background = "() => getComputedStyle(document.body).backgroundColor"
    for last in (20, 77):
        if last > 20:
            run.add(21, last)
        alone["maps"].wait(lambda last=last: shows(alone["maps"], run, last))
        alone["histogram"].wait(lambda last=last: sum(alone["histogram"].bars()) == last)
        alone["summary"].wait(lambda last=last: alone["summary"].table().get("total", [""] * 7)[6] == str(last))
    alone["frame"].wait(lambda: alone["frame"].page.evaluate("() => Boolean(sm.view('frame'))"))
    for shown in alone.values():
        bright = shown.page.evaluate(background) == "rgb(238, 240, 243)"
        assert (bright, shown.errors) == (theme == "light", [])
        shown.page.close()


def test_the_tab_says_how_far_the_run_is_and_the_bell_sounds_when_it_ends(tab: Shown, redis_url: str) -> None:
    page = tab.page
    page.evaluate(
        """() => {
          window.tones = []
          const tone = OscillatorNode.prototype, start = tone.start
          tone.start = function (at) { tones.push(this.frequency.value); return start.call(this, at) }
        }"""
    )
    assert page.title() == "snakemap"
    run = MadeUpRun(redis_url)
    run.add(1, 20)
    tab.wait(lambda: page.title() == "25 % · snakemap")
    bell = page.get_by_role("button", name=re.compile("when the run ends"))
    assert bell.get_attribute("aria-pressed") == "false"
    bell.click()
    assert bell.get_attribute("aria-pressed") == "true"
    tab.wait(lambda: page.evaluate("() => tones") == [880])  # what it sounds like
    run.add(21, 80)
    run.stop()
    tab.wait(lambda: page.title() == "complete · snakemap")
    tab.wait(lambda: page.evaluate("() => tones") == [880, 660, 880])

    second = MadeUpRun(redis_url, seed=2)
    second.add(1, 8)
    tab.wait(lambda: page.title() == "10 % · snakemap")
    bell.click()  # off again
    second.stop("fail")
    tab.wait(lambda: page.title() == "failed · snakemap")
    assert page.evaluate("() => tones") == [880, 660, 880]


def test_the_maps_are_saved_as_they_are_and_drawn_in_other_colors(tab: Shown, run: MadeUpRun) -> None:
    page = tab.page
    tab.wait(lambda: shows(tab, run, 33))
    menu = page.get_by_role("button", name="Save", exact=True)

    def saved(name: str) -> tuple[str, bytes]:
        menu.click()
        with page.expect_download() as download:
            page.get_by_text(name, exact=True).click()
        assert page.get_by_text(name, exact=True).is_hidden()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    expected = run.expected(33)
    name, content = saved("CSV table")
    assert name == f"snakemap-made_up-7-{run.uid[:8]}.csv"
    heads, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert heads == ["row", "column", "stage-y (mm)", "stage-x (mm)", *CHANNELS]
    for row in rows:
        values = [expected[channel][int(row[0]), int(row[1])] for channel in CHANNELS]
        assert row[4:] == ["" if np.isnan(value) else str(int(value)) for value in values]
    name, content = saved("NumPy archive")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert all(np.array_equal(arrays[channel], expected[channel], equal_nan=True) for channel in CHANNELS)
    name, content = saved("NeXus (HDF5)")
    assert name.endswith(".nxs")
    with h5py.File(io.BytesIO(content)) as file:
        total: Any = file["entry/maps/total"]
        np.testing.assert_array_equal(total[()], expected["total"])
    name, content = saved("PNG picture")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width > 400
        assert len(picture.convert("RGB").resize((80, 80)).getcolors(6400) or []) > 50

    def first_color() -> str:
        return page.evaluate("() => sm.view('map-total').model.right[0].color_mapper.palette.slice(-1)[0]")

    assert first_color() == palette("total")[-1]
    page.get_by_role("combobox").filter(has_text="by channel").select_option("gray inverted")
    tab.wait(lambda: page.evaluate("() => location.search") == "?colors=gray-inverted")
    tab.wait(lambda: first_color() == palette("total", 3, "gray")[0])
    page.get_by_role("combobox").filter(has_text="linear").first.select_option("log")
    tab.wait(lambda: page.evaluate("() => sm.view('map-total').model.right[0].color_mapper.type") == "LogColorMapper")
    assert first_color() == palette("total", 3, "gray")[0]


def test_one_lamp_lists_all_connections_in_sentences(tab: Shown, run: MadeUpRun) -> None:
    page = tab.page
    tab.wait(lambda: "Redis" in tab.lights())
    lamp = page.get_by_title("all connections")
    tab.wait(lambda: lamp.inner_text() == tab.lights()[0])  # what works is in the list only
    assert page.get_by_text("Redis answers").is_hidden()
    lamp.click()
    page.get_by_text("Redis answers").wait_for()
    page.get_by_text("Redis answers").click()  # a press on the list leaves it open
    assert page.get_by_text("Redis answers").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_text("Redis answers").is_hidden()
    lamp.click()
    page.locator(".plan").first.click()
    page.get_by_text("Redis answers").wait_for(state="hidden")


@pytest.mark.parametrize(
    ("shape", "columns"), [((8, 10), 2), ((200, 10), 4), ((10, 200), 1), ((1, 50), 1), ((50, 1), 4), ((1, 1), 2)]
)
def test_maps_stand_where_their_cells_get_the_most_pixels(
    pages: Stack, chromium: Browser, redis_url: str, shape: tuple[int, int], columns: int
) -> None:
    first = MadeUpRun(redis_url)
    first.add(1, 80)
    first.stop()
    tab = open_page(chromium, f"{pages.url}/dashboard", width=1280, height=800)
    try:
        tab.wait(lambda: shows(tab, first, 80))
        tab.page.get_by_role("combobox").filter(has_text="square pixels").select_option("square pixels")
        run = MadeUpRun(redis_url, shape=shape)
        run.add(1, max(1, run.points // 2))

        def seen() -> tuple[int, int, bool]:
            boxes = [tab.frame(f"map-{channel}") for channel in CHANNELS]
            lefts, tops = ({round(box[side]) for box in boxes} for side in ("x", "y"))
            even = all(abs(box[side] - boxes[0][side]) <= 2 for box in boxes for side in ("width", "height"))
            return len(lefts), len(tops), even

        tab.wait(lambda: seen() == (columns, 4 // columns, True))
        tab.wait(lambda: shows(tab, run, max(1, run.points // 2)))
        if (shape[0] == 1) != (shape[1] == 1):
            along = "y" if shape[0] == 1 else "x"
            line = "sm.view('map-total').model.renderers.find(({glyph}) => glyph.type === 'Line').data_source"
            drawn = np.array(tab.page.evaluate(f"() => Array.from({line}.data.{along}, (v) => v)"), dtype=float)
            np.testing.assert_array_equal(drawn, run.expected(run.points // 2)["total"].ravel())
        axes = "(name) => { const {left, below} = sm.view(name).model; return [left[0].visible, below[0].visible] }"
        labels = [tab.page.evaluate(axes, f"map-{channel}") for channel in CHANNELS]
        assert labels == [[number % columns == 0, number + columns >= 4] for number in range(4)]
        assert tab.errors == []
    finally:
        tab.page.close()
