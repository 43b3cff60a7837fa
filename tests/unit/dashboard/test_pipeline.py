from __future__ import annotations

import gc
import math
import warnings
import weakref
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.maps import BINS, Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.run import Run
from snakemap.core.scan_path import ScanPath
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.view_state import LIMITS, Choices
from snakemap.render.cache import RenderCache
from snakemap.render.map_view import MapView
from snakemap.render.pyramid import LOG_LENGTH, PyramidLevel

CHANNELS = ("red", "total")
ROIS = {"red": (0, 1, 0, 1)}

counts = st.integers(0, 9).map(float) | st.floats(0, 1e9) | st.just(math.nan)
points = st.lists(st.tuples(st.integers(1, 170), counts, counts), min_size=1, max_size=8)
views = st.none() | st.tuples(st.floats(-3, 14), st.floats(0.1, 15), st.floats(-3, 14), st.floats(0.1, 15)).map(
    lambda view: (view[0], view[0] + view[1], view[2], view[2] + view[3])
)
screens = st.tuples(st.floats(1, 14), st.floats(1, 14))
actions = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), points),
        st.tuples(st.just("look"), st.sampled_from([0, 1])),
        st.tuples(st.just("resize"), st.tuples(st.sampled_from([0, 1]), views, screens)),
    ),
    min_size=1,
    max_size=12,
)


def axis(name: str, size: int, *, falls: bool) -> Axis:
    coordinates = 3.0 + 0.25 * np.arange(size, dtype=np.float64)
    return Axis(name, "mm", coordinates[::-1].copy() if falls else coordinates)


def run_of(
    rows: int = 6, columns: int = 7, *, falls: tuple[bool, bool] = (False, False), names: tuple[str, ...] = CHANNELS
) -> Run:
    """A run without a point, whose slow and fast coordinates may fall along the scan."""
    run = Run({"uid": "run", "time": 1.0})
    raster = replace(
        Raster.of_shape((rows, columns), snake=True, source="test"),
        slow=axis("y", rows, falls=falls[0]),
        fast=axis("x", columns, falls=falls[1]),
    )
    run.main.maps = Maps(raster, names)
    return run


def level_of(levels: RenderCache, run: Run, step: int) -> PyramidLevel:
    return levels.level(run.main, MapView(), step)


def assign(run: Run, told: list[tuple[int, float, float]]) -> None:
    seq_nums, red, total = zip(*told, strict=True)
    run.maps.assign(seq_nums, {"red": red, "total": total})


def scattered(run: Run, number: int, *, seed: int = 5) -> None:
    random = np.random.default_rng(seed)
    seq_nums = random.permutation(run.raster.size)[:number] + 1
    run.maps.assign(seq_nums, {name: random.integers(0, 1000, number) for name in run.maps.channels})


def pipeline_of(run: Run, levels: RenderCache | None = None) -> Pipeline:
    pipeline = Pipeline(Choices(), levels or RenderCache())
    pipeline.look_at(run)
    return pipeline


class Browser:
    """What ``update.js`` does with what a tab's pipeline tells, and no more."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.images: dict[str, npt.NDArray[np.float64]] = {}
        self.version = -1

    def look(self) -> None:
        told = self.pipeline.update()
        if told is None:
            self.images = self.pipeline.everything()
            self.version = self.pipeline.shown.version
            return
        told = orjson.loads(orjson.dumps(told))
        assert told["from"] <= self.version, "an update is missing"
        self.version = max(self.version, told["to"])
        for name, values in zip(self.images, told["values"], strict=True):
            flat = self.images[name].reshape(-1)
            for cell, value in zip(told["cells"], values, strict=True):
                flat[cell] = math.nan if value is None else value

    def check(self) -> None:
        """Every cell on the screen equals the mean of the pixels whose coordinates lie in it."""
        run = self.pipeline.run
        assert run is not None
        left, bottom, width, height = self.pipeline.frame()
        for number, name in enumerate(run.maps.channels):
            image = self.images[name]
            rows, columns = image.shape
            assert (rows, columns) == self.pipeline.window.shape
            lines = places(run.raster.slow.coordinates, bottom, height / rows, rows)
            along = places(run.raster.fast.coordinates, left, width / columns, columns)
            expected = [[mean(run.maps.grids[number][np.ix_(line, cell)]) for cell in along] for line in lines]
            if self.pipeline.window.step == 1:
                np.testing.assert_array_equal(image, expected)
            else:
                np.testing.assert_allclose(image, expected, rtol=1e-12)


def places(coordinates: npt.NDArray[np.float64], low: float, size: float, number: int) -> list[npt.NDArray[np.intp]]:
    """Which indices of an axis lie in each cell of an image, by their coordinates."""
    cells = np.floor((coordinates - low) / size).astype(int)
    return [np.flatnonzero(cells == cell) for cell in range(number)]


def mean(part: npt.NDArray[np.float64]) -> float:
    assert part.size, "a cell that shows nothing of the map"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN
        return float(np.nanmean(part))


# what the screen shows


@examples(100)
@given(st.tuples(st.integers(1, 13), st.integers(1, 13)), st.tuples(st.booleans(), st.booleans()), actions)
def test_the_screens_of_a_fast_and_of_a_slow_tab_always_equal_the_maps(
    shape: tuple[int, int], falls: tuple[bool, bool], steps: list[tuple[str, Any]]
) -> None:
    run, levels = run_of(*shape, falls=falls), RenderCache()
    tabs = [Browser(pipeline_of(run, levels)) for _ in range(2)]
    for what, told in steps:
        if what == "assign":
            assign(run, told)
        elif what == "resize":
            number, view, pixels = told
            tabs[number].pipeline.resize(view=view, pixels=pixels)
            tabs[number].look()
        else:
            tabs[told].look()
            tabs[told].check()
    for tab in tabs:
        tab.look()
        tab.check()


@pytest.mark.parametrize("pixels", [400.0, 5.0])
def test_after_the_first_time_only_the_difference_is_sent(pixels: float) -> None:
    run = run_of(12, 12)
    pipeline = pipeline_of(run)
    pipeline.resize(view=None, pixels=(pixels, pixels))
    browser = Browser(pipeline)
    for seq_num in range(1, 20):
        assign(run, [(seq_num, 1.0, 2.0)])
        browser.look()
        browser.check()
    assert pipeline.counts["everything"] == 1


def test_a_tab_that_slept_too_long_on_a_coarse_map_is_sent_everything() -> None:
    run, levels = run_of(13, 13), RenderCache()
    awake, asleep = (Browser(pipeline_of(run, levels)) for _ in range(2))
    for tab in (awake, asleep):
        tab.pipeline.resize(view=None, pixels=(4, 4))
        tab.look()
    for seq_num in range(1, LOG_LENGTH + 10):
        assign(run, [(seq_num, float(seq_num), 1.0)])
        awake.look()
    asleep.look()
    asleep.check()
    assert (awake.pipeline.counts["everything"], asleep.pipeline.counts["everything"]) == (1, 2)


@pytest.mark.parametrize("value", [0.1, 2.0**53, 2.0**53 - 1, 1e300, 65535.0 * 2**20, 5e-324, 1 / 3])
def test_a_value_reaches_the_screen_exactly(value: float) -> None:
    run = run_of()
    browser = Browser(pipeline_of(run))
    browser.look()
    assign(run, [(1, value, -value)])
    browser.look()
    assert browser.images["red"][0, 0] == value
    assert browser.images["total"][0, 0] == -value


def test_a_pixel_that_became_blank_again_is_blank_on_the_screen() -> None:
    run = run_of()
    browser = Browser(pipeline_of(run))
    assign(run, [(1, 5.0, 5.0)])
    browser.look()
    assign(run, [(1, math.nan, 5.0)])
    browser.look()
    assert np.isnan(browser.images["red"][0, 0])


def test_a_run_whose_row_grows_is_shown_to_its_end() -> None:
    run = Run({"uid": "run", "time": 1.0})
    descriptor = derived_descriptor(run, ROIS, frame_shape=(2, 2), time=1.0)
    run.apply(Document("descriptor", descriptor, run="run"))
    browser = Browser(pipeline_of(run))
    browser.pipeline.resize(view=None, pixels=(4000.0, 4000.0))
    for number in (1, 100, 3000):
        page = derived_page(descriptor["uid"], [number], {"red": [1.0], "total": [2.0]}, time=1.0)
        run.apply(Document("event_page", page, run="run"))
        browser.look()
        browser.check()
    assert np.count_nonzero(browser.images["total"] == 2.0) == 3


def test_a_small_pan_needs_nothing_new_and_a_large_one_does() -> None:
    run = run_of(200, 200)
    pipeline = pipeline_of(run)
    assert pipeline.resize(view=None, pixels=(20, 20))
    assert pipeline.resize(view=(50, 60, 50, 60), pixels=(20, 20))
    assert not pipeline.resize(view=(51, 61, 51, 61), pixels=(20, 20))
    assert pipeline.resize(view=(90, 100, 50, 60), pixels=(20, 20))
    assert pipeline.resize(view=None, pixels=(20, 20))
    assert pipeline.window.step == 8


def test_a_map_that_fits_the_screen_is_sent_whole_whatever_is_in_sight() -> None:
    pipeline = pipeline_of(run_of(100, 100))
    assert pipeline.whole
    assert not pipeline.resize(view=(10, 20, 10, 20), pixels=(400, 400))
    assert pipeline.whole


@examples(40)
@given(st.tuples(st.booleans(), st.booleans()), st.integers(0, 5), st.integers(0, 6))
def test_a_rectangle_around_a_pixel_is_that_pixel(falls: tuple[bool, bool], row: int, column: int) -> None:
    run = run_of(6, 7, falls=falls)
    x, y = run.raster.fast.coordinates[column], run.raster.slow.coordinates[row]
    rectangle = pipeline_of(run).cells_in(x - 0.125, x + 0.125, y - 0.125, y + 0.125)
    assert rectangle == pytest.approx((row, row + 1, column, column + 1))


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("falls", [(False, False), (True, False), (False, True), (True, True)])
def test_the_point_at_a_place_is_the_one_that_is_drawn_there(falls: tuple[bool, bool], exchanged: bool) -> None:
    run = run_of(falls=falls)
    pipeline = pipeline_of(run)
    pipeline.choices.exchanged = exchanged
    raster = run.main.maps.raster
    assert pipeline.points == 42
    for point in (1, 7, 8, 23, 42):
        (row,), (column,), _ = raster.pixel([point])
        x, y = float(raster.fast.coordinates[column]), float(raster.slow.coordinates[row])
        place = (y, x) if exchanged else (x, y)
        assert pipeline.place_of(point) == pytest.approx(place)
        assert pipeline.point_at(*place) == point
        assert pipeline.point_at(place[0] + 0.11, place[1] - 0.11) == point
    assert pipeline.point_at(2.0, 3.5) == pipeline.point_at(3.5, 99.0) == 0
    assert pipeline.place_of(43) is None


def test_arrow_keys_go_where_they_point_and_stay_at_the_edge() -> None:
    #  1  2 ...  7
    # 14 13 ...  8, with rising coordinates drawn upwards
    pipeline = pipeline_of(run_of())
    assert [pipeline.neighbor(2, right=right, up=0) for right in (1, -1)] == [3, 1]
    assert [pipeline.neighbor(2, right=0, up=up) for up in (1, -1)] == [13, 2]
    assert pipeline.neighbor(7, right=1, up=0) == 7
    fallen = pipeline_of(run_of(falls=(True, True)))
    assert [fallen.neighbor(2, right=right, up=0) for right in (1, -1)] == [1, 3]
    assert [fallen.neighbor(2, right=0, up=up) for up in (1, -1)] == [2, 13]


def test_on_a_spiral_arrow_keys_pass_cells_of_one_point_and_blank_ones() -> None:
    xs, ys = [0.0, 1.0, 2.03, 0.07, 1.11, 2.0, 9.0], [0.0, 0.11, 0.02, 1.0, 1.05, 1.13, 0.0]
    run = Run({"uid": "run", "time": 1.0})
    path = ScanPath(("x", "mm"), ("y", "mm"), positions=(xs, ys))
    run.main.maps = Maps(replace(Raster.of_shape((7,), snake=False, source="test"), path=path), CHANNELS)
    assign(run, [(point, 1.0, 1.0) for point in range(1, 8)])
    pipeline = pipeline_of(run)
    for point, place in enumerate(zip(xs, ys, strict=True), 1):
        assert pipeline.point_at(*place) == point
        assert pipeline.place_of(point) == pytest.approx(place, abs=0.4)
    assert pipeline.point_at(6.0, 0.0) == 0
    assert [pipeline.neighbor(1, right=right, up=up) for right, up in ((1, 0), (0, 1), (-1, 0))] == [2, 4, 1]
    assert pipeline.neighbor(3, right=1, up=0) == 7


def test_a_pipeline_without_a_run_says_so() -> None:
    pipeline = Pipeline(Choices(), RenderCache())
    assert not pipeline.resize(view=None, pixels=(10, 10))
    with pytest.raises(RuntimeError, match="without a run"):
        pipeline.everything()


# colors


def limits(run: Run, **choices: Any) -> list[tuple[float, float]]:
    pipeline = pipeline_of(run)
    pipeline.choices.param.update(**choices)
    return pipeline.limits()


def three_points() -> Run:
    run = run_of()
    assign(run, [(1, 5.0, 50.0), (2, 7.0, 90.0), (3, 6.0, 70.0)])
    return run


def test_limits_are_those_of_each_channel() -> None:
    assert limits(three_points()) == [(0.0, 7.0), (0.0, 90.0)]
    assert limits(three_points(), limits="minimum to maximum") == [(5.0, 7.0), (50.0, 90.0)]


def test_limits_by_hand_are_those_of_the_chosen_channel_alone() -> None:
    told = limits(three_points(), limits="by hand", channel="red", low=1.0, high=2.0)
    assert told == [(1.0, 2.0), (0.0, 90.0)]


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (2.0, 1.0, "above the lower"),
        (1.0, 1.0, "above the lower"),
        (-5.0, -6.0, "above the lower"),
        (math.nan, 1.0, "both color limits must be numbers"),
        (0.0, math.inf, "both color limits must be numbers"),
        (None, 1.0, "both color limits must be numbers"),
        (1.0, None, "both color limits must be numbers"),
    ],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_limits_by_hand_that_cannot_be_drawn_are_refused_with_a_reason(
    low: float | None, high: float | None, why: str, scale: str
) -> None:
    pipeline = pipeline_of(three_points())
    pipeline.choices.param.update(scale=scale)
    usual = pipeline.limits()
    pipeline.choices.param.update(limits="by hand", low=low, high=high)
    assert why in pipeline.refusal
    assert pipeline.limits() == usual
    pipeline.choices.limits = "0 to maximum"
    assert pipeline.refusal == ""


@pytest.mark.parametrize(("low", "high"), [(1e-12, 1e-5), (1e-9, 4e-3), (5e-324, 1e300), (100.0, 101.0)])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_limits_by_hand_are_kept_as_they_are_typed(low: float, high: float, scale: str) -> None:
    assert limits(three_points(), limits="by hand", low=low, high=high, scale=scale)[1] == (low, high)


@pytest.mark.parametrize("low", [0.0, -0.0, -1e-9, -5.0])
def test_a_lowest_color_that_has_no_logarithm_is_refused_on_a_log_scale_alone(low: float) -> None:
    pipeline = pipeline_of(three_points())
    pipeline.choices.param.update(limits="by hand", low=low, high=60.0)
    assert (pipeline.refusal, pipeline.limits()[1]) == ("", (low, 60.0))
    pipeline.choices.scale = "log"
    assert pipeline.refusal == "on a log scale the lower color limit must be above 0"
    bottom, top = pipeline.limits()[1]
    assert 0 < bottom < top == 90.0
    pipeline.choices.scale = "linear"
    assert (pipeline.refusal, pipeline.limits()[1]) == ("", (low, 60.0))


def log_limits(values: list[float], mode: str) -> tuple[float, float]:
    run = run_of()
    assign(run, [(number, value, value) for number, value in enumerate(values, 1)])
    return limits(run, limits=mode, scale="log")[0]


def test_on_a_log_scale_six_decades_have_colors_from_the_smallest_value_on() -> None:
    values = [1e-9 * 4.0**k for k in range(12)]
    for mode in ("minimum to maximum", "0 to maximum"):
        low, high = log_limits(values, mode)
        assert (low, high) == (values[0], values[-1])
        colors = {min(255, math.floor(256 * math.log(value / low) / math.log(high / low))) for value in values}
        assert len(colors) == 12


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([0.0, 3.0, 1e6], "0 to maximum", (1.0, 1e6)),
        ([0.0, 3.0, 1e6], "minimum to maximum", (3.0, 1e6)),
        ([-4.0, 0.0, 2e-3, 8.0], "minimum to maximum", (2e-3, 8.0)),
        ([1e-300, 5.0], "0 to maximum", (5e-12, 5.0)),
        ([1e-300, 5.0], "minimum to maximum", (1e-300, 5.0)),
        ([-4.0, -1.0], "minimum to maximum", (0.1, 1.0)),
        ([-4.0, 0.0], "0 to maximum", (0.1, 1.0)),
        ([7.0, 7.0], "minimum to maximum", (7.0, 7.07)),
        ([5e-324], "0 to maximum", (5e-324, 1e-323)),
    ],
)
def test_a_log_scale_begins_above_zero(values: list[float], mode: str, expected: tuple[float, float]) -> None:
    assert log_limits(values, mode) == pytest.approx(expected, rel=1e-12, abs=0)


def test_locked_limits_stay_on_a_log_scale_too_when_smaller_values_come() -> None:
    run = three_points()
    pipeline = pipeline_of(run)
    pipeline.limits()
    pipeline.choices.param.update(limits="locked", scale="log")
    before = pipeline.limits()
    assign(run, [(4, 1e-9, 1e-9)])
    assert pipeline.limits() == before


def test_locked_limits_stay_as_they_were_when_more_comes() -> None:
    run = three_points()
    pipeline = pipeline_of(run)
    before = pipeline.limits()
    pipeline.choices.limits = "locked"
    assign(run, [(4, 1000.0, 1000.0)])
    assert pipeline.limits() == before == [(0.0, 7.0), (0.0, 90.0)]
    pipeline.choices.limits = "0 to maximum"
    assert pipeline.limits() == [(0.0, 1000.0), (0.0, 1000.0)]


def test_limits_locked_before_the_first_point_are_held_from_the_first_on() -> None:
    run = run_of()
    pipeline = pipeline_of(run)
    pipeline.limits()
    pipeline.choices.limits = "locked"
    pipeline.limits()
    assign(run, [(1, 5.0, 50.0)])
    assert pipeline.limits() == [(0.0, 5.0), (0.0, 50.0)]
    assign(run, [(2, 7.0, 90.0)])
    assert pipeline.limits() == [(0.0, 5.0), (0.0, 50.0)]


def test_locked_limits_can_be_drawn_on_a_log_scale_and_come_back_on_a_linear_one() -> None:
    pipeline = pipeline_of(three_points())
    before = pipeline.limits()
    pipeline.choices.param.update(limits="locked", scale="log")
    assert all(0 < low < high for low, high in pipeline.limits())
    pipeline.choices.scale = "linear"
    assert pipeline.limits() == before


@examples(60)
@given(points, st.sampled_from(LIMITS), st.floats(-10, 1e6), st.floats(-10, 1e6))
def test_limits_rise_on_every_scale_and_are_above_zero_on_a_log_one(
    told: list[tuple[int, float, float]], mode: str, low: float, high: float
) -> None:
    run = run_of()
    for _ in range(2):  # without a point, and with some
        linear = limits(run, limits=mode, low=low, high=high)
        log = limits(run, limits=mode, low=low, high=high, scale="log")
        assert all(bottom < top for bottom, top in [*linear, *log])
        assert all(bottom > 0 for bottom, _ in log)
        assign(run, told)


# histogram, brush, summaries


def test_the_histogram_of_the_whole_map_and_of_a_box_equal_numpys() -> None:
    run = run_of(13, 11)
    scattered(run, 100)
    pipeline = pipeline_of(run)
    for name, number in (("red", 0), ("total", 1)):
        for box in (None, (0, 13, 0, 11), (2, 9, 3, 4), (12, 13, 10, 11)):
            pipeline.choices.param.update(channel=name, box=box)
            row0, row1, column0, column1 = box or (0, 13, 0, 11)
            part = run.maps.grids[number, row0:row1, column0:column1]
            known = part[~np.isnan(part)]
            shares = known / np.nanmax(run.maps.grids[number])
            expected = np.bincount(np.minimum((shares * BINS).astype(int), BINS - 1), minlength=BINS)
            np.testing.assert_array_equal(pipeline.histogram(), expected)


def test_brushed_summaries_equal_numpys() -> None:
    run = run_of(13, 11)
    scattered(run, 100)
    pipeline = pipeline_of(run)
    pipeline.choices.param.update(channel="red", brush=(0.25, 0.5))
    red = run.maps.grids[0]
    chosen = (red >= 0.25 * np.nanmax(red)) & (red <= 0.5 * np.nanmax(red))
    mask = pipeline.brushed()
    assert mask is not None
    np.testing.assert_array_equal(mask.reshape(red.shape), chosen)
    for grid, summary in zip(run.maps.grids, pipeline.summaries(), strict=True):
        values = grid[chosen]
        row, column = np.argwhere(chosen & (grid == values.max()))[0]
        expected = (values.min(), values.max(), values.mean(), values.sum(), row, column, len(values))
        assert astuple(summary) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "brush", "chosen"),
    [
        ([-3.03e-7 * number for number in range(1, 13)], (0.0, 1.0), range(12)),
        ([-3.03e-7 * number for number in range(1, 13)], (0.5, 1.0), range(6)),
        ([-1.0, 0.0, 1.0, 3.0], (0.25, 0.5), [1, 2]),
        ([-2.0, -2.0], (0.0, 0.1), range(2)),
        ([0.0, 0.0], (0.0, 0.1), range(2)),
        ([0.1, 0.3, math.nan], (0.9, 1.0), [1]),
        ([math.nan], (0.0, 1.0), []),
    ],
)
def test_a_brush_is_a_part_of_the_range_of_its_channel(
    values: list[float], brush: tuple[float, float], chosen: Any
) -> None:
    run = run_of()
    assign(run, [(number, value, value) for number, value in enumerate(values, 1)])
    pipeline = pipeline_of(run)
    pipeline.choices.param.update(channel="red", brush=brush)
    mask = pipeline.brushed()
    assert mask is not None
    cells, _ = run.raster.cells(np.arange(1, len(values) + 1))
    assert np.flatnonzero(mask[cells]).tolist() == list(chosen)


def test_summaries_without_a_brush_are_those_of_all_pixels() -> None:
    run = three_points()
    told = pipeline_of(run).summaries()
    assert [(summary.minimum, summary.maximum, summary.points) for summary in told] == [(5.0, 7.0, 3), (50.0, 90.0, 3)]


def test_a_channel_that_the_run_does_not_have_means_the_total() -> None:
    pipeline = pipeline_of(run_of())
    pipeline.choices.channel = "blue"
    assert pipeline.channel == 1


def test_before_the_first_point_there_is_nothing_to_count() -> None:
    pipeline = pipeline_of(run_of())
    pipeline.choices.param.update(brush=(0.0, 1.0), box=(0, 2, 0, 2))
    assert pipeline.histogram().sum() == 0
    assert [summary.points for summary in pipeline.summaries()] == [0, 0]


# how often what is computed


def test_colors_brush_and_box_recompute_no_map() -> None:
    run = three_points()
    pipeline = pipeline_of(run)
    browser = Browser(pipeline)
    browser.look()
    before = dict(pipeline.counts)
    for choice in ({"limits": "locked"}, {"scale": "log"}, {"brush": (0.0, 0.5)}, {"box": (0, 2, 0, 2)}):
        pipeline.choices.param.update(**choice)
        pipeline.limits()
        pipeline.histogram()
        pipeline.summaries()
    assert {name: pipeline.counts[name] - before[name] for name in before} == {
        "update": 0,
        "everything": 0,
        "histogram": 1,
        "limits": 4,
        "summaries": 2,
    }


# levels


def test_two_tabs_share_a_level() -> None:
    run, levels = run_of(13, 13), RenderCache()
    assert level_of(levels, run, 4) is level_of(levels, run, 4)
    assert levels.count == 1


def test_the_levels_of_a_forgotten_run_go_with_it() -> None:
    levels = RenderCache()
    run = run_of(13, 13)
    gone = weakref.ref(run.maps)
    for step in (1, 2, 4):
        level_of(levels, run, step)
    del run
    gc.collect()
    assert gone() is None
    assert levels.count == 0


def test_maps_that_were_replaced_are_not_kept_by_their_levels() -> None:
    levels, run = RenderCache(), run_of(13, 13)
    gone = weakref.ref(run.maps)
    for step in (1, 2, 4):
        level_of(levels, run, step)
    run.main.maps = Maps(run.raster, CHANNELS)
    assert level_of(levels, run, 2).picture.maps is run.maps
    gc.collect()
    assert gone() is None
    assert levels.count == 1


def test_however_one_zooms_there_are_few_levels() -> None:
    run, levels = run_of(13, 13), RenderCache()
    pipeline = pipeline_of(run, levels)
    for size in range(1, 100):
        pipeline.resize(view=None, pixels=(size / 5, size / 7))
        pipeline.everything()
    assert levels.count <= 5
