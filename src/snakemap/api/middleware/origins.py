"""Check the host names of requests, and the origins of WebSockets, which browsers do not check."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import WebSocket
from starlette.types import ASGIApp, Receive, Scope, Send

from snakemap.api.auth import is_allowed_origin
from snakemap.api.error_responses import response_to
from snakemap.errors import HostRefused, OriginRefused
from snakemap.web.hosts import HOST_HEADERS, REFUSAL, HostNames

__all__ = ["HostCheck", "check_origin"]


def check_origin(socket: WebSocket, origins: Collection[str]) -> None:
    """Refuse WebSockets of web pages of other sites.

    Args:
        socket: not yet accepted.
        origins: further allowed hosts.

    Raises:
        OriginRefused: when the page has another host or port, and no setting names it.
    """
    origin = socket.headers.get("origin")
    if origin is None:
        return  # not a browser
    if not is_allowed_origin(origin, socket.headers.get("host"), origins):
        raise OriginRefused(f"pages of {origin[:100]} must not read this; SNAKEMAP_ORIGINS lists the allowed sites")


class HostCheck:
    """Middleware that refuses requests and WebSockets for other host names.

    Args:
        app: the wrapped application.
        hosts: the names of the server.
    """

    def __init__(self, app: ASGIApp, *, hosts: HostNames) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "lifespan":
            asked = [value.decode("latin-1") for name, value in scope["headers"] if name.decode() in HOST_HEADERS]
            if not self._hosts.allows(asked, arrived_at=str((scope.get("server") or ("",))[0])):
                await response_to(HostRefused(REFUSAL))(scope, receive, send)
                return
        await self._app(scope, receive, send)
