"""An archive of maps, as the API writes it, becomes an xarray Dataset."""

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
    """Return the maps in an archive: one array of float64 a channel, read-only, NaN where not visited.

    A grid has the dimensions (slow, fast), called as the axes are; a path has ``point``, counted from 1, and ``x`` and
    ``y`` along it. Coordinates have their unit in ``attrs["units"]``, and a channel that is called as a dimension or a
    coordinate has an underscore behind its name.

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
    """``maps.hv``: the maps as a HoloViews layout, an element a channel.

    Evenly spaced axes make images, others make meshes, and a path makes points.
    """

    def __new__(cls, maps: xr.Dataset) -> Any:
        """Return the layout itself: it is what the accessor stands for."""
        from snakemap.client.elements import layout_of  # HoloViews takes its time

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
    told = {name: about[name] for name in ("uid", "plan_name", "status", "geometry", "source")}
    return xr.Dataset(channels, coordinates, {**told, "cursor": str(arrays["cursor"])})


def _of_grid(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> dict[str, xr.Variable]:
    """Slow axis first; axes of one name, or of none, are called by what they are."""
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
        side: xr.Variable(("point",), arrays[side], _attributes(told)) for side, told in about["positions"].items()
    }
    return {"point": xr.Variable(("point",), np.arange(1, points + 1)), **sides}


def _attributes(axis: dict[str, Any]) -> dict[str, str]:
    return {"long_name": axis["name"], **({"units": axis["unit"]} if axis["unit"] else {})}
