"""Messages of the simulated blueapi, as of the real one, and their sinks.

A sink is anything with `publish(body, correlation_id)`: a broker, a store, a list in a test, or a recording. Bodies are
plain JSON types; the correlation id is the task's on worker and progress events and None on documents, as recorded from
blueapi 1.21.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from snakemap.core.documents import envelope

__all__ = ["FileSink", "Progress", "Sink", "WorkerPublisher"]

logger = logging.getLogger(__name__)

DESTINATION = "/topic/public.worker.event"
STATES = {"running": "RUNNING", "aborting": "ABORTING", "stopping": "STOPPING", "halting": "HALTING", "idle": "IDLE"}
"""Names of RunEngine states in blueapi."""


class Sink(Protocol):
    """A receiver of messages; called from several threads, but never concurrently."""

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Publish one message; an exception fails the scan, as a real one without its broker."""
        ...


class FileSink:
    """Record every message as one line of JSON, in the format of recordings: `{"t", "cmd", "headers", "body"}`.

    Args:
        path: the file, which is replaced at the first message, or on entering.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._count = 0

    def __enter__(self) -> FileSink:
        self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Write the message immediately.

        Raises:
            OSError: the file cannot be written.
        """
        self._count += 1
        text = orjson.dumps(body)
        headers = {
            "subscription": "1",
            "destination": DESTINATION,
            "message-id": f"T_1@@simulated@@{self._count}",
            "redelivered": "false",
            "JMSType": "TextMessage",
        }
        if correlation_id is not None:
            headers["correlation-id"] = correlation_id
        headers["content-length"] = str(len(text))
        line = {"t": time.time(), "cmd": "MESSAGE", "headers": headers, "body": text.decode()}
        file = self._open()
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("ab" if self._count > 1 else "wb")
        return self._file


class WorkerPublisher:
    """Publish the states, documents and progress of one task, in blueapi's envelopes.

    Args:
        sink: of all messages.
        progress_period_s: minimum time between two progress events.
        clock: monotonic seconds.
    """

    def __init__(
        self, sink: Sink, *, progress_period_s: float = 0.1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sink = sink
        self.task_id = ""
        self.run = ""
        self.stop: dict[str, Any] | None = None
        self._progress = Progress(self._publish_progress, period_s=progress_period_s, clock=clock)
        self._lost = False
        self._silent = False
        self._one_at_a_time = threading.Lock()

    def begin(self, task_id: str) -> None:
        """Begin a new task."""
        self.task_id, self.run, self.stop = task_id, "", None
        self._lost = self._silent = False
        self._progress.forget()

    def lose(self, *, final_idle: bool) -> None:
        """Publish no more of this run, except optionally that the worker is idle again."""
        self._lost, self._silent = True, not final_idle

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Publish a document; a callback for the RunEngine."""
        # through JSON and back: tuples become lists, NaN null, numpy numbers plain, and the copy is independent
        plain = orjson.loads(orjson.dumps(doc, option=orjson.OPT_SERIALIZE_NUMPY))
        if name == "start":
            self.run = plain["uid"]
        if name == "stop":
            self.stop = plain
        if not self._lost:
            self._send(envelope(name, plain, task_id=self.task_id), None)

    def state(self, new: str, old: str | None = None) -> None:
        """Publish the worker's state; a state hook for the RunEngine.

        Args:
            new: of the RunEngine, like ``"running"``.
            old: the previous one; ignored.
        """
        if new in STATES:
            self._worker(STATES[new], result=None, error="")

    def finished(self, result: dict[str, Any]) -> None:
        """Publish the outcome of a task: ``{"outcome": "success" | "error", ...}``."""
        self._worker("IDLE", result=result, error="" if result["outcome"] == "success" else result["message"])

    def waiting(self, statuses: Iterable[Any] | None) -> None:
        """Follow the statuses that the plan waits for; a waiting hook for the RunEngine."""
        self._progress.follow(statuses or ())

    def _worker(self, state: str, *, result: dict[str, Any] | None, error: str) -> None:
        if self._silent or (self._lost and state != "IDLE"):
            return
        status = {
            "task_id": self.task_id,
            "result": result,
            "task_complete": result is not None,
            "task_failed": bool(error),
        }
        body = {"state": state, "task_status": status, "errors": [error] if error else [], "warnings": []}
        self._send(body, self.task_id)

    def _publish_progress(self, statuses: dict[str, dict[str, Any]]) -> None:
        if not self._lost:
            self._send({"task_id": self.task_id, "statuses": statuses}, self.task_id)

    def _send(self, body: dict[str, Any], correlation_id: str | None) -> None:
        with self._one_at_a_time:
            self.sink.publish(body, correlation_id)


class Progress:
    """Convert updates of the statuses that the plan waits for into blueapi's progress events, rate-limited.

    Args:
        publish: called with the statuses of one event, by uuid.
        period_s: minimum time between two events; updates in between are dropped.
        clock: monotonic seconds.
    """

    def __init__(
        self, publish: Callable[[dict[str, dict[str, Any]]], None], *, period_s: float, clock: Callable[[], float]
    ) -> None:
        self._publish = publish
        self._period_s = period_s
        self._clock = clock
        self._next_s = 0.0
        self._views: dict[str, dict[str, Any]] = {}

    def forget(self) -> None:
        """Drop all statuses of the previous task."""
        self._views.clear()
        self._next_s = 0.0

    def follow(self, statuses: Iterable[Any]) -> None:
        """Follow statuses until they are done."""
        for status in statuses:
            if getattr(status, "done", False):
                continue
            key = str(uuid.uuid4())
            self._views[key] = _view()
            if hasattr(status, "watch"):
                status.watch(lambda key=key, **update: self._update(key, **update))
            status.add_callback(lambda _, key=key: self._views.pop(key, None))

    def _update(self, key: str, **update: Any) -> None:
        if key not in self._views:
            return
        self._views[key] = _view(**update)
        now = self._clock()
        if now >= self._next_s:
            self._next_s = now + self._period_s
            self._publish({key: dict(view) for key, view in self._views.items()})


def _view(**update: Any) -> dict[str, Any]:
    fraction = update.get("fraction")
    return {
        "display_name": update.get("name") or "Unknown",
        "current": update.get("current"),
        "initial": update.get("initial"),
        "target": update.get("target"),
        "unit": update.get("unit") or "units",
        "precision": update.get("precision"),
        "done": False,
        "percentage": None if fraction is None else 1.0 - fraction,
        "time_elapsed": update.get("time_elapsed"),
        "time_remaining": update.get("time_remaining"),
    }
