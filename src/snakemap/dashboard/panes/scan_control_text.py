"""The state of blueapi's worker and the estimate of a plan, as text."""

from __future__ import annotations

from snakemap.blueapi.plan_estimate import Estimate
from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.dashboard.panes.status_text import duration
from snakemap.dashboard.task_text import failure_text

__all__ = ["estimate_text", "last_error", "worker_text"]

LEVELS = {"IDLE": "good", "RUNNING": "good", "PANICKED": "bad"}


def worker_text(worker: WorkerStatus, *, connected: bool = True) -> tuple[str, str]:
    """Return the state of the worker as text, and the color of its indicator.

    >>> worker_text(WorkerStatus("IDLE")), worker_text(WorkerStatus(trouble="gone"))
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


def estimate_text(expected: Estimate) -> str:
    """Return the points, frames and duration of a scan as text.

    >>> estimate_text(Estimate(600, 1200, 90.0)), estimate_text(Estimate(600, 600, None))
    ('600 points, 1,200 frames, about 1:30', '600 points, 600 frames')
    """
    if expected.points is None:
        return "No estimate possible"
    time_text = f", about {duration(expected.seconds)}" if expected.seconds is not None else ""
    return f"{expected.points:,} points, {expected.frames:,} frames{time_text}"


def last_error(worker: WorkerStatus) -> str:
    """Return what went wrong with the last task, as text."""
    task = worker.task
    if task is None or not task.complete or not task.errors:
        return ""
    return f"last task, {task.name}: {failure_text(task.errors[-1], task.kind)}"
