"""Which web pages may read along by WebSocket: a browser itself leaves that to the server."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import WebSocket

from snakemap.api.callers import is_ours
from snakemap.errors import OriginRefused

__all__ = ["check_origin"]


def check_origin(socket: WebSocket, origins: Collection[str]) -> None:
    """Refuses web pages that are not ours, as a browser itself would for all but WebSockets.

    Args:
        socket: not yet accepted.
        origins: hosts whose web pages may read along, besides our own.

    Raises:
        OriginRefused: when the page comes from another host, or port, and no setting names it.
    """
    origin = socket.headers.get("origin")
    if origin is None:
        return  # not a browser
    if not is_ours(origin, socket.headers.get("host"), origins):
        raise OriginRefused(f"pages of {origin[:100]} may not read this; SNAKEMAP_ORIGINS names those that may")
