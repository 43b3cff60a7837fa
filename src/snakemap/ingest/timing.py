"""Clock and timeouts of the worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

__all__ = ["Clock", "Timeouts"]


class Clock:
    """Wall time; tests replace it."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def steady(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Periods and timeouts of the worker, in seconds.

    Attributes:
        file_timeout_s: from the announcement of a frame until it counts as unreadable.
        silence_s: without a document of an open run until it counts as lost.
        retry_s: before a file that was not ready is read again; doubles each time.
        retry_max_s: maximum of this delay.
        quiet_s: after a stop, without a new frame in the file, until the run counts as complete.
        grace_s: after the last event of a task, for a stop document that was overtaken.
        reading_s: target duration of one read, so that points appear steadily.
        broken_s: total of reads that broke the reader, until the whole file counts as broken.
        preview_s: between two preview frames.
        summary_s: between two summaries of a run.
        picture_s: between two thumbnails of a growing run.
        report_s: between two heartbeats; they expire after five times as long.
        lease_s: without renewal until another worker takes over.
        vacant_s: without a lease before a waiting worker takes it, so that a store that has lost the lease gets its own
            worker back.
        store_retry_s: before a failed call to Redis is repeated.
        evict_s: between two checks for expired runs.
    """

    file_timeout_s: float = 10.0
    silence_s: float = 900.0
    retry_s: float = 0.02
    retry_max_s: float = 0.5
    quiet_s: float = 1.0
    grace_s: float = 2.0
    reading_s: float = 0.05
    broken_s: float = 5.0
    preview_s: float = 0.25
    summary_s: float = 0.25
    picture_s: float = 10.0
    report_s: float = 1.0
    lease_s: float = 10.0
    vacant_s: float = 3.0
    store_retry_s: float = 0.25
    evict_s: float = 600.0
