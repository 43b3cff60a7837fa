"""The directory of all block sums, with a bound: the oldest sums are removed first."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from snakemap.blocks.block_files import LOCK, BlockKey, BlockReader, BlockWriter, lock_of, remove_sums
from snakemap.core.block_sums import BlockFormat

__all__ = ["BlockDirectory"]

NAME = re.compile(r"[0-9a-f]{24}-[0-9a-f]{12}")
"""Of the directories of sums; nothing else in the directory is touched."""


class BlockDirectory:
    """Where the block sums of all runs are.

    Args:
        path: of the directory, which is made when something is written.
        bytes_max: of all sums together.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self.path = path
        self.bytes_max = bytes_max

    def reader(self, key: BlockKey) -> BlockReader:
        """Return a reader of the sums of a camera in a run; there may be none yet."""
        return BlockReader(self._path_of(key), key)

    def lock(self, key: BlockKey) -> int | None:
        """Return the descriptor of the lock of a camera in a run; None while another process writes its sums.

        Raises:
            OSError: it cannot be made.
        """
        return lock_of(self._path_of(key))

    def writer(self, key: BlockKey, form: BlockFormat, *, lock: int) -> BlockWriter:
        """Return a writer of the sums of a camera in a run.

        Args:
            key: of the frames.
            form: of the sums.
            lock: from :meth:`lock`; closed with the writer.

        Raises:
            OSError: they cannot be written.
        """
        return BlockWriter(self._path_of(key), key, form, lock=lock)

    def make_room(self, size_bytes: int, *, keep: Path) -> int:
        """Remove the oldest sums until there is room for more; return the bytes that are left beyond, or lacking.

        Sums that another process writes are not removed.

        Args:
            size_bytes: of the additional sums.
            keep: directory whose sums stay.

        Raises:
            OSError: something cannot be removed.
        """
        sizes = {directory: _size(directory) for directory in self._directories()}
        room = self.bytes_max - sum(sizes.values()) - size_bytes
        for directory in sorted(sizes, key=_written_at):
            if room >= 0:
                break
            if directory != keep and sizes[directory] and self._remove(directory):
                room += sizes[directory]
        return room

    def _remove(self, directory: Path) -> bool:
        lock = lock_of(directory)
        if lock is None:
            return False
        try:
            remove_sums(directory)
            (directory / LOCK).unlink()
            directory.rmdir()
        finally:
            os.close(lock)
        return True

    def _path_of(self, key: BlockKey) -> Path:
        run = hashlib.sha256(key.run.encode()).hexdigest()[:24]
        source = hashlib.sha256(f"{key.stream}\0{key.data_key}".encode()).hexdigest()[:12]
        return self.path / f"{run}-{source}"

    def _directories(self) -> Iterator[Path]:
        try:
            yield from (path for path in self.path.iterdir() if NAME.fullmatch(path.name) and path.is_dir())
        except FileNotFoundError:
            return


def _size(directory: Path) -> int:
    """Return the bytes that the files of a directory take on the disk; holes take none."""
    try:
        return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in os.scandir(directory))
    except FileNotFoundError:
        return 0


def _written_at(directory: Path) -> float:
    """Return when a directory was written last, in seconds since 1970."""
    try:
        return max(entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(directory))
    except (FileNotFoundError, ValueError):
        return 0.0
