"""Limits on connections: a number for each address, and a time limit for idle ones."""

from __future__ import annotations

import errno
import ipaddress
import logging
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from snakemap.errors import Busy, TooManyClients

__all__ = [
    "BODY_TIMEOUT_S",
    "HEADER_TIMEOUT_S",
    "SEND_TIMEOUT_S",
    "ConnectionLimit",
    "ConnectionSlots",
    "OutOfDescriptors",
    "block_of",
    "raise_descriptors",
]  # fmt: skip

log = logging.getLogger(__name__)

HEADER_TIMEOUT_S = 20.0
"""Time limit for the headers of a request, from the opening of a connection or the last response."""

BODY_TIMEOUT_S = 20.0
SEND_TIMEOUT_S = 60.0
"""Time limit for a client to take one piece of a download."""

WAITING_EACH, WAITING_ALL = 128, 512
OPEN_EACH = 512
LOG_PERIOD_S = 60.0
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def block_of(address: str) -> str:
    """Return the block in which an address is counted: of IPv6 the first half, which belongs to one machine.

    >>> block_of("10.0.0.7"), block_of("2001:db8::1:2"), block_of("::ffff:10.0.0.7")
    ('10.0.0.7', '2001:db8::', '10.0.0.7')
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    return str(known.ipv4_mapped or ipaddress.IPv6Address(int(known) >> 64 << 64))


class ConnectionSlots:
    """Slots for long-lived connections, limited in total and for each address.

    Args:
        most: in all.
        each: of one address.

    Attributes:
        taken: number of open connections.
    """

    def __init__(self, *, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._addresses: Counter[str] = Counter()
        self.taken = 0

    def take(self, address: str) -> Callable[[], None]:
        """Take a slot; return the function that releases it, once.

        Raises:
            TooManyClients: when the address has too many.
            Busy: when no slot is free.
        """
        if self._addresses[address] >= self._each:
            raise TooManyClients("too many clients from this address; try again later")
        if self.taken >= self._most:
            raise Busy("too many clients; try again later")
        self.taken += 1
        self._addresses[address] += 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if given_back:
                return
            given_back = True
            self.taken -= 1
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

        return give_back


class ConnectionLimit:
    """The open HTTP connections of a server, and those that wait for a request.

    When an address has too many connections, its oldest waiting one is closed: a client is served even if others of its
    address send incomplete requests.

    Args:
        waiting_each: connections of one address that may wait.
        waiting_all: connections that may wait.
        open_each: connections of one address.
    """

    def __init__(
        self, *, waiting_each: int = WAITING_EACH, waiting_all: int = WAITING_ALL, open_each: int = OPEN_EACH
    ) -> None:
        self._waiting_each, self._waiting_all, self._open_each = waiting_each, waiting_all, open_each
        self._open: dict[Hashable, str] = {}
        self._counts: Counter[str] = Counter()
        self._waiting: dict[str, OrderedDict[Hashable, Callable[[], None]]] = {}
        self.waiting = 0

    def opened(self, key: Hashable, address: str, close: Callable[[], None]) -> bool:
        """Count a connection, which waits at first; return False if the address has too many, and it is to be closed.

        Args:
            key: of the connection.
            address: of the client.
            close: closes it.
        """
        block = block_of(address)
        if self._counts[block] >= self._open_each and not self._close_oldest(block):
            return False
        self._open[key] = block
        self._counts[block] += 1
        self.waits(key, close)
        return True

    def waits(self, key: Hashable, close: Callable[[], None]) -> None:
        """Mark a connection as waiting for its first or next request."""
        block = self._open.get(key)
        if block is None or key in (waiting := self._waiting.setdefault(block, OrderedDict())):
            return
        waiting[key] = close
        self.waiting += 1
        if len(waiting) > self._waiting_each:
            self._close_oldest(block)
        elif self.waiting > self._waiting_all:
            self._close_oldest(max(self._waiting, key=lambda one: len(self._waiting[one])))

    def asked(self, key: Hashable) -> None:
        """Mark a connection as active: the headers of a request have arrived."""
        block = self._open.get(key)
        if block is None:
            return
        waiting = self._waiting.get(block)
        if waiting is not None and waiting.pop(key, None) is not None:
            self.waiting -= 1
            if not waiting:
                del self._waiting[block]

    def closed(self, key: Hashable) -> None:
        """Drop a connection that has ended, or become a WebSocket."""
        self.asked(key)
        block = self._open.pop(key, None)
        if block is not None:
            self._counts[block] -= 1
            if not self._counts[block]:
                del self._counts[block]

    def _close_oldest(self, block: str) -> bool:
        waiting = self._waiting.get(block)
        if not waiting:
            return False
        key = next(iter(waiting))
        close = waiting[key]
        self.closed(key)
        close()
        return True


class OutOfDescriptors:
    """Logs that no connection can be accepted, once a minute, with a count.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: float | None = None
        self._times = 0

    def is_it(self, error: object) -> bool:
        """Return whether an error means that descriptors, or memory for them, are exhausted; if so, count it."""
        if not isinstance(error, OSError) or error.errno not in EXHAUSTED:
            return False
        self._times += 1
        now = self._clock()
        if self._logged is None or now - self._logged >= LOG_PERIOD_S:
            log.error(
                "no connection can be accepted: %s (%d times since the last message); raise `ulimit -n`",
                error.strerror, self._times,
            )  # fmt: skip
            self._logged, self._times = now, 0
        return True


def raise_descriptors() -> None:
    """Raise this process' limit of descriptors to its hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.info("the limit of descriptors remains %d: %s", soft, error)
