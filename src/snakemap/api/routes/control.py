"""Routes that start, stop or change scans, and the audit log; pages of other sites are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.requests import HTTPConnection
from pydantic import BaseModel, ConfigDict, Field

from snakemap.api.auth import check_page, token_of
from snakemap.api.error_responses import Refusals, refusals
from snakemap.api.models import Tag
from snakemap.api.routes.runs import Uid
from snakemap.blueapi.plan_form import fields_of
from snakemap.blueapi.scan_control import Caller, ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.errors import (
    BlueapiFailed,
    BlueapiForbids,
    BlueapiUnavailable,
    ControlHeld,
    NoSimulatedBeamline,
    NothingToRepeat,
    OriginRefused,
    ParamsRefused,
    PlanNotFound,
    ReadOnly,
    RequestRefused,
    RunNotFound,
    StoreUnavailable,
    TooOften,
    TransitionRefused,
    WorkerBusy,
)
from snakemap.settings import Settings, grid_from_text
from snakemap.store.run_index import find_uid

__all__ = ["control"]

AUDIT_MAX = 500
SIMULATED = "simulated_{mode}_scan"
NO_BEAMLINE = "there is no simulated beamline; `snakemap demo` starts one"

control = APIRouter(
    prefix="/api",
    responses=refusals({RequestRefused: "A parameter is invalid.", StoreUnavailable: "Redis cannot be reached."}),
)

CHANGES: Refusals = {
    ReadOnly: "Nothing may be changed here.",
    OriginRefused: "The request comes from a web page of another site.",
    BlueapiForbids: "blueapi refuses the token.",
    WorkerBusy: "The worker is busy.",
    ControlHeld: "Another client has control.",
    RequestRefused: "A parameter is invalid.",
    ParamsRefused: "The plan does not take these parameters; the message names each.",
    TooOften: "Too many requests in this minute.",
    BlueapiFailed: "blueapi answered with an error of its own.",
    BlueapiUnavailable: "blueapi cannot be reached, or none is set.",
    StoreUnavailable: "Redis cannot be reached.",
}
AGAIN: Refusals = {
    RunNotFound: "No such run is in the store.",
    PlanNotFound: "blueapi no longer has its plan.",
    NothingToRepeat: "The parameters of the run are unknown.",
}


class Started(BaseModel):
    """A task that was started."""

    task_id: str = Field(examples=["d4d2336f-d32f-4b61-bdcf-5075f244e3d2"])
    plan_name: str = Field(examples=["grid_scan"])
    params: dict[str, Any] = Field(examples=[{"rows": 60, "columns": 60}])


class AgainModel(BaseModel):
    """Changes to the parameters of a run."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, Any] = Field(default={}, description="Parameters to replace; all others stay.")
    instrument_session: str = Field(default="", description="Default: the setting's, else the run's.", max_length=40)


class DemoModel(BaseModel):
    """A simulated scan."""

    model_config = ConfigDict(extra="forbid")

    shape: str = Field(default="60x60", description="Slow by fast.", max_length=20)
    rate_hz: float = Field(default=20.0, ge=0, le=1e6)
    mode: Literal["step", "fly"] = "step"
    frame_shape: str = Field(default="1216x1936", description="Rows by columns.", max_length=20)


class ReasonModel(BaseModel):
    """Reason of a request."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


class WorkerModel(BaseModel):
    """State of blueapi's worker."""

    state: str = Field(description="As blueapi reports it; empty while blueapi cannot be reached.", examples=["IDLE"])
    task_id: str | None = Field(description="Of the current or last task.", examples=[None])
    plan_name: str | None = Field(examples=["grid_scan"])
    errors: list[str] = Field(description="Of that task.", examples=[[]])
    trouble: str = Field(description="Why the state is unknown, or empty.", examples=[""])
    control: str | None = Field(description="The client that has control; null while none has.", examples=["tab 3fa2"])


class StateModel(BaseModel):
    """The state of the worker after a change."""

    state: str = Field(examples=["ABORTING"])


class AuditModel(BaseModel):
    """A request to change something, and its result."""

    model_config = ConfigDict(extra="allow")

    number: str = Field(examples=["1795461238076-0"])
    time: float = Field(description="Seconds since 1970.", examples=[1795461238.1])
    who: str = Field(examples=["tab 3fa2"])
    address: str = Field(examples=["10.0.0.7"])
    what: str = Field(examples=["start", "abort"])
    came: str = Field(
        description="The result; empty while unknown.", examples=["task d4d2336f-d32f-4b61-bdcf-5075f244e3d2"]
    )


def _control(connection: HTTPConnection) -> ScanControl:
    return connection.app.state.service.control


def _settings(connection: HTTPConnection) -> Settings:
    return connection.app.state.service.settings


def _caller(request: Request) -> Caller:
    """Return the caller of a request.

    Raises:
        OriginRefused: when it is a web page of another site, which a browser lets send a request, but not read.
    """
    settings = _settings(request)
    check_page(request, settings)
    return Caller("", "API", request.client.host if request.client else "", token_of(request, settings))


ControlDep = Annotated[ScanControl, Depends(_control)]
SettingsDep = Annotated[Settings, Depends(_settings)]
CallerDep = Annotated[Caller, Depends(_caller)]
Key = Annotated[
    str, Header(alias="Idempotency-Key", description="The same for every repetition of a request.", max_length=150)
]


@control.post(
    "/runs/{uid}/again",
    summary="Run a plan again",
    tags=[Tag.PLANS],
    status_code=202,
    response_model=Started,
    responses=refusals({**CHANGES, **AGAIN}),
)
async def run_again(
    uid: Uid,
    control: ControlDep,
    settings: SettingsDep,
    caller: CallerDep,
    wanted: AgainModel | None = None,
    key: Key = "",
) -> Started:
    """Runs a run's plan again, with its own parameters except those given."""
    wanted = wanted or AgainModel()
    control.may_change()
    uid = await find_uid(control.control_store.store, uid)
    known = await control.plan_call(await control.control_store.store.start_of(uid), token=caller.token)
    plan = await control.plan(known.name, token=caller.token)
    names = {field.name for field in fields_of(plan.schema, {})}
    params = {name: value for name, value in known.params.items() if name in names} | wanted.params
    session = wanted.instrument_session or settings.instrument_session or known.instrument_session
    key = f"again {uid} {key}" if key else ""
    task_id = await control.start(known.name, params, instrument_session=session, caller=caller, key=key, of=uid)
    return Started(task_id=task_id, plan_name=known.name, params=params)


@control.post(
    "/demo",
    summary="Launch a demonstration",
    tags=[Tag.DEMO],
    status_code=202,
    response_model=Started,
    responses=refusals({**CHANGES, NoSimulatedBeamline: "blueapi belongs to a real beamline."}),
)
async def demo(
    control: ControlDep,
    settings: SettingsDep,
    caller: CallerDep,
    wanted: DemoModel | None = None,
    key: Key = "",
) -> Started:
    """Starts a simulated scan if blueapi belongs to the simulated beamline; else 503."""
    wanted = wanted or DemoModel()
    control.may_change()
    try:
        (rows, columns, _), (height, width, _) = grid_from_text(wanted.shape), grid_from_text(wanted.frame_shape)
    except ValueError as error:
        raise RequestRefused(str(error)) from None
    params = {
        **{"rows": rows, "columns": columns, "rate_hz": wanted.rate_hz, "frame_shape": [height, width]},
        **{"x_start": -2.0, "x_stop": round(-2.0 + 0.05 * max(1, columns - 1), 6)},
        **{"y_start": 1.0, "y_stop": round(1.0 + 0.05 * max(1, rows - 1), 6)},
    }
    name, session = SIMULATED.format(mode=wanted.mode), settings.instrument_session or "cm12345-1"
    key = f"demo {key}" if key else ""
    if not control.connected:
        raise BlueapiUnavailable(f"no blueapi is set (SNAKEMAP_BLUEAPI_URL), so {NO_BEAMLINE}")
    try:
        await control.plan(name, token=caller.token)
    except PlanNotFound:
        raise NoSimulatedBeamline(f"blueapi has no plan {name}, so {NO_BEAMLINE}") from None
    task_id = await control.start(name, params, instrument_session=session, caller=caller, key=key)
    return Started(task_id=task_id, plan_name=name, params=params)


@control.get("/worker", summary="State of the worker", tags=[Tag.PLANS], response_model=WorkerModel)
async def worker(control: ControlDep, request: Request) -> WorkerModel:
    """The state of blueapi's worker, and the client that has control."""
    watch = StatusPoller(control)
    await watch.poll(token=token_of(request, _settings(request)))
    status, task = watch.worker, watch.worker.task
    return WorkerModel(
        state=status.state,
        task_id=task.task_id if task else None,
        plan_name=task.name if task else None,
        errors=list(task.errors) if task else [],
        trouble=status.trouble,
        control=watch.lock.name if watch.lock and not watch.lock.gone else None,
    )


@control.post(
    "/worker/{action}",
    summary="Stop, abort, pause or resume",
    tags=[Tag.PLANS],
    status_code=202,
    response_model=StateModel,
    responses=refusals({**CHANGES, TransitionRefused: "The worker cannot do that now."}),
)
async def change(
    action: Literal["stop", "abort", "pause", "resume"],
    control: ControlDep,
    caller: CallerDep,
    wanted: ReasonModel | None = None,
) -> StateModel:
    """Stops, aborts, pauses or resumes the current scan."""
    return StateModel(state=await control.change(action, reason=(wanted or ReasonModel()).reason, caller=caller))


@control.get("/audit", summary="The audit log", tags=[Tag.PLANS], response_model=list[AuditModel])
async def audit(control: ControlDep, count: Annotated[int, Query(ge=1, le=AUDIT_MAX)] = 100) -> Any:
    """Requests that change something, newest first, with their results."""
    return await control.control_store.audit(count=count)


@control.get(
    "/runs/{uid}/picture",
    summary="A small picture of a run",
    tags=[Tag.MAPS],
    response_class=Response,
    responses={
        200: {
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "description": "A picture, 40 pixels high.",
        },
        **refusals({RunNotFound: "There is no picture."}),
    },
)
async def picture(uid: Uid, control: ControlDep) -> Response:
    """A small picture of a run's maps, side by side, as PNG; transparent where not measured."""
    png = await control.control_store.store.picture(await find_uid(control.control_store.store, uid))
    if png is None:
        raise RunNotFound(f"There is no picture of run {uid[:100]!r} (yet).")
    return Response(png, media_type="image/png", headers={"Cache-Control": "no-cache"})
