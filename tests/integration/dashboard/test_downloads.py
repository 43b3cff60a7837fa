"""Downloads of whole files and of events, by clients that take them and by clients that do not."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.support.patience import PATIENCE
from tests.support.served import serving, until
from tornado.netutil import bind_sockets
from tornado.web import Application

from snakemap.dashboard import large_response
from snakemap.dashboard.page_server import PageServer
from snakemap.dashboard.routes.events import EventsHandler
from snakemap.dashboard.routes.files import FileHandler
from snakemap.dashboard.routes.maps import MapsHandler
from snakemap.errors import RunNotFound
from snakemap.render.export import MapFormat
from snakemap.store.entries import RawEntry
from snakemap.web.connection_limits import ConnectionLimit
from snakemap.web.hosts import HostNames

LARGE = 30_000_000
TIMEOUT_S = 30.0


class Endless:
    """A store whose events are more than sockets hold."""

    async def latest(self) -> str:
        return "9-0"

    async def raw(
        self, *, after: str = "", until: str = "", count: int = 1, newest_first: bool = False
    ) -> list[RawEntry]:
        number = int(after.partition("-")[0] or 0) + 1
        doc = b'{"text":"' + b"x" * 4_000_000 + b'"}'
        return [RawEntry(f"{number}-0", "event", "r", doc)] if number < 9 else []


class OneRun:
    """The runs of a store that has one run, with maps of a few bytes."""

    async def maps(self, uid: str, form: MapFormat, *, source: str = "") -> Any:
        if uid != "there":
            raise RunNotFound(f"there is no run {uid}")
        return SimpleNamespace(body=f"{form} {source}".encode())

    async def run(self, uid: str) -> Any:
        return SimpleNamespace(start={"uid": uid, "time": 0.0, "scan_id": 7})


@asynccontextmanager
async def routes(root: Path) -> AsyncIterator[str]:
    routes: Any = [
        ("/file", FileHandler, {"allowed": lambda: (root, LARGE)}),
        ("/events", EventsHandler, {"store": Endless}),
        ("/export", MapsHandler, {"runs": OneRun}),
    ]
    server = PageServer(Application(routes), hosts=HostNames("127.0.0.1"), connections=ConnectionLimit())
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.stop()
        await server.close_all_connections()


async def asked(url: str) -> tuple[int, bytes]:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE * TIMEOUT_S) as client:
        answer = await client.get(url)
        return answer.status_code, answer.content


@pytest.mark.parametrize(
    "name",
    [
        b" first.h5", b"last.h5 ", b"  ", b"a b.h5", b"tab\t.h5", b"line\n.h5", b"bell\x07.h5", b"not text \xff.h5",
        b"10%Fe.h5", b"sample #5.h5", b"what?.h5", b"a+b.h5", "größe.h5".encode(),
    ],
)  # fmt: skip
async def test_a_file_comes_whatever_its_name(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(name)
    (tmp_path / "sub ").mkdir()
    (tmp_path / "sub " / os.fsdecode(name)).write_bytes(name + b"!")
    async with routes(tmp_path) as url:
        assert await asked(f"{url}/file?path={quote(name)}") == (200, name)
        assert await asked(f"{url}/file?path=sub%20/{quote(name)}") == (200, name + b"!")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nothing.h5", 404), ("there.h5%20", 404), ("%20there.h5", 404), ("there.h5/more", 404), ("gone", 404),
        ("sub", 403), ("", 403), ("../secret", 403), ("/etc/passwd", 403), ("%00", 403), ("a%00b", 403), ("pipe", 403),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_404_and_what_may_not_be_seen_403(tmp_path: Path, path: str, expected: int) -> None:
    (tmp_path / "there.h5").write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "gone").symlink_to("nothing.h5")
    os.mkfifo(tmp_path / "pipe")
    async with routes(tmp_path) as url:
        status, _ = await asked(f"{url}/file?path={path}")
        assert status == expected


async def test_the_api_says_the_same_of_directories(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / " sub ").mkdir()
    (tmp_path / " sub " / " a ").write_bytes(b"x")
    async with serving(redis_url, data_root=tmp_path) as served, served.client() as client:
        for path, status, code in (
            ("nothing", 404, "file_missing"), ("sub", 404, "file_missing"), ("file/x", 404, "file_missing"),
            ("file", 403, "file_refused"), ("../x", 403, "file_refused"),
        ):  # fmt: skip
            answer = await client.get("/api/files", params={"path": path})
            assert (path, answer.status_code, answer.json()["error"]["code"]) == (path, status, code)
        told = (await client.get("/api/files", params={"path": " sub "})).json()
        assert [entry["name"] for entry in told["entries"]] == [" a "]


def unread(url: str, path: str) -> socket.socket:
    """A client that asks and takes nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


async def rest_of(client: socket.socket) -> int:
    """How many bytes come until the server closes the connection."""

    def read() -> int:
        count = 0
        try:
            while piece := client.recv(1 << 20):
                count += len(piece)
        except ConnectionResetError:
            pass
        return count

    return await asyncio.to_thread(read)


@pytest.mark.parametrize("path", ["/file?path=large", "/events"])
async def test_a_client_that_takes_nothing_is_let_wait_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(large_response, "SEND_TIMEOUT_S", 0.3)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    async with routes(tmp_path) as url:
        with unread(url, path) as client:
            server_side = asyncio.get_running_loop().time()
            if path == "/events":
                await until(lambda: EventsHandler.slots.taken == 1)
                await until(lambda: EventsHandler.slots.taken == 0)
            else:
                await until(lambda: asyncio.get_running_loop().time() > server_side + 1)
            assert await rest_of(client) < LARGE
        status, content = await asked(f"{url}{path}")
        assert (status, len(content) >= LARGE) == (200, True)


async def test_one_address_downloads_events_twice_at_one_time(tmp_path: Path) -> None:
    async with routes(tmp_path) as url:
        with unread(url, "/events"), unread(url, "/events"):
            await until(lambda: EventsHandler.slots.taken == 2)
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE * TIMEOUT_S) as client:
                refused = await client.get(f"{url}/events")
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            free = EventsHandler.slots.take("10.0.0.7")
            free()
        await until(lambda: EventsHandler.slots.taken == 0)
        assert (await asked(f"{url}/events"))[0] == 200


async def test_maps_are_saved_or_refused_in_a_word_and_their_slots_are_given_back(tmp_path: Path) -> None:
    async with routes(tmp_path) as url, httpx.AsyncClient(trust_env=False, timeout=PATIENCE * TIMEOUT_S) as client:
        found = await client.get(f"{url}/export?run=there&format=csv&source=camera")
        assert (found.status_code, found.content) == (200, b"csv camera")
        assert found.headers["content-type"] == MapFormat.CSV.media_type
        assert found.headers["content-disposition"].startswith('attachment; filename="')
        assert found.headers["cache-control"] == "no-store"
        assert (await client.get(f"{url}/export?run=gone&format=csv")).status_code == 404
        refused = await client.get(f"{url}/export?run=there&format=gif")
        assert (refused.status_code, "csv" in refused.reason_phrase) == (400, True)
        assert MapsHandler.slots.taken == 0
        slots = [MapsHandler.slots.take("127.0.0.1") for _ in range(2)]
        try:
            full = await client.get(f"{url}/export?run=there&format=csv")
        finally:
            for give_back in slots:
                give_back()
        assert (full.status_code, full.text) == (429, "Too many downloads of maps; try again later.\n")
        assert int(full.headers["retry-after"]) > 0
