from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.maps import BINS, OUT_OF_RANGE_MAX, ChannelSummary, Maps, histogram, summarize, value_at
from snakemap.core.raster import Raster

CHANNELS = ("red", "green", "total")
NAN = math.nan

counts = st.integers(0, 50).map(float) | st.floats(0, 1e9) | st.sampled_from([NAN, -5.0, 0.0, 65535.0 * 2**20])
steps_of_assignment = st.tuples(
    st.lists(st.integers(-2, 16), max_size=8),
    st.sets(st.sampled_from(CHANNELS), min_size=1),
    st.lists(counts, min_size=1, max_size=5),
)
assignments = st.lists(steps_of_assignment, max_size=8)
Step = tuple[list[int], set[str], list[float]]


def columns(step: Step) -> dict[str, list[float]]:
    """A column for each channel of a step; the values that were drawn come again and again."""
    seq_nums, channels, values = step
    rolls = [values[n % len(values) :] + values[: n % len(values)] for n in range(len(channels))]
    return {name: (roll * len(seq_nums))[: len(seq_nums)] for name, roll in zip(sorted(channels), rolls, strict=True)}


def maps(rows: int = 3, columns: int = 4, channels: tuple[str, ...] = CHANNELS) -> Maps:
    return Maps(Raster.of_shape((rows, columns), snake=True, source="test"), channels)


def assign(to: Maps, step: Step) -> int:
    return to.assign(step[0], columns(step))


def alike(values: list[float]) -> dict[str, list[float]]:
    return {name: list(values) for name in CHANNELS}


def plain_histogram(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The histogram of a grid, by numpy alone."""
    known = grid[~np.isnan(grid)]
    if not len(known):
        return np.zeros(BINS, dtype=np.int64)
    low, high = plain_span(grid)
    shares = (known - low) / (high - low)
    return np.bincount(np.minimum((shares * BINS).astype(int), BINS - 1), minlength=BINS)


def plain_span(grid: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The range of a histogram, from the values themselves."""
    known = grid[~np.isnan(grid)].tolist()
    if not known:
        return NAN, NAN
    if not any(known):
        return 0.0, 1.0
    if len(set(known)) == 1:
        return min(known[0], 0.0), max(known[0], 0.0)
    return min(*known, 0.0), max(known)


def plain_summary(grid: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The summary of a grid, by numpy alone."""
    known = grid[~np.isnan(grid)]
    if not len(known):
        return (NAN, NAN, NAN, 0.0, -1, -1, 0)
    row, column = np.argwhere(grid == known.max())[0]
    return (known.min(), known.max(), known.mean(), known.sum(), row, column, len(known))


def check(of: Maps) -> None:
    """Everything that is kept by increments equals what numpy computes from the grids."""
    for number, grid in enumerate(of.grids):
        np.testing.assert_array_equal(of.histogram(number), plain_histogram(grid))
        np.testing.assert_allclose(astuple(of.summary(number)), plain_summary(grid), rtol=1e-12, atol=1e-6)
        np.testing.assert_array_equal(of.reference[number], plain_summary(grid)[1])
        np.testing.assert_array_equal(of.span(number), plain_span(grid))
        positive = grid[grid > 0]
        np.testing.assert_array_equal(of.least_positive(number), positive.min() if len(positive) else NAN)


@examples(80)
@given(assignments, st.lists(st.booleans(), min_size=8, max_size=8))
def test_histogram_summary_and_reference_equal_numpy_after_any_assignments(
    steps: list[Step], looked_at: list[bool]
) -> None:
    one = maps()
    for step, look in zip(steps, looked_at, strict=False):
        assign(one, step)
        if look:
            check(one)
    check(one)


@examples(80)
@given(assignments)
def test_grids_hold_the_last_value_of_every_point_and_visited_those_that_came(steps: list[Step]) -> None:
    one = maps()
    grids = np.full((3, 3, 4), NAN)
    came: set[int] = set()
    outside: set[int] = set()
    for step in steps:
        seq_nums = step[0]
        inside = assign(one, step)
        assert inside == sum(1 <= seq_num <= 12 for seq_num in seq_nums)
        for position, seq_num in enumerate(seq_nums):
            if not 1 <= seq_num <= 12:
                outside.add(seq_num)
                continue
            came.add(seq_num)
            row, along = divmod(seq_num - 1, 4)
            for name, values in columns(step).items():
                grids[CHANNELS.index(name), row, 3 - along if row % 2 else along] = values[position]
    np.testing.assert_array_equal(one.grids, grids)
    assert (one.visited, one.out_of_range) == (len(came), len(outside))
    assert int(one.visited_cells().sum()) == len(came)
    assert [seq_num for seq_num in range(-1, 15) if one.seen(seq_num)] == sorted(came)
    assert one.missing(range(-1, 15)).tolist() == [seq_num for seq_num in range(1, 13) if seq_num not in came]


@examples(80)
@given(assignments, st.integers(0, 12))
def test_whoever_copies_the_changed_cells_has_the_same_grids(steps: list[Step], joined_at: int) -> None:
    one = maps()
    copy = one.grids.reshape(3, -1).copy()
    version = 0
    for number, step in enumerate(steps):
        before, known = one.grids.copy(), one.visited_cells().copy()
        was = one.version
        assign(one, step)
        different = (before != one.grids) & ~(np.isnan(before) & np.isnan(one.grids))
        news = different.any(axis=0).ravel() | (known != one.visited_cells())
        assert one.changed(was).tolist() == np.flatnonzero(news).tolist()
        if number >= joined_at:
            cells = one.changed(version)
            for channel in range(3):
                copy[channel, cells] = one.values(channel, cells)
            version = one.version
            np.testing.assert_array_equal(copy.reshape(one.grids.shape), one.grids)


@examples(50)
@given(assignments)
def test_assigning_everything_again_in_the_end_changes_nothing_but_what_had_been_replaced(steps: list[Step]) -> None:
    one = maps()
    seq_nums = np.arange(1, 13)
    for step in steps:
        assign(one, step)
    came = seq_nums[np.isin(seq_nums, one.missing(seq_nums), invert=True)]
    cells, _ = one.raster.cells(came)
    version, last = one.version, one.last_cell
    one.assign(came, {name: one.values(number, cells) for number, name in enumerate(CHANNELS)})
    assert (one.version, one.last_cell) == (version, last)
    assert len(one.changed(version)) == 0
    check(one)


def test_before_the_first_point_everything_is_blank() -> None:
    one = maps()
    assert np.isnan(one.grids).all()
    assert np.isnan(one.reference).all()
    assert (one.version, one.visited, one.out_of_range, one.last_cell) == (0, 0, 0, -1)
    np.testing.assert_equal(astuple(one.summary(0)), (NAN, NAN, NAN, 0.0, -1, -1, 0))
    assert one.histogram(0).tolist() == [0] * BINS
    assert one.changed(0).tolist() == []


def test_a_smaller_value_in_place_of_the_maximum_lowers_the_reference() -> None:
    one = maps(channels=("total",))
    one.assign([1, 2, 3], {"total": [5.0, 100.0, 7.0]})
    assert (one.reference.tolist(), one.summary(0).column) == ([100.0], 1)
    one.assign([2], {"total": [6.0]})
    assert one.summary(0) == ChannelSummary(5.0, 7.0, 6.0, 18.0, 0, 2, 3)
    assert one.histogram(0)[-1] == 1


def test_a_repeated_point_is_counted_once_in_the_histogram() -> None:
    one = maps(channels=("total",))
    one.assign([1, 2], {"total": [10.0, 5.0]})
    assert one.histogram(0).sum() == 2
    one.assign([2], {"total": [5.0]})
    assert one.histogram(0).sum() == 2
    one.assign([3], {"total": [1.0]})
    assert one.histogram(0).sum() == 3


def test_a_channel_that_comes_later_than_the_others_is_counted_once() -> None:
    one = maps(channels=("red", "total"))
    one.assign([1], {"red": [8.0], "total": [8.0]})
    one.assign([2], {"total": [4.0]})
    assert (one.histogram(0).sum(), one.histogram(1).sum()) == (1, 2)
    one.assign([2], {"red": [4.0]})
    assert (one.histogram(0).sum(), one.histogram(1).sum()) == (2, 2)
    assert (one.visited, one.changed(2).tolist()) == (2, [1])


def test_a_point_whose_sum_is_no_number_has_come_and_stays_blank() -> None:
    one = maps(channels=("total",))
    for value in (NAN, math.inf, -math.inf):
        one.assign([2], {"total": [value]})
        assert np.isnan(one.grids).all()
        assert (one.visited, one.summary(0).points, one.missing([1, 2]).tolist()) == (1, 0, [1])
    check(one)


def test_a_value_replaced_by_no_number_is_forgotten() -> None:
    one = maps(channels=("total",))
    one.assign([1, 2], {"total": [3.0, 9.0]})
    assert one.histogram(0).sum() == 2
    one.assign([2], {"total": [NAN]})
    assert one.summary(0) == ChannelSummary(3.0, 3.0, 3.0, 3.0, 0, 0, 1)
    check(one)


def test_of_equal_maxima_the_first_in_the_grid_is_told_whichever_came_first() -> None:
    for order in ([2, 11, 5], [11, 5, 2], [5, 2, 11]):
        one = maps(channels=("total",))
        for seq_num in order:
            one.assign([seq_num], {"total": [7.0]})
        assert (one.summary(0).row, one.summary(0).column) == (0, 1)


def test_changed_names_each_cell_once_in_rising_order_and_only_the_new() -> None:
    one = maps(columns=4)
    one.assign([1, 2, 3], alike([1.0, 2.0, 3.0]))
    version = one.version
    one.assign([5, 4, 5], alike([1.0, 2.0, 3.0]))
    one.assign([5], alike([9.0]))
    assert one.changed(version).tolist() == [3, 7]
    assert one.changed(0).tolist() == [0, 1, 2, 3, 7]
    assert one.last_cell == 7
    assert one.changed(one.version).tolist() == []


def test_a_point_costs_the_same_however_many_came_before() -> None:
    one = maps(200, 200, channels=("total",))
    one.assign(np.arange(1, 30_001), {"total": np.arange(30_000.0)[::-1] + 1})
    one.histogram(0)
    version = one.version
    for seq_num in range(30_001, 30_011):
        one.assign([seq_num], {"total": [5.0]})
        assert one.changed(version).size == 1
        version = one.version
        one.histogram(0)
    assert one.histogram(0).sum() == 30_010
    check(one)


def test_the_log_of_changes_grows_without_losing_any() -> None:
    one = maps(100, 100, channels=("total",))
    for first in range(1, 10_001, 1000):
        one.assign(np.arange(first, first + 1000), {"total": np.ones(1000)})
    assert one.changed(0).tolist() == list(range(10_000))
    assert one.changed(9_000).tolist() == list(range(9_000, 10_000))


def test_points_beyond_the_raster_are_counted_once_each_and_not_without_end() -> None:
    one = maps()
    for _ in range(3):
        assert one.assign([12, 13, 14, 0], alike([1.0, 2.0, 3.0, 4.0])) == 1
    assert (one.out_of_range, one.visited) == (3, 1)
    for _ in range(3):
        one.assign(np.arange(13, 13 + 2 * OUT_OF_RANGE_MAX), {})
    assert OUT_OF_RANGE_MAX <= one.out_of_range <= 2 * OUT_OF_RANGE_MAX


def test_channels_that_nobody_asked_for_are_left_out() -> None:
    one = maps(channels=("red",))
    one.assign([1], {"red": [1.0], "ultraviolet": [5.0]})
    assert one.grids.shape == (1, 3, 4)
    assert one.summary(0).total == 1.0


def test_large_counts_are_summed_without_loss() -> None:
    one = maps(channels=("total",))
    one.assign([1], {"total": [2.0**52 + 1]})
    one.assign([2], {"total": [1.0]})
    assert one.summary(0).total == 2.0**52 + 2


# histogram and summarize


def test_a_value_at_the_upper_end_falls_into_the_last_bar() -> None:
    bars = histogram(np.array([100.0, 99.9, 0.0, 100.0 / BINS, np.nextafter(100.0 / BINS, 0)]), 0.0, 100.0)
    assert (bars[-1], bars[0], bars[1], bars.sum()) == (2, 2, 1, 5)


@pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (-100.0, -1.0), (-3e-7, 4e-9), (-1.0, 0.0)])
def test_what_is_blank_or_outside_the_range_is_left_out(low: float, high: float) -> None:
    outside = np.array([low - abs(low) - 1, NAN, high + abs(high) + 1, math.inf, -math.inf])
    assert histogram(outside, low, high).sum() == 0
    assert histogram(np.array([low, (low + high) / 2, high]), low, high)[[0, BINS // 2, -1]].tolist() == [1, 1, 1]


@pytest.mark.parametrize("high", [NAN, 0.0, -1.0, math.inf, -math.inf])
def test_nothing_is_counted_over_a_range_without_a_width(high: float) -> None:
    assert histogram(np.array([0.0, 1.0, math.inf, NAN, -1.0]), 0.0, high).tolist() == [0] * BINS


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 5e-324), (0.0, 1e-300), (0.0, 1.7e308), (-1.7e308, 1.7e308), (-1e-300, 0.0), (-5e-324, 0)]
)
def test_the_smallest_and_the_largest_ranges_count_as_well(low: float, high: float) -> None:
    assert histogram(np.array([low, high]), low, high)[[0, -1]].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("values", "span", "bars"),
    [
        ([-3.03e-7 * number for number in range(1, 13)], (-3.636e-6, -3.03e-7), {0: 1, 63: 1}),
        ([-1.0, 0.0, 3.0], (-1.0, 3.0), {0: 1, 16: 1, 63: 1}),
        ([-2.0, -2.0], (-2.0, 0.0), {0: 2}),
        ([0.0, 0.0, 0.0], (0.0, 1.0), {0: 3}),
        ([5.0, 5.0], (0.0, 5.0), {63: 2}),
        ([-0.0], (0.0, 1.0), {0: 1}),
        ([7e287], (0.0, 7e287), {63: 1}),
        ([NAN, NAN], (NAN, NAN), {}),
        ([NAN, math.inf, -math.inf, -4.0, 2.0], (-4.0, 2.0), {0: 1, 63: 1}),
    ],
)
def test_a_histogram_runs_over_all_values_of_its_channel(
    values: list[float], span: tuple[float, float], bars: dict[int, int]
) -> None:
    one = maps(channels=("it",))
    for number, value in enumerate(values, 1):
        one.assign([number], {"it": [value]})
        one.histogram(0)
    assert one.span(0) == pytest.approx(span, rel=1e-12, nan_ok=True)
    counts = one.histogram(0)
    assert {bar: int(counts[bar]) for bar in bars} == bars
    assert counts.sum() == np.count_nonzero(np.isfinite(values))


def test_the_ends_of_a_range_are_exactly_its_lowest_and_highest_values() -> None:
    for low, high in ((-0.1, 0.3), (0.0, 7e287), (-1.7e308, 1.7e308), (-3.636e-6, -3.03e-7)):
        assert (value_at(0.0, low, high), value_at(1.0, low, high)) == (low, high)


def test_a_selection_of_pixels_need_not_lie_side_by_side_in_memory() -> None:
    assert histogram(np.arange(20.0)[::2], 0.0, 18.0).sum() == 10


@examples(100)
@given(st.lists(counts, min_size=1, max_size=12), st.integers(1, 5))
def test_a_summary_of_any_selection_equals_numpy(values: list[float], columns: int) -> None:
    values = values + [NAN] * (-len(values) % columns)
    grid = np.array(values).reshape(-1, columns)
    np.testing.assert_allclose(astuple(summarize(grid.ravel(), columns)), plain_summary(grid), rtol=1e-12)
