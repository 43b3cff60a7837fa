"""Directories of the data root as users may see them: listed once a process, however many look, and kept up to date.

Network file systems tell nobody that a file has come, so a directory that somebody looks at is listed again and again,
in a thread, and never for more than a tenth of the time. What a file is, is told by its first bytes, and only of files
that are on a screen.
"""

from __future__ import annotations

import asyncio
import fnmatch
import functools
import logging
import os
import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from snakemap.errors import FileMissing, FileNotReady, FileRefused, SnakemapError
from snakemap.files.data_root import DataRoot, shown
from snakemap.files.hdf5_signature import HEAD_BYTES, head_of

__all__ = ["ORDERS", "DirectoryCache", "DirectoryPage", "FileEntry", "Scan"]

log = logging.getLogger(__name__)

Order = Literal["newest", "name", "size"]
ORDERS: tuple[Order, ...] = ("newest", "name", "size")

ENTRIES_MAX = 50_000
"""Entries of one directory that are told; there is a note when there are more."""

PERIOD_S = 2.0
SHARE = 0.1
"""Part of the time that may go into listing one directory again and again."""

COUNT_MAX = 500
SCANS_MAX = 32
KINDS_MAX = 20_000
LIVE_S, SURELY_LIVE_S = 60.0, 10.0
"""A file is live when its writer has it open and wrote lately; or, whoever has it open, a moment ago."""

DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One entry of a directory.

    Attributes:
        name: as the file system has it, any bytes that are no text as surrogates.
        kind: ``directory``, ``file``, ``hdf5`` (only when it was looked at), ``other`` (a pipe, a socket, a device) or
            ``refused`` (a link that leads out of the data root, or may not be read).
        size: bytes.
        modified: seconds since 1970.
        live: somebody is writing to it (only when it was looked at).
    """

    name: str
    kind: str
    size: int = 0
    modified: float = 0.0
    live: bool = False
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(slots=True)
class Scan:
    """A directory as it was found.

    Attributes:
        path: in the data root, empty for the root itself.
        entries: all of them, but for what is hidden.
        more: whether there are more than are told.
        made: when it was made, by :func:`time.monotonic`.
    """

    path: str
    entries: tuple[FileEntry, ...]
    more: bool
    made: float
    _sorted: dict[str, list[FileEntry]] = field(default_factory=dict)

    def sorted(self, order: Order) -> list[FileEntry]:
        """Directories first, then files in some order; sorted once for all who ask."""
        if order not in self._sorted:
            keys: dict[str, Callable[[FileEntry], tuple[object, ...]]] = {
                "newest": lambda entry: (entry.kind != "directory", -entry.modified, entry.name),
                "size": lambda entry: (entry.kind != "directory", -entry.size, entry.name),
                "name": lambda entry: (entry.kind != "directory", *_natural(entry.name)),
            }
            self._sorted[order] = sorted(self.entries, key=keys[order])
        return self._sorted[order]


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """A part of a directory.

    Attributes:
        path: of the directory.
        entries: of this part.
        offset: entries before it.
        found: entries to choose from.
        total: entries of the directory.
        more: whether the directory has more than are told.
    """

    path: str
    entries: tuple[FileEntry, ...]
    offset: int
    found: int
    total: int
    more: bool


@dataclass(slots=True)
class _Watched:
    """A directory that somebody looks at."""

    tell: dict[Hashable, Callable[[], None]] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None


class DirectoryCache:
    """The directories of a data root, for all tabs of a process.

    Args:
        root: the data root.
        period_s: seconds between two looks at a directory that somebody watches, when it is a quick one.
    """

    def __init__(self, root: Path, *, period_s: float = PERIOD_S) -> None:
        self.root = DataRoot(root)
        self.period_s = period_s
        self.scans = 0
        self._found: OrderedDict[str, Scan | SnakemapError] = OrderedDict()
        self._kinds: OrderedDict[tuple[int, int, int, int], tuple[str, bool]] = OrderedDict()
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()

    async def page(
        self, path: str = "", *, order: Order = "newest", search: str = "", offset: int = 0, count: int = 200,
        around: str = "",
    ) -> DirectoryPage:  # fmt: skip
        """A part of a directory, from what was found when it was last listed, at most a period ago.

        Args:
            path: of the directory in the data root; empty for the root.
            order: directories always come first.
            search: what names must hold, whatever the case; with ``*`` or ``?`` the pattern they must match.
            offset: entries to leave out.
            count: entries at most.
            around: the name of an entry that is to be in the middle, whatever the offset.

        Raises:
            FileRefused: it is not in the data root, or no directory.
            FileMissing: it is not there.
            FileNotReady: it cannot be listed just now.
        """
        scan = await asyncio.to_thread(self._current, path)
        return await asyncio.to_thread(self._page, scan, order, search, offset, min(count, COUNT_MAX), around)

    def watch(self, key: Hashable, path: str, tell: Callable[[], None]) -> None:
        """Has somebody told whenever a directory may have changed; on the event loop, where this is called, too.

        Args:
            key: who it is; he watches one directory at a time.
            path: of the directory.
            tell: called without anything: what is there now is to be asked for.
        """
        self.unwatch(key)
        watched = self._watched.setdefault(path, _Watched())
        watched.tell[key] = tell
        if watched.task is None:
            watched.task = asyncio.ensure_future(self._follow(path, watched))

    def unwatch(self, key: Hashable) -> None:
        """Nobody is told any more."""
        for path, watched in list(self._watched.items()):
            watched.tell.pop(key, None)
            if not watched.tell:
                del self._watched[path]
                if watched.task is not None:
                    watched.task.cancel()

    async def _follow(self, path: str, watched: _Watched) -> None:
        """Lists a directory again and again."""
        cost = 0.0
        while True:
            await asyncio.sleep(max(self.period_s, cost / SHARE))
            before, began = self._found.get(path), time.monotonic()
            news = await asyncio.to_thread(lambda before=before: self._has_news(path, before))
            cost = time.monotonic() - began
            if news:
                for tell in list(watched.tell.values()):
                    tell()

    def _has_news(self, path: str, before: Scan | SnakemapError | None) -> bool:
        """Lists a directory; whether it is another one, or holds files that may have ceased to be live."""
        after = self._look(path)
        lately = time.time() - LIVE_S - 2 * self.period_s
        fading = isinstance(after, Scan) and any(entry.modified > lately for entry in after.entries)
        return fading or _differ(before, after)

    def _current(self, path: str) -> Scan:
        known, watched = self._found.get(path), self._watched.get(path)
        # what was found before anybody watched may be old
        oldest = watched.since if watched else time.monotonic() - self.period_s / 2
        fresh = isinstance(known, Scan) and known.made >= oldest
        found = known if fresh else self._look(path)
        if isinstance(found, Scan):
            return found
        raise found or FileMissing(f"{shown(path)} is not there (yet)")

    def _look(self, path: str) -> Scan | SnakemapError:
        """Lists a directory, and remembers what was found, or what was wrong."""
        try:
            found: Scan | SnakemapError = self._scan(path)
        except SnakemapError as error:
            found = error
        with self._lock:
            self._found[path] = found
            self._found.move_to_end(path)
            while len(self._found) > SCANS_MAX:
                self._found.popitem(last=False)
        return found

    def _scan(self, path: str) -> Scan:
        with self._lock:
            self.root.hold()
        self.scans += 1
        began = time.monotonic()
        fd = self.root.open_directory(path or ".")
        entries: list[FileEntry] = []
        try:
            with os.scandir(fd) as listed:
                for item in listed:
                    if item.name.startswith("."):
                        continue
                    if len(entries) == ENTRIES_MAX:
                        return Scan(path, tuple(entries), more=True, made=began)
                    entries.append(self._entry(path, item))
        except OSError as error:
            raise FileNotReady(f"{shown(path)} cannot be listed at the moment: {error.strerror}") from error
        finally:
            os.close(fd)
        return Scan(path, tuple(entries), more=False, made=began)

    def _entry(self, path: str, item: os.DirEntry[str]) -> FileEntry:
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:
            return FileEntry(item.name, "other")
        if stat.S_ISLNK(status.st_mode):
            return self._linked(path, item.name)
        return _told(item.name, status)

    def _linked(self, path: str, name: str) -> FileEntry:
        """What a symbolic link leads to, as long as that is in the data root."""
        place = str(PurePosixPath(path) / name)
        for opened in (self.root.open, self.root.open_directory):
            try:
                fd = opened(place)
            except (FileRefused, FileNotReady):
                continue
            try:
                return _told(name, os.fstat(fd))
            finally:
                os.close(fd)
        return FileEntry(name, "refused")

    def _page(self, scan: Scan, order: Order, search: str, offset: int, count: int, around: str) -> DirectoryPage:
        chosen = _matching(scan.sorted(order), search)
        if around:
            place = next((number for number, entry in enumerate(chosen) if entry.name == around), 0)
            offset = place - count // 2
        offset = max(0, min(offset, len(chosen) - count))
        entries = tuple(self._recognized(scan.path, entry) for entry in chosen[offset : offset + count])
        return DirectoryPage(scan.path, entries, offset, len(chosen), len(scan.entries), scan.more)

    def _recognized(self, path: str, entry: FileEntry) -> FileEntry:
        """What a file is by its first bytes."""
        if entry.kind != "file":
            return entry
        known = self._kinds.get(entry.identity)
        if known is None:
            known = self._recognize(str(PurePosixPath(path) / entry.name))
            with self._lock:
                self._kinds[entry.identity] = known
                while len(self._kinds) > KINDS_MAX:
                    self._kinds.popitem(last=False)
        kind, written = known
        age = time.time() - entry.modified
        live = kind == "hdf5" and (age < SURELY_LIVE_S or (written and age < LIVE_S))
        return FileEntry(entry.name, kind, entry.size, entry.modified, live, entry.identity)

    def _recognize(self, place: str) -> tuple[str, bool]:
        """The kind of a file, and whether HDF5 says that a writer has it open."""
        try:
            fd = self.root.open(place)
        except FileRefused:
            return "refused", False
        except FileNotReady:
            return "file", False
        try:
            head = head_of(fd)
            if head is not None:
                return "hdf5", len(head) == HEAD_BYTES and head[8] >= 3 and bool(head[11] & 1)
        except OSError as error:
            log.info("%s cannot be recognized: %s", shown(place), error)
        finally:
            os.close(fd)
        return "file", False


def _told(name: str, status: os.stat_result) -> FileEntry:
    mode = status.st_mode
    kind = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return FileEntry(name, kind, status.st_size, status.st_mtime, identity=identity)


@functools.lru_cache(maxsize=100_000)
def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key by which names with numbers come in the order of the numbers.

    >>> sorted(["scan-10.h5", "Scan-9.h5", "a"], key=_natural)
    ['a', 'Scan-9.h5', 'scan-10.h5']
    """
    parts = DIGITS.split(name.casefold())
    return tuple((0, int(part), part) if part.isdecimal() and len(part) < 100 else (1, 0, part) for part in parts)


def _matching(entries: Sequence[FileEntry], search: str) -> Sequence[FileEntry]:
    """The entries whose names match what was typed."""
    wanted = search.strip().casefold()
    if not wanted:
        return entries
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(wanted.replace("[", "[[]")))
        return [entry for entry in entries if pattern.match(entry.name.casefold())]
    return [entry for entry in entries if wanted in entry.name.casefold()]


def _differ(before: Scan | SnakemapError | None, after: Scan | SnakemapError) -> bool:
    if isinstance(before, Scan) and isinstance(after, Scan):
        return before.entries != after.entries
    return type(before) is not type(after) or str(before) != str(after)
