"""The contract of a document source, as tests: a subclass makes the sources and the messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from tests.support.patience import patiently

from snakemap.core.source_status import SourceState
from snakemap.transport.document_source import Delivery, DocumentSource

__all__ = ["Reader", "SourceContract"]

DEADLINE_S = 40.0


class Reader:
    """A task that keeps every message of a source, and acknowledges it if it is to."""

    def __init__(self, source: DocumentSource, *, acknowledges: bool) -> None:
        self.source = source
        self.deliveries: list[Delivery] = []
        self.acknowledges = acknowledges
        self._task = asyncio.create_task(self._read())

    @property
    def numbers(self) -> list[int]:
        return [json.loads(delivery.body)["doc"]["number"] for delivery in self.deliveries]

    async def until(self, condition: Callable[[], object]) -> None:
        async with patiently(DEADLINE_S):
            while not condition():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def has(self, count: int) -> None:
        await self.until(lambda: len(self.deliveries) >= count)

    async def leave(self) -> None:
        """Leave the source; its generator ends."""
        await self.source.leave()
        async with patiently(DEADLINE_S):
            await self._task

    async def _read(self) -> None:
        async for batch in self.source.batches():
            assert batch, "a batch has messages"
            self.deliveries += batch
            if self.acknowledges:
                self.source.ack(batch)


class SourceContract:
    """Subclasses have a fixture ``place`` that is new to each test, and the two methods.

    Attributes:
        held_max: maximum of messages that the sources of :meth:`source` deliver without an acknowledgement.
    """

    held_max: ClassVar[int] = 20

    def source(self, place: Any) -> DocumentSource:
        """Return a new source of a place: what one worker after another has."""
        raise NotImplementedError

    async def send(self, place: Any, bodies: Sequence[dict[str, Any]]) -> None:
        """Send messages to a place; return when they cannot be lost."""
        raise NotImplementedError

    async def numbers(self, place: Any, *numbers: int) -> None:
        await self.send(place, [{"name": "start", "doc": {"uid": "r", "number": number}} for number in numbers])

    @asynccontextmanager
    async def reading(self, place: Any, *, acknowledges: bool = True) -> AsyncIterator[Reader]:
        source = self.source(place)
        reader = Reader(source, acknowledges=acknowledges)
        try:
            await reader.until(lambda: source.status.state is SourceState.CONNECTED)
            yield reader
        finally:
            await source.close()
            async with patiently(DEADLINE_S):
                await reader._task

    async def test_a_new_source_has_done_nothing(self, place: Any) -> None:
        source = self.source(place)
        assert source.status.state is SourceState.CONNECTING
        assert (source.queued, source.held, source.held_s, source.oversized) == (0, 0, 0.0, 0)
        await source.close()

    async def test_messages_arrive_in_order_and_once_when_acknowledged(self, place: Any) -> None:
        async with self.reading(place) as reader:
            connected = reader.source.status
            await self.numbers(place, *range(50))
            await reader.has(50)
            await reader.until(lambda: reader.source.held == 0)
            assert reader.numbers == list(range(50))
            assert reader.source.status == connected
            assert all(delivery.connection and delivery.arrived for delivery in reader.deliveries)
        async with self.reading(place) as again:
            await self.numbers(place, 50)
            await again.has(1)
        assert again.numbers == [50]

    async def test_what_is_sent_while_no_source_reads_is_delivered(self, place: Any) -> None:
        async with self.reading(place):
            pass
        await self.numbers(place, *range(30))
        async with self.reading(place) as reader:
            await reader.has(30)
        assert reader.numbers == list(range(30))

    async def test_what_was_not_acknowledged_is_delivered_again_and_in_order(self, place: Any) -> None:
        async with self.reading(place, acknowledges=False) as reader:
            await self.numbers(place, *range(10))
            await reader.has(10)
            reader.source.ack(reader.deliveries[:4])
            await reader.until(lambda: reader.source.held == 6)
            assert reader.source.held_s > 0
        async with self.reading(place) as again:
            await self.numbers(place, 10)
            await again.until(lambda: 10 in again.numbers)
        assert again.numbers == list(range(4, 11))

    async def test_messages_without_an_acknowledgement_are_bounded(self, place: Any) -> None:
        async with self.reading(place, acknowledges=False) as reader:
            await self.numbers(place, *range(2 * self.held_max))
            await reader.has(self.held_max)
            reader.source.ack(reader.deliveries[:1])
            await reader.has(self.held_max + 1)
            assert reader.source.held <= self.held_max
        assert reader.numbers == list(range(self.held_max + 1))

    async def test_a_reader_that_leaves_can_come_again_and_its_old_acknowledgements_count_no_more(
        self, place: Any
    ) -> None:
        async with self.reading(place, acknowledges=False) as reader:
            source = reader.source
            await self.numbers(place, 0, 1)
            await reader.has(2)
            await reader.leave()
            assert (source.status.state, source.held, source.queued) == (SourceState.CONNECTING, 0, 0)
            again = reader._task = (second := Reader(source, acknowledges=False))._task
            await second.has(2)
            source.ack(reader.deliveries)  # of the first connection
            await source.leave()
            await again
        async with self.reading(place) as third:
            await third.has(2)
        assert third.numbers == [0, 1]

    async def test_a_second_reader_is_refused(self, place: Any) -> None:
        async with self.reading(place) as reader:
            with pytest.raises(RuntimeError, match="one reader"):
                await anext(reader.source.batches())

    async def test_a_source_can_be_closed_twice(self, place: Any) -> None:
        async with self.reading(place) as reader:
            pass
        await reader.source.close()
