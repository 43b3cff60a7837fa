"""Keys in Redis."""

from __future__ import annotations

__all__ = ["LIFE", "OWNERS", "PARTS", "PROGRESS", "RUNS", "STREAM", "WORKER_LEASE", "frame_key", "run_key"]

STREAM = "snakemap:documents"


OWNERS = "snakemap:owners"


RUNS = "snakemap:runs"


PARTS = "snakemap:parts"


PROGRESS = "snakemap:progress"


WORKER_LEASE = "snakemap:lease:ingest"


LIFE = "snakemap:life"


def run_key(uid: str) -> str:
    """Return the key of the index entry of a run."""
    return f"snakemap:run:{uid}"


def frame_key(uid: str, source: str = "") -> str:
    """Return the key of the newest frame of a run."""
    return f"snakemap:frame:{uid}:{source}" if source else f"snakemap:frame:{uid}"
