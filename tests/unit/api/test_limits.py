"""What one client may ask of the API, and what caches and web pages are told."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from tests.support.beamline import Scan
from tests.unit.api.test_app import ApiStore, error_of, put

from snakemap.api import create_app
from snakemap.api.middleware import body_limit, rate_limit
from snakemap.api.middleware.body_limit import BodyLimit
from snakemap.api.middleware.rate_limit import RateLimit
from snakemap.errors import Busy, TooManyClients
from snakemap.settings import load
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionSlots, block_of


def client_of(app: Any, address: str = "10.0.0.7", **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://api", **options)


def application(store: ApiStore | None = None, **settings: Any) -> FastAPI:
    return create_app(load(**settings), cast("Store", store or ApiStore()))


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the body that it gets."""
    body = (await receive())["body"] if scope["type"] == "http" else b""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


async def test_who_asks_too_often_is_told_how_long_to_wait_and_nobody_else_is() -> None:
    now = [100.0]
    app = RateLimit(answering, per_minute=30, clock=lambda: now[0])
    async with client_of(app) as often, client_of(app, "10.0.0.8") as other:
        assert [(await often.get("/")).status_code for _ in range(30)] == [200] * 30
        refused = await often.get("/")
        assert error_of(refused) == (429, "too_often")
        assert refused.headers["retry-after"] == "2"
        assert (await other.get("/")).status_code == 200
        now[0] += 2
        assert [(await often.get("/")).status_code for _ in range(2)] == [200, 429]
        now[0] += 3600
        assert [(await often.get("/")).status_code for _ in range(31)] == [200] * 30 + [429]


async def test_those_who_look_after_us_are_never_told_to_wait() -> None:
    app = application(api_requests_per_minute=1)
    async with client_of(app) as client:
        assert [(await client.get("/api/worker")).status_code for _ in range(2)][1] == 429
        assert {(await client.get("/healthz")).status_code for _ in range(5)} == {200}


async def test_addresses_that_are_counted_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "ADDRESSES_MAX", 3)
    app = RateLimit(answering, per_minute=1)
    for number in range(9):
        async with client_of(app, f"10.0.0.{number}") as client:
            assert (await client.get("/")).status_code == 200
    assert len(app._stocks) == 3


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("", ""),
        ("x" * 500, "x" * 100),
    ],
)
def test_one_machine_is_one_address(address: str, block: str) -> None:
    assert block_of(address) == block


async def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_BYTES_MAX", 100)
    read: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b"x" * 10

    async with client_of(BodyLimit(answering)) as client:
        for content in (b"x" * 101, parts()):
            assert error_of(await client.post("/", content=content)) == (413, "body_too_large")
        assert len(read) < 20
        assert (await client.post("/", content=b"1" * 18)).json() == int("1" * 18)


async def test_a_length_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_BYTES_MAX", 100)
    async with client_of(BodyLimit(answering)) as client:
        for told, status in (("5", 413), ("-5", 413), ("x", 413), ("1" * 5000, 413)):
            answer = await client.post("/", content=b"x" * 200, headers={"Content-Length": told})
            assert answer.status_code == status


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_S", 0.01)
    sent: list[Any] = []

    async def nothing() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"5")]}
    await BodyLimit(answering)(scope, nothing, send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (408, "body_too_slow")


@pytest.mark.parametrize(
    "body",
    [b"{", b'"\xff"', b'"\\ud800"', b"NaN", b"[" * 100_000, b"[" * 300 + b"]" * 300, b'{"a": 1e999}x', b"\0"],
)
@pytest.mark.parametrize("path", ["/api/demo", "/api/runs/latest/again", "/api/sessions", "/api/worker/stop"])
async def test_a_body_that_is_no_usable_json_is_refused(path: str, body: bytes) -> None:
    async with client_of(application()) as client:
        answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (422, "invalid_request")


async def test_numbers_that_nobody_can_keep_do_no_harm() -> None:
    async with client_of(BodyLimit(answering)) as client:
        answer = await client.post("/", content=b'{"a": 123456789012345678901234567890}')
    assert answer.json() == {"a": 1.2345678901234568e29}


def test_places_are_given_back_once() -> None:
    places = ConnectionSlots(most=3, each=2)
    first, _ = places.take("a"), places.take("a")
    with pytest.raises(TooManyClients):
        places.take("a")
    places.take("b")
    with pytest.raises(Busy):
        places.take("c")
    first()
    first()
    assert places.taken == 2
    places.take("c")
    with pytest.raises(Busy):
        places.take("a")


@pytest.fixture
async def many() -> ApiStore:
    store = ApiStore()
    await put(store, Scan("run", start_extra={"shape": [40, 40]}))
    return store


async def test_large_answers_are_packed_and_small_ones_are_not(many: ApiStore) -> None:
    async with client_of(application(many)) as client:
        packed = await client.get("/api/runs/run/maps", headers={"Accept-Encoding": "gzip"})
        plain = await client.get("/api/runs/run/maps", headers={"Accept-Encoding": "identity"})
        assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
        assert packed.json() == plain.json()
        assert int(packed.headers["content-length"]) < len(plain.content) / 5
        small = await client.get("/healthz", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in small.headers
        for answer in (packed, plain, small):
            assert answer.headers["vary"] == "Accept-Encoding"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_was_packed_has_a_weak_tag_and_either_tag_is_known_again(many: ApiStore) -> None:
    async with client_of(application(many)) as client:
        tags = {
            encoding: (await client.get("/api/runs/run/maps", headers={"Accept-Encoding": encoding})).headers["etag"]
            for encoding in ("gzip", "identity")
        }
        cursor = many.entries[-1].cursor
        assert tags == {"gzip": f'W/"{cursor}"', "identity": f'"{cursor}"'}
        for known in (*tags.values(), "*", f'"other", {tags["gzip"]}'):
            for encoding in tags:
                headers = {"If-None-Match": known, "Accept-Encoding": encoding}
                answer = await client.get("/api/runs/run/maps", headers=headers)
                assert (answer.status_code, answer.content) == (304, b"")
                assert answer.headers["vary"] == "Accept-Encoding"
                assert answer.headers["etag"] == f'"{cursor}"'
        for other in ('"1-0"', cursor + "1", ""):
            headers = {"If-None-Match": other}
            assert (await client.get("/api/runs/run/maps", headers=headers)).status_code == 200


async def test_the_list_of_runs_has_a_tag_that_changes_with_it(many: ApiStore) -> None:
    async with client_of(application(many)) as client:
        etag = (await client.get("/api/runs")).headers["etag"]
        assert (await client.get("/api/runs", headers={"If-None-Match": etag})).status_code == 304
        await put(many, Scan("new"))
        answer = await client.get("/api/runs", headers={"If-None-Match": etag})
        assert (answer.status_code, len(answer.json())) == (200, 2)
        assert [run["uid"] for run in (await client.get("/api/runs?count=1")).json()] == ["new"]


async def test_documents_are_packed_line_by_line(many: ApiStore) -> None:
    async with client_of(application(many)) as client:
        request = client.build_request("GET", "/api/runs/run/documents", headers={"Accept-Encoding": "gzip"})
        answer = await client.send(request, stream=True)
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert len(gzip.decompress(raw).splitlines()) == len(many.entries)


@pytest.fixture
def named() -> FastAPI:
    return application(origins="dashboard.beamline:5006,other.beamline")


async def test_pages_that_a_setting_names_may_read_along(named: FastAPI) -> None:
    async with client_of(named) as client:
        for origin in ("http://dashboard.beamline:5006", "https://other.beamline"):
            answer = await client.get("/healthz", headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            assert "ETag" in answer.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in answer.headers
            asking = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "content-type"}
            told = await client.options("/api/sessions/x", headers={"Origin": origin, **asking})
            assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, origin)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://dashboard.beamline:5007", "http://dashboardxbeamline:5006",
     "http://other.beamline.evil.example", "http://evil.example/other.beamline", "file://other.beamline"],
)  # fmt: skip
async def test_pages_that_nobody_names_may_not(named: FastAPI, origin: str) -> None:
    async with client_of(named) as client:
        answer = await client.get("/healthz", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers["vary"]
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        told = await client.options("/api/demo", headers=asking)
        assert error_of(told) == (403, "origin_refused")
        assert not [name for name in told.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["http://[", "http://", "", "://", "http://a b", "x" * 5000])
@pytest.mark.parametrize("path", ["/api/demo", "/api/sessions"])
async def test_an_origin_that_is_none_is_refused(named: FastAPI, path: str, origin: str) -> None:
    async with client_of(named) as client:
        assert error_of(await client.post(path, headers={"Origin": origin})) == (403, "origin_refused")


async def test_the_description_needs_nothing_from_elsewhere() -> None:
    async with client_of(application()) as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        found = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(found) == 3
        for path in found:
            assert path.startswith("/")
            asset = await client.get(path)
            assert (asset.status_code, len(asset.content) > 1000) == (200, True)
        assert re.findall(r"https?://", page.text) == []
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/redoc")).status_code == 404


async def test_a_uid_that_is_too_long_is_refused() -> None:
    async with client_of(application()) as client:
        for path in ("", "/maps", "/documents", "/documents/events", "/picture"):
            assert error_of(await client.get(f"/api/runs/{'x' * 201}{path}")) == (422, "invalid_request")
        assert error_of(await client.get(f"/api/plans/{'x' * 201}")) == (422, "invalid_request")
