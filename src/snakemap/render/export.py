"""The maps of a run, written for programs: as JSON, and as an archive of NumPy arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.core.raster import Raster
from snakemap.core.run import Run, axes_summary
from snakemap.core.streams import MapSource
from snakemap.render.picture import picture_of

__all__ = ["ExportedMaps", "MapFormat", "written", "written_values"]

CELLS_AT_ONCE = 20_000
"""Cells that are written as JSON in one go, about a millisecond: nothing else in the process moves meanwhile."""


class MapFormat(StrEnum):
    """How maps are written."""

    JSON = "json"
    NPZ = "npz"

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        return "application/json" if self is MapFormat.JSON else "application/octet-stream"


def written(run: Run, form: MapFormat, *, source: str = "") -> bytes:
    """The maps of a run as they are now; takes its time, and leaves other threads theirs.

    JSON is what :class:`~snakemap.api.models.MapsModel` describes. An archive holds one array (rows, columns) a
    channel, NaN where not visited, and beside them ``slow`` and ``fast``, the coordinates, ``cursor``, and ``about``:
    JSON that says whose they are and what they are called. Of a path it has ``x`` and ``y``, where its points lie, too.

    Args:
        run: whose maps they are.
        form: JSON or an archive.
        source: which of its sources, as :attr:`Run.sources` names them; empty for the main one.
    """
    drawn = ExportedMaps.of(run, run.source(source))
    return b"".join(_json(run, drawn)) if form is MapFormat.JSON else _archive(run, drawn)


def written_values(run: Run, name: str) -> bytes | None:
    """The map of one channel alone, as ``{"values": [[...], ...]}``; null where not visited.

    Args:
        run: whose map it is; of its main source.
        name: of the channel, whatever the case.

    Returns:
        None when there is no such channel.
    """
    drawn = ExportedMaps.of(run, run.main)
    places = [place for place, channel in enumerate(drawn.channels) if channel.lower() == name.lower()]
    if not places:
        return None
    grid = drawn.grids[places[0]]
    return b'{"values":[' + b"".join(_rows(grid)) + b"]}"


@dataclass(frozen=True, slots=True)
class ExportedMaps:
    """What is written: the points of a lattice in their places, those of any other path as one row.

    Attributes:
        source: its name.
        raster: of the grids.
        channels: their names.
        grids: float64 (channels, rows, columns).
        positions: name, unit and values (points,) along both axes of a path; None of a grid.
    """

    source: str
    raster: Raster
    channels: tuple[str, ...]
    grids: npt.NDArray[np.float64]
    positions: dict[str, dict[str, Any]] | None

    @classmethod
    def of(cls, run: Run, source: MapSource) -> ExportedMaps:
        """What there is to write of a source of a run."""
        maps, name = source.maps, run.name_of(source)
        path = maps.raster.path
        if path is None:
            return cls(name, maps.raster, maps.channels, maps.grids, None)
        if path.lattice is not None:
            picture = picture_of(maps)
            picture.update()
            return cls(name, picture.raster, maps.channels, picture.grids, None)
        xs, ys = path.at(np.arange(1, maps.raster.columns + 1))
        positions = {
            "x": {"name": path.x_name, "unit": path.x_unit, "values": xs},
            "y": {"name": path.y_name, "unit": path.y_unit, "values": ys},
        }
        return cls(name, maps.raster, maps.channels, maps.grids, positions)


def _json(run: Run, drawn: ExportedMaps) -> Iterator[bytes]:
    raster = drawn.raster
    about = {
        "shape": [raster.rows, raster.columns],
        "fast_axis": raster.fast.name,
        "extents": raster.extents,
        "cursor": run.cursor,
        "axes": axes_summary(raster),
        "positions": drawn.positions,
        "geometry": run.raster.described,
        "source": drawn.source,
        "sources": list(run.sources),
    }
    yield orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)[:-1] + b',"channels":{'
    for number, (channel, grid) in enumerate(zip(drawn.channels, drawn.grids, strict=True)):
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


def _archive(run: Run, drawn: ExportedMaps) -> bytes:
    arrays: dict[str, npt.NDArray[Any]] = {
        "slow": drawn.raster.slow.coordinates,
        "fast": drawn.raster.fast.coordinates,
        "cursor": np.array(run.cursor),
        "about": np.array(""),  # its place is taken before channels get their names
        **{name: told["values"] for name, told in (drawn.positions or {}).items()},
    }
    members: dict[str, str] = {}
    for channel, grid in zip(drawn.channels, drawn.grids, strict=True):
        members[channel] = _member(channel, taken=arrays)
        arrays[members[channel]] = grid
    arrays["about"] = np.array(orjson.dumps(_about(run, drawn, members)).decode())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _about(run: Run, drawn: ExportedMaps, members: dict[str, str]) -> dict[str, Any]:
    """What an archive says of its arrays: whose they are, what the axes are called, which member is which channel."""
    axes: dict[str, Any] = {"slow": drawn.raster.slow, "fast": drawn.raster.fast}
    return {
        "uid": run.uid,
        "plan_name": str(run.start.get("plan_name", "")),
        "status": run.status,
        "geometry": run.raster.described,
        "source": drawn.source,
        "sources": list(run.sources),
        "axes": {side: {"name": axis.name, "unit": axis.unit, "known": axis.known} for side, axis in axes.items()},
        "positions": drawn.positions
        and {side: {"name": told["name"], "unit": told["unit"]} for side, told in drawn.positions.items()},
        "channels": members,
        "units": run.source(drawn.source).units,
    }


def _member(channel: str, *, taken: dict[str, Any]) -> str:
    """A channel's name within the archive: it comes from a document, and must not be taken for a path."""
    name = "".join("_" if character in "/\\:\0" else character for character in channel).lstrip(".") or "_"
    while name in taken:
        name += "_"
    return name
