"""Priority lock: one reader for each run, lowest rank first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["PriorityLock"]


class PriorityLock:
    """Lock that the waiting task with the lowest rank gets; among equals, the first.

    Args:
        at_once: how many tasks may hold it at one time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._free = at_once
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def take(self, rank: int) -> AsyncGenerator[None]:
        """Hold the lock; wait until it is free.

        Args:
            rank: priority; lower comes sooner.
        """
        await self._wait(rank)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, rank: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # acquired at the moment of cancellation
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
