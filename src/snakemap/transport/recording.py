"""Recordings of messages of a broker: JSON lines, in one file or in the parts of the event log.

A line is ``{"t", "cmd", "headers", "body"}`` with the body as text, as in recordings and the event log; or a bare
body; or ``{"cursor", "name", "run", "doc"}``, as from ``snakemap listen --json`` and the event log page.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from snakemap.core.cursor import cursor_ms
from snakemap.core.documents import WORKER
from snakemap.errors import SettingsError

__all__ = ["Recorded", "Recording", "recorded_message", "recordings"]

log = logging.getLogger(__name__)

PART = re.compile(r"(.+)\.(\d{4,6})\.jsonl(\.gz)?")
GZIP = b"\x1f\x8b"
LINE_BYTES_MAX = 64 * 1024 * 1024
BAD_LINES_LOGGED = 10
"""Invalid lines that are logged one by one."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of a recording.

    Attributes:
        at: when it was received, in seconds since 1970; 0 when unknown.
        body: JSON object.
        correlation_id: blueapi's task, on worker events; None on documents.
    """

    at: float
    body: dict[str, Any]
    correlation_id: str | None


class Recording:
    """One recording, in its original order.

    Args:
        files: its parts, plain or gzip, with any names.

    Attributes:
        done: bytes that have been read.
        size: bytes of all parts.
        bad: number of invalid lines.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self.done = 0
        self.size = sum(_size(file) for file in self.files)
        self.bad = 0

    def messages(self) -> Iterator[Recorded]:
        """Yield every message; invalid lines are logged, counted and skipped.

        Raises:
            SettingsError: when a file cannot be read.
        """
        before = 0
        for file in self.files:
            try:
                with file.open("rb") as raw:

                    def note(raw: IO[bytes] = raw, before: int = before) -> None:
                        self.done = before + raw.tell()

                    yield from self._of(file, raw, note)
                    note()
            except OSError as error:
                raise SettingsError(f"{file} cannot be read: {error.strerror or error}") from error
            before = self.done

    def _of(self, file: Path, raw: IO[bytes], note: Callable[[], None]) -> Iterator[Recorded]:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        lines = enumerate(_lines(gzip.GzipFile(fileobj=raw) if packed else raw), 1)
        number = 0
        while True:
            try:
                number, line = next(lines)
            except StopIteration:
                return
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self._log_bad(f"{file} breaks off after line {number}: {error}")
                return
            note()
            try:
                yield recorded_message(line)
            except (KeyError, TypeError, ValueError) as error:
                self._log_bad(f"{file}, line {number} is not a message: {error}")

    def _log_bad(self, trouble: str) -> None:
        self.bad += 1
        if self.bad <= BAD_LINES_LOGGED:
            log.warning("%s", trouble)


def recordings(files: Iterable[Path]) -> list[Recording]:
    """Return the recordings of some files; one part stands for all parts.

    Raises:
        SettingsError: when a file does not exist.
    """
    found: dict[Path, Recording] = {}
    for file in files:
        match = PART.fullmatch(file.name)
        base = file.with_name(match[1]) if match else file
        if base not in found:
            found[base] = Recording(_parts(file, match[1]) if match else [file])
    return list(found.values())


def _parts(file: Path, base: str) -> list[Path]:
    """Return all parts beside a part, in order; of a part that exists twice, the uncompressed one."""
    parts: dict[int, Path] = {}
    if not file.exists():
        _size(file)
    for other in sorted(file.parent.iterdir(), reverse=True):  # .jsonl comes after .jsonl.gz and replaces it
        match = PART.fullmatch(other.name)
        if match and match[1] == base:
            parts[int(match[2])] = other
    return [parts[number] for number in sorted(parts)]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Yield the lines of a file; ``?`` instead of a line that is too long."""
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)
        yield b"?"


def recorded_message(line: bytes) -> Recorded:
    """Return the message in one line.

    Raises:
        KeyError, TypeError, ValueError: when the line is no message, with the reason.
    """
    content = orjson.loads(line)
    if not isinstance(content, dict):
        raise TypeError(f"it is a {type(content).__name__}")
    body = content.get("body", content)
    body = orjson.loads(body) if isinstance(body, str) else body
    if not isinstance(body, dict):
        raise TypeError(f"its body is a {type(body).__name__}")
    if body is content and body.get("name") == WORKER:
        body = body["doc"]
        if not isinstance(body, dict):
            raise TypeError(f"its document is a {type(body).__name__}")
    headers = content.get("headers") if isinstance(content.get("headers"), dict) else {}
    at = content.get("t")
    if at is None and isinstance(content.get("cursor"), str):
        at = cursor_ms(content["cursor"]) / 1000
    return Recorded(float(at or 0.0), body, (headers or {}).get("correlation-id"))
