"""Which rows of which source back the rows of a virtual dataset: the arithmetic of HDF5's mappings.

A mapping pairs a selection of the virtual dataset with a selection of a source, element by element in C order. Regular
selections are stripes along each dimension, so the source rows follow by division::

    virtual rows        0  1  2  3  4  5  6          mapping: every third row from 1 on, blocks of 2
    index in mapping    .  0  1  .  2  3  .          (start 1, stride 3, block 2)
    source rows            5  6     7  8             (start 5, one block)

Nothing is opened here. Irregular selections are boxes: their coverage is exact, and all of their source counts as
needed.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from h5py import h5p  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileBroken, FileRefused
from snakemap.hdf5.child.hyperslab import ENDLESS, Hyperslab, Indices, Stripes

__all__ = ["MappedPart", "Mapping", "VirtualMap"]

Gaps = npt.NDArray[np.bool_]


MAPPINGS_MAX = 100_000


INDICES_MAX = 16_000_000
"""Maximum rows of a source in one request."""


PATTERN = re.compile(r"%(.?)")


@dataclass(frozen=True, slots=True)
class MappedPart:
    """The elements of one source behind rows of a virtual dataset.

    Attributes:
        axis: dimension of the source that corresponds to the rows of the virtual dataset.
        indices: needed along each dimension of the source.
        at: for each index along the axis, the number of the requested row, in rising order.
        whole: whether each of the rows `at` needs all of it.
    """

    axis: int
    indices: tuple[Indices, ...]
    at: Indices
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of a virtual dataset.

    Attributes:
        file: name of the source file, with ``%b`` for the number of a block if there are many files.
        path: of the dataset in it, likewise.
        virtual: selection of the virtual dataset.
        source: selection of the source.
    """

    file: str
    path: str
    virtual: Hyperslab
    source: Hyperslab

    @property
    def patterned(self) -> bool:
        """Whether each block has its own source."""
        return self.virtual.unlimited is not None and self.source.unlimited is None

    @property
    def unlimited(self) -> bool:
        """Whether the source determines the length of the virtual dataset."""
        return self.virtual.unlimited is not None

    def names(self, block: int = 0) -> tuple[str, str]:
        """Return the names of the file and of the dataset of a block.

        Raises:
            FileRefused: their pattern is unknown to HDF5.
        """
        return _expand(self.file, block), _expand(self.path, block)

    def has_part(self, rows: Indices, others: Sequence[Indices], shape: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return which needed rows of the virtual dataset it maps in part."""
        found = np.zeros(len(rows), bool)
        for stripes in _regular(self.virtual, shape):
            if all(along.find(index)[1].any() for along, index in zip(stripes[1:], others, strict=True)):
                found |= stripes[0].find(rows)[1]
        return found

    def pieces(
        self, rows: Indices, inside: npt.NDArray[np.bool_], shape: Sequence[int]
    ) -> Iterator[tuple[int, tuple[Stripes, ...], Indices, Indices]]:
        """Yield what is needed for rows, one source after the other.

        Args:
            rows: of the virtual dataset, rising.
            inside: which of them this mapping covers in part.
            shape: of the virtual dataset.

        Yields:
            Number of the block, stripes of the virtual dataset, indices of rows in them, and which rows these are.
        """
        stripes, at = self.virtual.along(shape), np.flatnonzero(inside)
        index = stripes[0].find(rows[at])[0]
        across = self.virtual.unlimited
        if not self.patterned or across is None:
            yield 0, stripes, index, at
            return
        along = stripes[across]
        if across:
            for block in range(math.ceil(along.within(shape[across]) / along.block)):
                yield block, (*stripes[:across], along.only(block), *stripes[across + 1 :]), index, at
            return
        blocks = index // along.block
        for block in np.unique(blocks).tolist():
            here = blocks == block
            yield block, (along.only(block), *stripes[1:]), index[here] % along.block, at[here]

    def place(self, gaps: Gaps, *, shape: Sequence[int], source_shape: Sequence[int]) -> Gaps | None:
        """Return the gaps in the frames of its source as gaps in the frames of the virtual dataset; False elsewhere.

        Returns:
            None if frames are not mapped pixel by pixel.
        """
        if self.virtual.boxes is not None or self.source.boxes is not None or self.patterned:
            return None
        rank = gaps.ndim
        here, there = self.virtual.along(shape)[-rank:], self.source.along(source_shape)[-rank:]
        if rank >= len(source_shape) or any(a.unlimited or b.unlimited for a, b in zip(here, there, strict=True)):
            return None
        if [along.size for along in here] != [along.size for along in there]:
            return None
        placed = np.zeros(tuple(shape[-rank:]), bool)
        to, of = (np.ix_(*(along.rows(np.arange(along.size)) for along in tile)) for tile in (here, there))
        placed[to] = gaps[of]
        return placed

    def part(
        self,
        stripes: tuple[Stripes, ...],
        index: Indices,
        at: Indices,
        *,
        shape: Sequence[int],
        source_shape: Sequence[int],
    ) -> MappedPart:
        """Return what rows from :meth:`pieces` need of one source."""
        source = self.source.along(source_shape)
        sizes = [stripe.size for stripe in source]
        each_dimension = zip(stripes, shape, strict=True)
        mapped = [along.within(length) if along.unlimited else along.size for along, length in each_dimension]
        growing, grows = self.source.unlimited, self.virtual.unlimited
        if growing is not None and grows is not None:
            sizes[growing] = mapped[grows]
        if max(sizes) > INDICES_MAX:
            raise FileBroken(f"{self.file[:200]} is mapped in a way that needs too many of its rows at one time")
        axis = next((number for number, size in enumerate(sizes) if size > 1), len(sizes) - 1)
        if self.virtual.boxes is not None or self.source.boxes is not None:
            return MappedPart(
                axis, _indices(source, sizes, axis, source[axis].rows(np.arange(sizes[axis]))), at, whole=True
            )
        each = math.prod(mapped[1:])
        if self.source.stripes is None and len(source) == len(stripes):
            axis = 0  # all of a source that may have no rows yet
        source_each = max(math.prod(sizes[axis + 1 :]), 1)
        if each == source_each:
            picked = index
        else:
            first, last = index * each // source_each, ((index + 1) * each - 1) // source_each
            many = last - first + 1
            if many.sum() > INDICES_MAX:
                raise FileBroken(f"{self.file[:200]} is mapped in a way that needs too many of its rows at one time")
            at = np.repeat(at, many)
            picked = np.arange(len(at)) - np.repeat(np.cumsum(many) - many, many) + np.repeat(first, many)
        return MappedPart(axis, _indices(source, sizes, axis, source[axis].rows(picked)), at)


@dataclass(slots=True)
class VirtualMap:
    """All mappings of a virtual dataset.

    Attributes:
        mappings: in their order.
        first: row (mappings,) of the virtual dataset at which each begins.
        last: row at which each ends.
        unlimited: those whose sources determine the length of the virtual dataset.
    """

    mappings: list[Mapping]
    first: Indices
    last: Indices
    unlimited: list[Mapping]
    _covering: dict[object, bool] = field(default_factory=dict)
    _gaps: dict[tuple[int, ...], Gaps | None] = field(default_factory=dict)

    @classmethod
    def of(cls, creation: h5p.PropDCID) -> VirtualMap:
        """Return the mappings in a dataset's creation properties.

        Raises:
            FileBroken: there are too many, or too irregular ones.
        """
        count = creation.get_virtual_count()
        if count > MAPPINGS_MAX:
            raise FileBroken(f"a virtual dataset of {count:,} mappings is not read")
        mappings: list[Mapping] = []
        for number in range(count):
            virtual = Hyperslab.of(creation.get_virtual_vspace(number))
            source = Hyperslab.of(creation.get_virtual_srcspace(number))
            if virtual is not None and source is not None:
                names = creation.get_virtual_filename(number), creation.get_virtual_dsetname(number)
                mappings.append(Mapping(*names, virtual, source))
        bounds = [_bounds(mapping.virtual) for mapping in mappings]
        first, last = (np.array([bound[end] for bound in bounds], np.int64) for end in (0, 1))
        return cls(mappings, first, last, [mapping for mapping in mappings if mapping.unlimited])

    def touching(self, rows: Indices) -> Iterator[Mapping]:
        """Yield the mappings that may cover rows in part."""
        if not len(rows):
            return
        for number in np.flatnonzero((self.first <= rows[-1]) & (self.last >= rows[0])).tolist():
            yield self.mappings[number]

    def gaps(self, shape: Sequence[int], rank: int) -> Gaps | None:
        """Return the positions in a frame that no mapping covers in any row: the gaps between detector modules.

        Args:
            shape: of the virtual dataset.
            rank: dimensions of a frame, the last ones; 0 if the dataset has no frames.

        Returns:
            Whether each position (height, width) is a gap; None if none is, or if nothing is mapped.
        """
        if not 0 < rank < len(shape):
            return None
        frame = tuple(shape[-rank:])
        if frame not in self._gaps:
            tiles = {tile[-rank:] for mapping in self.mappings for tile in _regular(mapping.virtual, shape)}
            covered = np.zeros(frame, bool)
            for tile in tiles:
                if covered.all():
                    break
                inside = [along.find(np.arange(size))[1] for along, size in zip(tile, frame, strict=True)]
                covered |= functools.reduce(np.logical_and.outer, inside)
            self._gaps[frame] = None if covered.all() or not covered.any() else ~covered
        return self._gaps[frame]

    def mapped(
        self, rows: Indices, others: Sequence[Indices], shape: Sequence[int], *, rank: int = 0
    ) -> npt.NDArray[np.bool_]:
        """Return whether the mappings cover all that is needed of each row, except gaps of its frames.

        Args:
            rows: of the virtual dataset, rising.
            others: needed along its other dimensions.
            shape: its shape.
            rank: dimensions of a frame, the last ones; 0: every element must be mapped.
        """
        gaps = self.gaps(shape, rank)
        covered = np.zeros(len(rows), bool)
        partial: list[tuple[npt.NDArray[np.bool_], tuple[Stripes, ...]]] = []
        for mapping in self.touching(rows):
            for stripes in _regular(mapping.virtual, shape):
                inside = stripes[0].find(rows)[1]
                if self._covers((stripes[1:],), others, gaps):
                    covered |= inside
                elif inside.any():
                    partial.append((inside, stripes[1:]))
        if partial and not covered.all():
            _, firsts, alike = np.unique(
                np.stack([inside for inside, _ in partial]), axis=1, return_index=True, return_inverse=True
            )
            for number, first in enumerate(firsts):
                tiles = tuple(dict.fromkeys(tile for inside, tile in partial if inside[first]))
                covered |= (alike.reshape(-1) == number) & self._covers(tiles, others, gaps)
        return covered

    def _covers(
        self, tiles: tuple[tuple[Stripes, ...], ...], others: Sequence[Indices], gaps: Gaps | None = None
    ) -> bool:
        """Return whether tiles of a row cover all that is needed of it, except gaps."""
        needed = tuple((len(index), int(index[0]), int(index[-1])) for index in others if len(index))
        key = (tiles, needed, 0 if gaps is None else gaps.ndim)
        plain = all(len(index) and index[-1] - index[0] + 1 == len(index) for index in others)
        if plain and key in self._covering:
            return self._covering[key]
        covered = np.zeros(tuple(len(index) for index in others), bool)
        for tile in tiles:
            inside = [along.find(index)[1] for along, index in zip(tile, others, strict=True)]
            covered |= functools.reduce(np.logical_and.outer, inside) if inside else np.True_
        if gaps is not None:
            covered |= gaps[np.ix_(*others[-gaps.ndim :])]
        answer = bool(covered.all())
        if plain and len(self._covering) < MAPPINGS_MAX:
            self._covering[key] = answer
        return answer


def _bounds(selection: Hyperslab) -> tuple[int, int]:
    """Return the first and last row of a selection."""
    if selection.stripes is None and selection.boxes is None:
        return 0, ENDLESS
    along = selection.along(())[0]
    return along.start, min(along.last, ENDLESS)


def _regular(selection: Hyperslab, shape: Sequence[int]) -> Iterator[tuple[Stripes, ...]]:
    """Yield a selection as regular ones: itself, or its boxes."""
    if selection.boxes is None:
        yield selection.along(shape)
        return
    for box in selection.boxes[:, np.newaxis]:
        yield replace(selection, boxes=box).along(shape)


def _indices(source: tuple[Stripes, ...], sizes: Sequence[int], axis: int, along: Indices) -> tuple[Indices, ...]:
    """Return the indices along each dimension of a source, of which one is known."""
    each = enumerate(zip(source, sizes, strict=True))
    return tuple(along if number == axis else stripes.rows(np.arange(size)) for number, (stripes, size) in each)


def _expand(name: str, block: int) -> str:
    """Return a name with the number of a block, as HDF5 formats it.

    >>> _expand("f_%b.h5", 12), _expand("100%%.h5", 0)
    ('f_12.h5', '100%.h5')
    """

    def expanded(match: re.Match[str]) -> str:
        if match[1] not in ("b", "%"):
            raise FileRefused(f"a source is named by a pattern other than %b, which is not followed: {name[:200]}")
        return str(block) if match[1] == "b" else "%"

    return PATTERN.sub(expanded, name) if "%" in name else name
