"""Counters of a process, and the heartbeat that reports them.

Counting costs one addition. Counters begin at 0 with each process, as Prometheus expects; those of several processes
are never added up, or the end of one would look like a decrease.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Self

from snakemap.errors import StoreUnavailable
from snakemap.store.interfaces import SharedState
from snakemap.store.tasks import cancel_tasks

__all__ = ["ANSWER_S", "LAG_S", "HeartbeatReporter", "Histogram", "Work"]

log = logging.getLogger(__name__)

LAG_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds in seconds, densest at the budget: 150 ms for the median, 300 ms for 95 %."""

ANSWER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds in seconds of the duration of requests."""

PERIOD_S = 3.0
KEPT_PERIODS = 4


class Histogram:
    """Histogram with fixed bounds.

    Args:
        bounds: rising; a value equal to a bound lies below it.

    Attributes:
        counts: values in each interval, the last one beyond all bounds.
        sum: of all values.

    >>> lags = Histogram((0.1, 1.0))
    >>> for seconds in (0.05, 0.1, 0.5, 7.0):
    ...     lags.observe(seconds)
    >>> lags.counts, lags.buckets()
    ([2, 1, 1], [('0.1', 2), ('1.0', 3), ('+Inf', 4)])
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value once or several times; negative values, from clocks that disagree, count as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound, and the number of values below it."""
        return list(zip((*map(str, self.bounds), "+Inf"), accumulate(self.counts), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the histogram as JSON."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}

    @classmethod
    def read(cls, report: Any) -> Self | None:
        """Return a histogram from :meth:`to_json`; None for anything else, which another version may report."""
        try:
            read = cls([float(bound) for bound in report["bounds"]])
            counts = [int(count) for count in report["counts"]]
            read.sum = float(report["sum"])
        except (KeyError, TypeError, ValueError):
            return None
        if len(counts) != len(read.counts) or min(counts) < 0 or list(read.bounds) != sorted(set(read.bounds)):
            return None
        read.counts = counts
        return read


class Work:
    """Counters of a worker since its start.

    Attributes:
        since: start, in seconds since 1970.
        documents: processed entries of the store, by name.
        points: of cameras, summed and stored.
        frames: frames read.
        frame_bytes: their size, uncompressed.
        store_lag: seconds from a message's arrival until it is stored.
        point_lag: seconds from the announcement of a frame until its point is stored.
    """

    def __init__(self, *, since: float) -> None:
        self.since = since
        self.documents: Counter[str] = Counter()
        self.points = 0
        self.frames = 0
        self.frame_bytes = 0
        self.store_lag = Histogram(LAG_S)
        self.point_lag = Histogram(LAG_S)

    def to_json(self) -> dict[str, Any]:
        """Return the counters as JSON."""
        return {
            "since": self.since,
            "documents": dict(self.documents),
            "points": self.points,
            "frames": self.frames,
            "frame_bytes": self.frame_bytes,
            "store_lag": self.store_lag.to_json(),
            "point_lag": self.point_lag.to_json(),
        }


class HeartbeatReporter:
    """Periodic report of a process to the store, where it expires.

    Args:
        store: for the reports.
        kind: of process, ``"pages"`` or ``"api"``.
        port: on which it listens; host and port are its name in the metrics.
        fields: returns the fields to report, as JSON.
        period_s: between two reports.

    Attributes:
        part: name of the report, like ``"pages:host:123"``.
    """

    def __init__(
        self,
        store: SharedState,
        kind: str,
        *,
        port: int,
        fields: Callable[[], dict[str, Any]],
        period_s: float = PERIOD_S,
    ) -> None:
        host = socket.gethostname()
        self.part = f"{kind}:{host}:{os.getpid()}"
        self._store = store
        self._name = f"{host}:{port}"
        self._fields = fields
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start reporting, once; needs a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._beat(), name=f"report of {self.part}", context=contextvars.Context())

    async def close(self) -> None:
        """Stop reporting; the last report expires soon."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_tasks(task)

    def report(self) -> dict[str, Any]:
        """Return the current report."""
        return {"process": self._name, "pid": os.getpid(), "time": time.time(), **self._fields()}

    async def _beat(self) -> None:
        while True:
            try:
                await self._store.report(self.part, self.report(), ttl_s=KEPT_PERIODS * self._period_s)
            except StoreUnavailable as trouble:
                log.debug("heartbeat not stored: %s", trouble)
            await asyncio.sleep(self._period_s)
