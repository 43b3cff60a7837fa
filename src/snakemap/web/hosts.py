"""The host names that a server answers to.

A web page of another name that resolves to this machine is same-origin to itself, so comparing its ``Origin`` with its
``Host`` proves nothing (DNS rebinding). A request is answered when each host that it names is one of these:

- ``localhost``, ``127.0.0.1``, ``::1``
- the value of ``SNAKEMAP_HOST``
- the names of this machine
- the hosts in ``SNAKEMAP_ORIGINS``, with any port
- the address at which the connection arrived
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterable

__all__ = ["HOST_HEADERS", "REFUSAL", "HostNames", "name_of"]

HOST_HEADERS = ("host", "x-forwarded-host")
"""Headers that name a host. A proxy sets the second one, and a page may set it, too; so both must be allowed."""

LOCAL = ("localhost", "127.0.0.1", "::1")
REFUSAL = "this host name is not allowed; SNAKEMAP_ORIGINS lists the allowed names"


def name_of(host: str) -> str:
    """Return the name in a host header: without port, final dot, brackets, and in lower case; empty when it is none.

    >>> name_of("Dashboard.beamline.:5006"), name_of("[::1]:5006"), name_of("10.0.0.7"), name_of("a b"), name_of("a:b")
    ('dashboard.beamline', '::1', '10.0.0.7', '', '')
    """
    text = host.strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        port = port.removeprefix(":") if bracket else "none"
    else:
        name, _, port = text.partition(":")
    if (port and not port.isdecimal()) or not name or any(letter in " /\\@?#," or ord(letter) < 33 for letter in name):
        return ""
    return _address(name) or name.removesuffix(".")


def _address(name: str) -> str:
    """Return an address in the one way of writing it; empty when it is none."""
    try:
        found = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


class HostNames:
    """The names of one server.

    Args:
        host: it listens on.
        named: by the settings, with or without a port.
    """

    def __init__(self, host: str, named: Iterable[str] = ()) -> None:
        self._names = {name_of(one) or one.lower() for one in (*LOCAL, host, *named)}
        # a name service that does not answer must not keep the server from starting
        threading.Thread(target=self._learn, name="own names", daemon=True).start()

    def _learn(self) -> None:
        """Add the names of this machine."""
        own = socket.gethostname().lower()
        self._names |= {own, own.partition(".")[0]}
        self._names.add(name_of(socket.getfqdn()))
        self._names.discard("")

    def allows(self, asked: Iterable[str], *, arrived_at: str = "") -> bool:
        """Return whether all of these host headers name this server; headers may hold several names with commas.

        Args:
            asked: values of the headers.
            arrived_at: own address of the connection.
        """
        own = _address(arrived_at) or arrived_at.lower()
        for host in asked:
            for one in host.split(","):
                name = name_of(one)
                if not name or (name not in self._names and name != own):
                    return False
        return True
