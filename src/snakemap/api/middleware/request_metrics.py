"""What is asked of the API, counted by route, method and class of status; what is streamed passes untouched.

A route is told by its template, never by the path that was asked for, so that nobody can make up labels.
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
"""Where a request's scope holds the code of the error that it is answered with."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
WEBSOCKET = "WEBSOCKET"
ANSWERS = frozenset(
    ("http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"),
)


class RequestMetrics:
    """The requests of one application.

    Attributes:
        counts: by method, route, and class of status, like ``("GET", "/api/runs", "2xx")``.
        errors: answers that are errors, by code.
        waits: seconds until an answer began, by method and route; a WebSocket is as long as it lasts, and not here.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.waits: dict[tuple[str, str], Histogram] = {}

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts an answer that begins.

        Args:
            scope: of the request, after it has been routed.
            status: of the answer.
            seconds: since the request came.
        """
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        method, route = method if method in {*METHODS, WEBSOCKET} else "other", _route(scope)
        self.counts[method, route, f"{status // 100}xx"] += 1
        if code := scope.get(CODE):
            self.errors[code] += 1
        if method != WEBSOCKET:
            self.waits.setdefault((method, route), Histogram(ANSWER_S)).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """As metrics."""
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
    """Counts what passes through it.

    Args:
        app: that answers.
        requests: where it is counted.
    """

    def __init__(self, app: ASGIApp, *, requests: RequestMetrics) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one connection on."""
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
    """The status of an answer; a WebSocket is accepted with 101, and one that is closed before has been refused."""
    if message["type"] == "websocket.accept":
        return 101
    return 403 if message["type"] == "websocket.close" else int(message["status"])


def _route(scope: Scope) -> str:
    """The template of the route that was found, like ``/api/runs/{uid}``."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return "mounted" if "endpoint" in scope else "none"
