"""Recordings of what a broker delivered: JSON lines, in one file or in the parts that the worker's log is made of.

A line is ``{"t", "cmd", "headers", "body"}`` with the body as text, as our recordings and the log have it, or a bare
body, or ``{"cursor", "name", "run", "doc"}`` as ``snakemap listen --json`` and the page of the log write it.
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

__all__ = ["Recorded", "Recording", "recordings"]

log = logging.getLogger(__name__)

PART = re.compile(r"(.+)\.(\d{4,6})\.jsonl(\.gz)?")
GZIP = b"\x1f\x8b"
LINE_BYTES_MAX = 64 * 1024 * 1024
BAD_LINES_TOLD = 10
"""Lines of a recording that are told one by one when they are no messages."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of a recording.

    Attributes:
        at: when it was received, in seconds since 1970; 0 when nobody noted it.
        body: plain JSON.
        correlation_id: blueapi's task, on worker events; None on documents.
    """

    at: float
    body: dict[str, Any]
    correlation_id: str | None


class Recording:
    """One recording, in the order in which it was made.

    Args:
        files: its parts, plain or packed with gzip, whatever they are called.

    Attributes:
        done: bytes of the files that have been read.
        size: bytes of them all.
        bad: lines that were no messages.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self.done = 0
        self.size = sum(_size(file) for file in self.files)
        self.bad = 0

    def messages(self) -> Iterator[Recorded]:
        """Yield every message; lines that are none are logged, counted and left out.

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
                self._tell(f"{file} breaks off after line {number}: {error}")
                return
            note()
            try:
                yield _recorded(line)
            except (KeyError, TypeError, ValueError) as error:
                self._tell(f"{file}, line {number} is no message: {error}")

    def _tell(self, trouble: str) -> None:
        self.bad += 1
        if self.bad <= BAD_LINES_TOLD:
            log.warning("%s", trouble)


def recordings(files: Iterable[Path]) -> list[Recording]:
    """Return the recordings that some files are, or are parts of: whoever names one part means them all.

    Raises:
        SettingsError: when a file is not there.
    """
    found: dict[Path, Recording] = {}
    for file in files:
        match = PART.fullmatch(file.name)
        base = file.with_name(match[1]) if match else file
        if base not in found:
            found[base] = Recording(_parts(file, match[1]) if match else [file])
    return list(found.values())


def _parts(file: Path, base: str) -> list[Path]:
    """Return all parts beside a part, in order; of one that is there twice, the one that is not packed."""
    parts: dict[int, Path] = {}
    if not file.exists():
        _size(file)
    for other in sorted(file.parent.iterdir(), reverse=True):  # .jsonl comes after .jsonl.gz, and stays
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
    """Yield the lines of a file; of one that is too long, only that it is."""
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)
        yield b"?"


def _recorded(line: bytes) -> Recorded:
    told = orjson.loads(line)
    if not isinstance(told, dict):
        raise TypeError(f"it is a {type(told).__name__}")
    body = told.get("body", told)
    body = orjson.loads(body) if isinstance(body, str) else body
    if not isinstance(body, dict):
        raise TypeError(f"its body is a {type(body).__name__}")
    if body is told and body.get("name") == WORKER:
        body = body["doc"]
        if not isinstance(body, dict):
            raise TypeError(f"its document is a {type(body).__name__}")
    headers = told.get("headers") if isinstance(told.get("headers"), dict) else {}
    at = told.get("t")
    if at is None and isinstance(told.get("cursor"), str):
        at = cursor_ms(told["cursor"]) / 1000
    return Recorded(float(at or 0.0), body, (headers or {}).get("correlation-id"))
