"""Directories and files that their owner alone may read, whatever the umask of the process is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["make_private", "open_private", "write_private"]

DIRECTORY, FILE = 0o700, 0o600


def make_private(directory: Path) -> None:
    """Make a directory, or close one of ours that is open to others.

    A directory of another user is left as it is.

    Raises:
        OSError: when it cannot be made or closed.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=DIRECTORY)
    found = directory.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != DIRECTORY:
        directory.chmod(DIRECTORY)


def open_private(path: Path, flags: int) -> int:
    """Open a file and return its descriptor; one that is made, or is ours and open to others, is closed to them.

    Raises:
        OSError: when it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != FILE:
        os.fchmod(descriptor, FILE)
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Write a text file that the owner alone may read.

    Raises:
        OSError: when it cannot be written.
    """
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(text)
