"""One STOMP connection: connect, subscribe, acknowledge, detect its end."""

from __future__ import annotations

import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import stomp
import stomp.exception

from snakemap.errors import BrokerUnavailable
from snakemap.transport.stomp_address import StompAddress

__all__ = ["StompConnection", "StompRefused"]

SEND_TIMEOUT_S = 20


LEAVE_TIMEOUT_S = 2.0


QUEUE_ARGUMENTS = {
    "durable": "true",
    "auto-delete": "false",
    "x-expires": str(24 * 3600 * 1000),
    # the broker is shared: an abandoned queue must not fill its memory, which would stop the scan
    "x-max-length-bytes": str(256 * 1024 * 1024),
}
"""Arguments of the queue. The broker refuses an existing queue with other arguments, so a change needs a new name."""


class StompRefused(BrokerUnavailable):
    """The broker refuses the connection; frequent retries would only fill its log."""


class StompConnection(stomp.ConnectionListener):
    """One connection, used once.

    Attributes:
        ended: set when it has ended, for any reason.
        reason: why it has ended.
    """

    def __init__(
        self,
        address: StompAddress,
        *,
        heartbeat_ms: int,
        timeout_s: float,
        on_message: Callable[[StompConnection, Any], None] | None = None,
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
        self._last_seen = time.monotonic()
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
        """Connect and log in.

        Raises:
            BrokerUnavailable: when the broker does not answer in time, or refuses the connection.
        """
        # failures are logged here, once, instead of by stomp.py at each attempt
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
            raise StompRefused(self.reason)
        raise BrokerUnavailable(f"The program at {self.address} does not answer as a STOMP broker does")

    def subscribe(self, destination: str, *, name: str, prefetch: int) -> None:
        """Subscribe to the durable queue; return when the broker has confirmed it.

        Raises:
            BrokerUnavailable: when the broker refuses, or does not answer in time.
        """
        headers = {**QUEUE_ARGUMENTS, "x-queue-name": name, "prefetch-count": str(prefetch)}
        receipt = self._receipt(headers)
        self._try(self._connection.subscribe, destination, name, "client-individual", headers)
        self._wait_for(receipt, self.timeout_s)

    def listen(self, destination: str) -> None:
        """Subscribe with a temporary queue; return when the broker has confirmed it.

        Raises:
            BrokerUnavailable: when the broker refuses, or does not answer in time.
        """
        headers: dict[str, str] = {}
        receipt = self._receipt(headers)
        self._try(self._connection.subscribe, destination, "probe", "auto", headers)
        self._wait_for(receipt, self.timeout_s)

    def send(self, destination: str, body: bytes, headers: dict[str, str], *, confirm_s: float | None) -> None:
        """Send one message; with ``confirm_s``, wait for the broker's receipt.

        Raises:
            BrokerUnavailable: when the message may be lost.
        """
        receipt = None if confirm_s is None else self._receipt(headers)
        self._try(self._connection.send, destination, body, None, headers)
        if receipt is not None and confirm_s is not None:
            self._wait_for(receipt, confirm_s)

    def ack(self, ack_id: str) -> None:
        """Acknowledge one message.

        Raises:
            BrokerUnavailable: when the connection is lost; the message will be redelivered.
        """
        self._try(self._connection.ack, ack_id)

    def stay_alive(self) -> None:
        """Reset the silence timer while this side does not read."""
        self._last_seen = time.monotonic()
        self._connection.on_heartbeat()

    def close(self) -> None:
        """Disconnect if possible, and end the threads of this connection."""
        transport = self._connection.transport
        if self._welcome and not self.ended.is_set():
            with suppress(stomp.exception.StompException, OSError):
                self._connection.disconnect()
                self.ended.wait(LEAVE_TIMEOUT_S)
        self._cut()
        for thread in (transport.io_thread, *self._threads):
            while thread is not None and thread.is_alive() and self._delivering:
                thread.join(0.1)  # it waits for the inbox, and its message must not be lost
            if thread is not None:
                thread.join(LEAVE_TIMEOUT_S)

    def on_connected(self, frame: Any) -> None:
        """Handle a successful login."""
        self._last_seen = time.monotonic()
        if thread := self._connection.heartbeat_thread:
            self._threads.append(thread)
        self._welcome = True
        self._answered.set()

    def on_message(self, frame: Any) -> None:
        """Handle a message."""
        self._last_seen = time.monotonic()
        if self._on_message is None:
            return
        self._delivering = True
        try:
            self._on_message(self, frame)
        finally:
            self._delivering = False

    def on_receipt(self, frame: Any) -> None:
        """Handle a receipt."""
        self._last_seen = time.monotonic()
        if receipt := self._receipts.get(frame.headers.get("receipt-id", "")):
            receipt.set()

    def on_heartbeat(self) -> None:
        """Handle a heartbeat."""
        self._last_seen = time.monotonic()

    def on_error(self, frame: Any) -> None:
        """Handle an error; the broker closes the connection afterwards."""
        body = frame.body.decode(errors="replace") if isinstance(frame.body, bytes) else str(frame.body or "")
        text = ": ".join(filter(None, (frame.headers.get("message", ""), " ".join(body.split())[:300])))
        password = self.address.password
        text = text.replace(password, "***") if password and len(password) > 3 else text
        self.reason = f"The broker at {self.address} refuses us: {text or 'it gives no reason'}"
        self._refused = True
        self._end()

    def on_disconnected(self) -> None:
        """Handle the end of the connection; stomp.py may call this more than once."""
        if not self.reason:
            silent_s = time.monotonic() - self._last_seen
            what = f"was silent for {silent_s:.1f} s" if silent_s >= self._silence_s else "closed the connection"
            self.reason = f"The broker at {self.address} {what}"
        self._end()

    def _cut(self) -> None:
        """Close the socket without a DISCONNECT."""
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
        """Add a request for a receipt to headers; return its name."""
        name = f"r{next(self._numbers)}"
        self._receipts[name] = threading.Event()
        headers["receipt"] = name
        return name

    def _wait_for(self, receipt: str, timeout_s: float) -> None:
        received = self._receipts[receipt].wait(timeout_s)
        del self._receipts[receipt]
        if self._refused:
            raise StompRefused(self.reason)
        if not received or self.ended.is_set():
            raise BrokerUnavailable(self.reason or f"The broker at {self.address} does not answer in time")

    def _try(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except (stomp.exception.StompException, OSError, AttributeError) as error:
            # AttributeError: stomp.py's socket became None between its check and its use. A part of a message may have
            # been sent, so the connection is unusable
            self._cut()
            raise BrokerUnavailable(self.reason or f"The broker at {self.address} accepts no more data") from error

    def _limit_sending(self) -> bool:
        """Limit the time of each send; return whether there is still a connection."""
        connection = self._connection.transport.socket
        if connection is None:
            return False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))
        return True

    def _why(self) -> str:
        """Return why there was no connection, which stomp.py does not report."""
        try:
            socket.create_connection((self.address.host, self.address.port), timeout=2).close()
        except OSError as error:
            return error.strerror or str(error)
        except UnicodeError:
            return "that is not a valid host name"
        return "TLS was not agreed on" if self.address.tls else "the connection was closed"
