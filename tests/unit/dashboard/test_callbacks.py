"""Whatever thread a browser's word is heard in, it is acted upon by the event loop alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.events import Reset
from bokeh.models import Range1d
from bokeh.plotting import figure

from snakemap.dashboard.callbacks import every, later, on_change, on_click, on_events, soon


class Heard:
    """Where and with what something was called."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.documents: list[Document | None] = []
        self.told: list[tuple[Any, ...]] = []

    def __call__(self, *told: Any) -> None:
        self.threads.append(threading.current_thread())
        self.documents.append(pn.state.curdoc)
        self.told.append(told)


async def serve(document: Document) -> None:
    """Calls what a document is to call as Bokeh 3.10 does: in a thread, and what is awaited on the event loop."""
    for callback in document.session_callbacks:
        document.callbacks.remove_session_callback(callback)
        done: Any = await asyncio.to_thread(callback.callback)
        if done is not None:
            await done


async def test_all_that_is_asked_of_a_document_is_done_on_the_event_loop() -> None:
    document, heard = Document(), Heard()
    soon(document, heard)
    later(document, heard, 5)
    every(document, heard, 5)
    assert heard.told == []
    await serve(document)
    assert heard.threads == [threading.current_thread()] * 3
    assert heard.documents == [document] * 3


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_a_browser_says_is_handled_on_the_event_loop(elsewhere: bool) -> None:
    document, heard, axis, plot = Document(), Heard(), Range1d(start=0, end=1), figure()
    on_change(axis, "start", "end", callback=heard)
    on_events(plot, Reset, callback=heard)
    document.add_root(axis)
    document.add_root(plot)

    def say() -> None:
        axis.start = 0.25
        plot._trigger_event(Reset(plot))

    await (asyncio.to_thread(say) if elsewhere else asyncio.sleep(0, say()))
    assert heard.told == []
    await serve(document)
    assert heard.threads == [threading.current_thread()] * 2
    event, change = sorted(heard.told, key=len)
    assert change == ("start", 0, 0.25)
    assert isinstance(event[0], Reset)


async def test_a_button_that_is_pressed_is_answered_on_the_event_loop() -> None:
    document, heard, button = Document(), Heard(), pn.widgets.Button()
    on_click(button, document, heard)
    await asyncio.to_thread(lambda: button.param.trigger("clicks"))
    assert heard.told == []
    await serve(document)
    assert (heard.threads, heard.told) == ([threading.current_thread()], [()])


def test_what_is_in_no_page_is_told_at_once() -> None:
    heard, axis = Heard(), Range1d(start=0, end=1)
    on_change(axis, "start", callback=heard)
    axis.start = 0.5
    assert heard.told == [("start", 0, 0.5)]
