"""The two plans of the simulated beamline, and the ways in which they end early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import FailedStatus, Msg, RequestAbort, RequestStop
from ophyd_async.core import TriggerInfo

from snakemap.simulator.devices import Camera, XYStage
from snakemap.simulator.request import ScanRequest
from snakemap.simulator.sample import FAST, SLOW, Sample
from snakemap.simulator.writer import ScanFault

__all__ = ["FAIL_REASON", "Parts", "fly_scan", "start_document", "step_scan"]

Plan: TypeAlias = Iterator[Msg]

FAIL_REASON = "the simulated beam was lost in mid-scan"
EXPOSURE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a plan works with.

    Attributes:
        stage: moves the sample.
        camera: already loaded for this scan.
        sample: knows where each point is.
        begin_ending: told the request's ending just before the plan ends early.
    """

    stage: XYStage
    camera: Camera
    sample: Sample
    begin_ending: Callable[[], None]

    @property
    def request(self) -> ScanRequest:
        """The scan."""
        return self.sample.request


def start_document(sample: Sample) -> dict[str, Any]:
    """What the plan adds to the start document: the geometry in scanspec's JSON, the regions, and the request."""
    request = sample.request
    dimensions = [[[SLOW], "primary"], [[FAST], "primary"]]
    return {
        "plan_name": request.plan,
        "detectors": ["camera"],
        "motors": [SLOW, FAST],
        "num_points": request.points,
        "shape": list(request.shape),
        "scanspec": sample.spec.serialize(),
        "units": {SLOW: "mm", FAST: "mm"},
        "rois": {name: list(rect) for name, rect in request.rectangles.items()},
        "plan_args": request.as_dict(),
        "hints": {"dimensions": dimensions},
    }


def step_scan(parts: Parts) -> Plan:
    """Moves, stops, takes one event; moves, stops, takes one event."""
    request, camera, stage = parts.request, parts.camera, parts.stage

    @bpp.stage_decorator([camera, stage])
    @bpp.run_decorator(md=start_document(parts.sample))
    @_faults_in_words
    def inner() -> Plan:
        for axis in (stage.x, stage.y):
            yield from bps.wait_for([lambda axis=axis: axis.set_speed(request.stage_speed_mm_s)])
        yield from bps.prepare(camera, _trigger_info(request, number_of_events=1), wait=True)
        at: tuple[float, float] | None = None
        for point in range(request.points_announced):
            place = parts.sample.position(point)
            yield from _point(parts, place, at)
            at = place
        _end_early(parts)

    return (yield from inner())


def fly_scan(parts: Parts) -> Plan:
    """Lets the camera run while the stage never stops, and collects what it wrote every flush period."""
    request, camera = parts.request, parts.camera
    frames_announced = request.points_announced * request.frames_per_point

    @bpp.stage_decorator([camera])
    @bpp.run_decorator(md=start_document(parts.sample))
    @_faults_in_words
    def inner() -> Plan:
        yield from bps.prepare(camera, _trigger_info(request, number_of_events=request.points), wait=True)
        yield from bps.declare_stream(camera, name="primary", collect=True)
        yield from bps.kickoff(camera, wait=True)
        yield from bps.complete(camera, group="camera", wait=False)
        done = False
        while not done:
            done = yield from bps.wait("camera", timeout=request.flush_period_s, error_on_timeout=False)
            written = camera.frames_in_file
            yield from bps.collect(camera, name="primary")
            camera.raise_fault()
            if request.ending != "complete" and written >= frames_announced:
                _end_early(parts)

    return (yield from inner())


def _point(parts: Parts, place: tuple[float, float], at: tuple[float, float] | None) -> Plan:
    """Moves the axes that have to move, and takes one event.

    The messages are those of Bluesky's own `mv` and `trigger_and_read`; not so their stubs, which format a stack trace
    for each message and so take longer than a small frame.
    """
    stage, camera = parts.stage, parts.camera
    yield Msg("checkpoint")
    moving = [move for move in zip((stage.y, stage.x), place, at or (None, None), strict=True) if move[1] != move[2]]
    for axis, new, _ in moving:
        yield Msg("set", axis, new, group="move")
    if moving:
        yield Msg("wait", None, group="move")
    yield Msg("trigger", camera, group="expose")
    yield Msg("wait", None, group="expose")
    yield Msg("create", None, name="primary")
    yield Msg("read", camera)
    yield Msg("read", stage)
    yield Msg("save")


def _trigger_info(request: ScanRequest, *, number_of_events: int) -> TriggerInfo:
    period_s = 1.0 / request.rate_hz if request.rate_hz else 0.0
    return TriggerInfo(
        number_of_events=number_of_events,
        collections_per_event=request.frames_per_point,
        livetime=period_s / request.frames_per_point,
        exposure_timeout=period_s + request.flush_period_s + EXPOSURE_TIMEOUT_S,
    )


def _end_early(parts: Parts) -> None:
    """Ends the plan as its request says, when that is not at its natural end.

    Raises:
        RequestAbort, RequestStop: as the RunEngine throws into a plan that somebody aborts or stops.
        ScanFault: as a plan raises that fails by itself.
    """
    ending = parts.request.ending
    if ending == "complete":
        return
    parts.begin_ending()
    if ending == "stop":
        raise RequestStop
    if ending == "fail":
        raise ScanFault(FAIL_REASON)
    raise RequestAbort


def _faults_in_words(plan: Callable[[], Plan]) -> Callable[[], Plan]:
    """Gives a failed device's own words as the reason, instead of the name of its status."""

    def told() -> Plan:
        try:
            return (yield from plan())
        except FailedStatus as error:
            if isinstance(error.__cause__, ScanFault):
                raise error.__cause__ from None
            raise

    return told
