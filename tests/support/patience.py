"""How long tests wait for something that must happen.

Tests state the seconds that suffice on an idle machine. A busy machine needs several times as long, and waiting longer
costs a test nothing that passes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["PATIENCE", "eventually", "patiently"]

PATIENCE = 6.0
"""Factor on every timeout of a test."""


def patiently(timeout_s: float) -> asyncio.Timeout:
    """Return ``asyncio.timeout`` for a wait that takes at most ``timeout_s`` on an idle machine."""
    return asyncio.timeout(PATIENCE * timeout_s)


def eventually(happens: Callable[[], object], *, timeout_s: float = 10.0, every_s: float = 0.01) -> bool:
    """Return whether something happens in time.

    Args:
        happens: the condition.
        timeout_s: sufficient on an idle machine.
        every_s: pause between two checks; longer where a check costs as much as what it waits for.
    """
    deadline = time.monotonic() + PATIENCE * timeout_s
    while not happens():
        if time.monotonic() > deadline:
            return bool(happens())
        time.sleep(every_s)
    return True
