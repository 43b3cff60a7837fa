"""Checks of files: data root, path map, event log and readers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.doctor.machine_checks import disk_space, existing, is_writable
from snakemap.files.data_root import DataRoot

__all__ = [
    "blocks",
    "dask",
    "data_root",
    "downloads",
    "file_locking",
    "file_timeout",
    "log_dir",
    "log_rows",
    "path_map",
]

REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs"))
ENTRIES_MANY = 20_000
CONNECT_TIMEOUT_S = 3.0
DOWNLOAD_MANY_MB = 20_000
LOG_ROW_BYTES, LOG_ROWS_MANY = 500, 2_000_000
TIMEOUT_SHORT_S, TIMEOUT_LONG_S = 0.5, 120.0


def data_root(context: CheckContext) -> Iterator[Found]:
    """Yield whether the data root exists, is readable, and has few enough entries to list."""
    root = context.settings.root
    if not root.exists() and context.settings.data_root is None:
        yield Note(f"{root} does not exist yet; `simulate` makes it")
        return
    if not root.is_dir():
        yield Wrong(f"{root} is not a directory; make it, or set SNAKEMAP_DATA_ROOT to where the files are")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Wrong(f"{root} cannot be read by this user; change its permissions, or run snakemap as another user")
        return
    DataRoot(root).close()
    yield from _large(root)
    kind = filesystem(root)
    if kind in REMOTE:
        text = "files that another host writes may appear seconds late; if so, mount it with actimeo=1"
        yield Note(f"{root} is on {kind}: {text}")
    else:
        yield f"{root}{f' on {kind}' if kind else ''}"


def _large(root: Path) -> Iterator[Found]:
    with os.scandir(root) as entries:
        many = sum(1 for _ in islice(entries, ENTRIES_MANY + 1)) > ENTRIES_MANY
    if root == Path("/"):
        yield Wrong("the whole machine is the data root; set it to the directory of the data")
    elif many:
        yield Note(f"{root} itself holds more than {ENTRIES_MANY:,} entries; listing them takes seconds")


def filesystem(place: Path) -> str:
    """Return the type of the file system of a directory, like ``"nfs4"``; empty when unknown."""
    found, kind = -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = Path(mount.split()[4].encode().decode("unicode_escape"))
        if place.is_relative_to(point) and len(point.parts) >= found:
            found, kind = len(point.parts), rest.split()[0]
    return kind


def path_map(context: CheckContext) -> Iterator[Found]:
    """Yield whether the local directories of the path map exist, and lie within the data root."""
    root, pairs = context.settings.root, context.settings.path_map
    for number, (writer, local) in enumerate(pairs):
        place = Path(local)
        if not place.is_dir():
            yield Wrong(
                f"{local}, which is {writer} for the writer, is not a directory here; mount it, or correct the pair"
            )
        elif not place.resolve().is_relative_to(root) and not root.is_relative_to(place.resolve()):
            yield Wrong(f"{local} is not in the data root {root}, so nothing of it is read; correct one of the two")
        elif writer in [other for other, _ in pairs[:number]]:
            yield Note(f"{writer} occurs twice; the first pair counts, remove the other")
        else:
            yield f"{writer} is {local}"
    if not pairs:
        yield "the writer's paths are valid here"


def file_locking(context: CheckContext) -> Iterator[Found]:
    """Yield whether HDF5's file locking is off."""
    if not context.settings.file_locking:
        yield "files are read without HDF5's lock"
        return
    kind = filesystem(context.settings.root)
    trouble = f"; on {kind} it may also fail" if kind in REMOTE else ""
    yield Note(f"HDF5's lock is taken: it can block a writer of the file{trouble}; unset it unless writers lock, too")


def file_timeout(context: CheckContext) -> Iterator[Found]:
    """Yield whether the time limit for an announced frame is neither too short nor too long."""
    timeout_s = context.settings.file_timeout_s
    if timeout_s < TIMEOUT_SHORT_S:
        yield Note(f"frames that appear {timeout_s:g} s after their document are skipped; set it to 1 or more")
    elif timeout_s > TIMEOUT_LONG_S:
        yield Note(f"a file that blocks its reader does so for {timeout_s:g} s; set it to {TIMEOUT_LONG_S:g} or less")
    else:
        yield f"{timeout_s:g} s for an announced frame"


def log_dir(context: CheckContext) -> Iterator[Found]:
    """Yield whether the event log can be written."""
    place = context.settings.log_dir
    if place is None:
        yield "off"
    else:
        yield from _bounded(place, context.settings.log_max_gb, "SNAKEMAP_LOG_MAX_GB")


def blocks(context: CheckContext) -> Iterator[Found]:
    """Yield whether the sums of blocks of frames can be written."""
    most = context.settings.blocks_max_gb
    if not most:
        yield "off: maps of regions are read from the files alone"
    elif context.settings.blocks_dir is None and not is_writable(context.settings.blocks_path):
        yield Note("unknown while the state directory cannot be written to")
    else:
        yield from _bounded(context.settings.blocks_path, most, "SNAKEMAP_BLOCKS_MAX_GB")


def _bounded(place: Path, most: float, setting: str) -> Iterator[Found]:
    """Yield whether a directory with a bound in gigabytes can be written, and whether its disk has as many."""
    exists = existing(place)
    if not is_writable(place):
        yield Wrong(f"{exists} is not a directory that this user can write to; set it to one that is")
        return
    total = shutil.disk_usage(exists).total / 1e9
    if most > total:
        text = f"its {most:,.0f} GB are more than the disk of {exists} has"
        yield Note(f"{text}; set {setting} to {total / 2:.0f} or less")
    yield disk_space(exists) or f"up to {most:,.0f} GB in {place}"


def log_rows(context: CheckContext) -> Iterator[Found]:
    """Yield whether the events held in memory fit."""
    rows = context.settings.log_rows
    size_mb = rows * LOG_ROW_BYTES / 1e6
    if rows > LOG_ROWS_MANY:
        yield Note(f"{rows:,} events in memory take {size_mb:,.0f} MB a process; set it to {LOG_ROWS_MANY} or less")
    else:
        yield f"{rows:,} events in memory take up to {size_mb:,.0f} MB"


def downloads(context: CheckContext) -> Iterator[Found]:
    """Yield whether the size limit for downloads is sensible."""
    most = context.settings.download_max_mb
    if most > DOWNLOAD_MANY_MB:
        yield Note(f"every user can download files of {most:,} MB; set it to {DOWNLOAD_MANY_MB} or less")
    else:
        yield f"files of up to {most:,} MB" if most else "off"


def dask(context: CheckContext) -> Iterator[Found]:
    """Yield whether the Dask cluster's scheduler can be reached."""
    address = context.settings.dask
    if not address:
        yield "none is set; local processes read finished files"
        return
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        yield Wrong(f"{address[:60]!r} is not tcp://scheduler:8786; set it to that, or unset it")
        return
    if importlib.util.find_spec("distributed") is None:
        yield Wrong('Dask is not installed; run `pip install "snakemap[dask]"`')
        return
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        yield Wrong(f"nothing answers at {host}:{port} ({error.strerror or error}); start the scheduler, or unset it")
    else:
        yield f"a scheduler at {host}:{port}"
