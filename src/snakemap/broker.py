"""The message broker: STOMP 1.2, one durable subscription that survives us, and a publisher that speaks like blueapi.

What waits for us while we are away waits in a queue of our own on the broker, for a day and up to 256 MiB. A message is
acknowledged when it has been stored, not before, so each is delivered at least once. blueapi publishes without
persistence: what waits in the queue when the *broker* restarts may be lost, and is then read from the files.

stomp.py calls from threads of its own. They meet the event loop in two places only: an inbox, bounded in frames and in
bytes, in which a thread waits for room; and an outbox of acknowledgements, sent by the thread that also connects.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import orjson
import stomp
import stomp.exception

from snakemap.documents import BODY_BYTES_MAX
from snakemap.errors import BrokerUnavailable, SettingsError

__all__ = ["Broker", "Frame", "Publisher", "probe"]

log = logging.getLogger(__name__)

QUEUE_BYTES = 64 * 1024 * 1024
BATCH_FRAMES = 500
HEARTBEAT_MS = 5000
CONNECT_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 20
LEAVE_TIMEOUT_S = 2.0
RETRY_S = (0.5, 4.0)
REFUSED_RETRY_S = 30.0
SOUND_S = 10.0
"""A connection that lasted that long was a good one: the next may be tried soon."""

QUEUE_ARGUMENTS = {
    "durable": "true",
    "auto-delete": "false",
    "x-expires": str(24 * 3600 * 1000),
    # the broker is the beamline's: while we are away our queue must not fill its memory, which would stop the scan
    "x-max-length-bytes": str(256 * 1024 * 1024),
}
"""What our queue is made with. A queue that exists with other arguments is refused, so a change needs a new name."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it arrived.

    Attributes:
        body: UTF-8 JSON, unread.
        headers: like ``{"destination": "/topic/public.worker.event", "redelivered": "false", ...}``.
        ack_id: with which it is acknowledged.
        connection: which of our connections brought it, counted from 1; only that one can acknowledge it.
        arrived: when, in seconds since 1970; 0 when nobody noted it.
    """

    body: bytes
    headers: dict[str, str]
    ack_id: str
    connection: int = 0
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class _Address:
    """Where the broker is, and who we are there.

    >>> str(_Address.read("stomp://me:secret@host"))
    'host:61613'
    """

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    vhost: str
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def read(cls, url: str) -> _Address:
        """Reads ``stomp://user:password@host:61613/vhost``; ``stomp+ssl://`` for TLS.

        Raises:
            SettingsError: it is none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("stomp", "stomp+ssl", "tcp") or not parts.hostname:
            raise SettingsError("SNAKEMAP_STOMP_URL: it is not stomp://user:password@host:61613")
        tls = parts.scheme == "stomp+ssl"
        return cls(
            host=parts.hostname,
            port=port or (61614 if tls else 61613),
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            vhost=unquote(parts.path[1:]) or "/",
            tls=tls,
        )


class Broker:
    """One durable subscription, connected for as long as it is used, whatever the broker does.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: like ``"/topic/public.worker.event"``.
        subscription: name of the queue on the broker; whoever comes with the same name gets what was left for it.
        queue_size: frames that may wait here or be unacknowledged; the broker keeps the others.
        queue_bytes: bytes that may wait here.
        body_bytes_max: a larger message is acknowledged and left out.
        heartbeat_ms: how often both sides show that they are alive; after one and a half silences we reconnect.
        retry_s: seconds until the next attempt to connect: at first, and at most.
        refused_retry_s: seconds until the next attempt when the broker refused us, as it does a wrong password.
        timeout_s: seconds to wait for the broker, each time.

    Attributes:
        oversized: messages left out because they were too large.
        connections: how often we have connected.

    Raises:
        SettingsError: the URL is none.
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
        self._address = _Address.read(url)
        self._heartbeat_ms = heartbeat_ms
        self._queue_bytes = queue_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = False
        self._leaving: asyncio.Task[None] | None = None
        self._held: dict[str, float] = {}
        self._held_lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        """Makes everything that belongs to one stay at the broker."""
        self._state = ("connecting", time.time())
        self._inbox = _Inbox(self.queue_size, self._queue_bytes, on_arrival=lambda: self._tell(self._arrived))
        self._outbox: queue.SimpleQueue[tuple[Frame, ...] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def state(self) -> str:
        """``"connecting"`` (never yet connected), ``"connected"``, or ``"lost: "`` and why."""
        return self._state[0]

    @property
    def since(self) -> float:
        """Since when it has been connected, or not; in seconds since 1970."""
        return self._state[1]

    @property
    def queued(self) -> int:
        """Frames that wait here for the reader of :meth:`frames`."""
        return len(self._inbox)

    @property
    def held(self) -> int:
        """Frames that the broker has delivered and that are not acknowledged yet."""
        return len(self._held)

    @property
    def held_s(self) -> float:
        """Age in seconds of the oldest of them; 0 when there is none."""
        with self._held_lock:
            arrived = next(iter(self._held.values()), None)
        return 0.0 if arrived is None else time.monotonic() - arrived

    async def frames(self) -> AsyncGenerator[list[Frame]]:
        """Batches of what has arrived, in order, each at least one frame and at most 500; ends with :meth:`close`.

        The first call connects. A frame not yet acknowledged when a connection breaks comes again with the next one.

        Raises:
            RuntimeError: somebody else is reading already; two readers would share the frames out between them.
        """
        if self._reading:
            raise RuntimeError("the frames of a broker have one reader")
        self._reading = True
        if self._leaving is not None:
            await asyncio.shield(self._leaving)
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="snakemap-broker", daemon=True)
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

    def ack(self, frames: Iterable[Frame]) -> None:
        """Tells the broker that it may forget these frames. Those of a connection that has ended are ignored."""
        self._outbox.put(tuple(frames))

    async def leave(self) -> None:
        """Disconnects as :meth:`close` does; the next :meth:`frames` connects again.

        Frames that were not acknowledged are delivered again, to the next consumer of the queue.
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
        """Sends the acknowledgements that are due and goes; what is not acknowledged waits in the broker's queue."""
        self._closing.set()
        self._inbox.close()
        self._outbox.put(None)
        self._arrived.set()
        if self._thread is not None:
            await self._gone.wait()
            self._thread.join()

    def _tell(self, event: asyncio.Event) -> None:
        """Sets an event of the loop from another thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody closed us
                self._loop.call_soon_threadsafe(event.set)

    def _live(self) -> None:
        """The life of our thread."""
        try:
            self._connect_for_ever()
        finally:
            self._tell(self._gone)

    def _connect_for_ever(self) -> None:
        delay_s = self.retry_s[0]
        while not self._closing.is_set():
            pause_s = delay_s
            try:
                reason = self._serve()
            except _Refused as error:
                reason, pause_s = str(error), self.refused_retry_s
            except BrokerUnavailable as error:
                reason = str(error)
            if self._closing.is_set():
                break
            if self.state == "connected" and time.time() - self.since > SOUND_S:
                delay_s = pause_s = self.retry_s[0]
            self._lost(reason)
            delay_s = min(2 * delay_s, self.retry_s[1])
            self._closing.wait(pause_s * random.uniform(0.8, 1.2))

    def _serve(self) -> str:
        """One connection, from beginning to end; returns why it ended."""
        number = self.connections + 1
        link = _Link(
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
            self._state = ("connected", time.time())
            log.info("Listening to %s of the broker at %s", self.destination, self._address)
            self._acknowledge(link, number)
        finally:
            link.close()
            with self._held_lock:
                self._held.clear()
        return link.reason

    def _acknowledge(self, link: _Link, number: int) -> None:
        """Sends what is put into the outbox, until the connection or we have ended."""
        while True:
            frames = self._outbox.get()
            if frames is None and (link.ended.is_set() or self._closing.is_set()):
                return
            for frame in frames or ():
                if frame.connection == number and not link.ended.is_set():
                    link.ack(frame.ack_id)
                    with self._held_lock:
                        self._held.pop(frame.ack_id, None)

    def _receive(self, link: _Link, message: Any, number: int) -> None:
        """Called in stomp.py's thread, which waits here while the inbox is full."""
        ack_id, now = message.headers.get("ack", ""), time.time()
        frame = Frame(message.body or b"", message.headers, ack_id, connection=number, arrived=now)
        with self._held_lock:
            if not link.ended.is_set():
                self._held[ack_id] = time.monotonic()
        if len(frame.body) <= self.body_bytes_max:
            self._inbox.put(frame, while_waiting=link.stay_alive)
            return
        self.oversized += 1
        self.ack([frame])
        if self.oversized & (self.oversized - 1) == 0:  # the first, the second, the fourth, ...
            log.warning("A message of %d bytes was left out; %d so far", len(frame.body), self.oversized)

    def _lost(self, reason: str) -> None:
        state, since = self._state
        text = f"lost: {reason}"
        if text != state:
            log.warning("The broker is lost, and will be tried again: %s", reason)
        self._state = (text, since if state.startswith("lost") else time.time())


class Publisher:
    """Publishes as blueapi does: the same headers, no persistence, one JSON object a message. For the simulator.

    It may be used from several threads. It connects when it is first used, and again when it is used after a loss.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: where to.
        timeout_s: seconds to wait for the broker, each time.
        heartbeat_ms: as for :class:`Broker`.

    Raises:
        SettingsError: the URL is none.
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
        self._address = _Address.read(url)
        self._heartbeat_ms = heartbeat_ms
        self._lock = threading.Lock()
        self._link: _Link | None = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connects, unless that is done.

        Raises:
            BrokerUnavailable: the broker cannot be reached, or refuses us.
        """
        self._connected()

    def send(self, body: dict[str, Any] | bytes, *, correlation_id: str | None = None, confirm: bool = False) -> None:
        """Sends one message.

        Args:
            body: an object to be written as JSON, or the bytes themselves.
            correlation_id: the task's id; blueapi sets it on worker and progress events, never on documents.
            confirm: return only when the broker says that it has the message.

        Raises:
            BrokerUnavailable: the message may be lost.
        """
        headers = {"JMSType": "TextMessage"}
        if correlation_id is not None:
            headers["correlation-id"] = correlation_id
        text = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        self._connected().send(self.destination, text, headers, confirm_s=self.timeout_s if confirm else None)

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Sends one message; the simulator's word for :meth:`send`."""
        self.send(body, correlation_id=correlation_id)

    def close(self) -> None:
        """Goes when the broker has taken everything sent so far."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _connected(self) -> _Link:
        with self._lock:
            if self._link is not None and not self._link.ended.is_set():
                return self._link
            if self._link is not None:
                self._link.close()
                self._link = None
            link = _Link(self._address, heartbeat_ms=self._heartbeat_ms, timeout_s=self.timeout_s)
            link.open()
            self._link = link
            return link


def probe(url: str, destination: str = "", *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Returns when a broker lets us in, and listen; nothing of us is left on it.

    Args:
        url: ``stomp://user:password@host:61613``.
        destination: to listen to for a moment; empty for none. Of a queue it would take messages away from others.
        timeout_s: seconds to wait for the broker, each time.

    Raises:
        BrokerUnavailable: the broker cannot be reached, or refuses us.
        SettingsError: the URL is none.
    """
    link = _Link(_Address.read(url), heartbeat_ms=HEARTBEAT_MS, timeout_s=timeout_s)
    link.open()
    try:
        if destination:
            link.listen(destination)
    finally:
        link.close()


class _Refused(BrokerUnavailable):
    """The broker is there and does not want us; to try again soon would only fill its log."""


class _Inbox:
    """Frames on their way from stomp.py's thread to the event loop, bounded in number and in bytes.

    Args:
        size: frames that may wait.
        size_bytes: bytes that may wait; a single larger frame may come when nothing else waits.
        on_arrival: called when it is no longer empty, in the thread that filled it.
    """

    def __init__(self, size: int, size_bytes: int, *, on_arrival: Callable[[], None]) -> None:
        self.size = size
        self.size_bytes = size_bytes
        self._on_arrival = on_arrival
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame, *, while_waiting: Callable[[], None]) -> None:
        """Puts a frame at the end as soon as there is room; forgets it when the inbox is closed before."""
        with self._changed:
            while not self._closed and not self._has_room(len(frame.body)):
                self._changed.wait(0.1)
                while_waiting()
            if self._closed:
                return
            was_empty = not self._frames
            self._frames.append(frame)
            self._bytes += len(frame.body)
        if was_empty:
            self._on_arrival()

    def take(self, count: int) -> list[Frame]:
        """The next frames, at most ``count``; empty when none waits."""
        with self._changed:
            taken = [self._frames.popleft() for _ in range(min(count, len(self._frames)))]
            self._bytes -= sum(len(frame.body) for frame in taken)
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Lets go whoever waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size_bytes: int) -> bool:
        return not self._frames or (len(self._frames) < self.size and self._bytes + size_bytes <= self.size_bytes)


class _Link(stomp.ConnectionListener):
    """One connection, from its opening to its end, after which it is not used again.

    Attributes:
        ended: set when it is over, for whatever reason.
        reason: why it ended, in words.
    """

    def __init__(
        self,
        address: _Address,
        *,
        heartbeat_ms: int,
        timeout_s: float,
        on_message: Callable[[_Link, Any], None] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.ended = threading.Event()
        self.reason = ""
        self._on_message = on_message
        self._on_end = on_end
        self._answered = threading.Event()
        self._welcome = False
        self._refused = False
        self._delivering = False
        self._receipts: dict[str, threading.Event] = {}
        self._numbers = itertools.count(1)
        self._silence_s = 1.5 * heartbeat_ms / 1000
        self._heard = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._connection = stomp.Connection12(
            [(address.host, address.port)],
            prefer_localhost=False,
            try_loopback_connect=False,
            reconnect_sleep_initial=0,
            reconnect_sleep_max=0,
            reconnect_attempts_max=1,
            timeout=timeout_s,
            heartbeats=(heartbeat_ms, heartbeat_ms),
            vhost=address.vhost,
            auto_decode=False,
        )
        if address.tls:
            self._connection.set_ssl(for_hosts=[(address.host, address.port)])

    def open(self) -> None:
        """Connects and introduces us.

        Raises:
            BrokerUnavailable: nobody answers there, or not in time, or the broker refuses us.
        """
        # what it has to say we say ourselves, once, and not at each attempt
        chatter = logging.getLogger("stomp.py")
        chatter.setLevel(chatter.level or logging.CRITICAL)
        self._connection.set_listener("snakemap", self)
        try:
            self._connection.connect(self.address.user, self.address.password)
        except (stomp.exception.StompException, OSError, UnicodeError) as error:
            self.close()
            raise BrokerUnavailable(f"The broker at {self.address} cannot be reached: {self._why()}") from error
        self._answered.wait(self.timeout_s)
        if self._welcome and self._limit_sending():
            return
        self.close()
        if self._refused:
            raise _Refused(self.reason)
        raise BrokerUnavailable(f"What listens at {self.address} does not answer as a STOMP broker does")

    def subscribe(self, destination: str, *, name: str, prefetch: int) -> None:
        """Takes the durable subscription up; returns when the broker has made it.

        Raises:
            BrokerUnavailable: the broker refuses, or does not answer in time.
        """
        headers = {**QUEUE_ARGUMENTS, "x-queue-name": name, "prefetch-count": str(prefetch)}
        receipt = self._receipt(headers)
        self._try(self._connection.subscribe, destination, name, "client-individual", headers)
        self._wait_for(receipt, self.timeout_s)

    def listen(self, destination: str) -> None:
        """Subscribes with a queue that goes with the connection; returns when the broker has made it.

        Raises:
            BrokerUnavailable: the broker refuses, or does not answer in time.
        """
        headers: dict[str, str] = {}
        receipt = self._receipt(headers)
        self._try(self._connection.subscribe, destination, "probe", "auto", headers)
        self._wait_for(receipt, self.timeout_s)

    def send(self, destination: str, body: bytes, headers: dict[str, str], *, confirm_s: float | None) -> None:
        """Sends one message, and waits for the broker to say that it has it, if asked to.

        Raises:
            BrokerUnavailable: it may not have it.
        """
        receipt = None if confirm_s is None else self._receipt(headers)
        self._try(self._connection.send, destination, body, None, headers)
        if receipt is not None and confirm_s is not None:
            self._wait_for(receipt, confirm_s)

    def ack(self, ack_id: str) -> None:
        """Acknowledges one message.

        Raises:
            BrokerUnavailable: the connection is lost; the message will come again.
        """
        self._try(self._connection.ack, ack_id)

    def stay_alive(self) -> None:
        """Says, while we do not read, that the silence is ours and not the broker's."""
        self._heard = time.monotonic()
        self._connection.on_heartbeat()

    def close(self) -> None:
        """Says good-bye if there is anybody to say it to, and ends the threads of this connection."""
        transport = self._connection.transport
        if self._welcome and not self.ended.is_set():
            with suppress(stomp.exception.StompException, OSError):
                self._connection.disconnect()
                self.ended.wait(LEAVE_TIMEOUT_S)
        self._cut()
        for thread in (transport.io_thread, *self._threads):
            while thread is not None and thread.is_alive() and self._delivering:
                thread.join(0.1)  # it waits for room in the inbox, and what it holds is not to be lost
            if thread is not None:
                thread.join(LEAVE_TIMEOUT_S)

    def on_connected(self, frame: Any) -> None:
        """The broker lets us in."""
        self._heard = time.monotonic()
        if thread := self._connection.heartbeat_thread:
            self._threads.append(thread)
        self._welcome = True
        self._answered.set()

    def on_message(self, frame: Any) -> None:
        """A message has arrived."""
        self._heard = time.monotonic()
        if self._on_message is None:
            return
        self._delivering = True
        try:
            self._on_message(self, frame)
        finally:
            self._delivering = False

    def on_receipt(self, frame: Any) -> None:
        """The broker has done what we asked to be told of."""
        self._heard = time.monotonic()
        if receipt := self._receipts.get(frame.headers.get("receipt-id", "")):
            receipt.set()

    def on_heartbeat(self) -> None:
        """The broker is alive."""
        self._heard = time.monotonic()

    def on_error(self, frame: Any) -> None:
        """The broker refuses something, and will close the connection."""
        body = frame.body.decode(errors="replace") if isinstance(frame.body, bytes) else str(frame.body or "")
        told = ": ".join(filter(None, (frame.headers.get("message", ""), " ".join(body.split())[:300])))
        password = self.address.password
        told = told.replace(password, "***") if password and len(password) > 3 else told
        self.reason = f"The broker at {self.address} refuses us: {told or 'it does not say why'}"
        self._refused = True
        self._end()

    def on_disconnected(self) -> None:
        """The connection is over; stomp.py may say so more than once."""
        if not self.reason:
            silent_s = time.monotonic() - self._heard
            what = f"was silent for {silent_s:.1f} s" if silent_s >= self._silence_s else "closed the connection"
            self.reason = f"The broker at {self.address} {what}"
        self._end()

    def _cut(self) -> None:
        """Closes the socket, without a word."""
        with suppress(OSError, AttributeError):  # stomp.py's own threads may be closing it at the same time
            self._connection.transport.disconnect_socket()
        self._end()

    def _end(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        self._answered.set()
        for receipt in list(self._receipts.values()):
            receipt.set()
        self._on_end()

    def _receipt(self, headers: dict[str, str]) -> str:
        """Asks for a receipt, in these headers."""
        name = f"r{next(self._numbers)}"
        self._receipts[name] = threading.Event()
        headers["receipt"] = name
        return name

    def _wait_for(self, receipt: str, timeout_s: float) -> None:
        told = self._receipts[receipt].wait(timeout_s)
        del self._receipts[receipt]
        if self._refused:
            raise _Refused(self.reason)
        if not told or self.ended.is_set():
            raise BrokerUnavailable(self.reason or f"The broker at {self.address} does not answer in time")

    def _try(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except (stomp.exception.StompException, OSError, AttributeError) as error:
            # AttributeError: stomp.py's socket became None between its look and its use. Half a message may have gone
            # out, so that this connection is of no use any more
            self._cut()
            raise BrokerUnavailable(self.reason or f"The broker at {self.address} takes nothing any more") from error

    def _limit_sending(self) -> bool:
        """Lets no send wait for ever for a broker that takes nothing more; whether there is still a connection."""
        connection = self._connection.transport.socket
        if connection is None:
            return False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))
        return True

    def _why(self) -> str:
        """Why there was no connection: stomp.py does not tell, so we look ourselves."""
        try:
            socket.create_connection((self.address.host, self.address.port), timeout=2).close()
        except OSError as error:
            return error.strerror or str(error)
        except UnicodeError:
            return "that is no name of a host"
        return "TLS was not agreed on" if self.address.tls else "the connection was closed"
