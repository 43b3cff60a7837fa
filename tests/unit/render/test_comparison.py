"""Two runs laid over one another, and the small pictures of runs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.errors import GeometryError
from snakemap.render.comparison import compare_maps
from snakemap.render.thumbnail import thumbnail


def maps(x: Any, y: Any, values: Any, *, known: bool = True, names: tuple[str, str] = ("y", "x")) -> Maps:
    """Maps of one channel whose cell (row, column) has a value; NaN is not visited."""
    y, x, values = (np.asarray(one, dtype=float) for one in (y, x, values))
    axes = [Axis(name, "mm", at, known=known) for name, at in zip(names, (y, x), strict=True)]
    made = Maps(Raster(values.shape, (False, False), axes[0], axes[1], "test"), ("total",))
    for number, value in enumerate(values.ravel(), 1):
        if value == value:
            made.assign([number], {"total": [value]})
    return made


def test_the_same_places_are_compared_cell_by_cell() -> None:
    comparison = compare_maps(
        maps([0, 1], [0, 1], [[1, 2], [4, 0]]), maps([0, 1], [0, 1], [[3, 2], [2, np.nan]]), "total"
    )
    np.testing.assert_array_equal(comparison.difference, [[2, 0], [-2, np.nan]])
    np.testing.assert_array_equal(comparison.ratio, [[3, 1], [0.5, np.nan]])
    assert comparison.note == ""
    assert comparison.limits == (0.0, 4.0)


def test_nothing_is_divided_by_nothing() -> None:
    comparison = compare_maps(maps([0], [0], [[0]]), maps([0], [0], [[5]]), "total")
    assert np.isnan(comparison.ratio).all()
    np.testing.assert_array_equal(comparison.difference, [[5]])


def test_a_scan_that_ran_the_other_way_is_laid_over_rightly() -> None:
    one = maps([0, 1, 2], [0, 1], [[1, 2, 3], [4, 5, 6]])
    other = maps([2, 1, 0], [1, 0], [[6, 5, 4], [3, 2, 1]])
    for comparison in (compare_maps(one, other, "total"), compare_maps(other, one, "total")):
        np.testing.assert_array_equal(comparison.difference, np.zeros((2, 3)))
        np.testing.assert_array_equal(comparison.first, [[1, 2, 3], [4, 5, 6]])


def test_another_region_is_shown_where_it_overlaps() -> None:
    comparison = compare_maps(maps([0, 1, 2], [0], [[1, 2, 3]]), maps([1.1, 2.1, 3.1], [0], [[20, 30, 40]]), "total")
    np.testing.assert_array_equal(comparison.second, [[np.nan, 20, 30]])
    assert "nearest" in comparison.note
    apart = compare_maps(maps([0, 1], [0], [[1, 2]]), maps([50, 51], [0], [[1, 2]]), "total")
    assert apart.note == "the runs do not overlap"
    assert np.isnan(apart.difference).all()


def test_without_coordinates_shapes_must_be_one() -> None:
    comparison = compare_maps(maps([0, 1], [0], [[1, 2]], known=False), maps([0, 1], [0], [[3, 4]]), "total")
    np.testing.assert_array_equal(comparison.difference, [[2, 2]])
    assert comparison.note == "compared row by row and column by column"
    with pytest.raises(GeometryError, match="have no positions and have different shapes: 1 x 2 and 1 x 3"):
        compare_maps(maps([0, 1], [0], [[1, 2]], known=False), maps([0, 1, 2], [0], [[3, 4, 5]]), "total")
    with pytest.raises(GeometryError, match="move different axes"):
        compare_maps(maps([0, 1], [0], [[1, 2]]), maps([0, 1, 2], [0], [[3, 4, 5]], names=("a", "b")), "total")
    with pytest.raises(GeometryError, match="has no map 'red'"):
        compare_maps(maps([0], [0], [[1]]), maps([0], [0], [[1]]), "red")


def test_a_small_picture_is_as_the_map_and_clear_where_nothing_was_visited() -> None:
    png = thumbnail(maps([0, 1], [0, 1], [[np.nan, 1], [10, 5]]))
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert image.shape == (40, 40, 4)
    alpha, light = image[..., 3], image[..., :3].sum(axis=-1, dtype=int)
    assert (alpha[30, 5], alpha[30, 35], alpha[5, 5], alpha[5, 35]) == (0, 255, 255, 255)
    assert light[5, 5] > light[5, 35] > light[30, 35]


def test_a_large_map_has_a_small_picture_and_an_empty_one_too() -> None:
    grid = np.arange(300.0 * 500).reshape(300, 500)
    image = Image.open(io.BytesIO(thumbnail(maps(np.arange(500), np.arange(3), grid[:3]))))
    assert max(image.size) <= 40
    assert thumbnail(maps([0, 1], [0], [[np.nan, np.nan]]))


def test_a_small_picture_of_five_channels_keeps_the_first_and_the_last() -> None:
    channels = ("red", "green", "blue", "spot", "total")
    five = Maps(Raster.of_shape((40, 40), snake=False, source="test"), channels)
    five.assign(np.arange(1, 1601), {name: np.arange(1600.0) for name in channels})
    image = np.asarray(Image.open(io.BytesIO(thumbnail(five))).convert("RGBA"))
    assert image.shape == (40, 4 * 40 + 3 * 2, 4)
    shown = [image[:, 42 * number : 42 * number + 40, :3].max(axis=(0, 1)) for number in range(4)]
    assert [int(color.argmax()) for color in shown[:3]] == [0, 1, 2]
    assert shown[3].min() > 200  # the highest count of a palette that ends in white
