"""Large answers, a part at a time: a client that does not take its answer costs memory for a bounded time only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from snakemap.errors import TooBusy

__all__ = ["Held", "LargeResponse"]

log = logging.getLogger(__name__)

PART_BYTES = 256 * 1024
PART_TIMEOUT_S = 20.0
"""How long a client may take over one part."""

HELD_MAX = 512 << 20
"""Bytes of answers that wait for their clients at one time."""


class Held:
    """How much waits for clients to take it.

    Attributes:
        bytes: of all answers that are being sent.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def check(self, size: int) -> None:
        """Makes sure that there is room for another answer.

        Raises:
            TooBusy: when there is none.
        """
        if self.bytes + size > HELD_MAX:
            raise TooBusy("too many large answers wait for their clients; try again in a moment")


class LargeResponse(Response):
    """An answer that is sent in parts, each of which its client has to take in time.

    Args:
        content: the whole of it.
        held: where it is counted while it is sent.
        headers: with the content type.
    """

    def __init__(self, content: bytearray, held: Held, *, headers: Mapping[str, str]) -> None:
        super().__init__(None, headers={**headers, "Content-Length": str(len(content))})
        self._content = content
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        size = len(self._content)
        self._held.bytes += size
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, max(size, 1), PART_BYTES):
                part = bytes(self._content[start : start + PART_BYTES])
                async with asyncio.timeout(PART_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": part, "more_body": start + PART_BYTES < size})
        except TimeoutError:
            log.info("a client that does not take its answer was let go")
        finally:
            self._held.bytes -= size
