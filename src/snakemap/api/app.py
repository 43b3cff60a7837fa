"""The application: routes, errors, life."""

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
from snakemap.api.auth import discreet
from snakemap.api.compat.davidia import davidia
from snakemap.api.compat.visr import visr
from snakemap.api.error_responses import INVALID, answer, answer_to, problems_of
from snakemap.api.middleware.body_limit import BodyLimit
from snakemap.api.middleware.etags import Variants
from snakemap.api.middleware.origins import KnownHosts
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
from snakemap.api.schema import described
from snakemap.api.service import Service
from snakemap.errors import OriginRefused, SnakemapError
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.web.hosts import HostNames

__all__ = ["create_app"]

log = logging.getLogger(__name__)

GZIP_BYTES_MIN = 1024
GZIP_LEVEL = 5
"""Maps become hardly smaller beyond, and take several times as long."""

TAGS = {
    Tag.RUNS: "What was scanned, and how it stands.",
    Tag.MAPS: "Counts on a grid.",
    Tag.DOCUMENTS: "The stream itself; every entry has a cursor, and whoever goes on after the last one that came "
    "misses nothing and gets nothing twice. By WebSocket too: /api/documents?after= is every event live, "
    "/api/runs/{uid}/documents?after= are those of one run. Who cannot keep up is closed "
    "with code 1013 and the reason.",
    Tag.FILES: "The directories of the data root; nothing outside it is ever told.",
    Tag.PLANS: "Starting, stopping and repeating scans; who asked for it, and what came of it.",
    Tag.DEMO: "For developing a client where there is no beamline. By WebSocket: "
    "/api/random/documents?shape=&rate_hz=&seed= is a scan as the true stream tells it.",
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
    app.openapi = lambda: described(app)
    _surround(app, settings)
    return app


def check_writing(connection: HTTPConnection) -> None:
    """Refuses every request that changes something when nothing may be changed; a session is its client's own.

    Raises:
        ReadOnly: when it does.
    """
    scope = connection.scope
    reads = scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS")
    if not reads and Tag.SESSIONS not in getattr(scope.get("route"), "tags", ()):
        connection.app.state.service.control.may_change()


def _surround(app: FastAPI, settings: Settings) -> None:
    """Puts around an application what every request goes through, from the inside out."""
    if settings.api_root_path:  # innermost: what is around counts and limits by our own paths
        app.add_middleware(Rooted, root_path=settings.api_root_path)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES_MIN, compresslevel=GZIP_LEVEL)
    app.add_middleware(Variants)
    app.add_middleware(BodyLimit)
    app.add_middleware(RateLimit, per_minute=settings.api_requests_per_minute)
    if settings.origins:
        app.add_middleware(
            Origins,
            allow_origin_regex=f"https?://(?:{'|'.join(map(re.escape, settings.origins))})",
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After", "Location"],
        )
    app.add_middleware(KnownHosts, hosts=HostNames(settings.host, settings.origins))
    app.add_middleware(RequestMetricsMiddleware, requests=app.state.metrics.requests)


class Rooted:
    """Puts back in front of every path what a proxy has stripped, so that links and redirects lead through the proxy.

    Args:
        app: what comes behind.
        root_path: that is stripped, like ``"/snakemap-api"``.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one connection on; in the same scope, where the router notes the route for those around."""
        if scope["type"] in ("http", "websocket"):
            scope["root_path"] = self._root_path
            scope["path"] = self._root_path + scope["path"]
            scope["raw_path"] = self._root_path.encode() + (scope.get("raw_path") or b"")
        await self._app(scope, receive, send)


class Origins(CORSMiddleware):
    """Says which web pages may read along, beside our own; it refuses in the one shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks beforehand."""
        told = super().preflight_response(request_headers)
        if told.status_code == 200:
            return told
        refusal = OriginRefused("this page is not allowed; SNAKEMAP_ORIGINS lists the allowed sites")
        return answer(refusal.status, refusal.code, str(refusal), headers={"Vary": "Origin"})


async def _snakemap_error(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, SnakemapError) else SnakemapError(str(error))
    return answer_to(known)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: 404, 405 and the like, with the headers that belong to them."""
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    code = HTTPStatus(known.status_code).name.lower()
    return answer(known.status_code, code, str(known.detail), headers=dict(known.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    return answer(422, INVALID, problems_of(error) if isinstance(error, RequestValidationError) else "")


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """What nobody foresaw; it goes on to the server, which logs where it came from."""
    log.error("%s %s failed: %s", request.method, discreet(request.url.path), type(error).__name__)
    return answer(500, SnakemapError.code, "internal error; see the log of the API")
