"""Conversion between rows of the Redis stream and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from snakemap.core.cursor import cursor_numbers
from snakemap.core.documents import WORKER, Entry, Message, WorkerEvent, to_json_line
from snakemap.errors import (
    DocumentError,
)
from snakemap.store.scripts import OWNING

__all__ = ["RawEntry", "RunSpan", "entry_of_row", "raw_entry_of_row", "row_of_message", "span_of_run", "to_json"]

ORPHAN_KEPT_S = 3600.0
"""How long a run without a summary counts as new."""


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry whose document is not parsed; foreign and malformed entries are included.

    Attributes:
        cursor: its place in the stream.
        name: of the document.
        run: uid of its run; empty for none.
        doc: JSON, as it was stored.
    """

    cursor: str
    name: str
    run: str
    doc: bytes

    @property
    def json_line(self) -> bytes:
        """The entry as one line of JSON, without its end."""
        return to_json_line(self.cursor, self.name, self.run, self.doc)


@dataclass(frozen=True, slots=True)
class RunSpan:
    """Index entry of a run.

    Attributes:
        uid: of the run.
        first: cursor of its first document, as numbers; (0, 0) when it has none.
        last: cursor of its newest document, as numbers.
        entries: number of its entries in the stream.
        status: from its summary; None without a summary.
    """

    uid: str
    first: tuple[int, int]
    last: tuple[int, int]
    entries: int
    status: str | None

    def silent_s(self, now_s: float) -> float:
        """Return the seconds since its last document."""
        return now_s - self.last[0] / 1000

    def is_running(self, now_s: float) -> bool:
        """Return whether documents may still come; a run without a summary is new, or never gets one."""
        return self.status == "running" or (self.status is None and self.silent_s(now_s) < ORPHAN_KEPT_S)


def row_of_message(message: Message) -> tuple[str, str, str, bytes, str]:
    """Return the fields of an entry, and the uid that it adds to its run."""
    if isinstance(message, WorkerEvent):
        return WORKER, "", message.task_id or "", to_json(message.body, "a worker event"), ""
    uid = message.doc.get("uid")
    owned = uid if message.name in OWNING and isinstance(uid, str) else ""
    return message.name, message.run, message.task_id or "", to_json(message.doc, f"a {message.name}"), owned


def entry_of_row(row: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    """Return the document of a row of the stream, with its cursor."""
    cursor, fields = row
    return Entry(
        cursor=cursor.decode(),
        name=fields[b"name"].decode(),
        run=fields[b"run"].decode(),
        task_id=fields[b"task"].decode() or None,
        doc=orjson.loads(fields[b"doc"]),
    )


def raw_entry_of_row(row: tuple[bytes, dict[bytes, bytes]]) -> RawEntry:
    """Return a row of the stream without parsing its document."""
    cursor, fields = row
    name, run = (fields.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"run"))
    return RawEntry(cursor.decode(), name, run, fields.get(b"doc", b""))


def span_of_run(uid: str, known_ms: int, row: Sequence[bytes | None]) -> RunSpan:
    """Return the index entry of a run."""
    first, last, entries, summary = row
    return RunSpan(
        uid=uid,
        first=cursor_numbers(first.decode()) if first else (0, 0),
        last=cursor_numbers(last.decode()) if last else (known_ms, 0),
        entries=int(entries or 0),
        status=str(orjson.loads(summary).get("status")) if summary else None,
    )


def to_json(value: Any, what: str) -> bytes:
    """Return a value as JSON; raises ``DocumentError`` with its name if that is impossible."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise DocumentError(f"{what} that cannot be written as JSON: {error}") from error
