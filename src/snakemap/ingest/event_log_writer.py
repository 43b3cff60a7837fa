"""What keeps the log of events: it follows the store, so that whoever put an event there, it is in the log, once."""

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
"""Until a log that could not be written is tried again."""

SWEEP_PERIOD_S = 600.0
PATIENCE_S = 1.0
"""How long the listener waits for what it stored to be in the log, before it acknowledges all the same."""

BEHIND = 100
"""A batch of so many entries means that more wait behind it."""


class EventLogWriter:
    """Writes every entry of the stream into the log, in a thread, however long the disk takes.

    While the log cannot be written, nothing else waits for it: entries stay in the store, and are written once it can.

    Args:
        store: the documents.
        events_log: their files.
        tally: the clock, and where trouble is counted.
        aside: does a piece of work while the loop goes on; by default, in a thread.

    Attributes:
        working: whether the log could be written the last time.
    """

    def __init__(
        self,
        store: DocumentLog,
        events_log: EventLogFiles,
        *,
        tally: WorkerStats,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self.store = store
        self.events_log = events_log
        self.tally = tally
        self.aside = aside
        self.working = True
        self._place = StreamPosition(BEGINNING)
        self._up_to_date = False
        self._swept_at = 0.0
        self._written = asyncio.Event()

    async def write(self) -> None:
        """Go on until it is cancelled."""
        self._up_to_date = False
        try:
            begun = await self._insist(self.events_log.begin)
            # a Redis that has lost its last entries may give their cursors to others
            self._place = StreamPosition(min(begun, await self.tally.insist(self.store.latest), key=cursor_numbers))
            while True:
                await self._follow()
                await self.tally.clock.sleep(self.tally.pace.store_retry_s)
        finally:
            self._up_to_date = False
            try:
                self.events_log.close()
            except OSError as error:
                self._lost(error)

    async def keep_unread(self, messages: Sequence[tuple[Received, str]]) -> None:
        """Write messages that do not go into the store, each with the reason; a log that is away is not waited for."""
        try:
            await self.aside(lambda: self.events_log.write_unread(messages, now=self.tally.clock.now()))
        except OSError as error:
            self._lost(error)
        else:
            self._found()

    async def reached(self, cursor: str) -> None:
        """Return when the log has what was stored up to a cursor, or when that cannot be waited for."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.working and self._up_to_date and cursor_numbers(self._place.cursor) < cursor_numbers(cursor):
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            log.debug("the log is behind; it is not waited for")

    async def _follow(self) -> None:
        """Write what comes, until the store is away."""
        try:
            async for entries in self.store.follow(self._place):
                end_if_cancelled()
                self.tally.store_found()
                now = self.tally.clock.now()
                if entries:
                    await self._insist(lambda entries=entries, now=now: self.events_log.write(entries, now=now))
                else:
                    await self._insist(lambda now=now: self.events_log.sync(now=now))
                self._up_to_date = len(entries) < BEHIND
                self._written.set()
                await self._sweep(now)
        except StoreRewound as trouble:
            self._up_to_date = False
            self.tally.trouble(trouble, about="the log of events goes on with what the store has now")
            self._place = StreamPosition(
                min(self._place.cursor, await self.tally.insist(self.store.latest), key=cursor_numbers)
            )
        except StoreUnavailable as trouble:
            self._up_to_date = False
            self.tally.store_lost(trouble)

    async def _sweep(self, now: float) -> None:
        if now - self._swept_at < SWEEP_PERIOD_S:
            return
        self._swept_at = now
        gone = await self._insist(lambda: self.events_log.sweep(now=now))
        if gone:
            log.info("%d old files of the log of events were removed", gone)

    async def _insist(self, work: Callable[[], Any]) -> Any:
        """Do something with the files, again and again until it succeeds."""
        while True:
            try:
                result = await self.aside(work)
            except OSError as error:
                self._lost(error)
                await self.tally.clock.sleep(RETRY_S)
            else:
                end_if_cancelled()
                self._found()
                return result

    def _lost(self, error: OSError) -> None:
        """Say once that the log cannot be written."""
        if self.working:
            self.tally.errors["log"] += 1
            log.error("the log of events in %s cannot be written: %s", self.events_log.directory, error)
        self.working = False
        self._written.set()

    def _found(self) -> None:
        if not self.working:
            log.info("the log of events in %s is being written again", self.events_log.directory)
        self.working = True
