"""Runs whose values are not counts: how every page writes them, their colors, and a console without complaints."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import redis
from PIL import Image
from playwright.sync_api import Browser, Page
from tests.support.browser import SCRIPT, Shown, open_page
from tests.support.cases import Documents, number
from tests.support.patience import PATIENCE, eventually
from tests.support.stack import Stack

from snakemap.core.maps import value_at
from snakemap.core.run import Run
from snakemap.dashboard.quantities import quantity
from snakemap.dashboard.theme import NO_LOGARITHM
from snakemap.store.store import Store

GRAY = [int(NO_LOGARITHM["dark"][k : k + 2], 16) for k in (1, 3, 5)]
POWERS = {"f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
CHANNELS = {
    "currents": {
        "i0": ("A", [1.235e-10 * 2.0**k for k in range(12)]),
        "it": ("A", [-3.03e-7 * (k + 1) for k in range(12)]),
        "odd": ("<img src=x>", [1e-9 * (k + 1) for k in range(12)]),
    },
    "decades": {
        "diode": ("A", [3.2e-9 * 4.0**k for k in range(12)]),
        "mixed": ("V", [float(k - 4) for k in range(12)]),
        "big": ("A", [7e287 * (k + 1) for k in range(12)]),
    },
}
"""Unit and values (12,) of the channels of two runs: currents of either sign and a unit that is markup; a diode over
nearly seven decades, values around zero, and values that no SI prefix can name."""


@pytest.fixture(scope="module")
def runs(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The uids of both runs, which are all that the store has."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    made = {name: scan(tmp_path_factory.mktemp(name), name) for name in CHANNELS}
    with ThreadPoolExecutor(1) as thread:  # Playwright keeps an event loop in the main thread
        thread.submit(lambda: asyncio.run(append(redis_server, list(made.values())))).result()
    return {name: case.uid for name, case in made.items()}


def scan(folder: Path, name: str) -> Documents:
    """Twelve points, snaked over 3 x 4 cells."""
    case = Documents(folder, 3, 4)
    channels = CHANNELS[name]
    descriptor = case.descriptor("primary", **{key: number(unit) for key, (unit, _) in channels.items()})
    for point in range(12):
        case.event(descriptor, point + 1, **{key: values[point] for key, (_, values) in channels.items()})
    case.stop(primary=12)
    return case


async def append(redis_url: str, cases: list[Documents]) -> None:
    """Put whole runs into the store, as the worker does."""
    store = Store(redis_url)
    for case in cases:
        documents = case.documents()
        run = Run(documents[0].doc)
        for document, cursor in zip(documents, await store.append(documents), strict=True):
            run.apply(document, cursor=cursor)
        await store.save_summary(case.uid, run.summary())
    await store.report("ingest", {"host": "here", "waiting": 0, "broker": "none"}, ttl_s=3600)
    await store.close()


class Listener:
    """Collects the warnings and errors of the console of pages; nothing is allowed there."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def follow(self, page: Page) -> None:
        """Listen to a page."""
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on(
            "console", lambda one: self.found.append(one.text) if one.type in ("warning", "error", "assert") else None
        )


@pytest.fixture
def console() -> Iterator[Listener]:
    """The console of the pages of a test, which must be empty when it ends."""
    listener = Listener()
    yield listener
    assert listener.found == []


def opened(chromium: Browser, url: str, console: Listener, channel: str) -> Shown:
    """A page of a run once a channel of it is drawn."""
    tab = open_page(chromium, url)
    console.follow(tab.page)
    drawn = "(name) => Boolean(sm.view(`map-${name}`)?.model.renderers[0].data_source.data[name]?.[0]?.length >= 12)"
    tab.wait(lambda: tab.page.evaluate(drawn, channel))
    return tab


LABELS = """([figure, which]) => {
  const views = [...sm.view(figure).views.all_views()]
  const axis = which === "bar" ? views.find((view) => view.model.type === "ColorBar" && view.model.visible)._axis_view
    : views.find((view) => view.model.type === "LinearAxis" && view.dimension === (which === "x" ? 0 : 1))
  const ticks = axis.tick_coords.major[axis.dimension]
  return [axis.compute_labels(ticks).items.map((label) => label.text), Array.from(ticks)]
}"""


def labels(tab: Shown, figure: str, *, unit: str = "", which: str = "bar", shares: bool = False) -> list[str]:
    """The labels of the color bar of a map, or of an axis of a figure; each must mean its tick."""
    words, ticks = tab.page.evaluate(LABELS, [figure, which])
    if ticks and not shares:
        meant = [meaning(word, unit) for word in words]
        assert meant == pytest.approx(ticks, rel=5e-4, abs=1e-6 * max(map(abs, ticks))), (words, ticks)
    return words


def meaning(words: str, unit: str) -> float:
    """The value in a unit that some words mean.

    >>> meaning("-3.636 µA", "A"), meaning("1.5e-9", "<b>"), meaning("0", "A")
    (-3.636e-06, 1.5e-09, 0.0)
    """
    found = re.fullmatch(rf"(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?) ?([fpnµmkMGTP]?)(?:{re.escape(unit)})?", words)
    assert found is not None, words
    assert not ("e" in found[1] and found[2]), words  # neither 7e+287T
    return float(found[1].replace(",", "")) * 10.0 ** POWERS[found[2]]


def ranges(tab: Shown, name: str) -> list[list[float]]:
    """Ends of both axes of a map."""
    ends = "[model.x_range, model.y_range].map((one) => [one.start, one.end])"
    return tab.page.evaluate(f"(name) => {{ const {{model}} = sm.view(`map-${{name}}`); return {ends} }}", name)


def limits(tab: Shown, figure: str) -> list[float]:
    """Lowest and highest color of a figure."""
    mapper = "sm.view(name).model.renderers[0].glyph.color_mapper"
    return tab.page.evaluate(f"(name) => {{ const {{low, high}} = {mapper}; return [low, high] }}", figure)


def colors(tab: Shown, name: str) -> list[list[int]]:
    """The colors on the screen of the 12 cells of a map, row by row from the bottom."""
    picture = np.asarray(Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB"))
    box = tab.frame(f"map-{name}")
    (x0, x1), (y0, y1) = ranges(tab, name)
    places = [(row, column) for row in range(3) for column in range(4)]
    at = [
        (round(box["y"] + (y1 - row - 0.3) / (y1 - y0) * box["height"]),
         round(box["x"] + (column + 0.3 - x0) / (x1 - x0) * box["width"]))
        for row, column in places
    ]  # fmt: skip
    return [picture[y, x].tolist() for y, x in at]


def readout(tab: Shown, name: str, x: float, y: float) -> str:
    """Move the pointer to a place on a map; return the line under the maps."""
    (x0, x1), (y0, y1) = ranges(tab, name)
    box = tab.frame(f"map-{name}")
    at = box["x"] + (x - x0) / (x1 - x0) * box["width"], box["y"] + (y1 - y) / (y1 - y0) * box["height"]
    tab.page.mouse.move(*at)
    tab.wait(lambda: tab.page.locator(".readout").count() > 0)
    return " ".join(tab.text(".readout").split())


def test_currents_have_four_digits_and_a_prefix_everywhere(
    pages: Stack, chromium: Browser, runs: dict[str, str], console: Listener
) -> None:
    tab = opened(chromium, f"{pages.url}/dashboard?run={runs['currents']}&channel=it&brush=0.5,1", console, "odd")
    values = np.array(CHANNELS["currents"]["it"][1])
    tab.wait(lambda: labels(tab, "map-i0", unit="A")[-1:] == ["250 nA"])
    assert labels(tab, "map-it", unit="A") == ["-3 µA", "-2 µA", "-1 µA"]
    assert labels(tab, "map-odd", unit="<img src=x>") == ["0", "0.5e-8", "1.0e-8"]
    said = readout(tab, "it", 1.0, 1.0)
    assert "i0 7.904 nA" in said
    assert "it -2.121 µA" in said
    assert "odd 7.000e-9 <img src=x>" in said

    # the histogram of negative values runs from minimum to maximum, and its brush takes the upper half
    tab.wait(lambda: tab.bars() == np.histogram(values, bins=64)[0].tolist())
    tab.wait(lambda: labels(tab, "histogram", which="x", shares=True) == ["-3 µA", "-2 µA", "-1 µA"])
    assert labels(tab, "histogram", which="y") == ["0", "1"]
    caption = f"brushed pixels only: it from {quantity(value_at(0.5, values[-1], values[0]), 'A')} to -303.0 nA"
    tab.wait(lambda: tab.text("caption") == caption)
    tab.wait(lambda: tab.table()["it"][6] == "6")
    dimmed = tab.page.evaluate("() => Array.from(sm.view('map-it').model.renderers[0].data_source.data.dimmed[0])")
    assert sum(dimmed) == 6

    tab.page.goto(f"{pages.url}/summary?run={runs['currents']}")
    tab.wait(lambda: tab.table().get("i0", [""])[0] == "123.5 pA")
    table = tab.table()
    assert table["i0"][:4] == ["123.5 pA", "252.9 nA", "42.14 nA", "505.7 nA"]
    assert table["it"][:4] == ["-3.636 µA", "-303.0 nA", quantity(float(values.mean()), "A"), "-23.63 µA"]
    assert table["odd"][0] == "1.000e-9 <img src=x>"
    assert tab.page.locator("table img").count() == 0
    tab.page.close()


def test_decades_have_a_color_each_and_limits_by_hand_are_kept_or_refused_with_a_reason(
    pages: Stack, chromium: Browser, runs: dict[str, str], console: Listener
) -> None:
    url = f"{pages.url}/dashboard?run={runs['decades']}&channel=diode&scale=log&limits=min-max"
    tab = opened(chromium, url, console, "diode")
    tab.wait(lambda: len({tuple(color) for color in colors(tab, "diode")}) == 12)
    tab.wait(lambda: labels(tab, "map-diode", unit="A")[0] == "10 nA")
    assert labels(tab, "map-diode", unit="A") == ["10 nA", "100 nA", "1 µA", "10 µA", "100 µA", "1 mA", "10 mA"]
    assert labels(tab, "map-big", unit="A") == ["5e+288"]
    # -4 to -1 in the first row, 0 at the end of the next, which runs back
    assert [color == GRAY for color in colors(tab, "mixed")] == [True] * 4 + [False] * 3 + [True] + [False] * 4
    assert "Gray pixels are 0 or negative: they have no logarithm." in tab.text(".idle")
    tab.wait(lambda: tab.table()["big"][0] == "7.000e+287 A")
    assert tab.table()["diode"][:2] == ["3.200 nA", "13.42 mA"]
    assert "big 5.600e+288 A" in readout(tab, "big", 0.0, 1.0)

    tab.page.mouse.move(0, 0)
    choices = tab.page.locator(".center select:visible")
    choices.nth(0).select_option("by hand")
    fields = tab.page.locator(".center input.bk-input:not([placeholder=shape]):visible")
    tab.wait(lambda: tab.page.get_by_text(re.compile(r"^\w+: colors from \S+ to \S+ A$")).count() == 1)

    def type_limits(low: str, high: str) -> None:
        for place, text in ((0, low), (1, high)):
            fields.nth(place).fill(text)
            fields.nth(place).press("Enter")

    type_limits("1e-12", "1e-5")
    tab.wait(lambda: limits(tab, "map-diode") == [1e-12, 1e-5])
    assert [float(fields.nth(place).input_value()) for place in (0, 1)] == [1e-12, 1e-5]
    type_limits("0", "1e-5")
    tab.wait(lambda: tab.page.get_by_text("on a log scale the lower color limit must be above 0").count() >= 1)
    tab.wait(lambda: limits(tab, "map-diode") == pytest.approx([3.2e-9, 3.2e-9 * 4.0**11]))
    type_limits("-2e-3", "-1e-3")
    choices.nth(1).select_option("linear")
    tab.wait(lambda: limits(tab, "map-diode") == [-2e-3, -1e-3])
    tab.wait(lambda: tab.page.get_by_text("not used").count() == 0)
    tab.page.close()


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_no_page_complains_on_the_console(
    pages: Stack, chromium: Browser, runs: dict[str, str], console: Listener, scale: str
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000 * PATIENCE)
    context.add_init_script(SCRIPT)
    loaded: list[Page] = []
    for name in ("dashboard", "maps", "histogram", "frame", "summary", "log"):
        page = context.new_page()
        console.follow(page)
        page.goto(f"{pages.url}/{name}?scale={scale}&limits=min-max&run={runs['decades']}", wait_until="commit")
        loaded.append(page)
    dashboard, maps, histogram, _, summary, log = loaded
    for page in loaded:
        page.wait_for_function("() => 'opened' in document.documentElement.dataset")
    for page in (dashboard, maps):
        page.wait_for_function("() => sm.view('map-mixed')?.model.renderers[0].data_source.data.mixed?.[0]?.length")
    histogram.wait_for_function("() => sm.view('histogram')?.model.renderers.length")
    summary.locator("td", has_text="diode").wait_for()
    log.locator(".row[data-name=event]").first.wait_for()
    see_a_dataset(dashboard, pages.data_root / f"{scale}.h5")
    context.close()


def see_a_dataset(page: Page, path: Path) -> None:
    """Open an image of currents from the list of files."""
    with h5py.File(path, "w") as file:
        file["current"] = 3.2e-9 * 10.0 ** np.arange(-1, 5).reshape(2, 3)
        file["current"].attrs["units"] = "A"
    page.get_by_text("Files", exact=True).click()
    page.locator(".files .row", has_text=path.name).click()
    page.locator(".tree .row .name", has_text="current").click()
    page.wait_for_function("() => sm.view('dataset image')?.model.renderers[0].data_source.data.image?.[0]?.length")
    assert eventually(lambda: labels(Shown(page), "dataset image") != [])
