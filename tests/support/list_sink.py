"""A sink that keeps what a simulated beamline publishes."""

from __future__ import annotations

from typing import Any

__all__ = ["ListSink"]


class ListSink:
    """Keep every message in memory.

    Attributes:
        messages: `(body, correlation_id)`, oldest first.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, Any], str | None]] = []

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Keep the message."""
        self.messages.append((body, correlation_id))

    @property
    def documents(self) -> list[tuple[str, dict[str, Any]]]:
        """The documents, `(name, doc)`."""
        return [(body["name"], body["doc"]) for body, _ in self.messages if "doc" in body]

    @property
    def worker_events(self) -> list[dict[str, Any]]:
        """The worker events."""
        return [body for body, _ in self.messages if "state" in body]
