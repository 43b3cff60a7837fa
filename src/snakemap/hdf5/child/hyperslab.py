"""Regular selections of HDF5: start, stride, count, block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from h5py import h5s  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileBroken

__all__ = ["ENDLESS", "Hyperslab", "Indices", "Stripes"]

Indices = npt.NDArray[np.int64]


ENDLESS = 1 << 40
"""Number of blocks, or elements of one block, of an unlimited selection."""


BOXES_MAX = 4_096
"""Maximum boxes of an irregular selection."""


@dataclass(frozen=True, slots=True)
class Stripes:
    """A selection along one dimension: blocks of neighbors, evenly spaced.

    >>> stripes = Stripes(start=4, stride=3, block=2, count=3)
    >>> stripes.rows(np.arange(6)).tolist()
    [4, 5, 7, 8, 10, 11]
    >>> indices, inside = stripes.find(np.array([0, 4, 6, 7, 11, 12]))
    >>> inside.tolist(), indices[inside].tolist()
    ([False, True, False, True, True, False], [0, 2, 5])
    """

    start: int
    stride: int
    block: int
    count: int

    @property
    def size(self) -> int:
        """Selected elements, at most `ENDLESS`."""
        return min(self.block * self.count, ENDLESS)

    @property
    def last(self) -> int:
        """The last selected element."""
        return self.start + (self.count - 1) * self.stride + self.block - 1

    @property
    def unlimited(self) -> bool:
        """Whether it extends to the end of the dataset."""
        return ENDLESS in (self.block, self.count)

    def rows(self, indices: Indices) -> Indices:
        """Return the elements at indices of the selection."""
        return self.start + indices // self.block * self.stride + indices % self.block

    def find(self, rows: Indices) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """Return the index of each row in the selection, arbitrary for others, and whether the row is selected."""
        blocks, offsets = np.divmod(rows - self.start, self.stride)
        inside = (blocks >= 0) & (blocks < self.count) & (offsets < self.block)
        return np.maximum(blocks, 0) * self.block + np.minimum(offsets, self.block), inside

    def within(self, length: int) -> int:
        """Return the number of selected elements of a dimension of that length."""
        blocks, offset = divmod(max(length - self.start, 0), self.stride)
        return min(blocks * self.block + min(offset, self.block), self.size)

    def only(self, block: int) -> Stripes:
        """Return one of its blocks."""
        return Stripes(self.start + block * self.stride, self.stride, self.block, 1)

    @classmethod
    def whole(cls, length: int) -> Stripes:
        """Return a selection of the whole dimension."""
        return cls(0, max(length, 1), length, 1)


@dataclass(frozen=True, slots=True)
class Hyperslab:
    """The selection of a mapping in one of its two datasets.

    Attributes:
        stripes: along each dimension; None: everything, of any shape, unless there are boxes.
        boxes: first and last corner (boxes, 2, dimensions) of an irregular selection; None for others.
    """

    stripes: tuple[Stripes, ...] | None = None
    boxes: npt.NDArray[np.int64] | None = None

    @property
    def unlimited(self) -> int | None:
        """The unlimited dimension, if any."""
        return next((number for number, along in enumerate(self.stripes or ()) if along.unlimited), None)

    def along(self, shape: Sequence[int]) -> tuple[Stripes, ...]:
        """Return stripes along each dimension of a dataset of a shape; for boxes, all between their corners."""
        if self.boxes is not None:
            first, last = self.boxes[:, 0].min(axis=0), self.boxes[:, 1].max(axis=0)
            return tuple(Stripes(int(a), int(b - a + 1), int(b - a + 1), 1) for a, b in zip(first, last, strict=True))
        return self.stripes if self.stripes is not None else tuple(Stripes.whole(length) for length in shape)

    @classmethod
    def of(cls, space: h5s.SpaceID) -> Hyperslab | None:
        """Return the selection of a dataspace; None if it is empty.

        Raises:
            FileBroken: it is too irregular.
        """
        kind = space.get_select_type()
        if kind == h5s.SEL_NONE:
            return None
        if kind == h5s.SEL_ALL:
            return cls()
        if kind == h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
            regular = zip(*space.get_regular_hyperslab(), strict=True)
            return cls(tuple(_stripes(start, stride, count, block) for start, stride, count, block in regular))
        hyperslab = kind == h5s.SEL_HYPERSLABS
        count = space.get_select_hyper_nblocks() if hyperslab else space.get_select_elem_npoints()
        if count > BOXES_MAX:
            raise FileBroken(f"a mapping of {count:,} separate pieces is too complex to read")
        if hyperslab:
            boxes = np.asarray(space.get_select_hyper_blocklist(), np.int64).reshape(count, 2, -1)
        else:
            boxes = np.repeat(np.asarray(space.get_select_elem_pointlist(), np.int64)[:, np.newaxis], 2, axis=1)
        return cls(boxes=boxes)


def _stripes(start: int, stride: int, count: int, block: int) -> Stripes:
    """Return stripes from HDF5's numbers; unlimited ones get a large end.

    >>> _stripes(0, 1, 1, h5s.UNLIMITED), _stripes(2, 4, h5s.UNLIMITED, 4).unlimited
    (Stripes(start=0, stride=1099511627776, block=1099511627776, count=1), True)
    """
    block = ENDLESS if block == h5s.UNLIMITED else block
    count = ENDLESS if count == h5s.UNLIMITED else count
    return Stripes(start, max(stride, block, 1), block, count) if count == 1 else Stripes(start, stride, block, count)
