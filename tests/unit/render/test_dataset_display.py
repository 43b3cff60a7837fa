import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemap.dashboard.format import bytes_text
from snakemap.render.dataset_display import (
    color_levels,
    color_limits,
    displays_of,
    envelope,
    image_window,
    leading,
    line_step,
    part_of,
)


def about(shape: list[int] | None, values: str = "number", *, dtype: str = "uint8", interpretation: str = "") -> Any:
    return {"shape": shape, "values": values, "dtype": dtype, "interpretation": interpretation}


@pytest.mark.parametrize(
    ("about", "first"),
    [
        (about([]), "scalar"),
        (about([], "string"), "scalar"),
        (about(None), "nothing"),
        (about([0, 5]), "nothing"),
        (about([5], "none"), "nothing"),
        (about([7]), "line"),
        (about([7, 1]), "line"),
        (about([1, 7]), "line"),
        (about([7, 8], interpretation="spectrum"), "line"),
        (about([7, 8]), "image"),
        (about([7, 8], "bool"), "image"),
        (about([7, 8], "complex"), "image"),
        (about([2, 3, 7, 8]), "image"),
        (about([70, 80, 3]), "color image"),
        (about([9, 70, 80, 4], dtype="uint16, big-endian"), "color image"),
        (about([70, 80, 3], dtype="float64"), "image"),
        (about([70, 80, 3], dtype="float64", interpretation="rgb-image"), "color image"),
        (about([2, 3, 3]), "image"),
        (about([4], "string"), "table"),
        (about([4, 5], "compound"), "table"),
        (about([4], "opaque"), "table"),
        (about([4], "enum"), "line"),
    ],
)
def test_each_shape_has_its_display(about: Any, first: str) -> None:
    assert displays_of(about)[0] == first
    assert 0 <= leading(first, about["shape"] or []) <= len(about["shape"] or [])


@given(
    st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)),
    st.one_of(st.none(), st.tuples(*[st.floats(-1e8, 1e8)] * 4)),
    st.integers(1, 10**6),
)
def test_never_more_of_an_image_is_read_than_allowed(
    shape: tuple[int, int], view: tuple[float, float, float, float] | None, most: int
) -> None:
    rows, columns = image_window(shape, view, most=most)
    for (start, stop, step), size in zip((rows, columns), shape, strict=True):
        assert 0 <= start < stop <= size
        assert step >= 1
    read = [math.ceil((stop - start) / step) for start, stop, step in (rows, columns)]
    assert math.prod(read) <= most


@given(st.integers(1, 10**12), st.integers(1, 10**6))
def test_never_more_of_a_line_is_read_than_allowed(length: int, most: int) -> None:
    assert math.ceil(length / line_step(length, most=most)) <= most


@given(st.integers(0, 5000), st.integers(10, 200), st.integers(0, 100))
def test_the_extremes_of_a_line_survive_and_its_points_are_few(count: int, bins: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = np.arange(count, dtype=float), random.normal(size=count)
    y[random.random(count) < 0.1] = np.nan
    seen_x, seen_y = envelope(x, y, start=-1, stop=count, bins=bins)
    assert len(seen_x) == len(seen_y) <= 3 * bins
    assert np.all(np.diff(seen_x) >= 0)
    if np.isfinite(y).any():
        assert (np.nanmin(seen_y), np.nanmax(seen_y)) == (np.nanmin(y), np.nanmax(y))


def test_a_closer_look_at_a_line_brings_its_points() -> None:
    x = np.arange(100_000, dtype=float)
    seen_x, seen_y = envelope(x, np.sin(x), start=500, stop=600, bins=100)
    assert seen_x.tolist() == list(range(499, 602))
    np.testing.assert_array_equal(seen_y, np.sin(seen_x))


def test_parts_of_complex_numbers() -> None:
    values = np.array([3 + 4j, 1j])
    assert part_of(values, "amplitude").tolist() == [5, 1]
    assert part_of(values, "phase").tolist() == pytest.approx([53.1301, 90])
    assert part_of(values, "real part").tolist() == [3, 0]
    assert part_of(values, "imaginary part").tolist() == [4, 1]
    assert part_of(np.array([True, False]), "phase").tolist() == [1, 0]


def test_color_limits_leave_out_what_is_rare_and_never_are_the_same() -> None:
    values = np.zeros(10_000)
    values[:5_000] = np.linspace(0, 1, 5_000)
    values[0] = 1e9
    low, high = color_limits(values, "1 % to 99 %")
    assert (low, high) == (0, pytest.approx(0.98, abs=0.01))
    assert color_limits(np.full(5, 7.0), "full range") == (7, 14)
    assert color_limits(np.full(5, np.nan), "full range") == (0, 1)
    assert color_limits(np.array([-1.0, 0.0]), "full range", log=True) == (1, 10)
    few = np.zeros(10_000)
    few[3] = 5
    assert color_limits(few, "1 % to 99 %") == (0, 5)


def test_colors_are_those_of_the_file() -> None:
    image = np.array([[[1, 2, 3], [255, 0, 128]]], np.uint8)
    assert color_levels(image).tolist() == [[[1, 2, 3, 255], [255, 0, 128, 255]]]
    assert color_levels(image.astype(np.uint16) * 100).view(np.uint8).reshape(1, 2, 4)[0, 1].tolist() == [
        255,
        0,
        128,
        255,
    ]


@given(st.integers(0, 10**21))
def test_sizes_are_told_in_few_letters(size: int) -> None:
    assert len(bytes_text(size)) <= 10
