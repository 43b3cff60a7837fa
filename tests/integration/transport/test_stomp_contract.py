"""A broker as document source: the contract of all sources, with a real RabbitMQ."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.rabbitmq import RabbitMQ
from tests.support.source_contract import SourceContract

from snakemap.transport.document_source import DocumentSource
from snakemap.transport.stomp_publisher import StompPublisher
from snakemap.transport.stomp_source import StompSource


class TestStompSource(SourceContract):
    @pytest.fixture
    def place(self, rabbitmq: RabbitMQ) -> tuple[str, str]:
        return rabbitmq.stomp_url, f"/topic/{uuid.uuid4()}"

    def source(self, place: Any) -> DocumentSource:
        url, destination = place
        return StompSource(url, destination=destination, subscription=destination[7:], queue_size=self.held_max)

    async def send(self, place: Any, bodies: Sequence[dict[str, Any]]) -> None:
        await asyncio.to_thread(self._send, place, bodies)

    def _send(self, place: Any, bodies: Sequence[dict[str, Any]]) -> None:
        url, destination = place
        with StompPublisher(url, destination=destination) as publisher:
            for number, body in enumerate(bodies, 1):
                publisher.send(body, confirm=number == len(bodies))
