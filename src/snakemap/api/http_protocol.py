"""uvicorn's HTTP protocol, with a time limit for the headers and bounds on connections."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from snakemap.web.connection_limits import HEADER_TIMEOUT_S, ConnectionLimit

__all__ = ["protocol"]

HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
)
BODY = b'{"error":{"code":"headers_too_slow","message":"the headers of the request have not come in time"}}'


class LimitedProtocol(H11Protocol):
    """One client connection."""

    open: ConnectionLimit
    timeout_s: float = HEADER_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """Accept the connection, unless its address has too many."""
        super().connection_made(transport)
        if not self.open.opened(self, self.client[0] if self.client else "", transport.abort):
            transport.abort()
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's slot."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Handle the end of a response; the client may send another request."""
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the timeouts: the connection is a WebSocket from now on."""
        self._end()
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def _look(self) -> None:
        """Start the header timeout while no complete request has arrived."""
        if self._upgraded or self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self.open.asked(self)
            self._cancel()

    def _wait(self) -> None:
        self.open.waits(self, self.transport.abort)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.timeout_s, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # a part of a request
            self.transport.write(HEAD % len(BODY) + BODY)
        self.transport.close()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._cancel()
        self.open.closed(self)


def protocol(connections: ConnectionLimit, *, timeout_s: float = HEADER_TIMEOUT_S) -> type[Any]:
    """Return the protocol class for one server.

    Args:
        connections: bounds on connections.
        timeout_s: time limit for the headers of a request.
    """
    return type("Protocol", (LimitedProtocol,), {"open": connections, "timeout_s": timeout_s})
