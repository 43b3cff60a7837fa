"""What a process counts of its own work, and how it tells the others: plain numbers that only grow, and a heartbeat.

Counting costs an addition. A count belongs to one life of one process and begins at 0 with it, as Prometheus expects:
counts of several processes are never added up, or the end of one would look like work undone.
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
"""Bounds in seconds that lie closest where the budget is: 150 ms for the median, 300 ms for 95 %."""

ANSWER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds of how long a request waits."""

PERIOD_S = 3.0
KEPT_PERIODS = 4


class Histogram:
    """How many values lie below each of some bounds.

    Args:
        bounds: rising; a value that equals one lies below it.

    Attributes:
        counts: values in each interval, the last being those beyond all bounds.
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
        """Count a value, or so many that are alike; one below 0, as clocks that disagree make them, counts as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound, and how many values lie below it."""
        return list(zip((*map(str, self.bounds), "+Inf"), accumulate(self.counts), strict=True))

    def told(self) -> dict[str, Any]:
        """Itself as plain JSON."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}

    @classmethod
    def read(cls, told: object) -> Self | None:
        """Return what :meth:`told` said; None for anything else, as another version of us might say it."""
        try:
            read = cls([float(bound) for bound in told["bounds"]])  # pyright: ignore[reportIndexIssue]
            counts = [int(count) for count in told["counts"]]  # pyright: ignore[reportIndexIssue]
            read.sum = float(told["sum"])  # pyright: ignore[reportIndexIssue]
        except (KeyError, TypeError, ValueError):
            return None
        if len(counts) != len(read.counts) or min(counts) < 0 or list(read.bounds) != sorted(set(read.bounds)):
            return None
        read.counts = counts
        return read


class Work:
    """What a worker has done since it began.

    Attributes:
        since: when it began, in seconds since 1970.
        documents: entries of the store that it has taken, by name.
        points: of cameras, summed and stored.
        frames: that were read.
        frame_bytes: of these frames, unpacked.
        store_lag: seconds from a message's arrival until the store has it.
        point_lag: seconds from the announcement of a frame in the store until its point is there.
    """

    def __init__(self, *, since: float) -> None:
        self.since = since
        self.documents: Counter[str] = Counter()
        self.points = 0
        self.frames = 0
        self.frame_bytes = 0
        self.store_lag = Histogram(LAG_S)
        self.point_lag = Histogram(LAG_S)

    def told(self) -> dict[str, Any]:
        """Itself as plain JSON."""
        return {
            "since": self.since,
            "documents": dict(self.documents),
            "points": self.points,
            "frames": self.frames,
            "frame_bytes": self.frame_bytes,
            "store_lag": self.store_lag.told(),
            "point_lag": self.point_lag.told(),
        }


class HeartbeatReporter:
    """The heartbeat of a process of which there may be several: every few seconds in the store, forgotten after some.

    Args:
        store: where it goes.
        kind: of process, ``"pages"`` or ``"api"``.
        port: that it listens on; with the host it is what the process is called in the metrics.
        tell: what is to be said, plain JSON.
        period_s: between two.

    Attributes:
        part: its name among the reports, like ``"pages:host:123"``.
    """

    def __init__(
        self,
        store: SharedState,
        kind: str,
        *,
        port: int,
        tell: Callable[[], dict[str, Any]],
        period_s: float = PERIOD_S,
    ) -> None:
        host = socket.gethostname()
        self.part = f"{kind}:{host}:{os.getpid()}"
        self._store = store
        self._name = f"{host}:{port}"
        self._tell = tell
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; calling it again does nothing. Needs a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._beat(), name=f"report of {self.part}", context=contextvars.Context())

    async def close(self) -> None:
        """End it; what was said last is forgotten soon."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_tasks(task)

    def told(self) -> dict[str, Any]:
        """Return what is said now."""
        return {"process": self._name, "pid": os.getpid(), "time": time.time(), **self._tell()}

    async def _beat(self) -> None:
        while True:
            try:
                await self._store.report(self.part, self.told(), ttl_s=KEPT_PERIODS * self._period_s)
            except StoreUnavailable as trouble:
                log.debug("the store does not hear of us: %s", trouble)
            await asyncio.sleep(self._period_s)
