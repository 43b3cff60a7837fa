"""The event log: all events of the store, live, with filters, a pause and the text of each document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import panel as pn
import param
from bokeh.document import Document
from bokeh.events import DocumentReady
from panel.io.state import set_curdoc

from snakemap.core.cursor import cursor_before, cursor_ms
from snakemap.core.document_text import pretty_text
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.callbacks import soon
from snakemap.dashboard.widgets import Part, list_script, stylesheet
from snakemap.errors import CursorError, SnakemapError
from snakemap.live.event_filter import EventFilter, EventRow
from snakemap.live.event_index import NAMES_LISTED, TEXT_MAX, EventIndex
from snakemap.live.event_selection import EventSelection, SearchResult
from snakemap.store.entries import RawEntry

__all__ = ["EventList", "LogView", "filter_from"]

WINDOW_MAX = 400
"""Rows that a browser may ask for at one time."""

ASKED_MAX = 20
OLD_COUNT = 300
"""Rows of a page of events that are older than what is kept."""

UID_MAX, NAMES_MAX, NAME_MAX = 200, 40, 60
RUNS_LISTED = 100
TIME_MAX_MS = 2**62


class EventList(Part):
    """The list of events. What is asked for comes with the few things that were asked before, each with its number."""

    state = param.Dict(default={}, doc="Filters, what there is to choose from, what is going on; see `log.js`.")
    news = param.Dict(default={}, doc="How many rows there are, and some of them; see `log.js`.")
    chosen = param.Dict(default={}, doc="The event that is looked into.")
    ask = param.Dict(default={}, doc="What the user did last: `asked`, each `number`, `what`, and what that needs.")
    theme = param.String(default="", doc="Colors that the address of the page asks for; empty: those used last.")
    base = param.String(default="", doc="Where links lead from; empty on our own page, which they are relative to.")

    written = ("ask",)
    _esm = list_script("log")
    _stylesheets = [stylesheet("log")]  # noqa: RUF012 - Panel reads it from the class


class LogView(pn.viewable.Viewer):
    """The page of one tab.

    Args:
        event_index: index of the newest events, shared by all tabs.
        document: Bokeh's, of the tab.
        wanted: what is listed at first.
        theme: colors that were asked for; empty for those used last.
    """

    def __init__(
        self,
        event_index: EventIndex,
        *,
        document: Document,
        wanted: EventFilter | None = None,
        theme: str = "",
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.event_index = event_index
        self.document = document
        self.wanted = wanted or EventFilter()
        self.component = EventList(sizing_mode="stretch_both", margin=0, theme=theme)
        self.component.param.watch(self._on_ask, "ask")
        self.background = BackgroundTasks(document)
        self.selection: EventSelection | None = None
        self._epoch = 0
        self._lives = event_index.lives
        self._frozen: int | None = None
        self._old: SearchResult | None = None
        self._tail = True
        self._sent = 0
        self._go: dict[str, Any] = {}
        self._goes = 0
        self._last_asked = 0
        self._trouble = ""
        self._waiting = self._gone = False

    def __panel__(self) -> pn.viewable.Viewable:
        styles = {"background": "var(--sm-page)"}
        return pn.Column(self.component, sizing_mode="stretch_both", margin=0, styles=styles)

    def start(self) -> None:
        """Begin to follow the events; called when the browser has the page."""
        self.document.on_session_destroyed(self._on_destroyed)
        self.event_index.watch(self, self.wake)
        self._choose(self.wanted)

    def start_when_ready(self) -> None:
        """Start when the browser has the page; it misses what is sent earlier."""

        async def begin() -> None:
            self.start()

        self.document.on_event(DocumentReady, lambda _: self.document.add_next_tick_callback(begin))

    def close(self) -> None:
        """Release all resources."""
        self._gone = True
        self.background.close()
        if self.selection is not None:
            self.event_index.release(self.selection)
            self.selection = None
        self.event_index.unwatch(self)

    def wake(self) -> None:
        """Schedule one tick, unless one is pending."""
        if not self._waiting and not self._gone:
            self._waiting = True
            soon(self.document, self.tick)

    def tick(self) -> None:
        """Send what is new."""
        self._waiting = False
        if self._gone:
            return
        with set_curdoc(self.document):
            if not self._choose_again():
                self._send_state()
                self._send_news()

    def _choose_again(self) -> bool:
        """Apply the filter again after the store was emptied or restored: all places have changed."""
        if self._lives == self.event_index.lives:
            return False
        self._lives, self._old, self._frozen = self.event_index.lives, None, None
        self._choose(self.wanted)
        return True

    def _on_destroyed(self, _: object) -> None:
        self.close()

    def _on_ask(self, event: Any) -> None:
        """Handle the requests that are new; input from the browser is checked."""
        recent = event.new.get("asked") if isinstance(event.new, dict) else None
        for asked in recent[-ASKED_MAX:] if isinstance(recent, list) else ():
            number = asked.get("number") if isinstance(asked, dict) else None
            if isinstance(number, int) and number > self._last_asked:
                self._last_asked = number
                self._do(asked)

    def _do(self, asked: Mapping[str, Any]) -> None:
        does = {
            "window": self._send_window,
            "filter": self._filter,
            "pause": self._pause,
            "open": self._open,
            "time": self._go_to,
            "earlier": self._earlier,
            "later": self._later,
            "live": self._live,
        }.get(str(asked.get("what")))
        if does is not None and self.selection is not None and not self._gone and not self._choose_again():
            does(asked)

    def _choose(self, wanted: EventFilter) -> None:
        """List the events that a filter matches."""
        try:
            selection = self.event_index.select(wanted)
        except SnakemapError as trouble:
            self._trouble = str(trouble)
            self.tick()
            return
        if self.selection is not None:
            self.event_index.release(self.selection)
        self.selection, self.wanted = selection, wanted
        self._epoch += 1
        self._sent, self._tail, self._trouble = selection.start, True, ""
        self.tick()

    def _filter(self, asked: Mapping[str, Any]) -> None:
        wanted = filter_from(asked.get("run"), asked.get("names"), asked.get("text"))
        if wanted == self.wanted:
            return
        self._choose(wanted)
        if self._old is not None and self.wanted == wanted:
            self._look_later(self._old.begins)

    def _pause(self, asked: Mapping[str, Any]) -> None:
        on = asked.get("on") is True
        self._frozen = self.event_index.stop if on else None
        self.tick()

    def _stop(self) -> int:
        """Return the place behind the last row that is shown; a paused list shows no newer rows."""
        selection = self.selection
        if selection is None:
            return 0
        return selection.stop if self._frozen is None else min(selection.stop, selection.numbers.place_of(self._frozen))

    def _send_window(self, asked: Mapping[str, Any]) -> None:
        start, stop = asked.get("start"), asked.get("stop")
        if not isinstance(start, int) or not isinstance(stop, int):
            return
        self._tail = asked.get("tail") is True
        self._send_news(start=start, stop=min(stop, start + WINDOW_MAX))

    def _send_news(self, *, start: int | None = None, stop: int | None = None) -> None:
        """Send the number of rows, and the rows that were requested or, at the end of the list, are new."""
        selection = self.selection
        if selection is None:
            return
        last = self._stop()
        if start is None or stop is None:
            start = max(self._sent, last - WINDOW_MAX, selection.start) if self._tail else last
            stop = last
        if self._tail:
            self._sent = last
        start, stop = max(start, selection.start), min(stop, last)
        rows = [_row_values(row) for row in self.event_index.rows(selection, start, stop)] if stop > start else []
        news = {
            "epoch": self._epoch,
            "start": selection.start,
            "stop": last,
            "fresh": selection.stop - last,
            "from": start,
            "rows": rows,
            "searched": round(self.event_index.searched(selection), 3),
            "go": self._go,
        }
        if news != self.component.news or rows:
            self.component.news = news

    def _send_state(self) -> None:
        event_index, old = self.event_index, self._old
        names = [name for name, _ in event_index.names.most_common(NAMES_LISTED)]
        state = {
            "filter": {"run": self.wanted.run, "names": sorted(self.wanted.names), "text": self.wanted.text},
            "names": sorted(set(names) | self.wanted.names),
            "runs": [[uid, words] for uid, words in list(event_index.runs.items())[: -RUNS_LISTED - 1 : -1]],
            "paused": self._frozen is not None,
            "frozen": self._frozen_cursor(),
            "loaded": event_index.loaded,
            "older": event_index.older,
            "kept": event_index.stop - event_index.start,
            "trouble": self._trouble or event_index.trouble,
            "old": _search_values(old) if old else None,
        }
        changed = {key: value for key, value in state.items() if value != self.component.state.get(key)}
        if changed:
            self.component.state = state

    def _frozen_cursor(self) -> str:
        """Return the cursor of the last event before the list was stopped."""
        if self._frozen is None or self._frozen <= self.event_index.start:
            return ""
        return self.event_index.row(self._frozen - 1).cursor

    def _open(self, asked: Mapping[str, Any]) -> None:
        """Show the start of a document as readable text."""
        cursor = str(asked.get("cursor") or "")[:50]

        async def look() -> tuple[RawEntry | None, str, bool]:
            raw = await self.event_index.event(cursor)
            if raw is None:
                return None, "", True
            return raw, *await asyncio.to_thread(pretty_text, raw.doc)

        def show(found: tuple[RawEntry | None, str, bool]) -> None:
            raw, text, whole = found
            known = {"cursor": cursor, "text": text, "whole": whole}
            if raw is None:
                self.component.chosen = {**known, "trouble": "This event is no longer in the store."}
            else:
                size = len(raw.doc)
                self.component.chosen = {**known, "name": raw.name[:NAME_MAX], "run": raw.run[:UID_MAX], "size": size}

        self.background.run("open", look, show, failed=self._complain)

    def _go_to(self, asked: Mapping[str, Any]) -> None:
        """Show the events from a time on, in ms since 1970; 0 is the beginning of the store."""
        ms, selection = asked.get("ms"), self.selection
        if not isinstance(ms, int) or not 0 <= ms < TIME_MAX_MS or selection is None:
            return
        event_index = self.event_index
        kept = event_index.stop > event_index.start and ms >= cursor_ms(event_index.first)
        if kept or (event_index.loaded and not event_index.older):
            self._old = None
            self._goes += 1
            self._go = {"number": self._goes, "place": event_index.place_at(selection, f"{ms}-0")}
            self._tail = False
            self.tick()
        else:
            self._look_later(cursor_before(f"{ms}-0"))

    def _earlier(self, _: Mapping[str, Any]) -> None:
        until = self._old.begins if self._old else self.event_index.first
        wanted = self.wanted

        async def look() -> SearchResult:
            found = await self.event_index.earlier(wanted, until=until, count=OLD_COUNT)
            return found

        self.background.run("old", look, self._show_old, failed=self._complain)

    def _later(self, _: Mapping[str, Any]) -> None:
        if self._old is None:
            return
        if self._old.after:
            self._look_later(self._old.ends)
        else:
            self._go_to({"ms": cursor_ms(self.event_index.first)} if self.event_index.first != "+" else {})

    def _live(self, _: Mapping[str, Any]) -> None:
        self._old, self._tail = None, True
        self.tick()

    def _look_later(self, after: str) -> None:
        wanted = self.wanted
        self.background.run(
            "old",
            lambda: self.event_index.later(wanted, after=after, count=OLD_COUNT),
            self._show_old,
            failed=self._complain,
        )

    def _show_old(self, found: SearchResult) -> None:
        self._old, self._trouble = found, ""
        self._send_state()

    def _complain(self, error: SnakemapError) -> None:
        if isinstance(error, CursorError):
            return  # only a forged request holds such a cursor
        self._trouble = str(error)
        self._send_state()


def filter_from(run: Any, names: Any, text: Any) -> EventFilter:
    """Return the filter that a browser or an address asks for, within bounds."""
    given = names if isinstance(names, (list, tuple)) else []
    chosen = frozenset(name[:NAME_MAX] for name in given[:NAMES_MAX] if isinstance(name, str) and name)
    return EventFilter(
        run=run[:UID_MAX] if isinstance(run, str) else "",
        names=chosen,
        text=text[:TEXT_MAX] if isinstance(text, str) else "",
    )


def _row_values(row: EventRow) -> list[Any]:
    return [row.cursor, row.name, row.run[:UID_MAX], row.summary, row.size]


def _search_values(old: SearchResult) -> dict[str, Any]:
    return {
        "rows": [_row_values(row) for row in old.rows],
        "begins": old.begins,
        "ends": old.ends,
        "before": old.before,
        "after": old.after,
    }
