"""Checks of the machine: Python, packages, disk, clock, open files, leftovers of killed processes."""

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

__all__ = [
    "clock",
    "disk_space",
    "existing",
    "is_writable",
    "leftovers",
    "open_files",
    "packages",
    "pages",
    "python",
    "state_dir",
]

SHOWN = ("panel", "bokeh", "holoviews", "datashader", "h5py", "bluesky", "redis", "stomp.py")
FREE_MIN_BYTES, FREE_LOW_BYTES = 100_000_000, 1_000_000_000
AHEAD_WRONG_S, AHEAD_NOTE_S = 2.0, 0.5
FILES_OF_A_PROCESS, FILES_OF_A_TAB = 100, 2


def python(context: CheckContext) -> Iterator[Found]:
    """Yield whether this Python version is supported."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield found if fits else Wrong(f"{found} is not 3.11 to 3.13; install one of these")


def packages(context: CheckContext) -> Iterator[Found]:
    """Yield whether every package is installed in a supported version."""
    unfit = []
    try:
        needed = importlib.metadata.requires("snakemap") or []
    except importlib.metadata.PackageNotFoundError:
        yield Wrong("snakemap itself is not installed; run `pip install .`")
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
        yield Wrong(f"{', '.join(unfit)}; install snakemap again")
    else:
        yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)


def pages(context: CheckContext) -> Iterator[Found]:
    """Yield whether the pages are installed."""
    found = sorted(page.stem for page in app_dir().glob("*.py"))
    yield f"{', '.join(found)} in {app_dir()}" if found else Wrong(f"none in {app_dir()}; install snakemap again")


def state_dir(context: CheckContext) -> Iterator[Found]:
    """Yield whether the state directory is writable, and its disk has free space."""
    place = context.settings.state_dir.expanduser()
    exists = existing(place)
    if not is_writable(place):
        yield Wrong(f"{exists} cannot be written to by this user; set SNAKEMAP_STATE_DIR to where it can")
        return
    yield disk_space(exists) or str(place)


def existing(place: Path) -> Path:
    """Return a path, or the first of its parents that exists."""
    return next(parent for parent in (place, *place.absolute().parents) if parent.exists())


def is_writable(place: Path) -> bool:
    """Return whether a directory can be written to, or made."""
    exists = existing(place)
    return exists.is_dir() and os.access(exists, os.W_OK | os.X_OK)


def disk_space(place: Path) -> Found | None:
    """Return a finding about low free space on a disk; None when there is enough."""
    free = shutil.disk_usage(place).free
    if free >= FREE_LOW_BYTES:
        return None
    text = f"{free / 1e6:,.0f} MB are free on the disk of {place}; free some, or set it to another disk"
    return Wrong(text) if free < FREE_MIN_BYTES else Note(text)


def open_files(context: CheckContext) -> Iterator[Found]:
    """Yield whether the limit of open files allows the maximum of tabs: each tab takes two."""
    tabs, (limit, _) = context.settings.max_sessions, resource.getrlimit(resource.RLIMIT_NOFILE)
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


def clock(context: CheckContext) -> Iterator[Found]:
    """Yield whether the clocks of this host and of Redis agree; silence, lags and ages of runs use both."""
    ahead = context.store.redis.ahead_s if context.store else None
    if ahead is None:
        yield Note("that of Redis is unknown")
        return
    text = f"that of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    if abs(ahead) > AHEAD_NOTE_S:
        text += "; synchronize both by NTP (`timedatectl set-ntp true`)"
        yield Wrong(text) if abs(ahead) > AHEAD_WRONG_S else Note(text)
    else:
        yield "agrees with that of Redis"


def leftovers(context: CheckContext) -> Iterator[Found]:
    """Yield leftovers of killed processes."""
    found = [*_orphans(), *_demos(), *_keys(context.settings.state_dir.expanduser())]
    yield from found or ["none"]


def _orphans() -> Iterator[Found]:
    """Yield reader processes without a parent."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"snakemap.hdf5.child" in words and entry.stat().st_uid == os.getuid() and _adopted(entry):
                yield Note(f"a reader process has lost its parent; `kill {entry.name}` ends it")


def _adopted(entry: Path) -> bool:
    """Return whether the parent of a process is init or systemd."""
    parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
    return parent == "1" or Path(f"/proc/{parent}/comm").read_text().strip() in ("systemd", "init")


def _demos() -> Iterator[Found]:
    """Yield temporary directories of demos that have ended."""
    for place in Path(tempfile.gettempdir()).glob("snakemap-demo-*"):
        with suppress(OSError):
            if place.stat().st_uid == os.getuid() and _unused(place / "redis" / "users"):
                yield Note(f"a demo was killed and has left {place}; `rm -r {place}` removes it")


def _unused(path: Path) -> bool:
    """Return whether no process holds a lock on a file.

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
    """Yield unfinished key files."""
    for path in state.glob("secret-key.*"):
        yield Note(f"{path} is an unfinished key; `rm {path}` removes it")
