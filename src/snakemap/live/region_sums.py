"""The sums of points over one rectangle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["KeptSums", "RegionSums"]

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class KeptSums:
    """The sums of one rectangle.

    Attributes:
        values: (capacity,) by seq_num.
        places: (capacity,) the place of the frame that was summed, as :meth:`FrameLedger.places` has it; -1: none.
    """

    values: npt.NDArray[np.float64] = field(default_factory=lambda: np.full(1024, np.nan))
    places: Ints = field(default_factory=lambda: np.full(1024, -1, np.int64))

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return self.values.nbytes + self.places.nbytes

    def grow(self, size: int) -> None:
        """Make room for seq_nums below a size."""
        more = max(size, 2 * len(self.values)) - len(self.values) if size > len(self.values) else 0
        if more:
            self.values = np.concatenate([self.values, np.full(more, np.nan)])
            self.places = np.concatenate([self.places, np.full(more, -1, np.int64)])


@dataclass(frozen=True, slots=True)
class RegionSums:
    """Sums over a rectangle, as far as they are known.

    Attributes:
        seq_nums: (n,), in any order.
        values: (n,).
        approximate: how many of them are not exact: blocks that the rectangle cuts count by their area.
        measured: number of points that have a sum.
    """

    seq_nums: Ints
    values: npt.NDArray[np.float64]
    approximate: int
    measured: int

    @property
    def read(self) -> int:
        """How many are exact."""
        return len(self.seq_nums) - self.approximate
