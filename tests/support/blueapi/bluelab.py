"""Devices and plans of a small beamline that a real blueapi serves in the tests, in an environment of its own."""

import os
from pathlib import Path
from typing import Annotated

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable
from bluesky.utils import MsgGenerator
from dodal.device_manager import DeviceManager
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider
from ophyd_async.sim import PatternGenerator, SimBlobDetector, SimMotor, SimStage
from pydantic import Field
from scanspec.specs import Linspace, Product, Snake

__all__ = ["failing_scan", "grid", "no_detector"]

devices = DeviceManager()
DATA = Path(os.environ["BLUELAB_DATA"])
pattern = PatternGenerator()


@devices.factory()
def stage() -> SimStage:
    """The sample stage, which does not take time to move."""
    return SimStage(pattern, name="stage")


@devices.factory()
def camera() -> SimBlobDetector:
    """Frames of 240x320."""
    return SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), DATA), pattern, name="camera")


def grid(
    camera: SimBlobDetector,
    x: SimMotor,
    y: SimMotor,
    rows: Annotated[int, Field(gt=0, le=1000, description="Points along y.")] = 3,
    columns: Annotated[int, Field(gt=0, le=1000, description="Points along x.")] = 4,
    x_start: float = 0.0,
    x_stop: float = 1.0,
    y_start: float = 0.0,
    y_stop: float = 1.0,
    exposure: Annotated[float, Field(gt=0, le=60, description="Exposure of a frame in s.")] = 0.02,
) -> MsgGenerator[None]:
    """Scans a rectangle, row by row, every second one backwards."""
    spec = Product(Linspace(y.name, y_start, y_stop, rows), Snake(Linspace(x.name, x_start, x_stop, columns)))
    md = {
        "plan_name": "grid",
        "plan_args": {"rows": rows, "columns": columns},
        "shape": [rows, columns],
        "scanspec": spec.serialize(),
        "detectors": [camera.name],
    }

    @bpp.stage_decorator([camera])
    @bpp.run_decorator(md=md)
    def inner() -> MsgGenerator[None]:
        yield from bps.prepare(camera, TriggerInfo(livetime=exposure, deadtime=0.001), wait=True)
        for point in spec.midpoints():
            yield from bps.checkpoint()
            yield from bps.mv(y, point[y.name], x, point[x.name])
            yield from bps.trigger_and_read([camera, x, y])

    yield from inner()


def failing_scan(x: Movable, message: str = "the shutter did not open") -> MsgGenerator[None]:
    """Raises before its first point."""
    yield from bps.null()
    raise RuntimeError(message)


def no_detector(seconds: Annotated[float, Field(ge=0, le=600)] = 1.0) -> MsgGenerator[None]:
    """Waits, and makes no run."""
    yield from bps.sleep(seconds)
