"""Block sums: equal to numpy, exact over whole blocks of whole numbers, shares of area elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.block_sums import BLOCK, BlockFormat, block_sums, box_sums
from snakemap.core.roi import Roi
from snakemap.errors import FrameError

DTYPES = ("?", "u1", "u2", "<u4", ">u4", "u8", "i1", ">i2", "i4", "i8", "f2", "f4", "f8")


def frames_of(dtype, shape, seed):
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if kind.kind == "f":
        return random.normal(100, 50, shape).astype(kind)
    ends = np.iinfo(kind)
    # whole numbers of 64 bits are exact as float64 below 2**53
    low, high = max(ends.min, -(2**40)), min(ends.max, 2**40)
    return random.integers(low, high, shape, endpoint=True).astype(kind)


def kept_of(frames, form):
    sums = block_sums(frames)
    kept = np.cumsum(sums, axis=1) if form.cumulative else sums
    return np.ascontiguousarray(kept, dtype=form.dtype)


@st.composite
def cases(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    roi = Roi("a", y0, draw(st.integers(y0 + 1, height)), x0, draw(st.integers(x0 + 1, width)))
    return draw(st.sampled_from(DTYPES)), (draw(st.integers(1, 3)), height, width), roi, draw(st.integers(0, 2**30))


@examples(100)
@given(cases())
def test_blocks_and_boxes_are_what_numpy_sums(case):
    dtype, shape, roi, seed = case
    frames = frames_of(dtype, shape, seed)
    form = BlockFormat.of(shape[1:], dtype)
    wide = frames.astype(np.float64)
    spread = np.empty_like(wide)
    blocks = np.empty((shape[0], *form.shape))
    for row in range(form.shape[0]):
        for column in range(form.shape[1]):
            place = np.s_[:, row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            blocks[:, row, column] = wide[place].sum(axis=(1, 2))
            spread[place] = wide[place].mean(axis=(1, 2), keepdims=True)
    kept = kept_of(frames, form)
    exact = form.cumulative
    np.testing.assert_allclose(form.blocks(kept), blocks, rtol=0 if exact else 1e-9)
    sums = box_sums(kept, np.arange(shape[0]), roi, form)
    box = np.s_[:, roi.y0 : roi.y1, roi.x0 : roi.x1]
    scale = np.abs(wide).sum() or 1.0
    np.testing.assert_allclose(sums, spread[box].sum(axis=(1, 2)), rtol=1e-9, atol=1e-9 * scale)
    if form.is_exact(roi):
        assert sums.tolist() == wide[box].sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4"])
def test_the_largest_frames_fit(dtype):
    ends = np.iinfo(dtype)
    for value in (ends.min, ends.max):
        for height in (16, 4096, 4112):
            frames = np.full((1, height, 17), value, dtype)
            form = BlockFormat.of((height, 17), dtype)
            sums = box_sums(kept_of(frames, form), np.array([0]), Roi("a", 0, height, 0, 17), form)
            assert int(sums[0]) == int(value) * height * 17


def test_a_pixel_that_is_no_number_stays_in_its_block():
    frames = np.ones((1, 48, 32), np.float32)
    frames[0, 0, 0] = np.nan
    form = BlockFormat.of((48, 32), np.float32)
    kept = kept_of(frames, form)
    inside, below, beside = Roi("a", 0, 48, 0, 32), Roi("b", 16, 48, 0, 32), Roi("c", 0, 48, 16, 32)
    assert [float(box_sums(kept, np.array([0]), roi, form)[0]) for roi in (below, beside)] == [1024.0, 768.0]
    assert np.isnan(box_sums(kept, np.array([0]), inside, form)).all()


def test_points_may_be_any_places():
    frames = np.arange(5, dtype=np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)
    form = BlockFormat.of((16, 16), np.uint8)
    sums = box_sums(kept_of(frames, form), np.array([4, 0, 2]), Roi("a", 0, 16, 0, 16), form)
    assert sums.tolist() == [1024.0, 0.0, 512.0]


def test_mean_of_blocks_is_from_the_sum_of_what_is_kept():
    frames = frames_of("u2", (7, 40, 33), 3)
    form = BlockFormat.of((40, 33), "u2")
    means = form.blocks(kept_of(frames, form).sum(axis=0, dtype=np.uint64)) / 7 / form.pixels()
    assert means.shape == (3, 3)
    assert means[1, 0] == pytest.approx(frames[:, 16:32, :16].mean())
    assert means[2, 2] == pytest.approx(frames[:, 32:, 32:].mean())


def test_text_has_no_blocks():
    with pytest.raises(FrameError, match="cannot be summed"):
        BlockFormat.of((16, 16), "S4")
