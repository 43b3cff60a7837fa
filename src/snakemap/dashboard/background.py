"""What a tab waits for without keeping anybody waiting: files are read meanwhile, and the page stays alive."""

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
    """The errands of one tab: one of a kind at a time, of those that wait only the newest, and only its result counts.

    Args:
        document: Bokeh's, of the tab; results are put into it in a tick of its own.
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
        """Does something on the event loop, and tells the page of it.

        Args:
            kind: a newer errand of the same kind makes the result of this one worthless.
            work: what is to be done.
            then: what becomes of the result; it may change the page.
            failed: what becomes of an error.
            unused: frees a result that comes too late to be of use.
        """
        if self._gone:
            return
        self._waiting[kind] = work, then, failed, unused
        if kind not in self._tasks:
            self._tasks[kind] = asyncio.ensure_future(self._go(kind))

    def forget(self, kind: str) -> None:
        """Nobody waits for this any more; what is on its way ends by itself."""
        self._waiting[kind] = _nothing, _ignore, _ignore, _ignore

    def close(self) -> None:
        """Nothing comes of any of them any more."""
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
                    log.exception("an errand of a tab (%s) failed", kind)
                    show = functools.partial(failed, SnakemapError("internal error; see the log of the server"))
                if kind in self._waiting or self._gone:
                    free()
                else:
                    soon(self.document, functools.partial(self._deliver, show, free))
        finally:
            del self._tasks[kind]

    def _deliver(self, show: Callable[[], None], free: Callable[[], None]) -> None:
        """Tell the page, once the browser has all models that it may be about."""
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
    """An errand that is over at once."""
