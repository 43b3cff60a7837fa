"""What blueapi does when it is asked: a real one and the simulated beamline's own, under the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.blueapi.server import BlueapiServer
from tests.support.patience import eventually, patiently
from tests.support.rabbitmq import free_port
from tests.support.stack import Program

from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.plan_form import fields_of
from snakemap.blueapi.scan_control import Caller, ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.errors import (
    BlueapiFailed,
    BlueapiUnavailable,
    ControlHeld,
    ParamsRefused,
    PlanNotFound,
    ReadOnly,
    SnakemapError,
    TooOften,
    TransitionRefused,
    WorkerBusy,
)
from snakemap.store.store import Store

SESSION = "cm12345-1"
TAB = Caller("t1", "tab t1", "10.0.0.1")


@dataclass
class Server:
    """A server, and scans that it knows."""

    url: str
    plan: str
    quick: dict[str, Any]
    slow: dict[str, Any]
    wrong: dict[str, Any]
    wrong_field: str


@pytest.fixture(scope="module", params=["blueapi", "simulated"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: str
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "blueapi":
        real = BlueapiServer(directory, data=directory).start()
        devices = {"camera": "camera", "x": "stage.x", "y": "stage.y"}
        quick = {**devices, "rows": 1, "columns": 2, "x_stop": 0.001, "exposure": 0.001}
        slow = {**devices, "rows": 30, "columns": 30, "exposure": 0.1}
        yield Server(real.url, "grid", quick, slow, {**quick, "y": "nix"}, "y")
        real.kill()
    else:
        port = free_port()
        environment = {
            "SNAKEMAP_REDIS_URL": redis_server, "SNAKEMAP_DATA_ROOT": str(directory / "data"),
            "SNAKEMAP_STATE_DIR": str(directory),
        }  # fmt: skip
        program = Program(["simulate", "--rest", str(port)], environment=environment, log=directory / "log")
        small = {"rows": 2, "columns": 2, "rate_hz": 0, "frame_shape": [32, 32]}
        slow = {"rows": 30, "columns": 30, "rate_hz": 10, "frame_shape": [32, 32]}
        with program:
            url = f"http://127.0.0.1:{port}"
            assert eventually(lambda: "simulated at" in (directory / "log").read_text(), timeout_s=30)
            yield Server(url, "simulated_step_scan", small, slow, {**small, "rows": 0}, "rows")


async def until_idle(blueapi: BlueapiClient, *, timeout_s: float = 40) -> None:
    async with patiently(timeout_s):
        while True:
            try:
                if await blueapi.state() == "IDLE":
                    return
            except BlueapiUnavailable:
                pass
            await asyncio.sleep(0.05)


@pytest.fixture
async def blueapi(server: Server) -> AsyncIterator[BlueapiClient]:
    """The server at rest, before and after."""
    blueapi = BlueapiClient(server.url)
    await until_idle(blueapi)
    yield blueapi
    try:
        if await blueapi.state() == "RUNNING":
            with suppress(TransitionRefused):  # it has ended since
                await blueapi.change("ABORTING")
        await until_idle(blueapi)
    finally:
        await blueapi.close()


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[ControlStore]:
    store = Store(redis_url)
    yield ControlStore(store)
    await store.close()


@pytest.fixture
def control(desk: ControlStore, blueapi: BlueapiClient) -> ScanControl:
    return ScanControl(desk, blueapi, exclusive=False)


async def start(control: ScanControl, server: Server, params: dict[str, Any] | None = None, **more: Any) -> str:
    told = {"instrument_session": SESSION, "caller": TAB, **more}
    return await control.start(server.plan, params or server.quick, **told)


async def test_a_plan_tells_its_parameters(blueapi: BlueapiClient, server: Server) -> None:
    plan = await blueapi.plan(server.plan)
    assert plan in await blueapi.plans()
    fields = {field.name: field for field in fields_of(plan.schema, server.quick)}
    assert fields["rows"].kind == fields["columns"].kind == "integer"
    assert fields["rows"].value == server.quick["rows"]
    assert fields["x_stop"].kind == "number"
    with pytest.raises(PlanNotFound, match="no plan 'nix'"):
        await blueapi.plan("nix")


async def test_a_task_is_taken_in_begun_and_done(blueapi: BlueapiClient, server: Server) -> None:
    task_id = await blueapi.submit(server.plan, server.quick, instrument_session=SESSION)
    told = await blueapi.task(task_id)
    assert (told.name, told.params, told.instrument_session) == (server.plan, server.quick, SESSION)
    assert not told.complete
    await blueapi.begin(task_id)
    assert await blueapi.active_task() == task_id
    await until_idle(blueapi)
    told = await blueapi.task(task_id)
    assert told.complete
    assert told.errors == ()
    with pytest.raises(PlanNotFound, match="the task is done"):
        await blueapi.begin(task_id)


async def test_what_cannot_be_is_refused_as_what_it_is(blueapi: BlueapiClient, server: Server) -> None:
    with pytest.raises(ParamsRefused) as refused:
        await blueapi.submit(server.plan, server.wrong, instrument_session=SESSION)
    assert list(refused.value.faults) == [server.wrong_field]
    with pytest.raises(ParamsRefused) as refused:
        await blueapi.submit(server.plan, {**server.quick, "surplus": 1}, instrument_session=SESSION)
    assert "surplus" in refused.value.faults
    with pytest.raises(PlanNotFound, match="no plan"):
        await blueapi.submit("nix", {}, instrument_session=SESSION)
    with pytest.raises(PlanNotFound):
        await blueapi.task("nix")
    with pytest.raises(PlanNotFound):
        await blueapi.begin("nix")
    with pytest.raises(TransitionRefused, match="Cannot transition from IDLE to ABORTING"):
        await blueapi.change("ABORTING")


async def test_one_at_a_time_and_it_can_be_ended(blueapi: BlueapiClient, server: Server) -> None:
    first = await blueapi.submit(server.plan, server.slow, instrument_session=SESSION)
    second = await blueapi.submit(server.plan, server.quick, instrument_session=SESSION)
    await blueapi.begin(first)
    assert await blueapi.state() == "RUNNING"
    with pytest.raises(WorkerBusy, match="Worker already active"):
        await blueapi.begin(second)
    await asyncio.sleep(0.5)
    assert await blueapi.change("ABORTING", reason="test") in ("ABORTING", "IDLE")
    await until_idle(blueapi)
    told = await blueapi.task(first)
    assert told.complete
    assert told.errors
    await blueapi.drop(second)
    with pytest.raises(PlanNotFound):
        await blueapi.task(second)


async def test_a_stop_ends_early_too(blueapi: BlueapiClient, server: Server) -> None:
    task_id = await blueapi.submit(server.plan, server.slow, instrument_session=SESSION)
    await blueapi.begin(task_id)
    await asyncio.sleep(0.5)
    await blueapi.change("STOPPING")
    await until_idle(blueapi)
    assert (await blueapi.task(task_id)).complete


async def test_two_clicks_two_tabs_and_a_retry_make_one_task(
    control: ScanControl, server: Server, desk: ControlStore
) -> None:
    clicks = [start(control, server, server.slow, key="one") for _ in range(2)]
    done = await asyncio.gather(*clicks, return_exceptions=True)
    (task_id,) = {one for one in done if isinstance(one, str)}
    assert await start(control, server, key="one") == task_id
    with pytest.raises(WorkerBusy, match="running"):
        await start(control, server, key="two")
    with pytest.raises(WorkerBusy):
        await start(control, server)
    assert (await desk.task(task_id) or {})["params"] == server.slow
    log = await desk.audit()
    assert [one["what"] for one in log] == ["start"] * 3
    assert log[-1]["came"] == f"task {task_id}"
    assert log[0]["came"].startswith("refused: blueapi is running")
    assert (log[0]["who"], log[0]["address"], log[0]["plan"]) == ("tab t1", "10.0.0.1", server.plan)


async def test_two_tabs_at_one_time_start_one_scan(control: ScanControl, server: Server) -> None:
    presses = [start(control, server, server.slow, key=f"tab {number}") for number in range(4)]
    done = await asyncio.gather(*presses, return_exceptions=True)
    assert len([one for one in done if isinstance(one, str)]) == 1
    assert all(isinstance(one, (str, WorkerBusy)) for one in done)


async def test_bad_parameters_are_told_by_field_and_may_be_mended(control: ScanControl, server: Server) -> None:
    with pytest.raises(ParamsRefused) as refused:
        await start(control, server, server.wrong, key="k")
    assert list(refused.value.faults) == [server.wrong_field]
    with pytest.raises(ParamsRefused) as refused:
        await start(control, server, instrument_session="nonsense", key="k")
    assert list(refused.value.faults) == ["instrument_session"]
    assert await start(control, server, key="k")


async def test_a_run_is_known_by_its_task_or_by_what_was_kept(
    control: ScanControl, server: Server, blueapi: BlueapiClient, desk: ControlStore
) -> None:
    task_id = await start(control, server)
    run = {"plan_name": "other", "blueapi_task_id": task_id}
    known = await control.plan_call(run)
    assert (known.name, known.params, known.source) == (server.plan, server.quick, "blueapi's task")
    await until_idle(blueapi)
    await desk.keep_task("before", {"name": server.plan, "params": {"rows": 7}, "instrument_session": SESSION})
    known = await control.plan_call({"plan_name": "other", "blueapi_task_id": "before"})
    assert (known.params, known.source) == ({"rows": 7}, "the record of its start")
    known = await control.plan_call({"plan_name": server.plan, "plan_args": {"rows": 3}, "blueapi_task_id": "never"})
    assert (known.params, known.source) == ({"rows": 3}, "the run's own documents")


async def test_who_may_not_does_not(desk: ControlStore, blueapi: BlueapiClient, server: Server) -> None:
    async def refused(control: ScanControl, kind: type[SnakemapError], caller: Caller = TAB) -> str:
        with pytest.raises(kind) as caught:
            await start(control, server, caller=caller)
        return str(caught.value)

    await refused(ScanControl(desk, blueapi, read_only=True), ReadOnly)
    held = ScanControl(desk, blueapi)
    assert "take control first" in await refused(held, ControlHeld)
    assert await desk.take("t2", key="k2", name="tab t2", address="10.0.0.2")
    assert "tab t2 at 10.0.0.2 has control" in await refused(held, ControlHeld)
    await refused(held, ControlHeld, Caller("", "API", "10.0.0.3"))
    with pytest.raises(ReadOnly, match="pausing is off"):
        await held.change("pause", reason="", caller=TAB)
    limited = ScanControl(desk, blueapi, exclusive=False, per_minute=2)
    other = Caller("", "API", "10.9.9.9")
    for _ in range(2):
        with pytest.raises(TransitionRefused):
            await limited.change("abort", reason="", caller=other)
    with pytest.raises(TooOften):
        await limited.change("abort", reason="", caller=other)


async def test_the_watch_tells_state_task_and_trouble(control: ScanControl, server: Server, desk: ControlStore) -> None:
    watch = StatusPoller(control)
    await watch.poll()
    assert watch.worker.idle
    task_id = await start(control, server, server.slow)
    await watch.poll()
    assert watch.worker.state == "RUNNING"
    assert watch.worker.task is not None
    assert (watch.worker.task.task_id, watch.worker.task.name) == (task_id, server.plan)
    assert watch.audit[0]["came"] == f"task {task_id}"
    away = StatusPoller(ScanControl(desk, BlueapiClient(f"http://127.0.0.1:{free_port()}")))
    await away.poll()
    assert "cannot be reached" in away.worker.trouble
    assert not away.worker.idle


async def test_pausing_is_honest_about_what_blueapi_makes_of_it(
    control: ScanControl, server: Server, desk: ControlStore
) -> None:
    """blueapi 1.21 pauses, and can then neither resume nor end the scan; the simulated beamline does not pause."""
    pausing = ScanControl(desk, control.blueapi, exclusive=False, pausing=True)
    await start(control, server, server.slow)
    if server.plan != "grid":
        with pytest.raises(TransitionRefused, match="Cannot transition from RUNNING to PAUSED"):
            await pausing.change("pause", reason="", caller=TAB)
        return
    await pausing.change("pause", reason="", caller=TAB)
    assert await pausing.blueapi.state() in ("PAUSING", "PAUSED")
    async with patiently(20):
        while await pausing.blueapi.state() == "PAUSING":
            await asyncio.sleep(0.05)
    with pytest.raises(
        BlueapiFailed, match=r"answered with 500; .*loses it: check its worker, then run the scan again"
    ):
        await pausing.change("resume", reason="", caller=TAB)
    log = await desk.audit()
    assert [one["what"] for one in log] == ["resume", "pause", "start"]
    assert log[0]["came"].startswith("refused: blueapi at 127.0.0.1")
    await until_idle(pausing.blueapi)
