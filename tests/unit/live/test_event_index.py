"""The newest events in a few words: kept once, bounded, filtered without holding anybody up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.patience import patiently

from snakemap.core.cursor import cursor_numbers
from snakemap.core.document_text import pretty_text
from snakemap.errors import StoreUnavailable, TooOften
from snakemap.live.event_filter import NO_RUN, EventFilter
from snakemap.live.event_index import SELECTIONS_MAX, EventIndex, row_of
from snakemap.live.event_selection import EventSelection, RowNumbers
from snakemap.store.entries import RawEntry
from snakemap.store.store import StreamPosition

NAMES = ("start", "event", "stream_datum", "stop", "worker")


class FakeStore:
    """The stream in memory.

    Attributes:
        largest: most documents' bytes that one answer had.
    """

    def __init__(self, events: int = 0) -> None:
        self.entries: list[RawEntry] = []
        self.down = False
        self.largest = 0
        self._news = asyncio.Event()
        self.add(events)

    def add(self, count: int = 1, *, name: str = "", run: str | None = None, doc: bytes = b"") -> None:
        """Appends events: runs of fifty events, with a worker event now and then."""
        for _ in range(count):
            number = len(self.entries)
            kind = name or NAMES[number % len(NAMES)]
            owner = run if run is not None else "" if kind == "worker" else f"run-{number // 50}"
            told = doc or orjson.dumps({"seq_num": number, "exit_status": "Abort" if number % 7 == 0 else "success"})
            self.entries.append(RawEntry(f"{1000 + number // 3}-{number % 3}", kind, owner, told))
        self._news.set()
        self._news = asyncio.Event()

    async def latest(self) -> str:
        self._check()
        return self.entries[-1].cursor if self.entries else "0-0"

    async def raw(
        self, *, after: str = "", until: str = "+", count: int = 500, newest_first: bool = False
    ) -> list[RawEntry]:
        await asyncio.sleep(0)
        self._check()
        found = [
            entry
            for entry in self.entries
            if (not after or cursor_numbers(entry.cursor) > cursor_numbers(after))
            and (until == "+" or cursor_numbers(entry.cursor) <= cursor_numbers(until))
        ]
        taken = found[::-1][:count] if newest_first else found[:count]
        self.largest = max(self.largest, sum(len(raw.doc) for raw in taken))
        return taken

    async def follow_raw(self, place: StreamPosition) -> AsyncGenerator[list[RawEntry]]:
        while True:
            self._check()
            news = self._news
            after = cursor_numbers(place.cursor)
            found = [entry for entry in self.entries if cursor_numbers(entry.cursor) > after][:500]
            place.cursor = found[-1].cursor if found else place.cursor
            yield found
            if not found:
                await news.wait()

    def wake(self) -> None:
        self._news.set()

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("Redis at memory cannot be reached")


class ForgetfulStore(FakeStore):
    """A store whose calls forget a cancellation, as those of redis-py may."""

    async def latest(self) -> str:
        await self._forget()
        return await super().latest()

    async def raw(self, **options: object) -> list[RawEntry]:
        await self._forget()
        return await super().raw(**options)  # pyright: ignore[reportArgumentType]

    async def follow_raw(self, place: StreamPosition) -> AsyncGenerator[list[RawEntry]]:
        async for found in super().follow_raw(place):
            await self._forget()
            yield found

    @staticmethod
    async def _forget() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(3):
                await asyncio.sleep(0)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., EventIndex]]:
    made: list[EventIndex] = []

    def make(store: FakeStore, **options: object) -> EventIndex:
        chronicle = EventIndex(store, period_s=0.0, **options)  # pyright: ignore[reportArgumentType]
        made.append(chronicle)
        chronicle.watch("tab", lambda: None)
        return chronicle

    yield make
    for chronicle in made:
        await chronicle.close()


async def until(happens: Callable[[], bool]) -> None:
    async with patiently(20):
        while not happens():
            await asyncio.sleep(0)


def shown(chronicle: EventIndex, selection: EventSelection) -> list[str]:
    return [row.cursor for row in chronicle.rows(selection, selection.start, selection.stop)]


def newest(chronicle: EventIndex) -> str:
    return chronicle.row(chronicle.stop - 1).cursor


def expected(store: FakeStore, wanted: EventFilter) -> list[str]:
    return [raw.cursor for raw in store.entries if wanted.takes(raw) and wanted.takes_doc(raw.doc)]


FILTERS = [
    EventFilter(),
    EventFilter(run="run-3"),
    EventFilter(run=NO_RUN),
    EventFilter(names=frozenset(("start", "stop"))),
    EventFilter(text="ABORT"),
    EventFilter(text='"exit_status": "abort"', names=frozenset(("stop",))),
    EventFilter(run="run-2", text='"seq_num":1'),
    EventFilter(text="nothing like this"),
]


@pytest.mark.parametrize("wanted", FILTERS)
async def test_a_filter_takes_the_same_of_what_was_there_and_of_what_comes(
    make: Callable[..., EventIndex], wanted: EventFilter
) -> None:
    store = FakeStore(2300)
    chronicle = make(store)
    selection = chronicle.select(wanted)
    for _ in range(5):
        store.add(130)
        await asyncio.sleep(0)
    await until(lambda: chronicle.loaded and selection.reached == chronicle.start)
    await until(lambda: chronicle.stop - chronicle.start == len(store.entries))
    assert shown(chronicle, selection) == expected(store, wanted)
    assert chronicle.searched(selection) == 1.0
    assert not chronicle.older


async def test_places_never_change_while_rows_come_at_both_ends(make: Callable[..., EventIndex]) -> None:
    store = FakeStore(3000)
    chronicle = make(store)
    selection = chronicle.select(EventFilter(names=frozenset(("event",))))
    seen: dict[int, str] = {}
    while not (chronicle.loaded and selection.reached == chronicle.start):
        store.add(10)
        await asyncio.sleep(0)
        for place in range(selection.start, selection.stop):
            (row,) = chronicle.rows(selection, place, place + 1)
            assert seen.setdefault(place, row.cursor) == row.cursor
    assert len(seen) > 600


@pytest.mark.parametrize("events", [0, 90, 1000])
async def test_memory_is_bounded_and_the_newest_stay(make: Callable[..., EventIndex], events: int) -> None:
    store = FakeStore(events)
    chronicle = make(store, rows_max=100)
    selections = [chronicle.select(wanted) for wanted in FILTERS]
    await until(lambda: chronicle.loaded)
    assert chronicle.older == (events > 100)
    for _ in range(40):
        store.add(17)
        await until(lambda: chronicle.stop > chronicle.start and newest(chronicle) == store.entries[-1].cursor)
        assert chronicle.stop - chronicle.start <= 110
    await until(lambda: all(selection.reached == chronicle.start for selection in selections))
    kept = store.entries[-(chronicle.stop - chronicle.start) :]
    assert chronicle.older
    assert sum(chronicle.names.values()) == len(kept)
    for selection in selections:
        first = cursor_numbers(kept[0].cursor)
        wanted = [one for one in expected(store, selection.filter) if cursor_numbers(one) >= first]
        assert shown(chronicle, selection) == wanted


async def test_tabs_share_a_filter_and_the_last_one_takes_it_away(make: Callable[..., EventIndex]) -> None:
    chronicle = make(FakeStore(10))
    first, second = (chronicle.select(EventFilter(text="abort")) for _ in range(2))
    assert first is second
    chronicle.release(first)
    assert len(chronicle.selections) == 1
    chronicle.release(second)
    assert chronicle.selections == {}
    for number in range(SELECTIONS_MAX):
        chronicle.select(EventFilter(text=str(number)))
    with pytest.raises(TooOften, match="different filters are in use"):
        chronicle.select(EventFilter(text="one more"))


async def test_everything_is_forgotten_when_nobody_looks_and_read_again_when_somebody_does(
    make: Callable[..., EventIndex],
) -> None:
    store = FakeStore(300)
    chronicle = make(store)
    chronicle.select(EventFilter())
    await until(lambda: chronicle.loaded)
    tasks = asyncio.all_tasks()
    chronicle.unwatch("tab")
    assert (chronicle.stop, chronicle.selections, chronicle.watchers) == (0, {}, 0)
    await until(lambda: len([task for task in tasks if not task.done()]) == 1)
    chronicle.watch("another", lambda: None)
    await until(lambda: chronicle.loaded)
    assert chronicle.stop - chronicle.start == 300


async def test_a_store_that_goes_away_is_said_and_nothing_is_missed(
    make: Callable[..., EventIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snakemap.live.event_index.RETRY_S", 0.0)
    store = FakeStore(100)
    chronicle = make(store)
    selection = chronicle.select(EventFilter(text="abort"))
    await until(lambda: chronicle.loaded)
    store.down = True
    store.wake()
    store.add(1)
    await until(lambda: chronicle.trouble != "")
    assert "cannot be reached" in chronicle.trouble
    store.add(50)
    store.down = False
    await until(lambda: not chronicle.trouble and chronicle.stop - chronicle.start == 151)
    await until(lambda: selection.reached == chronicle.start)
    assert shown(chronicle, selection) == expected(store, selection.filter)


async def test_a_moment_is_found_in_any_selection(make: Callable[..., EventIndex]) -> None:
    store = FakeStore(900)
    chronicle = make(store)
    for wanted in (
        EventFilter(),
        EventFilter(run="run-4"),
        EventFilter(text="abort"),
        EventFilter(text="none of them"),
    ):
        selection = chronicle.select(wanted)
        await until(lambda selection=selection: chronicle.loaded and selection.reached == chronicle.start)
        taken = expected(store, wanted)
        for cursor in ("0-0", "1000-0", "1077-1", "1299-2", "5000-0"):
            place = chronicle.place_at(selection, cursor)
            before = [one for one in taken if cursor_numbers(one) < cursor_numbers(cursor)]
            assert place - selection.start == len(before)


@pytest.mark.parametrize("wanted", FILTERS)
async def test_older_events_are_read_from_the_store_in_both_directions(
    make: Callable[..., EventIndex], wanted: EventFilter
) -> None:
    store = FakeStore(1000)
    chronicle = make(store, rows_max=100)
    await until(lambda: chronicle.loaded)
    older = [one for one in expected(store, wanted) if cursor_numbers(one) < cursor_numbers(chronicle.first)]
    found, rows = await chronicle.later(wanted, after="0-0", count=40), []
    rows += found.rows
    assert not found.before
    while found.after:
        found = await chronicle.later(wanted, after=found.ends, count=40)
        rows += found.rows
    assert [row.cursor for row in rows] == older
    found, back = await chronicle.earlier(wanted, until=chronicle.first, count=40), []
    back = [*found.rows]
    while found.before:
        found = await chronicle.earlier(wanted, until=found.begins, count=40)
        back = [*found.rows, *back]
    assert [row.cursor for row in back if cursor_numbers(row.cursor) < cursor_numbers(chronicle.first)] == older


async def test_large_documents_are_taken_few_at_a_time(make: Callable[..., EventIndex]) -> None:
    store = FakeStore()
    store.add(60, doc=orjson.dumps({"data": "x" * 900_000}))
    chronicle = make(store)
    selection = chronicle.select(EventFilter(text="xyz"))
    await until(lambda: chronicle.loaded)
    assert store.largest <= 20 * 901_000
    store.largest = 0
    again = chronicle.select(EventFilter(text="abc"))
    await until(lambda: selection.reached == again.reached == chronicle.start)
    assert 0 < store.largest <= 2_000_000
    found = await chronicle.event(store.entries[30].cursor)
    assert found == store.entries[30]
    assert await chronicle.event("5-0") is None


def test_whatever_stands_in_the_store_has_a_row() -> None:
    for raw in (
        RawEntry("1-0", "", "", b""),
        RawEntry("1-1", "x" * 999, "<img src=x onerror=alert(1)>", b"[1, 2]"),
        RawEntry("1-2", "event", "r", b"\xff\xfe"),
        RawEntry("1-3", "event_page", "r", b'{"seq_num": {}, "data": 3}'),
        RawEntry("1-4", "start", "r", orjson.dumps({"plan_name": {"a": 1}, "shape": list(range(10_000))})),
        RawEntry("1-5", "stop", "r", orjson.dumps({"exit_status": ["\x1b[2J\u202e"], "reason": "x" * 100_000})),
        RawEntry("1-6", "event_page", "r", b'{"seq_num": [' + b"1," * 900_000 + b"2]}"),
    ):
        row = row_of(raw)
        assert (row.cursor, row.run, row.size) == (raw.cursor, raw.run, len(raw.doc))
        assert row.summary.isprintable()
        assert len(row.summary) <= 160
        assert len(row.name) <= 60


@given(st.lists(st.sampled_from("anpf"), max_size=60), st.integers(0, 3))
def test_numbers_grow_at_both_ends_and_keep_their_places(steps: list[str], stride: int) -> None:
    numbers, model = RowNumbers(), {}
    low, high, start, stop = 0, 0, 0, 0
    for step in steps:
        if step in "an":
            numbers.append(high)
            model[stop] = high
            stop, high = stop + 1, high + 1 + stride
        elif step == "p":
            low -= 1 + stride
            numbers.prepend(low)
            start -= 1
            model[start] = low
        else:
            floor = low + (high - low) // 3
            numbers.forget_before(floor)
            gone = [place for place, number in model.items() if number < floor]
            for place in gone:
                del model[place]
            start = min(model, default=stop)
            low = floor if gone else low
            if not model:
                break  # nobody prepends to what has been forgotten
        assert (numbers.start, numbers.stop) == (start, stop)
        assert numbers.slice(start - 3, stop + 3) == [model[place] for place in sorted(model)]
        for wanted in range(low - 1, high + 1):
            assert numbers.place_of(wanted) == start + sum(number < wanted for number in model.values())


# one document


def test_a_large_document_is_shown_in_part_and_says_so() -> None:
    page = {"descriptor": "d", "seq_num": list(range(100_000)), "data": {"x": [0.5] * 100_000, "texts": ["a"] * 5000}}
    text, whole = pretty_text(orjson.dumps(page))
    assert not whole
    assert len(text) < 5000
    assert '"descriptor": "d"' in text
    assert "0, 1, 2," in text
    assert "99,984 more" in text
    assert "99999]" in text


def test_no_document_makes_a_long_text() -> None:
    rng = random.Random(0)

    def anything(depth: int) -> object:
        kind = rng.randrange(5) if depth else 0
        if kind == 0:
            return rng.choice(["x" * rng.randrange(5000), 7, None, True, 1e300, "\u202e\x1b<script>"])
        if kind < 3:
            return [anything(depth - 1) for _ in range(rng.randrange(60))]
        return {f"key {number}" * rng.randrange(1, 40): anything(depth - 1) for number in range(rng.randrange(60))}

    deep: object = 1
    for _ in range(200):
        deep = [deep]
    for doc in (*(anything(3) for _ in range(10)), deep, {str(number): number for number in range(100_000)}):
        text, _ = pretty_text(orjson.dumps(doc))
        assert len(text) <= 210_000
        assert len(text.splitlines()) <= 1502
    assert pretty_text(b"\xff" * 100_000)[1] is False


@pytest.mark.parametrize("doc", [{}, [], {"a": {}}, {"a": [1, {"b": [[], [1, [2]]]}, "x" * 500]}, "text", 7, None])
def test_a_small_document_is_shown_whole_and_is_json(doc: object) -> None:
    text, whole = pretty_text(orjson.dumps(doc))
    assert whole
    assert orjson.loads(text) == doc


@pytest.mark.parametrize("steps", range(14))
async def test_an_index_that_is_dropped_and_wanted_again_has_every_event_once_though_cancellations_are_forgotten(
    make: Callable[..., EventIndex], steps: int
) -> None:
    store = ForgetfulStore(20)
    index = make(store)
    for _ in range(steps):
        await asyncio.sleep(0)
    index.unwatch("tab")
    index.watch("next tab", lambda: None)
    store.add(20)
    await until(lambda: index.loaded and index.stop - index.start >= 40)
    store.add(3)
    await until(lambda: index.stop - index.start >= 43)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [index.row(number).cursor for number in range(index.start, index.stop)] == [
        entry.cursor for entry in store.entries
    ]
    index.unwatch("next tab")
