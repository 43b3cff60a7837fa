"""Several document sources as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from snakemap.core.source_status import SourceState, SourceStatus
from snakemap.transport.document_source import Delivery, DocumentSource

__all__ = ["MergedSource"]


class MergedSource:
    """Messages of several sources, each in its own order; an acknowledgement goes to the source of its message.

    ::

        source a  1 2 3 ──┐
                          ├──> 1 2 7 3 8
        source b  7 8   ──┘

    It is connected while all of them are. A batch has messages of one source, and waits until the one before is taken.

    Args:
        sources: by their names, which deliveries and the report of the worker have.
    """

    def __init__(self, sources: Mapping[str, DocumentSource]) -> None:
        self.sources = dict(sources)
        self._has_reader = False

    @property
    def status(self) -> SourceStatus:
        """LOST with the reasons while any source is lost, CONNECTED while all of them are connected."""
        statuses = {name: source.status for name, source in self.sources.items()}
        lost = {name: status for name, status in statuses.items() if status.state is SourceState.LOST}
        if lost:
            reasons = "; ".join(f"{name}: {status.reason}" for name, status in lost.items())
            return SourceStatus(SourceState.LOST, min(status.since for status in lost.values()), reasons)
        since = max(status.since for status in statuses.values())
        if all(status.state is SourceState.CONNECTED for status in statuses.values()):
            return SourceStatus(SourceState.CONNECTED, since)
        return SourceStatus(SourceState.CONNECTING, since)

    @property
    def subscription(self) -> str:
        """Names under which sources keep messages."""
        return ", ".join(filter(None, (source.subscription for source in self.sources.values())))

    @property
    def queued(self) -> int:
        """Messages that have arrived and are not delivered yet."""
        return sum(source.queued for source in self.sources.values())

    @property
    def held(self) -> int:
        """Messages that are delivered and not acknowledged yet."""
        return sum(source.held for source in self.sources.values())

    @property
    def held_s(self) -> float:
        """Age in seconds of the oldest of them; 0 when there is none."""
        return max(source.held_s for source in self.sources.values())

    @property
    def oversized(self) -> int:
        """Messages dropped because they were too large."""
        return sum(source.oversized for source in self.sources.values())

    async def batches(self) -> AsyncGenerator[list[Delivery]]:
        """Connect all sources, and yield their batches as they arrive; ends when all sources end, or with an error.

        Raises:
            RuntimeError: when there is another reader.
        """
        if self._has_reader:
            raise RuntimeError("several sources have one reader")
        self._has_reader = True
        arrived: asyncio.Queue[list[Delivery]] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(self._read_all(arrived), name="sources")
        taking: asyncio.Task[list[Delivery]] | None = None
        try:
            while True:
                taking = asyncio.create_task(arrived.get(), name="next batch")
                await asyncio.wait((taking, reading), return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    break
                yield taking.result()
            await reading
        finally:
            self._has_reader = False
            unfinished: list[asyncio.Task[Any]] = [
                task for task in (reading, taking) if task is not None and not task.done()
            ]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge messages, each to its source."""
        by_source: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_source.setdefault(delivery.source, []).append(delivery)
        for name, own in by_source.items():
            self.sources[name].ack(own)

    async def leave(self) -> None:
        """Disconnect all sources."""
        await asyncio.gather(*(source.leave() for source in self.sources.values()))

    async def close(self) -> None:
        """Disconnect all sources and end."""
        await asyncio.gather(*(source.close() for source in self.sources.values()))

    async def _read_all(self, arrived: asyncio.Queue[list[Delivery]]) -> None:
        async with asyncio.TaskGroup() as group:
            for name, source in self.sources.items():
                group.create_task(self._read(name, source, arrived), name=name)

    @staticmethod
    async def _read(name: str, source: DocumentSource, arrived: asyncio.Queue[list[Delivery]]) -> None:
        async with aclosing(source.batches()) as batches:
            async for batch in batches:
                await arrived.put([replace(delivery, source=name) for delivery in batch])
