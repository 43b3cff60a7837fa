"""Put documents in order: a parent before its children."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from snakemap.core.documents import Document, parents, shortened
from snakemap.errors import DocumentError

__all__ = ["CausalOrder"]


class CausalOrder:
    """Release documents after the documents they refer to, each with the uid of its run.

    A broker keeps the order of what it delivers, but deliveries start late, stop, and are repeated. A document that
    comes before its parents waits here; of too many, the oldest is given up. Waiting documents are released in order of
    arrival.

    Args:
        owners: uids already known (starts, descriptors, resources), each with its run.
        waiting_max: documents that may wait at one time.
    """

    def __init__(self, owners: Mapping[str, str] | None = None, *, waiting_max: int = 10_000) -> None:
        self.owners: dict[str, str] = dict(owners or {})
        self.waiting_max = waiting_max
        self.given_up = 0
        self._waiting: OrderedDict[int, str] = OrderedDict()
        self._blocked: dict[str, dict[int, Document]] = {}
        self._count = 0
        self._newest = ""

    @property
    def waiting(self) -> int:
        """Documents that wait for another."""
        return len(self._waiting)

    @property
    def newest_waiting(self) -> int:
        """Number of the last document that had to wait, from 1 on; 0 if none had to."""
        return self._count

    def waits(self, number: int) -> bool:
        """Return whether a document, by its number, still waits for another."""
        return number in self._waiting

    def accept(self, document: Document) -> list[Document]:
        """Add one document; return those released now, in order: none if it must wait.

        Raises:
            DocumentError: if too many wait; it names the one given up. The new document waits in its place.
        """
        blocker = self._blocker(document)
        if blocker is None:
            ready = replace(document, run=self._run_of(document))
            return [ready, *self._release(self._register(ready))]
        self._count += 1
        self._wait(self._count, document, blocker)
        if len(self._waiting) > self.waiting_max:
            self._give_up()
        return []

    def learn(self, owners: Mapping[str, str]) -> list[Document]:
        """Add uids that are known from elsewhere; return the documents released by them, in order."""
        new = {uid: run for uid, run in owners.items() if uid not in self.owners}
        self.owners.update(new)
        freed: dict[int, Document] = {}
        for uid in new:
            freed.update(self._blocked.pop(uid, {}))
        return self._release(freed)

    def forget(self, run: str) -> None:
        """Drop the uids of a run."""
        self.owners = {uid: owner for uid, owner in self.owners.items() if owner != run}
        self._newest = "" if self._newest == run else self._newest

    def _blocker(self, document: Document) -> str | None:
        """Return the first missing parent, ``""`` if any start is missing, or None if nothing is missing."""
        if document.name == "start":
            return None
        needed = parents(document.name, document.doc)
        if _leaves_run_out(document):
            return None if self._newest else ""
        return next((uid for uid in needed if uid not in self.owners), None) if needed else ""

    def _run_of(self, document: Document) -> str:
        if document.name == "start":
            return document.doc["uid"]
        return self._newest if _leaves_run_out(document) else self.owners[parents(document.name, document.doc)[0]]

    def _register(self, document: Document) -> dict[int, Document]:
        """Record the run of a document; return what waited for it, by order of arrival."""
        if document.name not in ("start", "descriptor", "resource", "stream_resource"):
            return {}
        uid = document.doc["uid"]
        self.owners.setdefault(uid, document.run)
        freed = self._blocked.pop(uid, {})
        if document.name == "start":
            self._newest = document.run
            freed = {**freed, **self._blocked.pop("", {})}
        return freed

    def _release(self, freed: dict[int, Document]) -> list[Document]:
        released: list[Document] = []
        heap = sorted(freed.items())  # keys are unique, so documents are never compared
        while heap:
            key, document = heapq.heappop(heap)
            blocker = self._blocker(document)
            if blocker is not None:
                self._wait(key, document, blocker)
                continue
            del self._waiting[key]
            ready = replace(document, run=self._run_of(document))
            released.append(ready)
            for entry in self._register(ready).items():
                heapq.heappush(heap, entry)
        return released

    def _wait(self, key: int, document: Document, blocker: str) -> None:
        self._waiting[key] = blocker
        self._blocked.setdefault(blocker, {})[key] = document

    def _give_up(self) -> None:
        key, blocker = self._waiting.popitem(last=False)
        lost = self._blocked[blocker].pop(key)
        if not self._blocked[blocker]:
            del self._blocked[blocker]
        self.given_up += 1
        raise DocumentError(
            f"a {lost.name} whose run has no start document here: {shortened(parents(lost.name, lost.doc))}"
        )


def _leaves_run_out(document: Document) -> bool:
    """Return whether it is a resource without its run, which event-model allows: it belongs to the newest run."""
    return document.name in ("resource", "stream_resource") and not isinstance(document.doc.get("run_start"), str)
