"""A recording as if it happened now: its runs get uids and times of their own, and belong to no task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from snakemap.core.documents import WORKER, envelope

__all__ = ["REPLAY_OF", "RunRewriter"]

REPLAY_OF = "replay_of"
"""Key of a start document that says which run this is a replay of."""

REFERENCES = ("run_start", "descriptor", "stream_resource", "resource")
DEFINING = ("start", "descriptor", "resource", "stream_resource")
YEAR_S = 366 * 86_400.0


class RunRewriter:
    """Makes documents anew, one after the other, in any order.

    Every uid that a document is known by is exchanged for another, always the same for the same, wherever it is spoken
    of. Times go on from now as they did then, as many times faster as the recording is played.

    What blueapi said of itself and of its tasks is left out, and the runs name no task: the worker would take that for
    news of the task that goes on now.

    Args:
        speed: how many times faster than it was recorded; infinite: all of it happens at once.
        now: seconds since 1970.
        fresh: makes a uid.

    Attributes:
        runs: uids of the new runs, by those of the old ones.
    """

    def __init__(self, *, speed: float, now: float, fresh: Callable[[], str] = lambda: str(uuid4())) -> None:
        self.speed = speed
        self.now = now
        self.fresh = fresh
        self.runs: dict[str, str] = {}
        self._uids: dict[str, str] = {}
        self._base: float | None = None

    def renew(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the same envelope of the same document of another run; None of what is left out."""
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
        """Return a uid for what nobody speaks of; one that is made of another's stays so."""
        own = doc.get("uid")
        if isinstance(own, str):
            renamed = self._renamed(own)
            return {"uid": renamed if renamed != own else self.fresh()}
        if isinstance(own, list):
            return {"uid": [self.fresh() for _ in own]}
        return {}

    def _renamed(self, value: Any) -> Any:
        """Return a value in which every uid that is known has been exchanged, also where a number stands behind it."""
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
        told = configuration.values() if isinstance(configuration, dict) else ()
        for one in (doc, *(one for one in told if isinstance(one, dict))):
            if isinstance(one.get("timestamps"), dict):
                one["timestamps"] = {key: self._moved(value) for key, value in one["timestamps"].items()}

    def _moved(self, value: Any) -> Any:
        """Return a time, or a list of times, of today; what is no time of the recording's (0, say) stays as it is."""
        if isinstance(value, list):
            return [self._moved(one) for one in value]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or self._base is None:
            return value
        since = value - self._base
        if abs(since) > YEAR_S or not math.isfinite(since):
            return value
        return self.now + since / self.speed
