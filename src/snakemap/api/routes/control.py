"""The routes that change something at the beamline, and those that tell of it; no other web page can press them."""

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
NO_BEAMLINE = "there is no simulated beamline here; `snakemap demo` starts one"

control = APIRouter(
    prefix="/api",
    responses=refusals({RequestRefused: "Parameters that cannot be used.", StoreUnavailable: "Redis is away."}),
)

CHANGES: Refusals = {
    ReadOnly: "Nothing may be changed here.",
    OriginRefused: "A web page of another site asks.",
    BlueapiForbids: "blueapi wants another token, or none will do.",
    WorkerBusy: "The worker is busy.",
    ControlHeld: "Somebody else has control.",
    RequestRefused: "Parameters that cannot be used.",
    ParamsRefused: "The plan does not take these parameters; the message names each.",
    TooOften: "Too many requests in this minute.",
    BlueapiFailed: "blueapi answered with an error of its own.",
    BlueapiUnavailable: "blueapi is away, or no blueapi is set.",
    StoreUnavailable: "Redis is away.",
}
AGAIN: Refusals = {
    RunNotFound: "No such run is in the store.",
    PlanNotFound: "blueapi no longer has its plan.",
    NothingToRepeat: "Nobody knows what the run was started with.",
}


class Started(BaseModel):
    """A task that was begun."""

    task_id: str = Field(examples=["d4d2336f-d32f-4b61-bdcf-5075f244e3d2"])
    plan_name: str = Field(examples=["grid_scan"])
    params: dict[str, Any] = Field(examples=[{"rows": 60, "columns": 60}])


class AgainModel(BaseModel):
    """What shall be other than it was."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, Any] = Field(default={}, description="Parameters to exchange; all others stay.")
    instrument_session: str = Field(default="", description="Default: the setting's, else the run's.", max_length=40)


class DemoModel(BaseModel):
    """A simulated scan."""

    model_config = ConfigDict(extra="forbid")

    shape: str = Field(default="60x60", description="Slow by fast.", max_length=20)
    rate_hz: float = Field(default=20.0, ge=0, le=1e6)
    mode: Literal["step", "fly"] = "step"
    frame_shape: str = Field(default="1216x1936", description="Rows by columns.", max_length=20)


class ReasonModel(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


class WorkerModel(BaseModel):
    """What blueapi's worker does."""

    state: str = Field(description="As blueapi tells it; empty while it is away.", examples=["IDLE"])
    task_id: str | None = Field(description="Of the task that it has, or had last.", examples=[None])
    plan_name: str | None = Field(examples=["grid_scan"])
    errors: list[str] = Field(description="Of that task.", examples=[[]])
    trouble: str = Field(description="Why nothing is known, or empty.", examples=[""])
    control: str | None = Field(description="Who has control; null while nobody does.", examples=["tab 3fa2"])


class StateModel(BaseModel):
    """The state of the worker after a change."""

    state: str = Field(examples=["ABORTING"])


class AuditModel(BaseModel):
    """Who asked for what, and what came of it."""

    model_config = ConfigDict(extra="allow")

    number: str = Field(examples=["1795461238076-0"])
    time: float = Field(description="Seconds since 1970.", examples=[1795461238.1])
    who: str = Field(examples=["tab 3fa2"])
    address: str = Field(examples=["10.0.0.7"])
    what: str = Field(examples=["start", "abort"])
    came: str = Field(description="Empty while nobody knows.", examples=["task d4d2336f-d32f-4b61-bdcf-5075f244e3d2"])


def _control(connection: HTTPConnection) -> ScanControl:
    return connection.app.state.service.control


def _settings(connection: HTTPConnection) -> Settings:
    return connection.app.state.service.settings


def _caller(request: Request) -> Caller:
    """Who asks.

    Raises:
        OriginRefused: when it is a web page of another site, which a browser lets send a request, but not read.
    """
    settings = _settings(request)
    check_page(request, settings)
    return Caller("", "API", request.client.host if request.client else "", token_of(request, settings))


Here = Annotated[ScanControl, Depends(_control)]
Told = Annotated[Settings, Depends(_settings)]
Who = Annotated[Caller, Depends(_caller)]
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
    uid: Uid, here: Here, told: Told, who: Who, wanted: AgainModel | None = None, key: Key = ""
) -> Started:
    """Runs a run's plan again, with its own parameters but those given."""
    wanted = wanted or AgainModel()
    here.may_change()
    uid = await find_uid(here.desk.store, uid)
    known = await here.known(await here.desk.store.start_of(uid), token=who.token)
    plan = await here.plan(known.name, token=who.token)
    names = {field.name for field in fields_of(plan.schema, {})}
    params = {name: value for name, value in known.params.items() if name in names} | wanted.params
    session = wanted.instrument_session or told.instrument_session or known.instrument_session
    key = f"again {uid} {key}" if key else ""
    task_id = await here.start(known.name, params, instrument_session=session, caller=who, key=key, of=uid)
    return Started(task_id=task_id, plan_name=known.name, params=params)


@control.post(
    "/demo",
    summary="Launch a demonstration",
    tags=[Tag.DEMO],
    status_code=202,
    response_model=Started,
    responses=refusals({**CHANGES, NoSimulatedBeamline: "blueapi is not that of a simulated beamline."}),
)
async def demo(here: Here, told: Told, who: Who, wanted: DemoModel | None = None, key: Key = "") -> Started:
    """Starts a simulated scan, where blueapi is that of the simulated beamline; 503 where it is a real one, or none."""
    wanted = wanted or DemoModel()
    here.may_change()
    try:
        (rows, columns, _), (height, width, _) = grid_from_text(wanted.shape), grid_from_text(wanted.frame_shape)
    except ValueError as error:
        raise RequestRefused(str(error)) from None
    params = {
        **{"rows": rows, "columns": columns, "rate_hz": wanted.rate_hz, "frame_shape": [height, width]},
        **{"x_start": -2.0, "x_stop": round(-2.0 + 0.05 * max(1, columns - 1), 6)},
        **{"y_start": 1.0, "y_stop": round(1.0 + 0.05 * max(1, rows - 1), 6)},
    }
    name, session = SIMULATED.format(mode=wanted.mode), told.instrument_session or "cm12345-1"
    key = f"demo {key}" if key else ""
    if not here.connected:
        raise BlueapiUnavailable(f"no blueapi is set (SNAKEMAP_BLUEAPI_URL), so {NO_BEAMLINE}")
    try:
        await here.plan(name, token=who.token)
    except PlanNotFound:
        raise NoSimulatedBeamline(f"blueapi has no plan {name}, so {NO_BEAMLINE}") from None
    task_id = await here.start(name, params, instrument_session=session, caller=who, key=key)
    return Started(task_id=task_id, plan_name=name, params=params)


@control.get("/worker", summary="State of the worker", tags=[Tag.PLANS], response_model=WorkerModel)
async def worker(here: Here, request: Request) -> WorkerModel:
    """What blueapi's worker does, and who has control."""
    watch = StatusPoller(here)
    await watch.look(token=token_of(request, _settings(request)))
    status, task = watch.worker, watch.worker.task
    return WorkerModel(
        state=status.state,
        task_id=task.task_id if task else None,
        plan_name=task.name if task else None,
        errors=list(task.errors) if task else [],
        trouble=status.trouble,
        control=watch.baton.name if watch.baton and not watch.baton.gone else None,
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
    action: Literal["stop", "abort", "pause", "resume"], here: Here, who: Who, wanted: ReasonModel | None = None
) -> StateModel:
    """Stops, aborts, pauses or resumes what runs."""
    return StateModel(state=await here.change(action, reason=(wanted or ReasonModel()).reason, caller=who))


@control.get("/audit", summary="Who asked for what", tags=[Tag.PLANS], response_model=list[AuditModel])
async def audit(here: Here, count: Annotated[int, Query(ge=1, le=AUDIT_MAX)] = 100) -> Any:
    """Who asked for what, newest first, and what came of it."""
    return await here.desk.audit(count=count)


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
        **refusals({RunNotFound: "There is none."}),
    },
)
async def picture(uid: Uid, here: Here) -> Response:
    """A small picture of a run's maps, side by side, as PNG; clear where nothing was visited."""
    png = await here.desk.store.picture(await find_uid(here.desk.store, uid))
    if png is None:
        raise RunNotFound(f"There is no picture of run {uid[:100]!r} (yet).")
    return Response(png, media_type="image/png", headers={"Cache-Control": "no-cache"})
