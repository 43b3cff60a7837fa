import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.support.properties import examples

from snakemap.core import compiled
from snakemap.core.roi import Roi, default_rois, shrink, sum_colors, sum_frames, sums_dtype
from snakemap.errors import FrameError, RoiError

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]
INSTRUMENT = (Roi("red", 610, 760, 95, 245), Roi("green", 605, 755, 880, 1030), Roi("blue", 600, 750, 1665, 1815))


def plain_sums(frames, rois, *, dtype=None):
    """What sum_frames promises, by numpy alone."""
    dtype = dtype or {"f": "f8", "i": "i8"}.get(frames.dtype.kind, "u8")
    if dtype is object:
        frames = frames.astype(int).astype(object) if frames.dtype.kind == "b" else frames.astype(object)
    parts = [frames[:, r.y0 : r.y1, r.x0 : r.x1] for r in rois]
    return np.stack([part.sum(axis=(1, 2), dtype=dtype) for part in (*parts, frames)], axis=1)


@st.composite
def frames_and_rois(draw, dtypes=("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")):
    dtype = np.dtype(draw(st.sampled_from(dtypes))).newbyteorder(draw(st.sampled_from("<>")))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)))
    elements = {"min_value": -(2.0**90), "max_value": 2.0**90, "allow_subnormal": False} if dtype.kind == "f" else None
    frames = draw(npst.arrays(dtype, shape, elements=npst.from_dtype(np.dtype(dtype), **elements or {})))
    frames = draw(st.sampled_from([frames, frames[::-1], frames[:, ::-1, ::-1], np.asfortranarray(frames)]))

    def bounds(size):
        return st.tuples(st.integers(0, size), st.integers(0, size)).filter(lambda b: b[0] < b[1])

    rectangles = draw(st.lists(st.tuples(bounds(shape[1]), bounds(shape[2])), max_size=5))
    return frames, tuple(Roi(str(number), *rows, *columns) for number, (rows, columns) in enumerate(rectangles))


@given(frames_and_rois())
@examples(200)
def test_sums_of_whole_numbers_are_exactly_those_of_numpy(case):
    frames, rois = case
    sums, dtype = sum_frames(frames, rois), sums_dtype(frames.dtype)
    exact = plain_sums(frames, rois, dtype=object)
    limits = np.iinfo(dtype)
    if all(limits.min <= value <= limits.max for value in exact.flat) and sums.dtype == dtype:
        assert sums.tolist() == exact.tolist()
    else:  # some do not fit, or just so
        assert sums.dtype == np.float64
        assert max(abs(value) for value in exact.flat) > 0.999 * limits.max
        np.testing.assert_allclose(sums, exact.astype(float), rtol=1e-12, atol=1e-12 * limits.max)


@given(frames_and_rois(dtypes=("f4", "f8")))
@examples(100)
def test_sums_of_floats_are_those_of_numpy_up_to_rounding(case):
    frames, rois = case
    largest = float(np.abs(frames.astype(np.float64)).sum()) if frames.size else 0.0
    np.testing.assert_allclose(sum_frames(frames, rois), plain_sums(frames, rois), rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_of_a_real_detector_are_summed_exactly(dtype):
    frames = np.random.default_rng(1).integers(0, 127, (2, 1216, 1936), dtype=np.uint8).astype(dtype)
    assert sum_frames(frames, INSTRUMENT).tolist() == plain_sums(frames, INSTRUMENT).tolist()


@pytest.mark.parametrize(
    ("dtype", "value"), [("u1", 255), ("u2", 65_535), ("i1", -128), ("i2", -32_768), ("i2", 32_767)]
)
@pytest.mark.parametrize("width", [32_767, 32_768, 32_769, 100_001])
def test_the_brightest_and_longest_rows_do_not_overflow(dtype, value, width):
    frames = np.full((1, 2, width), value, dtype)
    sums = sum_frames(frames, [Roi("row", 0, 1, 0, width), Roi("most", 0, 2, 1, width)])
    assert sums.tolist() == [[value * width, 2 * value * (width - 1), 2 * value * width]]


def test_sums_of_64_bit_pixels_keep_every_bit_as_long_as_they_fit():
    frames = np.array([[[2**63 + 1, 1]], [[2**63 - 1, 3]]], dtype=np.uint64)
    sums = sum_frames(frames, [Roi("first", 0, 1, 0, 1)])
    assert (sums.dtype, sums.tolist()) == (np.uint64, [[2**63 + 1, 2**63 + 2], [2**63 - 1, 2**63 + 2]])


@pytest.mark.parametrize(
    ("dtype", "value"), [("u8", 2**63), ("u8", 2**64 - 1), ("i8", 2**62), ("i8", -(2**63)), (">u8", 2**63)]
)
def test_sums_beyond_64_bits_are_floats_and_never_wrap(dtype, value):
    frames = np.full((2, 8, 9), value, dtype)
    frames[1] = 3
    sums = sum_frames(frames, [Roi("row", 0, 1, 0, 9)])
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, [[9.0 * value, 72.0 * value], [27, 216]], rtol=1e-12)
    small = shrink(frames[0], longest=4)
    np.testing.assert_allclose(small.astype(float), float(value), rtol=1e-12)
    assert small.dtype == frames.dtype.newbyteorder("=")


def test_colors_whose_sum_does_not_fit_are_floats():
    for last, shape in ((False, (1, 3, 2, 2)), (True, (1, 2, 2, 3))):
        sums = sum_colors(np.full(shape, 2**62, np.uint64), [Roi("dot", 0, 1, 0, 1)], last=last)
        np.testing.assert_allclose(sums.astype(float), [[3 * 2.0**62, 12 * 2.0**62]], rtol=1e-12)


def test_halves_are_summed_as_floats():
    frames = np.full((1, 300, 300), 0.5, np.float16)
    frames[0, 0, 0] = 60_000
    sums = sum_frames(frames, [Roi("first", 0, 1, 0, 1)])
    assert (sums.dtype, sums.tolist()) == (np.float64, [[60_000, 60_000 + 0.5 * 89_999]])
    assert shrink(frames[0]).dtype == np.float32


def test_a_dead_float_pixel_spoils_only_the_sums_that_hold_it():
    frames = np.ones((1, 4, 4), np.float32)
    frames[0, 0, 0] = np.nan
    sums = sum_frames(frames, [Roi("dead", 0, 1, 0, 1), Roi("fine", 2, 4, 0, 4)])
    np.testing.assert_array_equal(sums, [[np.nan, 8.0, np.nan]])


def test_frames_that_may_not_be_written_to_can_be_summed():
    frames = np.frombuffer(bytes(range(12)), np.uint8).reshape(1, 3, 4)
    assert sum_frames(frames, []).tolist() == [[66]]


def test_no_frames_give_no_sums():
    assert sum_frames(np.zeros((0, 4, 4), np.uint16), [Roi("red", 0, 1, 0, 1)]).shape == (0, 2)


@pytest.mark.parametrize("dtype", ["g", "c8", "U3", "O", "M8[s]", np.dtype([("a", "u1")])])
def test_frames_of_other_dtypes_are_refused(dtype):
    with pytest.raises(FrameError, match="cannot be summed"):
        sum_frames(np.zeros((1, 2, 2), dtype), [])


@pytest.mark.parametrize("shape", [(4, 4), (1, 3, 4, 4)])
def test_what_is_no_stack_of_frames_is_refused(shape):
    with pytest.raises(FrameError, match="three dimensions"):
        sum_frames(np.zeros(shape, np.uint8), [])


def test_an_roi_beyond_the_frame_is_refused_naming_roi_bounds_and_frame():
    message = (
        "ROI blue (rows 600 to 750, columns 1665 to 1815) reaches beyond the frame, which has 128 rows and 96 columns"
    )
    with pytest.raises(RoiError) as error:
        sum_frames(np.zeros((1, 128, 96), np.uint8), [INSTRUMENT[2]])
    assert str(error.value) == message


@pytest.mark.parametrize("bounds", [(0, 0, 0, 1), (0, 1, 3, 2), (-1, 2, 0, 1), (0, 1, -5, 2)])
def test_an_roi_without_pixels_is_refused(bounds):
    with pytest.raises(RoiError, match=r"ROI red .* holds no pixel"):
        Roi("red", *bounds)


@pytest.mark.parametrize(("height", "edges"), [(1216, [0, 405, 810, 1216]), (3, [0, 1, 2, 3]), (5, [0, 1, 2, 5])])
def test_by_default_three_bands_of_rows_cover_the_frame(height, edges):
    rois = default_rois((height, 7))
    assert [roi.name for roi in rois] == ["red", "green", "blue"]
    assert [(roi.y0, roi.y1, roi.x0, roi.x1) for roi in rois] == [(*edges[i : i + 2], 0, 7) for i in range(3)]


def test_a_frame_of_two_rows_has_no_three_bands():
    with pytest.raises(RoiError, match="2 rows"):
        default_rois((2, 100))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_a_shrunk_frame_holds_the_means_of_blocks_in_the_same_dtype(dtype, order):
    frame = np.random.default_rng(2).integers(0, 2 if dtype == "?" else 127, (1216, 1936))
    small = shrink(frame.astype(np.dtype(dtype).newbyteorder(order)))
    assert (small.shape, small.dtype) == ((304, 484), np.dtype(dtype))
    means = frame.reshape(304, 4, 484, 4).mean(axis=(1, 3))
    np.testing.assert_array_equal(small, (means if dtype[0] == "f" else np.floor(means + 0.5)).astype(dtype))


@pytest.mark.parametrize(("shape", "expected"), [((512, 512), (512, 512)), ((513, 2), (257, 1)), ((3, 5000), (1, 500))])
def test_a_shrunk_frame_is_as_large_as_whole_blocks_allow(shape, expected):
    small = shrink(np.full(shape, 9, np.uint16))
    assert small.shape == expected
    assert np.unique(small).tolist() == [9]


def test_a_small_frame_is_copied_and_not_changed():
    frame = np.arange(6, dtype=np.int32).reshape(2, 3)
    small = shrink(frame)
    assert small.tolist() == frame.tolist()
    assert not np.shares_memory(small, frame)


def test_a_reading_process_that_sums_nothing_starts_without_a_compiler():
    code = "import sys, snakemap.hdf5.child; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_any_place_for_compiled_code_sums_are_the_same(monkeypatch):
    def njit(python, *, cache=False, **_options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return python

    monkeypatch.setattr("numba.njit", njit)
    compiled.compiled.cache_clear()
    try:
        assert sum_frames(np.ones((1, 3, 4), np.uint8), []).tolist() == [[12]]
    finally:
        compiled.compiled.cache_clear()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ModuleNotFoundError("No module named 'roi'")]
)
def test_a_cache_that_cannot_be_used_costs_only_time(monkeypatch, error):
    def spoiled(*_arguments):
        raise error

    monkeypatch.setattr(compiled, "compiled", lambda python, *, cache: spoiled if cache else python)
    assert sum_frames(np.ones((1, 3, 4), np.uint8), []).tolist() == [[12]]
