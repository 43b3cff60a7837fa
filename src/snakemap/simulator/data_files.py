"""The simulator's files: names, total size, and removal of the oldest.

Only files with the simulator's name pattern, in its own directory, are removed. While a file is written an empty
companion beside it is locked, so that no other simulator removes it; a crash leaves no lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from snakemap.errors import SettingsError

__all__ = ["DIRECTORY", "Spool", "SpoolFile"]

logger = logging.getLogger(__name__)

DIRECTORY = "simulated"
NAME_PATTERN = re.compile(r"snakemap-sim-\d{8}T\d{6}-[0-9a-f]{8}\.h5")
LOCK_NAME = ".snakemap-sim.lock"
FREE_BYTES_MIN = 64 * 1024 * 1024
"""Bytes left free on the disk."""


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file to write.

    Attributes:
        path: absolute.
        bytes_max: maximum size within the limit of the directory.
    """

    path: Path
    bytes_max: int


class Spool:
    """A directory of simulated files with a limited total size; the oldest are removed for new ones.

    Args:
        data_dir: the data root; the files go into its ``simulated`` directory.
        limit_bytes: maximum size of all simulated files, like 2 GB.
    """

    def __init__(self, data_dir: Path, *, limit_bytes: int) -> None:
        self.directory = data_dir.expanduser().absolute() / DIRECTORY
        self.limit_bytes = limit_bytes

    @contextmanager
    def claim(self, needed_bytes: int) -> Iterator[SpoolFile]:
        """Reserve name and space for a file of about this size while it is written.

        Raises:
            SettingsError: it does not fit even alone, or the directory is unusable.
        """
        with self.claim_all([needed_bytes]) as (place,):
            yield place

    @contextmanager
    def claim_all(self, needed_bytes: Sequence[int]) -> Iterator[list[SpoolFile]]:
        """Like :meth:`claim`, for the files of one scan; they share the free space.

        Raises:
            SettingsError: they do not fit even alone, or the directory is unusable.
        """
        self._prepare()
        with ExitStack() as while_written:
            with self._locked(LOCK_NAME, os.O_CREAT, wait=True):
                bytes_max = self._free_space(sum(needed_bytes))
                names = [self._reserve(while_written) for _ in needed_bytes]
            shares = [bytes_max * needed // max(sum(needed_bytes), 1) for needed in needed_bytes]
            yield [SpoolFile(self.directory / name, share) for name, share in zip(names, shares, strict=True)]

    def files(self) -> list[Path]:
        """Return the simulator's files, the oldest first."""
        return [self.directory / name for name in self._sizes()]

    def _reserve(self, while_written: ExitStack) -> str:
        name = f"snakemap-sim-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}.h5"
        while_written.enter_context(self._locked(_companion(name), os.O_CREAT | os.O_EXCL, wait=False))
        while_written.callback((self.directory / _companion(name)).unlink, missing_ok=True)
        return name

    def _sizes(self) -> dict[str, int]:
        """Return the size of each of the simulator's files, the oldest first, without links and other files."""
        found = []
        for entry in os.scandir(self.directory):
            if NAME_PATTERN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                # removed since it was listed
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append((stat.st_mtime_ns, entry.name, stat.st_size))
        return {name: size for _, name, size in sorted(found)}

    def _prepare(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"data_dir: {self.directory} cannot be made: {error.strerror}") from error
        if self.directory.is_symlink():
            raise SettingsError(
                f"data_dir: {self.directory} is a link; the simulator cleans up only in a real directory"
            )
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise SettingsError(f"data_dir: nothing may be written to {self.directory}")

    def _free_space(self, needed_bytes: int) -> int:
        free_bytes = shutil.disk_usage(self.directory).free - FREE_BYTES_MIN
        sizes = self._sizes()
        finished = [name for name in sizes if not self._running(name)]
        removable_bytes = sum(sizes[name] for name in finished)
        used_bytes = sum(sizes.values())
        bytes_max = min(self.limit_bytes - used_bytes, free_bytes)
        if needed_bytes > bytes_max + removable_bytes:
            limit_bytes = min(self.limit_bytes, free_bytes + used_bytes)
            raise SettingsError(
                f"this scan needs about {_mb(needed_bytes)}; of the {_mb(limit_bytes)} that simulated files may take "
                f"{_mb(used_bytes - removable_bytes)} are in use: choose fewer points, smaller frames or a higher limit"
            )
        for name in finished:
            if needed_bytes <= bytes_max:
                break
            logger.info("removing the simulated file %s to make room", name)
            (self.directory / name).unlink(missing_ok=True)
            (self.directory / _companion(name)).unlink(missing_ok=True)
            bytes_max += sizes[name]
        return bytes_max

    def _running(self, name: str) -> bool:
        try:
            with self._locked(_companion(name), 0, wait=False):
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    @contextmanager
    def _locked(self, name: str, flags: int, *, wait: bool) -> Iterator[None]:
        descriptor = os.open(self.directory / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)


def _companion(name: str) -> str:
    return f".{name}.writing"


def _mb(size: int) -> str:
    return f"{max(size, 0) / 1e6:,.1f} MB"
