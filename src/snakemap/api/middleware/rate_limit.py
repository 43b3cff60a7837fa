"""Limits of one client: requests a minute, size of a body, open connections.

They are counted in this process, by address. A proxy must pass addresses on (``X-Forwarded-For``), or all its clients
count as one.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from snakemap.api.error_responses import response_to
from snakemap.errors import TooOften
from snakemap.web.connection_limits import block_of

__all__ = ["BODY_BYTES_MAX", "UNLIMITED", "RateLimit", "address_of"]

UNLIMITED = frozenset(("/healthz", "/readyz", "/metrics"))
"""Routes without limit: monitoring must not take a busy server for a failed one."""


ADDRESSES_MAX = 10_000


BODY_BYTES_MAX = 1_000_000


def address_of(connection: HTTPConnection) -> str:
    """Return the address block of a client; see :func:`block_of`."""
    return block_of(connection.client.host if connection.client else "")


class RateLimit:
    """Middleware that limits the requests of each address by a token bucket, which allows short bursts.

    Args:
        app: the wrapped application.
        per_minute: requests that one address may make; opening a WebSocket is a request, too.
        clock: monotonic seconds.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._per_minute = per_minute
        self._clock = clock
        self._stocks: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        wait_s = self._take(block_of((scope.get("client") or ("",))[0]))
        if wait_s <= 0:
            await self._app(scope, receive, send)
            return
        refusal = TooOften(f"more than {self._per_minute} requests in a minute; wait for {wait_s} s")
        refusal.retry_after_s = wait_s
        await response_to(refusal)(scope, receive, send)

    def _take(self, address: str) -> int:
        """Take one token of an address; return 0, or the seconds until there is one again."""
        now, rate = self._clock(), self._per_minute / 60
        left, since = self._stocks.pop(address, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * rate)
        enough = left >= 1
        self._stocks[address] = (left - 1 if enough else left, now)
        if len(self._stocks) > ADDRESSES_MAX:
            self._stocks.popitem(last=False)
        return 0 if enough else max(1, math.ceil((1 - left) / rate))
