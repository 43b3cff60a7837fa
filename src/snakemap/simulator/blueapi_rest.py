"""The REST API of a simulated blueapi, as far as snakemap uses it.

Paths, bodies and codes are those of blueapi 1.21; the same contract tests run against both.
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
    """A task to submit."""

    model_config = ConfigDict(extra="forbid")

    name: str
    params: dict[str, Any] = {}
    instrument_session: str


class WorkerTask(BaseModel):
    """The task of the worker."""

    task_id: str | None


class StateChange(BaseModel):
    """A requested state."""

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
        params: of its plan, as submitted.
        request: the scan.
        instrument_session: it belongs to.
        metadata: more fields of the start document, from the parameters.
        pending: whether it has not begun.
        complete: whether it has ended.
        errors: what went wrong.
        outcome: in blueapi's format."""

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

    def as_dict(self) -> dict[str, Any]:
        """Return the task in blueapi's format."""
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
    """The worker: one scan at a time, in its own thread.

    Args:
        beamline: runs the scans.
    """

    def __init__(self, beamline: SimulatedBeamline) -> None:
        self.beamline = beamline
        self.tasks: dict[str, ServiceTask] = {}
        self.active: ServiceTask | None = None
        self.state = "IDLE"
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snakemap-worker")

    def close(self) -> None:
        """Abort the running scan, and wait for its end."""
        if self.state != "IDLE":
            self.beamline.abort()
        self._thread.shutdown()
        self.beamline.close()

    def submit(self, wanted: TaskRequest) -> str:
        """Submit a task and return its id.

        Raises:
            HTTPException: unknown plan, or invalid parameters.
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
        """Begin a task.

        Raises:
            HTTPException: another one is running, or there is no such pending task.
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
        """Stop or abort.

        Raises:
            HTTPException: not possible now, or at all.
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
            if outcome is None or not outcome.as_requested:
                task.errors.append(outcome.reason if outcome and outcome.reason else ENDED_EARLY)
            task.outcome = {"outcome": "success", "result": uid, "type": "str"}
        except Exception as error:
            log.exception("task %s failed", task.task_id)
            task.errors.append(str(error))
        if task.errors:
            task.outcome = {"outcome": "error", "type": "RunEngineInterrupted", "message": task.errors[-1]}
        with self._lock:
            task.complete, self.state = True, "IDLE"


def create_app(service: BlueapiService) -> FastAPI:
    """Return the application.

    Args:
        service: the worker; closed at the end.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="snakemap's simulated beamline", lifespan=lifespan)
    app.include_router(_routes(service), prefix="/api/v1")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Report that the process runs."""
        return {"status": "ok"}

    return app


def _routes(service: BlueapiService) -> APIRouter:
    router = APIRouter()
    _add_plans(router)
    _add_tasks(router, service)
    _add_worker(router, service)
    return router


def _add_plans(router: APIRouter) -> None:
    @router.get("/plans")
    def plans() -> dict[str, Any]:
        """Return all plans."""
        return {"plans": [_plan(name) for name in PLANS]}

    @router.get("/plans/{name}")
    def plan(name: str) -> dict[str, Any]:
        """Return one plan."""
        if name not in PLANS:
            raise HTTPException(404, "Item not found")
        return _plan(name)

    @router.get("/environment")
    def environment() -> dict[str, Any]:
        """Return the environment, which always exists."""
        return {"environment_id": str(uuid.UUID(int=0)), "initialized": True, "error_message": None}


def _add_tasks(router: APIRouter, service: BlueapiService) -> None:
    @router.post("/tasks", status_code=201)
    def submit(wanted: TaskRequest, request: Request) -> JSONResponse:
        """Submit a task."""
        task_id = service.submit(wanted)
        return JSONResponse({"task_id": task_id}, 201, headers={"Location": f"{request.url}/{task_id}"})

    @router.get("/tasks/{task_id}")
    def task(task_id: str) -> dict[str, Any]:
        """Return a task."""
        return _known(service, task_id).as_dict()

    @router.delete("/tasks/{task_id}")
    def drop(task_id: str) -> dict[str, str]:
        """Delete a task."""
        _known(service, task_id)
        del service.tasks[task_id]
        return {"task_id": task_id}


def _add_worker(router: APIRouter, service: BlueapiService) -> None:
    @router.get("/worker/task")
    def active() -> WorkerTask:
        """Return the current or last task of the worker."""
        return WorkerTask(task_id=service.active.task_id if service.active else None)

    @router.put("/worker/task")
    def begin(task: WorkerTask) -> WorkerTask:
        """Begin a task."""
        service.begin(task.task_id)
        return task

    @router.get("/worker/state")
    def state() -> str:
        """Return the state of the worker."""
        return service.state

    @router.put("/worker/state", status_code=202)
    def change(wanted: StateChange) -> str:
        """Stop or abort."""
        return service.change(wanted.new_state)


def _known(service: BlueapiService, task_id: str) -> ServiceTask:
    task = service.tasks.get(task_id)
    if task is None:
        raise HTTPException(404, "Item not found")
    return task


def _plan(name: str) -> dict[str, Any]:
    return {"name": name, "description": PLANS[name].description, "schema": PLANS[name].schema()}


def _fault(one: Any) -> dict[str, Any]:
    return {"loc": ["body", "params", *one["loc"]], "msg": one["msg"], "type": one["type"]}


def serve(sink: Sink, beamline: Callable[[Sink], SimulatedBeamline], *, host: str, port: int) -> int:
    """Serve until a signal.

    Args:
        sink: of all messages.
        beamline: makes the beamline for it.
        host: to listen on.
        port: to listen on.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: the address cannot be used.
    """
    with listen(host, port, setting="--rest") as listening:
        log.info("blueapi's REST is simulated at http://%s", authority(*listening.getsockname()[:2]))
        app = create_app(BlueapiService(beamline(sink)))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listening])
    return 0
