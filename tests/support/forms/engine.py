"""A RunEngine with a stage of three axes, a diode and a camera that keeps its frames in mind: for forms of runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import numpy.typing as npt
from bluesky.run_engine import RunEngine, get_bluesky_event_loop, set_bluesky_event_loop
from bluesky.utils import FailedStatus, RequestAbort, RunEngineInterrupted
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    Device,
    StandardDetector,
    StandardReadable,
    StandardReadableFormat,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    TriggerInfo,
    derived_signal_r,
    soft_signal_r_and_setter,
)
from ophyd_async.sim import SimMotor
from tests.support.forms.form import FRAME, brightness

__all__ = ["Broken", "Camera", "Hall"]

JOIN_S = 10.0


class Broken(Exception):
    """What a plan raises that is meant to fail."""


class Memory:
    """What a camera has taken: where the stage was at each frame.

    Attributes:
        stage: the axes that it looks at.
        places: (x, y, z) in mm of each frame of the present file.
        files: those of every file so far, by number.
        asked: frames of the next exposure.
        flying: whether frames come when the plan says so, and not when it is triggered.
    """

    def __init__(self, stage: Sequence[SimMotor], written: Callable[[int], None]) -> None:
        self.stage = stage
        self.places: list[tuple[float, ...]] = []
        self.files: dict[int, list[tuple[float, ...]]] = {}
        self.asked = 1
        self.flying = False
        self.file = 0
        self._written = written

    async def expose(self) -> None:
        """Takes a frame where the stage is."""
        at = [await axis.user_readback.get_value() for axis in self.stage]
        self.take([tuple(at)] * self.asked)

    def take(self, places: Sequence[tuple[float, ...]]) -> None:
        """Takes frames."""
        self.places.extend(places)
        self._written(len(self.places))

    def begin(self) -> None:
        """Begins a new file."""
        self.places, self.file = [], self.file + 1
        self.files[self.file] = self.places
        self._written(0)


@dataclass
class _Timing(DetectorTriggerLogic):
    memory: Memory
    each: int

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.memory.asked = num

    async def default_trigger_info(self) -> TriggerInfo:
        return TriggerInfo(collections_per_event=self.each)


@dataclass
class _Acquisition(DetectorAcquireLogic):
    memory: Memory

    async def start_acquiring(self) -> None:
        if not self.memory.flying:
            await self.memory.expose()

    async def wait_for_idle(self) -> None:
        pass

    async def ensure_stopped(self) -> None:
        pass


@dataclass
class _Writing(DetectorDataLogic):
    memory: Memory
    provider: Callable[[str], StreamableDataProvider]

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self.memory.begin()
        return self.provider(datakey_name)

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return [datakey_name]


class Camera(StandardDetector):
    """A camera of which only the sums of its frames are kept, with its own sum beside them.

    Args:
        stage: the axes that it looks at.
        name: of its data key.
        each: frames a point.
    """

    def __init__(self, stage: Sequence[SimMotor], name: str, *, each: int = 1) -> None:
        self.written, set_written = soft_signal_r_and_setter(int)
        self.memory = Memory(stage, set_written)
        self.each = each
        self.add_detector_logics(
            _Timing(self.memory, each), _Acquisition(self.memory), _Writing(self.memory, self._provider)
        )
        super().__init__(name=name)

    @property
    def uri(self) -> str:
        """Of its present file."""
        return f"file://localhost/data/{self.name}-{self.memory.file}.h5"

    def places(self, uri: str) -> npt.NDArray[np.float64]:
        """Where the stage was (n, 3) at each frame of a file."""
        return np.array(self.memory.files[int(uri.rpartition("-")[2].removesuffix(".h5"))]).reshape(-1, 3)

    def _provider(self, name: str) -> StreamableDataProvider:
        frames = StreamResourceInfo(
            data_key=name,
            shape=FRAME,
            chunk_shape=(1, *FRAME),
            dtype_numpy="<u2",
            parameters={"dataset": "/entry/data/data"},
        )
        own = StreamResourceInfo(
            data_key=f"{name}-sum",
            shape=(),
            chunk_shape=(1024,),
            dtype_numpy="<f8",
            parameters={"dataset": "/entry/sum"},
        )
        return StreamResourceDataProvider(self.uri, [frames, own], "application/x-hdf5", self.written)


class Diode(StandardReadable):
    """Reads the brightness of the sample where the stage is."""

    def __init__(self, stage: Sequence[SimMotor], name: str) -> None:
        x, y, z = (axis.user_readback for axis in stage)
        with self.add_children_as_readables(StandardReadableFormat.HINTED_SIGNAL):
            self.value = derived_signal_r(_brightness, derived_units="nA", x=x, y=y, z=z)
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """There is nothing to wait for; adaptive plans ask for it."""


class Hall:
    """The RunEngine, and what it moves and reads.

    Attributes:
        x, y, z: the axes ``stage-x``, ``stage-y`` and ``stage-z``, in mm.
        camera: takes a frame a point.
        burst: takes four frames a point.
        diode: a scalar.
    """

    def __init__(self) -> None:
        self.engine = RunEngine({}, context_managers=[])
        self.engine.subscribe(lambda name, doc: self._documents.append((name, doc)))
        self._documents: list[tuple[str, Any]] = []
        self.x, self.y, self.z = stage = [SimMotor(name=f"stage-{axis}") for axis in "xyz"]
        self.camera, self.burst = Camera(stage, "camera"), Camera(stage, "burst", each=4)
        self.diode = Diode(stage, "diode")
        self._call(_connected([*stage, self.camera, self.burst, self.diode]))

    def record(self, *plans: Any, resume: int = 0, abort: bool = False, **metadata: Any) -> list[tuple[str, Any]]:
        """Runs plans one after the other to their ends, whatever these are, from 0 mm on.

        Args:
            plans: what to run.
            resume: how often to resume when a plan has paused.
            abort: whether to abort then.
            metadata: added to the start document.

        Returns:
            The documents.
        """
        self._documents = []
        for axis in (self.x, self.y, self.z):
            axis._user_readback_set(0.0)
        for plan in plans:
            try:
                self.engine(plan, **metadata)
            except RunEngineInterrupted:
                for _ in range(resume):
                    self._resume()
                if abort:
                    self.engine.abort()
            except (Broken, FailedStatus, RequestAbort):
                pass
        return self._documents

    def fly(self, camera: Camera, places: Sequence[tuple[float, ...]], batches: Sequence[int]) -> Iterator[Any]:
        """The inside of a fly scan: frames come in batches, announced as they are flushed."""
        camera.memory.flying = True
        try:
            yield from bps.prepare(camera, TriggerInfo(number_of_events=len(places)), wait=True)
            yield from bps.declare_stream(camera, name="primary", collect=True)
            yield from bps.kickoff(camera, wait=True)
            yield from bps.complete(camera, group="flying", wait=False)
            taken = 0
            for batch in batches:
                camera.memory.take(places[taken : taken + batch])
                taken += batch
                yield from bps.sleep(0)
                yield from bps.collect(camera, name="primary")
            if taken == len(places):
                yield from bps.wait("flying")
        finally:
            camera.memory.flying = False

    def close(self) -> None:
        """Stops the loop and its thread."""
        loop, thread = self.engine.loop, self.engine._th
        self._call(_cancel_others())
        self._call(loop.shutdown_asyncgens())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(JOIN_S)
        loop.close()
        if get_bluesky_event_loop() is loop:
            set_bluesky_event_loop(None)

    def _resume(self) -> None:
        with contextlib.suppress(RunEngineInterrupted):
            self.engine.resume()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.engine.loop).result()


def _brightness(x: float, y: float, z: float) -> float:
    return brightness(x, y, z)


async def _connected(devices: Sequence[Device]) -> None:
    for device in devices:
        await device.connect()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
