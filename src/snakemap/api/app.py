"""The application: routes, errors, life."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from snakemap import __version__
from snakemap.api.control import control
from snakemap.api.files import files
from snakemap.api.metrics import Metrics, metrics
from snakemap.api.models import ErrorDetail, ErrorModel, Tag
from snakemap.api.requests import CODE, Counting
from snakemap.api.routes import meta, router
from snakemap.api.service import Service
from snakemap.errors import SnakemapError
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["create_app"]

log = logging.getLogger(__name__)

TAGS = {
    Tag.RUNS: "What was scanned, and how it stands.",
    Tag.MAPS: "Counts on a grid.",
    Tag.DOCUMENTS: "The stream itself; every entry has a cursor. By WebSocket too: /api/documents?after= is every "
    "event live, /api/runs/{uid}/documents are those of one run.",
    Tag.FILES: "The directories of the data root; nothing outside it is ever told.",
    Tag.PLANS: "Starting, stopping and repeating scans; who asked for it, and what came of it.",
    Tag.DEMO: "For developing a client where there is no beamline.",
    Tag.SESSIONS: "What an anonymous client of the API follows, kept by the server.",
    Tag.META: "For those who run it.",
}


def create_app(settings: Settings, store: Store) -> FastAPI:
    """The application over a store; closes it at its end.

    Args:
        settings: of the process.
        store: the documents.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.metrics.reporter.start()
        yield
        await app.state.metrics.reporter.close()
        await app.state.service.control.close()
        await store.close()

    app = FastAPI(
        title="snakemap",
        version=__version__,
        summary="Live maps of a beamline scan, for other programs.",
        lifespan=lifespan,
        openapi_tags=[{"name": tag, "description": text} for tag, text in TAGS.items()],
    )
    app.state.service = service = Service(store, settings)
    ask_blueapi = service.control.blueapi.state if service.control.connected else None
    app.state.metrics = Metrics(store, settings, ask_blueapi=ask_blueapi)
    app.state.metrics.clients["websocket"] = lambda: service.streams.clients
    app.add_middleware(Counting, requests=app.state.metrics.requests)
    app.include_router(router)
    app.include_router(files)
    app.include_router(control)
    app.include_router(meta)
    app.include_router(metrics)
    app.add_exception_handler(SnakemapError, _snakemap_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    return app


def _answer(
    request: Request, status: int, code: str, text: str, *, headers: dict[str, str] | None = None
) -> JSONResponse:
    request.scope[CODE] = code
    body = ErrorModel(error=ErrorDetail(code=code, message=text))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


async def _snakemap_error(request: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, SnakemapError) else SnakemapError(str(error))
    return _answer(request, known.status, known.code, str(known))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: 404, 405 and the like, with the headers that belong to them."""
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    code = HTTPStatus(known.status_code).name.lower()
    return _answer(request, known.status_code, code, str(known.detail), headers=dict(known.headers or {}))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    text = "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems)
    return _answer(request, 422, "invalid_request", text)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw; it goes on to the server, which logs where it came from."""
    log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    return _answer(request, 500, SnakemapError.code, "something went wrong here; the log of the API says what")
