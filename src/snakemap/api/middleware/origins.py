"""Which host names the API answers to, and which web pages may open a WebSocket, which a browser does not check."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import WebSocket
from starlette.types import ASGIApp, Receive, Scope, Send

from snakemap.api.auth import is_ours
from snakemap.api.error_responses import answer_to
from snakemap.errors import HostRefused, OriginRefused
from snakemap.web.hosts import HOST_HEADERS, REFUSAL, HostNames

__all__ = ["KnownHosts", "check_origin"]


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
        raise OriginRefused(f"pages of {origin[:100]} must not read this; SNAKEMAP_ORIGINS lists the allowed sites")


class KnownHosts:
    """Refuses requests and WebSockets that name another host.

    Args:
        app: what comes behind.
        hosts: the names of the server.
    """

    def __init__(self, app: ASGIApp, *, hosts: HostNames) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "lifespan":
            asked = [value.decode("latin-1") for name, value in scope["headers"] if name.decode() in HOST_HEADERS]
            if not self._hosts.allows(asked, arrived_at=str((scope.get("server") or ("",))[0])):
                await answer_to(HostRefused(REFUSAL))(scope, receive, send)
                return
        await self._app(scope, receive, send)
