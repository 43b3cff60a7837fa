"""Write the event log by following the store, so each entry is logged once, wherever it comes from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from snakemap.core.cursor import BEGINNING, cursor_numbers
from snakemap.errors import StoreRewound, StoreUnavailable
from snakemap.ingest.event_log_files import EventLogFiles
from snakemap.ingest.event_log_lines import Received
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import DocumentLog
from snakemap.store.store import StreamPosition
from snakemap.store.tasks import end_if_cancelled

__all__ = ["EventLogWriter"]

log = logging.getLogger(__name__)

RETRY_S = 2.0
"""Delay before a failed write is repeated."""

SWEEP_PERIOD_S = 600.0
PATIENCE_S = 1.0
"""How long the listener waits until stored entries are logged, before it acknowledges anyway."""

BEHIND = 100
"""A batch of this size means that more entries follow."""


class EventLogWriter:
    """Writes every entry of the stream to the event log, in a thread.

    While the log cannot be written, nothing else waits for it: entries stay in the store, and are written later.

    Args:
        store: the document store.
        files: the files.
        stats: clock and error counts.
        aside: runs blocking work; by default in a thread.

    Attributes:
        working: whether the last write succeeded.
    """

    def __init__(
        self,
        store: DocumentLog,
        files: EventLogFiles,
        *,
        stats: WorkerStats,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self.store = store
        self.files = files
        self.stats = stats
        self.aside = aside
        self.working = True
        self._place = StreamPosition(BEGINNING)
        self._up_to_date = False
        self._swept_at = 0.0
        self._written = asyncio.Event()

    async def write(self) -> None:
        """Write until cancelled."""
        self._up_to_date = False
        try:
            begun = await self._insist(self.files.begin)
            # a Redis that has lost its last entries may reuse their cursors
            self._place = StreamPosition(min(begun, await self.stats.retry(self.store.latest), key=cursor_numbers))
            while True:
                await self._follow()
                await self.stats.clock.sleep(self.stats.timeouts.store_retry_s)
        finally:
            self._up_to_date = False
            try:
                self.files.close()
            except OSError as error:
                self._lost(error)

    async def keep_unread(self, messages: Sequence[tuple[Received, str]]) -> None:
        """Write messages that are not stored, each with the reason; a log that cannot be written is skipped."""
        try:
            await self.aside(lambda: self.files.write_unread(messages, now=self.stats.clock.now()))
        except OSError as error:
            self._lost(error)
        else:
            self._found()

    async def reached(self, cursor: str) -> None:
        """Return when everything up to a cursor is logged, or after ``PATIENCE_S``."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.working and self._up_to_date and cursor_numbers(self._place.cursor) < cursor_numbers(cursor):
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            log.debug("the event log is behind; acknowledging without it")

    async def _follow(self) -> None:
        """Write new entries until Redis cannot be reached."""
        try:
            async for entries in self.store.follow(self._place):
                end_if_cancelled()
                self.stats.store_found()
                now = self.stats.clock.now()
                if entries:
                    await self._insist(lambda entries=entries, now=now: self.files.write(entries, now=now))
                else:
                    await self._insist(lambda now=now: self.files.sync(now=now))
                self._up_to_date = len(entries) < BEHIND
                self._written.set()
                await self._sweep(now)
        except StoreRewound as trouble:
            self._up_to_date = False
            self.stats.trouble(trouble, about="the event log continues with what the store has now")
            self._place = StreamPosition(
                min(self._place.cursor, await self.stats.retry(self.store.latest), key=cursor_numbers)
            )
        except StoreUnavailable as trouble:
            self._up_to_date = False
            self.stats.store_lost(trouble)

    async def _sweep(self, now: float) -> None:
        if now - self._swept_at < SWEEP_PERIOD_S:
            return
        self._swept_at = now
        gone = await self._insist(lambda: self.files.sweep(now=now))
        if gone:
            log.info("%d old files of the event log were removed", gone)

    async def _insist(self, work: Callable[[], Any]) -> Any:
        """Call a function of the files until it succeeds."""
        while True:
            try:
                result = await self.aside(work)
            except OSError as error:
                self._lost(error)
                await self.stats.clock.sleep(RETRY_S)
            else:
                end_if_cancelled()
                self._found()
                return result

    def _lost(self, error: OSError) -> None:
        """Log once that the files cannot be written."""
        if self.working:
            self.stats.errors["log"] += 1
            log.error("the event log in %s cannot be written: %s", self.files.directory, error)
        self.working = False
        self._written.set()

    def _found(self) -> None:
        if not self.working:
            log.info("the event log in %s is being written again", self.files.directory)
        self.working = True
