"""Document streams by WebSocket or server-sent events: all entries after a cursor, then those that follow.

A client that cannot keep up is disconnected with the reason. Unsent entries wait in Redis, not here: each client has
its own cursor and its own connection to Redis, so a slow one costs no memory and delays no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from snakemap.api.middleware.origins import check_origin
from snakemap.api.middleware.rate_limit import address_of
from snakemap.core.cursor import cursor_numbers
from snakemap.core.documents import Entry
from snakemap.errors import CursorError, CursorGone, SnakemapError, StoreRewound
from snakemap.store.run_index import find_uid
from snakemap.store.store import Store
from snakemap.store.tasks import cancel_tasks
from snakemap.web.connection_limits import ConnectionSlots

__all__ = ["DocumentStreamResponse", "DocumentStreams", "ServerSentEvents", "lines", "page_lines", "refuse"]

log = logging.getLogger(__name__)

CLIENTS_MAX = 200
CLIENTS_EACH = 50
SEND_TIMEOUT_S = 10.0
"""Time limit for sending one message."""

GOODBYE_TIMEOUT_S = 60.0
"""Time limit for sending the reason before a client is disconnected."""

KEEP_ALIVE_S = 15.0
"""Interval of keep-alive comments, so that no proxy closes an idle event stream."""

RETRY_MS = 2000
"""Delay before a browser reconnects to an event stream."""

ENTRIES_AT_ONCE = 100
"""Entries held in memory at one time, for each client."""

PAGE_BYTES_MAX = 16 * 1024 * 1024

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1008, 1011, 1013
REASON_BYTES_MAX = 120
"""Maximum length of a reason; a close frame takes 123 bytes."""


async def lines(store: Store, uid: str, *, after: str = "0") -> AsyncGenerator[bytes]:
    """Yield the documents of a run after a cursor, up to now, one JSON object a line.

    The first item is empty and is yielded once the run has been found: a caller that waits for it can still respond
    with an error.

    Raises:
        RunNotFound: when there is no such run.
        CursorError: when the cursor is invalid.
    """
    await check_cursor(store, after, of_run=True)
    async with aclosing(store.run_entries(uid, after=after, count=ENTRIES_AT_ONCE)) as batches:
        first = await anext(batches, [])
        yield b""
        yield _lines(first)
        async for entries in batches:
            yield _lines(entries)


async def page_lines(store: Store, after: str, *, count: int) -> AsyncGenerator[bytes]:
    """Yield the next entries after a cursor, one JSON object a line; the first item is empty, as in :func:`lines`.

    Args:
        store: the document store.
        after: a cursor.
        count: the most entries; fewer when they are large.

    Raises:
        CursorError: when the cursor is invalid.
    """
    await check_cursor(store, after)
    yield b""
    sent = 0
    while count > 0 and sent < PAGE_BYTES_MAX:
        entries = await store.read(after, count=min(count, ENTRIES_AT_ONCE))
        if not entries:
            return
        text = _lines(entries)
        yield text
        after, count, sent = entries[-1].cursor, count - len(entries), sent + len(text)


async def check_cursor(store: Store, cursor: str, *, of_run: bool = False) -> None:
    """Raise unless a client can continue after a cursor without gaps.

    Args:
        store: the document store.
        cursor: the client's last one.
        of_run: whether it follows one run; a run is in the store as a whole, or not at all.

    Raises:
        CursorGone: when documents after it may have left the store.
        CursorError: when it is no cursor, or newer than the newest entry.
    """
    await store.read(cursor, count=1)  # raises when the cursor is malformed or Redis cannot be reached
    oldest, newest = await store.span()
    if cursor_numbers(cursor) > cursor_numbers(newest):
        raise CursorError(f"the cursor {cursor} lies in the future; the newest is {newest}")
    if not of_run and (0, 0) < cursor_numbers(cursor) < cursor_numbers(oldest):
        raise CursorGone(f"what came after {cursor} is no longer complete in the store; start again with after=0")


def _lines(entries: list[Entry]) -> bytes:
    return b"".join(entry.json_line + b"\n" for entry in entries)


class DocumentStreamResponse(StreamingResponse):
    """JSON lines, sent as they are read; the slot is released at the end.

    Args:
        parts: the lines.
        leave: releases the slot.
    """

    media_type = "application/x-ndjson"

    def __init__(self, parts: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(parts, headers={"Cache-Control": "no-cache"})
        self._parts = parts
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            async with aclosing(self._parts):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()


class ServerSentEvents(DocumentStreamResponse):
    """Server-sent events, until the client disconnects or cannot keep up."""

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(parts, leave)
        self.headers["X-Accel-Buffering"] = "no"

    async def stream_response(self, send: Send) -> None:
        """Send the events; a client that is too slow gets the reason as the last event, if it reads again."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = b""
        try:
            async for event in self._parts:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:
            await self._parts.aclose()
            self._leave()
            last = format_sse_event(comment="too slow: reconnect after the last id received")
        except StoreRewound as trouble:
            last = format_sse_event(comment=str(trouble), id="0")  # the browser reconnects from the beginning
        except SnakemapError as trouble:
            last = format_sse_event(comment=str(trouble))
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await send({"type": "http.response.body", "body": last, "more_body": False})


class DocumentStreams:
    """All open WebSockets and event streams.

    Args:
        store: the document store.
        origins: further hosts whose web pages may connect.

    Attributes:
        places: slots of the connected clients.
    """

    def __init__(self, store: Store, *, origins: Collection[str] = ()) -> None:
        self._store = store
        self._origins = frozenset(origins)
        self.places = ConnectionSlots(most=CLIENTS_MAX, each=CLIENTS_EACH)
        self._ending = False

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return self.places.taken

    def end(self) -> None:
        """End all event streams within a second, for the shutdown; the server closes WebSockets itself."""
        self._ending = True

    async def everything(self, socket: WebSocket, *, after: str | None) -> None:
        """Send every entry after a cursor to a client; None means from now on."""
        await self.serve(socket, self._entries(after))

    async def run(self, socket: WebSocket, asked: str, *, after: str = "0") -> None:
        """Send the documents of one run (a uid, or ``latest``) to a client, from its start or after a cursor."""
        await self.serve(socket, self._run_entries(asked, after))

    async def everything_as_events(self, address: str, *, after: str | None) -> ServerSentEvents:
        """Return every entry after a cursor as server-sent events; None means from now on.

        Raises:
            SnakemapError: when the stream cannot begin.
        """
        return await self._events(address, self._entries(after))

    async def run_as_events(self, address: str, asked: str, *, after: str = "0") -> ServerSentEvents:
        """Return the documents of one run as server-sent events; as :meth:`everything_as_events`."""
        return await self._events(address, self._run_entries(asked, after))

    async def lines(self, address: str, parts: AsyncGenerator[bytes]) -> DocumentStreamResponse:
        """Return JSON lines as a response.

        Args:
            address: of the client.
            parts: from :func:`lines` or :func:`page_lines`.

        Raises:
            SnakemapError: when the stream cannot begin.
        """
        leave = self.places.take(address)
        try:
            await anext(parts)
        except BaseException:
            leave()
            raise
        return DocumentStreamResponse(parts, leave)

    async def _events(self, address: str, batches: AsyncGenerator[list[Entry]]) -> ServerSentEvents:
        leave = self.places.take(address)
        try:
            await anext(batches)
        except BaseException:
            leave()
            raise
        return ServerSentEvents(self._sse_events(batches), leave)

    async def _sse_events(self, batches: AsyncGenerator[list[Entry]]) -> AsyncGenerator[bytes]:
        """Yield an event for each entry, and keep-alive comments."""
        clock = asyncio.get_running_loop().time
        last_sent = clock()
        yield format_sse_event(comment="the id of each event is its cursor", retry=RETRY_MS)
        async with aclosing(batches):
            async for entries in batches:
                for entry in entries:
                    yield _event(entry)
                if entries:
                    last_sent = clock()
                elif clock() - last_sent >= KEEP_ALIVE_S:
                    last_sent = clock()
                    yield format_sse_event(comment="nothing new")
                if self._ending:
                    return

    async def serve(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
        """Send entries to one client until it disconnects or the stream ends.

        Args:
            socket: not yet accepted.
            batches: the entries; the first batch is empty, and is yielded when the beginning is fixed.

        Raises:
            OriginRefused: when the request comes from a web page of another site.
        """
        check_origin(socket, self._origins)
        try:
            leave = self.places.take(address_of(socket))
        except SnakemapError as refusal:
            await socket.accept()
            await _close(socket, TRY_AGAIN_LATER, str(refusal))
            return
        try:
            async with aclosing(batches):
                reason = await self._begin(socket, batches) or await self._until_gone(socket, batches, leave)
        finally:
            leave()
        if reason is not None:
            await _close(socket, *reason)

    async def _begin(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> tuple[int, str] | None:
        """Fix the beginning of the stream, then accept the client: it gets every entry from then on.

        Returns:
            None, or code and reason when the stream cannot begin.
        """
        reason = None
        try:
            await anext(batches)
        except SnakemapError as trouble:
            reason = _close_reason(trouble)
        await socket.accept()
        return reason

    async def _until_gone(
        self, socket: WebSocket, batches: AsyncGenerator[list[Entry]], leave: Callable[[], None]
    ) -> tuple[int, str] | None:
        """Send until the client disconnects (None), or has to be disconnected (code and reason).

        A client that disconnects frees its slot before its connection to Redis is closed, which takes up to 0.1 s:
        the same client may reconnect at once.
        """
        sending = asyncio.create_task(_send(socket, batches), name="websocket")
        leaving = asyncio.create_task(_wait_for_disconnect(socket), name="websocket client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done()
            if gone:
                leave()
        finally:
            await cancel_tasks(sending, leaving)
        # always retrieve the exception: asyncio warns about one that was never retrieved
        trouble = None if sending.cancelled() else sending.exception()
        if gone:
            return None
        return (NORMAL, "end of the stream") if trouble is None else _close_reason(trouble)

    async def _entries(self, after: str | None) -> AsyncGenerator[list[Entry]]:
        cursor = await self._store.latest() if after is None else after
        await check_cursor(self._store, cursor)
        yield []
        async with aclosing(self._store.follow(cursor, count=ENTRIES_AT_ONCE)) as batches:
            async for entries in batches:
                yield entries

    async def _run_entries(self, asked: str, after: str) -> AsyncGenerator[list[Entry]]:
        uid, cursor = await find_uid(self._store, asked), after
        await check_cursor(self._store, after, of_run=True)
        async with aclosing(self._store.run_entries(uid, after=after, count=ENTRIES_AT_ONCE)) as batches:
            first = await anext(batches, [])
            yield []
            yield first
            cursor = first[-1].cursor if first else cursor
            async for entries in batches:
                yield entries
                cursor = entries[-1].cursor
        async with aclosing(self._store.follow(cursor, count=ENTRIES_AT_ONCE)) as batches:
            async for entries in batches:
                yield [entry for entry in entries if entry.run == uid]


def _event(entry: Entry) -> bytes:
    """Return one entry as a server-sent event: its cursor is the id, its name the event type."""
    return format_sse_event(data_str=entry.json_line.decode(), event=entry.name, id=entry.cursor)


async def _send(socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
    async for entries in batches:
        for entry in entries:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(entry.json_line.decode())


async def _wait_for_disconnect(socket: WebSocket) -> None:
    """Return when the client has disconnected; its messages are ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _close_reason(error: BaseException | None) -> tuple[int, str] | None:
    """Return close code and reason for a client; None when it has disconnected."""
    match error:
        case None | WebSocketDisconnect():
            return None
        case TimeoutError():
            return TRY_AGAIN_LATER, "too slow: reconnect after the last cursor received"
        case SnakemapError(status=503):
            return TRY_AGAIN_LATER, str(error)
        case SnakemapError():
            return POLICY_VIOLATION, str(error)
    log.error("a websocket failed", exc_info=error)
    return INTERNAL_ERROR, "internal error; see the log of the API"


async def refuse(socket: WebSocket, refusal: SnakemapError) -> None:
    """Accept a WebSocket and close it with the reason."""
    await socket.accept()
    await _close(socket, POLICY_VIOLATION, str(refusal))


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a WebSocket; a client that does not read is left to the kernel."""
    short = reason.encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore")
    try:
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await socket.close(code, short)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as gone:
        log.debug("client had already disconnected: %s", gone)
