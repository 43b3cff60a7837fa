"""The two plans of the simulated beamline, and their early endings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import FailedStatus, Msg, RequestAbort, RequestStop
from ophyd_async.core import TriggerInfo

from snakemap.simulator.devices import FileDetector, Panda, XYStage
from snakemap.simulator.start_document import start_document
from snakemap.simulator.writer import ScanFault
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["FAIL_REASON", "PlanDevices", "fly_scan", "start_document", "step_scan"]

Plan: TypeAlias = Iterator[Msg]

FAIL_REASON = "the simulated beam was lost in mid-scan"
EXPOSURE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PlanDevices:
    """The devices and the sample of a plan.

    Attributes:
        stage: moves the sample.
        detectors: with files, already loaded for this scan.
        sample: has the positions.
        begin_ending: called just before the plan ends early.
    """

    stage: XYStage
    detectors: tuple[FileDetector, ...]
    sample: Sample
    begin_ending: Callable[[], None]

    @property
    def request(self) -> ScanRequest:
        """The scan."""
        return self.sample.request


def step_scan(parts: PlanDevices) -> Plan:
    """Move, stop, and take one event at each point."""
    request, stage = parts.request, parts.stage

    @_baseline_decorator(parts)
    @bpp.stage_decorator([*parts.detectors, stage])
    @bpp.run_decorator(md=start_document(parts.sample))
    @_with_device_fault
    def inner() -> Plan:
        for axis in (stage.x, stage.y):
            yield from bps.wait_for([lambda axis=axis: axis.set_speed(request.stage_speed_mm_s)])
        for detector in parts.detectors:
            yield from bps.prepare(detector, _trigger_info(request, detector, number_of_events=1), wait=True)
        at: tuple[float, float] | None = None
        for point in range(request.points_announced):
            place = parts.sample.position(point)
            yield from _point(parts, place, at)
            at = place
        _end_early(parts)

    return (yield from inner())


def fly_scan(parts: PlanDevices) -> Plan:
    """Run the detectors while the stage moves continuously, and collect their data every flush period."""
    request, detectors = parts.request, parts.detectors

    @_baseline_decorator(parts)
    @bpp.stage_decorator([*detectors])
    @bpp.run_decorator(md=start_document(parts.sample))
    @_with_device_fault
    def inner() -> Plan:
        for detector in detectors:
            info = _trigger_info(request, detector, number_of_events=request.points)
            yield from bps.prepare(detector, info, wait=True)
        yield from bps.declare_stream(*detectors, name="primary", collect=True)
        yield from bps.kickoff_all(*detectors, wait=True)
        yield from bps.complete_all(*detectors, group="detectors", wait=False)
        done = False
        while not done:
            done = yield from bps.wait("detectors", timeout=request.flush_period_s, error_on_timeout=False)
            written = min(detector.points_in_file for detector in detectors)
            yield from bps.collect(*detectors, name="primary")
            for detector in detectors:
                detector.raise_fault()
            if request.ending != "complete" and written >= request.points_announced:
                _end_early(parts)

    return (yield from inner())


def _point(parts: PlanDevices, place: tuple[float, float], at: tuple[float, float] | None) -> Plan:
    """Move the axes that differ, and take one event.

    The messages are those of Bluesky's `mv` and `trigger_and_read`, without their stubs, which format a stack trace for
    each message and take longer than a small frame.
    """
    stage = parts.stage
    yield Msg("checkpoint")
    moving = [move for move in zip((stage.y, stage.x), place, at or (None, None), strict=True) if move[1] != move[2]]
    for axis, new, _ in moving:
        yield Msg("set", axis, new, group="move")
    if moving:
        yield Msg("wait", None, group="move")
    for detector in parts.detectors:
        yield Msg("trigger", detector, group="expose")
    yield Msg("wait", None, group="expose")
    yield Msg("create", None, name="primary")
    for detector in parts.detectors:
        yield Msg("read", detector)
    if parts.request.readbacks:
        yield Msg("read", stage)
    yield Msg("save")


def _baseline_decorator(parts: PlanDevices) -> Callable[[Callable[[], Plan]], Callable[[], Plan]]:
    """Return a decorator that reads the stage at the begin and the end of a run, if requested."""
    return bpp.baseline_decorator([parts.stage] if parts.request.baseline else [])


def _trigger_info(request: ScanRequest, detector: FileDetector, *, number_of_events: int) -> TriggerInfo:
    period_s = 1.0 / request.rate_hz if request.rate_hz else 0.0
    frames_per_point = 1 if isinstance(detector, Panda) else request.frames_per_point
    return TriggerInfo(
        number_of_events=number_of_events,
        collections_per_event=frames_per_point,
        livetime=period_s / frames_per_point,
        exposure_timeout=period_s + request.flush_period_s + EXPOSURE_TIMEOUT_S,
    )


def _end_early(parts: PlanDevices) -> None:
    """End the plan early, if requested.

    Raises:
        RequestAbort, RequestStop: as the RunEngine throws into an aborted or stopped plan.
        ScanFault: as a plan that fails.
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


def _with_device_fault(plan: Callable[[], Plan]) -> Callable[[], Plan]:
    """Return a plan that raises the fault of a failed device, instead of its failed status."""

    def translated() -> Plan:
        try:
            return (yield from plan())
        except FailedStatus as error:
            if isinstance(error.__cause__, ScanFault):
                raise error.__cause__ from None
            raise

    return translated
