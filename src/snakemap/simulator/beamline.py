"""The simulated beamline: it scans, writes files and publishes documents.

with SimulatedBeamline(data_dir, sink) as beamline:
    uid = beamline.run(ScanRequest(shape=(60, 60), mode="fly", rate_hz=100))
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from bluesky.log import ComposableLogAdapter
from bluesky.run_engine import PAUSE_MSG, RunEngine, get_bluesky_event_loop, set_bluesky_event_loop
from bluesky.utils import (
    DuringTask,
    RunEngineInterrupted,
    TransitionError,  # pyright: ignore[reportPrivateImportUsage] - its home is vendored, and more private still
)

from snakemap.simulator.blueapi_messages import Sink, WorkerPublisher
from snakemap.simulator.data_files import Spool, SpoolFile
from snakemap.simulator.devices import (
    Camera,
    Exposure,
    FileDetector,
    GrowingFile,
    Panda,
    XYStage,
    frame_resources,
    position_resources,
)
from snakemap.simulator.panda_file import PositionsFile, positions_bytes
from snakemap.simulator.plans import PlanDevices, fly_scan, step_scan
from snakemap.simulator.writer import FrameFile, ScanFault, file_bytes
from snakemap.synthetic.frames import FrameRenderer
from snakemap.synthetic.paths import FAST, SLOW
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["Outcome", "ScanRequest", "SimulatedBeamline", "simulate"]

logger = logging.getLogger(__name__)

DISK_LIMIT_BYTES = 2_000_000_000
OVERRUN_FRAMES = 13
"""Frames that a flying camera takes after the end of its scan; they are never announced."""

JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scan ended.

    Attributes:
        uid: of the run; empty if there was no start document.
        exit_status: ``"success"``, ``"abort"`` or ``"fail"``, from the stop document, also of a lost run.
        reason: why it failed, or empty.
        points: events in documents.
        file: the HDF5 file, of the first camera.
        as_requested: whether it ended as requested.
        files: all files, by the name of the device, like ``"camera"``, ``"camera2"``, ``"panda"``.
    """

    uid: str
    exit_status: str
    reason: str
    points: int
    file: Path
    as_requested: bool
    files: Mapping[str, Path]


class SimulatedBeamline:
    """A RunEngine with a stage and a camera, publishing to one sink; one scan at a time.

    Threads start with the first scan; :meth:`close` stops them.

    Args:
        data_dir: the data root; files go into its ``simulated`` directory.
        sink: of all messages.
        disk_limit_bytes: maximum size of all simulated files.
        instrument: in the start document.
        instrument_session: like ``cm12345-1``.
    """

    def __init__(
        self,
        data_dir: Path,
        sink: Sink,
        *,
        disk_limit_bytes: int = DISK_LIMIT_BYTES,
        instrument: str = "simulator",
        instrument_session: str = "cm12345-1",
    ) -> None:
        self.spool = Spool(data_dir, limit_bytes=disk_limit_bytes)
        self.metadata = {"instrument": instrument, "instrument_session": instrument_session}
        self.outcome: Outcome | None = None
        self._publisher = WorkerPublisher(sink)
        self._engine: _Engine | None = None
        self._end_wanted = ""

    def __enter__(self) -> SimulatedBeamline:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, request: ScanRequest, *, task_id: str = "", metadata: Mapping[str, Any] | None = None) -> str:
        """Scan; blocks until the last message.

        Args:
            request: the scan.
            task_id: of the task; empty for a new one.
            metadata: more fields of the start document; they override those of the beamline.

        Returns:
            The run's uid; :attr:`outcome` is its ending.

        Raises:
            SettingsError: the scan does not fit on the disk; nothing is published then.
            Exception: from the sink; the scan has ended then.
        """
        sample = Sample(request)
        renderers = _renderers(sample)
        sizes = [file_bytes(renderer) for renderer in renderers.values()]
        sizes += [positions_bytes(request)] if request.positions_file else []
        self._end_wanted = ""
        with self.spool.claim_all(sizes) as places, ExitStack() as in_the_end:
            files = _files(sample, renderers, places)
            for file in files.values():
                in_the_end.callback(file.close)
            return self._scan(sample, files, task_id or str(uuid.uuid4()), {**self.metadata, **(metadata or {})})

    def abort(self) -> None:
        """Abort the running scan, if any; safe from another thread and from a signal handler."""
        self._end("abort")

    def stop(self) -> None:
        """Stop the running scan early, with success; as safe as :meth:`abort`."""
        self._end("stop")

    def _end(self, how: str) -> None:
        self._end_wanted = how
        if self._engine is not None:
            self._engine.end(how)

    def close(self) -> None:
        """Stop all threads; idempotent."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _scan(self, sample: Sample, files: Mapping[str, GrowingFile], task_id: str, metadata: dict[str, Any]) -> str:
        engine = self._engine = self._engine or _Engine(self._publisher)
        request, publisher = sample.request, self._publisher
        publisher.begin(task_id)
        for name, file in files.items():
            engine.detectors[name].load(_exposure(file, sample, engine.stage))
        detectors = tuple(engine.detectors[name] for name in files)
        parts = PlanDevices(engine.stage, detectors, sample, lambda: _begin_ending(request, publisher))
        error = engine.run(parts, metadata, end_wanted=lambda: self._end_wanted)
        self.outcome = _outcome(
            request, publisher, files={name: file.place.path for name, file in files.items()}, error=error
        )
        level = logging.INFO if self.outcome.as_requested or self._end_wanted else logging.WARNING
        logger.log(level, "run %s ended: %s %s", self.outcome.uid, self.outcome.exit_status, self.outcome.reason)
        publisher.finished(_result(request, self.outcome, error))
        if error is not None and not isinstance(error, (ScanFault, RunEngineInterrupted)):
            raise error
        return self.outcome.uid


class _Engine:
    """The RunEngine with its loop and threads, and the devices."""

    def __init__(self, publisher: WorkerPublisher) -> None:
        self.engine = RunEngine({}, context_managers=[], during_task=DuringTask())
        self.engine.log = _QuietLog(logging.getLogger(f"{__name__}.engine"), {})
        self.engine.subscribe(publisher.document)
        # the RunEngine declares them as None, to be set
        self.engine.state_hook = publisher.state  # pyright: ignore[reportAttributeAccessIssue]
        self.engine.waiting_hook = publisher.waiting  # pyright: ignore[reportAttributeAccessIssue]
        self._publisher = publisher
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snakemap-camera")
        self._scanning = False
        self._ending: threading.Thread | None = None
        self.stage, self.detectors = self._call(self._build())

    def run(self, parts: PlanDevices, metadata: dict[str, Any], *, end_wanted: Callable[[], str]) -> Exception | None:
        """Scan to the end; return the exception of the plan, if any."""
        plan = step_scan if parts.request.mode == "step" else fly_scan
        self._scanning, self._ending = True, None
        try:
            if end_wanted():
                self.end(end_wanted())
            self.engine(plan(parts), **metadata, blueapi_task_id=self._publisher.task_id, user=None)
        except Exception as error:  # noqa: BLE001 - the worker reports it, and SimulatedBeamline raises it again
            return error
        finally:
            self._scanning = False
            if self._ending is not None:
                self._ending.join()
                self._ending = None
            self._call(_cancel_others())
        return None

    def end(self, how: str) -> None:
        """Abort or stop the RunEngine, from another thread: the call waits for its loop, and a signal handler must not.

        Args:
            how: ``"abort"`` or ``"stop"``.
        """
        if self._scanning and self._ending is None:
            self._ending = threading.Thread(target=self._end, args=(how,), name="snakemap-end", daemon=True)
            self._ending.start()

    def close(self) -> None:
        """Stop the loop and all threads."""
        loop, thread = self.engine.loop, self.engine._th
        self._call(loop.shutdown_asyncgens())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(JOIN_S)
        self._writer.shutdown()
        loop.close()
        if get_bluesky_event_loop() is loop:
            set_bluesky_event_loop(None)

    def _end(self, how: str) -> None:
        while self._scanning:
            try:
                self.engine.abort() if how == "abort" else self.engine.stop()
                return
            except TransitionError:
                # starting, or just ended
                time.sleep(0.005)

    async def _build(self) -> tuple[XYStage, dict[str, FileDetector]]:
        stage = XYStage(name="stage")
        detectors = [*(Camera(self._writer, name=name) for name in ("camera", "camera2")), Panda(self._writer, "panda")]
        for device in (stage, *detectors):
            await device.connect()
        return stage, {detector.name: detector for detector in detectors}

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.engine.loop).result()


async def _cancel_others() -> None:
    """Cancel all other tasks of this loop, as of a camera whose scan has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _QuietLog(ComposableLogAdapter):
    """The RunEngine's log without tracebacks of scans that end early on request."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        self.log(logging.DEBUG if msg == "Run aborted" else logging.ERROR, msg, *args, exc_info=exc_info, **kwargs)


def simulate(
    request: ScanRequest,
    *,
    data_dir: Path,
    sink: Sink,
    repeat: bool = False,
    pause_s: float = 2.0,
    disk_limit_bytes: int = DISK_LIMIT_BYTES,
    instrument_session: str = "cm12345-1",
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> int:
    """Scan once, or repeatedly with other noise; SIGINT and SIGTERM abort the scan and end it cleanly.

    Args:
        request: the scan.
        data_dir: the data root.
        sink: of all messages.
        repeat: scan until a signal comes.
        pause_s: seconds between two scans.
        disk_limit_bytes: maximum size of all simulated files.
        instrument_session: like ``cm12345-1``.
        on_outcome: called with the outcome of each scan.

    Returns:
        An exit code: 0, or 1 if a scan did not end as requested, or 128 plus the signal's number.

    Raises:
        SettingsError: the scan does not fit on the disk.
        Exception: from the sink.
    """
    beamline = SimulatedBeamline(
        data_dir, sink, disk_limit_bytes=disk_limit_bytes, instrument_session=instrument_session
    )
    with beamline, _signals_caught(beamline.abort) as caught:
        for number in itertools.count():
            beamline.run(replace(request, seed=(request.seed + number) % 2**32))
            outcome = beamline.outcome
            if outcome is not None:
                on_outcome(outcome)
            if not caught and (outcome is None or not outcome.as_requested):
                return 1
            if not repeat or not _pause(pause_s, until=caught):
                break
    return 128 + caught[0] if caught else 0


@contextmanager
def _signals_caught(abort: Callable[[], None]) -> Iterator[list[int]]:
    """Yield the list of signals caught so far; outside the main thread it stays empty."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        abort()

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(pause_s: float, *, until: list[int]) -> bool:
    """Wait in short sleeps, as a signal handler cannot set a lock; return whether no signal came."""
    deadline = time.monotonic() + pause_s
    while not until and (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(0.05, left_s))
    return not until


def _renderers(sample: Sample) -> dict[str, FrameRenderer]:
    """Return the renderer of each camera's frames, by the camera's name."""
    request = sample.request
    renderers = {"camera": FrameRenderer(request, sample)}
    if request.cameras == 2:
        second = request.of_second_camera()
        renderers["camera2"] = FrameRenderer(second, Sample(second, mirrored=True))
    return renderers


def _files(
    sample: Sample, renderers: Mapping[str, FrameRenderer], places: Sequence[SpoolFile]
) -> dict[str, GrowingFile]:
    """Return the files of a scan, by the name of the device: as many as there are places."""
    files: dict[str, GrowingFile] = {
        name: FrameFile(place, renderer, camera=name)
        for place, (name, renderer) in zip(places, renderers.items(), strict=False)
    }
    if sample.request.positions_file:
        files["panda"] = PositionsFile(places[-1], sample)
    return files


def _exposure(file: GrowingFile, sample: Sample, stage: XYStage) -> Exposure:
    request = sample.request
    flying = request.mode == "fly"
    frames = file if isinstance(file, FrameFile) else None
    per_point = request.frames_per_point if frames else 1
    leads = flying and frames is not None and frames.camera == "camera"

    def follow(newest_frame: int) -> None:
        if leads:
            y, x = sample.position(newest_frame // per_point)
            stage.y.follow(y)
            stage.x.follow(x)

    announced = request.points_announced * per_point
    return Exposure(
        file=file,
        resources=frame_resources(frames) if frames else position_resources(),
        frame_period_s=1.0 / (request.rate_hz * per_point) if request.rate_hz else 0.0,
        frames_max=min(request.points * per_point, announced + OVERRUN_FRAMES),
        frames_announced_max=announced,
        one_by_one=not flying,
        on_frames=follow,
        frames_per_point=per_point,
        units={} if frames else {FAST: "mm", SLOW: "mm"},
    )


def _begin_ending(request: ScanRequest, publisher: WorkerPublisher) -> None:
    if request.ending == "lose":
        publisher.lose(final_idle=request.final_idle)
    if request.ending in ("abort", "stop"):
        publisher.state("aborting" if request.ending == "abort" else "stopping")


def _outcome(
    request: ScanRequest, publisher: WorkerPublisher, *, files: Mapping[str, Path], error: Exception | None
) -> Outcome:
    stop = publisher.stop or {"exit_status": "fail", "reason": str(error), "num_events": {}}
    points = stop.get("num_events", {}).get("primary", 0)
    expected = {"complete": "success", "stop": "success", "lose": "abort"}.get(request.ending, request.ending)
    as_requested = stop["exit_status"] == expected and points == request.points_announced
    reason = stop.get("reason", "")
    return Outcome(publisher.run, stop["exit_status"], reason, points, files["camera"], as_requested, files)


def _result(request: ScanRequest, outcome: Outcome, error: Exception | None) -> dict[str, Any]:
    """Return a task's outcome in blueapi's format; for blueapi, a stopped or aborted task has failed."""
    if error is None and request.ending == "complete" and outcome.as_requested:
        return {"outcome": "success", "result": outcome.uid, "type": "str"}
    raised = error or RunEngineInterrupted(PAUSE_MSG)
    return {"outcome": "error", "type": type(raised).__name__, "message": str(raised)}
