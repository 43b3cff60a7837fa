"""The maps for Davidia's clients: its WebSocket and its image messages, in MessagePack.

A client follows the newest run. It is sent the whole map when the map has changed, at most every ``PERIOD_S``; it skips
images that it cannot take in time. Davidia's other messages (selections, the baton) are for plots that several clients
edit. These plots are read-only, so each client gets a baton of its own, and its drawings stay with it.

There are two generations of clients, with two shapes of messages:

    npm 1.0.x   {"plotId": "plot_0", "type": "status", "params": "ready"}; types baton_request, baton_offer, ...
    1.1         {"status": "ready"}; {"requester": uuid}, {"receiver": uuid}, ...

Both draw an image the same way: row 0 at the top, and the axes from the first to the last of their values. So rows are
sent from the highest coordinate to the lowest, columns from the lowest to the highest, and the values are the edges of
the cells, one more than there are cells. The map then looks as on the dashboard.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from fastapi.requests import HTTPConnection

from snakemap.api.compat.davidia_messages import (
    NORMAL,
    PLOTS,
    POLICY_VIOLATION,
    TEXT_MAX,
    TRY_AGAIN_LATER,
    Image,
    Leave,
    image_message,
    pack,
    request_of,
    unpacked,
)
from snakemap.api.middleware.origins import check_origin
from snakemap.api.middleware.rate_limit import address_of
from snakemap.api.service import Service
from snakemap.core.run import Run
from snakemap.errors import NotThere, RunNotFound, SnakemapError, StoreUnavailable
from snakemap.store.run_index import LATEST, find_uid

__all__ = ["Plots", "davidia"]

log = logging.getLogger(__name__)


PERIOD_S = 0.2


BYTES_PER_S = 10_000_000
"""Data rate limit for one client; large images are sent less often than every period."""


MESSAGES_PER_S = 50


SEND_TIMEOUT_S = 10.0


GOODBYE_TIMEOUT_S = 10.0


class Plots:
    """The plots of one application.

    Args:
        service: of the application.

    Attributes:
        clients: number of connected clients.
    """

    def __init__(self, service: Service) -> None:
        self._store = service.store
        self._runs = service.run_cache
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
        """Send a plot to one client until it disconnects or has to be disconnected.

        Args:
            socket: not yet accepted.
            client: its own id.
            plot_id: the plot.

        Raises:
            OriginRefused: when the request comes from a web page of another site.
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
        """Return the newest image of a plot, made once for all clients; None while there is none."""
        async with self._lock:
            if time.monotonic() - self._looked_at >= PERIOD_S:
                await self._look()
                self._looked_at = time.monotonic()
            if self._uid is None:
                return None
            known, seen = self._images.get(plot_id), (self._uid, self._latest)
            if known is None or self._seen.get(plot_id) != seen:
                known = await self._make(self._uid, plot_id, known)
                self._seen[plot_id] = seen
            return known

    async def _make(self, uid: str, plot_id: str, known: Image | None) -> Image | None:
        """Return the current image of a run; ``known`` where the run has not changed since."""

        def draw(run: Run) -> Image | None:
            if known is not None and known.of == (uid, run.cursor):
                return known
            body = image_message(run, plot_id)
            return None if body is None else Image((uid, run.cursor), body)

        try:
            image = await self._runs.compute(uid, draw)
        except RunNotFound:  # it has just expired
            return None
        if image is not None:
            self._images[plot_id] = image
        return image

    async def _look(self) -> None:
        """Look for the newest run, if there are new documents."""
        latest = await self._store.latest()
        if latest == self._latest and self._uid is not None:
            return
        try:
            self._uid = await find_uid(self._store, LATEST)
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
                    left.append(Leave(TRY_AGAIN_LATER, "too slow: images were not read in time"))
                except (WebSocketDisconnect, RuntimeError) as gone:
                    log.debug("client disconnected: %s", gone)
                group.cancel_scope.cancel()

            group.start_soon(until_it_leaves, _receive(socket, client, ready))
            group.start_soon(until_it_leaves, self._show(socket, client, plot_id, ready))
        return left[0] if left else Leave(0)

    async def _show(self, socket: WebSocket, client: str, plot_id: str, ready: asyncio.Event) -> None:
        """Send the images of a plot once the client is ready; before the first, the owner of the baton."""
        await ready.wait()
        shown: Image | None = None
        baton: bytes | None = pack({"baton": client, "uuids": [client]})
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


async def _receive(socket: WebSocket, client: str, ready: asyncio.Event) -> None:
    """Handle the messages of a client until it disconnects.

    Raises:
        Leave: the client disconnects, or sends an invalid message or too many.
    """
    second, received = 0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Leave(0)
        now = int(time.monotonic())
        second, received = now, received + 1 if now == second else 1
        if received > MESSAGES_PER_S:
            raise Leave(POLICY_VIOLATION, f"more than {MESSAGES_PER_S} messages in a second")
        match request_of(unpacked(message.get("bytes"))):
            case "ready":
                ready.set()
            case "closing":
                raise Leave(NORMAL, "good-bye")
            case "baton":
                await _send(socket, pack({"baton": client, "uuids": [client]}))


async def _send(socket: WebSocket, body: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await socket.send_bytes(body)


async def _close(socket: WebSocket, leaving: Leave) -> None:
    try:
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await socket.close(leaving.code, leaving.reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as gone:
        log.debug("client had already disconnected: %s", gone)


def _plots(connection: HTTPConnection) -> Plots:
    state = connection.app.state
    if not hasattr(state, "davidia"):
        state.davidia = Plots(state.service)
    return state.davidia


davidia = APIRouter()


@davidia.websocket("/plot/{uuid}/{plot_id}")
async def plot(websocket: WebSocket, uuid: str, plot_id: str, plots: Annotated[Plots, Depends(_plots)]) -> None:
    """The maps of the newest run, for Davidia's clients."""
    await plots.serve(websocket, uuid, plot_id)
