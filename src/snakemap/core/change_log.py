"""A versioned log of changed cells: readers ask what changed since their version.

::

    add [4, 7]     version 2     log  4 7            since(0)  4 7
    add [7, 9]     version 4     log  4 7 7 9        since(2)  7 9      since(0)  4 7 9
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ChangeLog"]


class ChangeLog:
    """Changed cells in order; adding costs O(new cells).

    Args:
        size: number of cells; bounds the log to a few times that. None keeps every change.
        version: initial version.

    Attributes:
        version: how many changes there have been.
    """

    def __init__(self, size: int | None = None, version: int = 0) -> None:
        self.version = self._begin = version
        self._size = size
        self._log = np.empty(1024, dtype=np.int32)

    def add(self, cells: npt.NDArray[np.integer]) -> None:
        """Append cells that have just changed."""
        kept = self.version - self._begin
        if self._size is not None and kept > 4096 and kept + len(cells) > 2 * self._size:
            # a reader with an older version gets every cell
            cut = kept - min(kept, self._size)
            self._log[: kept - cut] = self._log[cut:kept].copy()
            self._begin, kept = self._begin + cut, kept - cut
        if kept + len(cells) > len(self._log):
            # a new array: readers of the old one are not affected
            grown = np.empty(max(kept + len(cells), 2 * len(self._log)), dtype=np.int32)
            grown[:kept] = self._log[:kept]
            self._log = grown
        self._log[kept : kept + len(cells)] = cells
        self.version += len(cells)

    def since(self, version: int) -> npt.NDArray[np.int64]:
        """Return the cells changed after a version, each once, in rising order; all of them if it is too old."""
        if self._size is not None and version < self._begin:
            return np.arange(self._size, dtype=np.int64)
        return np.unique(self._log[version - self._begin : self.version - self._begin]).astype(np.int64)
