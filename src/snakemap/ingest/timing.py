"""How long the worker waits, and for what."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

__all__ = ["Clock", "Timeouts"]


class Clock:
    """Wall time; a test brings one that passes when the test says so."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def steady(self) -> float:
        """Return seconds since some moment; they pass evenly, whatever is done to the wall clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The worker's periods and patience, all in seconds.

    Attributes:
        file_timeout_s: from the announcement of a frame until it counts as unreadable.
        silence_s: without any word of an open run until it counts as lost.
        retry_s: before a file that was not ready is looked at again; doubles each time.
        retry_max_s: the longest of these waits.
        quiet_s: after a run has stopped, without a new frame in its file, until it counts as whole.
        grace_s: after the worker's last event of a task, for a stop document that was overtaken.
        reading_s: that one row range of frames should take to read, so that pixels flow and do not jump.
        broken_s: spent on reads that broke the reader, until a file as a whole counts as broken.
        preview_s: between two raw frames for the screen.
        summary_s: between two summaries of a run.
        picture_s: between two small pictures of a run that grows.
        report_s: between two heartbeats; they hold five times as long.
        lease_s: that a worker may be silent before another one takes its place.
        vacant_s: that nobody has the lease before a worker that waited for it takes it, so that a store that has lost
            the lease gets its own worker back.
        store_retry_s: before a store that was away is tried again.
        evict_s: between two looks for runs that are too old to keep.
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
