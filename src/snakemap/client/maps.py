"""Convert an archive of maps from the API to an xarray Dataset."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from snakemap.errors import ApiFailed

__all__ = ["dataset_of"]


def dataset_of(archive: bytes) -> xr.Dataset:
    """Return the maps in an archive: one float64 array for each channel, read-only, NaN where not measured.

    A grid has the dimensions (slow, fast), named like the axes; a path has ``point``, from 1, and ``x`` and ``y`` along
    it. Coordinates have their unit in ``attrs["units"]``. A channel with the name of a dimension or coordinate gets an
    underscore appended.

    Raises:
        ApiFailed: when it is no archive of maps.
    """
    try:
        with np.load(io.BytesIO(archive), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays["about"]))
        return _dataset(arrays, about)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ApiFailed("the API's maps cannot be read; it is of another version than this client") from error


@xr.register_dataset_accessor("hv")
class HoloViewsLayout:
    """``maps.hv``: the maps as a HoloViews layout, one element for each channel.

    Evenly spaced axes become images, others meshes, a path points.
    """

    def __new__(cls, maps: xr.Dataset) -> Any:
        """Return the layout instead of an accessor object."""
        from snakemap.client.elements import layout_of  # importing HoloViews is slow

        return layout_of(maps)


def _dataset(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> xr.Dataset:
    coordinates = _of_path(arrays, about) if about["positions"] else _of_grid(arrays, about)
    dimensions = tuple(name for name, variable in coordinates.items() if variable.dims == (name,))
    channels: dict[str, xr.Variable] = {}
    for channel, member in about["channels"].items():
        values = arrays[member]
        values.flags.writeable = False
        name = channel
        while name in coordinates or name in channels:
            name += "_"
        unit = about["units"].get(channel, "" if about["units"] else "counts")
        attributes = {"units": unit} if unit else {}
        channels[name] = xr.Variable(dimensions, values[0] if about["positions"] else values, attributes)
    attributes = {name: about[name] for name in ("uid", "plan_name", "status", "geometry", "source")}
    return xr.Dataset(channels, coordinates, {**attributes, "cursor": str(arrays["cursor"])})


def _of_grid(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> dict[str, xr.Variable]:
    """Return the coordinates of a grid, slow axis first; axes with equal or empty names become slow and fast."""
    axes = about["axes"]
    names = [axes[side]["name"] for side in ("slow", "fast")]
    if names[0] == names[1] or not all(names):
        names = ["slow", "fast"]
    return {
        name: xr.Variable((name,), arrays[side], _attributes(axes[side]))
        for name, side in zip(names, ("slow", "fast"), strict=True)
    }


def _of_path(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> dict[str, xr.Variable]:
    points = len(arrays["x"])
    sides = {
        side: xr.Variable(("point",), arrays[side], _attributes(axis)) for side, axis in about["positions"].items()
    }
    return {"point": xr.Variable(("point",), np.arange(1, points + 1)), **sides}


def _attributes(axis: dict[str, Any]) -> dict[str, str]:
    return {"long_name": axis["name"], **({"units": axis["unit"]} if axis["unit"] else {})}
