"""Make the block sums of the runs that the worker knows, while it has nothing more urgent to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from snakemap.ingest.run_reducer import RunReducer
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.live.block_maker import BlockMaker

__all__ = ["BlockLoop"]

BEHIND_POINTS = 64
"""Announced points that are not read yet, above which no block sums are made."""

LOOK_S = 0.5
"""Seconds between two looks for new points."""


class BlockLoop:
    """Makes block sums, those of the newest run first; what is left out while the worker is behind is made later.

    Args:
        maker: makes them in a reader process of its own.
        reductions: of the runs, by uid, in the order in which they began.
        stats: clock and counts.
    """

    def __init__(
        self, maker: BlockMaker, reductions: Callable[[], Mapping[str, RunReducer]], *, stats: WorkerStats
    ) -> None:
        self.maker = maker
        self.reductions = reductions
        self.stats = stats

    @property
    def is_behind(self) -> bool:
        """Whether many points wait to be read."""
        return sum(reduction.waiting for reduction in self.reductions().values()) > BEHIND_POINTS

    async def work(self) -> None:
        """Make sums until cancelled."""
        while True:
            if self.is_behind or not await self._portion():
                await self.stats.clock.sleep(LOOK_S)

    async def _portion(self) -> bool:
        """Make one portion; return False if nothing is to be made."""
        for reduction in reversed([*self.reductions().values()]):
            for source in list(reduction.run.sources.values()):
                if source.kind == "frames" and await self.maker.portion(reduction.run, source):
                    return True
        return False
