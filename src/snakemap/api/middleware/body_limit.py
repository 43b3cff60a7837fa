"""Bound the size of request bodies."""

from __future__ import annotations

import asyncio

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snakemap.api.error_responses import response_to
from snakemap.api.middleware.rate_limit import BODY_BYTES_MAX
from snakemap.errors import BodyTooLarge, BodyTooSlow, RequestRefused, SnakemapError
from snakemap.web.connection_limits import BODY_TIMEOUT_S

__all__ = ["BodyLimit"]

DIGITS_MAX = 20


class BodyLimit:
    """Middleware that reads the whole request body, up to a size limit, before the request is handled.

    JSON is parsed and serialized again, so no route sees a number, text or nesting depth that could not be stored or
    passed on.

    Args:
        app: the wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
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
            await response_to(refusal)(scope, receive, send)
            return
        await self._app(scope, _played_back(body, receive), send)


async def _whole(headers: Headers, receive: Receive) -> bytes | None:
    """Return the request body; None when the client has disconnected.

    Raises:
        BodyTooLarge: as soon as the size is known.
        BodyTooSlow: when the body does not arrive in time.
    """
    length = headers.get("content-length", "0")
    too_large = BodyTooLarge(f"a body has at most {BODY_BYTES_MAX:,} bytes")
    if len(length) > DIGITS_MAX or (length.isdecimal() and int(length) > BODY_BYTES_MAX):
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
        raise BodyTooSlow(f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None


def _is_json(headers: Headers) -> bool:
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _again(body: bytes) -> bytes:
    """Return JSON parsed and serialized again.

    Raises:
        RequestRefused: when the body is not valid JSON.
    """
    try:
        return orjson.dumps(orjson.loads(body))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise RequestRefused(f"body: not valid JSON: {error}") from None


def _played_back(body: bytes, receive: Receive) -> Receive:
    """Return a receive function that yields the body that was read, then further messages."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read
