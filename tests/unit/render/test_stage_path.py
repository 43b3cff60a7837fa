from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import ScanPath
from snakemap.render.map_view import MapView
from snakemap.render.stage_path import ARROWS, VERTICES_MAX, StagePath, stage_path_of

MM = ("x", "mm"), ("y", "mm")


def of_path(path: ScanPath, size: int) -> Raster:
    axes = Axis.of_indices("row", 1), Axis.of_indices("point", size)
    return Raster(shape=(size,), snaking=(False,), slow=axes[0], fast=axes[1], source="test", path=path)


def places(trail: StagePath, seq_nums: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Where the stage is at some points, as the page finds it."""
    return np.array([np.interp(seq_nums, trail.seq_nums, at) for at in (trail.xs, trail.ys)])


@examples(60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_every_point_of_a_grid_lies_on_its_trail(shape: list[int], snake: bool, exchanged: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    raster = Raster.of_shape(shape, snake=snake, source="test")
    uneven = Axis("x", "mm", random.random(raster.columns))
    for of in (raster, Raster(raster.shape, raster.snaking, raster.slow, uneven, "test")):
        trail = stage_path_of(of, MapView(exchanged=exchanged))
        assert trail is not None
        seq_nums = np.arange(1, of.size + 1)
        rows, columns, _ = of.pixel(seq_nums)
        expected = np.array([of.fast.coordinates[columns], of.slow.coordinates[rows]])
        np.testing.assert_allclose(places(trail, seq_nums), expected[::-1] if exchanged else expected, atol=1e-12)


def test_an_even_row_needs_its_two_ends_only() -> None:
    trail = stage_path_of(Raster.of_shape((50, 40), snake=True, source="test"), MapView())
    assert trail is not None
    assert len(trail.xs) == 100
    assert trail.seq_nums.tolist()[:4] == [1, 40, 41, 80]


def test_a_row_of_unknown_length_has_no_trail_until_a_shape_is_typed() -> None:
    raster = Raster.of_shape((100,), snake=False, source="the points seen", certain=False)
    assert stage_path_of(raster, MapView()) is None
    trail = stage_path_of(raster, MapView((2, 3, True)))
    assert trail is not None
    assert (trail.xs.tolist(), trail.ys.tolist()) == ([0, 2, 2, 0], [0, 0, 1, 1])


def test_a_typed_shape_leads_no_further_than_the_points_there_are() -> None:
    trail = stage_path_of(Raster.of_shape((4,), snake=False, source="test"), MapView((2, 3, True)))
    assert trail is not None
    assert (trail.xs.tolist(), trail.ys.tolist(), trail.seq_nums.tolist()) == ([0, 2, 2], [0, 0, 1], [1, 3, 4])


def test_positions_that_arrive_are_drawn_as_far_as_they_are_known() -> None:
    path = ScanPath(*MM)
    raster = of_path(path, 10)
    assert stage_path_of(raster, MapView()) is None
    path.put([1, 2, 4], [0, 1, 3], [5, 5, 5])
    trail = stage_path_of(raster, MapView(exchanged=True))
    assert trail is not None
    assert (trail.xs.tolist(), trail.ys.tolist(), trail.seq_nums.tolist()) == ([5, 5], [0, 3], [1, 4])


def test_a_spiral_keeps_its_corners_up_to_a_limit() -> None:
    for size, kept in ((500, 500), (100_000, VERTICES_MAX)):
        turn = np.sqrt(np.arange(float(size)))
        positions = turn * np.cos(turn), turn * np.sin(turn)
        trail = stage_path_of(of_path(ScanPath(*MM, positions=positions), size), MapView())
        assert trail is not None
        assert len(trail.xs) == kept
        assert (trail.seq_nums[0], trail.seq_nums[-1]) == (1, size)
        np.testing.assert_array_equal(trail.xs, positions[0][trail.seq_nums - 1])


def test_arrows_point_along_the_path() -> None:
    trail = stage_path_of(Raster.of_shape((40, 9), snake=True, source="test"), MapView())
    assert trail is not None
    assert len(trail.arrows) == ARROWS
    for x, y, dx, dy in trail.arrows:
        assert 0 <= x <= 8
        assert 0 <= y <= 39
        assert (dx, dy) in ((8, 0), (-8, 0), (0, 1))
        if dx:
            assert (dx > 0) == (round(y) % 2 == 0)


def test_a_stage_that_stays_has_a_place_and_no_direction() -> None:
    for size in (1, 5):
        trail = stage_path_of(of_path(ScanPath(*MM, positions=([2.0] * size, [3.0] * size)), size), MapView())
        assert trail is not None
        assert (trail.xs[0], trail.ys[-1], trail.arrows) == (2, 3, [])
