"""Send long responses to slow clients."""

from __future__ import annotations

import asyncio

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from snakemap.web.connection_limits import SEND_TIMEOUT_S

__all__ = ["taken"]


async def taken(handler: RequestHandler, *, timeout_s: float | None = None) -> None:
    """Send what was written, and return when the client has taken it.

    Args:
        handler: of the request.
        timeout_s: within which the client must take it; default: :data:`SEND_TIMEOUT_S`.

    Raises:
        StreamClosedError: when the client is gone, or does not take it in time; its connection is closed then.
    """
    stream = handler.request.connection.stream  # pyright: ignore - Tornado's annotations know no stream
    try:
        await asyncio.wait_for(handler.flush(), SEND_TIMEOUT_S if timeout_s is None else timeout_s)
    except TimeoutError:
        stream.close()
        raise StreamClosedError from None
