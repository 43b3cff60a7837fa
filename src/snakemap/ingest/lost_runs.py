"""Detect runs that never get a stop document.

blueapi 1.21 sends none after a failed resume, or when its broker was away. A run is lost when its task has ended,
another task has begun a run on the same instrument, or no document came for too long.
"""

from __future__ import annotations

from collections.abc import Iterable

from snakemap.core.run import Run
from snakemap.ingest.worker_stats import WorkerStats

__all__ = ["lost_because"]


def lost_because(run: Run, later: Iterable[Run], *, stats: WorkerStats, listening_since: float | None) -> str:
    """Return why an open run will never get its stop document; empty while it may.

    Args:
        run: an open run.
        later: runs that began after it.
        stats: clock, and when tasks were active.
        listening_since: since when messages arrive without a break, in seconds since 1970; 0 without a broker, None
            while the broker cannot be reached: then silence means nothing.
    """
    if run.opened:
        return ""  # it was opened from a file and has no task
    now, timeouts = stats.clock.now(), stats.timeouts
    ended = stats.ended.get(run.task_id or "")
    if ended is not None and now - max(ended, run.updated) > timeouts.grace_s:
        return "its task ended without a stop document"
    if any(_replaces(other, run) for other in later):
        return "another task began a run on this instrument"
    if listening_since is None or stats.paused(run.task_id):
        return ""
    last = max(run.updated, stats.last_seen.get(run.task_id or "", 0.0), listening_since)
    return f"no documents for {now - last:,.0f} s" if now - last > timeouts.silence_s else ""


def _replaces(other: Run, run: Run) -> bool:
    """Return whether a later run proves that this one is over: tasks never overlap, but runs of one task may nest."""
    if not other.task_id or not run.task_id or other.task_id == run.task_id:
        return False
    return other.start.get("instrument") == run.start.get("instrument")
