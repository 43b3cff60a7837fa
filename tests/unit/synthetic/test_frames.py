import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scanspec.core import Path
from scanspec.specs import Spec

from snakemap.synthetic.frames import FULL_SCALE, FrameRenderer
from snakemap.synthetic.paths import FAST, SLOW
from snakemap.synthetic.patterns import PICTURES
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

SMALL = (128, 96)
DTYPES = ["uint8", "uint16", "int32", "float32"]


def request_of(**changes):
    return ScanRequest(**{"shape": (6, 5), "frame_shape": SMALL, **changes})


@given(st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_the_published_scanspec_leads_the_same_way_as_the_sample(slow, fast, snake):
    sample = Sample(request_of(shape=(slow, fast), snake=snake))
    path = Path(Spec.deserialize(sample.spec.serialize()).calculate()).consume().midpoints
    expected = list(zip(path[SLOW].tolist(), path[FAST].tolist(), strict=True))
    assert [sample.position(point) for point in range(slow * fast)] == expected


def test_a_snaked_scan_turns_back_on_every_second_row_and_an_unsnaked_one_does_not():
    snaked, straight = (Sample(request_of(shape=(2, 3), snake=snake, step_mm=0.5)) for snake in (True, False))
    assert [snaked.position(point)[1] for point in range(6)] == [-2.0, -1.5, -1.0, -1.0, -1.5, -2.0]
    assert [straight.position(point)[1] for point in range(6)] == [-2.0, -1.5, -1.0, -2.0, -1.5, -1.0]
    assert [snaked.position(point)[0] for point in range(6)] == [1.0, 1.0, 1.0, 1.5, 1.5, 1.5]


def test_brightness_follows_the_picture_under_the_beam():
    request = request_of(shape=(80, 70))
    sample = Sample(request)
    measured = np.array([sample.brightness(point) for point in range(request.points)])
    places = np.array([sample.position(point) for point in range(request.points)])
    unit = (places - places.min(axis=0)) / np.ptp(places, axis=0)
    for channel, picture in enumerate(PICTURES.values()):
        expected = picture(unit[:, 1], unit[:, 0])
        assert np.corrcoef(measured[:, channel], expected)[0, 1] > 0.95


def test_the_running_maximum_rises_many_times_along_the_scan():
    sample = Sample(request_of(shape=(60, 60)))
    brightness = np.array([sample.brightness(point) for point in range(3600)])
    rises = (np.diff(np.maximum.accumulate(brightness, axis=0), axis=0) > 0).sum(axis=0)
    assert rises.min() >= 5
    assert (np.maximum.accumulate(brightness, axis=0)[1800] < 0.9 * brightness.max(axis=0)).all()


def test_a_scan_of_one_point_sees_the_middle_of_the_picture():
    brightness = Sample(request_of(shape=(1, 1))).brightness(0)
    middle = np.array([0.5])
    expected = [float(picture(middle, middle)[0]) for picture in PICTURES.values()]
    assert brightness == pytest.approx(np.array(expected) * 0.55, rel=0.1)


def test_frames_do_not_depend_on_the_order_in_which_they_are_drawn():
    request = request_of(shape=(100, 100))
    forwards, backwards = FrameRenderer(request), FrameRenderer(request)
    indices = [0, 1, 4095, 4096, 9999]
    drawn = [forwards.frame(index) for index in indices]
    again = [backwards.frame(index) for index in reversed(indices)]
    assert all(np.array_equal(one, other) for one, other in zip(drawn, reversed(again), strict=True))


def test_another_seed_makes_other_noise_of_the_same_sample():
    first, second = (FrameRenderer(request_of(seed=seed)).render(14) for seed in (0, 1))
    assert first.sums != second.sums
    assert first.sums == pytest.approx(second.sums, rel=0.2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gzip", [0, 1, 6])
def test_a_chunk_holds_exactly_the_frame_and_its_sums_are_the_frames(dtype, gzip):
    renderer = FrameRenderer(request_of(dtype=dtype, gzip=gzip))
    for index in (0, 7, 29):
        rendered, frame = renderer.render(index), renderer.frame(index)
        chunk = zlib.decompress(rendered.chunk) if gzip else bytes(rendered.chunk)
        assert frame.dtype == np.dtype(dtype)
        assert chunk == frame.tobytes()
        assert rendered.total == frame.sum(dtype=np.float64)
        rects = renderer.request.rectangles.values()
        assert rendered.sums == tuple(frame[y0:y1, x0:x1].sum(dtype=np.float64) for y0, y1, x0, x1 in rects)


@pytest.mark.parametrize("rois", [{"all": (0, 128, 0, 96)}, {"top": (0, 1, 0, 1)}, {"bottom": (127, 128, 95, 96)}])
def test_regions_may_touch_the_edges_of_the_frame(rois):
    renderer = FrameRenderer(request_of(rois=rois))
    assert zlib.decompress(renderer.render(3).chunk) == renderer.frame(3).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_brightest_frame_does_not_saturate_and_the_background_stays_dim(dtype):
    renderer = FrameRenderer(ScanRequest(shape=(40, 40), dtype=dtype))
    frame = max((renderer.frame(index) for index in range(1200, 1600, 20)), key=lambda frame: frame.max())
    full_scale = FULL_SCALE[dtype]
    assert 0.5 * full_scale < frame.max() < 1.27 * full_scale
    assert frame[:500].mean() < 0.02 * full_scale


def test_a_frame_of_the_instrument_is_compressed_to_less_than_150_kb():
    assert FrameRenderer(ScanRequest()).chunk_bytes() < 150_000


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_chunk_is_larger_than_what_was_reckoned_with(dtype):
    renderer = FrameRenderer(request_of(shape=(20, 20), dtype=dtype))
    chunks = [len(renderer.render(index).chunk) for index in range(400)]
    assert max(chunks) <= renderer.chunk_bytes()


def test_several_frames_of_one_point_share_its_brightness_and_differ_in_noise():
    renderer = FrameRenderer(request_of(frames_per_point=3))
    first, second, other = (np.array(renderer.render(index).sums) for index in (0, 1, 24))
    assert (first != second).any()
    assert first == pytest.approx(second, rel=0.1)
    assert abs(other - first).max() > 0.5 * first.max()


@given(st.sampled_from(["spiral", "ellipse"]), st.integers(3, 14), st.integers(3, 14), st.booleans())
def test_a_path_leads_where_its_scanspec_says_and_stays_within_its_rectangle(way, slow, fast, snake):
    request = request_of(path=way, shape=(slow, fast), snake=snake)
    sample = Sample(request)
    midpoints = Path(Spec.deserialize(sample.spec.serialize()).calculate()).consume().midpoints
    expected = np.stack([midpoints[SLOW], midpoints[FAST]], axis=1)
    assert np.array_equal(sample.positions(0, request.points), expected)
    assert [sample.position(point) for point in range(request.points)] == [tuple(place) for place in expected.tolist()]
    far = np.array(request.origin_mm) + request.step_mm * (np.array(request.shape) - 1)
    assert (expected >= np.array(request.origin_mm) - 1e-9).all()
    assert (expected <= far + 1e-9).all()


@pytest.mark.parametrize("way", ["spiral", "ellipse"])
def test_the_pictures_lie_at_the_same_motor_positions_whatever_the_path(way):
    sample = Sample(request_of(path=way, shape=(40, 40)))
    request = sample.request
    brightness = np.array([sample.brightness(point) for point in range(request.points)])
    unit = (sample.positions(0, request.points) - np.array(request.origin_mm)) / (39 * request.step_mm)
    for channel, picture in enumerate(PICTURES.values()):
        assert np.corrcoef(brightness[:, channel], picture(unit[:, 1], unit[:, 0]))[0, 1] > 0.95


def test_a_mirrored_sample_shows_left_what_the_other_shows_right():
    request = request_of(shape=(40, 40))
    sample = Sample(request, mirrored=True)
    brightness = np.array([sample.brightness(point) for point in range(request.points)])
    unit = (sample.positions(0, request.points) - np.array(request.origin_mm)) / (39 * request.step_mm)
    for channel, picture in enumerate(PICTURES.values()):
        assert np.corrcoef(brightness[:, channel], picture(1.0 - unit[:, 1], unit[:, 0]))[0, 1] > 0.95


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gzip", [0, 1])
def test_a_chunk_in_color_holds_three_planes_in_which_each_region_has_its_color(dtype, gzip):
    renderer = FrameRenderer(request_of(dtype=dtype, gzip=gzip, color=True))
    rendered, frame = renderer.render(14), renderer.frame(14)
    assert frame.shape == (3, *SMALL)
    assert (zlib.decompress(rendered.chunk) if gzip else bytes(rendered.chunk)) == frame.tobytes()
    assert len(rendered.chunk) <= renderer.chunk_bytes()
    assert rendered.total == frame.sum(dtype=np.float64)
    rects = renderer.request.rectangles.values()
    sums = np.array([frame[:, y0:y1, x0:x1].sum(axis=(1, 2), dtype=np.float64) for y0, y1, x0, x1 in rects])
    assert rendered.sums == tuple(sums.sum(axis=1))
    assert sums.argmax(axis=1).tolist() == [0, 1, 2]
