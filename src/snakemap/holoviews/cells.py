"""Values that are written in place while displayed, with a log of changes.

::

    put([4, 7], [1., 2.])    values, span, version          a plot asks changed(version it shows) and sends those cells
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from snakemap.core.change_log import ChangeLog

__all__ = ["Cells", "LiveCells"]


@runtime_checkable
class Cells(Protocol):
    """The data of a live element.

    Attributes:
        values: (rows, columns) of an image, first row at the lowest coordinate, or (bars,); NaN is blank.
        version: rises with every change.
        span: lowest and highest value; NaN before the first.
    """

    @property
    def values(self) -> npt.NDArray[Any]:
        """All current values."""
        ...

    @property
    def version(self) -> int:
        """Version of the values."""
        ...

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value."""
        ...

    def changed(self, since: int) -> npt.NDArray[np.integer] | None:
        """Return the flat indices of the cells that changed after a version; None if unknown."""
        ...


class LiveCells:
    """Values with a log of changes; a change costs O(changed cells).

    Args:
        shape: rows and columns of an image, or the number of bars.
        fill: initial value.

    Attributes:
        values: float64, written in place by :meth:`put`.
    """

    def __init__(self, shape: tuple[int, ...], fill: float = np.nan) -> None:
        self.values: npt.NDArray[np.float64] = np.full(shape, fill)
        self._log = ChangeLog(self.values.size)
        self._span = (np.nan, np.nan)
        self._watchers: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """Number of cell writes."""
        return self._log.version

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest finite value ever written; NaN before the first."""
        return self._span

    def put(self, cells: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Write cells, and notify their elements.

        Args:
            cells: flat indices, row after row.
            values: one for each cell, or one for all.

        Raises:
            IndexError: a cell is out of range; nothing is written then.
            ValueError: there are not as many values as cells.
        """
        numbers = np.atleast_1d(np.asarray(cells, dtype=np.int64))
        written = np.broadcast_to(np.asarray(values, dtype=np.float64), numbers.shape)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.values.size):
            raise IndexError(f"cells are numbered from 0 to {self.values.size - 1}")
        self.values.flat[numbers] = written
        self._log.add(numbers)
        finite = written[np.isfinite(written)]
        if finite.size:
            self._span = (float(np.fmin(self._span[0], finite.min())), float(np.fmax(self._span[1], finite.max())))
        for notify in list(self._watchers):
            notify()

    def changed(self, since: int) -> npt.NDArray[np.integer]:
        """Return the flat indices of the cells that changed after a version, each once."""
        return self._log.since(since)

    def watch(self, notify: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each change; return a function that unsubscribes it."""
        self._watchers.append(notify)
        return lambda: self._watchers.remove(notify) if notify in self._watchers else None
