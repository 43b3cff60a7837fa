"""One small message a second to every open page, so that the browser's own clock knows when the connection is gone.

The message goes over the connection of the page's own session: whatever cuts that connection also stops the beat. It
does not need the lock of the document, so a session that waits for Redis or a file still beats. All pages of an event
loop share one timer and one message, which is encoded once.

A browser answers a WebSocket ping even while its page sleeps. One that has not answered for half a minute is gone; its
connection is closed, because a session with an open connection is never freed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from bokeh.document import Document
from bokeh.document.events import MessageSentEvent
from bokeh.protocol import Protocol
from tornado.websocket import WebSocketClosedError

from snakemap.dashboard.callbacks import soon

__all__ = ["BEAT", "ConnectionBeat", "disconnect"]

BEAT = "snakemap-beat"
"""Type of the message; ``connection.js`` listens for it."""

PERIOD_S = 1.0
PING_EVERY = 10
PINGS_UNANSWERED_MAX = 3


@dataclass(slots=True)
class _Line:
    """One connection of a session.

    Attributes:
        sending: the beat that is being written; None when the last one is out.
        beats: how many there were.
        pong: number of the last ping that the browser answered.
        unanswered: pings since then.
    """

    sending: asyncio.Task[None] | None = None
    beats: int = 0
    pong: int = -1
    unanswered: int = 0


class ConnectionBeat:
    """The beat of all pages that one event loop serves; it rests while there are none."""

    def __init__(self) -> None:
        self._documents: set[Document] = set()
        self._lines: dict[Any, _Line] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._message: Any = Protocol().create("PATCH-DOC", [MessageSentEvent(Document(), BEAT, None)])

    @property
    def documents(self) -> int:
        """Number of pages that get it."""
        return len(self._documents)

    def follow(self, document: Document) -> None:
        """Send the beat to the browser of a document until its session is destroyed; safe to call from any thread."""
        document.on_session_destroyed(lambda session_context: self._documents.discard(document))
        soon(document, partial(self._join, document))

    def _join(self, document: Document) -> None:
        if document.session_context is None:
            return  # a notebook: its own page says when the kernel is gone
        self._documents.add(document)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._beat)

    def _beat(self) -> None:
        self._timer = None
        connections = {one for document in self._documents for one in _connections(document)}
        for gone in self._lines.keys() - connections:
            del self._lines[gone]
        for connection in connections:
            self._send(connection, self._lines.setdefault(connection, _Line()))
        if self._documents:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._beat)

    def _send(self, connection: Any, line: _Line) -> None:
        line.beats += 1
        if line.beats % PING_EVERY == 0:
            _ping(connection, line)
        if line.sending is None or line.sending.done():  # else the browser takes nothing at the moment
            line.sending = asyncio.ensure_future(connection._socket.send_message(self._message))


def disconnect(document: Document) -> None:
    """Close the connections of a document's session, which the browser has no use for any more."""
    for connection in _connections(document):
        connection._socket.close()


def _connections(document: Document) -> list[Any]:
    """Return a copy of the connections of a document's session."""
    session = getattr(document.session_context, "session", None)
    return list(session._subscribed_connections) if session is not None else []


def _ping(connection: Any, line: _Line) -> None:
    """Ping the browser; close a connection without an answer to three pings."""
    pong = getattr(connection._socket, "latest_pong", None)
    if pong is None:
        return  # a server that is not Tornado's pings by itself
    line.unanswered = 0 if pong != line.pong else line.unanswered + 1
    line.pong = pong
    try:
        if line.unanswered > PINGS_UNANSWERED_MAX:
            connection._socket.close()
        else:
            connection.send_ping()
    except WebSocketClosedError:
        return  # its session learns of it at the same time
