from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import ScanPath
from snakemap.render.map_image import map_image
from snakemap.render.pyramid import LOG_LENGTH, PyramidLevel, block_means, step_for, warm_up

CHANNELS = ("red", "total")

counts = st.integers(0, 9).map(float) | st.floats(-1e9, 1e9) | st.just(math.nan)
shapes = st.tuples(st.integers(1, 13), st.integers(1, 13))
steps = st.sampled_from([1, 2, 4, 8, 16])
assignments = st.lists(
    st.lists(st.tuples(st.integers(-1, 180), counts, counts), min_size=1, max_size=6), min_size=1, max_size=6
)


def maps(rows: int, columns: int) -> Maps:
    return Maps(Raster.of_shape((rows, columns), snake=True, source="test"), CHANNELS)


def assign(to: Maps, points: list[tuple[int, float, float]]) -> None:
    seq_nums, red, total = zip(*points, strict=True)
    to.assign(seq_nums, {"red": red, "total": total})


def plain_means(grids: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Block means by numpy alone, one block after the other."""
    channels, rows, columns = grids.shape
    height, width = math.ceil(rows / step), math.ceil(columns / step)
    means = np.empty((channels, height, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of blocks that are all NaN
        for row in range(height):
            for column in range(width):
                block = grids[:, row * step : (row + 1) * step, column * step : (column + 1) * step]
                means[:, row, column] = np.nanmean(block, axis=(1, 2))
    return means


def blocks_of(cells: npt.NDArray[np.int64], level: PyramidLevel) -> list[int]:
    rows, columns = np.divmod(cells, level.picture.raster.columns)
    return sorted(set((rows // level.step * level.columns + columns // level.step).tolist()))


@examples(40)
@given(shapes, st.sampled_from([2, 4, 8]), st.integers(0, 2**32), st.floats(0, 1))
def test_block_means_equal_numpys_with_blanks_and_with_partial_blocks(
    shape: tuple[int, int], step: int, seed: int, blank: float
) -> None:
    random = np.random.default_rng(seed)
    grids = random.integers(0, 2**40, (3, *shape)).astype(float)
    grids[random.random(grids.shape) < blank] = np.nan
    np.testing.assert_allclose(block_means(grids, step), plain_means(grids, step), rtol=1e-12)


@pytest.mark.parametrize("shape", [(1000, 701), (1, 5000), (5000, 1), (513, 3)])
def test_block_means_of_long_and_of_large_maps_equal_numpys(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(7)
    grids = random.random((1, *shape))
    grids[random.random(grids.shape) < 0.3] = np.nan
    for step in (2, 16):
        height, width = -(-shape[0] // step), -(-shape[1] // step)
        padded = np.full((height * step, width * step), np.nan)
        padded[: shape[0], : shape[1]] = grids[0]
        blocks = padded.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, -1)
        known = ~np.isnan(blocks)
        with np.errstate(invalid="ignore"):
            expected = np.where(known, blocks, 0).sum(axis=2) / known.sum(axis=2)
        np.testing.assert_allclose(block_means(grids, step)[0], expected, rtol=1e-12)


@examples(40)
@given(shapes, steps, assignments, st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_level_updated_after_any_assignments_equals_a_fresh_one(
    shape: tuple[int, int], step: int, parts: list[list[tuple[int, float, float]]], looked_at: list[bool]
) -> None:
    of = maps(*shape)
    level = PyramidLevel(of, step)
    for part, look in zip(parts, looked_at, strict=False):
        assign(of, part)
        if look:
            level.update()
            np.testing.assert_array_equal(level.grids, block_means(of.grids, step) if step > 1 else of.grids)
    level.update()
    assert level.version == of.version
    np.testing.assert_array_equal(level.grids, block_means(of.grids, step) if step > 1 else of.grids)


@examples(40)
@given(shapes, steps, assignments)
def test_the_changed_cells_are_exactly_the_blocks_of_the_changed_pixels(
    shape: tuple[int, int], step: int, parts: list[list[tuple[int, float, float]]]
) -> None:
    of = maps(*shape)
    level = PyramidLevel(of, step)
    versions = [level.version]
    for part in parts:
        assign(of, part)
        level.update()
        versions.append(level.version)
    for since in versions:
        changed = level.changed(since)
        assert changed is not None
        assert changed.tolist() == blocks_of(of.changed(since), level)


@pytest.mark.parametrize("step", [1, 2])
def test_nothing_has_changed_since_the_version_of_now(step: int) -> None:
    of = maps(4, 4)
    level = PyramidLevel(of, step)
    for _ in range(2):
        changed = level.changed(level.version)
        assert changed is not None
        assert changed.tolist() == []
        of.assign([1], {"red": [1.0]})
        level.update()


def test_what_changed_too_long_ago_is_not_told() -> None:
    of = maps(20, 20)
    level = PyramidLevel(of, 2)
    for seq_num in range(1, LOG_LENGTH + 3):
        of.assign([seq_num], {"red": [1.0]})
        level.update()
    assert level.changed(1) is None
    changed = level.changed(2)
    assert changed is not None
    assert changed.tolist() == blocks_of(of.changed(2), level)


def test_a_level_that_was_made_after_a_version_does_not_tell_what_changed_since() -> None:
    of = maps(4, 4)
    of.assign([1, 2], {"red": [1.0, 2.0]})
    level = PyramidLevel(of, 2)
    assert level.changed(0) is None
    of.assign([3], {"red": [1.0]})
    level.update()
    assert level.changed(0) is None
    assert level.changed(1) is None


def test_the_finest_level_is_the_maps_themselves() -> None:
    of = maps(4, 4)
    assert PyramidLevel(of, 1).grids is of.grids


def test_a_new_point_computes_only_the_rows_of_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    of = maps(100, 10)
    level = PyramidLevel(of, 4)
    sizes: list[int] = []

    def counted(grids: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
        sizes.append(grids.shape[1])
        return block_means(grids, step)

    monkeypatch.setattr("snakemap.render.pyramid.block_means", counted)
    of.assign([512], {"red": [1.0]})
    level.update()
    level.update()
    assert sizes == [4]


@given(st.floats(0.5, 1e5), st.floats(0, 5000))
@examples(100)
def test_a_step_is_the_least_power_of_two_that_fits_the_screen(cells: float, pixels: float) -> None:
    step = step_for(cells, pixels)
    fits = 1.34 * max(pixels, 1)
    assert step & (step - 1) == 0
    assert cells / step <= fits
    assert step == 1 or cells / (step / 2) > fits


def test_warming_up_compiles_without_complaint() -> None:
    warm_up()


@examples(40)
@given(st.tuples(st.integers(20, 40), st.integers(20, 40)), st.sampled_from([2, 4]), assignments)
def test_blocks_that_lie_far_apart_are_computed_each_by_itself(
    shape: tuple[int, int], step: int, parts: list[list[tuple[int, float, float]]]
) -> None:
    of = maps(*shape)
    level = PyramidLevel(of, step)
    for part in parts:
        assign(of, [(seq_num * 6, red, total) for seq_num, red, total in part])
        level.update()
        np.testing.assert_array_equal(level.grids, block_means(of.grids, step))


def test_a_level_of_a_picture_follows_it_until_the_picture_is_another_one() -> None:
    path = ScanPath(("x", "mm"), ("y", "mm"))
    axes = Axis.of_indices("row", 1), Axis.of_indices("point", 9)
    raster = Raster(shape=(9,), snaking=(False,), slow=axes[0], fast=axes[1], source="test", path=path)
    of = Maps(raster, CHANNELS)
    path.put([1, 2, 3], [0, 1, 2], [0, 2, 1])
    picture = map_image(of)
    level = PyramidLevel(picture, 2)
    assign(of, [(1, 5, 6), (3, 7, 8)])
    level.update()
    np.testing.assert_array_equal(level.grids, block_means(picture.grids, 2))
    assert not level.stale
    assert level.epoch == picture.epoch
    path.put([4], [50], [50])
    level.update()
    assert level.stale
    assert level.epoch < picture.epoch
