"""The worker's own log of what the broker delivered, one message a line, a file a day.

It has the format of our recordings, so that ``snakemap replay`` gives back what a Redis without persistence has lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import orjson

__all__ = ["EventsLog"]

log = logging.getLogger(__name__)

DAY_S = 86_400.0


class Received(Protocol):
    """A message as a broker delivers it."""

    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class EventsLog:
    """Files ``events-20261123.jsonl`` in a directory, by the day in UTC.

    Args:
        directory: made when it is not there.
        keep_days: days after which a file is deleted.
    """

    def __init__(self, directory: Path, *, keep_days: float) -> None:
        self.directory = directory
        self.keep_s = keep_days * DAY_S
        self.working = True
        self._day = ""

    def write(self, frames: Iterable[Received], *, now: float) -> None:
        """Adds messages; a disk that is full or not ours is said once, and once when it is well again."""
        lines = b"".join(_line(frame, now) for frame in frames)
        if not lines:
            return
        try:
            with self._path(now).open("ab") as file:
                file.write(lines)
        except OSError as error:
            if self.working:
                log.warning("the log of events in %s cannot be written: %s", self.directory, error)
            self.working = False
        else:
            if not self.working:
                log.info("the log of events in %s is being written again", self.directory)
            self.working = True

    def _path(self, now: float) -> Path:
        day = time.strftime("%Y%m%d", time.gmtime(now))
        if day != self._day:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in self.directory.glob("events-*.jsonl"):
                if now - path.stat().st_mtime > self.keep_s:
                    path.unlink(missing_ok=True)
            self._day = day
        return self.directory / f"events-{day}.jsonl"


def _line(frame: Received, now: float) -> bytes:
    line = {"t": now, "cmd": "MESSAGE", "headers": dict(frame.headers), "body": frame.body.decode("utf-8", "replace")}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
