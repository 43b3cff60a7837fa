"""Requests to servers of this machine that are cheap enough to be repeated while a server starts.

``httpx.get`` reads all certificates of the machine each time, which takes 36 ms of a core. A test that asks in a loop
then takes the core that the server needs.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx
from tests.support.patience import PATIENCE

__all__ = ["answers", "get"]

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def get(url: str, *, timeout_s: float = 10.0, **options: Any) -> httpx.Response:
    """Return the answer of a server without TLS.

    Args:
        url: with query.
        timeout_s: sufficient on an idle machine.
        options: as :func:`httpx.get` has them.

    Raises:
        httpx.TransportError: when the server does not answer.
    """
    return httpx.get(url, verify=NO_CERTIFICATES, trust_env=False, timeout=PATIENCE * timeout_s, **options)


def answers(url: str) -> bool:
    """Return whether a server without TLS answers with status 200."""
    try:
        return get(url, timeout_s=30).status_code == 200
    except httpx.TransportError:
        return False
