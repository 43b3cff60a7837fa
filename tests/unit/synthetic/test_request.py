from dataclasses import fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemap.errors import SettingsError
from snakemap.synthetic.patterns import INSTRUMENT_ROIS
from snakemap.synthetic.request import ScanRequest, default_rois, shape_from_text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shape": (0, 5)}, "shape"),
        ({"shape": (5,)}, "shape"),
        ({"shape": (5.0, 5)}, "shape"),
        ({"shape": (10_000, 10_000)}, "shape"),
        ({"mode": "walk"}, "mode"),
        ({"rate_hz": -1.0}, "rate_hz"),
        ({"rate_hz": float("nan")}, "rate_hz"),
        ({"frame_shape": (3, 100)}, "frame_shape"),
        ({"frame_shape": (100, 9000)}, "frame_shape"),
        ({"dtype": "float64"}, "dtype"),
        ({"gzip": 10}, "gzip"),
        ({"gzip": True}, "gzip"),
        ({"seed": -1}, "seed"),
        ({"ending": "explode"}, "ending"),
        ({"ending_after": 5}, "ending_after"),
        ({"ending": "abort", "ending_after": 3601}, "ending_after"),
        ({"frames_per_point": 0}, "frames_per_point"),
        ({"flush_period_s": 0.0}, "flush_period_s"),
        ({"step_mm": 0.0}, "step_mm"),
        ({"origin_mm": (0.0, float("inf"))}, "origin_mm"),
        ({"stage_speed_mm_s": -1.0}, "stage_speed_mm_s"),
        ({"rois": {"red": (0, 10, 0, 5000)}}, "rois"),
        ({"rois": {"red": (10, 10, 0, 5)}}, "rois"),
        ({"rois": {"red": (0, 10, 0)}}, "rois"),
        ({"rois": {"total": (0, 10, 0, 5)}}, "rois"),
        ({"rois": {}}, "rois"),
        ({"path": "zigzag"}, "path"),
        ({"path": "spiral", "shape": (1, 9)}, "path"),
        ({"path": "ellipse", "shape": (9, 2)}, "path"),
        ({"tells": "all"}, "tells"),
        ({"tells": "grid", "path": "spiral"}, "tells"),
        ({"tells": "grid", "path": "ellipse"}, "tells"),
        ({"readbacks": 1}, "readbacks"),
        ({"wrong_sum_at": (0,)}, "wrong_sum_at"),
        ({"wrong_sum_at": (3601,)}, "wrong_sum_at"),
        ({"wrong_sum_at": [3]}, "wrong_sum_at"),
        ({"wrong_sum_at": (True,)}, "wrong_sum_at"),
        ({"cameras": 0}, "cameras"),
        ({"cameras": 3}, "cameras"),
        ({"cameras": True}, "cameras"),
        ({"cameras": 2, "frame_shape": (7, 100)}, "cameras"),
        ({"color": "RGB1"}, "color"),
        ({"positions_file": None}, "positions_file"),
        ({"positions_file": True, "mode": "step"}, "positions_file"),
        ({"baseline": "yes"}, "baseline"),
    ],
)
def test_a_request_that_cannot_be_scanned_is_refused_by_the_name_of_its_field(changes, named):
    with pytest.raises(SettingsError, match=f"^{named}: "):
        ScanRequest(**changes)


def test_a_request_of_the_instrument_has_its_rectangles():
    assert ScanRequest().rectangles == INSTRUMENT_ROIS


@given(st.integers(4, 400), st.integers(4, 400))
def test_scaled_rectangles_are_never_empty_and_lie_within_the_frame(height, width):
    for y0, y1, x0, x1 in default_rois((height, width)).values():
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width


def test_a_scan_that_ends_early_announces_half_of_its_points_unless_told_otherwise():
    assert ScanRequest(shape=(4, 5)).points_announced == 20
    assert ScanRequest(shape=(4, 5), ending="abort").points_announced == 10
    assert ScanRequest(shape=(1, 1), ending="abort").points_announced == 1
    assert ScanRequest(shape=(4, 5), ending="lose", ending_after=0).points_announced == 0


def test_a_request_can_be_told_as_json():
    plain = ScanRequest(shape=(4, 5), frame_shape=(128, 96), wrong_sum_at=(3, 7)).as_dict()
    assert orjson.loads(orjson.dumps(plain)) == plain
    assert plain["wrong_sum_at"] == [3, 7]
    assert set(plain) == {field.name for field in fields(ScanRequest)}
    assert plain["shape"] == [4, 5]
    assert plain["rois"]["red"] == [64, 80, 5, 12]


def test_the_plan_is_named_after_its_mode_unless_told_otherwise():
    assert ScanRequest(mode="fly").plan == "simulated_fly_scan"
    assert ScanRequest(plan_name="demo_spectroscopy").plan == "demo_spectroscopy"


@pytest.mark.parametrize("text", ["", "10", "10x", "x10", "10x10x10", "-1x5", "1.5x2"])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match="slow x fast"):
        shape_from_text(text)


def test_a_shape_is_read_slow_axis_first():
    assert shape_from_text(" 60X100 ") == (60, 100)


@pytest.mark.parametrize(
    ("path", "shape", "points"),
    [("grid", (4, 5), 20), ("spiral", (5, 5), 13), ("ellipse", (60, 60), 2724)],
)
def test_the_points_of_a_scan_are_those_of_its_path(path, shape, points):
    request = ScanRequest(path=path, shape=shape, ending="abort")
    assert request.points == points
    assert request.points_announced == points // 2


@given(st.integers(8, 400), st.integers(8, 400))
def test_the_second_camera_is_half_as_high_and_wide_and_its_rectangles_fit(height, width):
    request = ScanRequest(cameras=2, frame_shape=(height, width), wrong_sum_at=(2,))
    second = request.of_second_camera()
    assert second.frame_shape == (height // 2, width // 2)
    assert list(second.rectangles) == list(request.rectangles)
    assert (second.cameras, second.wrong_sum_at) == (1, ())


def test_a_frame_in_color_takes_three_times_the_room():
    request = ScanRequest(frame_shape=(128, 96), dtype="uint16", color=True)
    assert request.dataset_shape == (3, 128, 96)
    assert request.frame_bytes == 3 * 128 * 96 * 2
