"""Inbox of received messages, bounded in bytes: a full inbox stops the reading of the socket."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from snakemap.transport.document_source import Delivery

__all__ = ["Inbox"]


class Inbox:
    """Messages on their way from stomp.py's thread to the event loop, bounded in number and in bytes.

    Args:
        size: maximum of messages.
        size_bytes: maximum of bytes; a larger message is accepted when the inbox is empty.
        on_arrival: called when the inbox is no longer empty, in the thread that filled it.
    """

    def __init__(self, size: int, size_bytes: int, *, on_arrival: Callable[[], None]) -> None:
        self.size = size
        self.size_bytes = size_bytes
        self._on_arrival = on_arrival
        self._frames: deque[Delivery] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Delivery, *, while_waiting: Callable[[], None]) -> None:
        """Append a message when it fits; drop it if the inbox is closed before."""
        with self._changed:
            while not self._closed and not self._fits(len(frame.body)):
                self._changed.wait(0.1)
                while_waiting()
            if self._closed:
                return
            was_empty = not self._frames
            self._frames.append(frame)
            self._bytes += len(frame.body)
        if was_empty:
            self._on_arrival()

    def take(self, count: int) -> list[Delivery]:
        """Return the next messages, at most ``count``; empty when there are none."""
        with self._changed:
            taken = [self._frames.popleft() for _ in range(min(count, len(self._frames)))]
            self._bytes -= sum(len(frame.body) for frame in taken)
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Release threads that wait in :meth:`put`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        return not self._frames or (len(self._frames) < self.size and self._bytes + size_bytes <= self.size_bytes)
