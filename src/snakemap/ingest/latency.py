"""How long announced frames take to become points, by the store's own clock, so that no two clocks are compared."""

from __future__ import annotations

from collections import deque

from snakemap.core.frame_ledger import RowRange
from snakemap.store.heartbeat import Histogram

__all__ = ["LatencyTracker"]


class LatencyTracker:
    """The announcements of one run that wait for their points.

    >>> from snakemap.store.heartbeat import Histogram
    >>> lags = Lags(Histogram((0.1, 1.0)))
    >>> lags.announce("r", 0, 2, at=100.0)
    >>> lags.announce("r", 2, 10, at=100.5)
    >>> lags.written(RowRange("r", 1, 2, 4), at=100.55)
    >>> lags.histogram.counts
    [3, 1, 0]

    Point 1 was announced 0.55 s ago and points 2 to 4 just now; point 0 came some other way; 5 to 9 still wait.

    Args:
        histogram: takes what is found, in seconds.
    """

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self._waiting: dict[str, deque[tuple[int, int, float]]] = {}

    def announce(self, resource: str, start: int, stop: int, *, at: float) -> None:
        """Note when rows of a resource were announced, in seconds since 1970."""
        self._waiting.setdefault(resource, deque()).append((start, stop, at))

    def written(self, row_range: RowRange, *, at: float) -> None:
        """Count the lag of a row range's points, and forgets what was announced before them."""
        waiting, end = self._waiting.get(row_range.resource), row_range.index + row_range.count
        while waiting and waiting[0][0] < end:
            start, stop, since = waiting.popleft()
            points = min(stop, end) - max(start, row_range.index)
            if points > 0:
                self.histogram.observe(at - since, points)
            if stop > end:
                waiting.appendleft((end, stop, since))
