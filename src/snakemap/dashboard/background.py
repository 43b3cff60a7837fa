"""Background tasks of a tab: files are read while the page stays responsive."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bokeh.document import Document
from panel.io.state import set_curdoc

from snakemap.dashboard.callbacks import UNSENT_MS, later, soon, unsent
from snakemap.errors import SnakemapError

__all__ = ["BackgroundTasks"]

T = TypeVar("T")
Result = Callable[[Any], None]

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Background tasks of one tab: one of each kind runs at a time; only the newest one's result is used.

    Args:
        document: of the tab; results change it in a tick of its own.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._waiting: dict[str, tuple[Callable[[], Awaitable[Any]], Result, Result, Result]] = {}
        self._tasks: dict[str, asyncio.Future[None]] = {}
        self._gone = False

    def run(
        self,
        kind: str,
        work: Callable[[], Awaitable[T]],
        then: Callable[[T], None],
        *,
        failed: Callable[[SnakemapError], None],
        unused: Callable[[T], None] = lambda result: None,
    ) -> None:
        """Run work on the event loop, and pass its result to the page.

        Args:
            kind: the result of an older task of the same kind is dropped.
            work: returns what to await.
            then: called with the result; it may change the page.
            failed: called with an error.
            unused: called with a result that is dropped, to free it.
        """
        if self._gone:
            return
        self._waiting[kind] = work, then, failed, unused
        if kind not in self._tasks:
            self._tasks[kind] = asyncio.ensure_future(self._go(kind))

    def forget(self, kind: str) -> None:
        """Drop the result of the tasks of a kind."""
        self._waiting[kind] = _nothing, _ignore, _ignore, _ignore

    def close(self) -> None:
        """Drop the results of all tasks."""
        self._gone = True
        self._waiting.clear()

    async def _go(self, kind: str) -> None:
        try:
            while waiting := self._waiting.pop(kind, None):
                work, then, failed, unused = waiting
                free: Callable[[], None] = functools.partial(_ignore, None)
                try:
                    result = await work()
                    show, free = functools.partial(then, result), functools.partial(unused, result)
                except SnakemapError as error:
                    show = functools.partial(failed, error)
                except Exception:
                    log.exception("a background task of a tab (%s) failed", kind)
                    show = functools.partial(failed, SnakemapError("internal error; see the log of the server"))
                if kind in self._waiting or self._gone:
                    free()
                else:
                    soon(self.document, functools.partial(self._deliver, show, free))
        finally:
            del self._tasks[kind]

    def _deliver(self, show: Callable[[], None], free: Callable[[], None]) -> None:
        """Pass a result to the page, once the browser has all models that it may change."""
        if self._gone:
            free()
            return
        if unsent(self.document):
            later(self.document, functools.partial(self._deliver, show, free), UNSENT_MS)
            return
        with set_curdoc(self.document):
            show()


def _ignore(_: Any) -> None:
    """Do nothing."""


async def _nothing() -> None:
    """Return at once."""
