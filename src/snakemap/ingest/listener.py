"""The first half of the worker: from the broker into the store, every document verbatim, and only then acknowledged."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, Message, decode, progress_of
from snakemap.errors import DocumentError, StoreUnavailable
from snakemap.ingest.event_log_writer import EventLogWriter
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import WorkerStore
from snakemap.transport.inbox import Delivery

__all__ = ["Listener"]

log = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 0.25

ORPHAN_S = 10.0
"""A document that has waited for so long waits for one that will not come."""

ORPHANS_KEPT_S = 60.0
"""So long after it came, a document that waits is a sign that others are missing now."""

ORPHANS_MAX = 10_000


class DocumentSource(Protocol):
    """What the listener needs of :class:`snakemap.transport.stomp_source.StompSource`."""

    def frames(self) -> AsyncGenerator[list[Delivery]]: ...
    def ack(self, frames: Sequence[Delivery]) -> None: ...
    async def leave(self) -> None: ...


class Listener:
    """Takes what the broker delivers, in batches as they come.

    While the store is away the same batch is tried again, nothing is acknowledged, and the broker keeps the rest.
    Redelivery may store a document twice, which every fold ignores.

    Args:
        broker: where messages come from.
        store: where documents and worker events go.
        tally: where trouble is counted.
        scribe: keeps the log of events, and in it what does not get into the store; None for no log.

    Attributes:
        received: messages so far.
    """

    def __init__(
        self, broker: DocumentSource, store: WorkerStore, *, tally: WorkerStats, scribe: EventLogWriter | None = None
    ) -> None:
        self.broker = broker
        self.store = store
        self.tally = tally
        self.scribe = scribe
        self.received = 0
        self._order = CausalOrder()
        self._late: list[Document] = []
        self._early: deque[tuple[float, int]] = deque(maxlen=ORPHANS_MAX)
        self._progress: bytes | str = b""
        self._progress_at = 0.0

    async def listen(self) -> None:
        """Go on until it is cancelled; connects when it begins, and disconnects however it ends.

        A worker that does not listen holds no subscription: the broker would give it messages that it does not store.
        Documents that wait for others were acknowledged, so that they are kept from one time to the next.
        """
        self._late += self._order.learn(await self.tally.insist(self.store.owners))
        if self._late:
            await self.tally.insist(lambda: self._append(list(self._late)))
            self._late.clear()
        try:
            async with aclosing(self.broker.frames()) as batches:
                async for frames in batches:
                    await self._take(frames)
        finally:
            await self.broker.leave()

    @property
    def orphans(self) -> int:
        """Documents of the last minute that refer to others which did not come within 10 s.

        The broker delivers in order and keeps what is not acknowledged, so that these went to another program, or were
        sent before the queue was there.
        """
        now = self.tally.clock.now()
        while self._early and now - self._early[0][0] > ORPHANS_KEPT_S:
            self._early.popleft()
        old = (number for came, number in self._early if now - came > ORPHAN_S)
        return sum(self._order.waits(number) for number in old)

    async def _take(self, frames: Sequence[Delivery]) -> None:
        """Store what a batch says, and then acknowledges it."""
        messages, unread = self._read(frames)
        if unread and self.scribe is not None:
            await self.scribe.keep_unread(unread)
        if messages:
            stored = await self.tally.insist(lambda: self._append(messages))
            self._late.clear()
            self._time(frames)
            if stored and self.scribe is not None:
                await self.scribe.reached(stored)
        await self._tell_progress()
        self.broker.ack(frames)

    def forget(self, run: str) -> None:
        """Forget what belonged to a run that is no longer kept."""
        self._order.forget(run)

    def _read(self, frames: Sequence[Delivery]) -> tuple[list[Message], list[tuple[Delivery, str]]]:
        """Return the messages of a batch in order, and count those that are not stored, with the reason."""
        messages: list[Message] = []
        unread: list[tuple[Delivery, str]] = []
        for frame in frames:
            self.received += 1
            try:
                message = decode(frame.body)
                if message is None:
                    self.tally.hear(frame.headers.get("correlation-id"))
                    self._progress = frame.body
                    continue
                ready = self._order.accept(message) if isinstance(message, Document) else [message]
                if not ready:
                    unread.append((frame, "it came before what it refers to, and waits"))
                    self._early.append((self.tally.clock.now(), self._order.newest_waiting))
                messages += ready
                self._late += [one for one in ready[1:] if isinstance(one, Document)]
            except DocumentError as trouble:
                self.tally.trouble(trouble, about="a message was left out")
                unread.append((frame, str(trouble)))
        return messages, unread

    def _time(self, frames: Sequence[Delivery]) -> None:
        """Count how long messages took that are in the store now."""
        now = self.tally.clock.now()
        for frame in frames:
            if frame.arrived:
                self.tally.work.store_lag.observe(now - frame.arrived)

    async def _tell_progress(self) -> None:
        """Four times a second at most; nothing else of the many progress events is ever looked at."""
        now = self.tally.clock.now()
        if not self._progress or now - self._progress_at < PROGRESS_PERIOD_S:
            return
        told, self._progress, self._progress_at = self._progress, b"", now
        try:
            await self.store.save_progress(progress_of(told))
        except StoreUnavailable as trouble:
            log.debug("progress is left out: %s", trouble)

    async def _append(self, messages: list[Message]) -> str:
        """Store messages; what is stored is taken off the list, so that a repetition goes on where this one ended.

        Returns:
            The cursor of the last that was stored; empty when none was.
        """
        try:
            cursors = await self.store.append(messages)
        except DocumentError as trouble:
            if len(messages) == 1:
                self.tally.trouble(trouble, about="a document was left out")
                return ""
        else:
            return cursors[-1] if cursors else ""
        last = ""
        while messages:  # one of them spoils the batch; the others go in alone
            last = await self._append(messages[:1]) or last
            del messages[0]
        return last
