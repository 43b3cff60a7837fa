"""Scans started over the API, at the simulated beamline's own blueapi, with a worker: until the maps are there."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.integration.api.test_api import serving
from tests.support.lab import Lab
from tests.support.patience import PATIENCE, eventually, patiently
from tests.support.rabbitmq import free_port
from tests.support.stack import Program

SMALL = {"shape": "3x4", "rate_hz": 0, "frame_shape": "16x16"}
SLOW = {"shape": "30x30", "rate_hz": 10, "frame_shape": "16x16"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root of all tests: the simulated beamline starts once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory, redis_server: str, root: Path) -> Iterator[str]:
    port, directory = free_port(), tmp_path_factory.mktemp("beamline")
    environment = {
        "SNAKEMAP_REDIS_URL": redis_server, "SNAKEMAP_DATA_ROOT": str(root), "SNAKEMAP_STATE_DIR": str(directory),
    }  # fmt: skip
    with Program(["simulate", "--rest", str(port)], environment=environment, log=directory / "log") as program:
        assert eventually(lambda: "simulated at" in program.log.read_text(), timeout_s=30), program.log.read_text()
        yield f"http://127.0.0.1:{port}"


class Client:
    """What asks the API."""

    def __init__(self, authority: str) -> None:
        self.client = httpx.AsyncClient(base_url=f"http://{authority}/api", trust_env=False, timeout=20 * PATIENCE)

    async def get(self, path: str) -> Any:
        return (await self.client.get(path)).json()

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(path, json=body, headers=told)
        return answer.status_code, answer.json()

    async def until_idle(self) -> None:
        async with patiently(30):
            while (await self.get("/worker"))["state"] != "IDLE":
                await asyncio.sleep(0.05)

    async def run_of(self, task_id: str, *, status: str) -> dict[str, Any]:
        async with patiently(30):
            while True:
                for run in await self.get("/runs"):
                    if run["task_id"] == task_id and run["status"] == status:
                        return run
                await asyncio.sleep(0.05)


@pytest.fixture
async def client(beamline: str, redis_url: str, root: Path) -> AsyncIterator[Client]:
    async with (
        Lab(redis_url, root=root) as lab,
        lab.worker(),
        serving(redis_url, blueapi_url=beamline, origins="ours:1", actions_per_minute=12) as api,
    ):
        client = Client(api.authority)
        await client.until_idle()
        yield client
        await client.client.aclose()


async def test_a_scan_is_launched_run_again_and_pictured(client: Client) -> None:
    status, told = await client.post("/demo", SMALL)
    assert (status, told["plan_name"]) == (202, "simulated_step_scan")
    run = await client.run_of(told["task_id"], status="complete")
    assert run["shape"] == [3, 4]
    await client.until_idle()
    status, again = await client.post(f"/runs/{run['uid']}/again", {"params": {"rows": 5}}, Idempotency_Key="k")
    assert (status, again["params"]["rows"], again["params"]["columns"]) == (202, 5, 4)
    assert (await client.post(f"/runs/{run['uid']}/again", {"params": {"rows": 5}}, Idempotency_Key="k"))[1] == again
    second = await client.run_of(again["task_id"], status="complete")
    assert second["shape"] == [5, 4]
    picture = await client.client.get(f"/runs/{second['uid']}/picture")
    assert Image.open(io.BytesIO(picture.content)).size[1] == 40
    audit = await client.get("/audit")
    assert [(one["what"], one["came"]) for one in audit] == [
        ("start", f"task {again['task_id']}"),
        ("start", f"task {told['task_id']}"),
    ]
    assert audit[0]["of"] == run["uid"]
    assert audit[0]["address"] == "127.0.0.1"


async def test_what_runs_is_told_refuses_another_and_is_aborted(client: Client) -> None:
    status, told = await client.post("/demo", {**SLOW, "mode": "fly"})
    assert status == 202
    worker = await client.get("/worker")
    assert (worker["state"], worker["task_id"], worker["plan_name"]) == (
        "RUNNING", told["task_id"], "simulated_fly_scan",
    )  # fmt: skip
    status, refused = await client.post("/demo", SMALL)
    assert (status, refused["error"]["code"]) == (409, "worker_busy")
    await asyncio.sleep(0.5)
    status, told_of = await client.post("/worker/abort", {"reason": "test"})
    assert (status, told_of) in [(202, {"state": "ABORTING"}), (202, {"state": "IDLE"})]
    await client.run_of(told["task_id"], status="aborted")
    await client.until_idle()
    status, refused = await client.post("/worker/stop")
    assert (status, refused["error"]["code"]) == (409, "transition_refused")
    status, refused = await client.post("/worker/pause")
    assert (status, refused["error"]["code"]) == (403, "read_only")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_pages_of_other_sites_cannot_press(client: Client, headers: dict[str, str]) -> None:
    for path in ("/demo", "/runs/latest/again", "/worker/abort"):
        status, refused = await client.post(path, **headers)
        assert (status, refused["error"]["code"]) == (403, "origin_refused")
    assert await client.get("/audit") == []


async def test_our_own_pages_and_those_that_are_named_can(client: Client) -> None:
    status, _ = await client.post("/worker/abort", Origin="http://ours:1")
    assert status == 409


async def test_bad_requests_are_told(client: Client) -> None:
    async def refused(path: str, body: Any = None) -> tuple[int, str, str]:
        status, told = await client.post(path, body)
        return status, told["error"]["code"], told["error"]["message"]

    assert (await refused("/runs/nix/again"))[:2] == (404, "run_not_found")
    assert (await refused("/demo", {"shape": "3"}))[:2] == (422, "invalid_request")
    assert (await refused("/demo", {"surplus": 1}))[:2] == (422, "invalid_request")
    for told in ({"shape": "9000x1"}, {"frame_shape": "9000x16"}, {"frame_shape": "1x16"}):
        assert (await refused("/demo", {**SMALL, **told}))[:2] == (422, "params_refused")
    plans = {plan["name"]: plan["schema"] for plan in await client.get("/plans")}
    assert plans["simulated_step_scan"]["properties"]["rows"]["maximum"] < 9000
    assert (await client.get("/plans/simulated_fly_scan"))["schema"] == plans["simulated_fly_scan"]
    status, code, words = await refused("/demo", {**SMALL, "shape": "9000x1"})
    assert (status, code) == (422, "params_refused")
    assert words.startswith("rows: 9000 is greater than the maximum")
    status, told = await client.post("/demo", SMALL)
    await client.run_of(told["task_id"], status="complete")
    await client.until_idle()
    status, code, words = await refused("/runs/latest/again", {"params": {"nix": 1}})
    assert (status, code, words) == (422, "params_refused", "nix: the plan has no such parameter")
    status, code, words = await refused("/runs/latest/again", {"instrument_session": "x"})
    assert (status, code) == (422, "params_refused")
    assert words.startswith("instrument_session: 'x' is not")
    picture = await client.client.get("/runs/nix/picture")
    assert picture.status_code == 404


async def test_too_many_requests_are_refused(client: Client) -> None:
    codes = [(await client.post("/worker/abort"))[0] for _ in range(14)]
    assert codes[-1] == 429
    assert 429 not in codes[:6]


async def test_read_only_and_without_blueapi_nothing_is_done(redis_url: str) -> None:
    async with serving(redis_url, read_only=True, blueapi_url="http://127.0.0.1:1") as api:
        client = Client(api.authority)
        for path in ("/demo", "/runs/latest/again", "/worker/abort"):
            status, refused = await client.post(path)
            assert (status, refused["error"]["code"]) == (403, "read_only")
        assert "cannot be reached" in (await client.get("/worker"))["trouble"]
        await client.client.aclose()
    async with serving(redis_url) as api:
        client = Client(api.authority)
        status, refused = await client.post("/demo")
        assert (status, refused["error"]["code"]) == (503, "blueapi_unavailable")
        assert "SNAKEMAP_BLUEAPI_URL" in (await client.get("/worker"))["trouble"]
        await client.client.aclose()
