"""The simulated beamline's own blueapi: the same REST contract, as far as snakemap uses it, over simulated scans.

Paths, bodies, codes and refusals are those of blueapi 1.21, held to it by the contract tests that both must pass.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError

from snakemap.errors import SettingsError
from snakemap.simulator.beamline import SimulatedBeamline
from snakemap.simulator.blueapi_messages import Sink
from snakemap.simulator.blueapi_plans import PLANS
from snakemap.synthetic.request import ScanRequest
from snakemap.web.ports import authority, listen

__all__ = ["ENDED_EARLY", "BlueapiService", "create_app", "serve"]

log = logging.getLogger(__name__)

TASKS_MAX = 1000
ENDED_EARLY = "the scan was ended early"
RUNNING: dict[str, str] = {"STOPPING": "stop", "ABORTING": "abort"}


class TaskRequest(BaseModel):
    """A task to take in."""

    model_config = ConfigDict(extra="forbid")

    name: str
    params: dict[str, Any] = {}
    instrument_session: str


class WorkerTask(BaseModel):
    """A task to begin."""

    task_id: str | None


class StateChange(BaseModel):
    """A state to go to."""

    new_state: Literal[
        "IDLE", "RUNNING", "PAUSING", "PAUSED", "HALTING", "STOPPING", "ABORTING", "SUSPENDING", "PANICKED", "UNKNOWN"
    ]
    defer: bool = False
    reason: str | None = None


@dataclass
class ServiceTask:
    """A task.

    Attributes:
        task_id: its id.
        name: of its plan.
        params: of its plan, as they came.
        request: what is scanned.
        instrument_session: it belongs to.
        metadata: more of the start document, as the parameters have it.
        pending: whether it has not begun.
        complete: whether it has ended.
        errors: what went wrong.
        outcome: in blueapi's words.
    """

    task_id: str
    name: str
    params: dict[str, Any]
    request: ScanRequest
    instrument_session: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pending: bool = True
    complete: bool = False
    errors: list[str] = field(default_factory=list)
    outcome: dict[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        """As blueapi tells it."""
        metadata = {"user": None, "instrument_session": self.instrument_session, "blueapi_task_id": self.task_id}
        return {
            "task_id": self.task_id,
            "task": {"name": self.name, "params": self.params, "metadata": metadata},
            "request_id": None,
            "is_complete": self.complete,
            "is_pending": self.pending,
            "errors": self.errors,
            "outcome": self.outcome,
        }


class BlueapiService:
    """The worker: one scan at a time, in a thread of its own.

    Args:
        beamline: that scans.
    """

    def __init__(self, beamline: SimulatedBeamline) -> None:
        self.beamline = beamline
        self.tasks: dict[str, ServiceTask] = {}
        self.active: ServiceTask | None = None
        self.state = "IDLE"
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snakemap-hall")

    def close(self) -> None:
        """Aborts what runs, and waits for its end."""
        if self.state != "IDLE":
            self.beamline.abort()
        self._thread.shutdown()
        self.beamline.close()

    def submit(self, wanted: TaskRequest) -> str:
        """Takes a task in.

        Raises:
            HTTPException: unknown plan, or parameters that cannot be used.
        """
        if wanted.name not in PLANS:
            raise HTTPException(404, "Item not found")
        try:
            scan = PLANS[wanted.name].scan(wanted.params)
        except ValidationError as error:
            raise HTTPException(422, [_fault(one) for one in error.errors(include_url=False)]) from None
        except SettingsError as error:
            raise HTTPException(422, [{"loc": ["body", "params"], "msg": str(error), "type": "value_error"}]) from None
        session = wanted.instrument_session
        task = ServiceTask(str(uuid.uuid4()), wanted.name, wanted.params, scan.request, session, scan.metadata)
        with self._lock:
            self.tasks[task.task_id] = task
            for old in [one for one in self.tasks.values() if one.complete][: max(0, len(self.tasks) - TASKS_MAX)]:
                del self.tasks[old.task_id]
        return task.task_id

    def begin(self, task_id: str | None) -> None:
        """Begins a task.

        Raises:
            HTTPException: when another one is not over, or when there is no such task to begin.
        """
        with self._lock:
            if self.active is not None and not self.active.complete:
                raise HTTPException(409, "Worker already active")
            task = self.tasks.get(task_id or "")
            if task is None or not task.pending:
                raise HTTPException(404, "Item not found")
            task.pending, self.active, self.state = False, task, "RUNNING"
        self._thread.submit(self._scan, task)

    def change(self, new_state: str) -> str:
        """Stops or aborts.

        Raises:
            HTTPException: when that is not possible now, or at all.
        """
        with self._lock:
            if self.state != "RUNNING" or new_state not in RUNNING:
                raise HTTPException(400, f"Cannot transition from {self.state} to {new_state}")
            self.state = new_state
        self.beamline.abort() if new_state == "ABORTING" else self.beamline.stop()
        return self.state

    def _scan(self, task: ServiceTask) -> None:
        metadata = {**task.metadata, "instrument_session": task.instrument_session}
        try:
            uid = self.beamline.run(task.request, task_id=task.task_id, metadata=metadata)
            outcome = self.beamline.outcome
            if outcome is None or not outcome.asked_for:
                task.errors.append(outcome.reason if outcome and outcome.reason else ENDED_EARLY)
            task.outcome = {"outcome": "success", "result": uid, "type": "str"}
        except Exception as error:
            log.exception("task %s failed", task.task_id)
            task.errors.append(str(error))
        if task.errors:
            task.outcome = {"outcome": "error", "type": "RunEngineInterrupted", "message": task.errors[-1]}
        with self._lock:
            task.complete, self.state = True, "IDLE"


def create_app(hall: BlueapiService) -> FastAPI:
    """The application.

    Args:
        hall: what it speaks for; closed at its end.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        hall.close()

    app = FastAPI(title="snakemap's simulated beamline", lifespan=lifespan)
    app.include_router(_routes(hall), prefix="/api/v1")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    return app


def _routes(hall: BlueapiService) -> APIRouter:
    router = APIRouter()

    @router.get("/plans")
    def plans() -> dict[str, Any]:
        """All plans."""
        return {"plans": [_plan(name) for name in PLANS]}

    @router.get("/plans/{name}")
    def plan(name: str) -> dict[str, Any]:
        """One plan."""
        if name not in PLANS:
            raise HTTPException(404, "Item not found")
        return _plan(name)

    @router.post("/tasks", status_code=201)
    def submit(wanted: TaskRequest, request: Request) -> JSONResponse:
        """Takes a task in."""
        task_id = hall.submit(wanted)
        return JSONResponse({"task_id": task_id}, 201, headers={"Location": f"{request.url}/{task_id}"})

    @router.get("/tasks/{task_id}")
    def task(task_id: str) -> dict[str, Any]:
        """A task."""
        return _known(hall, task_id).told()

    @router.delete("/tasks/{task_id}")
    def drop(task_id: str) -> dict[str, str]:
        """Forgets a task."""
        _known(hall, task_id)
        del hall.tasks[task_id]
        return {"task_id": task_id}

    @router.get("/worker/task")
    def active() -> WorkerTask:
        """The task the worker has, or had last."""
        return WorkerTask(task_id=hall.active.task_id if hall.active else None)

    @router.put("/worker/task")
    def begin(task: WorkerTask) -> WorkerTask:
        """Begins a task."""
        hall.begin(task.task_id)
        return task

    @router.get("/worker/state")
    def state() -> str:
        """What the worker does."""
        return hall.state

    @router.put("/worker/state", status_code=202)
    def change(wanted: StateChange) -> str:
        """Stops or aborts."""
        return hall.change(wanted.new_state)

    @router.get("/environment")
    def environment() -> dict[str, Any]:
        """Always there."""
        return {"environment_id": str(uuid.UUID(int=0)), "initialized": True, "error_message": None}

    return router


def _known(hall: BlueapiService, task_id: str) -> ServiceTask:
    task = hall.tasks.get(task_id)
    if task is None:
        raise HTTPException(404, "Item not found")
    return task


def _plan(name: str) -> dict[str, Any]:
    return {"name": name, "description": PLANS[name].description, "schema": PLANS[name].schema()}


def _fault(one: Any) -> dict[str, Any]:
    return {"loc": ["body", "params", *one["loc"]], "msg": one["msg"], "type": one["type"]}


def serve(sink: Sink, beamline: Callable[[Sink], SimulatedBeamline], *, host: str, port: int) -> int:
    """Serves until it is told to end.

    Args:
        sink: where all messages go.
        beamline: makes the beamline over it.
        host: to listen on.
        port: to listen on.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when nothing can listen there.
    """
    with listen(host, port, setting="--rest") as listening:
        log.info("blueapi's REST is simulated at http://%s", authority(*listening.getsockname()[:2]))
        app = create_app(BlueapiService(beamline(sink)))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listening])
    return 0
