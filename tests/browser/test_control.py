"""The scan under the scientist's hand, in Chromium: a real blueapi, a real RabbitMQ, a worker and the pages."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Error, expect
from tests.support.beamline_rest import begin, simulated
from tests.support.blueapi.server import BlueapiServer
from tests.support.browser import Shown, open_page
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import RabbitMQ
from tests.support.stack import Stack

from snakemap.blueapi.control_store import GONE_S

DEVICES = {"camera": "camera", "x": "stage.x", "y": "stage.y"}
SMALL = {"rows": "2", "columns": "3", "x_stop": "0.02", "y_stop": "0.01", "exposure": "0.01"}


@pytest.fixture
def blueapi(tmp_path: Path, rabbitmq: RabbitMQ) -> Iterator[BlueapiServer]:
    data = tmp_path / "data"
    data.mkdir()
    server = BlueapiServer(tmp_path / "blueapi", data=data, stomp_url=rabbitmq.stomp_url).start()
    yield server
    server.kill()


@pytest.fixture
def stack(tmp_path: Path, redis_url: str, rabbitmq: RabbitMQ, blueapi: BlueapiServer) -> Iterator[Stack]:
    stack = Stack(tmp_path, redis_url=redis_url, stomp_url=rabbitmq.stomp_url, BLUEAPI_URL=blueapi.url).serve()
    stack.ingest.start()
    assert eventually(lambda: "Listening" in stack.ingest.log.read_text(), timeout_s=30)
    try:
        yield stack
    finally:
        stack.end()


def tasks(blueapi: BlueapiServer) -> list[dict[str, Any]]:
    return httpx.get(f"{blueapi.url}/api/v1/tasks", trust_env=False).json()["tasks"]


def fill(tab: Shown, values: dict[str, str]) -> None:
    for name, text in values.items():
        tab.page.locator(f".plan [name={name}]").fill(text)


def until_button(tab: Shown, name: str, *, timeout_s: float = 20) -> None:
    expect(tab.page.locator(f".buttons .{name}")).to_be_enabled(timeout=timeout_s * 1000 * PATIENCE)


def press(tab: Shown, name: str) -> None:
    until_button(tab, name)
    tab.page.locator(f".buttons .{name}").click()


def start(tab: Shown) -> None:
    tab.page.get_by_text("Check and start").click()
    tab.page.locator(".plan.confirming button.start").click()


def map_of(blueapi: BlueapiServer, shape: tuple[int, int]) -> np.ndarray:
    """The newest file's totals on the grid of its snaked scan, by numpy."""
    path = max(blueapi.data.glob("*.h5"), key=lambda path: path.stat().st_mtime)
    with h5py.File(path, "r", swmr=True) as file:
        dataset = file["/entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        frames = dataset[:]
    if len(frames) != shape[0] * shape[1]:
        return np.full(shape, np.nan)  # it still grows
    grid = frames.sum(axis=(1, 2), dtype=np.uint64).reshape(shape).astype(float)
    grid[1::2] = grid[1::2, ::-1].copy()
    return grid


def shows(tab: Shown, blueapi: BlueapiServer, shape: tuple[int, int]) -> bool:
    return tab.image("total").shape == shape and np.array_equal(tab.image("total"), map_of(blueapi, shape))


def first_scan(tab: Shown, values: dict[str, str]) -> None:
    press(tab, "new")
    tab.page.locator(".plan select").first.select_option("grid")
    expect(tab.page.locator(".plan [name=columns]")).to_be_visible()
    fill(tab, {**DEVICES, **values, "instrument_session": "cm12345-1"})
    start(tab)


def test_run_edit_run_again_abort_and_one_at_a_time(stack: Stack, blueapi: BlueapiServer, chromium: Browser) -> None:
    tab = open_page(chromium, f"{stack.url}/dashboard")
    press(tab, "new")
    tab.page.locator(".plan select").first.select_option("grid")
    fill(tab, {**DEVICES, **SMALL, "y": "nix", "rows": "2.5"})
    tab.wait(lambda: "whole number" in tab.text(".field:has([name=rows]) .fault"))
    assert "aa12345-1" in tab.text(".field:has([name=instrument_session]) .fault")
    fill(tab, {"rows": "2", "instrument_session": "cm12345-1"})
    tab.wait(lambda: tab.text(".estimate").startswith("6 points, 6 frames"))
    start(tab)
    tab.wait(lambda: "Device nix cannot be found" in tab.text(".field:has([name=y]) .fault"))
    assert tasks(blueapi) == []
    fill(tab, {"y": "stage.y"})
    start(tab)
    tab.wait(lambda: tab.text(".topbar .status, .status") == "complete", timeout_s=60)
    tab.wait(lambda: shows(tab, blueapi, (2, 3)))

    press(tab, "again")
    tab.wait(lambda: "blueapi's task" in tab.text(".plan .hint"))
    expect(tab.page.locator(".plan [name=columns]")).to_have_value("3")
    fill(tab, {"columns": "4"})
    tab.wait(lambda: re.match(r"8 points, 8 frames, about 0:\d\d", tab.text(".estimate")) is not None)
    tab.page.get_by_text("Check and start").click()
    tab.page.locator(".plan.confirming button.start").dblclick()
    tab.wait(lambda: shows(tab, blueapi, (2, 4)), timeout_s=60)
    tab.wait(lambda: tab.text(".status") == "complete")
    assert len(tasks(blueapi)) == 2

    press(tab, "again")
    tab.wait(lambda: tab.page.locator(".plan [name=columns]").input_value() == "4")
    fill(tab, {"rows": "30", "columns": "30", "exposure": "0.1", "x_stop": "5", "y_stop": "5"})
    start(tab)
    tab.wait(lambda: tab.text(".controls .worker") == "blueapi is running grid", timeout_s=30)
    expect(tab.page.locator(".buttons .again")).to_be_disabled()
    assert "A scan is running; the next can start when it ends" in tab.text(".controls .why")
    tab.wait(lambda: tab.page.locator(".bar .device").all_inner_texts() != [])
    other = httpx.post(
        f"{blueapi.url}/api/v1/tasks",
        json={"name": "no_detector", "params": {}, "instrument_session": "cm12345-1"},
        trust_env=False,
    ).json()
    refused = httpx.put(f"{blueapi.url}/api/v1/worker/task", json=other, trust_env=False)
    assert refused.status_code == 409
    press(tab, "abort")
    tab.page.get_by_placeholder("reason").fill("wrong sample")
    tab.page.locator("dialog .danger").click()
    tab.wait(lambda: tab.text(".status") == "aborted", timeout_s=40)
    tab.wait(lambda: tab.text(".controls .worker") == "blueapi is idle")
    tab.page.get_by_text("Actions", exact=True).click()
    tab.wait(lambda: "reason: wrong sample" in tab.text(".audit li"))
    assert [line.split("\n")[0] for line in tab.page.locator(".audit .what").all_inner_texts()] == [
        "abort", "start grid", "start grid", "start grid", "start grid",
    ]  # fmt: skip
    assert "Device nix cannot be found" in tab.page.locator(".audit li").last.inner_text()
    assert tab.errors == []
    tab.page.close()


def test_a_blueapi_that_is_killed_in_mid_scan_is_told_and_recovers(
    stack: Stack, blueapi: BlueapiServer, chromium: Browser
) -> None:
    tab = open_page(chromium, f"{stack.url}/dashboard")
    first_scan(tab, {**SMALL, "rows": "30", "columns": "30", "exposure": "0.1"})
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() > 3, timeout_s=30)
    blueapi.kill()
    killed = time.monotonic()
    tab.wait(lambda: tab.text(".controls .worker") == "blueapi unavailable", timeout_s=5)
    assert time.monotonic() - killed < 5 * PATIENCE
    assert "blueapi lost" in tab.lights()
    assert "cannot be reached" in tab.text(".controls .trouble")
    expect(tab.page.locator(".buttons .again")).to_be_disabled()
    blueapi.start()
    tab.wait(lambda: tab.text(".controls .worker") == "blueapi is idle")
    press(tab, "again")
    tab.wait(lambda: "the record of its start" in tab.text(".plan .hint"))
    expect(tab.page.locator(".plan [name=columns]")).to_have_value("30")
    fill(tab, SMALL)
    start(tab)
    tab.wait(lambda: tab.image("total").shape == (2, 3) and shows(tab, blueapi, (2, 3)), timeout_s=60)
    tab.page.close()


def test_control_is_with_one_tab_and_is_handed_over(
    beamline: tuple[Stack, str], redis_url: str, chromium: Browser
) -> None:
    stack, _ = beamline
    first, second = (open_page(chromium, f"{stack.url}/dashboard") for _ in range(2))
    until_button(first, "new")
    first.page.get_by_text("Take control").click()
    first.wait(lambda: first.text(".lock").startswith("You have control"))
    second.wait(lambda: "has control (since" in second.text(".lock") and "You" not in second.text(".lock"))
    expect(second.page.locator(".buttons .new")).to_be_disabled()
    first.page.reload()
    first.page.wait_for_function("() => window.Bokeh && Bokeh.documents.length")
    first.wait(lambda: first.page.locator(".lock").count() and first.text(".lock").startswith("You have control"))
    second.page.get_by_text("Request control").click()
    first.wait(lambda: "requests control" in first.text(".lock"))
    first.page.get_by_text("Hand over").click()
    second.wait(lambda: second.text(".lock").startswith("You have control"))
    first.wait(lambda: "has control (since" in first.text(".lock") and "You" not in first.text(".lock"))
    until_button(second, "new")
    first.page.close()
    second.page.close()


def array(tab: Shown, figure: str) -> np.ndarray:
    """The image of a figure as the browser has it."""
    told = tab.page.evaluate(
        """(name) => { const image = sm.view(name)?.model.renderers[0].data_source.data.image?.[0]
                       if (!image) return null
                       return {shape: image.shape, values: Array.from(image, (v) => isNaN(v) ? null : v)} }""",
        figure,
    )
    if told is None:
        return np.zeros((0, 0))
    return np.array([np.nan if value is None else value for value in told["values"]]).reshape(told["shape"])


def test_the_history_is_searched_and_two_runs_are_compared(
    beamline: tuple[Stack, str], redis_url: str, chromium: Browser
) -> None:
    stack, url = beamline
    simulated(url)
    simulated(url, "simulated_fly_scan", rows=3, seed=5)
    tab = open_page(chromium, f"{stack.url}/dashboard")
    tab.wait(lambda: len(tab.page.locator("li.run").all()) == 2)
    tab.wait(lambda: tab.page.locator("li.run img").evaluate_all("all => all.map((i) => i.naturalHeight)") == [24, 32])
    tab.wait(lambda: "complete · 15 of 15" in tab.text("li.run .state"))
    tab.page.get_by_placeholder("plan, file").fill("step")
    tab.wait(lambda: len(tab.page.locator("li.run").all()) == 1)
    tab.page.get_by_placeholder("plan, file").fill("")
    tab.page.locator(".history .tools select").select_option("failed")
    tab.wait(lambda: tab.text(".none") == "No matching runs")
    tab.page.locator(".history .tools select").select_option("")
    for tick in range(2):
        tab.page.locator("li.run .tick").nth(tick).click()
    tab.page.locator(".history .compare button").click()
    tab.wait(lambda: array(tab, "compare ratio").shape == (3, 5))
    first, second = array(tab, "compare first"), array(tab, "compare second")
    np.testing.assert_allclose(array(tab, "compare difference"), second - first)
    np.testing.assert_allclose(array(tab, "compare ratio"), second / first, rtol=1e-6)
    tab.page.get_by_text("red", exact=True).first.click()
    tab.wait(lambda: np.nanmax(array(tab, "compare first")) < np.nanmax(first))
    ranges = tab.page.evaluate(
        """() => ['first', 'second', 'difference', 'ratio'].map((part) => sm.view(`compare ${part}`).model)
                 .map((plot) => [plot.x_range.id, plot.y_range.id].join())"""
    )
    assert len(set(ranges)) == 1
    tab.page.locator("li.run .choose").nth(1).click()
    tab.wait(lambda: tab.image("total").shape == (4, 5))
    expect(tab.page.locator(".bk-panel-models-widgets-Button, .bk-btn", has_text="‹ Maps").first).to_be_hidden()
    assert tab.errors == []
    tab.page.close()


def test_a_box_on_the_map_fills_the_form(beamline: tuple[Stack, str], redis_url: str, chromium: Browser) -> None:
    stack, url = beamline
    simulated(url)
    tab = open_page(chromium, f"{stack.url}/dashboard")
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() == 20)
    press(tab, "again")
    tab.wait(lambda: "blueapi's task" in tab.text(".plan .hint"))
    before = float(tab.page.locator(".plan [name=x_stop]").input_value())
    tab.page.evaluate(
        """() => { const plot = sm.view('map-total').model
                   plot.toolbar.active_drag = plot.toolbar.tools.find((tool) => tool.type === 'BoxSelectTool') }"""
    )
    tab.drag("map-total", (0.3, 0.3), (0.7, 0.7))
    tab.wait(lambda: float(tab.page.locator(".plan [name=x_stop]").input_value()) < before)
    values = {name: float(tab.page.locator(f".plan [name={name}]").input_value()) for name in ("x_start", "x_stop")}
    assert -2.0 < values["x_start"] < values["x_stop"] < before
    start(tab)
    tab.wait(lambda: len(tab.page.locator("li.run").all()) == 2)
    assert tab.errors == []
    tab.page.close()


def test_faulty_fields_are_counted_and_the_first_is_scrolled_to(beamline: tuple[Stack, str], chromium: Browser) -> None:
    stack, url = beamline
    simulated(url)
    tab = open_page(chromium, f"{stack.url}/dashboard", width=1024, height=768)
    tab.wait(lambda: tab.text(".status") == "complete")
    press(tab, "again")
    fields = tab.page.locator(".plan .fields")
    fields.wait_for()
    assert tab.page.locator(".plan .count").is_hidden()
    fill(tab, {"rows": "2.5", "seed": "much"})
    tab.wait(lambda: tab.text(".plan .count") == "2 fields need attention")
    fill(tab, {"rows": "4"})
    tab.wait(lambda: tab.text(".plan .count") == "1 field needs attention")
    fields.evaluate("(node) => { node.scrollTop = 0 }")
    seed = tab.page.locator(".plan [name=seed]")
    inside = """(node) => { const box = node.closest('.field').getBoundingClientRect()
                            const around = node.closest('.fields').getBoundingClientRect()
                            return box.top >= around.top - 1 && box.bottom <= around.bottom + 1 }"""
    assert not seed.evaluate(inside)
    tab.page.get_by_text("Check and start").click()
    tab.wait(lambda: seed.evaluate(inside))
    expect(seed).to_be_focused()
    expect(tab.page.locator("form.plan")).not_to_have_class(re.compile("confirming"))
    fill(tab, {"seed": "3"})
    tab.wait(lambda: tab.page.locator(".plan .count").is_hidden())
    assert tab.errors == []
    tab.page.close()


def test_the_question_before_a_stop_says_what_becomes_of_the_run_and_the_run_becomes_that(
    beamline: tuple[Stack, str], chromium: Browser
) -> None:
    stack, url = beamline
    begin(url, rows=30, columns=30, rate_hz=10)
    tab = open_page(chromium, f"{stack.url}/dashboard")
    tab.wait(lambda: np.isfinite(tab.image("total")).sum() > 3)
    press(tab, "abort")
    assert "the run is marked aborted" in tab.text("dialog p")
    tab.page.keyboard.press("Escape")
    press(tab, "stop")
    assert (
        tab.text("dialog p")
        == "The scan ends early; data so far are kept, the run is marked incomplete if points are missing."
    )
    tab.page.locator("dialog .danger").click()
    tab.wait(lambda: tab.text(".status") == "incomplete")
    assert np.isfinite(tab.image("total")).sum() > 3
    tab.page.close()


@pytest.mark.parametrize("leave", ["closed", "killed", "cut off"])
def test_no_tab_has_control_once_the_one_that_had_it_is_gone(
    beamline: tuple[Stack, str], chromium: Browser, leave: str
) -> None:
    stack, _ = beamline
    other = open_page(chromium, f"{stack.url}/dashboard")
    other.wait(lambda: other.page.get_by_text("Take control").count() == 1, timeout_s=40)
    holder = open_page(chromium, f"{stack.url}/dashboard")
    holder.page.get_by_text("Take control").click()
    holder.wait(lambda: holder.text(".lock").startswith("You have control"))
    other.wait(lambda: "has control (since" in other.text(".lock"))
    if leave == "closed":
        # a tab that is there keeps control for as long as it likes
        other.page.wait_for_timeout(1000 * (GONE_S + 3))
        assert "has control (since" in other.text(".lock")
        holder.page.close()
    elif leave == "killed":
        with pytest.raises(Error, match="crash"):
            holder.page.goto("chrome://crash")
    else:  # its messages go nowhere, though its connection stands
        holder.page.evaluate("() => { WebSocket.prototype.send = () => {} }")
    other.wait(lambda: other.text(".lock .holder") == "No tab has control", timeout_s=40)
    until_button(other, "new")
    other.page.locator(".lock button").click()
    other.wait(lambda: other.text(".lock").startswith("You have control"))
    other.page.close()
    if leave == "cut off":
        holder.page.close()
