"""The FastAPI application: routes, middleware, error handlers."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi_offline import FastAPIOffline
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from snakemap import __version__
from snakemap.api.auth import redact_ids
from snakemap.api.compat.davidia import davidia
from snakemap.api.compat.visr import visr
from snakemap.api.error_responses import INVALID, error_response, problem_text, response_to
from snakemap.api.middleware.body_limit import BodyLimit
from snakemap.api.middleware.etags import VaryHeaders
from snakemap.api.middleware.origins import HostCheck
from snakemap.api.middleware.rate_limit import RateLimit
from snakemap.api.middleware.request_metrics import RequestMetricsMiddleware
from snakemap.api.models import Tag
from snakemap.api.routes.control import control
from snakemap.api.routes.documents import documents
from snakemap.api.routes.files import files
from snakemap.api.routes.h5 import h5
from snakemap.api.routes.metrics import Metrics, metrics
from snakemap.api.routes.plans import plans
from snakemap.api.routes.random import random
from snakemap.api.routes.runs import meta, router
from snakemap.api.routes.sessions import sessions
from snakemap.api.schema import openapi_schema
from snakemap.api.service import Service
from snakemap.errors import OriginRefused, SnakemapError
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.web.hosts import HostNames

__all__ = ["create_app"]

log = logging.getLogger(__name__)

GZIP_BYTES_MIN = 1024
GZIP_LEVEL = 5
"""Higher levels make maps hardly smaller, and take several times as long."""

TAGS = {
    Tag.RUNS: "Runs and their state.",
    Tag.MAPS: "Counts on a grid.",
    Tag.DOCUMENTS: "The document stream. Every entry has a cursor; a client that continues after the last cursor it "
    "received misses nothing and gets nothing twice. Also by WebSocket: /api/documents?after= sends every event live, "
    "/api/runs/{uid}/documents?after= those of one run. A client that cannot keep up is disconnected "
    "with code 1013 and the reason.",
    Tag.FILES: "The directories of the data root. Nothing outside it is listed.",
    Tag.PLANS: "Start, stop and repeat scans; the audit log of these requests.",
    Tag.DEMO: "Synthetic data, for developing a client without a beamline. By WebSocket: "
    "/api/random/documents?shape=&rate_hz=&seed= sends a scan in the format of the document stream.",
    Tag.SESSIONS: "State of an anonymous client of the API, kept by the server.",
    Tag.META: "Health and metrics, for operators.",
}


def create_app(settings: Settings, store: Store) -> FastAPI:
    """Return the application over a store, which is closed when the application shuts down.

    Args:
        settings: of the process.
        store: the document store.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.metrics.reporter.start()
        yield
        await app.state.metrics.reporter.close()
        await app.state.service.control.close()
        await app.state.service.regions.close()
        await store.close()

    app = FastAPIOffline(
        redoc_url=None,
        title="snakemap",
        version=__version__,
        summary="Live maps of a beamline scan, for other programs.",
        lifespan=lifespan,
        dependencies=[Depends(check_writing)],
        servers=[{"url": settings.api_root_path}] if settings.api_root_path else None,
        openapi_tags=[{"name": tag, "description": text} for tag, text in TAGS.items()],
    )
    app.state.service = service = Service(store, settings)
    ask_blueapi = service.control.blueapi.state if service.control.connected else None
    app.state.metrics = Metrics(store, settings, ask_blueapi=ask_blueapi)
    app.state.metrics.clients["stream"] = lambda: service.streams.clients
    for one in (router, documents, files, h5, visr, davidia, control, plans, sessions, random, meta, metrics):
        app.include_router(one)
    app.add_exception_handler(SnakemapError, _snakemap_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    app.openapi = lambda: openapi_schema(app)
    _surround(app, settings)
    return app


def check_writing(connection: HTTPConnection) -> None:
    """Refuse a request that changes something while the API is read-only; a session belongs to its client.

    Raises:
        ReadOnly: when changes are not allowed.
    """
    scope = connection.scope
    reads = scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS")
    if not reads and Tag.SESSIONS not in getattr(scope.get("route"), "tags", ()):
        connection.app.state.service.control.may_change()


def _surround(app: FastAPI, settings: Settings) -> None:
    """Add the middleware, innermost first."""
    if settings.api_root_path:  # innermost: the middleware around it counts and limits by paths without the prefix
        app.add_middleware(RootPath, root_path=settings.api_root_path)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES_MIN, compresslevel=GZIP_LEVEL)
    app.add_middleware(VaryHeaders)
    app.add_middleware(BodyLimit)
    app.add_middleware(RateLimit, per_minute=settings.api_requests_per_minute)
    if settings.origins:
        app.add_middleware(
            ApiCors,
            allow_origin_regex=f"https?://(?:{'|'.join(map(re.escape, settings.origins))})",
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After", "Location"],
        )
    app.add_middleware(HostCheck, hosts=HostNames(settings.host, settings.origins))
    app.add_middleware(RequestMetricsMiddleware, requests=app.state.metrics.requests)


class RootPath:
    """Middleware that restores the path prefix that a proxy has stripped, so that links and redirects pass the proxy.

    Args:
        app: the wrapped application.
        root_path: the stripped prefix, like ``"/snakemap-api"``.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, in the same scope: the router notes the route there for the middleware around it."""
        if scope["type"] in ("http", "websocket"):
            scope["root_path"] = self._root_path
            scope["path"] = self._root_path + scope["path"]
            scope["raw_path"] = self._root_path.encode() + (scope.get("raw_path") or b"")
        await self._app(scope, receive, send)


class ApiCors(CORSMiddleware):
    """CORS for the allowed origins; refusals have the API's error shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        refusal = OriginRefused("this page is not allowed; SNAKEMAP_ORIGINS lists the allowed sites")
        return error_response(refusal.status, refusal.code, str(refusal), headers={"Vary": "Origin"})


async def _snakemap_error(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, SnakemapError) else SnakemapError(str(error))
    return response_to(known)


async def _http_error(request: Request, error: Exception) -> Response:
    """Return the response for errors of the framework (404, 405), with their headers."""
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    code = HTTPStatus(known.status_code).name.lower()
    return error_response(known.status_code, code, str(known.detail), headers=dict(known.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    return error_response(422, INVALID, problem_text(error) if isinstance(error, RequestValidationError) else "")


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """Return status 500 for an unexpected error; the server logs its traceback."""
    log.error("%s %s failed: %s", request.method, redact_ids(request.url.path), type(error).__name__)
    return error_response(500, SnakemapError.code, "internal error; see the log of the API")
