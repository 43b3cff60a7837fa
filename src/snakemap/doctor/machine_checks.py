"""Checks of the machine: Python, packages, disk, clock, open files, and what earlier lives have left behind."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement

from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.resources import app_dir

__all__ = ["clock", "leftovers", "open_files", "packages", "pages", "python", "room_on_disk", "state_dir"]

SHOWN = ("panel", "bokeh", "holoviews", "datashader", "h5py", "bluesky", "redis", "stomp.py")
FREE_MIN_BYTES, FREE_LOW_BYTES = 100_000_000, 1_000_000_000
AHEAD_WRONG_S, AHEAD_NOTE_S = 2.0, 0.5
FILES_OF_A_PROCESS, FILES_OF_A_TAB = 100, 2


def python(scene: CheckContext) -> Iterator[Found]:
    """Yield whether this Python is one that we know to work."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield found if fits else Wrong(f"{found} is not 3.11 to 3.13; install one of these")


def packages(scene: CheckContext) -> Iterator[Found]:
    """Yield whether every package is here in a version that we know to work."""
    unfit = []
    try:
        needed = importlib.metadata.requires("snakemap") or []
    except importlib.metadata.PackageNotFoundError:
        yield Wrong("snakemap itself is not installed; `pip install .` does it")
        return
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            unfit.append(f"{requirement.name} is missing")
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                unfit.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if unfit:
        yield Wrong(f"{', '.join(unfit)}; install snakemap anew")
    else:
        yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)


def pages(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the pages are installed."""
    found = sorted(page.stem for page in app_dir().glob("*.py"))
    yield f"{', '.join(found)} in {app_dir()}" if found else Wrong(f"none in {app_dir()}; install snakemap anew")


def state_dir(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the state directory can be used, and has room."""
    place = scene.settings.state_dir.expanduser()
    exists = next(parent for parent in (place, *place.parents) if parent.exists())
    if not exists.is_dir() or not os.access(exists, os.W_OK | os.X_OK):
        yield Wrong(f"{exists} cannot be written to by this user; set SNAKEMAP_STATE_DIR to where it can")
        return
    yield room_on_disk(exists) or str(place)


def room_on_disk(place: Path) -> Found | None:
    """Return what is to be said of the room that is left on a disk; None when there is enough."""
    free = shutil.disk_usage(place).free
    if free >= FREE_LOW_BYTES:
        return None
    text = f"{free / 1e6:,.0f} MB are left on the disk of {place}; make room, or set it to another disk"
    return Wrong(text) if free < FREE_MIN_BYTES else Note(text)


def open_files(scene: CheckContext) -> Iterator[Found]:
    """Yield whether as many tabs as may be open can be: each is a connection, and a connection is an open file."""
    tabs, (limit, _) = scene.settings.max_sessions, resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_OF_A_PROCESS + FILES_OF_A_TAB * tabs
    if limit == resource.RLIM_INFINITY or limit >= needed:
        yield f"{tabs} tabs may be open, and {limit:,} files"
        return
    yield Wrong(
        f"{tabs} tabs need about {needed:,} open files, and {limit:,} are allowed; `ulimit -n {needed}` before the "
        f"start (LimitNOFILE={needed} in a systemd unit) allows more, or set it to {_tabs(limit)} or less"
    )


def _tabs(limit: int) -> int:
    return max((limit - FILES_OF_A_PROCESS) // FILES_OF_A_TAB, 1)


def clock(scene: CheckContext) -> Iterator[Found]:
    """Yield whether our clock and that of Redis agree: silence, lags and the age of runs are told by both."""
    ahead = scene.store.vitals.ahead_s if scene.store else None
    if ahead is None:
        yield Note("that of Redis cannot be told")
        return
    text = f"that of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(ahead) > AHEAD_NOTE_S:
        text += "; have both set by NTP (`timedatectl set-ntp true`)"
        yield Wrong(text) if abs(ahead) > AHEAD_WRONG_S else Note(text)
    else:
        yield "agrees with that of Redis"


def leftovers(scene: CheckContext) -> Iterator[Found]:
    """Yield what processes that were killed have left behind."""
    found = [*_orphans(), *_demos(), *_keys(scene.settings.state_dir.expanduser())]
    yield from found or ["nothing was left behind"]


def _orphans() -> Iterator[Found]:
    """Reading processes whose parent is no more."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"snakemap.hdf5.child" in words and entry.stat().st_uid == os.getuid() and _adopted(entry):
                yield Note(f"a process that reads files has lost its parent; `kill {entry.name}` ends it")


def _adopted(entry: Path) -> bool:
    """Return whether the parent of a process is whoever takes those that have lost theirs."""
    parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
    return parent == "1" or Path(f"/proc/{parent}/comm").read_text().strip() in ("systemd", "init")


def _demos() -> Iterator[Found]:
    """Temporary directories of demos that have ended."""
    for place in Path(tempfile.gettempdir()).glob("snakemap-demo-*"):
        with suppress(OSError):
            if place.stat().st_uid == os.getuid() and _unused(place / "redis" / "users"):
                yield Note(f"a demo was killed and has left {place}; `rm -r {place}` removes it")


def _unused(path: Path) -> bool:
    """Return whether nobody holds a lock on a file.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _keys(state: Path) -> Iterator[Found]:
    """Yield keys that were not finished."""
    for path in state.glob("secret-key.*"):
        yield Note(f"{path} is half a key that nobody uses; `rm {path}` removes it")
