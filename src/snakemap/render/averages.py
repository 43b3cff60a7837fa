"""Means over cells by Datashader, with its compiled code cached on disk.

Datashader compiles its loops in every process, which takes 4 s of a core. Loading cached code takes a tenth of that.
Numba caches beside the source, or in a directory of the user, or in ``NUMBA_CACHE_DIR``.
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
"""Datashader's functions for means."""


def averaged(canvas: datashader.Canvas, cells: xarray.DataArray, **options: Any) -> xarray.DataArray:
    """Return ``canvas.raster(cells, **options)``.

    An unusable cache costs only the time to compile.
    """
    _keep_compiled()
    try:
        return canvas.raster(cells, **options)
    except (OSError, ImportError):
        _keep_nothing()
        return canvas.raster(cells, **options)


@functools.cache
def _keep_compiled() -> None:
    """Make numba cache the compiled code, if a directory is writable."""
    for function in COMPILED:
        try:
            function.enable_caching()
        except RuntimeError:
            return


def _keep_nothing() -> None:
    for function in COMPILED:
        function._cache = NullCache()
