"""Routes of runs and their maps, and the health checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.requests import HTTPConnection
from pydantic import TypeAdapter

from snakemap import __version__
from snakemap.api.error_responses import Refusals, Responses, refusals
from snakemap.api.middleware.etags import content_hash, parse_etags
from snakemap.api.models import Health, MapsModel, MeanFrameModel, Readiness, RunModel, Tag
from snakemap.api.service import Service
from snakemap.core.points_text import POINTS_TEXT_MAX
from snakemap.errors import (
    FileBroken,
    FileNotReady,
    FileRefused,
    FileReplaced,
    FrameError,
    RequestRefused,
    RoiError,
    RunNotFound,
    StoreUnavailable,
    TooBusy,
    TooLarge,
)
from snakemap.live.mean_frames import MeanFormat
from snakemap.live.run_cache import WrittenBytes
from snakemap.render.export import MapFormat

__all__ = [
    "MAPS",
    "NOT_MODIFIED",
    "NO_RUN",
    "UID_MAX",
    "UNREADABLE",
    "UNUSABLE",
    "Approximate",
    "As",
    "IfNoneMatch",
    "Of",
    "Rois",
    "ServiceDep",
    "Uid",
    "meta",
    "router",
    "versioned",
]

UID_MAX = 200
RUNS_MAX = 10_000

UNUSABLE: Refusals = {RequestRefused: "A parameter is invalid.", StoreUnavailable: "Redis cannot be reached."}
NO_RUN: Refusals = {RunNotFound: "No such run is in the store, or the run has no such source."}
UNREADABLE: Refusals = {
    **UNUSABLE,
    **NO_RUN,
    RoiError: "A region is no rectangle of four whole numbers, is empty, reaches beyond the frame, has the name of "
    "another channel, or there are too many.",
    FrameError: "The source has no frames in files.",
    FileBroken: "The file cannot be read.",
    FileReplaced: "The file is not the one that the maps were made of.",
    FileRefused: "The file is not in the data root.",
    FileNotReady: "The file is not there (any more).",
    TooLarge: "The run has too many points.",
    TooBusy: "Too many requests wait for frames.",
}
NO_FRAMES: Refusals = {
    **{kind: text for kind, text in UNREADABLE.items() if kind is not RoiError},
    FrameError: "The source has no frames in files, or none of these points has a readable one.",
    TooLarge: "The run has too many points, or the frame is too large.",
}
NOT_MODIFIED: Responses = {304: {"description": "Unchanged since the ETag in If-None-Match."}}
MAPS: Responses = {
    200: {
        "content": {
            form.media_type: {"schema": {"type": "string", "format": "binary"}}
            for form in MapFormat
            if form is not MapFormat.JSON
        },
        "description": "JSON, or a file in the format.",
    },
    **NOT_MODIFIED,
}
FRAMES: Responses = {
    200: {
        "content": {MapFormat.NPZ.media_type: {"schema": {"type": "string", "format": "binary"}}},
        "description": "JSON, or an archive of NumPy arrays: `frame`, and `about` with the rest as JSON.",
    },
    **NOT_MODIFIED,
}

router = APIRouter(prefix="/api", responses=refusals(UNUSABLE))
meta = APIRouter(tags=[Tag.META])


def service_of(connection: HTTPConnection) -> Service:
    """Return the service of the application."""
    return connection.app.state.service


ServiceDep = Annotated[Service, Depends(service_of)]
Uid = Annotated[
    str,
    Path(description="Of a run; `latest` is the newest measured one.", max_length=UID_MAX, examples=["latest"]),
]
As = Annotated[
    MapFormat,
    Query(
        alias="format",
        description="`npz` is an archive of NumPy arrays, `npy` one array (channel, row, column), `nexus` an HDF5 "
        "file, `csv` a table of the cells, `table` a CSV table of the channels, `tiff` one page of floats a channel, "
        "`png` a picture with axes.",
    ),
]
Of = Annotated[str, Query(description="One of the answer's `sources`; empty is the main one.", max_length=500)]
Rois = Annotated[
    Sequence[str],
    Query(
        description="A rectangle `y0,y1,x0,x1` of detector pixels, half open, whose map becomes a further channel; "
        "several times, 8 at most. A name and a colon may come before the numbers.",
        examples=[["spot:610,760,95,245"]],
    ),
]
Approximate = Annotated[
    bool,
    Query(
        description="Read no frames, and answer at once with what sums of blocks give; `regions` has the number of "
        "values that are not exact."
    ),
]
Points = Annotated[
    str,
    Query(
        description="Numbers of points, from 1 on, and ranges of them.",
        max_length=POINTS_TEXT_MAX,
        examples=["1-500,700"],
    ),
]
IfNoneMatch = Annotated[str | None, Header(description="An earlier ETag, or several.", max_length=2000)]

RUNS = TypeAdapter(list[RunModel])


@router.get("/runs", summary="List runs", tags=[Tag.RUNS], response_model=list[RunModel], responses=NOT_MODIFIED)
async def runs(
    service: ServiceDep,
    count: Annotated[int, Query(description="At most so many, the newest.", ge=1, le=RUNS_MAX)] = RUNS_MAX,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The runs in the store, newest first."""
    body = orjson.dumps(RUNS.dump_python(RUNS.validate_python(await service.store.summaries(count=count)), mode="json"))
    version = content_hash(body)
    known = parse_etags(if_none_match)
    return versioned(WrittenBytes(version, None if version in known or "*" in known else body))


@router.get("/runs/{uid}", summary="One run", tags=[Tag.RUNS], response_model=RunModel, responses=refusals(NO_RUN))
async def run(uid: Uid, service: ServiceDep) -> Any:
    """One run; `latest` is the newest."""
    return await service.summary(uid)


@router.get(
    "/runs/{uid}/maps",
    summary="Maps of a run",
    tags=[Tag.MAPS],
    response_model=MapsModel,
    responses={**refusals(UNREADABLE), **MAPS},
)
async def run_maps(
    uid: Uid,
    service: ServiceDep,
    form: As = MapFormat.JSON,
    source: Of = "",
    roi: Rois = (),
    approximate: Approximate = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The maps of a run as they are now; the cursor is their version.

    With `roi`, the frames are read from the files of the run, for at most 10 s. What is not read by then is null, and
    `regions` says so; the next request goes on. With `approximate` as well, the answer comes at once, from sums of
    blocks of 16 x 16 pixels: a block that a rectangle cuts counts by its area.
    """
    known = parse_etags(if_none_match)
    found = await service.maps(uid, form, source=source, rois=roi, approximate=approximate, known=known)
    return versioned(found, form)


@router.get(
    "/runs/{uid}/frame",
    summary="Mean frame of points",
    tags=[Tag.MAPS],
    response_model=MeanFrameModel,
    responses={**refusals(NO_FRAMES), **FRAMES},
)
async def run_frame(
    uid: Uid,
    service: ServiceDep,
    points: Points,
    form: Annotated[
        MeanFormat, Query(alias="format", description="`npz` is an archive of NumPy arrays.")
    ] = MeanFormat.JSON,
    source: Of = "",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The mean of the frames of points: exact, in float64, over those that are measured.

    The frames are read from the files of the run, for at most 10 s. Until `complete`, the next request goes on.
    """
    known = parse_etags(if_none_match)
    found = await service.frame(uid, form, points=points, source=source, known=known)
    return versioned(found, MapFormat(form))


@meta.get("/healthz", summary="Liveness", response_model=Health)
async def healthz() -> Health:
    """The process answers."""
    return Health(version=__version__)


@meta.get(
    "/readyz",
    summary="Readiness",
    response_model=Readiness,
    response_model_exclude_none=True,
    responses={503: {"model": Readiness, "description": "Not ready."}},
)
async def readyz(service: ServiceDep, response: Response) -> Readiness:
    """Whether Redis, worker and broker are ready; 503, and the problem, when they are not."""
    readiness = await service.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


def versioned(found: WrittenBytes, form: MapFormat = MapFormat.JSON) -> Response:
    """Return a response with an ETag; 304 when the client has this version."""
    headers = {"Cache-Control": "no-cache", "ETag": f'"{found.cursor}"'}
    if found.body is None:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=form.media_type, headers=headers)
