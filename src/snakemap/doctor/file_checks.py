"""Checks of files: what may be read, how the writer's paths are ours, and what reads them."""

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
from snakemap.doctor.machine_checks import room_on_disk
from snakemap.files.data_root import DataRoot

__all__ = ["dask", "data_root", "downloads", "file_locking", "file_timeout", "log_dir", "log_rows", "path_map"]

REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs"))
ENTRIES_MANY = 20_000
CONNECT_TIMEOUT_S = 3.0
DOWNLOAD_MANY_MB = 20_000
LOG_ROW_BYTES, LOG_ROWS_MANY = 500, 2_000_000
TIMEOUT_SHORT_S, TIMEOUT_LONG_S = 0.5, 120.0


def data_root(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the data root is there, can be read, and is no larger than what can be listed at once."""
    root = scene.settings.root
    if not root.exists() and scene.settings.data_root is None:
        yield Note(f"{root} is not there yet; `simulate` makes it")
        return
    if not root.is_dir():
        yield Wrong(f"{root} is not a directory; make it, or set SNAKEMAP_DATA_ROOT to where the files are")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Wrong(f"{root} cannot be read by this user; let it, or run snakemap as a user who can")
        return
    DataRoot(root).close()
    yield from _large(root)
    kind = filesystem(root)
    if kind in REMOTE:
        text = "what another host writes may be seen seconds later, if so mount it with actimeo=1"
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
    """Return the kind of the file system that a directory is on, like ``"nfs4"``; empty where nobody tells."""
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


def path_map(scene: CheckContext) -> Iterator[Found]:
    """Yield whether what the writer's prefixes become is there, and may be read."""
    root, pairs = scene.settings.root, scene.settings.path_map
    for number, (writer, local) in enumerate(pairs):
        place = Path(local)
        if not place.is_dir():
            yield Wrong(
                f"{local}, which is {writer} for the writer, is not a directory here; mount it, or mend the pair"
            )
        elif not place.resolve().is_relative_to(root) and not root.is_relative_to(place.resolve()):
            yield Wrong(f"{local} is not in the data root {root}, so nothing of it is read; mend one of the two")
        elif writer in [other for other, _ in pairs[:number]]:
            yield Note(f"{writer} is there twice; the first one counts, take the other out")
        else:
            yield f"{writer} is {local}"
    if not pairs:
        yield "the writer's paths are ours"


def file_locking(scene: CheckContext) -> Iterator[Found]:
    """Yield whether HDF5's lock does any harm."""
    if not scene.settings.file_locking:
        yield "files are read without HDF5's lock"
        return
    kind = filesystem(scene.settings.root)
    trouble = f"; on {kind} it may also fail" if kind in REMOTE else ""
    yield Note(
        f"HDF5's lock is taken: it can keep a writer from its own file{trouble}; unset it unless writers lock, too"
    )


def file_timeout(scene: CheckContext) -> Iterator[Found]:
    """Yield whether an announced frame is waited for neither too shortly nor for ever."""
    timeout_s = scene.settings.file_timeout_s
    if timeout_s < TIMEOUT_SHORT_S:
        yield Note(f"frames that come {timeout_s:g} s after their document are given up; set it to 1 or more")
    elif timeout_s > TIMEOUT_LONG_S:
        yield Note(f"a file that hangs its reader does so for {timeout_s:g} s; set it to {TIMEOUT_LONG_S:g} or less")
    else:
        yield f"{timeout_s:g} s for a frame that was announced"


def log_dir(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the log of all events can be written."""
    place = scene.settings.log_dir
    if place is None:
        yield "none is kept"
        return
    exists = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
    if not exists.is_dir() or not os.access(exists, os.W_OK | os.X_OK):
        yield Wrong(f"{exists} is not a directory that this user can write to; set it to one that is")
        return
    most = scene.settings.log_max_gb
    total = shutil.disk_usage(exists).total / 1e9
    if most > total:
        text = f"its {most:,.0f} GB are more than the disk of {exists} has"
        yield Note(f"{text}; set SNAKEMAP_LOG_MAX_GB to {total / 2:.0f} or less")
    yield room_on_disk(exists) or f"up to {most:,.0f} GB in {place}"


def log_rows(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the events that are kept at hand fit into memory."""
    rows = scene.settings.log_rows
    size_mb = rows * LOG_ROW_BYTES / 1e6
    if rows > LOG_ROWS_MANY:
        yield Note(f"{rows:,} events at hand take {size_mb:,.0f} MB a process; set it to {LOG_ROWS_MANY} or less")
    else:
        yield f"{rows:,} events at hand take up to {size_mb:,.0f} MB"


def downloads(scene: CheckContext) -> Iterator[Found]:
    """Yield whether what may be taken along can be."""
    most = scene.settings.download_max_mb
    if most > DOWNLOAD_MANY_MB:
        yield Note(f"files of {most:,} MB may be taken along by anybody; set it to {DOWNLOAD_MANY_MB} or less")
    else:
        yield f"files of up to {most:,} MB" if most else "none may be taken along as a whole"


def dask(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the Dask cluster's scheduler can be reached."""
    address = scene.settings.dask
    if not address:
        yield "none is set; processes of our own read finished files"
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
        yield Wrong('Dask is not installed; `pip install "snakemap[dask]"` does it')
        return
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        yield Wrong(f"nothing answers at {host}:{port} ({error.strerror or error}); start the scheduler, or unset it")
    else:
        yield f"a scheduler at {host}:{port}"
