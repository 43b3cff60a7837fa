"""What both servers do with clients that hold their places, and with requests for other names; over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from tests.support.patience import patiently
from tests.support.served import serving, until
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler
from websockets.asyncio.client import connect

from snakemap.api import http_protocol
from snakemap.dashboard.page_server import PageServer
from snakemap.web.connection_limits import ConnectionLimit
from snakemap.web.hosts import HostNames

TIMEOUT_S = 30.0


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("hello")


class Echo(WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


@asynccontextmanager
async def pages(connections: ConnectionLimit, *, timeout_s: float = 60.0) -> AsyncIterator[tuple[str, int]]:
    """The server of the pages with a page that says hello."""
    app = Application([("/", Hello), ("/ws", Echo)])
    hosts = HostNames("127.0.0.1", ("dashboard.beamline:5006",))
    server = PageServer(app, hosts=hosts, connections=connections, idle_connection_timeout=timeout_s)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield "127.0.0.1", sockets[0].getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()


async def said(where: tuple[str, int], text: str) -> str:
    """What the server sends to a text before it closes the connection."""
    reader, writer = await asyncio.open_connection(*where)
    try:
        writer.write(text.encode())
        async with patiently(TIMEOUT_S):
            return (await reader.read()).decode()
    finally:
        writer.close()


async def status(where: tuple[str, int], path: str = "/", host: str = "localhost", more: str = "") -> int:
    text = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    answer = await said(where, text)
    return int(answer.split(" ")[1]) if answer else 0


async def half(where: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has sent half a request."""
    reader, writer = await asyncio.open_connection(*where)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-")
    await writer.drain()
    return reader, writer


@contextmanager
def closing(halves: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> Iterator[None]:
    try:
        yield
    finally:
        for _, writer in halves:
            writer.close()


def ended(reader: asyncio.StreamReader) -> bool:
    return reader.at_eof() or reader.exception() is not None


async def test_pages_close_the_oldest_half_requests_and_serve_the_others() -> None:
    connections = ConnectionLimit(waiting_each=5)
    async with pages(connections) as where:
        halves = [await half(where) for _ in range(12)]
        with closing(halves):
            await until(lambda: sum(ended(reader) for reader, _ in halves) == 7)
            assert [ended(reader) for reader, _ in halves] == [True] * 7 + [False] * 5
            assert await status(where) == 200
            assert connections.waiting <= 5
    assert connections.waiting == 0


async def test_pages_close_a_half_request_after_the_time_limit() -> None:
    async with pages(ConnectionLimit(), timeout_s=0.2) as where:
        assert await said(where, "GET / HTTP/1.1\r\nHost: localhost\r\nX-") == ""
        assert await said(where, "") == ""
        hello = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await said(where, f"{hello}GET /")).count("hello") == 1  # the second request is a half one


async def test_pages_let_a_websocket_stay_that_says_nothing() -> None:
    connections = ConnectionLimit(waiting_each=1)
    async with pages(connections, timeout_s=0.1) as (host, port), connect(f"ws://{host}:{port}/ws") as opened:
        for _ in range(3):
            assert await status((host, port)) == 200
        assert await said((host, port), "GET") == ""  # as long as the limit, at least
        await opened.send("still here")
        assert await opened.recv() == "still here"
        assert connections.waiting == 0


async def test_an_address_that_has_too_many_connections_gets_no_more_pages() -> None:
    connections = ConnectionLimit(open_each=2)
    async with pages(connections) as where:
        for key in "ab":
            connections.opened(key, "127.0.0.1", lambda: None)
            connections.asked(key)
        assert await status(where) == 0
        connections.closed("a")
        assert await status(where) == 200


@pytest.mark.parametrize(
    ("host", "more", "expected"),
    [
        ("localhost:5006", "", 200),
        ("dashboard.beamline", "", 200),
        ("evil.example:5006", "", 421),
        ("10.0.0.1", "", 421),
        ("localhost", "X-Forwarded-Host: evil.example\r\n", 421),
        ("localhost", "X-Forwarded-Host: dashboard.beamline\r\n", 200),
    ],
)
async def test_pages_answer_to_their_own_names(host: str, more: str, expected: int) -> None:
    async with pages(ConnectionLimit()) as where:
        assert await status(where, host=host, more=more) == expected
        assert "SNAKEMAP_ORIGINS" in await said(where, "POST / HTTP/1.1\r\nHost: x.y\r\nContent-Length: 3\r\n\r\nabc")


async def test_pages_open_no_websocket_for_another_name() -> None:
    async with pages(ConnectionLimit()) as where:
        assert [await handshake(where, "/ws", host) for host in ("evil.example", "localhost")] == [421, 101]


async def handshake(where: tuple[str, int], path: str, host: str) -> int:
    """Status of the answer to a browser that opens a WebSocket."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    text = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
    reader, writer = await asyncio.open_connection(*where)
    try:
        writer.write(f"{text}Connection: Upgrade\r\n{key}\r\n\r\n".encode())
        async with patiently(TIMEOUT_S):
            return int((await reader.readline()).split(b" ")[1])
    finally:
        writer.close()


async def test_pages_say_once_that_there_are_no_descriptors_and_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async with pages(ConnectionLimit()) as where:
        waiting = socket.socket()
        with out_of_descriptors(), caplog.at_level(logging.ERROR):
            waiting.setblocking(False)
            waiting.connect_ex(where)
            await until(lambda: "no connection can be accepted" in caplog.text)
        waiting.close()
        assert await status(where) == 200
    assert sum("descriptor" in record.message or "connection" in record.message for record in caplog.records) == 1


@contextmanager
def out_of_descriptors() -> Iterator[None]:
    """Leaves this process no descriptor."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
        taken = []
        try:
            while True:
                taken.append(socket.socket())
        except OSError:
            pass
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for one in taken:
                one.close()


async def test_the_api_closes_the_oldest_half_requests_and_serves_the_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = ConnectionLimit(waiting_each=5)
    monkeypatch.setattr("snakemap.api.server.ConnectionLimit", lambda: connections)
    async with serving(redis_url) as served:
        where = place_of(served.authority)
        halves = [await half(where) for _ in range(12)]
        with closing(halves):
            await until(lambda: sum(ended(reader) for reader, _ in halves) == 7)
            assert await status(where, "/healthz") == 200
            async with served.socket("/api/documents") as socket:
                assert await status(where, "/healthz") == 200
                await socket.ping()
    await until(lambda: connections.waiting == 0)


async def test_the_api_answers_a_half_request_after_the_time_limit(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol.LimitedProtocol, "timeout_s", 0.2)
    monkeypatch.setattr(
        "snakemap.api.server.protocol", lambda connections: http_protocol.protocol(connections, timeout_s=0.2)
    )
    async with serving(redis_url) as served:
        where = place_of(served.authority)
        answer = await said(where, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-")
        assert answer.startswith("HTTP/1.1 408")
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["code"] == "headers_too_slow"
        assert await said(where, "") == ""
        whole = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answers = await said(where, f"{whole}{whole}GET /he")
        assert re.findall(r"HTTP/1\.1 (\d+)", answers) == ["200", "200", "408"]
        async with served.socket("/api/documents") as socket:
            assert await said(where, "GET") != ""  # longer than the limit
            await (await socket.ping())


@pytest.mark.parametrize("path", ["/api/runs", "/healthz", "/docs", "/nothing"])
async def test_the_api_answers_to_its_own_names(redis_url: str, path: str) -> None:
    async with serving(redis_url, origins="dashboard.beamline:8080") as served, served.client() as client:
        where = place_of(served.authority)
        for host in ("localhost", "dashboard.beamline", served.authority, "[::1]:80"):
            assert await status(where, path, host) == (404 if path == "/nothing" else 200)
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"Host": "192.0.2.1"}):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_refused")
            assert "SNAKEMAP_ORIGINS" in answer.json()["error"]["message"]


async def test_a_page_of_another_name_aborts_nothing_and_follows_nothing(redis_url: str) -> None:
    async with serving(redis_url) as served, served.client() as client:
        rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
        for path in ("/api/worker/abort", "/api/demo", "/api/sessions"):
            answer = await client.post(path, headers=rebound, json={})
            assert answer.status_code == 421
        for path in ("/api/documents", "/api/random/documents"):
            assert await handshake(place_of(served.authority), path, "evil.example") == 421
            assert await handshake(place_of(served.authority), path, "localhost") == 101


async def test_a_page_that_is_named_may_send_its_token(redis_url: str) -> None:
    async with serving(redis_url, origins="overview.beamline:8000") as served, served.client() as client:
        wanted = "authorization,content-type"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
        told = await client.options("/api/demo", headers={**asked, "Origin": "http://overview.beamline:8000"})
        assert told.status_code == 200
        assert told.headers["access-control-allow-origin"] == "http://overview.beamline:8000"
        assert "authorization" in told.headers["access-control-allow-headers"].lower()
        refused = await client.options("/api/demo", headers={**asked, "Origin": "http://evil.example"})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def place_of(authority: str) -> tuple[str, int]:
    host, _, port = authority.rpartition(":")
    return host, int(port)
