"""When a run that never got a stop document counts as lost.

It happens: blueapi 1.21 sends none after a failed resume, or when its broker was away. Three signs tell that a run is
over: its task has ended, another task began a run on the same instrument, or nothing was heard for too long.
"""

from __future__ import annotations

from collections.abc import Iterable

from snakemap.core.run import Run
from snakemap.ingest.worker_stats import WorkerStats

__all__ = ["lost_because"]


def lost_because(run: Run, later: Iterable[Run], *, tally: WorkerStats, listening_since: float | None) -> str:
    """Return why an open run will never get its stop document; empty while it may.

    Args:
        run: an open run.
        later: runs that began after it.
        tally: who was heard when.
        listening_since: since when the broker's messages have come in without a break, in seconds since 1970; 0 where
            there is no broker to wait for, None while it is away: then silence means nothing.
    """
    if run.opened:
        return ""  # it has no task, and nobody speaks of it but us
    now, pace = tally.clock.now(), tally.pace
    ended = tally.ended.get(run.task_id or "")
    if ended is not None and now - max(ended, run.updated) > pace.grace_s:
        return "its task ended without a stop document"
    if any(_replaces(other, run) for other in later):
        return "another task began a run on this instrument"
    if listening_since is None or tally.paused(run.task_id):
        return ""
    heard = max(run.updated, tally.heard.get(run.task_id or "", 0.0), listening_since)
    return f"no documents for {now - heard:,.0f} s" if now - heard > pace.silence_s else ""


def _replaces(other: Run, run: Run) -> bool:
    """Return whether a later run proves that this one is over: tasks never overlap, but runs of one task may nest."""
    if not other.task_id or not run.task_id or other.task_id == run.task_id:
        return False
    return other.start.get("instrument") == run.start.get("instrument")
