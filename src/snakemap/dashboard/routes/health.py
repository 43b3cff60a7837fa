"""Health and readiness of the pages' process, for monitoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bokeh.server.util import check_allowlist
from tornado.web import RequestHandler

from snakemap import __version__
from snakemap.errors import SnakemapError
from snakemap.store.readiness import checks, wrong
from snakemap.store.store import Store

__all__ = ["HealthHandler", "ReadyHandler"]


class HealthHandler(RequestHandler):
    """Answers ``GET healthz``, as the API does."""

    def initialize(self, begin: Callable[[], None]) -> None:
        """Take what to start with the first request: the report of the process.

        Args:
            begin: may be called often.
        """
        self.begin = begin

    async def get(self) -> None:
        """Answer that the process runs, or which setting keeps it from serving a page."""
        _allow_embedding(self)
        try:
            self.begin()
        except SnakemapError as trouble:
            _answer(self, {"error": {"code": trouble.code, "message": str(trouble)}}, status=trouble.status)
        else:
            _answer(self, {"status": "ok", "version": __version__})


class ReadyHandler(RequestHandler):
    """Answers ``GET readyz``, as the API does."""

    def initialize(self, store: Callable[[], Store]) -> None:
        """Take the function that returns the store."""
        self.store = store

    async def get(self) -> None:
        """Answer whether data can reach the pages; 503, and what is wrong, when they cannot."""
        try:
            results = await checks(self.store())
        except SnakemapError as trouble:
            _answer(self, {"error": {"code": trouble.code, "message": str(trouble)}}, status=trouble.status)
            return
        trouble = wrong(results)
        body: dict[str, Any] = {"ready": not trouble, "checks": results}
        if trouble:
            body["error"] = {"code": "not_ready", "message": trouble}
        _answer(self, body, status=503 if trouble else 200)


def _allow_embedding(handler: RequestHandler) -> None:
    """Let pages that may embed ours read the answer: a pane that is cut off asks from there whether we are back."""
    origin = handler.request.headers.get("Origin", "")
    allowed = getattr(handler.application, "websocket_origins", set())
    handler.set_header("Vary", "Origin")
    if origin and check_allowlist(urlsplit(origin).netloc.lower(), allowed):
        handler.set_header("Access-Control-Allow-Origin", origin)


def _answer(handler: RequestHandler, body: dict[str, Any], *, status: int = 200) -> None:
    handler.set_status(status)
    handler.set_header("Content-Type", "application/json")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.write(json.dumps(body).encode())
