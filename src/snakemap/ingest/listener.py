"""First half of the worker: store each document verbatim, then acknowledge its message."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing

from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, Message, decode, progress_of
from snakemap.errors import DocumentError, StoreUnavailable
from snakemap.ingest.event_log_writer import EventLogWriter
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import WorkerStore
from snakemap.transport.document_source import Delivery, DocumentSource

__all__ = ["Listener"]

log = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 0.25

ORPHAN_S = 10.0
"""After this time, the parent of a waiting document is considered lost."""

ORPHANS_KEPT_S = 60.0
"""How long a waiting document counts as a sign of missing ones."""

ORPHANS_MAX = 10_000


class Listener:
    """Stores what the source delivers, in batches.

    While Redis cannot be reached, the same batch is tried again and nothing is acknowledged; the source keeps the rest.
    Redelivery may store a document twice, which every fold ignores.

    Args:
        source: of messages.
        store: for documents and worker events.
        stats: clock and error counts.
        event_log: event log, also of messages that are not stored; None for no log.

    Attributes:
        received: number of messages.
    """

    def __init__(
        self, source: DocumentSource, store: WorkerStore, *, stats: WorkerStats, event_log: EventLogWriter | None = None
    ) -> None:
        self.source = source
        self.store = store
        self.stats = stats
        self.event_log = event_log
        self.received = 0
        self._order = CausalOrder()
        self._late: list[Document] = []
        self._early: deque[tuple[float, int]] = deque(maxlen=ORPHANS_MAX)
        self._progress: bytes | str = b""
        self._progress_at = 0.0

    async def listen(self) -> None:
        """Listen until cancelled; connect at the beginning, and disconnect at the end.

        A worker that does not listen holds no subscription: the source would deliver messages that it does not store.
        Documents that wait for others were acknowledged, so they are kept for the next call.
        """
        self._late += self._order.learn(await self.stats.retry(self.store.owners))
        if self._late:
            await self.stats.retry(lambda: self._append(list(self._late)))
            self._late.clear()
        try:
            async with aclosing(self.source.batches()) as batches:
                async for batch in batches:
                    await self._take(batch)
        finally:
            await self.source.leave()

    @property
    def orphans(self) -> int:
        """Number of documents of the last minute that wait for a parent for more than 10 s.

        The source delivers in order and keeps what is not acknowledged, so the parents went to another program, or were
        sent before the queue existed.
        """
        now = self.stats.clock.now()
        while self._early and now - self._early[0][0] > ORPHANS_KEPT_S:
            self._early.popleft()
        old = (number for came, number in self._early if now - came > ORPHAN_S)
        return sum(self._order.waits(number) for number in old)

    async def _take(self, batch: Sequence[Delivery]) -> None:
        """Store a batch, then acknowledge it."""
        messages, unread = self._read(batch)
        if unread and self.event_log is not None:
            await self.event_log.keep_unread(unread)
        if messages:
            stored = await self.stats.retry(lambda: self._append(messages))
            self._late.clear()
            self._time(batch)
            if stored and self.event_log is not None:
                await self.event_log.reached(stored)
        await self._save_progress()
        self.source.ack(batch)

    def forget(self, run: str) -> None:
        """Forget the documents of a run that has left the store."""
        self._order.forget(run)

    def _read(self, batch: Sequence[Delivery]) -> tuple[list[Message], list[tuple[Delivery, str]]]:
        """Return the messages of a batch in order, and count those that are not stored, with the reason."""
        messages: list[Message] = []
        unread: list[tuple[Delivery, str]] = []
        for delivery in batch:
            self.received += 1
            try:
                message = decode(delivery.body)
                if message is None:
                    self.stats.note_task(delivery.headers.get("correlation-id"))
                    self._progress = delivery.body
                    continue
                ready = self._order.accept(message) if isinstance(message, Document) else [message]
                if not ready:
                    unread.append((delivery, "its parent document has not arrived; it waits"))
                    self._early.append((self.stats.clock.now(), self._order.newest_waiting))
                messages += ready
                self._late += [one for one in ready[1:] if isinstance(one, Document)]
            except DocumentError as trouble:
                self.stats.trouble(trouble, about="a message was left out")
                unread.append((delivery, str(trouble)))
        return messages, unread

    def _time(self, batch: Sequence[Delivery]) -> None:
        """Count the latency of stored messages."""
        now = self.stats.clock.now()
        for delivery in batch:
            if delivery.arrived:
                self.stats.work.store_lag.observe(now - delivery.arrived)

    async def _save_progress(self) -> None:
        """Save the latest progress event, at most four times a second; all others are dropped."""
        now = self.stats.clock.now()
        if not self._progress or now - self._progress_at < PROGRESS_PERIOD_S:
            return
        progress, self._progress, self._progress_at = self._progress, b"", now
        try:
            await self.store.save_progress(progress_of(progress))
        except StoreUnavailable as trouble:
            log.debug("progress is not saved: %s", trouble)

    async def _append(self, messages: list[Message]) -> str:
        """Store messages and remove them from the list, so that a repetition continues where this call ended.

        Returns:
            The cursor of the last stored message; empty when there is none.
        """
        try:
            cursors = await self.store.append(messages)
        except DocumentError as trouble:
            if len(messages) == 1:
                self.stats.trouble(trouble, about="a document was left out")
                return ""
        else:
            return cursors[-1] if cursors else ""
        last = ""
        while messages:  # one of them is invalid; store the others one by one
            last = await self._append(messages[:1]) or last
            del messages[0]
        return last
