"""The API's routes; each is one line of delegation."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from snakemap import __version__
from snakemap.api import maps
from snakemap.api.folds import Folds
from snakemap.api.models import ErrorModel, Health, MapsModel, Message, Readiness, RunModel, Tag
from snakemap.api.streams import Streams, checked, lines
from snakemap.errors import RunNotFound, SnakemapError, StoreUnavailable
from snakemap.geometry import Habits
from snakemap.runs import Run
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["create_app"]

log = logging.getLogger(__name__)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorModel, "description": "No such run."},
    503: {"model": ErrorModel, "description": "Redis is away."},
}
AWAY: dict[int | str, dict[str, Any]] = {503: {"model": ErrorModel, "description": "Redis is away."}}
LATEST = "latest"

router = APIRouter(prefix="/api")
meta = APIRouter()


class Context:
    """What the routes stand on.

    Args:
        store: the documents.
        habits: what to assume where they are silent.
    """

    def __init__(self, store: Store, *, habits: Habits) -> None:
        self.store = store
        self.folds = Folds(store, habits=habits)
        self.streams = Streams(store)

    async def uid(self, asked: str) -> str:
        """The uid that was asked for; ``latest`` is that of the newest run.

        Raises:
            RunNotFound: when there is no run at all.
        """
        if asked != LATEST:
            return asked
        summaries = await self.store.summaries()
        if not summaries:
            raise RunNotFound("there is no run in the store yet")
        return str(summaries[0]["uid"])

    async def run(self, asked: str) -> Run:
        """The run that was asked for, up to date."""
        return await self.folds.run(await self.uid(asked))

    async def readiness(self) -> Readiness:
        """What data need to come through: Redis, the worker, and its broker where it has one."""
        try:
            await self.store.ping()
            worker = (await self.store.reports()).get("ingest")
        except StoreUnavailable as trouble:
            return Readiness(ready=False, checks={"redis": str(trouble)})
        checks = {"redis": "ok", "worker": "ok" if worker else "no word from `snakemap ingest`"}
        broker = str((worker or {}).get("broker", "none"))
        if broker != "none":
            checks["broker"] = "ok" if broker == "connected" else broker
        return Readiness(ready=all(said == "ok" for said in checks.values()), checks=checks)


def context(request: Request) -> Context:
    """The context of the application that a request came to."""
    return request.app.state.context


def socket_context(websocket: WebSocket) -> Context:
    """The same for a WebSocket."""
    return websocket.app.state.context


Here = Annotated[Context, Depends(context)]
HereSocket = Annotated[Context, Depends(socket_context)]
After = Annotated[str | None, Query(description="Cursor to begin after; 0 is everything. Default: from now on.")]


@router.get("/runs", tags=[Tag.RUNS], response_model=list[RunModel], responses=AWAY)
async def runs(here: Here) -> Any:
    """All runs in the store, newest first."""
    return await here.store.summaries()


@router.get("/runs/{uid}", tags=[Tag.RUNS], response_model=RunModel, responses=NOT_FOUND)
async def run(uid: str, here: Here) -> Any:
    """One run; `latest` is the newest."""
    return await here.store.summary(await here.uid(uid))


@router.get(
    "/runs/{uid}/maps",
    tags=[Tag.MAPS],
    response_model=MapsModel,
    responses={
        **NOT_FOUND,
        200: {"content": {"application/octet-stream": {}}, "description": "JSON, or a NumPy archive."},
        304: {"description": "Nothing has come since the version in If-None-Match."},
    },
)
async def run_maps(
    uid: str,
    here: Here,
    format: Annotated[Literal["json", "npz"], Query(description="`npz` is a NumPy archive.")] = "json",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The maps of a run as they are now; the cursor is their version."""
    found = await here.run(uid)
    headers = {"ETag": f'"{found.cursor}-{format}"', "Cache-Control": "no-cache"}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if format == "npz":
        headers["Content-Disposition"] = 'attachment; filename="maps.npz"'
        return Response(await maps.as_npz(found), media_type="application/octet-stream", headers=headers)
    return Response(await maps.as_json(found), media_type="application/json", headers=headers)


@router.get(
    "/runs/{uid}/documents",
    tags=[Tag.DOCUMENTS],
    response_class=StreamingResponse,
    responses={**NOT_FOUND, 200: {"model": Message, "description": "JSON lines, one entry each."}},
)
async def run_documents(uid: str, here: Here) -> StreamingResponse:
    """Every document of a run up to now, in order, as JSON lines."""
    found = await here.uid(uid)
    await here.store.summary(found)
    return StreamingResponse(lines(here.store, found), media_type="application/x-ndjson")


@router.websocket("/documents")
async def all_documents(websocket: WebSocket, here: HereSocket, after: After = None) -> None:
    """Every event as it comes; with `after`, everything since that cursor first."""
    await here.streams.send(websocket, after=checked(after))


@router.websocket("/runs/{uid}/documents")
async def live_run_documents(websocket: WebSocket, uid: str, here: HereSocket) -> None:
    """The documents of one run: all there are, then those that come."""
    await here.streams.send(websocket, after=None, uid=await here.uid(uid))


@meta.get("/healthz", tags=[Tag.META], response_model=Health)
async def healthz() -> Health:
    """The process answers."""
    return Health(version=__version__)


@meta.get("/readyz", tags=[Tag.META], response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(here: Here, response: Response) -> Readiness:
    """Whether data can come through; 503, and what is wrong, when they cannot."""
    readiness = await here.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


def create_app(settings: Settings, store: Store) -> FastAPI:
    """The application over a store; closes it at its end.

    Args:
        settings: of the process.
        store: the documents.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(
        title="snakemap",
        version=__version__,
        summary="Live maps of a beamline scan, for other programs.",
        lifespan=lifespan,
        openapi_tags=[
            {"name": Tag.RUNS, "description": "What was scanned, and how it stands."},
            {"name": Tag.MAPS, "description": "Counts on a grid."},
            {"name": Tag.DOCUMENTS, "description": "The stream itself; every entry has a cursor."},
            {"name": Tag.META, "description": "For those who run it."},
        ],
    )
    app.state.context = Context(store, habits=Habits(settings.grid, snake=settings.snake))
    app.include_router(router)
    app.include_router(meta)
    app.add_exception_handler(SnakemapError, _snakemap_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    return app


def _answer(status: int, code: str, text: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": text}}, status_code=status)


async def _snakemap_error(request: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, SnakemapError) else SnakemapError(str(error))
    return _answer(known.status, known.code, str(known))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    status, detail = (error.status_code, str(error.detail)) if isinstance(error, HTTPException) else (500, str(error))
    return _answer(status, {404: "not_found", 405: "method_not_allowed"}.get(status, "http"), detail)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    text = "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems)
    return _answer(422, "invalid_request", text)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, "error", "something went wrong here; the log of the API says what")
