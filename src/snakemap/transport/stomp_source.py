"""Document source: a durable STOMP 1.2 subscription.

While the worker is not connected, messages wait in its queue on the broker, for a day and up to 256 MiB. A message is
acknowledged after it has been stored, so each is delivered at least once. blueapi publishes without persistence:
messages in the queue may be lost when the *broker* restarts; their points are then read from the files.

stomp.py calls from its own threads. They share two objects with the event loop: an inbox, bounded in number and bytes,
in which a thread may wait; and an outbox of acknowledgements, sent by the thread that also connects.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from snakemap.core.documents import BODY_BYTES_MAX
from snakemap.core.source_status import SourceState, SourceStatus
from snakemap.errors import BrokerUnavailable
from snakemap.transport.document_source import Delivery
from snakemap.transport.inbox import Inbox
from snakemap.transport.stomp_address import StompAddress
from snakemap.transport.stomp_connection import StompConnection, StompRefused
from snakemap.transport.stomp_publisher import CONNECT_TIMEOUT_S, HEARTBEAT_MS

__all__ = ["StompSource", "probe"]

log = logging.getLogger(__name__)


QUEUE_BYTES = 64 * 1024 * 1024


BATCH_FRAMES = 500


RETRY_S = (0.5, 4.0)


REFUSED_RETRY_S = 30.0


SOUND_S = 10.0
"""After a connection of this duration, the next attempt is made soon."""


class StompSource:
    """One durable subscription, reconnected as long as it is used.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: like ``"/topic/public.worker.event"``.
        subscription: name of the queue on the broker, which keeps messages between connections.
        queue_size: maximum of messages in the inbox or not acknowledged; the broker keeps the others.
        queue_bytes: maximum of bytes in the inbox.
        body_bytes_max: a larger message is acknowledged and dropped.
        heartbeat_ms: interval of heartbeats of both sides; after 1.5 intervals of silence the connection is lost.
        retry_s: delay before connecting again: first, and maximum.
        refused_retry_s: the same after a refusal, as for a wrong password.
        timeout_s: time limit for each answer of the broker.

    Attributes:
        oversized: messages dropped because they were too large.
        connections: number of connections so far.

    Raises:
        SettingsError: when the URL is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        destination: str,
        subscription: str,
        queue_size: int = 2000,
        queue_bytes: int = QUEUE_BYTES,
        body_bytes_max: int = BODY_BYTES_MAX,
        heartbeat_ms: int = HEARTBEAT_MS,
        retry_s: tuple[float, float] = RETRY_S,
        refused_retry_s: float = REFUSED_RETRY_S,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.destination = destination
        self.subscription = subscription
        self.queue_size = queue_size
        self.body_bytes_max = body_bytes_max
        self.retry_s = retry_s
        self.refused_retry_s = refused_retry_s
        self.timeout_s = timeout_s
        self.oversized = 0
        self.connections = 0
        self._address = StompAddress.read(url)
        self._heartbeat_ms = heartbeat_ms
        self._queue_bytes = queue_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = False
        self._leaving: asyncio.Task[None] | None = None
        self._held: dict[str, float] = {}
        self._held_lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        """Create the state of one period of use."""
        self._status = SourceStatus(SourceState.CONNECTING, time.time())
        self._inbox = Inbox(self.queue_size, self._queue_bytes, on_arrival=lambda: self._set(self._arrived))
        self._outbox: queue.SimpleQueue[tuple[Delivery, ...] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def status(self) -> SourceStatus:
        """State of the connection."""
        return self._status

    @property
    def queued(self) -> int:
        """Messages in the inbox."""
        return len(self._inbox)

    @property
    def held(self) -> int:
        """Messages that are delivered and not acknowledged yet."""
        return len(self._held)

    @property
    def held_s(self) -> float:
        """Age in seconds of the oldest of them; 0 when there is none."""
        with self._held_lock:
            arrived = next(iter(self._held.values()), None)
        return 0.0 if arrived is None else time.monotonic() - arrived

    async def batches(self) -> AsyncGenerator[list[Delivery]]:
        """Yield batches of the messages that have arrived, in order, 1 to 500 each; ends with :meth:`close`.

        The first call connects. A message that is not acknowledged when a connection breaks is delivered again.

        Raises:
            RuntimeError: when there is another reader; two readers would get a part of the messages each.
        """
        if self._reading:
            raise RuntimeError("the messages of a broker have one reader")
        self._reading = True
        if self._leaving is not None:
            await asyncio.shield(self._leaving)
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="snakemap-broker", daemon=True)
            self._thread.start()
        try:
            while not self._closing.is_set():
                if batch := self._inbox.take(BATCH_FRAMES):
                    yield batch
                    continue
                await self._arrived.wait()
                self._arrived.clear()
        finally:
            self._reading = False

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge messages; those of an earlier connection are ignored."""
        self._outbox.put(tuple(deliveries))

    async def leave(self) -> None:
        """Disconnect as :meth:`close` does; the next :meth:`batches` connects again.

        Messages that were not acknowledged are delivered again, to the next consumer of the queue.
        """
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name="leave the broker")
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        try:
            await self.close()
            self._reset()
        finally:
            self._leaving = None

    async def close(self) -> None:
        """Send pending acknowledgements and disconnect; unacknowledged messages stay in the broker's queue."""
        self._closing.set()
        self._inbox.close()
        self._outbox.put(None)
        self._arrived.set()
        if self._thread is not None:
            await self._gone.wait()
            self._thread.join()

    def _set(self, event: asyncio.Event) -> None:
        """Set an event of the loop from another thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended without close()
                self._loop.call_soon_threadsafe(event.set)

    def _run(self) -> None:
        """Run the thread."""
        try:
            self._keep_connecting()
        finally:
            self._set(self._gone)

    def _keep_connecting(self) -> None:
        delay_s = self.retry_s[0]
        while not self._closing.is_set():
            pause_s = delay_s
            try:
                reason = self._serve()
            except StompRefused as error:
                reason, pause_s = str(error), self.refused_retry_s
            except BrokerUnavailable as error:
                reason = str(error)
            if self._closing.is_set():
                break
            since = self._status.connected_since
            if since is not None and time.time() - since > SOUND_S:
                delay_s = pause_s = self.retry_s[0]
            self._lost(reason)
            delay_s = min(2 * delay_s, self.retry_s[1])
            self._closing.wait(pause_s * random.uniform(0.8, 1.2))

    def _serve(self) -> str:
        """Use one connection until it ends; return the reason."""
        number = self.connections + 1
        link = StompConnection(
            self._address,
            heartbeat_ms=self._heartbeat_ms,
            timeout_s=self.timeout_s,
            on_message=lambda link, frame: self._receive(link, frame, number),
            on_end=lambda: self._outbox.put(None),
        )
        link.open()
        try:
            link.subscribe(self.destination, name=self.subscription, prefetch=self.queue_size)
            self.connections = number
            self._status = SourceStatus(SourceState.CONNECTED, time.time())
            log.info("Listening to %s of the broker at %s", self.destination, self._address)
            self._acknowledge(link, number)
        finally:
            link.close()
            with self._held_lock:
                self._held.clear()
        return link.reason

    def _acknowledge(self, link: StompConnection, number: int) -> None:
        """Send the acknowledgements in the outbox until the connection or this source ends."""
        while True:
            frames = self._outbox.get()
            if frames is None and (link.ended.is_set() or self._closing.is_set()):
                return
            for frame in frames or ():
                if frame.connection == number and not link.ended.is_set():
                    link.ack(frame.ack_id)
                    with self._held_lock:
                        self._held.pop(frame.ack_id, None)

    def _receive(self, link: StompConnection, message: Any, number: int) -> None:
        """Handle a message in stomp.py's thread, which waits here while the inbox is full."""
        ack_id, now = message.headers.get("ack", ""), time.time()
        frame = Delivery(message.body or b"", ack_id, message.headers, connection=number, arrived=now)
        with self._held_lock:
            if not link.ended.is_set():
                self._held[ack_id] = time.monotonic()
        if len(frame.body) <= self.body_bytes_max:
            self._inbox.put(frame, while_waiting=link.stay_alive)
            return
        self.oversized += 1
        self.ack([frame])
        if self.oversized & (self.oversized - 1) == 0:  # the first, the second, the fourth, ...
            log.warning("A message of %d bytes was dropped; %d so far", len(frame.body), self.oversized)

    def _lost(self, reason: str) -> None:
        status = self._status
        if reason != status.reason:
            log.warning("The broker is lost; reconnecting: %s", reason)
        since = status.since if status.state is SourceState.LOST else time.time()
        self._status = SourceStatus(SourceState.LOST, since, reason)


def probe(url: str, destination: str = "", *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Connect to a broker, optionally subscribe, and disconnect; nothing is left on the broker.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: to subscribe to; empty for none. From a queue this would take messages of other consumers.
        timeout_s: time limit for each answer of the broker.

    Raises:
        BrokerUnavailable: when the broker cannot be reached, or refuses.
        SettingsError: when the URL is invalid.
    """
    link = StompConnection(StompAddress.read(url), heartbeat_ms=HEARTBEAT_MS, timeout_s=timeout_s)
    link.open()
    try:
        if destination:
            link.listen(destination)
    finally:
        link.close()
