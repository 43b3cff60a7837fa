"""The API's routes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse

from snakemap import __version__
from snakemap.api.folds import Written
from snakemap.api.maps import Form
from snakemap.api.models import ErrorModel, Health, MapsModel, Message, Readiness, RunModel, Tag
from snakemap.api.service import Service

__all__ = ["meta", "router"]

Responses = dict[int | str, dict[str, Any]]

ERRORS: Responses = {
    422: {"model": ErrorModel, "description": "A parameter that cannot be used."},
    503: {"model": ErrorModel, "description": "Redis is away."},
}
NO_RUN: Responses = {404: {"model": ErrorModel, "description": "No such run."}}
MAPS: Responses = {
    200: {"content": {Form.NPZ.media_type: {}}, "description": "JSON, or an archive of NumPy arrays."},
    304: {"description": "Nothing has come since the cursor in If-None-Match."},
}
LINES: Responses = {
    200: {
        "content": {"application/x-ndjson": {"schema": Message.model_json_schema()}},
        "description": "JSON lines: one object of this schema each.",
    }
}

router = APIRouter(prefix="/api", responses=ERRORS)
meta = APIRouter(tags=[Tag.META])


def service(connection: HTTPConnection) -> Service:
    """The service of the application that a request or a WebSocket came to."""
    return connection.app.state.service


Here = Annotated[Service, Depends(service)]
After = Annotated[str | None, Query(description="Cursor to begin after; 0 is everything. Default: from now on.")]
As = Annotated[Form, Query(alias="format", description="`npz` is an archive of NumPy arrays.")]
Of = Annotated[str, Query(description="One of the answer's `sources`; empty is the main one.", max_length=500)]
IfNoneMatch = Annotated[str | None, Header(description="A cursor in quotes, as an earlier ETag.")]


@router.get("/runs", tags=[Tag.RUNS], response_model=list[RunModel])
async def runs(here: Here) -> Any:
    """All runs in the store, newest first."""
    return await here.store.summaries()


@router.get("/runs/{uid}", tags=[Tag.RUNS], response_model=RunModel, responses=NO_RUN)
async def run(uid: str, here: Here) -> Any:
    """One run; `latest` is the newest."""
    return await here.summary(uid)


@router.get("/runs/{uid}/maps", tags=[Tag.MAPS], response_model=MapsModel, responses={**NO_RUN, **MAPS})
async def run_maps(
    uid: str, here: Here, form: As = Form.JSON, source: Of = "", if_none_match: IfNoneMatch = None
) -> Response:
    """The maps of a run as they are now; the cursor is their version."""
    return _versioned(await here.maps(uid, form, source=source, known=if_none_match), form, known=if_none_match)


@router.get(
    "/runs/{uid}/documents",
    tags=[Tag.DOCUMENTS],
    response_class=StreamingResponse,
    responses={**NO_RUN, **LINES},
)
async def run_documents(uid: str, here: Here) -> StreamingResponse:
    """Every document of a run up to now, in order, as JSON lines."""
    return StreamingResponse(await here.documents(uid), media_type="application/x-ndjson")


@router.websocket("/documents")
async def all_documents(websocket: WebSocket, here: Here, after: After = None) -> None:
    """Every event as it comes; with `after`, everything since that cursor first."""
    await here.streams.everything(websocket, after=after)


@router.websocket("/runs/{uid}/documents")
async def live_run_documents(websocket: WebSocket, uid: str, here: Here) -> None:
    """The documents of one run: all there are, then those that come."""
    await here.streams.run(websocket, uid)


@meta.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """The process answers."""
    return Health(version=__version__)


@meta.get(
    "/readyz",
    response_model=Readiness,
    response_model_exclude_none=True,
    responses={503: {"model": Readiness, "description": "They cannot."}},
)
async def readyz(here: Here, response: Response) -> Readiness:
    """Whether data can come through; 503, and what is wrong, when they cannot."""
    readiness = await here.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


def _versioned(found: Written | None, form: Form, *, known: str | None) -> Response:
    """An answer with an ETag; nothing else when the client has it already."""
    kept = {"Cache-Control": "no-cache"}
    if found is None:
        return Response(status_code=304, headers={**kept, "ETag": str(known)})
    return Response(found.body, media_type=form.media_type, headers={**kept, "ETag": f'"{found.cursor}"'})
