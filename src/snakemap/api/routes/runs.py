"""The API's routes of runs and their maps, and those for whoever looks after it."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.requests import HTTPConnection
from pydantic import TypeAdapter

from snakemap import __version__
from snakemap.api.error_responses import Refusals, Responses, refusals
from snakemap.api.middleware.etags import known_of, version_of
from snakemap.api.models import Health, MapsModel, Readiness, RunModel, Tag
from snakemap.api.service import Service
from snakemap.errors import RequestRefused, RunNotFound, StoreUnavailable
from snakemap.live.run_cache import WrittenBytes
from snakemap.render.export import MapFormat

__all__ = [
    "MAPS",
    "NOT_MODIFIED",
    "NO_RUN",
    "UID_MAX",
    "UNUSABLE",
    "As",
    "Here",
    "IfNoneMatch",
    "Of",
    "Uid",
    "meta",
    "router",
    "versioned",
]

UID_MAX = 200
RUNS_MAX = 10_000

UNUSABLE: Refusals = {RequestRefused: "A parameter that cannot be used.", StoreUnavailable: "Redis is away."}
NO_RUN: Refusals = {RunNotFound: "No such run is in the store, or the run has no such source."}
NOT_MODIFIED: Responses = {304: {"description": "Nothing has come since the ETag in If-None-Match."}}
MAPS: Responses = {
    200: {
        "content": {MapFormat.NPZ.media_type: {"schema": {"type": "string", "format": "binary"}}},
        "description": "JSON, or an archive of NumPy arrays.",
    },
    **NOT_MODIFIED,
}

router = APIRouter(prefix="/api", responses=refusals(UNUSABLE))
meta = APIRouter(tags=[Tag.META])


def service(connection: HTTPConnection) -> Service:
    """The service of the application that a request or a WebSocket came to."""
    return connection.app.state.service


Here = Annotated[Service, Depends(service)]
Uid = Annotated[
    str,
    Path(description="Of a run; `latest` is the newest that was taken.", max_length=UID_MAX, examples=["latest"]),
]
As = Annotated[MapFormat, Query(alias="format", description="`npz` is an archive of NumPy arrays.")]
Of = Annotated[str, Query(description="One of the answer's `sources`; empty is the main one.", max_length=500)]
IfNoneMatch = Annotated[str | None, Header(description="An earlier ETag, or several.", max_length=2000)]

RUNS = TypeAdapter(list[RunModel])


@router.get("/runs", summary="List runs", tags=[Tag.RUNS], response_model=list[RunModel], responses=NOT_MODIFIED)
async def runs(
    here: Here,
    count: Annotated[int, Query(description="The newest so many.", ge=1, le=RUNS_MAX)] = RUNS_MAX,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The runs in the store, newest first."""
    told = orjson.dumps(RUNS.dump_python(RUNS.validate_python(await here.store.summaries(count=count)), mode="json"))
    version = version_of(told)
    known = known_of(if_none_match)
    return versioned(WrittenBytes(version, None if version in known or "*" in known else told))


@router.get("/runs/{uid}", summary="One run", tags=[Tag.RUNS], response_model=RunModel, responses=refusals(NO_RUN))
async def run(uid: Uid, here: Here) -> Any:
    """One run; `latest` is the newest."""
    return await here.summary(uid)


@router.get(
    "/runs/{uid}/maps",
    summary="Maps of a run",
    tags=[Tag.MAPS],
    response_model=MapsModel,
    responses={**refusals(NO_RUN), **MAPS},
)
async def run_maps(
    uid: Uid, here: Here, form: As = MapFormat.JSON, source: Of = "", if_none_match: IfNoneMatch = None
) -> Response:
    """The maps of a run as they are now; the cursor is their version."""
    return versioned(await here.maps(uid, form, source=source, known=known_of(if_none_match)), form)


@meta.get("/healthz", summary="Is the process there", response_model=Health)
async def healthz() -> Health:
    """The process answers."""
    return Health(version=__version__)


@meta.get(
    "/readyz",
    summary="Can data come through",
    response_model=Readiness,
    response_model_exclude_none=True,
    responses={503: {"model": Readiness, "description": "They cannot."}},
)
async def readyz(here: Here, response: Response) -> Readiness:
    """Whether data can come through; 503, and what is wrong, when they cannot."""
    readiness = await here.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


def versioned(found: WrittenBytes, form: MapFormat = MapFormat.JSON) -> Response:
    """An answer with an ETag; nothing else when the client has it already."""
    headers = {"Cache-Control": "no-cache", "ETag": f'"{found.cursor}"'}
    if found.body is None:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=form.media_type, headers=headers)
