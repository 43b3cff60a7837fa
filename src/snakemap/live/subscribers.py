"""Wake the tabs of a process after updates, at most once a period.

::

    notify     x  x x                 x
    wake       !     !                !        at once after a rest, then at most once a period
               |<-period->|
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

__all__ = ["Subscribers"]

log = logging.getLogger(__name__)


class Subscribers:
    """Callbacks that are called after :meth:`notify`, while :meth:`run` runs.

    Args:
        period_s: shortest time between two calls of a callback.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self._wakes: dict[object, Callable[[], None]] = {}
        self._notified = asyncio.Event()

    def __len__(self) -> int:
        return len(self._wakes)

    def add(self, key: object, wake: Callable[[], None]) -> None:
        """Subscribe; ``wake`` carries no data and must not block. The same key replaces its callback."""
        self._wakes[key] = wake

    def remove(self, key: object) -> bool:
        """Unsubscribe; return whether there was such a subscriber."""
        return self._wakes.pop(key, None) is not None

    def clear(self) -> None:
        """Unsubscribe all."""
        self._wakes.clear()

    def notify(self) -> None:
        """Let :meth:`run` wake all subscribers."""
        self._notified.set()

    async def run(self) -> None:
        """Wake all subscribers after each notification, at most once a period; drop those whose callback fails."""
        while True:
            await self._notified.wait()
            self._notified.clear()
            for key, wake in list(self._wakes.items()):
                try:
                    wake()
                except Exception:
                    log.exception("tab callback failed; unsubscribed")
                    self.remove(key)
                del key, wake  # otherwise they would keep the last tab alive during the sleep
            await asyncio.sleep(self.period_s)
