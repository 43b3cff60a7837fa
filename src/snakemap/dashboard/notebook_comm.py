"""Session callbacks for a document shown in a notebook.

On a server a session runs a document's callbacks and sends its changes. In a notebook there is only a comm: Panel sends
what its own widgets change in a cell, and no callbacks run. A :class:`NotebookSession` does both on the kernel's event
loop, from the moment at which the browser has the output; it cannot receive messages before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bokeh.document import Document
from bokeh.document.events import DocumentPatchedEvent, SessionCallbackAdded, SessionCallbackRemoved
from bokeh.server.callbacks import DocumentCallbackGroup
from panel.io.model import diff
from panel.io.notebook import push
from tornado.ioloop import IOLoop

__all__ = ["NotebookSession"]

log = logging.getLogger(__name__)


class NotebookSession:
    """The session of one document and its output in a notebook.

    Args:
        document: of the output.
        comm: Panel's, which sends messages to the browser.
    """

    def __init__(self, document: Document, comm: Any) -> None:
        self.document = document
        self.comm = comm
        self._events: list[DocumentPatchedEvent] = []
        self._begin: list[Callable[[], None]] = []
        self._callbacks: DocumentCallbackGroup | None = None
        self._soon = False
        self._closed = False
        document.callbacks.on_change_dispatch_to(self)
        self._opened_before, comm._on_open = comm._on_open, self._on_open
        comm.session_of_output = self

    @classmethod
    def of(cls, document: Document, comm: Any) -> NotebookSession:
        """Return the session of an output, which all its panes share."""
        found = getattr(comm, "session_of_output", None)
        return found if isinstance(found, NotebookSession) else cls(document, comm)

    def when_ready(self, begin: Callable[[], None]) -> None:
        """Call when the browser has the output, or at once if it has it already."""
        if self._callbacks is not None:
            begin()
        else:
            self._begin.append(begin)

    def close(self) -> None:
        """End the session of an output that is gone."""
        if self._closed:
            return
        self._closed = True
        self._events, self._begin = [], []
        if self._callbacks is not None:
            self._callbacks.remove_all_callbacks()
        self.document.callbacks.remove_on_change(self)

    def _on_open(self, message: Any) -> None:
        """Open the session: the browser has drawn the output and asks for a comm."""
        if self._opened_before is not None:
            self._opened_before(message)
        # Panel is still handling the message
        asyncio.get_running_loop().call_soon(self._opened)

    def _opened(self) -> None:
        if self._closed or self._callbacks is not None:
            return
        self._callbacks = DocumentCallbackGroup(IOLoop.current())
        self.document.unhold()  # Panel holds it for good; what was held so far comes now
        begin, self._begin = self._begin, []
        for one in begin:
            one()

    def _document_patched(self, event: DocumentPatchedEvent) -> None:
        if event.setter == self.comm.id:
            return  # the browser has it already
        self._events.append(event)
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Send all changes of one turn of the loop as one message."""
        self._soon = False
        events, self._events = self._events, []
        if events and not self._closed:
            push(self.document, self.comm, msg=diff(self.document, events=list(events)))

    def _session_callback_added(self, event: SessionCallbackAdded) -> None:
        if self._callbacks is not None:
            self._callbacks.add_session_callback(event.callback)

    def _session_callback_removed(self, event: SessionCallbackRemoved) -> None:
        if self._callbacks is not None:
            self._callbacks.remove_session_callback(event.callback)
