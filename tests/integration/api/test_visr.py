"""visr-ui against a running scan: its fetch logic written anew, over the real worker, Redis, files and server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, maps_of_frames, write_frames
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import eventually, free_port
from tests.support.served import Served, serving, until
from tests.support.stack import Program

from snakemap.api.compat import visr

BASE = "/entry/instrument/spectroscopy_detector/"
COLORS = {"red": "RedTotal", "green": "GreenTotal", "blue": "BlueTotal"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root of all tests: the simulated beamline starts once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
async def lab(redis_url: str, root: Path) -> AsyncIterator[Lab]:
    """A worker to which documents come through the store."""
    async with Lab(redis_url, root=root, file_timeout_s=1) as lab, lab.worker():
        yield lab


@pytest.fixture
async def api(redis_url: str, root: Path) -> AsyncIterator[Served]:
    async with serving(redis_url, data_root=root, path_map=f"/data={root}") as api:
        yield api


class Page:
    """What visr-ui's page keeps: whether a run goes on, its file, and three pictures."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.running = False
        self.filepath: str | None = None
        self.said: list[dict[str, Any]] = []
        self.drawn: dict[str, npt.NDArray[np.uint8]] = {}
        self.grids: dict[str, list[list[float | None]]] = {}
        self.seen: set[int] = set()

    def hear(self, data: str) -> None:
        """One message of the event source."""
        message = json.loads(data)
        self.said.append(message)
        if message["status"] == "running":
            self.running, self.filepath = True, message["filepath"]
        elif message["status"] in ("finished", "failed"):
            self.running = False

    async def poll(self) -> None:
        """Three requests at one time; a page that gets an error draws nothing, and asks again."""
        if self.filepath is None:
            return
        answers = await asyncio.gather(*(self._fetch(self.filepath, BASE + name) for name in COLORS.values()))
        if all(answer.is_success for answer in answers):
            for color, answer in zip(COLORS, answers, strict=True):
                self.grids[color] = answer.json()["values"]
                self.drawn[color] = picture_of(self.grids[color], color)
            self.seen.add(sum(value is not None for row in self.grids["red"] for value in row))

    async def follow(self) -> None:
        """Polls while a run goes on, and once more when it has ended; a short run ends before the first poll."""
        await until(lambda: self.said)
        while self.running:
            await self.poll()
            await asyncio.sleep(0.02)
        await self.poll()

    async def _fetch(self, filepath: str, datapath: str) -> httpx.Response:
        return await self._client.get("/api/data/map", params={"filepath": filepath, "datapath": datapath})


def picture_of(values: list[list[float | None]], color: str) -> npt.NDArray[np.uint8]:
    """RGB (rows, columns, 3): from the smallest to the largest value; black where there is none."""
    flat = [value for row in values for value in row]
    valid = [value for value in flat if value is not None]
    low, high = (min(valid), max(valid)) if valid else (0.0, 1.0)
    scale = 255 / (high - low) if high > low else 1.0
    picture = np.zeros((len(values), len(values[0]), 3), np.uint8)
    scaled = [0 if value is None else round((value - low) * scale) for value in flat]
    picture[..., list(COLORS).index(color)] = np.array(scaled).reshape(picture.shape[:2])
    return picture


@asynccontextmanager
async def listening(client: httpx.AsyncClient, page: Page, **headers: str) -> AsyncIterator[list[str]]:
    """An event source: what it hears goes to the page; gives all lines as they come."""
    lines: list[str] = []

    async def listen(answer: httpx.Response) -> None:
        async for line in answer.aiter_lines():
            lines.append(line)
            if line.startswith("data:"):
                page.hear(line.removeprefix("data:").strip())

    async with client.stream("GET", "/api/data/events", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        task = asyncio.create_task(listen(answer))
        try:
            yield lines
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_the_page_draws_a_scan_as_it_grows_and_its_last_picture_is_whole(lab: Lab, api: Served) -> None:
    scan = Scan("run", shape=(4, 5), frames=some_frames(20))
    write_frames(lab.root / "run.h5", scan.frames)
    whole = scan.whole()
    async with api.client() as client, asyncio.TaskGroup() as group:
        page, late = Page(client), Page(client)
        async with listening(client, page):
            group.create_task(page.follow())
            await lab.append(*whole[:3], run="run")
            for points in range(1, 21):
                await lab.append(whole[2 + points], run="run")
                if points % 5 == 0:
                    await until(lambda points=points: points in page.seen)
                if points == 10:
                    async with listening(client, late):
                        await until(lambda: late.running)  # it came in the middle, and was told at once
            await lab.append(whole[-1], run="run")
            await until(lambda: not page.running)
    expected = {"uuid": "run", "filepath": "/data/run.h5"}
    assert late.said == [{**expected, "status": "running"}]
    assert page.said == [{**expected, "status": status} for status in ("running", "finished")]
    assert {5, 10, 15, 20} <= page.seen
    run = await lab.run("run")
    grids = maps_of_frames(run, scan.frames, points=range(1, 21))
    for color, channel in zip(COLORS, grids, strict=False):
        np.testing.assert_array_equal(np.array(page.grids[color]), channel)
        assert {int(page.drawn[color].min()), int(page.drawn[color].max())} == {0, 255}


async def test_a_run_that_fails_is_said_to_have_failed_and_a_page_that_lost_us_hears_it_when_it_comes_back(
    lab: Lab, api: Served
) -> None:
    scan = Scan("run", frames=some_frames(12))
    write_frames(lab.root / "run.h5", scan.frames)
    async with api.client() as client:
        page, back, other = Page(client), Page(client), Page(client)
        async with listening(client, page) as lines:
            await lab.append(*scan.whole()[:8], run="run")
            await until(lambda: page.running)
        assert "id: run" in lines
        await lab.append(scan.stop("abort"), run="run")
        await lab.until_settled("run")
        async with listening(client, back, **{"Last-Event-ID": "run"}):
            await until(lambda: back.said and back.said[-1]["status"] != "running")
        async with listening(client, other):
            next_scan = Scan("next", frames=scan.frames)
            write_frames(lab.root / "next.h5", scan.frames)
            await lab.append(*next_scan.whole()[:8], run="next")
            await until(lambda: other.said)
    assert back.said[-1] == {"uuid": "run", "filepath": "/data/run.h5", "status": "failed"}
    assert [message["uuid"] for message in other.said] == ["next"]  # what had ended is none of its business


async def test_a_map_is_found_by_the_name_of_its_file_there_and_here_and_what_is_not_there_is_said_so(
    lab: Lab, api: Served
) -> None:
    scan = Scan("run", frames=some_frames(12))
    write_frames(lab.root / "run.h5", scan.frames)
    await lab.append(*scan.whole(), run="run")
    await lab.until_settled("run")
    async with api.client() as client:

        async def ask(filepath: object, datapath: str, **headers: str) -> httpx.Response:
            query = {"filepath": str(filepath), "datapath": datapath}
            return await client.get("/api/data/map", params=query, headers=headers)

        there = await ask("/data/run.h5", BASE + "RedTotal")
        assert (await ask(lab.root / "run.h5", BASE + "RedTotal")).json() == there.json()
        for uri in ("file://localhost/data/run.h5", "file:///data/%72un.h5", "file://control-7/data/run.h5"):
            assert (await ask(uri, BASE + "RedTotal")).json() == there.json()
        total = (await ask("/data/run.h5", "/Total")).json()["values"]
        assert sum(map(sum, total)) == scan.frames.sum()
        known = there.headers["etag"]
        again = await ask("/data/run.h5", BASE + "RedTotal", **{"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        for filepath, datapath in [
            ("/data/other.h5", BASE + "RedTotal"),
            ("run.h5", BASE + "RedTotal"),
            ("/data/%72un.h5", BASE + "RedTotal"),
            ("/etc/passwd", BASE + "RedTotal"),
            ("/data/run.h5", BASE + "PinkTotal"),
            ("/data/run.h5", "/entry/data/data"),
        ]:
            answer = await ask(filepath, datapath)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_there")
        assert (await client.get("/api/data/map")).status_code == 422


async def test_a_map_before_its_first_point_is_empty(lab: Lab, api: Served) -> None:
    scan = Scan("run", shape=(2, 3), frames=some_frames(6))
    await lab.append(*scan.opening(), run="run")
    async with api.client() as client:
        query = {"filepath": "/data/run.h5", "datapath": BASE + "RedTotal"}

        async def there() -> bool:
            return (await client.get("/api/data/map", params=query)).status_code == 200

        await until(there)
        assert (await client.get("/api/data/map", params=query)).json() == {"values": [[None] * 3] * 2}


async def test_clients_are_kept_awake_counted_and_let_in_again_when_one_has_gone(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.app.state.service.streams.places, "_most", 1)
    monkeypatch.setattr(visr, "KEEP_ALIVE_S", 0.05)
    async with api.client() as client, api.client() as other:
        async with listening(client, Page(client)) as lines:
            await until(lambda: lines.count(": nothing new") > 1)
            refused = await other.get("/api/data/events")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")

        async def let_in() -> bool:
            async with other.stream("GET", "/api/data/events") as answer:
                return answer.status_code == 200

        await until(let_in)


FORM = {
    "total_number_of_scan_points": 25, "grid_size": 5.0, "grid_origin_x": 0.0, "grid_origin_y": 0.0,
    "exposure_time": 0.1,
}  # fmt: skip
"""What the form sends as it opens."""


class Buttons:
    """The buttons of visr-ui's page: the requests that they send to blueapi, in the same order."""

    def __init__(self, url: str) -> None:
        headers = {"X-Requested-By": "XMLHttpRequest"}
        self._client = httpx.AsyncClient(
            base_url=f"{url}/api/v1", trust_env=False, headers=headers, timeout=30 * PATIENCE
        )

    async def run(self, **params: Any) -> str:
        """Press Run: a task is made, and begun."""
        body = {"name": "demo_spectroscopy", "params": {**FORM, **params}, "instrument_session": "cm12345-1"}
        made = await self._client.post("/tasks", json=body)
        assert made.status_code == 201, made.text
        task_id = made.json()["task_id"]
        begun = await self._client.put("/worker/task", json={"task_id": task_id})
        assert begun.json() == {"task_id": task_id}
        return task_id

    async def abort(self) -> int:
        """Press Abort."""
        body = {"new_state": "ABORTING", "defer": False, "reason": "UI Intervention"}
        return (await self._client.put("/worker/state", json=body)).status_code

    async def task(self, task_id: str) -> dict[str, Any]:
        return (await self._client.get(f"/tasks/{task_id}")).json()

    async def plan(self) -> dict[str, Any]:
        return (await self._client.get("/plans/demo_spectroscopy")).json()

    async def close(self) -> None:
        await self._client.aclose()


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory, redis_server: str, root: Path) -> Iterator[str]:
    """URL of the simulated beamline, which has a process of its own."""
    port, directory = free_port(), tmp_path_factory.mktemp("beamline")
    environment = {
        "SNAKEMAP_REDIS_URL": redis_server, "SNAKEMAP_DATA_ROOT": str(root), "SNAKEMAP_STATE_DIR": str(directory),
    }  # fmt: skip
    with Program(["simulate", "--rest", str(port)], environment=environment, log=directory / "log") as program:
        begun = eventually(lambda: "simulated at" in program.log.read_text(), timeout_s=60)
        assert begun, program.log.read_text()
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def buttons(beamline: str) -> AsyncIterator[Buttons]:
    """They control the simulated beamline."""
    buttons = Buttons(beamline)
    yield buttons
    await buttons.close()


@pytest.mark.parametrize("params", [{}, {"fly": False}, {"fly": True}], ids=["Run", "Step Scan", "Fly Scan"])
async def test_the_run_buttons_scan_the_simulated_beamline_and_the_page_draws_it(
    lab: Lab, api: Served, buttons: Buttons, params: dict[str, Any]
) -> None:
    assert set(FORM) | {"fly", "metadata"} <= (await buttons.plan())["schema"]["properties"].keys()
    async with api.client() as client, asyncio.TaskGroup() as group:
        page = Page(client)
        async with listening(client, page):
            following = group.create_task(page.follow())
            task_id = await buttons.run(**params, total_number_of_scan_points=17, grid_size=1.5, exposure_time=0.02)
            await following
        run = (await client.get("/api/runs/latest")).json()
        maps = (await client.get("/api/runs/latest/maps")).json()
    assert [message["status"] for message in page.said] == ["running", "finished"]
    assert (run["status"], run["plan_name"], run["task_id"]) == ("complete", "spec_scan", task_id)
    assert maps["shape"] == [4, 4]
    assert maps["extents"] == [[-0.25, 1.75], [-0.25, 1.75]]
    assert ", snaked, from " in maps["geometry"]
    for color in COLORS:
        assert page.grids[color] == maps["channels"][color]
        assert all(value is not None for row in page.grids[color] for value in row)
        assert page.drawn[color].max() == 255
    assert (await buttons.task(task_id))["errors"] == []


async def test_the_abort_button_ends_a_scan_and_the_page_says_that_it_failed(
    lab: Lab, api: Served, buttons: Buttons
) -> None:
    async with api.client() as client, asyncio.TaskGroup() as group:
        page = Page(client)
        async with listening(client, page):
            following = group.create_task(page.follow())
            await buttons.run(exposure_time=1.0)
            await until(lambda: max(page.seen, default=0) > 0)
            assert await buttons.abort() == 202
            await following
    assert [message["status"] for message in page.said] == ["running", "failed"]
    assert 0 < max(page.seen) < 25
