"""What the worker requires of a document source, whatever its transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from snakemap.core.source_status import SourceStatus

__all__ = ["Delivery", "DocumentSource"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it arrived.

    Attributes:
        body: UTF-8 JSON, not parsed.
        ack_id: identifies the message in the acknowledgement.
        headers: what came with it, like ``{"correlation-id": "3f…"}``, the task of blueapi on worker events.
        connection: number of the connection, from 1; only that one can acknowledge it.
        arrived: seconds since 1970; 0 when unknown.
        source: name of the source among several; else empty.
    """

    body: bytes
    ack_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    connection: int = 0
    arrived: float = 0.0
    source: str = ""


class DocumentSource(Protocol):
    """Messages in order, each at least once: again, if it was not acknowledged.

    ``tests/support/source_contract.py`` is the contract as tests; each source passes it. The constructor does no IO.
    """

    @property
    def status(self) -> SourceStatus:
        """State of the connection."""
        ...

    @property
    def subscription(self) -> str:
        """Name under which the source keeps messages between connections; empty when it has none."""
        ...

    @property
    def queued(self) -> int:
        """Messages that have arrived and are not delivered yet."""
        ...

    @property
    def held(self) -> int:
        """Messages that are delivered and not acknowledged yet."""
        ...

    @property
    def held_s(self) -> float:
        """Age in seconds of the oldest of them; 0 when there is none."""
        ...

    @property
    def oversized(self) -> int:
        """Messages dropped because they were too large."""
        ...

    def batches(self) -> AsyncGenerator[list[Delivery]]:
        """Connect, and yield batches of the messages that have arrived, in order; reconnect until :meth:`close`.

        Messages that are not acknowledged are bounded; beyond, the source waits.

        Raises:
            RuntimeError: when there is another reader.
        """
        ...

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge messages: they are stored. Those of an earlier connection are ignored."""
        ...

    async def leave(self) -> None:
        """Disconnect; messages that were not acknowledged are delivered again. The next :meth:`batches` connects."""
        ...

    async def close(self) -> None:
        """Disconnect and end; pending acknowledgements are sent."""
        ...
