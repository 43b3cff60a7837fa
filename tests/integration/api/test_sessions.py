"""Sessions of the API over a real Redis: nobody reads another's, they expire, and they are good for something."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from tests.integration.api.test_api import Api, serving
from tests.support import scans
from tests.support.beamline import Scan
from tests.support.patience import PATIENCE, patiently

from snakemap.api import session_store

TIMEOUT_S = 20.0 * PATIENCE

ROIS = {"spot": [0, 4, 0, 4], "edge": [1, 3, 0, 8], "beyond": [0, 9, 0, 8]}


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with serving(redis_url, origins="ours:1") as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{api.authority}/api", trust_env=False, timeout=TIMEOUT_S) as client:
        yield client


async def begun(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.post("/sessions", json=wanted)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/sessions/{answer.json()['id']}"
    return answer.json()


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def run(api: Api, uid: str, *, points: int = 12) -> None:
    await api.store.append(scans.documents(Scan(uid), points=points))
    await api.store.save_summary(uid, {"uid": uid})


async def test_a_session_is_begun_changed_found_again_and_ended(client: httpx.AsyncClient) -> None:
    first = await begun(client)
    assert first == {
        "id": first["id"], "follow": "latest", "source": "", "rois": {}, "view": {}, "expires_in_s": 86_400,
    }  # fmt: skip
    path = f"/sessions/{first['id']}"
    answer = await client.patch(path, json={"rois": ROIS, "view": {"zoom": [1, 2]}})
    assert answer.json() == {**first, "rois": ROIS, "view": {"zoom": [1, 2]}}
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.patch(path, json={"follow": "run"})).json()["rois"] == ROIS
    assert (await client.get(path)).json()["follow"] == "run"
    assert (await client.delete(path)).status_code == 204
    for method in ("get", "delete"):
        assert error_of(await client.request(method, path)) == (404, "session_not_found")
    assert error_of(await client.patch(path, json={"follow": "x"})) == (404, "session_not_found")


async def test_ids_cannot_be_guessed_and_stand_neither_in_the_store_nor_in_a_log(
    client: httpx.AsyncClient, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("uvicorn.access").info('%s - "%s %s"', "here", "GET", "/api/sessions/told-to-nobody/maps")
    ids = [(await begun(client))["id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(one) == 43 for one in ids)
    for one in ids:
        await client.get(f"/sessions/{one}")
        await client.get(f"/sessions/{one}/maps")
    with redis.Redis.from_url(redis_url) as store:
        known = repr([(key, store.hgetall(key)) for key in store.keys("*session:*")]) + repr(store.keys("*"))
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    for one in (*ids, "told-to-nobody"):
        assert one not in known
        assert one not in ours
    assert "/api/sessions/.../maps" in ours


async def test_a_session_is_forgotten_when_nobody_uses_it_and_kept_by_every_use(
    client: httpx.AsyncClient, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_store, "KEPT_S", 1)
    used, left = (await begun(client))["id"], (await begun(client))["id"]
    with redis.Redis.from_url(redis_url) as store:
        async with patiently(20):
            while len(store.keys("snakemap:session:*")) > 1:
                assert (await client.get(f"/sessions/{used}")).status_code == 200
                await asyncio.sleep(0.1)
    assert error_of(await client.get(f"/sessions/{left}")) == (404, "session_not_found")
    assert (await client.get(f"/sessions/{used}")).status_code == 200


async def test_the_number_of_sessions_is_bounded_for_an_address_and_in_all(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_store, "SESSIONS_EACH", 2)
    first, _ = await begun(client), await begun(client)
    refused = await client.post("/sessions")
    assert error_of(refused) == (429, "too_many_sessions")
    assert refused.headers["retry-after"] == "60"
    others = {"X-Forwarded-For": "10.0.0.9"}
    assert (await client.post("/sessions", headers=others)).status_code == 201
    await client.delete(f"/sessions/{first['id']}")
    assert (await client.post("/sessions")).status_code == 201
    monkeypatch.setattr(session_store, "SESSIONS_MAX", 3)
    assert error_of(await client.post("/sessions", headers=others)) == (503, "busy")


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"rois": {"x": [4, 4, 0, 1]}}, "roi"),
        ({"rois": {"total": [0, 4, 0, 1]}}, "roi"),
        ({"rois": {"x": [0, 4, 0]}}, "invalid_request"),
        ({"rois": {"x": [-1, 4, 0, 1]}}, "invalid_request"),
        ({"rois": {"x": [0, 10**7, 0, 1]}}, "invalid_request"),
        ({"rois": {"": [0, 4, 0, 1]}}, "invalid_request"),
        ({"rois": {"x" * 41: [0, 4, 0, 1]}}, "invalid_request"),
        ({"rois": {str(number): [0, 4, 0, 1] for number in range(33)}}, "invalid_request"),
        ({"follow": "x" * 201}, "invalid_request"),
        ({"view": {"x": "y" * 4096}}, "invalid_request"),
        ({"view": [1]}, "invalid_request"),
        ({"id": "mine"}, "invalid_request"),
        ({"of": "snakemap:documents"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_kept_is_refused(client: httpx.AsyncClient, wanted: dict[str, Any], code: str) -> None:
    assert error_of(await client.post("/sessions", json=wanted)) == (422, code)
    mine = await begun(client)
    assert error_of(await client.patch(f"/sessions/{mine['id']}", json=wanted)) == (422, code)
    assert (await client.get(f"/sessions/{mine['id']}")).json() == mine


@pytest.mark.parametrize("path", ["x", "%00", "..", "*", "%2A", "x" * 101, "%F0%9F%90%8D"])
async def test_what_is_no_id_finds_nothing(client: httpx.AsyncClient, path: str) -> None:
    await begun(client)
    assert (await client.get(f"/sessions/{path}")).status_code in (404, 422)


async def test_pages_of_other_sites_cannot_touch_sessions(client: httpx.AsyncClient) -> None:
    mine = await begun(client)
    path = f"/sessions/{mine['id']}"
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for method, where in (("POST", "/sessions"), ("PATCH", path), ("DELETE", path)):
            assert error_of(await client.request(method, where, headers=headers, json={})) == (403, "origin_refused")
    assert (await client.get(path)).json() == mine
    assert (await client.post("/sessions", headers={"Origin": "http://ours:1"})).status_code == 201


async def test_a_session_shows_the_maps_of_what_it_follows(api: Api, client: httpx.AsyncClient) -> None:
    await run(api, "old", points=3)
    await run(api, "new", points=5)
    path = f"/sessions/{(await begun(client))['id']}"
    for follow, uid in (("latest", "new"), ("old", "old")):
        await client.patch(path, json={"follow": follow})
        answer = await client.get(f"{path}/maps")
        assert answer.json() == (await client.get(f"/runs/{uid}/maps")).json()
        refused = await client.get(f"{path}/maps?roi=1,1,0,1")
        assert error_of(refused)[0] == 422
        known = {"If-None-Match": answer.headers["etag"]}
        assert (await client.get(f"{path}/maps", headers=known)).status_code == 304
    await client.patch(path, json={"follow": "latest"})
    assert (await client.get(f"{path}/maps", headers=known)).status_code == 200
    await client.patch(path, json={"follow": "nobody"})
    assert error_of(await client.get(f"{path}/maps")) == (404, "run_not_found")


async def test_its_rois_are_counted_in_the_newest_preview_frame(api: Api, client: httpx.AsyncClient) -> None:
    await run(api, "run")
    path = f"/sessions/{(await begun(client, rois=ROIS))['id']}"
    assert error_of(await client.get(f"{path}/rois")) == (404, "frame_not_found")
    frame = np.arange(64, dtype=np.uint16).reshape(8, 8)
    about = {"seq_num": 7, "frame_shape": [8, 8], "time": 1.0}
    await api.store.save_frame("run", frame, about=about)
    told = (await client.get(f"{path}/rois")).json()
    assert {name: told[name] for name in ("run", "seq_num", "frame_shape", "block", "exact")} == {
        "run": "run", "seq_num": 7, "frame_shape": [8, 8], "block": 1, "exact": True,
    }  # fmt: skip
    assert told["rois"]["spot"] == {"bounds": [0, 4, 0, 4], "counts": float(frame[:4, :4].sum()), "trouble": ""}
    assert told["rois"]["edge"]["counts"] == float(frame[1:3].sum())
    assert told["rois"]["beyond"]["counts"] is None
    assert "reaches beyond the frame" in told["rois"]["beyond"]["trouble"]
    await client.patch(path, json={"rois": {}})
    assert set((await client.get(f"{path}/rois")).json()["rois"]) == set(scans.ROIS)


async def test_all_that_is_read_at_one_time_is_one_session(client: httpx.AsyncClient) -> None:
    """Forty at once, each with a view of its own, and each finds its own."""
    mine = await asyncio.gather(*(begun(client, view={"number": number}) for number in range(40)))
    found = await asyncio.gather(*(client.get(f"/sessions/{one['id']}") for one in mine))
    assert [answer.json()["view"]["number"] for answer in found] == list(range(40))
    assert len({json.dumps(answer.json()) for answer in found}) == 40


async def test_a_store_that_is_away_is_told_as_such() -> None:
    async with serving("redis://127.0.0.1:1") as api, httpx.AsyncClient(trust_env=False) as client:
        assert error_of(await client.post(f"http://{api.authority}/api/sessions")) == (503, "store_unavailable")
