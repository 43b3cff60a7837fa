"""Sockets to listen on: an unusable port becomes a one-line error instead of a traceback."""

from __future__ import annotations

import socket

from snakemap.errors import SettingsError

__all__ = ["authority", "free_port", "listen"]

UNANSWERED_MS = 60_000
"""Time after which the kernel closes a connection whose peer takes no data."""


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Args:
        host: a name or an address of this machine; ``0.0.0.0`` for all of them.
        port: from 0 to 65535.
        setting: name of the setting of the port, for the message.

    Raises:
        SettingsError: when the address cannot be used, with the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"SNAKEMAP_HOST: {host!r} is not an address of this machine: {error.strerror}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SettingsError(f"{setting}: nothing can listen on {authority(host, port)}: {error.strerror}") from error
    return listening


def free_port(host: str, wanted: int, *, setting: str, besides: int | None = None) -> int:
    """Return the wanted port if it is free, else another free one.

    Raises:
        SettingsError: when the host cannot be used.
    """
    for port in (wanted, 0):
        try:
            with listen(host, port, setting=setting) as listening:
                found = listening.getsockname()[1]
        except SettingsError:
            if port == 0:
                raise
            continue
        if found != besides:
            return found
    return free_port(host, 0, setting=setting, besides=besides)


def authority(host: str, port: int) -> str:
    """Return host and port as in a URL.

    >>> authority("127.0.0.1", 5006), authority("::1", 5006)
    ('127.0.0.1:5006', '[::1]:5006')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
