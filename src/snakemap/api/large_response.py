"""Large responses, sent in parts: a client that does not read its response holds memory for a bounded time only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from snakemap.errors import TooBusy

__all__ = ["LargeResponse", "PendingBytes"]

log = logging.getLogger(__name__)

PART_BYTES = 256 * 1024
PART_TIMEOUT_S = 20.0
"""Time limit for the client to read one part."""

HELD_MAX = 512 << 20
"""Total bytes of responses that are being sent at one time."""


class PendingBytes:
    """Total size of the responses that are being sent.

    Attributes:
        bytes: sum over all responses.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def check(self, size: int) -> None:
        """Raise unless another response fits below the limit.

        Raises:
            TooBusy: when the limit is reached.
        """
        if self.bytes + size > HELD_MAX:
            raise TooBusy("too many large answers wait for their clients; try again in a moment")


class LargeResponse(Response):
    """Response that is sent in parts, each with a time limit.

    Args:
        content: the whole content.
        pending: counts the bytes while they are being sent.
        headers: including the content type.
    """

    def __init__(self, content: bytearray, pending: PendingBytes, *, headers: Mapping[str, str]) -> None:
        super().__init__(None, headers={**headers, "Content-Length": str(len(content))})
        self._content = content
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        size = len(self._content)
        self._pending.bytes += size
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, max(size, 1), PART_BYTES):
                part = bytes(self._content[start : start + PART_BYTES])
                async with asyncio.timeout(PART_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": part, "more_body": start + PART_BYTES < size})
        except TimeoutError:
            log.info("client disconnected: it did not read its response in time")
        finally:
            self._pending.bytes -= size
