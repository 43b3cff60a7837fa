"""From a plan's schema to fields, from what was filled in to parameters, and what a scan will come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemap.blueapi.plan_estimate import PreviousRun, estimate
from snakemap.blueapi.plan_form import check_params, fields_of, read_params
from snakemap.blueapi.plan_region import apply_region
from snakemap.blueapi.scan_control import plan_call_from_start
from snakemap.errors import NothingToRepeat, ParamsRefused

SCHEMA: dict[str, Any] = {
    "additionalProperties": False,
    "properties": {
        "camera": {"enum": ["camera"], "title": "Camera", "type": "ophyd_async.sim._blob_detector.SimBlobDetector"},
        "rows": {"default": 3, "title": "Rows", "type": "integer", "minimum": 1},
        "exposure": {"default": 0.1, "exclusiveMinimum": 0, "type": "number", "description": "s"},
        "snake": {"default": True, "type": "boolean"},
        "mode": {"enum": ["step", "fly"], "default": "step", "type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "motors": {"items": {"enum": ["x", "y"], "type": "bluesky.protocols.Movable"}, "type": "array"},
        "spec": {"$ref": "#/$defs/Spec"},
        "odd": {},
    },
    "$defs": {"Spec": {"type": "object", "description": "A scanspec."}},
    "required": ["camera", "motors"],
    "title": "grid",
    "type": "object",
}
GOOD = {"camera": "camera", "motors": '["x","stage.y"]'}


def test_fields_are_of_their_kinds_and_hold_old_values() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA, {"rows": 7, "camera": "other", "gone": 1})}
    assert [(name, field.kind) for name, field in fields.items()] == [
        ("camera", "device"), ("rows", "integer"), ("exposure", "number"), ("snake", "switch"), ("mode", "choice"),
        ("note", "text"), ("motors", "json"), ("spec", "json"), ("odd", "json"),
    ]  # fmt: skip
    assert (fields["rows"].text, fields["camera"].text, fields["snake"].text) == ("7", "other", "true")
    assert fields["camera"].required
    assert not fields["rows"].required
    assert (fields["rows"].minimum, fields["exposure"].minimum) == (1, 0)
    assert fields["camera"].choices == ("camera",)
    assert fields["motors"].choices == ("x", "y")
    assert fields["exposure"].help == "s"


def test_what_is_filled_in_becomes_parameters_and_what_is_empty_is_left_to_the_plan() -> None:
    texts = {**GOOD, "rows": " 12 ", "exposure": "1e-2", "snake": "false", "mode": "fly", "note": "", "spec": '{"a":1}'}
    assert read_params(fields_of(SCHEMA, {}), texts, SCHEMA) == {
        "camera": "camera", "motors": ["x", "stage.y"], "rows": 12, "exposure": 0.01, "snake": False, "mode": "fly",
        "spec": {"a": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rows", "2.5", "is not a whole number"),
        ("rows", "x", "is not a number"),
        ("rows", "0", "less than the minimum of 1"),
        ("rows", "1e400", "is not a finite number"),
        ("exposure", "nan", "is not a finite number"),
        ("exposure", "0", "less than or equal to the minimum of 0"),
        ("mode", "spin", "is none of step, fly"),
        ("snake", "perhaps", "is not true or false"),
        ("motors", "x, y", "is not valid JSON"),
        ("motors", '"x"', "is not of type 'array'"),
        ("motors", "[3]", "is not of type 'string'"),
        ("camera", "", "is required"),
        ("note", "x" * 20_001, "is longer than 20,000 characters"),
    ],
)
def test_what_cannot_be_is_told_at_its_field(name: str, text: str, words: str) -> None:
    with pytest.raises(ParamsRefused) as refused:
        read_params(fields_of(SCHEMA, {}), {**GOOD, name: text}, SCHEMA)
    assert list(refused.value.faults) == [name]
    assert words in refused.value.faults[name]


def test_parameters_as_a_whole_are_checked() -> None:
    with pytest.raises(ParamsRefused) as refused:
        check_params(SCHEMA, {"rows": 0, "surplus": 1, "camera": "c"})
    assert refused.value.faults.keys() == {"rows", "surplus", "motors"}
    check_params(SCHEMA, {"camera": "any name", "motors": []})


@given(st.dictionaries(st.sampled_from(list(SCHEMA["properties"])), st.text(max_size=30)))
def test_whatever_is_filled_in_is_read_or_refused(texts: dict[str, str]) -> None:
    fields = fields_of(SCHEMA, {})
    try:
        params = read_params(fields, texts, SCHEMA)
    except ParamsRefused:
        return
    check_params(SCHEMA, params)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_schema_breaks_the_form(part: Any) -> None:
    fields = fields_of({"properties": {"a": part}}, {})
    assert [field.name for field in fields] == ["a"]
    assert isinstance(fields[0].text, str)


@pytest.mark.parametrize(
    ("params", "old", "told"),
    [
        ({"nx": 5, "ny": 4}, PreviousRun({"nx": 7, "ny": 9, "exposure": 0.1}, 63, 1, 0.2), (20, 20, 4.0)),
        ({"shape": [5, 6]}, PreviousRun({"shape": [2, 3]}, 6, 4, None), (30, 120, None)),
        ({"num": 4, "rate_hz": 8}, PreviousRun({"num": 2}, 2), (4, 4, 0.5)),
        ({"rows": 2, "columns": 9}, PreviousRun({"rows": 1, "columns": 9}, 9), (18, 18, None)),
        ({"a": 1}, PreviousRun({"a": 1}, 12, 1, 0.5), (12, 12, 6.0)),
        ({"a": 2}, PreviousRun({"a": 1}, 12, 1, 0.5), (None, None, None)),
        ({"rows": 3, "columns": 4}, PreviousRun({}), (12, 12, None)),
        ({"text": "x"}, PreviousRun({}), (None, None, None)),
        ({"num": 4, "exposure": 1.0}, PreviousRun({"num": 4, "exposure": 0.1}, 4, 1, 0.15), (4, 4, 4.2)),
        (
            {"spec": {"type": "Product", "outer": {"type": "Linspace", "axis": "y", "start": 0, "stop": 1, "num": 3},
             "inner": {"type": "Linspace", "axis": "x", "start": 0, "stop": 1, "num": 5}, "gap": True}},
            PreviousRun({}, 100, 2, 0.1), (15, 30, 1.5),
        ),
        ({"spec": {"type": "Nonsense"}}, PreviousRun({}), (None, None, None)),
    ],
)  # fmt: skip
def test_points_frames_and_seconds_are_told_where_they_follow(
    params: dict[str, Any], old: PreviousRun, told: tuple[Any, Any, Any]
) -> None:
    found = estimate(params, old)
    assert (found.points, found.frames) == told[:2]
    assert found.seconds == (None if told[2] is None else pytest.approx(told[2]))


def test_a_region_fills_start_stop_center_and_width_by_axis() -> None:
    region = {"stage-x": (1.0, 3.0), "stage-y": (-2.0, 2.0)}
    params = {
        "x_start": 0.0, "x_stop": 1, "y_min": 9.0, "ymax": 9.0, "centre_x": 0.0, "y_center": 0.0, "x_range": 1.0,
        "height_y": 1.0, "rows": 3, "exposure": 0.1, "x": "stage.x", "start": 1.0,
    }  # fmt: skip
    assert apply_region(params, region) == {
        "x_start": 1.0, "x_stop": 3.0, "y_min": -2.0, "ymax": 2.0, "centre_x": 2.0, "y_center": 0.0, "x_range": 2.0,
        "height_y": 4.0,
    }  # fmt: skip


def test_a_region_fills_scanspecs_and_keeps_their_direction() -> None:
    spec = {
        "type": "Product", "gap": True,
        "outer": {"type": "Linspace", "axis": "stage-y", "start": 1.0, "stop": 0.0, "num": 3},
        "inner": {"type": "Snake", "spec": {"type": "Linspace", "axis": "stage-x", "start": 0, "stop": 1, "num": 5}},
    }  # fmt: skip
    new = apply_region({"spec": spec}, {"stage-x": (2.0, 3.0), "stage-y": (5.0, 6.0)})["spec"]
    assert (new["outer"]["start"], new["outer"]["stop"]) == (6.0, 5.0)
    assert (new["inner"]["spec"]["start"], new["inner"]["spec"]["stop"]) == (2.0, 3.0)
    assert spec["outer"]["start"] == 1.0
    assert (
        apply_region({"spec": {"type": "Linspace", "axis": "z", "start": 0, "stop": 1}}, {"stage-x": (2.0, 3.0)}) == {}
    )


def test_a_run_tells_what_it_was_started_with() -> None:
    args = {"num": 3, "x": 'SimMotor(name="stage-x", parent=None)', "list": ["Blob(name='det')", 4], "text": "plain"}
    known = plan_call_from_start({"plan_name": "p", "plan_args": args, "instrument_session": "cm1-1"})
    assert known.params == {"num": 3, "x": "stage-x", "list": ["det", 4], "text": "plain"}
    assert (known.name, known.instrument_session) == ("p", "cm1-1")
    assert plan_call_from_start({"plan_name": "p", "plan_args": "odd"}).params == {}
    for start in ({}, {"plan_name": 3}, {"plan_name": ""}):
        with pytest.raises(NothingToRepeat):
            plan_call_from_start(start)
