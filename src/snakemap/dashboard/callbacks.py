"""Where and in which order things are done for a browser: on the event loop, one after the other.

Runs, pictures and all that tabs share are changed by the event loop alone, without locks. Bokeh 3.10 handles what a
browser says, and calls what is not ``async``, in other threads; Bokeh 3.9 does not. What goes through here does neither
notice nor care.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from bokeh.document import Document
from bokeh.model import Model
from panel.io import document as panel_document
from panel.io.state import set_curdoc
from panel.widgets import Button

__all__ = ["UNSENT_MS", "every", "later", "on_change", "on_click", "on_events", "soon", "unsent"]

UNSENT_MS = 20
"""Until what Panel keeps for a browser is looked at again; see :func:`unsent`."""


def soon(document: Document, work: Callable[[], None]) -> None:
    """Has something done in the next tick of a document, which is locked meanwhile."""
    document.add_next_tick_callback(_on_loop(document, work))


def later(document: Document, work: Callable[[], None], milliseconds: int) -> None:
    """The same after a while."""
    document.add_timeout_callback(_on_loop(document, work), milliseconds)


def every(document: Document, work: Callable[[], None], milliseconds: int) -> Any:
    """The same again and again; returns what ``remove_periodic_callback`` takes."""
    return document.add_periodic_callback(_on_loop(document, work), milliseconds)


def on_change(model: Model, *names: str, tell: Callable[[str, Any, Any], None]) -> None:
    """Calls back when a browser, or anybody else, has changed one of these properties."""

    def hear(attr: str, old: Any, new: Any) -> None:
        _pass_on(model, partial(tell, attr, old, new))

    for name in names:
        model.on_change(name, hear)


def on_events(model: Any, *events: Any, tell: Callable[[Any], None]) -> None:
    """Calls back when one of these events has happened to a figure in a browser."""

    def hear(event: Any) -> None:
        _pass_on(model, partial(tell, event))

    for event in events:
        model.on_event(event, hear)


def on_click(button: Button, document: Document, tell: Callable[[], None]) -> None:
    """Calls back when a button was pressed."""
    button.on_click(lambda _: soon(document, tell))


def unsent(document: Document) -> bool:
    """Whether Panel keeps messages for the browser until its connection is free.

    What Bokeh sends meanwhile overtakes them, and must not be about models that the browser has yet to hear of.
    """
    return document in panel_document._WRITE_BLOCK


def _pass_on(model: Model, work: Callable[[], None]) -> None:
    document = model.document
    if document is not None:
        soon(document, work)
    else:  # in no page: nobody but us has changed it
        work()


def _on_loop(document: Document, work: Callable[[], None]) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        with set_curdoc(document):
            work()

    return run
