"""Events to take along: JSON lines, filtered like the page of the log, sent piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from snakemap.core.cursor import cursor_before
from snakemap.dashboard.large_response import taken
from snakemap.dashboard.panes.event_log import filter_from
from snakemap.errors import RunNotFound, SnakemapError
from snakemap.live.event_filter import NO_RUN, EventFilter
from snakemap.live.event_index import CHUNK_FIRST, next_size
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionSlots, block_of

__all__ = ["EventsHandler"]

log = logging.getLogger(__name__)

PLACES = ConnectionSlots(most=4, each=2)
"""Downloads of one process at one time, and of one address."""


class EventsHandler(RequestHandler):
    """Answers ``GET events?run=&name=&name=&text=&until=`` with JSON lines, and ``?cursor=`` with one of them."""

    def initialize(self, store: Callable[[], Store]) -> None:
        """Is told the store when somebody asks."""
        self.store = store

    async def get(self) -> None:
        """Sends what is there now, no faster than it is taken."""
        try:
            give_back = PLACES.take(block_of(self.request.remote_ip or ""))
        except SnakemapError as full:
            self.set_status(full.status)
            self.set_header("Retry-After", str(full.retry_after_s))
            self.finish("Too many downloads of events; try again later.\n")
            return
        try:
            await self._answer()
        except StreamClosedError:
            log.info("a client disconnected during a download of events, or took nothing for too long")
        except SnakemapError as trouble:
            if self._headers_written:
                log.warning("events were not sent to their end: %s", trouble)
                raise
            raise HTTPError(trouble.status, reason=type(trouble).__name__) from trouble
        finally:
            give_back()

    async def _answer(self) -> None:
        cursor = self.get_query_argument("cursor", "")[:50]
        wanted = filter_from(
            self.get_query_argument("run", ""), self.get_query_arguments("name"), self.get_query_argument("text", "")
        )
        store = self.store()
        after, until = ("", cursor) if cursor else await self._range(store, wanted)
        name = f"snakemap-{cursor or 'events'}.jsonl"
        if cursor:
            found = [raw for raw in await store.raw(until=cursor, count=1, newest_first=True) if raw.cursor == cursor]
            if not found:
                raise HTTPError(404, reason="This event is no longer in the store")
            self._begin(name)
            self.write(found[0].json_line + b"\n")
            return
        # the last cursor is fixed before anything is sent: who takes events along does not follow them
        until = until if until != "+" else await store.latest()
        self._begin(name)
        await self._send(store, wanted, after, until)

    async def _range(self, store: Store, wanted: EventFilter) -> tuple[str, str]:
        """Between which cursors what is wanted lies."""
        until = self.get_query_argument("until", "")[:50] or "+"
        if until != "+":
            await store.raw(until=until, count=1)  # who gives what is no cursor is told so
        if not wanted.run or wanted.run == NO_RUN:
            return "", until
        try:
            first, last = await store.run_span(wanted.run)
        except RunNotFound:
            return "", until
        return cursor_before(first), last if until == "+" else until

    def _begin(self, name: str) -> None:
        self.set_header("Content-Type", "application/x-ndjson")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    async def _send(self, store: Store, wanted: EventFilter, after: str, until: str) -> None:
        size = CHUNK_FIRST
        while chunk := await store.raw(after=after, until=until, count=size):
            after = chunk[-1].cursor
            lines = [raw.json_line + b"\n" for raw in chunk if wanted.takes_all(raw)]
            if lines:
                self.write(b"".join(lines))
                await taken(self)
            elif self.request.connection.stream.closed():  # pyright: ignore - Tornado's annotations know no stream
                raise StreamClosedError
            size = next_size(chunk, size)
            await asyncio.sleep(0)
