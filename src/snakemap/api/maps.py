"""The maps of a run, written for programs: as JSON, and as an archive of NumPy arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.runs import Run, axes_summary

__all__ = ["Form", "written"]

CELLS_AT_ONCE = 20_000
"""Cells that are written as JSON in one go, about a millisecond: nothing else in the process moves meanwhile."""


class Form(StrEnum):
    """How maps are written."""

    JSON = "json"
    NPZ = "npz"

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        return "application/json" if self is Form.JSON else "application/octet-stream"


def written(run: Run, form: Form) -> bytes:
    """The maps of a run as they are now; takes its time, and leaves other threads theirs.

    JSON is what :class:`~snakemap.api.models.MapsModel` describes. An archive holds one array (rows, columns) a
    channel, NaN where not visited, and beside them ``slow`` and ``fast``, the coordinates, and ``cursor``.
    """
    return b"".join(_json(run)) if form is Form.JSON else _archive(run)


def _json(run: Run) -> Iterator[bytes]:
    about = {
        "shape": [run.raster.rows, run.raster.columns],
        "fast_axis": run.raster.fast.name,
        "extents": run.raster.extents,
        "cursor": run.cursor,
        "axes": axes_summary(run.raster),
    }
    yield orjson.dumps(about)[:-1] + b',"channels":{'
    for number, (channel, grid) in enumerate(zip(run.maps.channels, run.maps.grids, strict=True)):
        yield (b"," if number else b"") + orjson.dumps(channel) + b":["
        yield from _rows(grid)
        yield b"]"
    yield b"}}"


def _rows(grid: npt.NDArray[np.float64]) -> Iterator[bytes]:
    """A grid (rows, columns) without its outer brackets; orjson writes NaN as null, which here is "not visited"."""
    rows = max(1, CELLS_AT_ONCE // grid.shape[1])
    for start in range(0, len(grid), rows):
        text = orjson.dumps(grid[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        yield (b"," if start else b"") + text[1:-1]


def _archive(run: Run) -> bytes:
    raster = run.raster
    arrays: dict[str, npt.NDArray[Any]] = {
        "slow": raster.slow.coordinates,
        "fast": raster.fast.coordinates,
        "cursor": np.array(run.cursor),
    }
    for channel, grid in zip(run.maps.channels, run.maps.grids, strict=True):
        arrays[_member(channel, taken=arrays)] = grid
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _member(channel: str, *, taken: dict[str, Any]) -> str:
    """A channel's name within the archive: it comes from a document, and must not be taken for a path."""
    name = "".join("_" if character in "/\\:\0" else character for character in channel).lstrip(".") or "_"
    while name in taken:
        name += "_"
    return name
