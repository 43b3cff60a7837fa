"""The files of the worker's log: every event that came into the store, append-only JSON lines, a file a run.

It has the format of our recordings with the cursor added, so that ``snakemap replay`` gives back what a Redis without
persistence has lost::

    20261123T101530.12.538ed5b9-5182-4c78-bf78-8e36f2449da4.0001.jsonl     when it began, its scan_id, its uid, the part
    20261123T000000.-._no-run.0001.jsonl                                   a day of what belongs to no run

A uid comes from a document and may be anything: one that could not be a name as it is, is a digest of itself there.
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
"""Runs whose files are remembered; those of others are looked up in the directory."""


FILES_MAX = 20_000
"""Files that are kept; beyond, the oldest go."""


SYNC_PERIOD_S = 5.0
"""How much a power cut may cost; what has been written outlives the worker at once."""


POSITION = "position"


SAFE_SCAN_ID = re.compile(r"[A-Za-z0-9-]{1,20}")


NAME = re.compile(r"(\d{8}T\d{6}\.[A-Za-z0-9-]{1,20}\.(_?[A-Za-z0-9-]{1,64}))\.(\d{4,6})\.jsonl(?:\.gz)?")


@dataclass(slots=True)
class _File:
    """The newest part of a file.

    Attributes:
        base: its name without part and suffix.
        part: from 1 on.
        size: in bytes.
        last: cursor of its last line; what is not after it is there already.
        fd: None while it is closed.
        dirty: whether it holds what a power cut would cost.
        pending: lines that wait to be written together.
        waiting: bytes of these.
        beyond: cursor of the last of these.
    """

    base: str
    part: int = 1
    size: int = 0
    last: tuple[int, int] = (0, 0)
    fd: int | None = None
    dirty: bool = False
    pending: list[bytes] = field(default_factory=list)
    waiting: int = 0
    beyond: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return f"{self.base}.{self.part:04}.jsonl"

    def leave_out(self) -> None:
        """Forget what waits."""
        self.pending, self.waiting, self.beyond = [], 0, self.last


class EventLogFiles:
    """Appends lines to the files of a directory, which belongs to one store.

    Every method may raise OSError; what was written until then stays, whole lines only, and is not written again when
    the same entries are given once more. It may be used from several threads.

    Args:
        directory: made when it is not there.
        keep_days: days after its last line that a file stays.
        keep_bytes: bytes of all files together; beyond, the oldest go.
        part_bytes: size at which a file goes on in another one.
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
        """Look at what is there; returns the cursor after which entries may be missing."""
        with self._lock:
            self._let_go()
            make_private(self.directory)
            self._cursor = BEGINNING
            with suppress(FileNotFoundError, CursorError):
                text = (self.directory / POSITION).read_text(encoding="ascii", errors="replace").strip()
                self._cursor = cursor_text(read_cursor(text))
            return self._cursor

    def write(self, entries: Sequence[Entry], *, now: float) -> None:
        """Add entries of the stream, in order; those that are there already are left out.

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
        """Add messages that are not in the store, each with the reason why."""
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
        """See to it that a power cut costs nothing of what was written, when the last time was long ago."""
        with self._lock:
            if now - self._synced_at >= SYNC_PERIOD_S:
                self._sync(now)

    def sweep(self, *, now: float) -> int:
        """Remove files that are too old, and the oldest where there are too many; returns how many went."""
        with self._lock:
            found = []
            for entry in os.scandir(self.directory):
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    told = entry.stat(follow_symlinks=False)
                    found.append((told.st_mtime, told.st_size, entry.name))
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
        """Let go of everything, when it is on the disk."""
        with self._lock:
            try:
                if any(file.dirty for file in self._files.values()):
                    self._sync(self._synced_at)
            finally:
                self._let_go()

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
        """Write what is pending, all of it or none."""
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
            # looked up anew the next time, when a torn line is taken away, if it is not now
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
        """Return the file of a run, as it was left, or a new one; that of no run is another one every day."""
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
        """Return the newest part of a file that is there already; a line that was torn by a crash is taken away."""
        key, parts = name_part(uid), []
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
        """Everything to the disk, and only then how far that is."""
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
        """Let go of a file that nobody is going to remember."""
        self._fsync(file)
        self._close(file)

    @staticmethod
    def _close(file: _File) -> None:
        if file.fd is not None:
            fd, file.fd = file.fd, None
            os.close(fd)

    def _let_go(self) -> None:
        for file in self._files.values():
            with suppress(OSError):
                self._close(file)
        self._files.clear()


def _scan_id(start: Mapping[str, Any]) -> str:
    """Return a scan_id as a part of a name; ``-`` where it is none that can be.

    >>> _scan_id({"scan_id": 12}), _scan_id({"scan_id": "i22-7"}), _scan_id({"scan_id": "../7"}), _scan_id({})
    ('12', 'i22-7', '-', '-')
    """
    told = start.get("scan_id")
    text = str(told) if isinstance(told, (int, str)) and not isinstance(told, bool) else ""
    return text if SAFE_SCAN_ID.fullmatch(text) else "-"


def _day(moment: float) -> str:
    return time.strftime("%Y%m%dT000000", time.gmtime(min(moment, 2.5e11)))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
