"""Listings of directories of the data root, cached for all tabs of a process and refreshed.

Network file systems have no change notifications, so a subscribed directory is listed periodically, in a thread, for at
most a tenth of the time. The kind of a file is read from its first bytes, for visible files only.
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
"""Maximum entries of one directory; a note says if there are more."""

PERIOD_S = 2.0
SHARE = 0.1
"""Maximum share of the time for listing one directory."""

COUNT_MAX = 500
SCANS_MAX = 32
KINDS_MAX = 20_000
LIVE_S, SURELY_LIVE_S = 60.0, 10.0
"""A file is live if its writer has it open and wrote within the first time, or if it was written within the second."""

DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One entry of a directory.

    Attributes:
        name: from the file system; bytes that are no text are surrogates.
        kind: ``directory``, ``file``, ``hdf5`` (only on a page), ``other`` (a pipe, a socket, a device) or ``refused``
            (a link that leads out of the data root, or may not be read).
        size: bytes.
        modified: seconds since 1970.
        live: whether it is being written (only on a page).
    """

    name: str
    kind: str
    size: int = 0
    modified: float = 0.0
    live: bool = False
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(slots=True)
class Scan:
    """The listing of a directory.

    Attributes:
        path: in the data root, empty for the root itself.
        entries: all but hidden ones.
        more: whether there are more than the maximum.
        made: time of the listing, by :func:`time.monotonic`.
    """

    path: str
    entries: tuple[FileEntry, ...]
    more: bool
    made: float
    _sorted: dict[str, list[FileEntry]] = field(default_factory=dict)

    def sorted(self, order: Order) -> list[FileEntry]:
        """Return directories first, then files in an order; cached."""
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
        found: entries that match the search.
        total: entries of the directory.
        more: whether the directory has more than the maximum.
    """

    path: str
    entries: tuple[FileEntry, ...]
    offset: int
    found: int
    total: int
    more: bool


@dataclass(slots=True)
class _Subscribed:
    """A directory with subscribers."""

    callbacks: dict[Hashable, Callable[[], None]] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None


class DirectoryCache:
    """The directories of a data root, for all tabs of a process.

    Args:
        root: the data root.
        period_s: minimum time between two listings of a subscribed directory.
    """

    def __init__(self, root: Path, *, period_s: float = PERIOD_S) -> None:
        self.root = DataRoot(root)
        self.period_s = period_s
        self.scans = 0
        self._found: OrderedDict[str, Scan | SnakemapError] = OrderedDict()
        self._kinds: OrderedDict[tuple[int, int, int, int], tuple[str, bool]] = OrderedDict()
        self._subscribed: dict[str, _Subscribed] = {}
        self._lock = threading.Lock()

    async def page(
        self, path: str = "", *, order: Order = "newest", search: str = "", offset: int = 0, count: int = 200,
        around: str = "",
    ) -> DirectoryPage:  # fmt: skip
        """Return a part of a directory, from a listing at most a period old.

        Args:
            path: of the directory in the data root; empty for the root.
            order: directories always come first.
            search: text in names, ignoring case; with ``*`` or ``?`` a pattern for the whole name.
            offset: entries to skip.
            count: maximum entries.
            around: the name of an entry to center on, instead of the offset.

        Raises:
            FileRefused: it is not in the data root, or no directory.
            FileMissing: it is not there.
            FileNotReady: it cannot be listed at the moment.
        """
        scan = await asyncio.to_thread(self._current, path)
        return await asyncio.to_thread(self._page, scan, order, search, offset, min(count, COUNT_MAX), around)

    def watch(self, key: Hashable, path: str, callback: Callable[[], None]) -> None:
        """Call a function whenever a directory may have changed; both on the event loop.

        Args:
            key: of the subscriber; each has one directory at a time.
            path: of the directory.
            callback: without arguments; it gets the new state from :meth:`page`.
        """
        self.unwatch(key)
        subscribed = self._subscribed.setdefault(path, _Subscribed())
        subscribed.callbacks[key] = callback
        if subscribed.task is None:
            subscribed.task = asyncio.ensure_future(self._follow(path, subscribed))

    def unwatch(self, key: Hashable) -> None:
        """Remove a subscriber."""
        for path, subscribed in list(self._subscribed.items()):
            subscribed.callbacks.pop(key, None)
            if not subscribed.callbacks:
                del self._subscribed[path]
                if subscribed.task is not None:
                    subscribed.task.cancel()

    async def _follow(self, path: str, subscribed: _Subscribed) -> None:
        """List a directory periodically and call its subscribers."""
        cost = 0.0
        while True:
            await asyncio.sleep(max(self.period_s, cost / SHARE))
            before, began = self._found.get(path), time.monotonic()
            changed = await asyncio.to_thread(lambda before=before: self._is_changed(path, before))
            cost = time.monotonic() - began
            if changed:
                for callback in list(subscribed.callbacks.values()):
                    callback()

    def _is_changed(self, path: str, before: Scan | SnakemapError | None) -> bool:
        """List a directory; return whether it changed, or has files that may no longer be live."""
        after = self._refresh(path)
        lately = time.time() - LIVE_S - 2 * self.period_s
        fading = isinstance(after, Scan) and any(entry.modified > lately for entry in after.entries)
        return fading or _differ(before, after)

    def _current(self, path: str) -> Scan:
        known, subscribed = self._found.get(path), self._subscribed.get(path)
        # a listing from before the first subscriber may be old
        oldest = subscribed.since if subscribed else time.monotonic() - self.period_s / 2
        fresh = isinstance(known, Scan) and known.made >= oldest
        found = known if fresh else self._refresh(path)
        if isinstance(found, Scan):
            return found
        raise found or FileMissing(f"{shown(path)} is not there (yet)")

    def _refresh(self, path: str) -> Scan | SnakemapError:
        """List a directory, and cache the listing or the error."""
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
        return _file_entry(item.name, status)

    def _linked(self, path: str, name: str) -> FileEntry:
        """Return the entry of a symbolic link's target, if that is in the data root."""
        place = str(PurePosixPath(path) / name)
        for opened in (self.root.open, self.root.open_directory):
            try:
                fd = opened(place)
            except (FileRefused, FileNotReady):
                continue
            try:
                return _file_entry(name, os.fstat(fd))
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
        """Return an entry with the kind from the first bytes of the file."""
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
        """Return the kind of a file, and whether a writer has it open according to HDF5."""
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


def _file_entry(name: str, status: os.stat_result) -> FileEntry:
    mode = status.st_mode
    kind = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return FileEntry(name, kind, status.st_size, status.st_mtime, identity=identity)


@functools.lru_cache(maxsize=100_000)
def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key: names with numbers in the order of the numbers.

    >>> sorted(["scan-10.h5", "Scan-9.h5", "a"], key=_natural)
    ['a', 'Scan-9.h5', 'scan-10.h5']
    """
    parts = DIGITS.split(name.casefold())
    return tuple((0, int(part), part) if part.isdecimal() and len(part) < 100 else (1, 0, part) for part in parts)


def _matching(entries: Sequence[FileEntry], search: str) -> Sequence[FileEntry]:
    """Return the entries whose names match a search."""
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
