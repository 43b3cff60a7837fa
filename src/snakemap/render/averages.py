"""Means over cells by Datashader, with its compiled code cached on disk.

Datashader is loaded with the first image: its import takes a quarter of the start of a server of pages.

Datashader compiles its loops in every process, which takes 4 s of a core. Loading cached code takes a tenth of that.
Numba caches beside the source, or in a directory of the user, or in ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["averaged"]


def averaged(values: npt.NDArray[Any], *, width: int, height: int, **options: Any) -> npt.NDArray[Any]:
    """Return the means over the pixels of a canvas; NaN does not count, and a pixel of NaN is NaN.

    An unusable cache costs only the time to compile.

    Args:
        values: (rows, columns) or (channels, rows, columns), of cells of size 1.
        width: of the canvas, in pixels.
        height: likewise.
        options: of ``datashader.Canvas.raster``.
    """
    import datashader
    import xarray

    rows, columns = values.shape[-2:]
    canvas = datashader.Canvas(plot_width=width, plot_height=height, x_range=(0, columns), y_range=(0, rows))
    coordinates: list[tuple[str, npt.NDArray[Any]]] = [("y", np.arange(rows) + 0.5), ("x", np.arange(columns) + 0.5)]
    if values.ndim == 3:
        coordinates.insert(0, ("channel", np.arange(len(values))))
    cells = xarray.DataArray(values, coords=coordinates)
    _keep_compiled()
    try:
        found = canvas.raster(cells, **options)
    except (OSError, ImportError):
        _keep_nothing()
        found = canvas.raster(cells, **options)
    return np.asarray(found.data)


@functools.cache
def _keep_compiled() -> None:
    """Make numba cache the compiled code, if a directory is writable."""
    for function in _compiled():
        try:
            function.enable_caching()
        except RuntimeError:
            return


def _keep_nothing() -> None:
    from numba.core.caching import NullCache

    for function in _compiled():
        function._cache = NullCache()


def _compiled() -> tuple[Any, ...]:
    """Return Datashader's functions for means."""
    from datashader import resampling

    return resampling._get_dimensions, resampling._downsample_2d_mean
