"""Publish messages to a STOMP destination."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import orjson

from snakemap.transport.stomp_address import StompAddress
from snakemap.transport.stomp_connection import StompConnection

__all__ = ["CONNECT_TIMEOUT_S", "HEARTBEAT_MS", "StompPublisher"]

HEARTBEAT_MS = 5000


CONNECT_TIMEOUT_S = 10.0


class StompPublisher:
    """Publishes messages in the format of blueapi: the same headers, not persistent, one JSON object each.

    Thread-safe. It connects on first use, and again on the next use after a loss.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: of the messages.
        timeout_s: time limit for each answer of the broker.
        heartbeat_ms: as for :class:`StompSource`.

    Raises:
        SettingsError: when the URL is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        destination: str = "/topic/public.worker.event",
        timeout_s: float = CONNECT_TIMEOUT_S,
        heartbeat_ms: int = HEARTBEAT_MS,
    ) -> None:
        self.destination = destination
        self.timeout_s = timeout_s
        self._address = StompAddress.read(url)
        self._heartbeat_ms = heartbeat_ms
        self._lock = threading.Lock()
        self._link: StompConnection | None = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, if not connected.

        Raises:
            BrokerUnavailable: when the broker cannot be reached, or refuses the connection.
        """
        self._connected()

    def send(self, body: dict[str, Any] | bytes, *, correlation_id: str | None = None, confirm: bool = False) -> None:
        """Send one message.

        Args:
            body: an object to be written as JSON, or bytes.
            correlation_id: the task's id; blueapi sets it on worker and progress events, never on documents.
            confirm: whether to wait for the broker's receipt.

        Raises:
            BrokerUnavailable: when the message may be lost.
        """
        headers = {"JMSType": "TextMessage"}
        if correlation_id is not None:
            headers["correlation-id"] = correlation_id
        text = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        self._connected().send(self.destination, text, headers, confirm_s=self.timeout_s if confirm else None)

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Send one message, as the simulator calls it."""
        self.send(body, correlation_id=correlation_id)

    def close(self) -> None:
        """Disconnect when the broker has everything that was sent."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _connected(self) -> StompConnection:
        with self._lock:
            if self._link is not None and not self._link.ended.is_set():
                return self._link
            if self._link is not None:
                self._link.close()
                self._link = None
            link = StompConnection(self._address, heartbeat_ms=self._heartbeat_ms, timeout_s=self.timeout_s)
            link.open()
            self._link = link
            return link
