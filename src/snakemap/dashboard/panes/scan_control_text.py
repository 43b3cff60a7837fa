"""The state of blueapi's worker and the estimate of a plan, as text."""

from __future__ import annotations

from snakemap.blueapi.plan_estimate import Estimate
from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.dashboard.panes.status_text import duration
from snakemap.dashboard.task_text import failure_words

__all__ = ["estimate_text", "last_error", "worker_words"]

LEVELS = {"IDLE": "good", "RUNNING": "good", "PANICKED": "bad"}


def worker_words(worker: WorkerStatus, *, connected: bool = True) -> tuple[str, str]:
    """What a worker does in a few words, and the color of its lamp.

    >>> worker_words(WorkerStatus("IDLE")), worker_words(WorkerStatus(trouble="gone"))
    (('blueapi is idle', 'good'), ('blueapi unavailable', 'bad'))
    """
    if not connected:
        return "no blueapi", "idle"
    if worker.trouble:
        return "blueapi unavailable", "bad"
    if not worker.state:
        return "connecting to blueapi…", "idle"
    task = f" {worker.task.name}" if worker.task is not None and worker.state != "IDLE" else ""
    return f"blueapi is {worker.state.lower()}{task}", LEVELS.get(worker.state, "warn")


def estimate_text(told: Estimate) -> str:
    """What a scan will come to, in words.

    >>> estimate_text(Estimate(600, 1200, 90.0)), estimate_text(Estimate(600, 600, None))
    ('600 points, 1,200 frames, about 1:30', '600 points, 600 frames')
    """
    if told.points is None:
        return "No estimate possible"
    time_told = f", about {duration(told.seconds)}" if told.seconds is not None else ""
    return f"{told.points:,} points, {told.frames:,} frames{time_told}"


def last_error(worker: WorkerStatus) -> str:
    """Return what went wrong with the last task, in words."""
    task = worker.task
    if task is None or not task.complete or not task.errors:
        return ""
    return f"last task, {task.name}: {failure_words(task.errors[-1], task.kind)}"
