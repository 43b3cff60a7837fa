"""Maps as JSON and as arrays; large ones take their time in a thread."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import orjson

from snakemap.runs import Run, axes_summary

__all__ = ["as_json", "as_npz"]


async def as_json(run: Run) -> bytes:
    """The maps of a run, as :class:`~snakemap.api.models.MapsModel` describes them."""
    told = _about(run)
    grids = run.maps.grids.copy()
    return await asyncio.to_thread(_encode, told, run.maps.channels, grids)


async def as_npz(run: Run) -> bytes:
    """The same as a NumPy archive: an array a channel (NaN where not visited), ``slow`` and ``fast`` coordinates."""
    grids = {name: grid.copy() for name, grid in zip(run.maps.channels, run.maps.grids, strict=True)}
    axes = {"slow": run.raster.slow.coordinates, "fast": run.raster.fast.coordinates, "cursor": np.array(run.cursor)}
    return await asyncio.to_thread(_archive, {**axes, **grids})


def _about(run: Run) -> dict[str, Any]:
    return {
        "shape": [run.raster.rows, run.raster.columns],
        "fast_axis": run.raster.fast.name,
        "extents": run.raster.extents,
        "cursor": run.cursor,
        "axes": axes_summary(run.raster),
    }


def _encode(told: dict[str, Any], channels: tuple[str, ...], grids: np.ndarray) -> bytes:
    # orjson writes NaN as null, which is what "not visited" is in JSON
    told["channels"] = dict(zip(channels, grids, strict=True))
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def _archive(arrays: dict[str, np.ndarray]) -> bytes:
    # the names are those of the run's ROIs: as members of an archive they must not be taken for paths
    safe = {name.replace("/", "_").replace("\\", "_"): array for name, array in arrays.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **safe)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
