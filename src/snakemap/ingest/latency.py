"""Latency from the announcement of frames to their points, by the clock of Redis only."""

from __future__ import annotations

from collections import deque

from snakemap.core.frame_ledger import RowRange
from snakemap.store.heartbeat import Histogram

__all__ = ["LatencyTracker"]


class LatencyTracker:
    """Latency of one run: announcements whose points are not stored yet.

    >>> from snakemap.store.heartbeat import Histogram
    >>> latency = LatencyTracker(Histogram((0.1, 1.0)))
    >>> latency.announce("r", 0, 2, at=100.0)
    >>> latency.announce("r", 2, 10, at=100.5)
    >>> latency.written(RowRange("r", 1, 2, 4), at=100.55)
    >>> latency.histogram.counts
    [3, 1, 0]

    Point 1 was announced 0.55 s ago, points 2 to 4 just now; point 0 was not read from here; 5 to 9 still wait.

    Args:
        histogram: of seconds.
    """

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self._waiting: dict[str, deque[tuple[int, int, float]]] = {}

    def announce(self, resource: str, start: int, stop: int, *, at: float) -> None:
        """Record when rows of a resource were announced, in seconds since 1970."""
        self._waiting.setdefault(resource, deque()).append((start, stop, at))

    def written(self, row_range: RowRange, *, at: float) -> None:
        """Count the latency of a row range's points, and drop earlier announcements."""
        waiting, end = self._waiting.get(row_range.resource), row_range.index + row_range.count
        while waiting and waiting[0][0] < end:
            start, stop, since = waiting.popleft()
            points = min(stop, end) - max(start, row_range.index)
            if points > 0:
                self.histogram.observe(at - since, points)
            if stop > end:
                waiting.appendleft((end, stop, since))
