"""The maps of a run in files. A format is one member of :class:`MapFormat` and one entry of :data:`EXPORTERS`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
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
from snakemap.render.map_picture import map_picture

__all__ = [
    "EXPORTERS",
    "ExportedMaps",
    "MapExporter",
    "MapFormat",
    "MoreMaps",
    "file_stem",
    "written",
    "written_values",
]

CELLS_AT_ONCE = 20_000
"""Cells encoded as JSON at once, in about a millisecond, which blocks other threads."""


class MapFormat(StrEnum):
    """A file format of maps."""

    JSON = "json"
    NPZ = "npz"
    CSV = "csv"
    NEXUS = "nexus"
    PNG = "png"
    TIFF = "tiff"
    NPY = "npy"
    TABLE = "table"

    @property
    def media_type(self) -> str:
        """Its HTTP media type."""
        return EXPORTERS[self].media_type

    @property
    def suffix(self) -> str:
        """Suffix of file names."""
        return EXPORTERS[self].suffix


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
    write = EXPORTERS[form].write
    if write is None:
        raise ValueError("NeXus files are written by another process")
    return write(run, ExportedMaps.of(run, run.source(source), more))


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
        more: the maps of the further channels.
    """

    source: str
    raster: Raster
    channels: tuple[str, ...]
    grids: npt.NDArray[np.float64]
    positions: dict[str, dict[str, Any]] | None
    regions: Mapping[str, Any] | None = None
    more: Maps | None = None

    @classmethod
    def of(cls, run: Run, source: MapSource, more: MoreMaps | None = None) -> ExportedMaps:
        """Return the maps of a source of a run, and further channels behind them."""
        own = cls._of(run, source, source.maps)
        if more is None:
            return own
        further = cls._of(run, source, more.maps)
        channels, grids = (*own.channels, *further.channels), np.concatenate([own.grids, further.grids])
        return replace(own, channels=channels, grids=grids, regions=more.about, more=more.maps)

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


def _csv(run: Run, drawn: ExportedMaps) -> Iterator[str]:
    """Yield the lines of a table: a head, then a line a cell, row by row."""
    units = run.source(drawn.source).units
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


def _png(run: Run, drawn: ExportedMaps) -> bytes:
    """Return a picture of the maps; the points of a path fill the cells that are nearest to them."""
    source = run.source(drawn.source)
    raster, grids = drawn.raster, drawn.grids
    if drawn.positions is not None:
        images = [map_image(one) for one in (source.maps, drawn.more) if one is not None]
        for image in images:
            image.update()
        raster, grids = images[0].raster, np.concatenate([image.grids for image in images])
    name, number = str(run.start.get("plan_name") or "run"), run.start.get("scan_id")
    title = f"{name} · {number}" if number is not None else name
    return map_picture(raster, drawn.channels, grids, title=f"{title} ({run.status})", units=source.units)


def _tiff(run: Run, drawn: ExportedMaps) -> bytes:
    """Return a TIFF, one page a channel with its name; row 0 is at the top.

    Pages are float32, which all programs read, where that is exact; else float64.
    """
    import tifffile  # most processes write none

    buffer = io.BytesIO()
    with np.errstate(over="ignore", under="ignore"):
        short = drawn.grids.astype(np.float32)
    pages = short if np.array_equal(short, drawn.grids, equal_nan=True) else drawn.grids
    with tifffile.TiffWriter(buffer) as file:
        for channel, page in zip(drawn.channels, pages, strict=True):
            name = channel.encode("ascii", "backslashreplace").decode()
            file.write(page, photometric="minisblack", description=name, metadata=None, contiguous=False)
    return buffer.getvalue()


def _npy(run: Run, drawn: ExportedMaps) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, drawn.grids, allow_pickle=False)
    return buffer.getvalue()


TABLE = ("channel", "unit", "minimum", "maximum", "mean", "sum", "row of maximum", "column of maximum", "pixels")


def _table(run: Run, drawn: ExportedMaps) -> Iterator[str]:
    """Yield the lines of the summary: a head, then a line a channel; empty where nothing is measured."""
    units = run.source(drawn.source).units
    yield _line(list(TABLE))
    for channel, grid in zip(drawn.channels, drawn.grids, strict=True):
        head = [_cell(channel), _cell(units.get(channel, ""))]
        finite = grid[np.isfinite(grid)]
        if not finite.size:
            yield _line([*head, *[""] * 6, "0"])
            continue
        row, column = np.unravel_index(np.argmax(np.where(np.isfinite(grid), grid, -np.inf)), grid.shape)
        numbers = (finite.min(), finite.max(), finite.mean(), finite.sum())
        cells = [_number(float(number)) for number in numbers]
        yield _line([*head, *cells, str(row), str(column), str(finite.size)])


@dataclass(frozen=True, slots=True)
class MapExporter:
    """Writes maps in one format.

    Attributes:
        media_type: of HTTP.
        suffix: of file names.
        write: writes the maps of a run; None: another process writes them, of the archive.
        title: in the menu of the page; empty: it is not there.
        detail: what the file holds.
    """

    media_type: str
    suffix: str
    write: Callable[[Run, ExportedMaps], bytes] | None
    title: str = ""
    detail: str = ""


def _text(lines: Callable[[Run, ExportedMaps], Iterator[str]]) -> Callable[[Run, ExportedMaps], bytes]:
    return lambda run, drawn: "".join(lines(run, drawn)).encode()


EXPORTERS: dict[MapFormat, MapExporter] = {
    MapFormat.NEXUS: MapExporter(
        "application/x-hdf5", ".nxs", None, "NeXus (HDF5)", "maps, axes and units, all points so far"
    ),
    MapFormat.CSV: MapExporter(
        "text/csv; charset=utf-8", ".csv", _text(_csv), "CSV table", "one line for each cell, all points so far"
    ),
    MapFormat.NPZ: MapExporter(
        "application/octet-stream", ".npz", _archive, "NumPy archive", "one array for each channel, with the axes"
    ),
    MapFormat.NPY: MapExporter(
        "application/x-npy", ".npy", _npy, "NumPy array", "all channels in one array: channel, row, column"
    ),
    MapFormat.TIFF: MapExporter("image/tiff", ".tiff", _tiff, "TIFF", "numbers, one page for each channel"),
    MapFormat.PNG: MapExporter("image/png", ".png", _png, "PNG figure", "all maps on white, with axes and color bars"),
    MapFormat.TABLE: MapExporter(
        "text/csv; charset=utf-8", "-summary.csv", _text(_table), "Summary (CSV)", "one line for each channel"
    ),
    MapFormat.JSON: MapExporter("application/json", ".json", lambda run, drawn: b"".join(_json(run, drawn))),
}
"""All formats, in the order of the menu; the API and the page offer what is here."""
