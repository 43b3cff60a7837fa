"""One tab of the log: what a browser asks is not believed, is heard once, and is forgotten with the tab."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bokeh.document import Document
from tests.unit.live.test_event_index import FakeStore, until

from snakemap.dashboard.panes.event_log import WINDOW_MAX, LogView, filter_from
from snakemap.live.event_filter import EventFilter
from snakemap.live.event_index import EventIndex


class Page:
    """A tab whose browser is us."""

    def __init__(self, chronicle: EventIndex, wanted: EventFilter | None = None) -> None:
        self.document = Document()
        self.view = LogView(chronicle, document=self.document, wanted=wanted)
        self.number = 0
        self.view.start()

    def ask(self, what: Any, **more: Any) -> None:
        self.number += 1
        self.view.component.ask = {"asked": [{"number": self.number, "what": what, **more}]}

    @property
    def news(self) -> dict[str, Any]:
        return self.view.component.news

    @property
    def state(self) -> dict[str, Any]:
        return self.view.component.state


@pytest.fixture
async def chronicle() -> AsyncIterator[EventIndex]:
    chronicle = EventIndex(FakeStore(2000), period_s=0.0)  # pyright: ignore[reportArgumentType]
    yield chronicle
    await chronicle.close()


@pytest.fixture
async def page(chronicle: EventIndex) -> AsyncIterator[Page]:
    page = Page(chronicle)
    await until(lambda: chronicle.loaded)
    page.view.tick()
    yield page
    page.view.close()


HOSTILE: list[Any] = [None, -1, 2**80, 1e300, "0", [], {}, True, "x" * 100_000, "<img src=x onerror=alert(1)>"]


async def test_whatever_a_browser_asks_the_page_stays_well(page: Page) -> None:
    for value in HOSTILE:
        page.view.component.ask = value if isinstance(value, dict) else {"asked": value}
        page.view.component.ask = {"asked": [value, {"number": value}, {"what": value}]}
        page.ask(value)
        page.ask("window", start=value, stop=value, tail=value)
        page.ask("filter", run=value, names=value, text=value)
        page.ask("filter", run="", names=[value] * 1000, text="")
        page.ask("pause", on=value)
        page.ask("time", ms=value)
        for what in ("earlier", "later", "live"):
            page.ask(what, ms=value)
        page.ask("open", cursor=value)
    page.number = 2**90
    page.ask("pause", on=False)
    page.ask("filter", run="", names=[], text="")
    page.ask("window", start=-10, stop=10**9)
    assert len(page.news["rows"]) <= WINDOW_MAX
    assert page.news["rows"][-1][0] == page.view.event_index.row(page.view.event_index.stop - 1).cursor
    assert page.state["filter"] == {"run": "", "names": [], "text": ""}


async def test_of_what_is_told_twice_nothing_happens_twice_and_nothing_is_missed(page: Page) -> None:
    asked = [{"number": 1, "what": "pause", "on": True}, {"number": 2, "what": "filter", "names": ["stop"]}]
    page.view.component.ask = {"asked": asked}
    assert (page.state["paused"], page.state["filter"]["names"]) == (True, ["stop"])
    epoch = page.news["epoch"]
    page.view.component.ask = {"asked": [*asked, {"number": 3, "what": "pause", "on": False}]}
    assert (page.state["paused"], page.news["epoch"]) == (False, epoch)


async def test_a_list_that_is_stopped_stays_as_it_is_whatever_is_filtered(page: Page, chronicle: EventIndex) -> None:
    page.ask("pause", on=True)
    store: Any = chronicle.store
    last = store.entries[-1].cursor
    store.add(100)
    await until(lambda: chronicle.stop == 100)
    page.view.tick()
    assert (page.news["fresh"], page.state["frozen"]) == (100, last)
    page.ask("filter", run="", names=["event"], text="")
    selection = page.view.selection
    assert selection is not None
    await until(lambda: selection.reached == chronicle.start)
    page.view.tick()
    assert (page.news["stop"] - page.news["start"], page.news["fresh"]) == (400, 20)
    page.ask("pause", on=False)
    assert (page.news["stop"] - page.news["start"], page.news["fresh"]) == (420, 0)


async def test_a_tab_that_follows_is_sent_what_is_new_and_nothing_else(page: Page, chronicle: EventIndex) -> None:
    store: Any = chronicle.store
    page.ask("window", start=-50, stop=0, tail=True)
    for _ in range(3):
        before = chronicle.stop
        store.add(7)
        await until(lambda before=before: chronicle.stop == before + 7)
        page.view.tick()
        assert [row[0] for row in page.news["rows"]] == [raw.cursor for raw in store.entries[-7:]]
    page.ask("window", start=-50, stop=-20, tail=False)
    store.add(7)
    await until(lambda: chronicle.stop == 28)
    page.view.tick()
    assert (page.news["rows"], page.news["stop"]) == ([], 28)


async def test_a_tab_that_goes_leaves_nothing_behind(chronicle: EventIndex) -> None:
    tasks = asyncio.all_tasks()
    pages = [Page(chronicle, EventFilter(text=str(number))) for number in range(5)]
    assert (chronicle.watchers, len(chronicle.selections)) == (5, 5)
    for page in pages:
        page.view.close()
        page.ask("filter", run="x", names=[], text="")
    assert (chronicle.watchers, chronicle.selections, chronicle.stop) == (0, {}, 0)
    await until(lambda: asyncio.all_tasks() <= tasks)


def test_a_filter_is_bounded_whatever_the_address_says() -> None:
    wanted = filter_from("r" * 9999, ["n" * 9999, "", "start"] * 999, "t" * 9999)
    assert (len(wanted.run), len(wanted.names), len(wanted.text)) == (200, 2, 200)
    assert filter_from(None, "start", 7) == EventFilter()
