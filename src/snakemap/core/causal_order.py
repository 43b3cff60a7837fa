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
    """Hands documents on only when those they refer to have been handed on, each with the uid of its run.

    A broker keeps the order of what it delivers, but deliveries start late, stop, and are repeated. What has come too
    early waits here, a bounded number of documents and then the oldest is given up; everything else goes straight on.
    What waited goes on in the order in which it came, as far as its parents let it.

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
        """Number of the document that had to wait last, from 1 on; 0 while none had to."""
        return self._count

    def waits(self, number: int) -> bool:
        """Whether a document, by its number, still waits for another."""
        return number in self._waiting

    def accept(self, document: Document) -> list[Document]:
        """Takes one document in and returns those that can go on now, in order; an empty list when it must wait.

        Raises:
            DocumentError: when too many wait; it names the one given up, and the newcomer waits in its place.
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
        """Takes uids in that others have handed on; returns what waited for them and can go on now, in order."""
        new = {uid: run for uid, run in owners.items() if uid not in self.owners}
        self.owners.update(new)
        freed: dict[int, Document] = {}
        for uid in new:
            freed.update(self._blocked.pop(uid, {}))
        return self._release(freed)

    def forget(self, run: str) -> None:
        """Drops everything known of a run, so that memory follows the runs that are kept."""
        self.owners = {uid: owner for uid, owner in self.owners.items() if owner != run}
        self._newest = "" if self._newest == run else self._newest

    def _blocker(self, document: Document) -> str | None:
        """The first parent that has not come yet, ``""`` for want of any start, or None when nothing is missing."""
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
        """Remembers whose a document is; returns what has waited for it, by order of arrival."""
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
        raise DocumentError(f"a {lost.name} whose run never began here: {shortened(parents(lost.name, lost.doc))}")


def _leaves_run_out(document: Document) -> bool:
    """Whether it is a resource without its run, which event-model allows: then the newest run is meant."""
    return document.name in ("resource", "stream_resource") and not isinstance(document.doc.get("run_start"), str)
