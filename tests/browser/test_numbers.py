"""Runs whose values are no counts: how the page writes them, their colors, and a console without complaints."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser
from tests.support.browser import Shown, open_page
from tests.support.cases import Documents, number
from tests.support.stack import Stack

from snakemap.maps import value_at
from snakemap.runs import Run
from snakemap.store import Store
from snakemap.views.quantities import quantity
from snakemap.views.theme import NO_LOGARITHM

GRAY = tuple(int(NO_LOGARITHM["dark"][k : k + 2], 16) for k in (1, 3, 5))


def append(redis_url: str, case: Documents) -> None:
    """Puts a whole run into the store, as the worker would."""

    async def work() -> None:
        documents = case.documents()
        store = Store(redis_url)
        run = Run(documents[0].doc)
        for document, cursor in zip(documents, await store.append(documents), strict=True):
            run.apply(document, cursor=cursor)
        await store.save_summary(case.uid, run.summary())
        await store.report("ingest", {"host": "here", "waiting": 0, "broker": "none"}, ttl_s=600)
        await store.close()

    # Playwright keeps a loop running in the main thread
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(work())).result()


def scan(folder: Path, units: dict[str, str], columns: dict[str, list[float]]) -> Documents:
    """Twelve points on 3 x 4 cells with some scalars."""
    case = Documents(folder, 3, 4)
    descriptor = case.descriptor("primary", **{name: number(unit) for name, unit in units.items()})
    for point in range(12):
        case.event(descriptor, point + 1, **{name: values[point] for name, values in columns.items()})
    case.stop(primary=12)
    return case


def currents(folder: Path) -> Documents:
    """From 1e-10 to 2e-7 A, another channel negative, one with a unit that is markup."""
    columns = {
        "i0": [1.235e-10 * 2.0**k for k in range(12)],
        "it": [-3.03e-7 * (k + 1) for k in range(12)],
        "odd": [1e-9 * (k + 1) for k in range(12)],
    }
    return scan(folder / "currents", {"i0": "A", "it": "A", "odd": "<img src=x>"}, columns)


def decades(folder: Path) -> Documents:
    """A diode over six decades, a channel around zero, and one that no prefix can name."""
    columns = {
        "diode": [1e-9 * 4.0**k for k in range(12)],
        "mixed": [float(k - 4) for k in range(12)],
        "big": [7e287 * (k + 1) for k in range(12)],
    }
    return scan(folder / "decades", {"diode": "A", "mixed": "V", "big": "A"}, columns)


def labels(tab: Shown, name: str) -> list[str]:
    """What stands beside the color bar of a map."""
    return tab.page.evaluate(
        """(name) => {
          const search = (view) => [view, ...[...(view.child_views ?? [])].flatMap(search)]
          const bar = search(sm.view(`map-${name}`)).find((one) => one.model.type === 'ColorBar')
          const axis = search(bar).find((one) => one.model.type.endsWith('Axis'))
          return axis.compute_labels(axis.tick_coords.major[axis.dimension]).items.map((label) => label.text)
        }""",
        name,
    )


def axis_labels(tab: Shown) -> list[str]:
    """What stands under the histogram."""
    return tab.page.evaluate(
        """() => {
          const search = (view) => [view, ...[...(view.child_views ?? [])].flatMap(search)]
          const axes = search(sm.view('histogram')).filter((one) => one.model.type === 'LinearAxis')
          const axis = axes.find((one) => one.dimension === 0)
          return axis.compute_labels(axis.tick_coords.major[0]).items.map((label) => label.text)
        }"""
    )


def ranges(tab: Shown, name: str) -> list[list[float]]:
    """Ends of both axes of a map."""
    axes = "[model.x_range, model.y_range].map((one) => [one.start, one.end])"
    return tab.page.evaluate(f"(name) => {{ const {{model}} = sm.view(`map-${{name}}`); return {axes} }}", name)


def limits(tab: Shown, figure: str) -> list[float]:
    """Lowest and highest color of a figure."""
    mapper = "sm.view(name).model.renderers[0].glyph.color_mapper"
    return tab.page.evaluate(f"(name) => {{ const {{low, high}} = {mapper}; return [low, high] }}", figure)


def colors(tab: Shown, name: str) -> np.ndarray:
    """The colors on the screen (3, 4, 3) at the centers of the cells of a map, row 0 at the bottom."""
    picture = np.asarray(Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB"))
    box = tab.frame(f"map-{name}")
    (x0, x1), (y0, y1) = ranges(tab, name)
    found = np.zeros((3, 4, 3), np.uint8)
    for row in range(3):
        for column in range(4):
            x = box["x"] + (column + 0.3 - x0) / (x1 - x0) * box["width"]
            y = box["y"] + (y1 - row - 0.3) / (y1 - y0) * box["height"]
            found[row, column] = picture[round(y), round(x)]
    return found


def point_at(tab: Shown, name: str, x: float, y: float) -> str:
    """Moves the pointer to a place on a map; the line under the maps."""
    (x0, x1), (y0, y1) = ranges(tab, name)
    box = tab.frame(f"map-{name}")
    at = box["x"] + (x - x0) / (x1 - x0) * box["width"], box["y"] + (y1 - y) / (y1 - y0) * box["height"]
    tab.page.mouse.move(*at)
    tab.wait(lambda: tab.page.locator(".readout").count() > 0)
    return " ".join(tab.text(".readout").split())


def hovered(tab: Shown) -> str:
    """Moves the pointer over the first of two runs; what is said beside it."""
    box = tab.frame("compare first")
    for share in (0.3, 0.4):
        tab.page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
    return " ".join(tab.page.locator(".bk-Tooltip:visible").all_inner_texts())


def has_map(tab: Shown, name: str) -> bool:
    """Whether a map is there with its values."""
    script = "(name) => Boolean(sm.view(`map-${name}`)?.model.renderers[0].data_source.data[name]?.[0]?.length >= 12)"
    return tab.page.evaluate(script, name)


def test_currents_are_written_with_four_digits_and_a_prefix_everywhere(
    tab: Shown, redis_url: str, tmp_path: Path
) -> None:
    append(redis_url, currents(tmp_path))
    tab.wait(lambda: has_map(tab, "odd"))
    tab.wait(lambda: tab.table().get("i0", [""])[0] == "123.5 pA")
    table = tab.table()
    assert table["i0"][:4] == ["123.5 pA", "252.9 nA", "42.14 nA", "505.7 nA"]
    mean = quantity(float(np.mean([-3.03e-7 * (k + 1) for k in range(12)])), "A")
    assert table["it"][:4] == ["-3.636 µA", "-303.0 nA", mean, "-23.63 µA"]
    assert table["odd"][0] == "1.000e-9 <img src=x>"
    said = point_at(tab, "it", 1.0, 1.0)
    assert "i0 7.904 nA" in said
    assert "it -2.121 µA" in said
    assert "odd 7.000e-9 <img src=x>" in said
    tab.wait(lambda: labels(tab, "i0")[-1:] == ["250 nA"])
    assert labels(tab, "it") == ["-3 µA", "-2 µA", "-1 µA"]
    assert all(label == "0" or label.endswith("e-9") or label.endswith("e-8") for label in labels(tab, "odd"))
    assert tab.page.locator(".readout img, table img").count() == 0


def test_the_histogram_of_a_negative_channel_runs_from_minimum_to_maximum(
    pages: Stack, chromium: Browser, redis_url: str, tmp_path: Path
) -> None:
    case = currents(tmp_path)
    append(redis_url, case)
    tab = open_page(chromium, f"{pages.url}/dashboard?run={case.uid}&channel=it&brush=0.5,1")
    tab.wait(lambda: has_map(tab, "it") and sum(tab.bars()) == 12)
    values = np.array([-3.03e-7 * (k + 1) for k in range(12)])
    assert tab.bars() == np.histogram(values, bins=64)[0].tolist()
    tab.wait(lambda: axis_labels(tab) == ["-3 µA", "-2 µA", "-1 µA"])
    caption = f"brushed pixels only: it from {quantity(value_at(0.5, values[-1], values[0]), 'A')} to -303.0 nA"
    tab.wait(lambda: tab.text("caption") == caption)
    veiled = tab.page.evaluate("() => Array.from(sm.view('map-it').model.renderers[0].data_source.data.veil[0])")
    assert sum(veiled) == 6
    tab.wait(lambda: tab.table()["it"][6] == "6")
    assert tab.errors == []
    tab.page.close()


def test_six_decades_have_twelve_colors_and_what_has_no_logarithm_is_gray(
    pages: Stack, chromium: Browser, redis_url: str, tmp_path: Path
) -> None:
    case = decades(tmp_path)
    append(redis_url, case)
    tab = open_page(chromium, f"{pages.url}/dashboard?run={case.uid}&channel=diode&scale=log&limits=min-max")
    tab.wait(lambda: has_map(tab, "diode"))
    tab.wait(lambda: len(np.unique(colors(tab, "diode").reshape(-1, 3), axis=0)) == 12)
    tab.wait(lambda: labels(tab, "diode")[0] == "1 nA")
    grid = colors(tab, "mixed")
    gray = [tuple(int(part) for part in color) == GRAY for color in grid.reshape(-1, 3)]
    # -4 to -1 in the first row, 0 at the end of the next
    assert gray == [True] * 4 + [False] * 3 + [True] + [False] * 4
    assert "Gray pixels are 0 or negative: they have no logarithm." in tab.text(".idle")
    tab.wait(lambda: tab.table()["big"][0] == "7.000e+287 A")
    assert "big 5.600e+288 A" in point_at(tab, "big", 0.0, 1.0)
    assert tab.errors == []
    tab.page.close()


def test_limits_by_hand_are_kept_as_typed_or_refused_with_a_reason(
    pages: Stack, chromium: Browser, redis_url: str, tmp_path: Path
) -> None:
    case = decades(tmp_path)
    append(redis_url, case)
    tab = open_page(chromium, f"{pages.url}/dashboard?run={case.uid}&channel=diode&scale=log")
    tab.wait(lambda: has_map(tab, "diode"))
    tab.page.locator(".center select:visible").nth(0).select_option("by hand")
    fields = tab.page.locator(".center input.bk-input:visible")
    tab.wait(lambda: tab.page.get_by_text("lowest and highest color in A").count() == 1)

    def type_limits(low: str, high: str) -> None:
        for place, text in ((0, low), (1, high)):
            fields.nth(place).fill(text)
            fields.nth(place).press("Enter")

    type_limits("1e-12", "1e-5")
    tab.wait(lambda: limits(tab, "map-diode") == [1e-12, 1e-5])
    assert [float(fields.nth(place).input_value()) for place in (0, 1)] == [1e-12, 1e-5]
    type_limits("0", "1e-5")
    tab.wait(lambda: "on a log scale the lowest color must be above 0" in tab.text(".idle"))
    tab.wait(lambda: limits(tab, "map-diode") == pytest.approx([1e-9, 1e-9 * 4.0**11]))
    assert tab.page.get_by_text("not used: on a log scale the lowest color must be above 0").count() >= 1
    type_limits("-2e-3", "-1e-3")
    tab.page.locator(".center select:visible").nth(1).select_option("linear")
    tab.wait(lambda: limits(tab, "map-diode") == [-2e-3, -1e-3])
    assert tab.page.get_by_text("not used").count() == 0
    assert tab.errors == []
    tab.page.close()


def test_two_runs_of_currents_are_compared_in_their_unit(
    pages: Stack, chromium: Browser, redis_url: str, tmp_path: Path
) -> None:
    case, other = currents(tmp_path), currents(tmp_path / "other")
    for one in (case, other):
        append(redis_url, one)
    tab = open_page(chromium, f"{pages.url}/dashboard?compare={case.uid}&compare={other.uid}&of=it")
    drawn = "() => sm.view('compare first')?.model.renderers[0].data_source.data.image.length === 1"
    tab.wait(lambda: tab.page.evaluate(drawn))
    tab.wait(lambda: limits(tab, "compare first") == pytest.approx([-3.636e-6, -3.03e-7]))
    tab.wait(lambda: "µA" in hovered(tab))
    tab.page.get_by_role("button", name="odd", exact=True).locator("visible=true").last.click()
    tab.wait(lambda: limits(tab, "compare first") == pytest.approx([0, 1.2e-8]))
    tab.wait(lambda: "e-9 <img src=x>" in hovered(tab))
    assert tab.errors == []
    tab.page.close()


@pytest.mark.parametrize("name", ["dashboard", "maps", "histogram", "frame", "summary", "log"])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_console_has_no_warning_on_any_page_with_a_run_and_without(
    pages: Stack, chromium: Browser, redis_url: str, tmp_path: Path, name: str, scale: str
) -> None:
    said: list[str] = []
    page = chromium.new_page()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda told: said.append(told.text) if told.type in ("warning", "error") else None)
    for case in (None, decades(tmp_path)):
        if case is not None:
            append(redis_url, case)
        page.goto(f"{pages.url}/{name}?scale={scale}&limits=min-max" + (f"&run={case.uid}" if case else ""))
        page.wait_for_function("() => window.Bokeh && Bokeh.documents.length", timeout=60_000)
        page.wait_for_load_state("networkidle")
        models = "Bokeh.documents.flatMap((one) => [...one._all_models.values()])"
        there = f"(uid) => {models}.some((model) => model.place?.uid === uid)"
        if case is not None and name in ("dashboard", "maps"):
            page.wait_for_function(there, arg=case.uid, timeout=60_000)
    page.close()
    assert said == []
