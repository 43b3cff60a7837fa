"""State of the worker: error counts, activity of tasks, availability of Redis."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from snakemap.core.documents import WorkerEvent
from snakemap.errors import SnakemapError, StoreRefuses, StoreUnavailable
from snakemap.ingest.timing import Clock, Timeouts
from snakemap.store.heartbeat import Work
from snakemap.store.tasks import end_if_cancelled

__all__ = ["WorkerStats"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

REPEAT_S = 10.0
TASKS_KEPT = 100
REFUSED_AGAIN_S = 60.0
"""Interval of log messages about a Redis that refuses writes."""

REFUSED_HOLDS_S = 5.0
"""How long a refusal counts, unless the same call succeeds earlier; writes are more frequent."""


class WorkerStats:
    """Counts and state of the whole worker; both halves write here.

    Args:
        clock: wall time.
        timeouts: timeouts.

    Attributes:
        errors: counts by error code, like ``{"document": 3}``.
        work: amount of work done.
        worker_state: latest state of blueapi's worker, like ``"RUNNING"``; empty before the first.
        task_id: its task, or None.
        last_seen: time of the latest sign of life of each task, in seconds since 1970, by task id.
        ended: time of the last event of each task, in seconds since 1970, by task id.
    """

    def __init__(self, clock: Clock, timeouts: Timeouts) -> None:
        self.clock = clock
        self.timeouts = timeouts
        self.errors: Counter[str] = Counter()
        self.work = Work(since=clock.now())
        self.worker_state = ""
        self.task_id: str | None = None
        self.last_seen: OrderedDict[str, float] = OrderedDict()
        self.ended: OrderedDict[str, float] = OrderedDict()
        self._logged: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._store_lost_since: float | None = None
        self._refused = ""
        self._refused_since = self._refused_at = self._refused_logged_at = 0.0

    def trouble(self, error: SnakemapError, *, about: str) -> None:
        """Count an error and log it; the same code and subject is logged once in ten seconds."""
        self.errors[error.code] += 1
        key = f"{error.code} {about}"
        since, skipped = self._logged.get(key, (0.0, 0))
        if self.clock.now() - since < REPEAT_S:
            self._logged[key] = (since, skipped + 1)
            return
        _keep(self._logged, key, (self.clock.now(), 0))
        log.warning("%s: %s%s", about, error, f" (and {skipped} more like it)" if skipped else "")

    def note_task(self, task_id: str | None) -> None:
        """Record a sign of life of a task."""
        if task_id:
            _keep(self.last_seen, task_id, self.clock.now())

    def take(self, event: WorkerEvent) -> None:
        """Record a state of blueapi's worker.

        A paused task is reported as complete and failed, too, though it can go on (blueapi 1.21): a task has ended only
        when the worker is idle.
        """
        self.worker_state, self.task_id = event.state, event.task_id
        self.note_task(event.task_id)
        if event.task_id and event.state == "RUNNING":
            self.ended.pop(event.task_id, None)
        if event.task_id and event.complete and event.state in ("IDLE", "PANICKED"):
            _keep(self.ended, event.task_id, self.clock.now())

    def paused(self, task_id: str | None) -> bool:
        """Return whether a task is paused."""
        return bool(task_id) and self.task_id == task_id and self.worker_state in ("PAUSING", "PAUSED", "SUSPENDING")

    async def retry(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Call the store until it answers; log once when it is lost, and when it is back."""
        refused = False
        while True:
            try:
                result = await call()
            except StoreUnavailable as trouble:
                end_if_cancelled()
                refused = refused or isinstance(trouble, StoreRefuses)
                self.store_lost(trouble)
                await self.clock.sleep(self.timeouts.store_retry_s)
            else:
                end_if_cancelled()
                self.store_found(takes=refused)
                return result

    def store_lost(self, trouble: StoreUnavailable) -> None:
        """Record that Redis cannot be reached, or refuses writes."""
        if isinstance(trouble, StoreRefuses):
            self._store_refuses(trouble)
        elif self._store_lost_since is None:
            self._store_lost_since = self.clock.now()
            self.errors[trouble.code] += 1
            log.warning("waiting for the store, nothing is lost: %s", trouble)

    @property
    def refused(self) -> str:
        """Redis' error code while it refuses writes, like ``"OOM"``; empty otherwise."""
        return self._refused if self.clock.now() - self._refused_at < REFUSED_HOLDS_S else ""

    def _store_refuses(self, trouble: StoreRefuses) -> None:
        now = self.clock.now()
        if not self._refused:
            self.errors[trouble.code] += 1
            self._refused_since = now
        if not self._refused or now - self._refused_logged_at >= REFUSED_AGAIN_S:
            self._refused_logged_at = now
            log.warning("no writes to Redis for %.0f s, nothing is lost: %s", now - self._refused_since, trouble)
        self._refused, self._refused_at = trouble.word, now

    def store_found(self, *, takes: bool = False) -> None:
        """Record that Redis answers.

        Args:
            takes: whether it accepted a write that it had refused before.
        """
        if self._refused and (takes or not self.refused):
            log.info("Redis accepts writes again, after %.1f s", self._refused_at - self._refused_since)
            self._refused = ""
        if self._store_lost_since is not None:
            log.info("Redis is back after %.1f s", self.clock.now() - self._store_lost_since)
            self._store_lost_since = None


def _keep(kept: OrderedDict[str, Any], key: str, value: object) -> None:
    """Add an item as the newest; drop the oldest beyond ``TASKS_KEPT``."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > TASKS_KEPT:
        kept.popitem(last=False)
