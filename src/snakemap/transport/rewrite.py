"""Rewrite a recording as new runs: with new uids and current times, and without tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from snakemap.core.documents import WORKER, envelope

__all__ = ["REPLAY_OF", "RunRewriter"]

REPLAY_OF = "replay_of"
"""Key of a start document with the uid of the replayed run."""

REFERENCES = ("run_start", "descriptor", "stream_resource", "resource")
DEFINING = ("start", "descriptor", "resource", "stream_resource")
YEAR_S = 366 * 86_400.0


class RunRewriter:
    """Rewrites documents one after the other, in any order.

    Every uid is replaced by a new one, consistently, wherever it occurs. Times continue from now, scaled by ``speed``.

    Worker events are dropped and runs name no task: the worker would take them for the state of the current task.

    Args:
        speed: of the replay; 1 for the original speed, infinite for all at once.
        now: seconds since 1970.
        fresh: makes a uid.

    Attributes:
        runs: new uids of the runs, by the old ones.
    """

    def __init__(self, *, speed: float, now: float, fresh: Callable[[], str] = lambda: str(uuid4())) -> None:
        self.speed = speed
        self.now = now
        self.fresh = fresh
        self.runs: dict[str, str] = {}
        self._uids: dict[str, str] = {}
        self._base: float | None = None

    def renew(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return an envelope with the rewritten document; None for one that is dropped."""
        name, doc = body.get("name"), body.get("doc")
        if not isinstance(name, str) or not isinstance(doc, dict) or name == WORKER:
            return None
        for key in REFERENCES:
            if isinstance(doc.get(key), str):
                self._new(doc[key])
        own = doc.get("uid")
        if name in DEFINING and isinstance(own, str):
            self._new(own)
        made = self._renamed(doc)
        if name not in DEFINING:
            made |= self._own(doc)
        if name == "start" and isinstance(own, str):
            self.runs[own] = self._uids[own]
            made.pop("blueapi_task_id", None)
            made[REPLAY_OF] = own
        self._retime(made)
        return envelope(name, made, task_id=None)

    def _new(self, uid: str) -> str:
        return self._uids.setdefault(uid, self.fresh()) if uid not in self._uids else self._uids[uid]

    def _own(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """Return a new uid for a document without references; one that contains another uid keeps its form."""
        own = doc.get("uid")
        if isinstance(own, str):
            renamed = self._renamed(own)
            return {"uid": renamed if renamed != own else self.fresh()}
        if isinstance(own, list):
            return {"uid": [self.fresh() for _ in own]}
        return {}

    def _renamed(self, value: Any) -> Any:
        """Return a value with all known uids replaced, also those followed by a number."""
        if isinstance(value, str):
            known = self._uids.get(value)
            if known is not None:
                return known
            head, slash, tail = value.rpartition("/")
            return f"{self._uids[head]}/{tail}" if slash and head in self._uids else value
        if isinstance(value, dict):
            return {key: self._renamed(one) for key, one in value.items()}
        if isinstance(value, list) and not (value and isinstance(value[0], (int, float))):
            return [self._renamed(one) for one in value]
        return value

    def _retime(self, doc: dict[str, Any]) -> None:
        if "time" in doc:
            if self._base is None and isinstance(doc["time"], (int, float)) and doc["time"] > 0:
                self._base = float(doc["time"])
            doc["time"] = self._moved(doc["time"])
        configuration = doc.get("configuration")
        configured = configuration.values() if isinstance(configuration, dict) else ()
        for one in (doc, *(one for one in configured if isinstance(one, dict))):
            if isinstance(one.get("timestamps"), dict):
                one["timestamps"] = {key: self._moved(value) for key, value in one["timestamps"].items()}

    def _moved(self, value: Any) -> Any:
        """Return a current time, or a list of them; values that are no time of the recording (like 0) stay."""
        if isinstance(value, list):
            return [self._moved(one) for one in value]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or self._base is None:
            return value
        since = value - self._base
        if abs(since) > YEAR_S or not math.isfinite(since):
            return value
        return self.now + since / self.speed
