"""The four maps for Davidia's clients: its WebSocket and its image messages, in MessagePack.

A client follows the newest run. It is sent the whole map when that has changed, a few times a second and the newest
only; what it cannot take in time it misses. Its other messages (selections, the baton) are for a plot that several
clients edit; ours is read-only, so each client gets a baton of its own, and what it draws stays with it.

Two generations of clients exist, and say the same in two shapes:

    npm 1.0.x   {"plotId": "plot_0", "type": "status", "params": "ready"}; types baton_request, baton_offer, ...
    1.1         {"status": "ready"}; {"requester": uuid}, {"receiver": uuid}, ...

Both draw an image the same way: row 0 at the top, and the axes from the first to the last of their values. So rows are
sent from the highest coordinate to the lowest, columns from the lowest to the highest, and the values are the edges of
the cells, one more than there are cells. The map then stands as on our page.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
import msgpack
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from fastapi.requests import HTTPConnection

from snakemap.api.folds import uid_of
from snakemap.api.limits import address_of
from snakemap.api.maps import Drawn
from snakemap.api.origins import check_origin
from snakemap.api.service import Service
from snakemap.errors import NotThere, RunNotFound, SnakemapError, StoreUnavailable
from snakemap.raster import Axis
from snakemap.runs import Run

__all__ = ["Plots", "davidia", "image_message", "request_of", "unpacked"]

log = logging.getLogger(__name__)

PERIOD_S = 0.2
BYTES_PER_S = 10_000_000
"""How fast one client is sent images; large ones come less often than every period."""

CELLS_MAX = 1_000_000
"""Pixels of an image; of a larger map every second row and column is sent, or every third, and so on."""

MESSAGES_PER_S = 50
SEND_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 10.0
TEXT_MAX = 200

ALIGNED_BYTES = 8
"""A client views an array in the message itself when it begins at a multiple of this; else it copies it, and warns."""

NORMAL, UNSUPPORTED, INVALID, POLICY_VIOLATION, TRY_AGAIN_LATER = 1000, 1003, 1007, 1008, 1013

CHANNELS = ("red", "green", "blue", "total")
COLORS = {"red": "Reds", "green": "Greens", "blue": "Blues", "total": "Viridis"}
PLOTS = {**{name: name for name in CHANNELS}, **{f"plot_{number}": name for number, name in enumerate(CHANNELS)}}
"""The channel that each plot shows."""


@dataclass(frozen=True, slots=True)
class Image:
    """A map, ready to be sent.

    Attributes:
        of: uid of its run, and cursor of the last document in it.
        body: the message.
    """

    of: tuple[str, str]
    body: bytes


class Leave(Exception):
    """A client goes, or has to.

    Args:
        code: of the close frame; 0 when there is nobody to tell it to.
        reason: in words.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Plots:
    """The plots of one application and those who look at them.

    Args:
        service: of the application.

    Attributes:
        clients: how many are being served.
    """

    def __init__(self, service: Service) -> None:
        self._store = service.store
        self._folds = service.folds
        self._origins = service.settings.origins
        self._places = service.streams.places
        self._lock = asyncio.Lock()
        self._looked_at = -PERIOD_S
        self._latest = ""
        self._uid: str | None = None
        self._images: dict[str, Image] = {}
        self._seen: dict[str, tuple[str, str]] = {}
        self.clients = 0

    async def serve(self, socket: WebSocket, client: str, plot_id: str) -> None:
        """Serves one client until it goes, or has to.

        Args:
            socket: not yet accepted.
            client: what it calls itself.
            plot_id: what it wants to see.

        Raises:
            OriginRefused: when a web page of somebody else's is behind it.
            NotThere: when there is no such plot.
        """
        check_origin(socket, self._origins)
        if plot_id not in PLOTS:
            raise NotThere(f"there is no plot {plot_id[:100]!r}; there are {', '.join(PLOTS)}")
        await socket.accept()
        try:
            leave = self._places.take(address_of(socket))
        except SnakemapError as refusal:
            await _close(socket, Leave(TRY_AGAIN_LATER, str(refusal)))
            return
        self.clients += 1
        try:
            leaving = await self._until_gone(socket, client[:TEXT_MAX], plot_id)
        finally:
            self.clients -= 1
            leave()
        if leaving.code:
            await _close(socket, leaving)

    async def image(self, plot_id: str) -> Image | None:
        """The newest image of a plot; None while there is none. Looked up and written once for all who ask."""
        async with self._lock:
            if time.monotonic() - self._looked_at >= PERIOD_S:
                await self._look()
                self._looked_at = time.monotonic()
            if self._uid is None:
                return None
            known, seen = self._images.get(plot_id), (self._uid, self._latest)
            if known is None or self._seen.get(plot_id) != seen:
                known = await self._made(self._uid, plot_id, known)
                self._seen[plot_id] = seen
            return known

    async def _made(self, uid: str, plot_id: str, known: Image | None) -> Image | None:
        """The image of a run as it is now; the one that is known, where nothing has come since."""

        def tell(run: Run) -> Image | None:
            if known is not None and known.of == (uid, run.cursor):
                return known
            body = image_message(run, plot_id)
            return None if body is None else Image((uid, run.cursor), body)

        try:
            image = await self._folds.told(uid, tell)
        except RunNotFound:  # it has just expired
            return None
        if image is not None:
            self._images[plot_id] = image
        return image

    async def _look(self) -> None:
        """Finds the newest run, if anything has come at all."""
        latest = await self._store.latest()
        if latest == self._latest and self._uid is not None:
            return
        try:
            self._uid = await uid_of(self._store, "latest")
        except RunNotFound:
            self._uid = None
        self._latest = latest

    async def _until_gone(self, socket: WebSocket, client: str, plot_id: str) -> Leave:
        ready = asyncio.Event()
        left: list[Leave] = []
        async with anyio.create_task_group() as group:

            async def until_it_leaves(work: Any) -> None:
                try:
                    await work
                except Leave as leave:
                    left.append(leave)
                except TimeoutError:
                    left.append(Leave(TRY_AGAIN_LATER, "too slow: it did not take its images in time"))
                except (WebSocketDisconnect, RuntimeError) as gone:
                    log.debug("a client has gone: %s", gone)
                group.cancel_scope.cancel()

            group.start_soon(until_it_leaves, _hear(socket, client, ready))
            group.start_soon(until_it_leaves, self._show(socket, client, plot_id, ready))
        return left[0] if left else Leave(0)

    async def _show(self, socket: WebSocket, client: str, plot_id: str, ready: asyncio.Event) -> None:
        """Sends the images of a plot once the client is ready, and first of all whose the baton is."""
        await ready.wait()
        shown: Image | None = None
        baton: bytes | None = _packed({"baton": client, "uuids": [client]})
        while True:
            image = await self._newest(plot_id)
            if image is not None and image is not shown:
                shown = image
                await _send(socket, image.body)
            if baton is not None:
                await _send(socket, baton)
                baton = None
            await asyncio.sleep(max(PERIOD_S, len(shown.body) / BYTES_PER_S if shown else 0))

    async def _newest(self, plot_id: str) -> Image | None:
        try:
            return await self.image(plot_id)
        except StoreUnavailable as trouble:
            log.debug("no image: %s", trouble)
            return None


async def _hear(socket: WebSocket, client: str, ready: asyncio.Event) -> None:
    """Hears what a client says until it goes.

    Raises:
        Leave: it goes, or says what cannot be understood, or too much.
    """
    second, said = 0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Leave(0)
        now = int(time.monotonic())
        second, said = now, said + 1 if now == second else 1
        if said > MESSAGES_PER_S:
            raise Leave(POLICY_VIOLATION, f"more than {MESSAGES_PER_S} messages in a second")
        match request_of(unpacked(message.get("bytes"))):
            case "ready":
                ready.set()
            case "closing":
                raise Leave(NORMAL, "good-bye")
            case "baton":
                await _send(socket, _packed({"baton": client, "uuids": [client]}))


def unpacked(data: bytes | None) -> dict[Any, Any]:
    """A message of a client.

    Raises:
        Leave: when it is no MessagePack, or no message.
    """
    if data is None:
        raise Leave(UNSUPPORTED, "messages are MessagePack, not text")
    try:
        told = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException, TypeError, RecursionError) as error:
        raise Leave(INVALID, "that is no MessagePack") from error
    if not isinstance(told, dict):
        raise Leave(INVALID, "a message is a map of names and values")
    return told


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
    word = status.split(" ")[0] if isinstance(status, str) else ""  # "ready 12.5" says how long the last image took
    if word == "ready" or word == "closing":
        return word
    return None


def image_message(run: Run, plot_id: str) -> bytes | None:
    """The map that a plot shows, as a message of Davidia's; None when the run has no such channel.

    Values are counts, float64 (rows, columns), NaN where not visited; row 0 has the highest coordinate of the slow
    axis, column 0 the lowest of the fast one.
    """
    drawn, name = Drawn.of(run, run.main), PLOTS[plot_id]
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
    return _packed({"plotId": plot_id, "plotConfig": config, "imData": image})


def _place(channels: Collection[str], name: str) -> int | None:
    """Which channel a plot shows: the one of its name, else the one in its place."""
    names = list(channels)
    if name in names:
        return names.index(name)
    place = CHANNELS.index(name)
    return place if name != "total" and place < len(names) and names[place] != "total" else None


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
    """Smallest and largest count, both finite and not the same."""
    finite = grid[np.isfinite(grid)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return [low, high if high > low else low + 1.0]


def _packed(message: Mapping[str, Any]) -> bytes:
    """Return a message as MessagePack; what its arrays hold begins at multiples of :data:`ALIGNED_BYTES`."""
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
    """Append an array as Davidia packs it, little-endian, row by row, and before its bytes so much as aligns them."""
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
    """Return what begins a map of so many entries."""
    return packer.pack_map_header(size)


async def _send(socket: WebSocket, body: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await socket.send_bytes(body)


async def _close(socket: WebSocket, leaving: Leave) -> None:
    try:
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await socket.close(leaving.code, leaving.reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as gone:
        log.debug("a client was not there any more: %s", gone)


def _plots(connection: HTTPConnection) -> Plots:
    state = connection.app.state
    if not hasattr(state, "davidia"):
        state.davidia = Plots(state.service)
    return state.davidia


davidia = APIRouter()


@davidia.websocket("/plot/{uuid}/{plot_id}")
async def plot(websocket: WebSocket, uuid: str, plot_id: str, here: Annotated[Plots, Depends(_plots)]) -> None:
    """The maps of the newest run, for Davidia's clients."""
    await here.serve(websocket, uuid, plot_id)
