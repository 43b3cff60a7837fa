"""Messages of the Davidia protocol: pack and unpack."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgpack
import numpy as np
import numpy.typing as npt

from snakemap.core.channels import CHANNELS, DEFAULT_CHANNELS, TOTAL
from snakemap.core.raster import Axis
from snakemap.core.run import Run
from snakemap.render.export import ExportedMaps

__all__ = [
    "NORMAL",
    "PLOTS",
    "POLICY_VIOLATION",
    "TEXT_MAX",
    "TRY_AGAIN_LATER",
    "Image",
    "Leave",
    "image_message",
    "pack",
    "request_of",
    "unpacked",
]

CELLS_MAX = 1_000_000
"""Maximum cells of an image; of a larger map every second row and column is sent, or every third, and so on."""


TEXT_MAX = 200


ALIGNED_BYTES = 8
"""Alignment of arrays in a message: a client views an aligned array in place; else it copies it, and warns."""


NORMAL, UNSUPPORTED, INVALID, POLICY_VIOLATION, TRY_AGAIN_LATER = 1000, 1003, 1007, 1008, 1013


COLORS = {channel.name: channel.davidia for channel in CHANNELS}


PLOTS = {name: name for name in DEFAULT_CHANNELS}
PLOTS |= {f"plot_{number}": name for number, name in enumerate(DEFAULT_CHANNELS)}
"""Channel of each plot."""


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded map.

    Attributes:
        of: uid of its run, and cursor of the last document in it.
        body: the message.
    """

    of: tuple[str, str]
    body: bytes


class Leave(Exception):
    """A client disconnects, or has to be disconnected.

    Args:
        code: of the close frame; 0 when the client has disconnected.
        reason: of the close frame.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def unpacked(data: bytes | None) -> dict[Any, Any]:
    """Return a client's message.

    Raises:
        Leave: when it is not MessagePack, or not a mapping.
    """
    if data is None:
        raise Leave(UNSUPPORTED, "messages are MessagePack, not text")
    try:
        message = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException, TypeError, RecursionError) as error:
        raise Leave(INVALID, "the message is not valid MessagePack") from error
    if not isinstance(message, dict):
        raise Leave(INVALID, "a message is a map of names and values")
    return message


def request_of(message: Mapping[Any, Any]) -> Literal["ready", "closing", "baton"] | None:
    """Return what a client's message asks for, of either generation; None when it asks for nothing.

    >>> request_of({"plotId": "plot_0", "type": "status", "params": "ready 12.5"}), request_of({"status": "ready"})
    ('ready', 'ready')
    >>> request_of({"type": "baton_request", "params": "me"}), request_of({"requester": "me"}), request_of({})
    ('baton', 'baton', None)
    """
    kind = message.get("type")
    if kind in ("baton_request", "baton_offer") or "requester" in message or "receiver" in message:
        return "baton"
    status = message.get("params") if kind == "status" else message.get("status")
    word = status.split(" ")[0] if isinstance(status, str) else ""  # "ready 12.5": ms that the last image took
    if word == "ready" or word == "closing":
        return word
    return None


def image_message(run: Run, plot_id: str) -> bytes | None:
    """Return the map of a plot as a Davidia message; None when the run has no such channel.

    Values are counts, float64 (rows, columns), NaN where not visited; row 0 has the highest coordinate of the slow
    axis, column 0 the lowest of the fast one.
    """
    drawn, name = ExportedMaps.of(run, run.main), PLOTS[plot_id]
    place = _place(drawn.channels, name)
    if place is None:
        return None
    raster = drawn.raster
    step = 1
    while -(-raster.rows // step) * -(-raster.columns // step) > CELLS_MAX:
        step += 1
    grid = drawn.grids[place][::step, ::step]
    y_edges, x_edges = _edges(raster.slow, step, cells=grid.shape[0]), _edges(raster.fast, step, cells=grid.shape[1])
    if not raster.slow.decreases:
        grid, y_edges = grid[::-1], y_edges[::-1]
    if raster.fast.decreases:
        grid, x_edges = grid[:, ::-1], x_edges[::-1]
    title = f"{drawn.channels[place]} · {run.start.get('plan_name') or 'scan'} {run.start.get('scan_id') or ''}".strip()
    if step > 1:
        title += f" (one pixel of {step * step})"
    config = {
        "title": title[:TEXT_MAX],
        **_axis("x", raster.fast, x_edges),
        **_axis("y", raster.slow, y_edges),
    }
    image = {
        "values": grid,
        "aspect": "equal",
        "domain": _domain(grid),
        "heatmapScale": "linear",
        "colourMap": COLORS[name],
    }
    return pack({"plotId": plot_id, "plotConfig": config, "imData": image})


def _place(channels: Collection[str], name: str) -> int | None:
    """Return the index of a plot's channel: the channel of its name, else the one at its default index."""
    names = list(channels)
    if name in names:
        return names.index(name)
    place = DEFAULT_CHANNELS.index(name)
    return place if name != TOTAL and place < len(names) and names[place] != TOTAL else None


def _edges(axis: Axis, step: int, *, cells: int) -> npt.NDArray[np.float64]:
    """Return the edges (cells + 1,) of the cells of an axis, in the order of its index, evenly as the page draws them.

    >>> _edges(Axis("x", "mm", np.array([4.0, 3.0, 2.0])), 1, cells=3).tolist()
    [4.5, 3.5, 2.5, 1.5]
    """
    low, high = axis.bounds
    along = np.arange(cells + 1) * step * (high - low) / len(axis.coordinates)
    return high - along if axis.decreases else low + along


def _axis(letter: str, axis: Axis, edges: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return label and values of an axis."""
    return {f"{letter}Label": axis.label[:TEXT_MAX], f"{letter}Scale": "linear", f"{letter}Values": edges}


def _domain(grid: npt.NDArray[np.float64]) -> list[float]:
    """Return smallest and largest count, both finite and different."""
    finite = grid[np.isfinite(grid)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return [low, high if high > low else low + 1.0]


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message as MessagePack; array contents begin at multiples of :data:`ALIGNED_BYTES`."""
    packer, body = msgpack.Packer(use_bin_type=True, unicode_errors="replace", autoreset=True), bytearray()
    _pack(message, packer, body)
    return bytes(body)


def _pack(value: Any, packer: msgpack.Packer, body: bytearray) -> None:
    """Append a value to a body."""
    if isinstance(value, Mapping):
        body += _header(len(value), packer)
        for name, one in value.items():
            body += packer.pack(name)
            _pack(one, packer, body)
    elif isinstance(value, np.ndarray):
        _pack_array(value, packer, body)
    else:
        body += packer.pack(value)


def _pack_array(values: npt.NDArray[np.float64], packer: msgpack.Packer, body: bytearray) -> None:
    """Append an array in Davidia's format: little-endian, row by row, padded so that its bytes are aligned."""
    data = np.ascontiguousarray(values, "<f8")
    head = {"nd": True, "dtype": data.dtype.str, "shape": list(data.shape)}
    body += _header(len(head) + 2, packer)
    for name, one in head.items():
        body += packer.pack(name) + packer.pack(one)
    content = packer.pack("data") + b"\xc6" + data.nbytes.to_bytes(4, "big")  # "bin 32", whatever the size
    body += packer.pack("pad")
    before = len(body) + 1 + len(content)  # a text of less than 32 bytes has a header of one
    body += packer.pack(" " * (-before % ALIGNED_BYTES))
    body += content
    body += data.data.cast("B")


def _header(size: int, packer: msgpack.Packer) -> bytes:
    """Return the header of a map of ``size`` entries."""
    return packer.pack_map_header(size)
