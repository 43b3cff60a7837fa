from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scanspec.core import Path
from scanspec.specs import Linspace, Snake, Spec
from tests.support.properties import examples

from snakemap.core.geometry import ScanDefaults
from snakemap.core.raster import AXES_MAX, CELLS_MAX, Axis, Raster, unravel
from snakemap.core.scan_geometry import raster_of
from snakemap.errors import GeometryError

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4)

TABLES = {
    ((3, 4), (False, False)): ["1 2 3 4", "5 6 7 8", "9 10 11 12"],
    ((3, 4), (False, True)): ["1 2 3 4", "8 7 6 5", "9 10 11 12"],
    ((4, 3), (False, True)): ["1 2 3", "6 5 4", "7 8 9", "12 11 10"],
    ((1, 4), (False, True)): ["1 2 3 4"],
    ((4, 1), (False, True)): ["1", "2", "3", "4"],
    ((5,), (False,)): ["1 2 3 4 5"],
    ((5,), (True,)): ["1 2 3 4 5"],
    ((2, 2, 3), (False, False, False)): ["1 2 3", "4 5 6", "7 8 9", "10 11 12"],
    ((2, 2, 3), (False, False, True)): ["1 2 3", "6 5 4", "7 8 9", "12 11 10"],
    ((2, 2, 3), (False, True, False)): ["1 2 3", "4 5 6", "10 11 12", "7 8 9"],
    ((2, 2, 3), (False, True, True)): ["1 2 3", "6 5 4", "12 11 10", "7 8 9"],
    ((2, 3, 3), (False, False, True)): ["1 2 3", "6 5 4", "7 8 9", "12 11 10", "13 14 15", "18 17 16"],
}
"""Seq_num of each cell; rows of more than two axes are all but the last in one, the slowest outermost."""


def raster(shape: tuple[int, ...], snaking: tuple[bool, ...]) -> Raster:
    slow, fast = Axis.of_indices("row", math.prod(shape[:-1])), Axis.of_indices("column", shape[-1])
    return Raster(shape=shape, snaking=snaking, slow=slow, fast=fast, source="test")


def numbered(of: Raster) -> np.ndarray:
    """The seq_num of every cell."""
    grid = np.zeros((of.rows, of.columns), dtype=int)
    rows, columns, inside = of.pixel(np.arange(1, of.size + 1))
    assert inside.all()
    grid[rows, columns] = np.arange(1, of.size + 1)
    return grid


@pytest.mark.parametrize(("shape", "snaking"), TABLES)
def test_points_are_visited_in_the_order_of_the_table(shape: tuple[int, ...], snaking: tuple[bool, ...]) -> None:
    table = [" ".join(map(str, row)) for row in numbered(raster(shape, snaking))]
    assert table == TABLES[shape, snaking]


@examples(80)
@given(
    st.lists(
        st.tuples(st.integers(1, 7), st.booleans(), st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=3
    )
)
def test_row_and_column_have_the_coordinates_that_scanspec_gives_the_point(
    axes: list[tuple[int, bool, float, float]],
) -> None:
    lines: list[Spec[str]] = [
        Snake(Linspace(f"m{depth}", start, stop, num)) if snake else Linspace(f"m{depth}", start, stop, num)
        for depth, (num, snake, start, stop) in enumerate(axes)
    ]
    spec = reduce(lambda outer, inner: outer * inner, lines)
    points = Path(spec.calculate()).consume().midpoints
    published = raster_of({"scanspec": spec.serialize()}, defaults=ScanDefaults())
    indices = unravel(np.arange(1, published.size + 1), published.shape, snaking=published.snaking)
    for depth, (num, _, start, stop) in enumerate(axes):
        np.testing.assert_allclose(np.linspace(start, stop, num)[indices[depth]], points[f"m{depth}"], atol=1e-9)
    rows, columns, inside = published.pixel(np.arange(1, published.size + 1))
    assert inside.all()
    np.testing.assert_array_equal(published.fast.coordinates[columns], points[f"m{len(axes) - 1}"])
    assert published.fast.name == f"m{len(axes) - 1}"
    if len(axes) == 2:
        np.testing.assert_array_equal(published.slow.coordinates[rows], points["m0"])
        assert published.slow.name == "m0"
    elif len(axes) == 3:
        np.testing.assert_array_equal(rows, indices[0] * axes[1][0] + indices[1])


@examples(200)
@given(shapes, st.data())
def test_every_cell_is_visited_exactly_once(shape: list[int], data: st.DataObject) -> None:
    snaking = tuple(data.draw(st.booleans()) for _ in shape)
    one = raster(tuple(shape), snaking)
    cells, inside = one.cells(np.arange(1, one.size + 1))
    assert inside.all()
    assert sorted(cells.tolist()) == list(range(one.size))


@examples(100)
@given(shapes, st.data())
def test_a_snaked_path_never_jumps(shape: list[int], data: st.DataObject) -> None:
    snaking = (False, *(True for _ in shape[1:]))
    steps = np.abs(np.diff(unravel(range(1, math.prod(shape) + 1), shape, snaking=snaking), axis=1))
    assert (steps.sum(axis=0) == 1).all()


@examples(200)
@given(shapes, st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 1300), max_size=20))
def test_points_outside_the_grid_are_told_and_left_out(shape: list[int], seq_nums: list[int]) -> None:
    one = Raster.of_shape(shape, snake=True, source="test")
    rows, columns, inside = one.pixel(np.array(seq_nums, dtype=np.int64))
    assert inside.tolist() == [1 <= seq_num <= one.size for seq_num in seq_nums]
    assert len(rows) == len(columns) == np.count_nonzero(inside)
    assert ((rows >= 0) & (rows < one.rows) & (columns >= 0) & (columns < one.columns)).all()
    assert (rows.dtype, columns.dtype) == (np.int64, np.int64)


@examples(100)
@given(shapes, st.booleans(), st.data())
def test_cells_number_the_pixels_row_by_row(shape: list[int], snake: bool, data: st.DataObject) -> None:
    one = Raster.of_shape(shape, snake=snake, source="test")
    seq_nums = data.draw(st.lists(st.integers(0, one.size + 1), max_size=20))
    rows, columns, _ = one.pixel(seq_nums)
    cells, _ = one.cells(seq_nums)
    assert cells.tolist() == (rows * one.columns + columns).tolist()


def test_a_single_point_may_be_asked_for_without_a_list() -> None:
    rows, columns, inside = Raster.of_shape((7, 9), snake=True, source="test").pixel(10)
    assert (rows.tolist(), columns.tolist(), inside.tolist()) == ([1], [8], [True])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (-1, 4), (CELLS_MAX + 1,), (2**40, 2**40), (1,) * (AXES_MAX + 1)])
def test_a_shape_that_cannot_be_drawn_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError):
        Raster.of_shape(shape, snake=True, source="test")
    with pytest.raises(GeometryError):
        Raster(
            shape=shape,
            snaking=(False,) * len(shape),
            slow=Axis.of_indices("row", 1),
            fast=Axis.of_indices("column", 1),
            source="test",
        )


def test_the_largest_number_of_axes_still_tells_every_pixel() -> None:
    one = Raster.of_shape((2,) * AXES_MAX, snake=True, source="test")
    cells, inside = one.cells(np.arange(1, one.size + 1))
    assert inside.all()
    assert np.array_equal(np.sort(cells), np.arange(one.size))


def test_axes_that_do_not_fit_the_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match="axes of 2 x 4"):
        Raster(
            shape=(3, 4),
            snaking=(False, True),
            slow=Axis.of_indices("row", 2),
            fast=Axis.of_indices("column", 4),
            source="test",
        )


def test_snaking_that_does_not_fit_the_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="snaking"):
        raster((3, 4), (False,))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.7e308])
def test_coordinates_that_are_not_finite_are_refused(bad: float) -> None:
    fast = Axis("x", "mm", np.array([-1.7e308, bad]))
    with pytest.raises(GeometryError, match="coordinates of row or x that are not finite"):
        Raster(shape=(1, 2), snaking=(False, True), slow=Axis.of_indices("row", 1), fast=fast, source="test")


@pytest.mark.parametrize(
    ("coordinates", "bounds", "decreases"),
    [
        ([0.0, 1.0, 2.0], (-0.5, 2.5), False),
        ([4.0, 3.0, 2.0], (1.5, 4.5), True),
        ([0.0, 0.1], (-0.05, 0.15), False),
        ([7.0], (6.5, 7.5), False),
        ([7.0, 7.0, 7.0], (6.5, 7.5), False),
    ],
)
def test_bounds_lie_half_a_step_beyond_the_outermost_coordinates(
    coordinates: list[float], bounds: tuple[float, float], decreases: bool
) -> None:
    axis = Axis("x", "mm", np.array(coordinates))
    assert axis.bounds == pytest.approx(bounds)
    assert axis.decreases is decreases


def test_an_axis_of_which_nothing_is_known_counts_from_zero_and_says_so() -> None:
    axis = Axis.of_indices("column", 3)
    assert (axis.coordinates.tolist(), axis.known, axis.label) == ([0.0, 1.0, 2.0], False, "column")


def test_a_label_holds_the_unit_when_it_is_known() -> None:
    assert Axis("stage-x", "mm", np.zeros(1)).label == "stage-x (mm)"


def test_units_fill_in_only_what_was_not_known() -> None:
    slow, fast = Axis("x", "", np.arange(2.0)), Axis("y", "mm", np.arange(3.0))
    before = Raster(shape=(2, 3), snaking=(False, True), slow=slow, fast=fast, source="test", note="note")
    after = before.with_units({"x": "um", "y": "m", "z": "deg"})
    assert (after.slow.label, after.fast.label) == ("x (um)", "y (mm)")
    assert (after.shape, after.snaking, after.source, after.note) == ((2, 3), (False, True), "test", "note")
    assert before.slow.unit == ""


def test_extents_are_the_bounds_of_the_slow_axis_and_of_the_fast_one() -> None:
    assert Raster.of_shape((2, 3), snake=True, source="test").extents == ((-0.5, 1.5), (-0.5, 2.5))


@pytest.mark.parametrize(
    ("shape", "snake", "described"),
    [
        ((7, 9), True, "7 x 9, snaked, from test"),
        ((7, 9), False, "7 x 9, row by row, from test"),
        ((40,), True, "40, from test"),
        ((2, 3, 4), True, "2 x 3 x 4, snaked, from test"),
    ],
)
def test_one_line_describes_the_raster(shape: tuple[int, ...], snake: bool, described: str) -> None:
    assert Raster.of_shape(shape, snake=snake, source="test").described == described


def test_rasters_can_be_compared_without_comparing_their_arrays() -> None:
    one, other = Raster.of_shape((2, 3), snake=True, source="test"), Raster.of_shape((2, 3), snake=True, source="test")
    assert one == one
    assert one != other
    assert len({one, other}) == 2


@examples(200)
@given(shapes, st.data())
def test_the_point_of_a_cell_is_the_one_that_visits_it(shape: list[int], data: st.DataObject) -> None:
    one = raster(tuple(shape), tuple(data.draw(st.booleans()) for _ in shape))
    seq_nums = np.arange(1, one.size + 1)
    cells, _ = one.cells(seq_nums)
    assert one.seq_nums(cells).tolist() == seq_nums.tolist()
    assert one.cells(one.seq_nums(np.arange(one.size)))[0].tolist() == list(range(one.size))


@pytest.mark.parametrize(
    ("coordinates", "even"),
    [([1.0], True), ([3.0, 1.0], True), ([0.0, 1.0, 2.0005], True), ([0.0, 1.0, 3.0], False), ([5.0, 5.0], True)],
)
def test_an_axis_knows_whether_its_coordinates_are_evenly_spaced(coordinates: list[float], even: bool) -> None:
    assert Axis("x", "mm", np.array(coordinates)).even is even
