"""Means over the pixels of a picture, by Datashader, with its compiled code kept for the next process.

Datashader compiles its loops in every process, which takes 4 s of a core. Kept code is loaded in a tenth of that.
Numba keeps it beside the source, or in a directory of the user's, or in ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import functools
from typing import Any

import datashader
import xarray
from datashader import resampling
from numba.core.caching import NullCache

__all__ = ["averaged"]

COMPILED: tuple[Any, ...] = (resampling._get_dimensions, resampling._downsample_2d_mean)
"""What Datashader runs to take means."""


def averaged(canvas: datashader.Canvas, cells: xarray.DataArray, **options: Any) -> xarray.DataArray:
    """Return what ``canvas.raster`` returns for ``cells`` and its options.

    A cache that cannot be read or written costs only the time to compile.
    """
    _keep_compiled()
    try:
        return canvas.raster(cells, **options)
    except (OSError, ImportError):
        _keep_nothing()
        return canvas.raster(cells, **options)


@functools.cache
def _keep_compiled() -> None:
    """Have numba keep the compiled code, where there is a directory for it."""
    for function in COMPILED:
        try:
            function.enable_caching()
        except RuntimeError:
            return


def _keep_nothing() -> None:
    for function in COMPILED:
        function._cache = NullCache()
