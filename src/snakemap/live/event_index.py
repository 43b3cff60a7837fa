"""The newest events of the store in a few words each, kept once a process for all its tabs that look at the log.

What is kept is bounded, and begins when the first tab asks; the documents themselves stay in the store::

    rows         a summary of each event, the newest ones, numbered: what comes gets the next number, and what is read
                 back from the store, newest first, the number before the first
    selections   the numbers of those that a filter takes; tabs with the same filter share one

Older events are read from the store when somebody asks for them.
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
from snakemap.store.entries import Raw
from snakemap.store.store import Store, StreamPosition
from snakemap.store.tasks import cancel_tasks

__all__ = ["EventIndex", "next_size", "row_of"]

log = logging.getLogger(__name__)


ROWS_MAX = 200_000


SELECTIONS_MAX = 40


SEARCHES_AT_ONCE = 2


RUNS_KEPT, NAMES_TOLD = 200, 24


TEXT_MAX = 200


RETRY_S = 1.0


CHUNK_BYTES = 2_000_000
"""Bytes of documents that are taken from the store at one time, so that the loop is never held up for long."""


CHUNK_FIRST, CHUNK_MAX = 20, 500
"""Entries taken at one time: few, while nobody knows how large their documents are."""


AT_ONCE = 5_000
"""Rows that are looked at in one go."""


SEARCHED_MAX = 50_000
"""Events of the store that one question for older ones goes through."""


GIST_BYTES_MAX = 1_000_000
"""A document that is larger is not looked into."""


class EventIndex:
    """Follows the store while anybody looks.

    Args:
        store: the documents.
        rows_max: gists that are kept.
        period_s: shortest time between two updates of a tab.

    Attributes:
        start: number of the first row.
        names: how many of the rows are of each document.
        runs: uids of runs and what they are called, those that began last at the end.
        loaded: whether as many have been read back from the store as are kept.
        older: whether the store has events that are older than the rows.
        trouble: why nothing comes; empty when all is well.
        lives: grows when the store was emptied or restored; numbers begin again, and selections must be made again.
    """

    def __init__(self, store: Store, *, rows_max: int = ROWS_MAX, period_s: float = 0.25) -> None:
        self.store = store
        self.rows_max = rows_max
        self._subscribers = Subscribers(period_s)
        self._tasks: list[asyncio.Task[None]] = []
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
        """The number that the next row gets."""
        return self._cut + len(self._new)

    @property
    def watchers(self) -> int:
        """Tabs that look."""
        return len(self._subscribers)

    def row(self, number: int) -> EventRow:
        """Return one row."""
        return self._new[number - self._cut] if number >= self._cut else self._old[self._cut - 1 - number]

    def watch(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` after news, at most once a period; begins to follow when nobody looked.

        Needs a running event loop.
        """
        self._subscribers.add(key, wake)
        if not self._tasks:
            works = (self._follow, self._subscribers.run)
            self._tasks = [
                asyncio.create_task(work(), name=f"chronicle {work.__name__}", context=contextvars.Context())
                for work in works
            ]
        self._subscribers.notify()

    def unwatch(self, key: object) -> None:
        """End :meth:`watch`; when nobody looks any more, everything is forgotten."""
        if self._subscribers.remove(key) and not self._subscribers:
            self._stop()

    def _stop(self) -> None:
        for task in self._all_tasks():
            task.cancel()
        self._tasks = []
        self._empty()

    async def close(self) -> None:
        """Stop following."""
        tasks = self._all_tasks()
        self._subscribers.clear()
        self._stop()
        await cancel_tasks(*tasks)

    def select(self, wanted: EventFilter) -> EventSelection:
        """Return what a filter takes, kept up to date until :meth:`release`; it fills from its end.

        Raises:
            TooOften: when too many different filters are in use.
        """
        selection = self.selections.get(wanted)
        if selection is None:
            if len(self.selections) >= SELECTIONS_MAX:
                raise TooOften(f"too many different filters are in use ({SELECTIONS_MAX}); try again later")
            selection = self.selections[wanted] = EventSelection(wanted, begins=self.stop)
            selection.task = asyncio.create_task(self._fill(selection), name="chronicle fill")
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
        """Return the share of the rows that a selection has looked at."""
        rows = self.stop - self.start
        return (self.stop - selection.reached) / rows if rows else 1.0

    def rows(self, selection: EventSelection, start: int, stop: int) -> list[EventRow]:
        """Return the rows at some places of a selection."""
        return [self.row(number) for number in selection.numbers.slice(start, stop) if number >= self.start]

    def place_at(self, selection: EventSelection, cursor: str) -> int:
        """Return the place in a selection of the first event that is not before a cursor."""
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

    async def event(self, cursor: str) -> Raw | None:
        """Return one event as it is stored; None when it has gone.

        Raises:
            CursorError: when the cursor is none.
        """
        found = await self.store.raw(until=cursor, count=1, newest_first=True)
        return found[0] if found and cursor_numbers(found[0].cursor) == cursor_numbers(cursor) else None

    async def later(self, wanted: EventFilter, *, after: str, count: int) -> SearchResult:
        """Return the events after a cursor that come before the rows, some of them.

        Raises:
            CursorError: when the cursor is none.
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
        """Return the events up to a cursor, itself among them, the last of them.

        Raises:
            CursorError: when the cursor is none.
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
        return [*self._tasks, *filling]

    async def _follow(self) -> None:
        place: StreamPosition | None = None
        back: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    if place is None:
                        latest = await self.store.latest()
                        place = StreamPosition(latest, read=latest != BEGINNING)
                    if back is None:
                        back = asyncio.create_task(self._read_back(place.cursor), name="chronicle back")
                    async with aclosing(self.store.follow_raw(place)) as batches:
                        async for batch in batches:
                            self._well()
                            if batch:
                                self._take(batch)
                except StoreRewound as trouble:
                    log.warning("the log of events is read again: %s", trouble)
                    if back is not None:
                        back.cancel()
                    place = back = None
                    self._start_over()
                except StoreUnavailable as trouble:
                    self.trouble = str(trouble)
                    self._subscribers.notify()
                    await asyncio.sleep(RETRY_S)
        finally:
            if back is not None:
                back.cancel()

    def _start_over(self) -> None:
        """Forget what was read from a store that is not the same any more."""
        for selection in self.selections.values():
            if selection.task is not None:
                selection.task.cancel()
        self._empty()
        self.lives += 1
        self._subscribers.notify()

    def _well(self) -> None:
        if self.trouble:
            self.trouble = ""
            self._subscribers.notify()

    def _take(self, batch: Sequence[Raw]) -> None:
        """Add what has come, to the rows and to every selection that takes it."""
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
        """Read what was there before, newest first, as much as is kept."""
        size, cursor = CHUNK_FIRST, until
        while True:
            room = self.rows_max - (self.stop - self.start)
            try:
                chunk = await self.store.raw(until=cursor, count=max(1, min(size, room)), newest_first=True)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if self.older:
                break  # so much has come meanwhile that the oldest rows went, and these would not be next to the others
            self.older = bool(chunk) and room <= 0
            if not chunk or room <= 0:
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
        """Look at all rows, newest first, while others come at both ends."""
        try:
            while True:
                if selection.reached > self.start:
                    if selection.filter.text:
                        async with self._searches:
                            await self._search(selection)
                    else:
                        self._look(selection, max(self.start, selection.reached - AT_ONCE))
                    await asyncio.sleep(0)
                elif self.loaded:
                    return
                else:
                    self._grown.clear()
                    await self._grown.wait()
                self._subscribers.notify()
        except SnakemapError as trouble:
            log.warning("the log cannot be searched: %s", trouble)

    def _look(self, selection: EventSelection, least: int) -> None:
        for number in range(selection.reached - 1, least - 1, -1):
            if selection.filter.takes(self.row(number)):
                selection.numbers.prepend(number)
        selection.reached = least

    async def _search(self, selection: EventSelection) -> None:
        """Read the documents of the next rows, and looks for the text in those that could be wanted."""
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
            for number in numbers:
                if number < self.start:
                    break  # forgotten meanwhile
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
        """Drop the oldest rows beyond what is kept, a tenth at a time, and what selections have of them."""
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


def row_of(raw: Raw) -> EventRow:
    """Return an entry of the store in a few words, whatever it is."""
    size = len(raw.doc)
    if size > GIST_BYTES_MAX:
        words = ""
    else:
        try:
            doc: Any = orjson.loads(raw.doc)
            words = summary_line(raw.name, doc) if isinstance(doc, dict) else "the document is not a JSON object"
        except orjson.JSONDecodeError:
            words = "the document is not JSON"
    return EventRow(raw.cursor, raw.name[:60], raw.run, words, size)


def next_size(chunk: Sequence[Raw], size: int) -> int:
    """Return how many entries to take next, for about as many bytes as may be taken at one time."""
    taken = sum(len(raw.doc) for raw in chunk)
    if not taken:
        return size
    return max(1, min(CHUNK_MAX, int(len(chunk) * CHUNK_BYTES / taken), 4 * size))
