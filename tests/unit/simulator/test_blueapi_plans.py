"""The plans that the simulated beamline offers: those of visr-ui's buttons, with the parameters of the real ones."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from snakemap.blueapi.plan_form import fields_of
from snakemap.errors import SettingsError
from snakemap.simulator.blueapi_plans import PLANS
from snakemap.synthetic.request import ScanRequest

SPECTROSCOPY = PLANS["demo_spectroscopy"]
FORM = {
    "total_number_of_scan_points": 25, "grid_size": 5.0, "grid_origin_x": 0.0, "grid_origin_y": 0.0,
    "exposure_time": 0.1,
}  # fmt: skip
"""What visr-ui's form sends, untouched."""


def asked(**params: Any) -> ScanRequest:
    return SPECTROSCOPY.scan(params).request


def test_the_form_as_it_opens_is_five_by_five_over_five_millimetres() -> None:
    request = asked(**FORM)
    assert (request.shape, request.mode, request.rate_hz, request.snake) == ((5, 5), "step", 10.0, True)
    assert (request.step_mm, request.origin_mm) == (1.25, (0.0, 0.0))
    assert request == asked()


def test_the_buttons_of_both_kinds_of_scan_are_told_apart() -> None:
    assert [asked(**FORM, fly=fly).mode for fly in (False, True)] == ["step", "fly"]


@pytest.mark.parametrize(
    ("points", "side"), [(1, 1), (0, 1), (-4, 1), (2, 1), (3, 2), (6, 2), (7, 3), (100, 10), (110, 10), (111, 11)]
)
def test_points_are_rounded_to_a_square_as_the_real_plan_does(points: int, side: int) -> None:
    assert asked(total_number_of_scan_points=points).shape == (side, side)


def test_the_square_lies_where_it_is_asked_for() -> None:
    request = asked(total_number_of_scan_points=9, grid_size=3.0, grid_origin_x=-1.5, grid_origin_y=2.0)
    assert (request.step_mm, request.origin_mm) == (1.5, (2.0, -1.5))


def test_devices_are_those_of_the_instrument_and_no_others() -> None:
    devices = {
        "spectroscopy_detector": "spectroscopy_detector", "sample_stage": "sample_stage", "pmac": "pmac",
        "pandabox": "pandabox", "pandabrick": "pandabrick",
    }  # fmt: skip
    assert asked(**devices) == asked()
    with pytest.raises(ValidationError, match="Device camera cannot be found"):
        asked(spectroscopy_detector="camera")


def test_metadata_goes_into_the_start_document_but_for_what_the_worker_writes() -> None:
    metadata = {"sample": "leaf", "user": "me", "blueapi_task_id": "1", "instrument_session": "x", "self": 1}
    assert SPECTROSCOPY.scan({"metadata": metadata}).metadata == {"sample": "leaf"}
    assert SPECTROSCOPY.scan({"metadata": None}).metadata == {}


@pytest.mark.parametrize(
    "params",
    [
        {"surplus": 1},
        {"grid_size": 0},
        {"grid_size": -1.0},
        {"grid_size": float("nan")},
        {"exposure_time": 0},
        {"total_number_of_scan_points": 10**9},
        {"total_number_of_scan_points": 2.5},
        {"grid_origin_x": float("inf")},
        {"metadata": "leaf"},
    ],
)
def test_what_cannot_be_scanned_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SPECTROSCOPY.scan(params)


def test_a_square_too_small_for_its_points_is_refused() -> None:
    with pytest.raises(SettingsError, match="step_mm"):
        asked(total_number_of_scan_points=4_000_000, grid_size=1e-7)


def test_our_own_form_shows_its_parameters() -> None:
    fields = {field.name: field for field in fields_of(SPECTROSCOPY.schema(), {})}
    assert [fields[name].kind for name in ("sample_stage", "total_number_of_scan_points", "grid_size", "fly")] == [
        "device", "integer", "number", "switch",
    ]  # fmt: skip
    assert {name: fields[name].value for name in FORM} == FORM
    assert fields["spectroscopy_detector"].choices == ("spectroscopy_detector",)
