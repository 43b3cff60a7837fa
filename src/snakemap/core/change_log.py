"""A log of changed cells with a version: readers ask what changed since theirs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ChangeLog"]


class ChangeLog:
    """Which cells changed, in order: a log that never grows longer than a few times the cells there are.

    Attributes:
        version: how many changes there have been.
    """

    def __init__(self, size: int, version: int = 0) -> None:
        self.version = self._begin = version
        self._size = size
        self._log = np.empty(1024, dtype=np.int32)

    def add(self, cells: npt.NDArray[np.integer]) -> None:
        """Remembers cells that have just changed."""
        kept = self.version - self._begin
        if kept > 4096 and kept + len(cells) > 2 * self._size:
            # who asks for what is older than half of this is told that every cell has changed
            cut = kept - min(kept, self._size)
            self._log[: kept - cut] = self._log[cut:kept].copy()
            self._begin, kept = self._begin + cut, kept - cut
        if kept + len(cells) > len(self._log):
            grown = np.empty(max(kept + len(cells), 2 * len(self._log)), dtype=np.int32)
            grown[:kept] = self._log[:kept]
            self._log = grown
        self._log[kept : kept + len(cells)] = cells
        self.version += len(cells)

    def since(self, version: int) -> npt.NDArray[np.int64]:
        """Cells changed after a version, each once, in rising order; all of them when that is too long ago."""
        if version < self._begin:
            return np.arange(self._size, dtype=np.int64)
        return np.unique(self._log[version - self._begin : self.version - self._begin]).astype(np.int64)
