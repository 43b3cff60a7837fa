"""Documents by WebSocket: everything after a cursor, then the tail; who cannot keep up is told so and let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import orjson
from fastapi import WebSocket, WebSocketDisconnect

from snakemap.documents import Entry
from snakemap.errors import CursorError, RunNotFound, SnakemapError, StoreUnavailable
from snakemap.store import Store

__all__ = ["Streams", "lines", "message"]

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
CLIENTS_MAX = 200
TRY_AGAIN_LATER, POLICY_VIOLATION, INTERNAL_ERROR = 1013, 1008, 1011


def message(entry: Entry) -> bytes:
    """One entry as the API tells it."""
    return orjson.dumps({"cursor": entry.cursor, "name": entry.name, "run": entry.run, "doc": entry.doc})


async def lines(store: Store, uid: str) -> AsyncIterator[bytes]:
    """The documents of a run up to now, one JSON object a line."""
    async for entries in store.run_entries(uid):
        yield b"".join(message(entry) + b"\n" for entry in entries)


class Streams:
    """The WebSockets that are open; each follows the store on a connection of its own, so that none waits for another.

    Args:
        store: the documents.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clients = 0

    async def send(self, socket: WebSocket, *, after: str | None, uid: str | None = None) -> None:
        """Serves one client until it goes, or cannot keep up.

        Args:
            socket: not yet accepted.
            after: cursor to begin after; None for what comes from now on.
            uid: of the only run that is wanted; None for everything.
        """
        await socket.accept()
        if self.clients >= CLIENTS_MAX:
            await socket.close(TRY_AGAIN_LATER, "too many clients; try again later")
            return
        self.clients += 1
        sending = asyncio.create_task(self._send(socket, after=after, uid=uid), name="websocket")
        try:
            # nothing is expected from the client but its leaving
            while not sending.done():
                receiving = asyncio.create_task(socket.receive(), name="websocket client")
                await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():
                    receiving.cancel()
                elif receiving.result()["type"] == "websocket.disconnect":
                    return
            await self._close(socket, sending)
        finally:
            self.clients -= 1
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _close(self, socket: WebSocket, sending: asyncio.Task[None]) -> None:
        error = sending.exception()
        codes = {TimeoutError: TRY_AGAIN_LATER, StoreUnavailable: TRY_AGAIN_LATER, WebSocketDisconnect: None}
        code = codes.get(type(error), POLICY_VIOLATION if isinstance(error, SnakemapError) else INTERNAL_ERROR)
        if code is None or error is None:
            return
        if code == INTERNAL_ERROR:
            log.error("a websocket failed", exc_info=error)
        reason = "too slow: begin again after your last cursor" if isinstance(error, TimeoutError) else str(error)
        try:
            await socket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))
        except RuntimeError as gone:
            log.debug("the client had gone already: %s", gone)

    async def _send(self, socket: WebSocket, *, after: str | None, uid: str | None) -> None:
        cursor = after if after is not None else await self._store.latest()
        if uid is not None:
            cursor = "0"
            async for entries in self._store.run_entries(uid):
                await self._send_all(socket, entries)
                cursor = entries[-1].cursor if entries else cursor
            if cursor == "0":
                raise RunNotFound(f"no run {uid}")
        async for entries in self._store.follow(cursor):
            await self._send_all(socket, [entry for entry in entries if uid is None or entry.run == uid])

    async def _send_all(self, socket: WebSocket, entries: list[Entry]) -> None:
        for entry in entries:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(message(entry).decode())


def checked(after: str | None) -> str | None:
    """A cursor as the client gave it.

    Raises:
        CursorError: when it is none.
    """
    if after is None:
        return None
    milliseconds, _, number = after.partition("-")
    if not milliseconds.isdecimal() or (number and not number.isdecimal()) or len(after) > 41:
        raise CursorError(f"{after[:50]!r} is not a cursor like 1795461238076-0")
    return after
