"""The maps of a run, written for programs: as JSON, as CSV, and as an archive of NumPy arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.core.maps import Maps
from snakemap.core.raster import Raster
from snakemap.core.run import Run, axes_summary
from snakemap.core.streams import MapSource
from snakemap.render.map_image import map_image

__all__ = ["ExportedMaps", "MapFormat", "MoreMaps", "file_stem", "written", "written_values"]

CELLS_AT_ONCE = 20_000
"""Cells encoded as JSON at once, in about a millisecond, which blocks other threads."""


class MapFormat(StrEnum):
    """A file format of maps."""

    JSON = "json"
    NPZ = "npz"
    CSV = "csv"
    NEXUS = "nexus"

    @property
    def media_type(self) -> str:
        """Its HTTP media type."""
        return MEDIA_TYPES[self]

    @property
    def suffix(self) -> str:
        """Suffix of file names."""
        return ".nxs" if self is MapFormat.NEXUS else f".{self.value}"


MEDIA_TYPES = {
    MapFormat.JSON: "application/json",
    MapFormat.NPZ: "application/octet-stream",
    MapFormat.CSV: "text/csv; charset=utf-8",
    MapFormat.NEXUS: "application/x-hdf5",
}


@dataclass(frozen=True, slots=True)
class MoreMaps:
    """Further channels beside those of a source.

    Attributes:
        maps: over the raster of the source.
        about: what there is to say of each channel, by its name, as JSON has it.
    """

    maps: Maps
    about: Mapping[str, Any]


def written(run: Run, form: MapFormat, *, source: str = "", more: MoreMaps | None = None) -> bytes:
    """Return the maps of a run as they are now; meant for a thread.

    JSON is what :class:`~snakemap.api.models.MapsModel` describes. An archive holds one array (rows, columns) a
    channel, NaN where not visited, and beside them ``slow`` and ``fast``, the coordinates, ``cursor``, and ``about``:
    JSON with the run, the names of the axes and those of the channels. Of a path it has ``x`` and ``y``, the
    positions of its points, too. CSV has one line a cell: row, column, the coordinates of both axes, each channel,
    empty where not visited. NeXus is made of the archive; see :mod:`snakemap.hdf5.nexus_file`.

    Args:
        run: with the maps.
        form: other than NeXus.
        source: which of its sources, as :attr:`Run.sources` names them; empty for the main one.
        more: further channels.

    Raises:
        ValueError: for NeXus.
    """
    drawn = ExportedMaps.of(run, run.source(source), more)
    if form is MapFormat.JSON:
        return b"".join(_json(run, drawn))
    if form is MapFormat.CSV:
        return "".join(_csv(drawn, run.source(source).units)).encode()
    if form is MapFormat.NPZ:
        return _archive(run, drawn)
    raise ValueError("NeXus files are written by another process")


def written_values(run: Run, name: str) -> bytes | None:
    """Return the map of one channel as ``{"values": [[...], ...]}``; null where not visited.

    Args:
        run: with the map, of its main source.
        name: of the channel, ignoring case.

    Returns:
        None if there is no such channel.
    """
    drawn = ExportedMaps.of(run, run.main)
    places = [place for place, channel in enumerate(drawn.channels) if channel.lower() == name.lower()]
    if not places:
        return None
    grid = drawn.grids[places[0]]
    return b'{"values":[' + b"".join(_rows(grid)) + b"]}"


def file_stem(start: Mapping[str, Any]) -> str:
    """Return the name, without its ending, of a file that holds the maps of a run.

    >>> file_stem({"uid": "0a1b2c3d-4e5f", "plan_name": "grid/../scan", "scan_id": 12})
    'snakemap-grid____scan-12-0a1b2c3d'
    """
    parts = [str(start.get("plan_name") or "run"), str(start.get("scan_id") or ""), str(start["uid"])[:8]]
    safe = ["".join(c if c.isascii() and c.isalnum() else "_" for c in part[:60]) for part in parts if part]
    return "-".join(["snakemap", *safe])


@dataclass(frozen=True, slots=True)
class ExportedMaps:
    """Maps for a file: points of a lattice on a grid, those of any other path as one row.

    Attributes:
        source: its name.
        raster: of the grids.
        channels: their names.
        grids: float64 (channels, rows, columns).
        positions: name, unit and values (points,) along both axes of a path; None of a grid.
        regions: what there is to say of further channels, by name; None if there are none.
    """

    source: str
    raster: Raster
    channels: tuple[str, ...]
    grids: npt.NDArray[np.float64]
    positions: dict[str, dict[str, Any]] | None
    regions: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, run: Run, source: MapSource, more: MoreMaps | None = None) -> ExportedMaps:
        """Return the maps of a source of a run, and further channels behind them."""
        own = cls._of(run, source, source.maps)
        if more is None:
            return own
        further = cls._of(run, source, more.maps)
        channels, grids = (*own.channels, *further.channels), np.concatenate([own.grids, further.grids])
        return replace(own, channels=channels, grids=grids, regions=more.about)

    @classmethod
    def _of(cls, run: Run, source: MapSource, maps: Maps) -> ExportedMaps:
        name, path = run.name_of(source), maps.raster.path
        if path is None:
            return cls(name, maps.raster, maps.channels, maps.grids, None)
        if path.lattice is not None:
            picture = map_image(maps)
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
        **({} if drawn.regions is None else {"regions": drawn.regions}),
    }
    yield orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)[:-1] + b',"channels":{'
    for number, (channel, grid) in enumerate(zip(drawn.channels, drawn.grids, strict=True)):
        yield (b"," if number else b"") + orjson.dumps(channel) + b":["
        yield from _rows(grid)
        yield b"]"
    yield b"}}"


def _rows(grid: npt.NDArray[np.float64]) -> Iterator[bytes]:
    """Yield a grid (rows, columns) as JSON without its outer brackets; NaN becomes null, "not visited"."""
    rows = max(1, CELLS_AT_ONCE // grid.shape[1])
    for start in range(0, len(grid), rows):
        text = orjson.dumps(grid[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        yield (b"," if start else b"") + text[1:-1]


def _csv(drawn: ExportedMaps, units: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a table: a head, then a line a cell, row by row."""
    raster, channels = drawn.raster, list(drawn.channels)
    if drawn.positions is None:
        axes = [(raster.slow.name, raster.slow.unit), (raster.fast.name, raster.fast.unit)]
    else:
        axes = [(one["name"], one["unit"]) for one in (drawn.positions["y"], drawn.positions["x"])]
    named = [*axes, *((channel, units.get(channel, "")) for channel in channels)]
    heads = ["row", "column", *(f"{name} ({unit})" if unit else name for name, unit in named)]
    yield _line([_cell(head) for head in heads])
    for row in range(raster.rows):
        if drawn.positions is None:
            slow, fast = np.full(raster.columns, raster.slow.coordinates[row]), raster.fast.coordinates
        else:
            slow, fast = drawn.positions["y"]["values"], drawn.positions["x"]["values"]
        values = zip(*(array.tolist() for array in (slow, fast, *drawn.grids[:, row])), strict=True)
        yield "".join(_line([str(row), str(column), *map(_number, cells)]) for column, cells in enumerate(values))


def _line(cells: list[str]) -> str:
    return ",".join(cells) + "\r\n"


def _cell(text: str) -> str:
    """Return a name as a cell of CSV; one that a spreadsheet takes for a formula is text there too."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    clean = f"'{clean}" if clean.startswith(("=", "+", "-", "@")) else clean
    return '"' + clean.replace('"', '""') + '"' if set(clean) & set(",\"'") else clean


def _number(value: float) -> str:
    """Return a number in the fewest digits that are exact; empty for NaN.

    >>> [_number(value) for value in (3.0, 0.1, float("nan"), 1e300)]
    ['3', '0.1', '', '1e+300']
    """
    if value != value:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _archive(run: Run, drawn: ExportedMaps) -> bytes:
    arrays: dict[str, npt.NDArray[Any]] = {
        "slow": drawn.raster.slow.coordinates,
        "fast": drawn.raster.fast.coordinates,
        "cursor": np.array(run.cursor),
        "about": np.array(""),  # reserves the name before those of channels
        **{name: axis["values"] for name, axis in (drawn.positions or {}).items()},
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
    """Return the metadata of an archive: the run, the axes, the member of each channel."""
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
        and {side: {"name": axis["name"], "unit": axis["unit"]} for side, axis in drawn.positions.items()},
        "channels": members,
        "units": run.source(drawn.source).units,
        **({} if drawn.regions is None else {"regions": drawn.regions}),
    }


def _member(channel: str, *, taken: dict[str, Any]) -> str:
    """Return a channel's member name in the archive: it comes from a document and may look like a path."""
    name = "".join("_" if character in "/\\:\0" else character for character in channel).lstrip(".") or "_"
    while name in taken:
        name += "_"
    return name
