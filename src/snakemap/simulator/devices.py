"""The simulated beamline's devices: a stage of two axes, and cameras and a PandA that write real files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Protocol

from bluesky.protocols import StreamAsset
from event_model import DataKey
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    PathInfo,
    SignalR,
    StandardDetector,
    StandardReadable,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    TriggerInfo,
    soft_signal_r_and_setter,
)
from ophyd_async.sim import SimMotor

from snakemap.simulator.data_files import SpoolFile
from snakemap.simulator.panda_file import POSITION_PATHS
from snakemap.simulator.writer import DATA_PATH, SUM_CHUNK, FrameFile, ScanFault, sum_path

__all__ = [
    "Camera",
    "Exposure",
    "FileDetector",
    "GrowingFile",
    "Panda",
    "StageAxis",
    "XYStage",
    "frame_resources",
    "position_resources",
]

BATCH_S = 0.05
"""Time after which a camera without a frame period flushes its newest frames for readers."""

LATE_S = 1.0
"""A camera that is later than this resets its schedule, instead of catching up after a pause of the machine."""

RAMP_S = 0.01
"""Acceleration time of an axis."""


class StageAxis(SimMotor):
    """One axis of the stage, in mm; it moves at once, or at a speed."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name=name, instant=True, units="mm")

    async def set_speed(self, speed_mm_s: float) -> None:
        """Set the speed; 0 moves at once."""
        await self.velocity.set(speed_mm_s)
        await self.acceleration_time.set(RAMP_S)

    def follow(self, position_mm: float) -> None:
        """Set the position during a fly scan."""
        self._user_readback_set(position_mm)


class XYStage(StandardReadable):
    """The sample stage: `stage-x` horizontal and `stage-y` vertical."""

    def __init__(self, name: str = "") -> None:
        with self.add_children_as_readables():
            self.x = StageAxis()
            self.y = StageAxis()
        super().__init__(name=name)


class GrowingFile(Protocol):
    """A file that grows by one frame, or one row of numbers, at a time, and generates its data."""

    place: SpoolFile
    frames_written: int

    def open(self) -> None:
        """Create the file, readable by others."""
        ...

    def write(self, stop: int, *, budget_s: float) -> int:
        """Write frames up to `stop`, or as many as the time allows; return the number of readable frames."""
        ...

    def close(self) -> None:
        """Close the file, if it is open."""
        ...


@dataclass(frozen=True, slots=True)
class Exposure:
    """The task of a detector in the next scan.

    Attributes:
        file: receives the frames; it also generates them.
        resources: the datasets in documents.
        frame_period_s: seconds from one frame to the next; 0 is as fast as possible.
        frames_max: maximum number of frames, whatever is requested.
        frames_announced_max: maximum number of announced frames.
        one_by_one: whether each trigger waits for its frames (step scan), or the camera runs freely (fly scan).
        on_frames: called with the index of the newest readable frame.
        frames_per_point: frames of one point, like 1.
        units: of data keys that have one, like ``{"stage-x": "mm"}``.
    """

    file: GrowingFile
    resources: Sequence[StreamResourceInfo]
    frame_period_s: float
    frames_max: int
    frames_announced_max: int
    one_by_one: bool
    on_frames: Callable[[int], None]
    frames_per_point: int = 1
    units: Mapping[str, str] = field(default_factory=dict)


class FileDetector(StandardDetector):
    """A detector with a file writer; call :meth:`load` before every scan.

    Args:
        executor: the one thread that renders and writes frames.
        name: of the device.
    """

    hinted = True
    """Whether there is a data key of the device's own name, which is hinted."""

    def __init__(self, executor: Executor, name: str = "") -> None:
        self.frames_written, set_frames_written = soft_signal_r_and_setter(int)
        self._shutter = _Shutter(executor, set_frames_written)
        self.add_detector_logics(
            _Timing(self._shutter),
            _Acquisition(self._shutter),
            _FileWriting(self._shutter, self.frames_written, self.hinted),
        )
        super().__init__(name=name)

    def load(self, exposure: Exposure) -> None:
        """Set the task of the next scan."""
        self._shutter.load(exposure)

    @property
    def points_in_file(self) -> int:
        """Points of this scan with all frames readable."""
        exposure = self._shutter.exposure
        return exposure.file.frames_written // exposure.frames_per_point

    def raise_fault(self) -> None:
        """Raise the fault of the detector, if any.

        Raises:
            ScanFault: it cannot go on.
        """
        if self._shutter.fault is not None:
            raise self._shutter.fault


class Camera(FileDetector):
    """A camera; its data keys are its name, and its name with `-sum`."""


class Panda(FileDetector):
    """Records the stage position at every point of a fly scan; its data keys are the axes' names."""

    hinted = False


class _Shutter:
    """Schedules frames and their writing, on the RunEngine's loop."""

    def __init__(self, executor: Executor, set_frames_written: Callable[[int], None]) -> None:
        self.executor = executor
        self.set_frames_written = set_frames_written
        self.fault: Exception | None = None
        self.frames_asked = 0
        self._exposure: Exposure | None = None
        self._task: asyncio.Task[None] | None = None
        self._epoch_s: float | None = None
        self._stopping = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        return self._exposure is not None

    @property
    def exposure(self) -> Exposure:
        if self._exposure is None:
            raise ScanFault("the detector has no exposure loaded")
        return self._exposure

    def load(self, exposure: Exposure) -> None:
        self._exposure, self.fault, self._epoch_s = exposure, None, None

    async def begin(self) -> None:
        """Take the requested frames: all of them before it returns, or in the background."""
        self._task = asyncio.create_task(self._take(self.exposure.file.frames_written + self.frames_asked))
        if self.exposure.one_by_one:
            await self.finished()

    async def finished(self) -> None:
        """Wait for the requested frames, or until the camera is stopped.

        Raises:
            ScanFault: the camera cannot go on.
        """
        task = self._task  # a concurrent stop resets it
        if task is None:
            return
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def stop(self) -> None:
        """Take no more frames; return when none is being written."""
        async with self._stopping:
            if self._task is None:
                return
            self._task.cancel()
            await asyncio.wait([self._task])
            # retrieved: raise_fault, or the waiting trigger, has raised it
            _ = self._task.cancelled() or self._task.exception()
            self._task = None

    async def _take(self, wanted: int) -> None:
        try:
            stop = min(wanted, self.exposure.frames_max)
            while self.exposure.file.frames_written < stop:
                await self._take_due(stop)
        except Exception as error:
            self.fault = error
            raise

    async def _take_due(self, stop: int) -> None:
        exposure = self.exposure
        due = await self._wait_for_frames(exposure.file.frames_written, stop)
        write_due = partial(exposure.file.write, due, budget_s=BATCH_S)
        write = asyncio.get_running_loop().run_in_executor(self.executor, write_due)
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            # the thread uses the file: wait before the file is closed
            await asyncio.wait([write])
            _ = write.exception()
            raise
        finally:
            self.set_frames_written(exposure.file.frames_written)
        exposure.on_frames(exposure.file.frames_written - 1)

    async def _wait_for_frames(self, taken: int, stop: int) -> int:
        """Sleep until at least one more frame is due, and return the number of due frames."""
        period_s = self.exposure.frame_period_s
        if not period_s:
            await asyncio.sleep(0)
            return stop
        now = time.monotonic()
        if self._epoch_s is None or now - (self._epoch_s + (taken + 1) * period_s) > LATE_S:
            self._epoch_s = now - taken * period_s
        await asyncio.sleep(max(0.0, self._epoch_s + (taken + 1) * period_s - now))
        return min(stop, max(taken + 1, int((time.monotonic() - self._epoch_s) / period_s)))


@dataclass
class _Timing(DetectorTriggerLogic):
    shutter: _Shutter

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.shutter.frames_asked = num

    async def default_trigger_info(self) -> TriggerInfo:
        return TriggerInfo()


@dataclass
class _Acquisition(DetectorAcquireLogic):
    shutter: _Shutter

    async def start_acquiring(self) -> None:
        await self.shutter.begin()

    async def wait_for_idle(self) -> None:
        await self.shutter.finished()

    async def ensure_stopped(self) -> None:
        await self.shutter.stop()


@dataclass
class _FileWriting(DetectorDataLogic):
    shutter: _Shutter
    frames_written: SignalR[int]
    hinted: bool

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        exposure = self.shutter.exposure
        exposure.file.open()
        self.shutter.set_frames_written(0)
        path = exposure.file.place.path
        place = PathInfo(directory_path=PurePath(path.parent), filename=path.stem)
        return _AnnouncedFrames(
            uri=f"{place.directory_uri}{path.name}",
            collections_written_signal=self.frames_written,
            exposure=exposure,
        )

    async def stop(self) -> None:
        # the frames first, then the file; ophyd-async calls ensure_stopped concurrently
        await self.shutter.stop()
        if self.shutter.loaded:
            self.shutter.exposure.file.close()

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return [datakey_name] if self.hinted else []


class _AnnouncedFrames(StreamResourceDataProvider):
    """Announces frames up to the requested end of the scan."""

    def __init__(self, uri: str, *, collections_written_signal: SignalR[int], exposure: Exposure) -> None:
        super().__init__(uri, exposure.resources, "application/x-hdf5", collections_written_signal)
        self.exposure = exposure

    async def make_datakeys(self, collections_per_event: int) -> dict[str, DataKey]:
        keys = await super().make_datakeys(collections_per_event)
        for name, unit in self.exposure.units.items():
            keys[name]["units"] = unit
        return keys

    async def make_stream_docs(
        self, collections_written: int, collections_per_event: int
    ) -> AsyncIterator[StreamAsset]:
        announced = min(collections_written, self.exposure.frames_announced_max)
        async for asset in super().make_stream_docs(announced, collections_per_event):
            yield asset


def frame_resources(file: FrameFile) -> list[StreamResourceInfo]:
    """Return a camera's two datasets: its frames, and their sums."""
    one = file.renderer.request.dataset_shape
    return [
        StreamResourceInfo(
            data_key=file.camera,
            shape=one,
            chunk_shape=(1, *one),
            dtype_numpy=file.renderer.dtype.str,
            parameters={"dataset": DATA_PATH},
        ),
        _numbers(f"{file.camera}-sum", sum_path(file.camera)),
    ]


def position_resources() -> list[StreamResourceInfo]:
    """Return the PandA's two datasets, one for each axis."""
    return [_numbers(name, path) for name, path in POSITION_PATHS.items()]


def _numbers(name: str, path: str) -> StreamResourceInfo:
    return StreamResourceInfo(
        data_key=name, shape=(), chunk_shape=(SUM_CHUNK,), dtype_numpy="<f8", parameters={"dataset": path}
    )
