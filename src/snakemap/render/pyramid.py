"""Image pyramid: images reduced for a screen by Datashader, shared by all tabs of a process.

A level of step ``k`` shows the means of blocks of k by k cells. Blocks lie on a fixed lattice, so a new point changes
one block of each level, and every zoom is a window of one of a few levels.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from snakemap.core.maps import Maps
from snakemap.render.averages import averaged
from snakemap.render.map_image import CellImage, DirectImage

__all__ = ["PyramidLevel", "block_means", "step_for", "warm_up"]

LOG_LENGTH = 50
"""Updates that a tab may skip before everything is sent again."""

BLOCKS_AT_ONCE = 4096


def step_for(cells: float, pixels: float) -> int:
    """Return the step, a power of two, at which cells fit into pixels (with a third more allowed).

    >>> [step_for(cells, 400) for cells in (100, 400, 1000, 2000)]
    [1, 1, 2, 4]
    """
    step = 1
    while cells / step > 1.34 * max(pixels, 1):
        step *= 2
    return step


def block_means(grids: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Return the means over blocks of cells without NaN; a block of NaN is NaN.

    Args:
        grids: (channels, rows, columns).
        step: cells along each side of a block; the last block of a side may be smaller.

    Returns:
        (channels, ceil(rows / step), ceil(columns / step)).

    >>> block_means(np.array([[[1.0, 3.0, 8.0], [np.nan, np.nan, np.nan]]]), 2)
    array([[[2., 8.]]])
    """
    channels, rows, columns = grids.shape
    height, width = -(-rows // step), -(-columns // step)
    padded = np.full((channels, height * step, width * step), np.nan)
    padded[:, :rows, :columns] = grids
    # strips are small: starting other cores costs more than the work
    numba.set_num_threads(1)
    means = averaged(padded, width=width, height=height, agg="mean", interpolate="nearest")
    return means.astype(np.float64, copy=False)


def warm_up() -> None:
    """Compile Datashader's code for :func:`block_means`, with and without NaN: it takes seconds, so do it early."""
    grids = np.zeros((2, 4, 4))
    block_means(grids, 2)
    grids[0, 0, 0] = np.nan
    block_means(grids, 2)


class PyramidLevel:
    """One level of an image.

    When the epoch of its image rises, a level is stale: its owner compares epochs and makes another.

    Args:
        picture: the image, or the maps themselves; at step 1 the level is the image.
        step: cells along each side of a block.

    Attributes:
        epoch: of the image at creation.
        grids: (channels, rows, columns) of means.
        version: of the image in the grids.
    """

    def __init__(self, picture: CellImage | Maps, step: int) -> None:
        self.picture: CellImage = DirectImage(picture) if isinstance(picture, Maps) else picture
        self.step = step
        self.epoch = self.picture.epoch
        self.version = self.picture.version
        self.grids = self.picture.grids if step == 1 else block_means(self.picture.grids, step)
        self.rows, self.columns = self.grids.shape[1:]
        self._log: list[tuple[int, npt.NDArray[np.int64]]] = []

    @property
    def stale(self) -> bool:
        """Whether the image was replaced since creation."""
        return self.epoch != self.picture.epoch

    def update(self) -> None:
        """Update the grids to the image's version, computing only changed blocks; a stale level stays unchanged."""
        self.picture.update()
        if self.version == self.picture.version or self.stale:
            return
        cells = self.picture.changed(self.version)
        if self.step > 1:
            rows, columns = np.divmod(cells, self.picture.raster.columns)
            blocks = np.unique(rows // self.step * self.columns + columns // self.step)
            self._renew(*np.divmod(blocks, self.columns))
            self._log.append((self.version, blocks))
            del self._log[:-LOG_LENGTH]
        self.version = self.picture.version

    def changed(self, since: int) -> npt.NDArray[np.int64] | None:
        """Return the cells of this level changed after a version of the image, each once; None if that is too old."""
        if self.step == 1:
            return self.picture.changed(since)
        if since == self.version:
            return np.empty(0, dtype=np.int64)
        steps = [cells for version, cells in self._log if version >= since]
        if not self._log or self._log[-len(steps)][0] != since or not steps:
            return None
        return steps[0] if len(steps) == 1 else np.unique(np.concatenate(steps))

    def _renew(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> None:
        """Compute blocks (n,) again: the strip around them or, if they are far apart, each separately."""
        low, high = int(rows[0]), int(rows[-1]) + 1
        if 2 * len(rows) >= (high - low) * self.columns or high - low == 1:
            strip = self.picture.grids[:, low * self.step : high * self.step]
            self.grids[:, low:high] = block_means(strip, self.step)
            return
        for begin in range(0, len(rows), BLOCKS_AT_ONCE):
            some = slice(begin, begin + BLOCKS_AT_ONCE)
            side_by_side = _blocks(self.picture.grids, rows[some], columns[some], self.step)
            self.grids[:, rows[some], columns[some]] = block_means(side_by_side, self.step)[:, 0]


def _blocks(
    grids: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.float64]:
    """Return blocks (n,) side by side, (channels, step, n * step); NaN beyond the edges of the grids."""
    within = np.arange(step)
    down, along = (at[:, None] * step + within for at in (rows, columns))
    height, width = grids.shape[1:]
    picked = grids[:, np.minimum(down, height - 1)[:, :, None], np.minimum(along, width - 1)[:, None, :]]
    picked[:, (down >= height)[:, :, None] | (along >= width)[:, None, :]] = np.nan
    return picked.transpose(0, 2, 1, 3).reshape(len(grids), step, -1)
