"""Documents by WebSocket: everything after a cursor, then the tail; who cannot keep up is told so and let go.

What a client has not taken yet waits in the store, not here: each client has a cursor and a connection to the store of
its own, so that a slow one costs no memory and holds nobody up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import orjson
from fastapi import WebSocket, WebSocketDisconnect

from snakemap.api.folds import uid_of
from snakemap.api.origins import check_origin
from snakemap.errors import SnakemapError
from snakemap.store import Entry, Store

__all__ = ["Streams", "lines", "message"]

log = logging.getLogger(__name__)

CLIENTS_MAX = 200
SEND_TIMEOUT_S = 10.0
"""How long a client may let one message wait."""

GOODBYE_TIMEOUT_S = 60.0
"""How long a client that was let go may take to hear why."""

POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1008, 1011, 1013
REASON_BYTES_MAX = 120
"""A close frame has room for 123."""


def message(entry: Entry) -> bytes:
    """One entry as the API tells it."""
    return orjson.dumps({"cursor": entry.cursor, "name": entry.name, "run": entry.run, "doc": entry.doc})


async def lines(store: Store, uid: str) -> AsyncGenerator[bytes]:
    """The documents of a run up to now, one JSON object a line.

    The first thing it yields is empty, and comes when the run has been found: a caller that waits for it can still
    answer with an error.

    Raises:
        RunNotFound: when there is no such run.
    """
    async with aclosing(store.run_entries(uid)) as batches:
        first = await anext(batches, [])
        yield b""
        yield _lines(first)
        async for entries in batches:
            yield _lines(entries)


def _lines(entries: list[Entry]) -> bytes:
    return b"".join(message(entry) + b"\n" for entry in entries)


class Streams:
    """The WebSockets that are open.

    Args:
        store: the documents.
        origins: hosts whose web pages may read along, besides our own.

    Attributes:
        clients: how many are being served.
    """

    def __init__(self, store: Store, *, origins: Collection[str] = ()) -> None:
        self._store = store
        self._origins = frozenset(origins)
        self.clients = 0

    async def everything(self, socket: WebSocket, *, after: str | None) -> None:
        """Serves a client every entry after a cursor; None is from now on."""
        await self._serve(socket, self._entries(after))

    async def run(self, socket: WebSocket, asked: str) -> None:
        """Serves a client the documents of one run (a uid, or ``latest``), from its start on."""
        await self._serve(socket, self._run_entries(asked))

    async def _serve(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
        """Serves one client until it goes, or has to.

        Args:
            socket: not yet accepted.
            batches: what it gets, without an end; the first is empty, and fixes where it begins.

        Raises:
            OriginRefused: when a web page of somebody else's is behind it.
        """
        self._check_origin(socket)
        self.clients += 1
        try:
            async with aclosing(batches):
                goodbye = await self._begin(socket, batches) or await self._until_gone(socket, batches)
        finally:
            self.clients -= 1
        if goodbye is not None:
            await _close(socket, *goodbye)

    async def _begin(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> tuple[int, str] | None:
        """Finds the beginning before the client may go on: what comes from then on, it gets.

        Returns:
            None, or code and reason why it gets nothing.
        """
        goodbye = None
        if self.clients > CLIENTS_MAX:
            goodbye = TRY_AGAIN_LATER, "too many clients; try again later"
        else:
            try:
                await anext(batches)
            except SnakemapError as trouble:
                goodbye = _goodbye(trouble)
        await socket.accept()
        return goodbye

    async def _until_gone(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> tuple[int, str] | None:
        """Sends until the client has gone, or has to; then returns code and reason."""
        sending = asyncio.create_task(_send(socket, batches), name="websocket")
        leaving = asyncio.create_task(_left(socket), name="websocket client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            return None if leaving.done() else _goodbye(sending.exception())
        finally:
            await _end(sending, leaving)

    async def _entries(self, after: str | None) -> AsyncGenerator[list[Entry]]:
        cursor = await self._store.latest() if after is None else after
        await self._store.read(cursor, count=1)  # is it a cursor at all, and is the store there
        yield []
        async with aclosing(self._store.follow(cursor)) as batches:
            async for entries in batches:
                yield entries

    async def _run_entries(self, asked: str) -> AsyncGenerator[list[Entry]]:
        uid, cursor = await uid_of(self._store, asked), "0"
        async with aclosing(self._store.run_entries(uid)) as batches:
            first = await anext(batches, [])
            yield []
            yield first
            cursor = first[-1].cursor if first else cursor
            async for entries in batches:
                yield entries
                cursor = entries[-1].cursor
        async with aclosing(self._store.follow(cursor)) as batches:
            async for entries in batches:
                yield [entry for entry in entries if entry.run == uid]

    def _check_origin(self, socket: WebSocket) -> None:
        """As :func:`~snakemap.api.origins.check_origin`."""
        check_origin(socket, self._origins)


async def _send(socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
    async for entries in batches:
        for entry in entries:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(message(entry).decode())


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancels tasks until they end: redis-py's ``wait_for`` may swallow a cancellation before Python 3.12."""
    while going_on := [task for task in tasks if not task.done()]:
        for task in going_on:
            task.cancel()
        await asyncio.wait(going_on, timeout=0.1)


async def _left(socket: WebSocket) -> None:
    """Returns when the client has gone; whatever else it says is not heard."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _goodbye(error: BaseException | None) -> tuple[int, str] | None:
    """Code and reason for a client; None when there is nobody to tell them to."""
    match error:
        case None | WebSocketDisconnect():
            return None
        case TimeoutError():
            return TRY_AGAIN_LATER, "too slow: begin again after the last cursor that came"
        case SnakemapError(status=503):
            return TRY_AGAIN_LATER, str(error)
        case SnakemapError():
            return POLICY_VIOLATION, str(error)
    log.error("a websocket failed", exc_info=error)
    return INTERNAL_ERROR, "something went wrong here; the log of the API says what"


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Says good-bye; a client that does not listen is left to the kernel."""
    short = reason.encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore")
    try:
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await socket.close(code, short)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as gone:
        log.debug("a client was not there any more: %s", gone)
