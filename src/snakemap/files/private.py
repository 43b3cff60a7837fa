"""Directories and files for their owner only, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["make_private", "open_private", "write_private"]

DIRECTORY, FILE = 0o700, 0o600


def make_private(directory: Path) -> None:
    """Make a directory for the owner only, or restrict an existing own one.

    A directory of another user is left unchanged.

    Raises:
        OSError: it cannot be made or restricted.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=DIRECTORY)
    found = directory.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != DIRECTORY:
        directory.chmod(DIRECTORY)


def open_private(path: Path, flags: int) -> int:
    """Open a file, for the owner only if it is new or own, and return its descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != FILE:
        os.fchmod(descriptor, FILE)
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Write a text file for the owner only.

    Raises:
        OSError: it cannot be written.
    """
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(text)
