"""Lines of the event log: write, read the last one, repair a torn one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from snakemap.core.cursor import cursor_ms, cursor_numbers
from snakemap.core.documents import WORKER, Entry, envelope

__all__ = ["PIECE_BYTES", "Received", "cut_torn_line", "entry_line", "last_cursor", "name_part", "unread_line"]

PIECE_BYTES = 1 << 20
"""Maximum that is written or read at once, unless one line is longer."""


UNREAD_BYTES_MAX = 1_000_000
"""Maximum that is kept of a message that cannot be decoded."""


LINES_LOOKED_AT = 64


NO_RUN = "_no-run"


SAFE_UID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Received(Protocol):
    """A message as delivered by the broker."""

    @property
    def body(self) -> bytes:
        """The undecoded body."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the message."""
        ...


def entry_line(entry: Entry) -> bytes:
    """Return an entry as a line with the broker's message."""
    body = entry.doc if entry.name == WORKER else envelope(entry.name, entry.doc, task_id=entry.task_id)
    headers = {"correlation-id": entry.task_id} if entry.name == WORKER and entry.task_id else {}
    line = {
        "t": cursor_ms(entry.cursor) / 1000,
        "cursor": entry.cursor,
        "cmd": "MESSAGE",
        "headers": headers,
        "body": orjson.dumps(body).decode(),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def unread_line(message: Received, why: str, *, now: float, after: str) -> bytes:
    """Return the line of a message that could not be decoded, with the reason."""
    body = message.body[:UNREAD_BYTES_MAX]
    line: dict[str, Any] = {
        "t": now,
        "after": after,
        "cmd": "MESSAGE",
        "headers": {str(key)[:200]: str(value)[:1000] for key, value in list(message.headers.items())[:50]},
        "body": body.decode("utf-8", "replace"),
        "trouble": why[:500],
    }
    if len(body) < len(message.body):
        line["bytes"] = len(message.body)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def name_part(uid: str) -> str:
    """Return a uid as a part of a file name.

    >>> name_part("538ed5b9-5182"), name_part("../../etc/passwd")
    ('538ed5b9-5182', '_3754d6cb3a38e1185e5b382d5f3ef3f1')
    """
    if not uid or SAFE_UID.fullmatch(uid):
        return uid or NO_RUN
    return "_" + hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cut_torn_line(path: Path) -> int:
    """Cut off a last line without an end; return the size of the file then."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - PIECE_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
        return end


def last_cursor(path: Path) -> tuple[int, int]:
    """Return the cursor in the last lines of a file; (0, 0) without one."""
    if path.suffix == ".gz":
        return (0, 0)
    for number, line in enumerate(_lines_from_end(path)):
        try:
            content = orjson.loads(line)
            return cursor_numbers(content.get("cursor") or content["after"])
        except (KeyError, AttributeError, TypeError, ValueError):
            if number >= LINES_LOOKED_AT:
                break
    return (0, 0)


def _lines_from_end(path: Path) -> Iterable[bytes]:
    """Return the lines of a file, the last one first."""
    with path.open("rb") as file:
        end, rest = file.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(0, end - PIECE_BYTES)
            file.seek(start)
            lines = (file.read(end - start) + rest).split(b"\n")
            rest, end = lines[0], start
            yield from (line for line in reversed(lines[1:]) if line)
        if rest:
            yield rest
