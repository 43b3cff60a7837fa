"""Run callbacks of a document on its event loop, in order.

Runs, pictures and all that tabs share are changed by the event loop alone, without locks. Bokeh 3.10 handles messages
of a browser, and calls functions that are not ``async``, in other threads; Bokeh 3.9 does not. These functions work
with both.
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
"""Wait before the next check for unsent messages of Panel; see :func:`unsent`."""


def soon(document: Document, work: Callable[[], None]) -> None:
    """Call in the next tick of a document, which is locked meanwhile."""
    document.add_next_tick_callback(_on_loop(document, work))


def later(document: Document, work: Callable[[], None], milliseconds: int) -> None:
    """Call after some milliseconds; as :func:`soon`."""
    document.add_timeout_callback(_on_loop(document, work), milliseconds)


def every(document: Document, work: Callable[[], None], milliseconds: int) -> Any:
    """Call periodically; return what ``remove_periodic_callback`` takes."""
    return document.add_periodic_callback(_on_loop(document, work), milliseconds)


def on_change(model: Model, *names: str, callback: Callable[[str, Any, Any], None]) -> None:
    """Register a callback for changes of properties, by a browser or by the server."""

    def notify(attr: str, old: Any, new: Any) -> None:
        _pass_on(model, partial(callback, attr, old, new))

    for name in names:
        model.on_change(name, notify)


def on_events(model: Any, *events: Any, callback: Callable[[Any], None]) -> None:
    """Register a callback for events of a figure in a browser."""

    def notify(event: Any) -> None:
        _pass_on(model, partial(callback, event))

    for event in events:
        model.on_event(event, notify)


def on_click(button: Button, document: Document, callback: Callable[[], None]) -> None:
    """Register a callback for presses of a button."""
    button.on_click(lambda _: soon(document, callback))


def unsent(document: Document) -> bool:
    """Return whether Panel holds messages for the browser until its connection is free.

    Messages of Bokeh overtake them meanwhile, and must not be about models that the browser does not have yet.
    """
    return document in panel_document._WRITE_BLOCK


def _pass_on(model: Model, work: Callable[[], None]) -> None:
    document = model.document
    if document is not None:
        soon(document, work)
    else:  # in no page: the server has changed it
        work()


def _on_loop(document: Document, work: Callable[[], None]) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        with set_curdoc(document):
            work()

    return run
