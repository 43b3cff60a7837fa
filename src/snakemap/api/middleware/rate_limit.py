"""What one client may ask of the API: so many requests a minute, so large a body, so many connections that stay open.

All of it is counted in this process and by address; a proxy must hand addresses on (``X-Forwarded-For``), or all that
come through it are one.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from snakemap.api.error_responses import answer_to
from snakemap.errors import TooOften
from snakemap.web.connection_limits import block_of

__all__ = ["BODY_BYTES_MAX", "UNLIMITED", "RateLimit", "address_of"]

UNLIMITED = frozenset(("/healthz", "/readyz", "/metrics"))
"""What those ask who look after us, and who must not take a crowd for a failure."""


ADDRESSES_MAX = 10_000


BODY_BYTES_MAX = 1_000_000


def address_of(connection: HTTPConnection) -> str:
    """Who asks, as far as anybody can tell; see :func:`block_of`."""
    return block_of(connection.client.host if connection.client else "")


class RateLimit:
    """Counts the requests of each address, and tells those to wait that make too many.

    An address has a stock of requests that fills up evenly, so that a burst is no harm and nobody waits a whole minute.

    Args:
        app: what comes behind.
        per_minute: requests that one address may make; WebSockets that are opened are requests, too.
        clock: seconds that never run backwards.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._per_minute = per_minute
        self._clock = clock
        self._stocks: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "lifespan" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        wait_s = self._take(block_of((scope.get("client") or ("",))[0]))
        if wait_s <= 0:
            await self._app(scope, receive, send)
            return
        refusal = TooOften(f"more than {self._per_minute} requests in a minute; wait for {wait_s} s")
        refusal.retry_after_s = wait_s
        await answer_to(refusal)(scope, receive, send)

    def _take(self, address: str) -> int:
        """Takes one request from the stock of an address; returns 0, or after how many seconds there is one again."""
        now, rate = self._clock(), self._per_minute / 60
        left, since = self._stocks.pop(address, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * rate)
        enough = left >= 1
        self._stocks[address] = (left - 1 if enough else left, now)
        if len(self._stocks) > ADDRESSES_MAX:
            self._stocks.popitem(last=False)
        return 0 if enough else max(1, math.ceil((1 - left) / rate))
