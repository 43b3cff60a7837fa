"""Maps from the API as HoloViews elements."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
import xarray as xr

from snakemap.holoviews import LiveImage, dimensions
from snakemap.render.palettes import palette

__all__ = ["layout_of"]

UNEVEN = 1e-3
"""Maximum difference of steps, as a share of a step, for an image."""


def layout_of(maps: xr.Dataset) -> hv.Layout:
    """Return the channels of a dataset of maps as elements, two in a row.

    Args:
        maps: from the API's client; other datasets need two dimensions, or ``x`` and ``y`` along one.

    Raises:
        ValueError: when there are no channels.
    """
    channels = [str(name) for name in maps.data_vars]
    if not channels:
        raise ValueError("the dataset has no variables")
    return hv.Layout([_element(maps[name], name, number) for number, name in enumerate(channels)]).cols(2)


def _element(values: xr.DataArray, name: str, number: int) -> Any:
    """Return the element of one channel."""
    options = {"cmap": palette(name, number), "colorbar": True}
    unit = str(values.attrs.get("units", ""))
    if values.ndim == 1:
        x, y = values.coords["x"], values.coords["y"]
        kdims = dimensions([_name(x, "x"), _name(y, "y"), name], [_unit(x), _unit(y), unit])
        points = hv.Points((x.values, y.values, values.values), kdims[:2], kdims[2])
        return points.opts(color=kdims[2].name, **options)
    slow, fast = (values.coords[dim] for dim in values.dims)
    *kdims, vdim = dimensions(
        [_name(fast, str(values.dims[1])), _name(slow, str(values.dims[0])), name], [_unit(fast), _unit(slow), unit]
    )
    grid = (fast.values, slow.values, values.values)
    even = _even(fast.values) and _even(slow.values)
    return (LiveImage if even else hv.QuadMesh)(grid, kdims, vdim).opts(**options)


def _even(ends: npt.NDArray[Any]) -> bool:
    """Return whether coordinates are evenly spaced; a single one has no step, and is drawn as a mesh."""
    steps = np.diff(np.asarray(ends, dtype=float))
    return bool(len(steps)) and bool(np.allclose(steps, steps[0], rtol=UNEVEN, atol=0))


def _name(axis: xr.DataArray, otherwise: str) -> str:
    return str(axis.attrs.get("long_name") or otherwise)


def _unit(axis: xr.DataArray) -> str:
    return str(axis.attrs.get("units", ""))
