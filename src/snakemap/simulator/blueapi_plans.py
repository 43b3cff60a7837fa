"""The plans of the simulated beamline, with their parameters.

Two are its own. The third is `demo_spectroscopy` of the real instrument, with the same parameters and defaults, so that
the buttons of visr-ui work unchanged:

    parameter                                        in the real plan                  here
    total_number_of_scan_points                      n x n points, n = round(sqrt())   the same
    grid_size, grid_origin_x, grid_origin_y          of a square, mm                   the same
    exposure_time                                    of a frame, s                     pace: a point in this time
    fly                                              sent by newer buttons             step scan or fly scan
    spectroscopy_detector, sample_stage, pmac, ...   devices                           checked, and always these
    metadata                                         into the start document           the same
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from snakemap.synthetic.request import Mode, ScanRequest

__all__ = ["PLANS", "PlanDefinition", "PlannedScan"]

SIDE_MAX = 2000
RESERVED = frozenset(("self", "blueapi_task_id", "user", "instrument_session"))
"""Fields of a start document that the worker writes, or that the RunEngine refuses."""


@dataclass(frozen=True, slots=True)
class PlannedScan:
    """A scan from parameters.

    Attributes:
        request: the scan.
        metadata: more fields of its start document.
    """

    request: ScanRequest
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanDefinition:
    """A plan.

    Attributes:
        description: for users.
        params: its parameters.
        planned_scan: makes the scan from validated parameters.
    """

    description: str
    params: type[BaseModel]
    planned_scan: Callable[[Any], PlannedScan]

    def scan(self, params: Mapping[str, Any]) -> PlannedScan:
        """Return the scan for parameters.

        Raises:
            ValidationError: one of them is invalid.
            SettingsError: there can be no such scan.
        """
        return self.planned_scan(self.params.model_validate(params))

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the parameters."""
        return self.params.model_json_schema()


class ScanParams(BaseModel):
    """Parameters of a simulated scan."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[int, Field(ge=1, le=2000, description="Points along stage-y, the slow axis.")] = 60
    columns: Annotated[int, Field(ge=1, le=2000, description="Points along stage-x, the fast axis.")] = 60
    x_start: Annotated[float, Field(ge=-1000, le=1000, description="First stage-x, mm.")] = -2.0
    x_stop: Annotated[float, Field(ge=-1000, le=1000, description="Last stage-x, mm.")] = 0.95
    y_start: Annotated[float, Field(ge=-1000, le=1000, description="First stage-y, mm.")] = 1.0
    y_stop: Annotated[float, Field(ge=-1000, le=1000, description="Last stage-y, mm.")] = 3.95
    rate_hz: Annotated[float, Field(ge=0, le=1e6, description="Points a second; 0 is as fast as possible.")] = 20.0
    snake: Annotated[bool, Field(description="Whether every second row runs back.")] = True
    frame_shape: Annotated[list[int], Field(min_length=2, max_length=2, description="Rows and columns, pixels.")] = [
        1216,
        1936,
    ]
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of all noise.")] = 0

    @model_validator(mode="after")
    def _rising(self) -> ScanParams:
        for axis, count in (("x", self.columns), ("y", self.rows)):
            start, stop = getattr(self, f"{axis}_start"), getattr(self, f"{axis}_stop")
            if count > 1 and stop <= start:
                raise ValueError(f"{axis}_stop must be higher than {axis}_start")
        return self

    def request(self, mode: Mode) -> ScanRequest:
        """Return the scan.

        Raises:
            SettingsError: there can be no such scan.
        """
        width, height = self.x_stop - self.x_start, self.y_stop - self.y_start
        step = width / (self.columns - 1) if self.columns > 1 else 0.05
        return ScanRequest(
            shape=(self.rows, self.columns),
            mode=mode,
            rate_hz=self.rate_hz,
            snake=self.snake,
            frame_shape=(self.frame_shape[0], self.frame_shape[1]),
            seed=self.seed,
            step_mm=step,
            slow_step_mm=height / (self.rows - 1) if self.rows > 1 else step,
            origin_mm=(self.y_start, self.x_start),
        )


def _device(name: str, kind: str) -> Any:
    """Return the field of a parameter with one possible device; blueapi describes it by its class."""
    return Field(default=name, json_schema_extra={"enum": [name], "type": kind})


DEVICES = ("spectroscopy_detector", "sample_stage", "pmac", "pandabox", "pandabrick")


class SpectroscopyParams(BaseModel):
    """Parameters of `demo_spectroscopy`."""

    model_config = ConfigDict(extra="forbid")

    spectroscopy_detector: str = _device("spectroscopy_detector", "AravisDetector")
    sample_stage: str = _device("sample_stage", "XYZStage")
    pmac: str = _device("pmac", "PmacIO")
    pandabox: str = _device("pandabox", "HDFPanda")
    pandabrick: str = _device("pandabrick", "HDFPanda")
    total_number_of_scan_points: Annotated[
        int, Field(le=SIDE_MAX**2, description="Rounded to the next square; 1 where it is less.")
    ] = 25
    grid_size: Annotated[float, Field(gt=0, le=1000, description="Side of the square, mm.")] = 5.0
    grid_origin_x: Annotated[float, Field(ge=-1000, le=1000, description="First sample_stage-x, mm.")] = 0.0
    grid_origin_y: Annotated[float, Field(ge=-1000, le=1000, description="First sample_stage-y, mm.")] = 0.0
    exposure_time: Annotated[float, Field(ge=1e-6, le=3600, description="Of a frame, s.")] = 0.1
    fly: Annotated[bool, Field(description="Whether the stage never stops.")] = False
    metadata: Annotated[dict[str, Any] | None, Field(description="More of the start document.")] = None

    @field_validator(*DEVICES)
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        if value != info.field_name:
            raise ValueError(f"Device {value[:100]} cannot be found")
        return value

    def planned_scan(self) -> PlannedScan:
        """Return the scan.

        Raises:
            SettingsError: there can be no such scan.
        """
        side = round(math.sqrt(max(self.total_number_of_scan_points, 1)))
        request = ScanRequest(
            shape=(side, side),
            mode="fly" if self.fly else "step",
            rate_hz=1 / self.exposure_time,
            step_mm=self.grid_size / max(side - 1, 1),
            origin_mm=(self.grid_origin_y, self.grid_origin_x),
            plan_name="spec_scan",
            tells="repr",
        )
        metadata = {name: value for name, value in (self.metadata or {}).items() if name not in RESERVED}
        return PlannedScan(request, metadata)


def _scan(mode: Mode, params: ScanParams) -> PlannedScan:
    return PlannedScan(params.request(mode))


PLANS: dict[str, PlanDefinition] = {
    "simulated_step_scan": PlanDefinition(
        "Stops at every point of a grid and takes a frame there.", ScanParams, partial(_scan, "step")
    ),
    "simulated_fly_scan": PlanDefinition(
        "Takes frames while the stage never stops.", ScanParams, partial(_scan, "fly")
    ),
    "demo_spectroscopy": PlanDefinition(
        "Spectroscopy of a square, as the plan of this name on the instrument that visr-ui controls.",
        SpectroscopyParams,
        SpectroscopyParams.planned_scan,
    ),
}
"""Every plan by its name."""
