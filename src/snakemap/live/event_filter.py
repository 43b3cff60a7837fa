"""Select events by run, by name and by text."""

from __future__ import annotations

from dataclasses import dataclass

from snakemap.core.documents import Entry
from snakemap.store.entries import RawEntry

__all__ = ["NO_RUN", "EventFilter", "EventRow"]

NO_RUN = "-"
"""Filter value for events without a run."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """Summary of one event.

    Attributes:
        cursor: its place in the stream.
        name: of the document.
        run: uid of its run, or empty.
        summary: one line.
        size: bytes of its document.
    """

    cursor: str
    name: str
    run: str
    summary: str
    size: int


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Filter of events; empty fields select all.

    Attributes:
        run: uid of a run, or :data:`NO_RUN`.
        names: of documents.
        text: part of the document's JSON, in any case of ASCII letters, with or without a blank after ``:`` and ``,``.

    >>> EventFilter(text='"exit_status": "ABORT"').takes_doc(b'{"exit_status":"abort"}')
    True
    """

    run: str = ""
    names: frozenset[str] = frozenset()
    text: str = ""

    def takes(self, event: EventRow | RawEntry | Entry) -> bool:
        """Return whether run and name match."""
        if self.run and event.run != ("" if self.run == NO_RUN else self.run):
            return False
        return not self.names or event.name in self.names

    def takes_all(self, event: RawEntry) -> bool:
        """Return whether run, name and text match."""
        return self.takes(event) and self.takes_doc(event.doc)

    def takes_doc(self, doc: bytes) -> bool:
        """Return whether the text is in a document."""
        return not self.text or any(needle in doc.lower() for needle in self._needles)

    @property
    def _needles(self) -> tuple[bytes, ...]:
        text = self.text.encode("utf-8", "replace").lower()
        return tuple({text, text.replace(b": ", b":").replace(b", ", b",")})
