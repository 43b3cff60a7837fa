"""The block sums that a process of pages or of the API reads, and makes for the runs that are asked for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.blocks.block_directory import BlockDirectory
from snakemap.blocks.block_files import BlockKey, BlockReader
from snakemap.core.block_sums import BLOCK
from snakemap.core.roi import Roi, shrink
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.live.block_maker import BlockMaker, key_of
from snakemap.live.measured import measured
from snakemap.settings import Settings

__all__ = ["BlockAccess", "BoxSums"]

WANTED_S = 15.0
"""Seconds for which sums are made after they were last asked for."""

LOOK_S = 0.5
"""Seconds between two looks for new sums."""

CHECKED_AT_ONCE = 256
"""Points whose checksums are compared before another thread may read: about 10 ms."""

READERS_KEPT = 16

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BoxSums:
    """Sums over a rectangle.

    Attributes:
        seq_nums: (points,), in rising order.
        values: (points,).
        exact: whether they are those of the pixels; else blocks that the rectangle cuts count by their area.
    """

    seq_nums: Ints
    values: npt.NDArray[np.float64]
    exact: bool


@dataclass(eq=False, slots=True)
class _Wanted:
    """A source whose sums are asked for.

    Attributes:
        reader: of its sums.
        of: the run and its source; None while nothing more is to be made.
        until: when it is not asked for any more, by :func:`time.monotonic`.
    """

    reader: BlockReader
    of: tuple[Run, MapSource] | None = None
    until: float = 0.0


class BlockAccess:
    """Reads block sums, and makes those that are missing while they are asked for.

    Args:
        directory: of all sums.
        maker: makes sums.
    """

    def __init__(self, directory: BlockDirectory, maker: BlockMaker) -> None:
        self.directory = directory
        self.maker = maker
        self._wanted: OrderedDict[BlockKey, _Wanted] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> BlockAccess | None:
        """Return one for the files of the data root; None if the settings want no sums."""
        maker = BlockMaker.of(settings)
        return None if maker is None else cls(maker.directory, maker)

    async def close(self) -> None:
        """End the making, and the reader process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.maker.close()

    def want(self, run: Run, source: MapSource) -> None:
        """Ask for the sums of a source: what is there is read, and what is missing is made, for some seconds.

        Args:
            run: folded by this event loop.
            source: one of its cameras.
        """
        key = key_of(run, source)
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = _Wanted(self.directory.reader(key))
        wanted.of, wanted.until = (run, source), time.monotonic() + WANTED_S
        self._wanted.move_to_end(key)
        while len(self._wanted) > READERS_KEPT:
            self._wanted.popitem(last=False)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="sums of blocks")

    async def refresh(self, run: Run, source: MapSource) -> None:
        """Read all sums that are there, in a thread."""
        self.want(run, source)
        await self._check(self._wanted[key_of(run, source)])

    def boxes(self, run: Run, source: MapSource, roi: Roi) -> BoxSums | None:
        """Return the sums over a rectangle of all points whose sums are read; None if there are none.

        Args:
            run: of the source.
            source: one of its cameras.
            roi: within the frame.
        """
        wanted = self._wanted.get(key_of(run, source))
        if wanted is None or wanted.reader.format is None or wanted.reader.format.frame_shape != source.frame_shape:
            return None
        exact = wanted.reader.format.is_exact(roi)
        seq_nums, places = measured(source)
        known, values = wanted.reader.boxes(seq_nums, places, roi)
        if wanted.reader.format.cumulative and not exact:
            np.rint(values, out=values)  # counts are whole numbers
        return BoxSums(seq_nums[known], values, exact) if known.any() else None

    async def mean(self, run: Run, source: MapSource, seq_nums: Ints) -> tuple[int, npt.NDArray[np.float64] | None]:
        """Return the number of points whose sums are there, and their mean frame, with one value for each block.

        It is as small as a screen needs it; colors are summed.

        Args:
            run: of the source.
            source: one of its cameras.
            seq_nums: the points (points,).
        """
        await self.refresh(run, source)
        reader = self._wanted[key_of(run, source)].reader
        points, places = measured(source)
        chosen = np.isin(points, seq_nums)
        return await asyncio.to_thread(_mean_of, reader, points[chosen], places[chosen], source)

    async def _work(self) -> None:
        """Read and make sums while they are asked for."""
        while wanted := [one for one in self._wanted.values() if one.until > time.monotonic()]:
            made = [await self._serve(one) for one in reversed(wanted)]
            if not any(made):
                await asyncio.sleep(LOOK_S)
        for one in self._wanted.values():
            one.of = None  # runs that are not looked at are not kept in memory; what is read of their sums is
        await self.maker.close()

    async def _serve(self, wanted: _Wanted) -> bool:
        """Read the sums of a source, then make a portion of those that are missing; return whether more may be."""
        await self._check(wanted)
        if wanted.of is None:
            return False
        run, source = wanted.of
        if source.kind == "frames" and source.ledger.resources:
            known = wanted.reader.known(*measured(source))
            if not known.all() and await self.maker.portion(run, source):
                return True
        self.maker.release(run, source)
        return False

    async def _check(self, wanted: _Wanted) -> None:
        while await asyncio.to_thread(wanted.reader.refresh, points_max=CHECKED_AT_ONCE):
            pass


def _mean_of(
    reader: BlockReader, seq_nums: Ints, places: Ints, source: MapSource
) -> tuple[int, npt.NDArray[np.float64] | None]:
    count, total = reader.total(seq_nums, places)
    form = reader.format
    if total is None or form is None or form.frame_shape != source.frame_shape:
        return 0, None
    frames = max((resource.frames_per_point for resource in source.ledger.resources.values()), default=1)
    means = total / (count * frames * form.pixels())
    if all(size % BLOCK == 0 for size in form.frame_shape):
        return count, means
    # blocks at the far edges are smaller: each block gets as many pixels as it has
    high, wide = (np.diff(np.append(np.arange(0, size, BLOCK), size)) for size in form.frame_shape)
    return count, shrink(np.repeat(np.repeat(means, high, axis=0), wide, axis=1))
