"""Files of the event log: every entry of the store as append-only JSON lines, a file for each run.

The format is that of recordings, with the cursor added, so ``snakemap replay`` can restore what a Redis without
persistence has lost::

    20261123T101530.12.538ed5b9-5182-4c78-bf78-8e36f2449da4.0001.jsonl     begin, scan_id, uid, part
    20261123T000000.-._no-run.0001.jsonl                                   a day of entries without a run

A uid comes from a document and may be anything: one that is no valid file name is replaced by its digest.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemap.core.cursor import BEGINNING, cursor_ms, cursor_numbers, cursor_text, read_cursor
from snakemap.core.documents import SETTLED, WORKER, Entry
from snakemap.errors import CursorError
from snakemap.files.private import make_private, open_private, write_private
from snakemap.ingest.event_log_lines import (
    PIECE_BYTES,
    Received,
    cut_torn_line,
    entry_line,
    last_cursor,
    name_part,
    unread_line,
)

__all__ = ["EventLogFiles"]

DAY_S = 86_400.0


PART_BYTES = 64_000_000


OPEN_MAX = 16
"""Files that are open at one time."""


KNOWN_MAX = 1000
"""Runs whose files are remembered; for others the directory is searched."""


FILES_MAX = 20_000
"""Maximum number of files; the oldest are removed."""


SYNC_PERIOD_S = 5.0
"""Time between two fsyncs, which a power cut may lose; written lines survive the worker at once."""


POSITION = "position"


SAFE_SCAN_ID = re.compile(r"[A-Za-z0-9-]{1,20}")


NAME = re.compile(r"(\d{8}T\d{6}\.[A-Za-z0-9-]{1,20}\.(_?[A-Za-z0-9-]{1,64}))\.(\d{4,6})\.jsonl(?:\.gz)?")


@dataclass(slots=True)
class _File:
    """The newest part of a file.

    Attributes:
        base: name without part and suffix.
        part: from 1 on.
        size: bytes.
        last: cursor of its last line.
        fd: None while it is closed.
        dirty: whether it holds data without fsync.
        pending: lines to be written.
        waiting: bytes of these lines.
        beyond: cursor of the last of these lines.
    """

    base: str
    part: int = 1
    size: int = 0
    last: tuple[int, int] = (0, 0)
    fd: int | None = None
    dirty: bool = False
    pending: list[bytes] = field(default_factory=list[bytes])
    waiting: int = 0
    beyond: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return f"{self.base}.{self.part:04}.jsonl"

    def leave_out(self) -> None:
        """Drop the pending lines."""
        self.pending, self.waiting, self.beyond = [], 0, self.last


class EventLogFiles:
    """Appends lines to the files of a directory, which belongs to one store.

    Every method may raise OSError; whole lines that were written stay, and are skipped when the same entries are
    written again. Methods are thread-safe.

    Args:
        directory: made when it does not exist.
        keep_days: days after its last line before a file is removed.
        keep_bytes: maximum of all files together; the oldest are removed.
        part_bytes: size at which a new part begins.
    """

    def __init__(
        self, directory: Path, *, keep_days: float, keep_bytes: int = 50_000_000_000, part_bytes: int = PART_BYTES
    ) -> None:
        self.directory = directory
        self.keep_s = keep_days * DAY_S
        self.keep_bytes = keep_bytes
        self.part_bytes = part_bytes
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._cursor = BEGINNING
        self._synced_at = 0.0
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Open the log; return the cursor after which entries may be missing."""
        with self._lock:
            self._close_all()
            make_private(self.directory)
            self._cursor = BEGINNING
            with suppress(FileNotFoundError, CursorError):
                text = (self.directory / POSITION).read_text(encoding="ascii", errors="replace").strip()
                self._cursor = cursor_text(read_cursor(text))
            return self._cursor

    def write(self, entries: Sequence[Entry], *, now: float) -> None:
        """Append entries of the stream, in order, except those that are in the files already.

        Args:
            entries: in the order of their cursors.
            now: seconds since 1970.
        """
        with self._lock:
            make_private(self.directory)
            try:
                for entry in entries:
                    self._add(entry)
                for file in list(self._files.values()):
                    self._flush(file)
            finally:
                for file in self._files.values():
                    file.leave_out()
            if entries:
                self._cursor = entries[-1].cursor
            ended = any(entry.name in ("stop", SETTLED) for entry in entries)
            if ended or now - self._synced_at >= SYNC_PERIOD_S:
                self._sync(now)

    def write_unread(self, messages: Iterable[tuple[Received, str]], *, now: float) -> None:
        """Append messages that are not stored, each with the reason."""
        with self._lock:
            make_private(self.directory)
            file = self._file("", _day(now), "-")
            try:
                for message, why in messages:
                    self._queue(file, unread_line(message, why, now=now, after=self._cursor))
                self._flush(file)
            finally:
                file.leave_out()

    def sync(self, *, now: float) -> None:
        """Call fsync if the last one was long enough ago."""
        with self._lock:
            if now - self._synced_at >= SYNC_PERIOD_S:
                self._sync(now)

    def sweep(self, *, now: float) -> int:
        """Remove files that are too old, and the oldest beyond the limits; return how many."""
        with self._lock:
            found = list[tuple[float, int, str]]()
            for entry in os.scandir(self.directory):
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.name))
            found.sort(reverse=True)
            in_use = {file.name for file in self._files.values() if file.fd is not None}
            kept, gone = 0, 0
            for number, (modified, size, name) in enumerate(found):
                kept += size
                too_many = kept > self.keep_bytes or number >= FILES_MAX
                if name not in in_use and (too_many or now - modified > self.keep_s):
                    (self.directory / name).unlink(missing_ok=True)
                    gone += 1
            return gone

    def close(self) -> None:
        """Close all files, after an fsync."""
        with self._lock:
            try:
                if any(file.dirty for file in self._files.values()):
                    self._sync(self._synced_at)
            finally:
                self._close_all()

    def _add(self, entry: Entry) -> None:
        file = self._file_of(entry)
        at = cursor_numbers(entry.cursor)
        if at > max(file.last, file.beyond):
            self._queue(file, entry_line(entry))
            file.beyond = at

    def _queue(self, file: _File, line: bytes) -> None:
        if file.size + file.waiting and file.size + file.waiting + len(line) > self.part_bytes:
            self._flush(file)
            self._begin_part(file)
        file.pending.append(line)
        file.waiting += len(line)
        if file.waiting >= PIECE_BYTES:
            self._flush(file)

    def _flush(self, file: _File) -> None:
        """Write the pending lines, all or none."""
        if not file.pending:
            return
        data = memoryview(b"".join(file.pending))
        fd = self._opened(file)
        written = 0
        file.dirty = True
        try:
            while written < len(data):
                written += os.write(fd, data[written:])
        except OSError:
            # the next write opens it again and removes a torn line, if that is not possible now
            self._files = OrderedDict((uid, one) for uid, one in self._files.items() if one is not file)
            try:
                os.ftruncate(fd, file.size)
            finally:
                self._close(file)
            raise
        file.size += written
        file.last = max(file.last, file.beyond)
        file.pending, file.waiting = [], 0

    def _begin_part(self, file: _File) -> None:
        self._finish(file)
        file.part, file.size = file.part + 1, 0

    def _file_of(self, entry: Entry) -> _File:
        moment = cursor_ms(entry.cursor) / 1000
        if entry.name == WORKER or not entry.run:
            return self._file("", _day(moment), "-")
        if entry.run in self._files:
            return self._file(entry.run, "", "")
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime(min(moment, 2.5e11)))
        return self._file(entry.run, began, _scan_id(entry.doc) if entry.name == "start" else "-")

    def _file(self, uid: str, began: str, scan_id: str) -> _File:
        """Return the file of a run, or a new one; entries without a run get a new file every day."""
        file = self._files.get(uid)
        if file is not None and (uid or file.base.startswith(began)):
            self._files.move_to_end(uid)
            return file
        if file is not None:
            self._flush(file)
            self._finish(file)
        file = self._found(uid, began) or _File(f"{began}.{scan_id}.{name_part(uid)}")
        self._files[uid] = file
        while len(self._files) > KNOWN_MAX:
            _, oldest = self._files.popitem(last=False)
            self._flush(oldest)
            self._finish(oldest)
        return file

    def _found(self, uid: str, began: str) -> _File | None:
        """Return the newest part of an existing file; a torn last line is removed."""
        key, parts = name_part(uid), list[tuple[str, int, str]]()
        for path in self.directory.iterdir():
            name = path.name
            match = NAME.fullmatch(name)
            if match and match[2] == key and (uid or match[1].startswith(began)):
                parts.append((match[1], int(match[3]), name))
        if not parts:
            return None
        parts.sort()
        base, number, newest = parts[-1]
        file = _File(base, part=number)
        if newest.endswith(".gz"):
            file.part += 1
        else:
            file.size = cut_torn_line(self.directory / newest)
        for _, _, name in reversed(parts):
            file.last = file.beyond = last_cursor(self.directory / name)
            if file.last > (0, 0):
                break
        return file

    def _opened(self, file: _File) -> int:
        if file.fd is None:
            path = self.directory / file.name
            new = not path.exists()
            file.fd = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)
            file.size = os.fstat(file.fd).st_size
            if new:
                _sync_directory(self.directory)
        opened = [one for one in self._files.values() if one.fd is not None and one is not file]
        for one in opened[: max(0, len(opened) - OPEN_MAX + 1)]:
            self._close(one)
        return file.fd

    def _sync(self, now: float) -> None:
        """Call fsync for all files, then record the cursor."""
        for file in self._files.values():
            self._fsync(file)
        self._synced_at = now
        new = self.directory / f"{POSITION}.new"
        write_private(new, f"{self._cursor}\n")
        new.replace(self.directory / POSITION)

    def _fsync(self, file: _File) -> None:
        if not file.dirty:
            return
        closed = file.fd is None
        fd = os.open(self.directory / file.name, os.O_RDONLY | os.O_NOFOLLOW) if file.fd is None else file.fd
        try:
            os.fsync(fd)
        finally:
            if closed:
                os.close(fd)
        file.dirty = False

    def _finish(self, file: _File) -> None:
        """Close a file that is no longer remembered, after an fsync."""
        self._fsync(file)
        self._close(file)

    @staticmethod
    def _close(file: _File) -> None:
        if file.fd is not None:
            fd, file.fd = file.fd, None
            os.close(fd)

    def _close_all(self) -> None:
        for file in self._files.values():
            with suppress(OSError):
                self._close(file)
        self._files.clear()


def _scan_id(start: Mapping[str, Any]) -> str:
    """Return a scan_id as a part of a file name; ``-`` when it cannot be one.

    >>> _scan_id({"scan_id": 12}), _scan_id({"scan_id": "i22-7"}), _scan_id({"scan_id": "../7"}), _scan_id({})
    ('12', 'i22-7', '-', '-')
    """
    scan_id = start.get("scan_id")
    text = str(scan_id) if isinstance(scan_id, (int, str)) and not isinstance(scan_id, bool) else ""
    return text if SAFE_SCAN_ID.fullmatch(text) else "-"


def _day(moment: float) -> str:
    return time.strftime("%Y%m%dT000000", time.gmtime(min(moment, 2.5e11)))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
