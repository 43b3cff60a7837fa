"""Plans as the API tells them, and the demonstration: what blueapi offers, and clear words where it does not."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.api.test_app import ApiStore, error_of
from tests.unit.api.test_limits import application, client_of

from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.scan_control import ScanControl
from snakemap.store.store import Store

PLANS = [
    {"name": "grid_scan", "description": "A grid.", "schema": {"type": "object", "properties": {"num": {}}}},
    {"name": "count", "description": None, "schema": {}},
]


def over(answer: Any, **settings: str) -> FastAPI:
    """The API over a blueapi that answers so."""
    store = ApiStore()
    app = application(store, **settings)
    blueapi = BlueapiClient("http://blueapi:8000", transport=httpx.MockTransport(answer))
    app.state.service.control = ScanControl(ControlStore(cast("Store", store)), blueapi)
    return app


def blueapi(request: httpx.Request) -> httpx.Response:
    path = request.url.path.removeprefix("/api/v1")
    if path == "/plans":
        return httpx.Response(200, json={"plans": PLANS})
    found = [plan for plan in PLANS if path == f"/plans/{plan['name']}"]
    return httpx.Response(200, json=found[0]) if found else httpx.Response(404, json={"detail": "Item not found"})


async def test_plans_are_told_with_the_schema_of_their_parameters() -> None:
    async with client_of(over(blueapi)) as client:
        told = (await client.get("/api/plans")).json()
        assert [plan["name"] for plan in told] == ["count", "grid_scan"]
        assert told[1] == PLANS[0]
        assert (await client.get("/api/plans/grid_scan")).json() == PLANS[0]
        assert (await client.get("/api/plans/count")).json() == {**PLANS[1], "description": ""}
        assert error_of(await client.get("/api/plans/nix")) == (404, "plan_not_found")
        assert error_of(await client.get("/api/plans/..%2Ftasks")) in [(404, "plan_not_found"), (404, "not_found")]


async def test_the_token_of_a_user_goes_on_to_blueapi() -> None:
    heard: list[str | None] = []

    def asking(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("authorization"))
        return blueapi(request)

    async with client_of(over(asking)) as client:
        await client.get("/api/plans", headers={"Authorization": "Bearer mine"})
        await client.get("/api/plans")
    assert heard == ["Bearer mine", None]


@pytest.mark.parametrize("path", ["/api/plans", "/api/plans/count"])
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (httpx.Response(401, json={"detail": "Not authenticated"}), (403, "blueapi_forbids")),
        (httpx.Response(500, text="oops"), (502, "blueapi_failed")),
        (httpx.Response(200, json=[1]), (502, "blueapi_failed")),
    ],
)
async def test_what_is_wrong_with_blueapi_is_told(path: str, told: httpx.Response, expected: tuple[int, str]) -> None:
    async with client_of(over(lambda _: told)) as client:
        assert error_of(await client.get(path)) == expected


async def test_without_blueapi_there_are_no_plans_and_no_demonstration() -> None:
    async with client_of(application(ApiStore())) as client:
        for path in ("/api/plans", "/api/plans/count"):
            assert error_of(await client.get(path)) == (503, "blueapi_unavailable")
        refused = await client.post("/api/demo")
        assert error_of(refused) == (503, "blueapi_unavailable")
        assert "no simulated beamline; `snakemap demo` starts one" in refused.json()["error"]["message"]


async def test_at_a_real_beamline_there_is_no_demonstration_and_nothing_is_started() -> None:
    asked: list[str] = []

    def asking(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return blueapi(request)

    async with client_of(over(asking)) as client:
        for mode in ("step", "fly"):
            refused = await client.post("/api/demo", json={"mode": mode})
            assert error_of(refused) == (503, "no_simulated_beamline")
            assert f"no plan simulated_{mode}_scan" in refused.json()["error"]["message"]
    assert set(asked) == {"GET"}


@pytest.mark.parametrize(
    "body",
    [
        {"shape": "0x5"}, {"shape": "5"}, {"shape": "5x" + "5" * 30}, {"rate_hz": -1}, {"rate_hz": 1e7},
        {"rate_hz": "fast"}, {"mode": "jump"}, {"frame_shape": "axb"}, {"frame_shape": ""}, {"more": 1}, [], "x",
    ],
)  # fmt: skip
async def test_a_demonstration_that_cannot_be_is_refused(body: Any) -> None:
    async with client_of(over(blueapi)) as client:
        assert error_of(await client.post("/api/demo", json=body)) == (422, "invalid_request")
