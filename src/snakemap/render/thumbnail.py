"""Thumbnail of a run: its maps side by side, for lists of runs, made by the worker."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from snakemap.core.maps import Maps, span_of
from snakemap.render.map_image import map_image
from snakemap.render.palettes import palette

__all__ = ["thumbnail"]

SIDE = 40
"""Pixels of the longer side of one map."""

CHANNELS_MAX = 4
CELLS_MAX = 4_000_000


def thumbnail(maps: Maps) -> bytes:
    """Return the maps as PNG, of more than four the first three and the last one; empty for too large ones.

    Cells not visited are transparent.

    Args:
        maps: of a run.
    """
    if maps.raster.rows * maps.raster.columns > CELLS_MAX:
        return b""
    picture = map_image(maps)
    picture.update()
    shown = list(enumerate(zip(picture.grids, maps.channels, strict=True)))
    if len(shown) > CHANNELS_MAX:
        shown = [*shown[: CHANNELS_MAX - 1], shown[-1]]
    parts = [_small(grid, name, number) for number, (grid, name) in shown]
    gap = np.zeros((parts[0].shape[0], 2, 4), np.uint8)
    joined = np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=1)
    file = io.BytesIO()
    Image.fromarray(joined, "RGBA").quantize(128).save(file, "PNG", optimize=True)
    return file.getvalue()


def _small(grid: npt.NDArray[np.float64], name: str, number: int) -> npt.NDArray[np.uint8]:
    """Return one map as RGBA (rows, columns, 4), row 0 at the bottom as on the page."""
    rows, columns = grid.shape
    step = max(1, -(-max(rows, columns) // SIDE))
    small = grid[::-1][::step, ::step]
    scale = max(1, SIDE // max(small.shape))
    small = np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)
    visited = np.isfinite(small)
    known = small[visited]
    low, high = span_of(float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    share = np.where(visited, small - low, 0.0) / (high - low)
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in palette(name, number)], np.uint8)
    rgba = np.zeros((*small.shape, 4), np.uint8)
    rgba[..., :3] = colors[np.clip(share * 255, 0, 255).astype(np.uint8)]
    rgba[..., 3] = np.where(visited, 255, 0)
    return rgba
