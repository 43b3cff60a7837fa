"""What the worker knows of itself: what went wrong how often, who was heard when; the heartbeat is made of it."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
"""Between two lines of the log about a store that refuses what is new."""

REFUSED_HOLDS_S = 5.0
"""How long a refusal counts, unless the same call succeeds before; whoever has something to store asks more often."""


class WorkerStats:
    """Counts of the whole worker; both of its halves write here.

    Args:
        clock: wall time.
        pace: how long to wait for a store that is away.

    Attributes:
        errors: how often something of a kind went wrong, by the code of the error, like ``{"document": 3}``.
        work: what has been done.
        worker_state: blueapi's last word of itself, like ``"RUNNING"``; empty before the first.
        task_id: the task that it spoke of, or None.
        heard: when a task was last heard of in any way, in seconds since 1970, by task id.
        ended: when the last event of a task came, in seconds since 1970, by task id.
    """

    def __init__(self, clock: Clock, pace: Timeouts) -> None:
        self.clock = clock
        self.pace = pace
        self.errors: Counter[str] = Counter()
        self.work = Work(since=clock.now())
        self.worker_state = ""
        self.task_id: str | None = None
        self.heard: OrderedDict[str, float] = OrderedDict()
        self.ended: OrderedDict[str, float] = OrderedDict()
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._store_lost_since: float | None = None
        self._refused = ""
        self._refused_since = self._refused_at = self._refused_said_at = 0.0

    def trouble(self, error: SnakemapError, *, about: str) -> None:
        """Count what went wrong, and logs it; the same kind about the same thing once in ten seconds."""
        self.errors[error.code] += 1
        key = f"{error.code} {about}"
        since, unsaid = self._told.get(key, (0.0, 0))
        if self.clock.now() - since < REPEAT_S:
            self._told[key] = (since, unsaid + 1)
            return
        _keep(self._told, key, (self.clock.now(), 0))
        log.warning("%s: %s%s", about, error, f" (and {unsaid} more like it)" if unsaid else "")

    def hear(self, task_id: str | None) -> None:
        """Note that a task gave a sign of life."""
        if task_id:
            _keep(self.heard, task_id, self.clock.now())

    def take(self, event: WorkerEvent) -> None:
        """Note what blueapi's worker says of itself.

        A paused task too is called complete and failed, though it can go on (blueapi 1.21): only an idle worker's word
        is the last one.
        """
        self.worker_state, self.task_id = event.state, event.task_id
        self.hear(event.task_id)
        if event.task_id and event.state == "RUNNING":
            self.ended.pop(event.task_id, None)
        if event.task_id and event.complete and event.state in ("IDLE", "PANICKED"):
            _keep(self.ended, event.task_id, self.clock.now())

    def paused(self, task_id: str | None) -> bool:
        """Return whether a task is known to stand still."""
        return bool(task_id) and self.task_id == task_id and self.worker_state in ("PAUSING", "PAUSED", "SUSPENDING")

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Ask the store until it answers; its absence is said once, and so is its return."""
        refused = False
        while True:
            try:
                result = await call()
            except StoreUnavailable as trouble:
                end_if_cancelled()
                refused = refused or isinstance(trouble, StoreRefuses)
                self.store_lost(trouble)
                await self.clock.sleep(self.pace.store_retry_s)
            else:
                end_if_cancelled()
                self.store_found(takes=refused)
                return result

    def store_lost(self, trouble: StoreUnavailable) -> None:
        """Note that the store is away, or that it can be read and refuses what is new."""
        if isinstance(trouble, StoreRefuses):
            self._store_refuses(trouble)
        elif self._store_lost_since is None:
            self._store_lost_since = self.clock.now()
            self.errors[trouble.code] += 1
            log.warning("waiting for the store, nothing is lost: %s", trouble)

    @property
    def refused(self) -> str:
        """The code word that the store refuses documents with just now, like ``"OOM"``; empty while it takes them."""
        return self._refused if self.clock.now() - self._refused_at < REFUSED_HOLDS_S else ""

    def _store_refuses(self, trouble: StoreRefuses) -> None:
        now = self.clock.now()
        if not self._refused:
            self.errors[trouble.code] += 1
            self._refused_since = now
        if not self._refused or now - self._refused_said_at >= REFUSED_AGAIN_S:
            self._refused_said_at = now
            log.warning("nothing new is stored for %.0f s, nothing is lost: %s", now - self._refused_since, trouble)
        self._refused, self._refused_at = trouble.word, now

    def store_found(self, *, takes: bool = False) -> None:
        """Note that the store answers.

        Args:
            takes: whether it has taken what it refused before.
        """
        if self._refused and (takes or not self.refused):
            log.info("the store takes what is new again, after %.1f s", self._refused_at - self._refused_since)
            self._refused = ""
        if self._store_lost_since is not None:
            log.info("the store is back after %.1f s", self.clock.now() - self._store_lost_since)
            self._store_lost_since = None


def _keep(kept: OrderedDict, key: str, value: object) -> None:
    """Put the newest last and forgets the oldest beyond a bound."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > TASKS_KEPT:
        kept.popitem(last=False)
