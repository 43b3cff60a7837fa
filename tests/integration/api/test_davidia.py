"""Davidia's clients at our WebSocket: its own models and its own decoder read what we send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from davidia.models.messages import BatonMessage, HeatmapData, ImageMessage
from davidia.server.fastapi_utils import as_model, ws_pack, ws_unpack
from tests.support import scans
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, maps_of_frames, write_frames
from tests.support.patience import patiently
from tests.support.served import Served, serving
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from snakemap.api.compat import davidia
from snakemap.core.documents import Document
from snakemap.core.run import Run

TIMEOUT_S = 30.0


@pytest.fixture
async def api(redis_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(redis_url, data_root=tmp_path) as api:
        yield api


async def say(socket: ClientConnection, message: dict[str, Any]) -> None:
    packed = ws_pack(message)
    assert packed is not None
    await socket.send(packed)


async def hear(socket: ClientConnection) -> ImageMessage | BatonMessage:
    """The next message, as Davidia's server would take it."""
    async with patiently(TIMEOUT_S):
        data = await socket.recv()
    assert isinstance(data, bytes)
    told = ws_unpack(data)
    model = ImageMessage.model_validate(told) if "imData" in told else as_model(told)
    assert isinstance(model, ImageMessage | BatonMessage)
    return model


async def image(socket: ClientConnection) -> tuple[ImageMessage, HeatmapData]:
    """The next image."""
    while True:
        message = await hear(socket)
        if isinstance(message, ImageMessage):
            assert isinstance(message.im_data, HeatmapData)
            return message, message.im_data


async def farewell(socket: ClientConnection) -> int | None:
    """The code with which the server ends it."""
    async with patiently(TIMEOUT_S):
        with suppress(ConnectionClosedError):
            async for _ in socket:
                pass
    return socket.close_code


async def put(api: Served, scan: Scan, *, points: int) -> None:
    """Puts a scan into the store, with the summary that the worker keeps of it."""
    documents = scans.documents(scan, points=points)
    await api.store.append(documents)
    await api.store.save_summary(scan.uid, folded(documents).summary())


def folded(documents: list[Document]) -> Run:
    run = Run(documents[0].doc)
    for document in documents:
        run.apply(document)
    return run


async def test_four_plots_grow_with_a_scan_and_their_last_images_are_the_maps(
    redis_url: str, api: Served, tmp_path: Path
) -> None:
    scan = Scan("run", shape=(4, 5), frames=some_frames(20))
    write_frames(tmp_path / "run.h5", scan.frames)
    whole = scan.whole()
    seen: dict[str, list[np.ndarray[Any, Any]]] = {}

    async def watch(plot_id: str) -> None:
        async with api.socket(f"/plot/me/{plot_id}") as socket:
            await say(socket, {"status": "ready"})
            while True:
                message, data = await image(socket)
                assert message.plot_id == plot_id
                seen.setdefault(plot_id, []).append(data.values)
                await say(socket, {"status": "ready 12.5"})
                if not np.isnan(data.values).any():
                    return

    async with Lab(redis_url, root=tmp_path) as lab, lab.worker(), asyncio.TaskGroup() as group:
        for plot_id in ("red", "green", "plot_2", "total"):
            group.create_task(watch(plot_id))
        await lab.append(*whole[:13], run="run")
        await lab.until_points("run", 10)
        async with patiently(TIMEOUT_S):
            while not all(visited(one) >= 10 for one in map(last, (seen.get(name) for name in ("red", "total")))):
                await asyncio.sleep(0.01)
        await lab.append(*whole[13:], run="run")
        await lab.until_settled("run")
        run = await lab.run("run")
    grids = maps_of_frames(run, scan.frames, points=range(1, 21))
    for plot_id, grid in zip(("red", "green", "plot_2", "total"), grids, strict=True):
        np.testing.assert_array_equal(seen[plot_id][-1], grid[::-1])  # the highest row is at the top
        assert len(seen[plot_id]) > 1
    half = next(values for values in seen["red"] if visited(values) >= 10)
    cells = ~np.isnan(half)
    np.testing.assert_array_equal(half[cells], grids[0][::-1][cells])


def last(images: list[np.ndarray[Any, Any]] | None) -> np.ndarray[Any, Any]:
    return images[-1] if images else np.full((1, 1), np.nan)


def visited(values: np.ndarray[Any, Any]) -> int:
    return int(np.count_nonzero(~np.isnan(values)))


async def test_whoever_looks_at_a_run_sees_the_next_one_when_it_has_begun(api: Served) -> None:
    await put(api, Scan("first", start_extra={"scan_id": 7}), points=12)
    async with api.socket("/plot/me/plot_0") as socket:
        await say(socket, {"status": "ready"})
        message, data = await image(socket)
        assert (message.plot_config.title, data.values.shape) == ("red · scan 7", (3, 4))
        assert (data.domain, data.colour_map, data.aspect, data.heatmap_scale) == ((1, 12), "Reds", "equal", "linear")
        await put(api, Scan("second", shape=(2, 3), start_extra={"scan_id": 8}), points=2)
        message, data = await image(socket)
        while message.plot_config.title != "red · scan 8":
            message, data = await image(socket)
        assert data.values.shape == (2, 3)


async def test_what_else_a_client_says_does_no_harm_and_a_baton_is_its_own(api: Served) -> None:
    scan = Scan("run")
    await put(api, scan, points=3)
    async with api.socket("/plot/me/red") as socket, api.socket("/plot/you/red") as other:
        for one in (socket, other):
            await say(one, {"status": "ready"})
        first, second = await hear(socket), await hear(socket)
        assert isinstance(first, ImageMessage)
        assert isinstance(second, BatonMessage)
        assert (second.baton, second.uuids) == ("me", ["me"])
        for message in (
            {"selection": {"id": "1", "name": "", "color": "red", "alpha": 1, "start": [0, 0], "lengths": [1, 1]}},
            {"selectionIds": []},
            {"key": "line", "lineParams": {"name": "x"}},
            {"pointSize": 3.0},
            {"status": 5},
            {"receiver": "you"},
            {},
            {"anything": {"nested": [1, None, b"bytes"]}},
            {"requester": "me"},
        ):
            await say(socket, message)
        for _ in ("receiver", "requester"):
            baton = await hear(socket)
            assert isinstance(baton, BatonMessage)
            assert baton.baton == "me"
        await api.store.append(scans.documents(scan, points=12)[-1:])
        assert visited((await image(socket))[1].values) == 4
        while isinstance(message := await hear(other), BatonMessage):
            assert message.uuids == ["you"]


def of_npm(kind: str, params: object) -> dict[str, object]:
    """A message as the client of npm 1.0.x writes it."""
    return {"plotId": "plot_0", "type": kind, "params": params}


async def test_the_client_of_npm_is_served_as_the_newer_one_is(api: Served) -> None:
    scan = Scan("run")
    await put(api, scan, points=3)
    async with api.socket("/plot/me/plot_0") as socket:
        await say(socket, of_npm("status", "ready"))
        assert visited((await image(socket))[1].values) == 3
        baton = await hear(socket)
        assert isinstance(baton, BatonMessage)
        for message in (
            of_npm("status", "ready 12.5"),
            of_npm("client_new_selection", {"selection": {"id": "1", "start": [0, 0], "lengths": [1, 1]}}),
            of_npm("clear_selection_data", {"selectionIds": []}),
            of_npm("client_update_line_parameters", {"key": "line", "lineParams": {"name": "x"}}),
            of_npm("baton_request", "me"),
            of_npm("baton_offer", "you"),
        ):
            await say(socket, message)
        for _ in ("request", "offer"):
            baton = await hear(socket)
            assert isinstance(baton, BatonMessage)
            assert (baton.baton, baton.uuids) == ("me", ["me"])
        await say(socket, of_npm("status", "closing"))
        assert await farewell(socket) == 1000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1", 1007),
        (b"", 1007),
        (b"\x93\x01\x02\x03", 1007),
        (b"\xdd\xff\xff\xff\xff", 1007),
        (b"\x81\xa1\xff\x01", 1007),
        (b"\x91" * 60_000, 1007),
        ('{"status": "ready"}', 1003),
        (b"\x80" * 70_000, 1009),
    ],
    ids=["no type", "nothing", "a list", "cut short", "no text", "deep", "text", "too long"],
)
async def test_what_is_no_message_ends_the_connection_with_a_code(api: Served, data: str | bytes, code: int) -> None:
    async with api.socket("/plot/me/red") as socket:
        await socket.send(data)
        assert await farewell(socket) == code


async def test_a_client_that_says_good_bye_or_too_much_is_let_go(api: Served) -> None:
    async with api.socket("/plot/me/red") as socket:
        await say(socket, {"status": "closing"})
        assert await farewell(socket) == 1000
    async with api.socket("/plot/me/red") as socket:
        for _ in range(200):
            await say(socket, {"pointSize": 1})
        assert await farewell(socket) == 1008


async def test_plots_that_are_not_there_and_pages_of_others_are_refused(api: Served) -> None:
    with pytest.raises(InvalidStatus, match="404"):
        await api.socket("/plot/me/plot_4")
    with pytest.raises(InvalidStatus, match="403"):
        await api.socket("/plot/me/red", origin="http://elsewhere")  # pyright: ignore[reportArgumentType]


async def test_images_come_at_most_five_a_second_and_the_newest_wins(api: Served) -> None:
    scan = Scan("run", shape=(20, 20))
    documents = scans.documents(scan, points=400)
    await api.store.append(documents[:5])
    await api.store.save_summary(scan.uid, folded(documents[:5]).summary())
    came: list[tuple[float, int]] = []
    async with api.socket("/plot/me/red") as socket, asyncio.TaskGroup() as group:
        await say(socket, {"status": "ready"})
        group.create_task(append_slowly(api, documents[5:]))
        while not came or came[-1][1] < 400:
            values = (await image(socket))[1].values
            came.append((time.monotonic(), visited(values)))
    assert [points for _, points in came] == sorted({points for _, points in came})
    seconds = came[-1][0] - came[0][0]
    assert len(came) <= seconds / 0.2 + 3
    assert len(came) > 2


async def append_slowly(api: Served, documents: list[Document]) -> None:
    for start in range(0, len(documents), 5):
        await api.store.append(documents[start : start + 5])
        await asyncio.sleep(0.01)


async def test_a_client_that_does_not_take_its_images_is_let_go_and_one_too_many_is_turned_away(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(davidia, "SEND_TIMEOUT_S", 0.3)
    scan = Scan("run", shape=(1000, 1000))
    documents = scans.documents(scan, points=40)
    await put(api, scan, points=1)
    async with api.socket("/plot/slow/red", max_queue=1, close_timeout=0.1) as slow, asyncio.TaskGroup() as group:
        await say(slow, {"status": "ready"})
        growing = group.create_task(grow(api, documents[6:]))
        plots = api.app.state.davidia
        async with patiently(TIMEOUT_S):
            while plots.clients:
                await asyncio.sleep(0.02)
        growing.cancel()
    monkeypatch.setattr(api.app.state.service.streams.places, "_most", 1)
    async with api.socket("/plot/me/red") as first:
        async with api.socket("/plot/you/red") as second:
            assert await farewell(second) == 1013
        await say(first, {"status": "ready"})
        assert (await image(first))[1].values.shape == (1000, 1000)


async def grow(api: Served, documents: list[Document]) -> None:
    for document in documents:
        await api.store.append([document])
        await asyncio.sleep(0.2)
