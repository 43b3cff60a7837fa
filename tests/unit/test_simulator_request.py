import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemap.errors import SettingsError
from snakemap.simulator.request import INSTRUMENT_ROIS, ScanRequest, default_rois, shape_from_text


@pytest.mark.parametrize(
    ("changes", "told"),
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
    ],
)
def test_a_request_that_cannot_be_scanned_is_refused_by_the_name_of_its_field(changes, told):
    with pytest.raises(SettingsError, match=f"^{told}: "):
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
    plain = ScanRequest(shape=(4, 5), frame_shape=(128, 96)).as_dict()
    assert orjson.loads(orjson.dumps(plain)) == plain
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
