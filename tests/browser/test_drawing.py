"""How a run is drawn: spirals, masked grids, shapes typed in a tab, exchanged axes, the way of the stage, scalars."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from playwright.sync_api import Browser
from scanspec.specs import Ellipse, Linspace, Snake, Spec, Spiral
from tests.support.browser import Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.stack import Stack


def places(spec: Spec[Any]) -> list[tuple[float, float]]:
    """Where scanspec itself says that the stage is, point by point."""
    return [(point["stage-x"], point["stage-y"]) for point in spec.midpoints()]


def of_path(redis_url: str, spec: Spec[Any], **more: Any) -> MadeUpRun:
    start = {"scanspec": spec.serialize(), "shape": [len(places(spec))]}
    return MadeUpRun(redis_url, shape=(1, len(places(spec))), start=start, **more)


def drawn(tab: Shown, run: MadeUpRun, spec: Spec[Any], last: int) -> bool:
    """Whether each of the first points is seen where the stage was, and none of the others."""
    if not tab.page.evaluate("() => Boolean(sm.models().find((model) => model.place?.uid))"):
        return False
    if tab.page.evaluate("() => sm.models().find((model) => model.place?.uid).place.uid") != run.uid:
        return False
    for number, (x, y) in enumerate(places(spec), 1):
        found = tab.seen_at("total", x, y)
        if number <= last and found != run.value("total", number):
            return False
    return True


def sources(tab: Shown) -> dict[str, Any]:
    """The corners of the way that is done, of that to come, and where the stage is."""
    return tab.page.evaluate(
        """() => {
          const glyphs = sm.view('map-total').model.renderers.map((one) => one.data_source.data)
          const lines = glyphs.filter((data) => data.x && !data.angle), marks = glyphs.filter((data) => data.angle)
          const pairs = (data) => Array.from(data.x).map((x, k) => [x, data.y[k]])
          if (!lines.length) return {ahead: [], done: [], arrows: [], here: []}  // it is drawn when it is asked for
          return {ahead: pairs(lines[0]), done: pairs(lines.at(-1)), arrows: pairs(marks[0]), here: pairs(marks[1])}
        }"""
    )


def press(tab: Shown, name: str) -> None:
    tab.page.get_by_role("button", name=name, exact=True).click()


def labels(tab: Shown) -> tuple[str, str]:
    return tuple(
        tab.page.evaluate("() => [0, 1].map((k) => sm.view('map-total').model[['below', 'left'][k]][0].axis_label)")
    )


def title_of(name: str) -> str:
    """The script that returns what stands in a map as its title."""
    return f"() => sm.view('{name}').model.center.find((one) => one.type === 'Label').text"


def test_every_point_of_a_spiral_is_seen_where_the_stage_was_and_it_grows(tab: Shown, redis_url: str) -> None:
    spec = Spiral("stage-x", 1.0, 4.0, 0.5, "stage-y", -2.0, 4.0)
    run = of_path(redis_url, spec)
    run.add(1, 20)
    tab.wait(lambda: drawn(tab, run, spec, 20))
    far = places(spec)[-1]
    assert np.isnan(tab.seen_at("total", *far))
    run.add(21, run.points)
    tab.wait(lambda: drawn(tab, run, spec, run.points))
    assert labels(tab) == ("stage-x (mm)", "stage-y (mm)")
    assert tab.text(".geometry") == f"path of {run.points} points, from scanspec"
    tab.wait(lambda: tab.table()["total"][6] == str(run.points))


def test_a_masked_grid_is_drawn_in_cells_of_one_step_and_nothing_outside_the_mask(tab: Shown, redis_url: str) -> None:
    spec = Ellipse("stage-x", 0.0, 6.0, 1.0, "stage-y", 0.0, 4.0, 1.0, snake=True)
    run = of_path(redis_url, spec)
    run.add(1, run.points)
    tab.wait(lambda: drawn(tab, run, spec, run.points))
    image = tab.image("total")
    assert image.shape == (5, 7)
    assert np.count_nonzero(~np.isnan(image)) == run.points
    assert np.isnan(tab.seen_at("total", -3.0, 2.0))


def test_a_grid_whose_coordinate_falls_along_the_scan_is_drawn_where_it_belongs(tab: Shown, redis_url: str) -> None:
    spec = Linspace("stage-y", 3.0, 1.0, 3) * Snake(Linspace("stage-x", 5.0, 1.0, 5))
    run = MadeUpRun(redis_url, shape=(3, 5), start={"scanspec": spec.serialize()})
    run.add(1, 7)
    tab.wait(lambda: drawn(tab, run, spec, 7))
    top_right = tab.image("total")[-1, -1]
    assert top_right == run.value("total", 1)


def test_a_shape_typed_in_one_tab_orders_the_whole_run_there_and_nowhere_else(
    pages: Stack, chromium: Browser, tab: Shown, redis_url: str
) -> None:
    other = open_page(chromium, f"{pages.url}/dashboard")
    run = MadeUpRun(redis_url, shape=(7, 9), start={"scanspec": None, "units": None})
    run.add(1, 40)
    tab.wait(lambda: tab.image("total").shape[0] == 1 and np.count_nonzero(~np.isnan(tab.image("total"))) == 40)
    assert "Shape unknown" in tab.text(".idle")
    field = tab.page.get_by_placeholder("shape")
    field.fill("7x")
    field.press("Enter")
    tab.wait(lambda: "is not a shape like" in tab.page.locator("body").inner_text())
    field.fill("7x9")
    field.press("Enter")
    expected = run.expected(40)
    tab.wait(lambda: tab.image("total").shape == (7, 9))
    tab.wait(lambda: all(np.array_equal(tab.image(name), expected[name], equal_nan=True) for name in expected))
    tab.wait(lambda: tab.text(".geometry") == "7 x 9, snaked, from the shape typed here")
    run.add(41, 63)
    tab.wait(lambda: np.array_equal(tab.image("total"), run.expected(63)["total"]))
    other.wait(lambda: np.count_nonzero(~np.isnan(other.image("total"))) == 63)
    assert other.image("total").shape[0] == 1
    assert other.errors == []
    other.page.close()


def test_axes_can_be_exchanged_in_a_tab(tab: Shown, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    tab.wait(lambda: np.array_equal(tab.image("red"), run.expected(33)["red"], equal_nan=True))
    press(tab, "x ⇄ y")
    tab.wait(lambda: np.array_equal(tab.image("red"), run.expected(33)["red"].T, equal_nan=True))
    tab.wait(lambda: labels(tab) == ("stage-y (mm)", "stage-x (mm)"))
    run.add(34, 80)
    tab.wait(lambda: np.array_equal(tab.image("red"), run.expected(80)["red"].T, equal_nan=True))
    press(tab, "x ⇄ y")
    tab.wait(lambda: np.array_equal(tab.image("red"), run.expected(80)["red"], equal_nan=True))


def test_the_way_of_the_stage_is_drawn_done_and_to_come_with_the_current_point(tab: Shown, redis_url: str) -> None:
    spec = Linspace("stage-y", 1.0, 3.0, 3) * Snake(Linspace("stage-x", 0.0, 4.0, 5))
    run = MadeUpRun(redis_url, shape=(3, 5), start={"scanspec": spec.serialize()})
    run.add(1, 7)
    tab.wait(lambda: drawn(tab, run, spec, 7))
    assert sources(tab) == {"ahead": [], "done": [], "arrows": [], "here": []}
    press(tab, "path")
    tab.wait(lambda: sources(tab)["here"] == [[3.0, 2.0]])
    told = sources(tab)
    assert told["done"] == [[0, 1], [4, 1], [4, 2], [3, 2]]
    assert told["ahead"] == [[3, 2], [0, 2], [0, 3], [4, 3]]
    assert len(told["arrows"]) > 2
    run.add(8, 15)
    tab.wait(lambda: sources(tab)["here"] == [[4.0, 3.0]])
    assert sources(tab)["done"][-1] == [4, 3]
    press(tab, "path")
    tab.wait(lambda: sources(tab)["done"] == [])


def test_scalars_are_maps_of_their_own_and_a_sum_that_differs_is_marked(tab: Shown, redis_url: str) -> None:
    diode = np.linspace(-1.0, 1.0, 80)
    run = MadeUpRun(redis_url)
    theirs = np.array([run.value("total", number) for number in range(1, 81)])
    theirs[[4, 50]] += 1
    run = MadeUpRun(redis_url, scalars={"diode": diode, "camera-sum": theirs}, units={"diode": "nA"})
    run.add(1, 20)
    tab.wait(lambda: np.array_equal(tab.image("total"), run.expected(20)["total"], equal_nan=True))
    title = title_of("map-total")
    tab.wait(lambda: tab.page.evaluate(title) == "total  ⚠ ≠ camera-sum at 1 of 20")
    assert "total differs from the detector's own camera-sum at 1 of 20." in tab.text(".idle")
    tab.page.locator(".center select:visible").first.select_option("scalars")
    tab.wait(lambda: tab.page.evaluate("() => Boolean(sm.view('map-diode'))"))
    read = """() => Array.from(sm.view('map-diode').model.renderers[0].data_source.data.diode[0])"""
    rows, columns, _ = run.run.raster.pixel(range(1, 21))
    expected = np.full((8, 10), np.nan)
    expected[rows, columns] = diode[:20]
    tab.wait(lambda: np.array_equal(np.array(tab.page.evaluate(read), dtype=float), expected.ravel(), equal_nan=True))
    tab.wait(lambda: tab.page.evaluate(title_of("map-diode")) == "diode  (nA)")


def test_a_link_opens_the_pinned_run_again(pages: Stack, chromium: Browser, tab: Shown, redis_url: str) -> None:
    first = MadeUpRun(redis_url, seed=1)
    first.add(1, 80)
    second = MadeUpRun(redis_url, seed=2, start={"plan_name": "second"})
    second.add(1, 10)
    tab.wait(lambda: np.array_equal(tab.image("total"), second.expected(10)["total"], equal_nan=True))
    tab.page.get_by_role("button", name="made_up").first.click()
    tab.wait(lambda: np.array_equal(tab.image("total"), first.expected(80)["total"]))
    link = tab.page.url
    assert parse_qs(urlsplit(link).query) == {"run": [first.uid]}
    again = open_page(chromium, link)
    second.add(11, 20)
    again.wait(lambda: np.array_equal(again.image("total"), first.expected(80)["total"]))
    again.page.get_by_role("button", name="Follow the newest").click()
    again.wait(lambda: np.array_equal(again.image("total"), second.expected(20)["total"], equal_nan=True))
    assert "run=" not in again.page.url
    assert again.errors == []
    again.page.close()
