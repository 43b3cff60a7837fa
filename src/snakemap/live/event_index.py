"""Index of the newest events of the store, kept once for each process while tabs show the event log.

The index is bounded and begins with the first subscriber; the documents stay in the store::

    rows         summaries of the newest events, numbered: a new event gets the next number, and an older one that is
                 read back from the store the number before the first
    selections   the numbers of the rows that a filter selects; tabs with the same filter share one

Events that are older than the rows are read from the store on request.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from snakemap.core.cursor import BEGINNING, cursor_before, cursor_numbers
from snakemap.core.document_text import summary_line
from snakemap.errors import SnakemapError, StoreRewound, StoreUnavailable, TooOften
from snakemap.live.event_filter import EventFilter, EventRow
from snakemap.live.event_selection import EventSelection, SearchResult
from snakemap.live.subscribers import Subscribers
from snakemap.store.entries import RawEntry
from snakemap.store.store import Store, StreamPosition
from snakemap.store.tasks import cancel_tasks, end_if_cancelled

__all__ = ["EventIndex", "next_size", "row_of"]

log = logging.getLogger(__name__)


ROWS_MAX = 200_000


SELECTIONS_MAX = 40


SEARCHES_AT_ONCE = 2


RUNS_KEPT, NAMES_LISTED = 200, 24


TEXT_MAX = 200


RETRY_S = 1.0


CHUNK_BYTES = 2_000_000
"""Bytes of documents that are read from the store at one time, so that the event loop is not blocked for long."""


CHUNK_FIRST, CHUNK_MAX = 20, 500
"""Entries read at one time: few at first, until the size of the documents is known."""


AT_ONCE = 5_000
"""Rows that are filtered in one go."""


SEARCHED_MAX = 50_000
"""Maximum of events that one search for older events reads."""


SUMMARY_BYTES_MAX = 1_000_000
"""A larger document gets no summary."""


class EventIndex:
    """Follows the store while it has subscribers.

    Args:
        store: the document store.
        rows_max: maximum of rows.
        period_s: shortest time between two calls of a subscriber.

    Attributes:
        start: number of the first row.
        names: number of rows by document name.
        runs: summaries of runs by uid; those that began last are at the end.
        loaded: whether all rows have been read back.
        older: whether the store has events that are older than the rows.
        trouble: why no events arrive; empty when they do.
        lives: counts replaced stores; each time numbers start again, and selections must be made again.
    """

    def __init__(self, store: Store, *, rows_max: int = ROWS_MAX, period_s: float = 0.25) -> None:
        self.store = store
        self.rows_max = rows_max
        self._subscribers = Subscribers(period_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._back: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self._searches = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self.lives = 1
        self._empty()

    def _empty(self) -> None:
        self.start = 0
        self.names: Counter[str] = Counter()
        self.runs: OrderedDict[str, str] = OrderedDict()
        self.loaded = self.older = False
        self.trouble = ""
        self.selections: dict[EventFilter, EventSelection] = {}
        self._old: list[EventRow] = []
        self._new: list[EventRow] = []
        self._cut = 0

    @property
    def stop(self) -> int:
        """Number of the next row."""
        return self._cut + len(self._new)

    @property
    def watchers(self) -> int:
        """Number of subscribers."""
        return len(self._subscribers)

    def row(self, number: int) -> EventRow:
        """Return one row."""
        return self._new[number - self._cut] if number >= self._cut else self._old[self._cut - 1 - number]

    def watch(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` after updates, at most once a period; the first subscriber starts the index.

        Needs a running event loop.
        """
        self._subscribers.add(key, wake)
        if not self._tasks:
            works = (self._follow, self._subscribers.run)
            self._tasks = [
                asyncio.create_task(work(), name=f"event index {work.__name__}", context=contextvars.Context())
                for work in works
            ]
        self._subscribers.notify()

    def unwatch(self, key: object) -> None:
        """End :meth:`watch`; without subscribers the index is dropped."""
        if self._subscribers.remove(key) and not self._subscribers:
            self._stop()

    def _stop(self) -> None:
        for task in self._all_tasks():
            task.cancel()
        self._tasks, self._back = [], None
        self._empty()

    async def close(self) -> None:
        """Stop following."""
        tasks = self._all_tasks()
        self._subscribers.clear()
        self._stop()
        await cancel_tasks(*tasks)

    def select(self, wanted: EventFilter) -> EventSelection:
        """Return the rows that a filter selects, updated until :meth:`release`; the newest are found first.

        Raises:
            TooOften: when too many different filters are in use.
        """
        selection = self.selections.get(wanted)
        if selection is None:
            if len(self.selections) >= SELECTIONS_MAX:
                raise TooOften(f"too many different filters are in use ({SELECTIONS_MAX}); try again later")
            selection = self.selections[wanted] = EventSelection(wanted, begins=self.stop)
            selection.task = asyncio.create_task(self._fill(selection), name="event index fill")
        selection.users += 1
        return selection

    def release(self, selection: EventSelection) -> None:
        """End one :meth:`select`."""
        selection.users -= 1
        if selection.users <= 0 and self.selections.get(selection.filter) is selection:
            del self.selections[selection.filter]
            if selection.task is not None:
                selection.task.cancel()

    def searched(self, selection: EventSelection) -> float:
        """Return the share of the rows that were filtered for a selection."""
        rows = self.stop - self.start
        return (self.stop - selection.reached) / rows if rows else 1.0

    def rows(self, selection: EventSelection, start: int, stop: int) -> list[EventRow]:
        """Return the rows at a range of places in a selection."""
        return [self.row(number) for number in selection.numbers.slice(start, stop) if number >= self.start]

    def place_at(self, selection: EventSelection, cursor: str) -> int:
        """Return the place of the first event in a selection that is not before a cursor."""
        wanted, low, high = cursor_numbers(cursor), selection.start, selection.stop
        while low < high:
            middle = (low + high) // 2
            if cursor_numbers(self.row(selection.numbers[middle]).cursor) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    @property
    def first(self) -> str:
        """The cursor of the oldest row; ``"+"`` when there is none."""
        return self.row(self.start).cursor if self.stop > self.start else "+"

    async def event(self, cursor: str) -> RawEntry | None:
        """Return one event as stored; None when it was removed.

        Raises:
            CursorError: when the cursor is invalid.
        """
        found = await self.store.raw(until=cursor, count=1, newest_first=True)
        return found[0] if found and cursor_numbers(found[0].cursor) == cursor_numbers(cursor) else None

    async def later(self, wanted: EventFilter, *, after: str, count: int) -> SearchResult:
        """Return matching events after a cursor and before the rows, at most ``count``.

        Raises:
            CursorError: when the cursor is invalid.
        """
        rows: list[EventRow] = []
        cursor, looked, size, first = after, 0, CHUNK_FIRST, self.first
        more = True
        while more and len(rows) < count and looked < SEARCHED_MAX:
            chunk = await self.store.raw(after=cursor, until=first, count=size)
            chunk = [raw for raw in chunk if raw.cursor != first]
            more, size = bool(chunk), next_size(chunk, size)
            for raw in chunk:
                looked, cursor = looked + 1, raw.cursor
                if wanted.takes_all(raw):
                    rows.append(row_of(raw))
                    if len(rows) == count:
                        break
            await asyncio.sleep(0)
        return SearchResult(rows, after, cursor, before=cursor_numbers(after) > (0, 0), after=more)

    async def earlier(self, wanted: EventFilter, *, until: str, count: int) -> SearchResult:
        """Return the last matching events up to a cursor, inclusive, at most ``count``.

        Raises:
            CursorError: when the cursor is invalid.
        """
        rows: list[EventRow] = []
        cursor, looked, size, more = until, 0, CHUNK_FIRST, True
        while more and len(rows) < count and looked < SEARCHED_MAX:
            chunk = await self.store.raw(until=cursor, count=size, newest_first=True)
            more, size = bool(chunk), next_size(chunk, size)
            for raw in chunk:
                looked, cursor = looked + 1, cursor_before(raw.cursor)
                if wanted.takes_all(raw):
                    rows.append(row_of(raw))
                    if len(rows) == count:
                        break
            await asyncio.sleep(0)
        return SearchResult(rows[::-1], cursor if more else BEGINNING, until, before=more, after=True)

    def _all_tasks(self) -> list[asyncio.Task[None]]:
        filling = [selection.task for selection in self.selections.values() if selection.task is not None]
        back = [] if self._back is None else [self._back]
        return [*self._tasks, *back, *filling]

    async def _follow(self) -> None:
        """Read the index back from the newest event, and follow; ends as soon as it is cancelled.

        The index may be in use again by then, so each wait for the store is followed by a check.
        """
        place: StreamPosition | None = None
        while True:
            try:
                if place is None:
                    latest = await self.store.latest()
                    end_if_cancelled()
                    place = StreamPosition(latest, read=latest != BEGINNING)
                    self._back = asyncio.create_task(self._read_back(place.cursor), name="event index back")
                async with aclosing(self.store.follow_raw(place)) as batches:
                    async for batch in batches:
                        end_if_cancelled()
                        self._clear_trouble()
                        if batch:
                            self._take(batch)
            except StoreRewound as trouble:
                end_if_cancelled()
                log.warning("the event index is read again: %s", trouble)
                if self._back is not None:
                    self._back.cancel()
                place = None
                self._start_over()
            except StoreUnavailable as trouble:
                end_if_cancelled()
                self.trouble = str(trouble)
                self._subscribers.notify()
                await asyncio.sleep(RETRY_S)

    def _start_over(self) -> None:
        """Drop everything that was read from a replaced store."""
        for selection in self.selections.values():
            if selection.task is not None:
                selection.task.cancel()
        self._empty()
        self.lives += 1
        self._subscribers.notify()

    def _clear_trouble(self) -> None:
        if self.trouble:
            self.trouble = ""
            self._subscribers.notify()

    def _take(self, batch: Sequence[RawEntry]) -> None:
        """Add new events to the rows and to every matching selection."""
        for raw in batch:
            number, row = self.stop, row_of(raw)
            self._new.append(row)
            self._note(row)
            for selection in self.selections.values():
                if selection.filter.takes_all(raw):
                    selection.numbers.append(number)
        self._forget()
        self._subscribers.notify()

    async def _read_back(self, until: str) -> None:
        """Read older events back, newest first, up to ``rows_max``."""
        size, cursor = CHUNK_FIRST, until
        while True:
            free = self.rows_max - (self.stop - self.start)
            try:
                chunk = await self.store.raw(until=cursor, count=max(1, min(size, free)), newest_first=True)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            end_if_cancelled()
            if self.older:
                break  # the oldest rows were dropped meanwhile, so these would leave a gap
            self.older = bool(chunk) and free <= 0
            if not chunk or free <= 0:
                break
            for raw in chunk:
                row = row_of(raw)
                self._old.append(row)
                self._note(row, old=True)
            self.start = self._cut - len(self._old)
            cursor, size = cursor_before(chunk[-1].cursor), next_size(chunk, size)
            self._grown.set()
            self._subscribers.notify()
            await asyncio.sleep(0)
        self.loaded = True
        self._grown.set()
        self._subscribers.notify()

    async def _fill(self, selection: EventSelection) -> None:
        """Filter all rows, newest first, while rows are added at both ends."""
        try:
            while True:
                if selection.reached > self.start:
                    if selection.filter.text:
                        async with self._searches:
                            await self._search(selection)
                    else:
                        self._filter_rows(selection, max(self.start, selection.reached - AT_ONCE))
                    await asyncio.sleep(0)
                elif self.loaded:
                    return
                else:
                    self._grown.clear()
                    await self._grown.wait()
                self._subscribers.notify()
        except SnakemapError as trouble:
            log.warning("the event log cannot be searched: %s", trouble)

    def _filter_rows(self, selection: EventSelection, least: int) -> None:
        for number in range(selection.reached - 1, least - 1, -1):
            if selection.filter.takes(self.row(number)):
                selection.numbers.prepend(number)
        selection.reached = least

    async def _search(self, selection: EventSelection) -> None:
        """Search the documents of the next rows for the text."""
        numbers, size = [], 0
        for number in range(selection.reached - 1, self.start - 1, -1):
            row = self.row(number)
            if numbers and (len(numbers) >= CHUNK_MAX or size + row.size > CHUNK_BYTES):
                break
            numbers.append(number)
            size += row.size
        if any(selection.filter.takes(self.row(number)) for number in numbers):
            last, first = self.row(numbers[0]).cursor, self.row(numbers[-1]).cursor
            stored = await self._documents(first, last, len(numbers))
            end_if_cancelled()
            for number in numbers:
                if number < self.start:
                    break  # dropped meanwhile
                row = self.row(number)
                if selection.filter.takes(row) and selection.filter.takes_doc(stored.get(row.cursor, b"")):
                    selection.numbers.prepend(number)
        selection.reached = max(numbers[-1], self.start)

    async def _documents(self, first: str, last: str, count: int) -> dict[str, bytes]:
        while True:
            try:
                found = await self.store.raw(until=last, after=cursor_before(first), count=count, newest_first=True)
            except StoreUnavailable as trouble:
                log.debug("the search waits: %s", trouble)
                await asyncio.sleep(RETRY_S)
            else:
                return {raw.cursor: raw.doc for raw in found}

    def _note(self, row: EventRow, *, old: bool = False) -> None:
        self.names[row.name] += 1
        if row.name == "start" and row.run and row.run not in self.runs:
            self.runs[row.run] = row.summary
            self.runs.move_to_end(row.run, last=not old)
            while len(self.runs) > RUNS_KEPT:
                self.runs.popitem(last=False)

    def _forget(self) -> None:
        """Drop the oldest rows beyond ``rows_max``, a tenth at a time, also from the selections."""
        excess = self.stop - self.start - self.rows_max
        if excess <= self.rows_max // 10:
            return
        for number in range(self.start, self.start + excess):
            self.names[self.row(number).name] -= 1
        self.names = +self.names
        from_old = min(excess, len(self._old))
        del self._old[len(self._old) - from_old :]
        del self._new[: excess - from_old]
        self._cut += excess - from_old
        self.start += excess
        self.older = True
        for selection in self.selections.values():
            selection.numbers.forget_before(self.start)
            selection.reached = max(selection.reached, self.start)


def row_of(raw: RawEntry) -> EventRow:
    """Return the summary of any entry of the store."""
    size = len(raw.doc)
    if size > SUMMARY_BYTES_MAX:
        words = ""
    else:
        try:
            doc: Any = orjson.loads(raw.doc)
            words = summary_line(raw.name, doc) if isinstance(doc, dict) else "the document is not a JSON object"
        except orjson.JSONDecodeError:
            words = "the document is not JSON"
    return EventRow(raw.cursor, raw.name[:60], raw.run, words, size)


def next_size(chunk: Sequence[RawEntry], size: int) -> int:
    """Return the number of entries to read next, for about ``CHUNK_BYTES``."""
    taken = sum(len(raw.doc) for raw in chunk)
    if not taken:
        return size
    return max(1, min(CHUNK_MAX, int(len(chunk) * CHUNK_BYTES / taken), 4 * size))
