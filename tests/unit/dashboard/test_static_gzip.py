"""Static files as browsers get them, over real sockets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.support.patience import PATIENCE
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler

from snakemap.dashboard.static_gzip import StaticGzip

SCRIPT = "".join(random.Random(1).choices("abcdefgh {};=\n", k=150_000)).encode() * 2


class Page(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/css")
        self.write("p {}" * 1000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    StaticGzip.compressed.clear()
    (tmp_path / "a.js").write_bytes(SCRIPT)
    (tmp_path / "empty.css").write_bytes(b"")
    (tmp_path / "a.png").write_bytes(SCRIPT)
    return tmp_path


@asynccontextmanager
async def served(root: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Application([("/static/(.*)", StaticFileHandler, {"path": str(root)}), ("/page", Page)])
    app.add_transform(StaticGzip)
    server, sockets = HTTPServer(app), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60 * PATIENCE) as client:
            yield client
    finally:
        server.stop()
        await server.close_all_connections()


async def on_wire(client: httpx.AsyncClient, path: str) -> tuple[httpx.Response, int]:
    async with client.stream("GET", path) as answer:
        content = b"".join([part async for part in answer.aiter_bytes()])
        sent = answer.num_bytes_downloaded
    assert content == SCRIPT
    return answer, sent


async def test_a_script_is_compressed_once_and_sent_from_memory_afterwards(root: Path) -> None:
    async with served(root) as client:
        first, sent_first = await on_wire(client, "/static/a.js")
        again, sent_again = await on_wire(client, "/static/a.js?v=1")
    assert sent_again < 0.6 * len(SCRIPT)
    assert sent_first < 0.6 * len(SCRIPT)
    assert "content-length" not in first.headers
    assert int(again.headers["content-length"]) == sent_again
    for answer in (first, again):
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["etag"] == first.headers["etag"]
    assert len(StaticGzip.compressed) == 1


async def test_a_changed_script_is_compressed_again(root: Path) -> None:
    async with served(root) as client:
        assert (await client.get("/static/a.js")).content == SCRIPT
        (root / "a.js").write_bytes(SCRIPT[::-1])
        StaticFileHandler.reset()
        assert (await client.get("/static/a.js")).content == SCRIPT[::-1]
    assert len(StaticGzip.compressed) == 2


async def test_a_browser_that_has_the_script_gets_304(root: Path) -> None:
    async with served(root) as client:
        etag = (await client.get("/static/a.js")).headers["etag"]
        answer = await client.get("/static/a.js", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/static/a.js", {"Accept-Encoding": "br"}),
        ("/static/a.png", {}),
        ("/static/a.js", {"Range": f"bytes=0-{len(SCRIPT)}", "Accept-Encoding": "identity"}),
    ],
)
async def test_what_cannot_be_compressed_is_sent_as_it_is(root: Path, path: str, headers: dict[str, str]) -> None:
    async with served(root) as client:
        answer = await client.get(path, headers=headers)
    assert answer.content == SCRIPT
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(SCRIPT)


async def test_a_part_of_a_script_is_not_compressed(root: Path) -> None:
    async with served(root) as client:
        answer = await client.get("/static/a.js", headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, SCRIPT[10:20])


async def test_headers_alone_are_those_of_the_file(root: Path) -> None:
    async with served(root) as client:
        answer = await client.head("/static/a.js")
        assert int(answer.headers["content-length"]) == len(SCRIPT)
        assert (await client.get("/static/a.js")).content == SCRIPT


async def test_an_empty_file_and_a_missing_one(root: Path) -> None:
    async with served(root) as client:
        assert (await client.get("/static/empty.css")).content == b""
        assert (await client.get("/static/missing.js")).status_code == 404


async def test_a_page_that_is_made_for_one_user_is_not_compressed(root: Path) -> None:
    async with served(root) as client:
        assert "content-encoding" not in (await client.get("/page")).headers


async def test_a_download_that_ends_early_is_not_kept(root: Path) -> None:
    (root / "a.js").write_bytes(SCRIPT * 100)  # more than the buffers of the sockets hold
    async with served(root) as client:
        async with client.stream("GET", "/static/a.js") as answer:
            assert answer.headers["content-encoding"] == "gzip"
        assert StaticGzip.compressed == {}
        assert (await client.get("/static/a.js")).content == SCRIPT * 100
