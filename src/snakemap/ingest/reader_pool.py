"""A pool of reader processes, shared by all runs, so that a file that blocks one of them delays no other run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameSums

__all__ = ["ReaderPool"]

READERS_MAX = 3


class FrameReading(Protocol):
    """The part of :class:`snakemap.hdf5.frame_reader.FrameReader` that the worker uses."""

    @property
    def launches(self) -> int: ...
    @property
    def marks(self) -> tuple[FileFingerprint, ...]: ...
    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def reduce(self, batch: FrameBatch) -> FrameSums: ...
    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]: ...
    async def written(self, batch: FrameBatch) -> npt.NDArray[np.bool_]: ...
    async def length(self, uri: str, dataset: str) -> int: ...
    async def size(self, uri: str, dataset: str) -> tuple[int, ...]: ...
    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]: ...


class ReaderPool:
    """Lends readers; a run gets the one that it had last, if free, because its files are open there.

    Args:
        make: makes another reader, which is started here.
        at_most: maximum of readers.
    """

    def __init__(self, make: Callable[[], FrameReading], *, at_most: int = READERS_MAX) -> None:
        self._make = make
        self._free: list[tuple[str, FrameReading]] = []
        self._all: list[FrameReading] = []
        self._slots = asyncio.Semaphore(at_most)

    async def start(self) -> None:
        """Start the first reader, so that the first frame does not wait for it."""
        async with self.borrow(""):
            return

    async def close(self) -> None:
        """End all readers."""
        readers, self._all, self._free = self._all, [], []
        for reader in readers:
            await reader.close()

    @property
    def replaced(self) -> int:
        """How often a reader process was replaced, because a file crashed or blocked it."""
        return sum(max(reader.launches - 1, 0) for reader in self._all)

    @asynccontextmanager
    async def borrow(self, run: str) -> AsyncGenerator[FrameReading]:
        """Lend a reader to a run; wait while all are in use."""
        async with self._slots:
            reader = self._take(run)
            if reader is None:
                reader = self._make()
                await reader.start()
                self._all.append(reader)
            try:
                yield reader
            finally:
                if reader in self._all:
                    self._free.append((run, reader))

    def _take(self, run: str) -> FrameReading | None:
        if not self._free:
            return None
        place = next((place for place, (user, _) in enumerate(self._free) if user == run), -1)
        return self._free.pop(place)[1]
