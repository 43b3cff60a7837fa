"""What one client may ask of the API: so many requests a minute, so large a body, so many connections that stay open.

All of it is counted in this process and by address; a proxy must hand addresses on (``X-Forwarded-For``), or all that
come through it are one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

import orjson
from fastapi.requests import HTTPConnection
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snakemap.api.answers import answer_to
from snakemap.connections import BODY_TIMEOUT_S, Places, block_of
from snakemap.errors import BodyTooLarge, BodyTooSlow, RequestRefused, SnakemapError, TooOften

__all__ = ["BODY_BYTES_MAX", "UNLIMITED", "Bodies", "Places", "Requests", "address_of", "block_of"]

UNLIMITED = frozenset(("/healthz", "/readyz", "/metrics"))
"""What those ask who look after us, and who must not take a crowd for a failure."""

ADDRESSES_MAX = 10_000
BODY_BYTES_MAX = 1_000_000
DIGITS_MAX = 20


def address_of(connection: HTTPConnection) -> str:
    """Who asks, as far as anybody can tell; see :func:`block_of`."""
    return block_of(connection.client.host if connection.client else "")


class Requests:
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


class Bodies:
    """Reads the body of every request before anything else happens, as far as bodies may go.

    JSON is read here once and written anew: what comes behind never meets a number, a text or a depth that could not be
    kept or passed on.

    Args:
        app: what comes behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with its whole body, or refuses it."""
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if headers is None or ("content-length" not in headers and "transfer-encoding" not in headers):
            await self._app(scope, receive, send)
            return
        try:
            body = await _whole(headers, receive)
            if body is None:
                return
            if _is_json(headers) and body.strip():
                body = _again(body)
        except SnakemapError as refusal:
            await answer_to(refusal)(scope, receive, send)
            return
        await self._app(scope, _played_back(body, receive), send)


async def _whole(headers: Headers, receive: Receive) -> bytes | None:
    """The body of a request; None when its client has gone.

    Raises:
        BodyTooLarge: as soon as that is known.
        BodyTooSlow: when it does not come in time.
    """
    told = headers.get("content-length", "0")
    too_large = BodyTooLarge(f"a body has at most {BODY_BYTES_MAX:,} bytes")
    if len(told) > DIGITS_MAX or (told.isdecimal() and int(told) > BODY_BYTES_MAX):
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > BODY_BYTES_MAX:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise BodyTooSlow(f"the body has not come within {BODY_TIMEOUT_S:.0f} s") from None


def _is_json(headers: Headers) -> bool:
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _again(body: bytes) -> bytes:
    """JSON, read and written again.

    Raises:
        RequestRefused: when that cannot be done.
    """
    try:
        return orjson.dumps(orjson.loads(body))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise RequestRefused(f"body: it is not JSON that can be used: {error}") from None


def _played_back(body: bytes, receive: Receive) -> Receive:
    """Gives a body that has been read to those who come behind, and then what really comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read
