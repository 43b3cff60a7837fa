"""Events as a file: JSON lines, filtered like the page of the event log, sent piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from snakemap.core.cursor import cursor_before
from snakemap.dashboard.large_response import taken
from snakemap.dashboard.panes.event_log import filter_from
from snakemap.dashboard.routes.download import DownloadHandler
from snakemap.errors import RunNotFound
from snakemap.live.event_filter import NO_RUN, EventFilter
from snakemap.live.event_index import CHUNK_FIRST, next_size
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionSlots

__all__ = ["EventsHandler"]


class EventsHandler(DownloadHandler):
    """Answers ``GET events?run=&name=&name=&text=&until=`` with JSON lines, and ``?cursor=`` with one of them."""

    content = "events"
    slots = ConnectionSlots(most=4, each=2)

    def initialize(self, store: Callable[[], Store]) -> None:
        """Take what gives the store at the time of a request."""
        self.store = store

    async def send_file(self) -> None:
        """Send the events that are in the store now."""
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
            self.begin(name, "application/x-ndjson")
            self.write(found[0].json_line + b"\n")
            return
        # the last cursor is fixed before anything is sent: a download does not follow new events
        until = until if until != "+" else await store.latest()
        self.begin(name, "application/x-ndjson")
        await self._send(store, wanted, after, until)

    async def _range(self, store: Store, wanted: EventFilter) -> tuple[str, str]:
        """Return the cursors between which the wanted events are."""
        until = self.get_query_argument("until", "")[:50] or "+"
        if until != "+":
            await store.raw(until=until, count=1)  # refuses a text that is no cursor
        if not wanted.run or wanted.run == NO_RUN:
            return "", until
        try:
            first, last = await store.run_span(wanted.run)
        except RunNotFound:
            return "", until
        return cursor_before(first), last if until == "+" else until

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
