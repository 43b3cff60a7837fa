"""Metrics of requests, by route, method and class of status; streams pass unchanged.

A route is labeled by its template, never by the requested path, so the number of labels is bounded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snakemap.errors import SnakemapError
from snakemap.store.heartbeat import ANSWER_S, Histogram

__all__ = ["CODE", "RequestMetrics", "RequestMetricsMiddleware"]

CODE = "snakemap.error_code"
"""Key in a request's scope of the error code that it was answered with."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
WEBSOCKET = "WEBSOCKET"
ANSWERS = frozenset(
    ("http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"),
)


class RequestMetrics:
    """Request counts of one application.

    Attributes:
        counts: by method, route, and class of status, like ``("GET", "/api/runs", "2xx")``.
        errors: error responses, by code.
        waits: seconds until the response began, by method and route; without WebSockets.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.waits: dict[tuple[str, str], Histogram] = {}

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a response that begins.

        Args:
            scope: of the request, after routing.
            status: of the response.
            seconds: since the request arrived.
        """
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        method, route = method if method in {*METHODS, WEBSOCKET} else "other", _route(scope)
        self.counts[method, route, f"{status // 100}xx"] += 1
        if code := scope.get(CODE):
            self.errors[code] += 1
        if method != WEBSOCKET:
            self.waits.setdefault((method, route), Histogram(ANSWER_S)).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        text = "Requests to this API, by method, route and class of the answer's status."
        counted = CounterMetricFamily("snakemap_api_requests", text, labels=("method", "route", "status"))
        for labels, count in sorted(self.counts.items()):
            counted.add_metric(labels, count)
        text = "Requests that this API has answered with an error, by its code."
        failed = CounterMetricFamily("snakemap_api_errors", text, labels=("code",))
        for code, count in sorted(self.errors.items()):
            failed.add_metric((code,), count)
        text = "From a request until its answer begins, in seconds."
        waited = HistogramMetricFamily("snakemap_api_request_duration_seconds", text, labels=("method", "route"))
        for labels, waits in sorted(self.waits.items()):
            waited.add_metric(labels, waits.buckets(), waits.sum)
        yield from (counted, failed, waited)


class RequestMetricsMiddleware:
    """Middleware that counts requests.

    Args:
        app: the wrapped application.
        requests: the counts.
    """

    def __init__(self, app: ASGIApp, *, requests: RequestMetrics) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began, answered = time.perf_counter(), False

        async def counted(message: Message) -> None:
            nonlocal answered
            if not answered and message["type"] in ANSWERS:
                answered = True
                self.requests.count(scope, _status(message), time.perf_counter() - began)
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except Exception:
            if not answered:
                scope[CODE] = SnakemapError.code
                self.requests.count(scope, 500, time.perf_counter() - began)
            raise


def _status(message: Message) -> int:
    """Return the status of a response: 101 for an accepted WebSocket, 403 for one that is closed before."""
    if message["type"] == "websocket.accept":
        return 101
    return 403 if message["type"] == "websocket.close" else int(message["status"])


def _route(scope: Scope) -> str:
    """Return the template of the matched route, like ``/api/runs/{uid}``."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return "mounted" if "endpoint" in scope else "none"
