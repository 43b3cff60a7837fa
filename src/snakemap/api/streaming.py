"""Documents as they come, by WebSocket or as server-sent events: everything after a cursor, then the tail.

Who cannot keep up is told so and let go. What a client has not taken yet waits in the store, not here: each client has
a cursor and a connection to the store of its own, so that a slow one costs no memory and holds nobody up.
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
"""How long a client may let one message wait."""

GOODBYE_TIMEOUT_S = 60.0
"""How long a client that was let go may take to hear why."""

KEEP_ALIVE_S = 15.0
"""After so long without a document an event stream says something, so that no proxy takes it for dead."""

RETRY_MS = 2000
"""How long a browser waits before it asks for an event stream again."""

ENTRIES_AT_ONCE = 100
"""Entries of the store that are in memory at one time, for each client."""

PAGE_BYTES_MAX = 16 * 1024 * 1024

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1008, 1011, 1013
REASON_BYTES_MAX = 120
"""A close frame has room for 123."""


async def lines(store: Store, uid: str, *, after: str = "0") -> AsyncGenerator[bytes]:
    """The documents of a run up to now that come after a cursor, one JSON object a line.

    The first thing it yields is empty, and comes when the run has been found: a caller that waits for it can still
    answer with an error.

    Raises:
        RunNotFound: when there is no such run.
        CursorError: when nobody can go on from there.
    """
    await check_cursor(store, after, of_run=True)
    async with aclosing(store.run_entries(uid, after=after, count=ENTRIES_AT_ONCE)) as batches:
        first = await anext(batches, [])
        yield b""
        yield _lines(first)
        async for entries in batches:
            yield _lines(entries)


async def page_lines(store: Store, after: str, *, count: int) -> AsyncGenerator[bytes]:
    """The next entries after a cursor, one JSON object a line; the first thing it yields is empty, as of :func:`lines`.

    Args:
        store: the documents.
        after: a cursor.
        count: the most that are told; fewer, when they are large.

    Raises:
        CursorError: when nobody can go on from there.
    """
    await check_cursor(store, after)
    yield b""
    told = 0
    while count > 0 and told < PAGE_BYTES_MAX:
        entries = await store.read(after, count=min(count, ENTRIES_AT_ONCE))
        if not entries:
            return
        text = _lines(entries)
        yield text
        after, count, told = entries[-1].cursor, count - len(entries), told + len(text)


async def check_cursor(store: Store, cursor: str, *, of_run: bool = False) -> None:
    """Makes sure that a client which goes on after a cursor misses nothing, and does not wait for ever.

    Args:
        store: the documents.
        cursor: after which it goes on.
        of_run: whether it follows one run; such a run is there as a whole, or not at all.

    Raises:
        CursorGone: when documents after it may have left the store.
        CursorError: when it is none, or nothing as new as that has ever come.
    """
    await store.read(cursor, count=1)  # is it a cursor at all, and is the store there
    oldest, newest = await store.span()
    if cursor_numbers(cursor) > cursor_numbers(newest):
        raise CursorError(f"the cursor {cursor} lies in the future; the newest is {newest}")
    if not of_run and (0, 0) < cursor_numbers(cursor) < cursor_numbers(oldest):
        raise CursorGone(f"what came after {cursor} is no longer complete in the store; start again with after=0")


def _lines(entries: list[Entry]) -> bytes:
    return b"".join(entry.json_line + b"\n" for entry in entries)


class DocumentStreamResponse(StreamingResponse):
    """JSON lines, written as they are read; a place is given back at the end.

    Args:
        parts: bytes.
        leave: called when it is over.
    """

    media_type = "application/x-ndjson"

    def __init__(self, parts: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(parts, headers={"Cache-Control": "no-cache"})
        self._parts = parts
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        try:
            async with aclosing(self._parts):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()


class ServerSentEvents(DocumentStreamResponse):
    """Server-sent events, until the client goes or cannot keep up."""

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(parts, leave)
        self.headers["X-Accel-Buffering"] = "no"

    async def stream_response(self, send: Send) -> None:
        """Sends the events; a client that takes none for too long is told so when it does again, if it ever does."""
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
            last = format_sse_event(comment=str(trouble), id="0")  # a browser that asks again begins again
        except SnakemapError as trouble:
            last = format_sse_event(comment=str(trouble))
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await send({"type": "http.response.body", "body": last, "more_body": False})


class DocumentStreams:
    """The WebSockets and event streams that are open.

    Args:
        store: the documents.
        origins: hosts whose web pages may read along, besides our own.

    Attributes:
        places: for those who are being served.
    """

    def __init__(self, store: Store, *, origins: Collection[str] = ()) -> None:
        self._store = store
        self._origins = frozenset(origins)
        self.places = ConnectionSlots(most=CLIENTS_MAX, each=CLIENTS_EACH)
        self._ending = False

    @property
    def clients(self) -> int:
        """How many are being served."""
        return self.places.taken

    def end(self) -> None:
        """Has all event streams end within a second, as the process is about to; WebSockets are ended by the server."""
        self._ending = True

    async def everything(self, socket: WebSocket, *, after: str | None) -> None:
        """Serves a client every entry after a cursor; None is from now on."""
        await self.serve(socket, self._entries(after))

    async def run(self, socket: WebSocket, asked: str, *, after: str = "0") -> None:
        """Serves a client the documents of one run (a uid, or ``latest``), from its start or after a cursor."""
        await self.serve(socket, self._run_entries(asked, after))

    async def everything_as_events(self, address: str, *, after: str | None) -> ServerSentEvents:
        """Every entry after a cursor as server-sent events; None is from now on.

        Raises:
            SnakemapError: at once, when there will be none.
        """
        return await self._events(address, self._entries(after))

    async def run_as_events(self, address: str, asked: str, *, after: str = "0") -> ServerSentEvents:
        """The documents of one run as server-sent events; as :meth:`everything_as_events`."""
        return await self._events(address, self._run_entries(asked, after))

    async def lines(self, address: str, parts: AsyncGenerator[bytes]) -> DocumentStreamResponse:
        """JSON lines as an answer.

        Args:
            address: of the client.
            parts: as :func:`lines` and :func:`page_lines` yield them.

        Raises:
            SnakemapError: at once, when there will be none.
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
        return ServerSentEvents(self._told(batches), leave)

    async def _told(self, batches: AsyncGenerator[list[Entry]]) -> AsyncGenerator[bytes]:
        """Events for entries, and a comment when there have been none for a while."""
        clock = asyncio.get_running_loop().time
        spoken = clock()
        yield format_sse_event(comment="what comes from now on has the cursor as its id", retry=RETRY_MS)
        async with aclosing(batches):
            async for entries in batches:
                for entry in entries:
                    yield _event(entry)
                if entries:
                    spoken = clock()
                elif clock() - spoken >= KEEP_ALIVE_S:
                    spoken = clock()
                    yield format_sse_event(comment="nothing new")
                if self._ending:
                    return

    async def serve(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
        """Serves one client until it goes, or has to.

        Args:
            socket: not yet accepted.
            batches: what it gets; the first is empty, and fixes where it begins.

        Raises:
            OriginRefused: when a web page of somebody else's is behind it.
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
                goodbye = await self._begin(socket, batches) or await self._until_gone(socket, batches, leave)
        finally:
            leave()
        if goodbye is not None:
            await _close(socket, *goodbye)

    async def _begin(self, socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> tuple[int, str] | None:
        """Finds the beginning before the client may go on: what comes from then on, it gets.

        Returns:
            None, or code and reason why it gets nothing.
        """
        goodbye = None
        try:
            await anext(batches)
        except SnakemapError as trouble:
            goodbye = _goodbye(trouble)
        await socket.accept()
        return goodbye

    async def _until_gone(
        self, socket: WebSocket, batches: AsyncGenerator[list[Entry]], leave: Callable[[], None]
    ) -> tuple[int, str] | None:
        """Sends until the client has gone, or has to; then returns code and reason.

        A client that disconnects frees its place before its connection to the store is closed, which takes up to 0.1 s:
        the same client may connect again at once.
        """
        sending = asyncio.create_task(_send(socket, batches), name="websocket")
        leaving = asyncio.create_task(_left(socket), name="websocket client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done()
            if gone:
                leave()
        finally:
            await cancel_tasks(sending, leaving)
        # asked for even where nobody is there to hear it, or asyncio complains that it was not
        trouble = None if sending.cancelled() else sending.exception()
        if gone:
            return None
        return (NORMAL, "that was all") if trouble is None else _goodbye(trouble)

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
    """One entry as a server-sent event: its cursor is the id, its name the kind of event."""
    return format_sse_event(data_str=entry.json_line.decode(), event=entry.name, id=entry.cursor)


async def _send(socket: WebSocket, batches: AsyncGenerator[list[Entry]]) -> None:
    async for entries in batches:
        for entry in entries:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(entry.json_line.decode())


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
            return TRY_AGAIN_LATER, "too slow: reconnect after the last cursor received"
        case SnakemapError(status=503):
            return TRY_AGAIN_LATER, str(error)
        case SnakemapError():
            return POLICY_VIOLATION, str(error)
    log.error("a websocket failed", exc_info=error)
    return INTERNAL_ERROR, "internal error; see the log of the API"


async def refuse(socket: WebSocket, refusal: SnakemapError) -> None:
    """Tells a client why it gets nothing."""
    await socket.accept()
    await _close(socket, POLICY_VIOLATION, str(refusal))


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Says good-bye; a client that does not listen is left to the kernel."""
    short = reason.encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore")
    try:
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await socket.close(code, short)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as gone:
        log.debug("a client was not there any more: %s", gone)
