"""A Redis that can be read and stores nothing new: full, a replica, unable to save, or without its replicas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from tests.integration.api.test_api import serving
from tests.integration.dashboard.test_scan_control import Page, Server
from tests.support import scans
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, maps_of_frames, write_frames
from tests.support.own_redis import OwnRedis
from tests.support.patience import patiently
from tests.support.rabbitmq import RabbitMQ

from snakemap.blueapi import control_store
from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.control_store import ControlStore
from snakemap.blueapi.scan_control import Caller, ScanControl
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.core.documents import Document
from snakemap.dashboard.panes.status_text import lights
from snakemap.errors import ControlHeld, StoreRefuses, StoreRewound
from snakemap.live.run_follower import RunFollower
from snakemap.store.keys import STREAM
from snakemap.store.readiness import checks
from snakemap.store.redis_info import read_redis_info
from snakemap.store.store import Store, StreamPosition

NOBODY = ("127.0.0.1", "1")


class Fault:
    """A way in which Redis refuses what is new.

    Args:
        word: the code word of its answer.
        says: part of the sentence for people.
        light: name of the light.
    """

    def __init__(self, word: str, says: str, light: str) -> None:
        self.word, self.says, self.light = word, says, light

    def begin(self, client: redis.Redis) -> None:
        """Brings it about."""
        if self.word == "OOM":
            client.config_set("maxmemory", str(800_000))  # less than an empty Redis takes
        elif self.word == "READONLY":
            client.replicaof(*NOBODY)
        elif self.word == "NOREPLICAS":
            client.config_set("min-replicas-to-write", "1")
        else:
            client.config_set("save", "3600 1")
            self._in_the_way(client).mkdir()  # file permissions would not stop the root user
            client.bgsave()
            self._until_saved(client, "err")

    def end(self, client: redis.Redis) -> None:
        """Mends it."""
        if self.word == "OOM":
            client.config_set("maxmemory", "0")
        elif self.word == "READONLY":
            client.replicaof("NO", "ONE")
        elif self.word == "NOREPLICAS":
            client.config_set("min-replicas-to-write", "0")
        else:
            self._in_the_way(client).rmdir()
            client.bgsave()
            self._until_saved(client, "ok")

    @staticmethod
    def _in_the_way(client: redis.Redis) -> Path:
        """A directory where Redis puts its snapshot."""
        return Path(str(client.config_get("dir")["dir"]), str(client.config_get("dbfilename")["dbfilename"]))

    @staticmethod
    def _until_saved(client: redis.Redis, status: str) -> None:
        deadline = time.monotonic() + 60
        while client.info("persistence")["rdb_last_bgsave_status"] != status:
            assert time.monotonic() < deadline, "Redis has not tried to save"
            time.sleep(0.02)


FAULTS = [
    Fault(
        "OOM", "is full (maxmemory 1 MB reached): new documents wait in the broker; raise its maxmemory", "Redis full"
    ),
    Fault("READONLY", "is a read-only replica: nothing new can be stored", "Redis read-only"),
    Fault("MISCONF", "cannot save to its disk and refuses writes (MISCONF)", "Redis cannot save"),
    Fault("NOREPLICAS", "has fewer replicas than its min-replicas-to-write", "Redis lacks replicas"),
]
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.word)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with OwnRedis(tmp_path / "redis", options="") as server:
        yield server


@pytest.fixture
def client(server: OwnRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(server: OwnRedis) -> AsyncIterator[Store]:
    store = Store(server.url)
    yield store
    await store.close()


@pytest.fixture
async def live(server: OwnRedis) -> AsyncIterator[RunFollower]:
    """What a process of pages follows, with a tab."""
    live = RunFollower(Store(server.url))
    live.watch("test", lambda: None)
    live.start()
    yield live
    await live.close()
    await live.store.close()


async def until(condition: Callable[[], Awaitable[object]], *, timeout_s: float = 10.0) -> None:
    async with patiently(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def becomes(condition: Callable[[], object]) -> None:
    async def so() -> object:
        return condition()

    await until(so)


def shown(live: RunFollower) -> dict[str, str]:
    """The lights but the first, which is the run's: their levels, by name."""
    return {light["name"]: light["level"] for light in lights(live, None, now=0.0)[1:]}


@every_fault
async def test_what_is_stored_is_read_and_what_is_new_is_refused_with_a_reason(
    store: Store, client: redis.Redis, fault: Fault
) -> None:
    await store.append(scans.documents(Scan("run"), points=3))
    await store.save_summary("run", {"uid": "run", "status": "running"})
    await store.report("old", {}, ttl_s=0.01)
    newest = await store.latest()
    fault.begin(client)
    with pytest.raises(StoreRefuses) as told:
        await store.append(scans.documents(Scan("other"), points=1))
    assert (told.value.word, told.value.status, fault.says.partition(" (max")[0] in str(told.value)) == (
        (fault.word, 503, True)
    )
    with pytest.raises(StoreRefuses):
        await store.save_summary("other", {"uid": "other"})
    assert [summary["uid"] for summary in await store.summaries()] == ["run"]
    assert (await store.latest(), await store.owners() != {}) == (newest, True)

    async def silent() -> bool:
        return await store.reports() == {}

    await until(silent)
    async with aclosing(store.follow(StreamPosition("0"), block_ms=50)) as batches:
        assert [entry.cursor for entry in await anext(batches)][-1] == newest
    told_by_redis = (await read_redis_info(store)).condition
    assert (told_by_redis.word, fault.says in told_by_redis.refuses) == (fault.word, True)
    answer = await checks(store)
    assert (list(answer), fault.says in answer["redis"]) == (["redis"], True)
    fault.end(client)
    assert (await read_redis_info(store)).condition.word == ""
    assert len(await store.append(scans.documents(Scan("other"), points=1))) == 5
    assert (await checks(store))["redis"] == "ok"


async def test_a_full_redis_takes_the_lease_and_the_reports(store: Store, client: redis.Redis) -> None:
    FAULTS[0].begin(client)
    assert await store.lease("ingest", "here:1", 60)
    assert not await store.lease("ingest", "here:2", 60)
    await store.report("ingest", {"refused": "OOM"}, ttl_s=60)
    assert await store.reports() == {"ingest": {"refused": "OOM"}}
    assert list(await checks(store)) == ["redis", "worker"]
    with pytest.raises(StoreRefuses):
        await store.append(scans.documents(Scan("run"), points=1))
    assert await store.latest() == "0-0"
    await store.release("ingest", "here:1")
    assert await store.lease("ingest", "here:2", 60)


async def test_the_worker_says_that_documents_are_refused_by_a_redis_with_some_room(store: Store) -> None:
    await store.report("ingest", {"refused": "OOM"}, ttl_s=60)
    assert (await checks(store))["redis"].startswith("Redis is full: new documents wait")
    await store.report("ingest", {"refused": "NOPERM"}, ttl_s=60)
    assert (await checks(store))["redis"] == "ok"


@every_fault
async def test_a_scan_goes_on_after_the_fault_with_every_point(
    server: OwnRedis,
    client: redis.Redis,
    rabbitmq: RabbitMQ,
    live: RunFollower,
    tmp_path: Path,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is acknowledged that is not stored; lights and readiness say why; then all that waited comes in."""
    scan = Scan("run", uri="file://localhost/data/run.h5", shape=(10, 10), frames=some_frames(100))
    write_frames(tmp_path / "run.h5", scan.frames)
    async with Lab(server.url, stomp_url=rabbitmq.stomp_url, root=tmp_path) as lab, lab.worker():
        lab.publish(*scan.whole()[:60])
        await lab.until_points("run", 57)
        await becomes(lambda: shown(live).get("Redis") == "good")
        fault.begin(client)
        before = await lab.store.latest()
        lab.publish(*scan.whole()[60:])
        await becomes(lambda: shown(live).get(fault.light) == "bad")
        answer = await checks(lab.store)
        assert "nothing new" in answer["redis"] or "new documents wait" in answer["redis"]
        if fault.word == "OOM":

            async def held() -> bool:
                return (await lab.store.reports())["ingest"]["held"] > 0

            await until(held)
            assert (await lab.store.reports())["ingest"]["refused"] == "OOM"
        assert await lab.store.latest() == before
        assert live.runs["run"].points == 57
        fault.end(client)
        await lab.until_settled("run")
        run = await lab.run("run")
        np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 101)))
        await becomes(lambda: shown(live).get("Redis") == "good")
        await becomes(lambda: live.runs["run"].points == 100)
        assert (await checks(lab.store)) == {"redis": "ok", "worker": "ok", "broker": "ok"}
    refusals = [record for record in caplog.records if "no writes to Redis" in record.getMessage()]
    assert len(refusals) == 1
    # a Redis that becomes a replica ends what blocks, once; the other faults are no absence at all
    absences = [record for record in caplog.records if "waiting for the store" in record.getMessage()]
    assert len(absences) <= (fault.word == "READONLY")


async def test_a_worker_that_may_keep_fewer_runs_makes_room_in_a_full_redis(
    server: OwnRedis, client: redis.Redis, tmp_path: Path
) -> None:
    store = Store(server.url)
    for uid in ("old", "new"):
        pads = [Document("event", {"uid": f"{uid}{n}", "pad": "x" * 1000}, run=uid) for n in range(900)]
        await store.append([*scans.documents(Scan(uid), points=1), *pads])
        await store.save_summary(
            uid, {"uid": uid, "status": "complete", "settled": True, "cursor": await store.latest()}
        )
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 300_000)
    with pytest.raises(StoreRefuses):
        await store.append(scans.documents(Scan("next"), points=1))
    async with Lab(server.url, root=tmp_path, documents_max=1000) as lab, lab.worker():

        async def taken() -> bool:
            try:
                return bool(await store.append(scans.documents(Scan("next"), points=1)))
            except StoreRefuses:
                return False

        await until(taken)
    assert "old" not in [summary["uid"] for summary in await store.summaries()]
    await store.close()


async def test_the_api_answers_reading_and_refuses_writing_with_the_reason(
    server: OwnRedis, client: redis.Redis
) -> None:
    fault = FAULTS[1]
    async with serving(server.url, blueapi_url="http://127.0.0.1:1", pausing=True) as api:
        await api.store.append(scans.documents(Scan("run"), points=3))
        await api.store.save_summary("run", {"uid": "run"})
        async with httpx.AsyncClient(base_url=f"http://{api.authority}", trust_env=False, timeout=60) as http:
            session = (await http.post("/api/sessions", json={})).json()["id"]
            fault.begin(client)
            for path in ("/api/runs/run/maps", "/api/runs/run/documents", f"/api/sessions/{session}"):
                assert (await http.get(path)).status_code == 200, path
            asked: list[httpx.Response] = [
                await http.post("/api/sessions", json={}),
                await http.patch(f"/api/sessions/{session}", json={"view": {"zoom": 1}}),
                await http.post("/api/worker/resume"),
            ]
            stopping = await http.post("/api/worker/stop")
            ready = await http.get("/readyz")
            metrics = (await http.get("/metrics")).text
    told = [(answer.status_code, answer.json()["error"]["code"]) for answer in asked]
    assert told == 3 * [(503, "store_refuses")]
    assert all(fault.says in answer.json()["error"]["message"] for answer in asked)
    # it gets as far as blueapi, which is away
    assert (stopping.status_code, stopping.json()["error"]["code"]) == (503, "blueapi_unavailable")
    assert (ready.status_code, fault.says in ready.json()["error"]["message"]) == (503, True)
    assert "snakemap_redis_refuses_writes 1.0" in metrics


# what can be done at the beamline meanwhile

HOLDER, OTHER = Caller("a", "tab a", "10.0.0.1"), Caller("b", "tab b", "10.0.0.2")
PROGRAM = Caller("", "API", "10.0.0.3")


def control_of(store: Store, blueapi: Server, **settings: Any) -> ScanControl:
    return ScanControl(
        ControlStore(store), BlueapiClient("http://blueapi", transport=httpx.MockTransport(blueapi)), **settings
    )


async def taken(control: ScanControl, caller: Caller) -> bool:
    return await control.control_store.take(
        caller.tab, key=f"key of {caller.tab}", name=caller.name, address=caller.address
    )


@every_fault
async def test_what_runs_is_stopped_while_redis_refuses_and_the_audit_log_has_it_later(
    store: Store, client: redis.Redis, fault: Fault, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueapi = Server()
    control = control_of(store, blueapi, pausing=True)
    monkeypatch.setattr(control_store, "GONE_S", 600.0)
    assert await taken(control, HOLDER)
    fault.begin(client)
    blueapi.state = "RUNNING"
    with pytest.raises(StoreRefuses):
        await control.start("grid", {"rows": 1}, instrument_session="cm12345-1", caller=HOLDER)
    with pytest.raises(StoreRefuses):
        await control.change("resume", reason="", caller=HOLDER)
    for caller in (OTHER, PROGRAM):
        with pytest.raises(ControlHeld, match=r"tab a at .* has control"):
            await control.change("abort", reason="not mine", caller=caller)
    assert (blueapi.state, blueapi.tasks) == ("RUNNING", [])
    caplog.clear()
    assert await control.change("abort", reason="wrong sample", caller=HOLDER) == "ABORTING"
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["abort by tab a from 10.0.0.1" in words and "wrong sample" in words for words in told] == [True]
    # its signs of life cannot be stored: after a while it counts as gone, and whoever would be given control may stop
    monkeypatch.setattr(control_store, "GONE_S", 0.0)
    for caller in (OTHER, PROGRAM):
        blueapi.state = "RUNNING"
        assert await control.change("stop", reason="", caller=caller) == "STOPPING"
    assert await control.control_store.audit() == []
    fault.end(client)
    entries = await control.control_store.audit()
    assert [(one["what"], one["who"], one["came"]) for one in reversed(entries)] == [
        ("abort", "tab b", "refused: tab a at 10.0.0.1 has control; request it first"),
        ("abort", "API", "refused: tab a at 10.0.0.1 has control"),
        ("abort", "tab a", "blueapi is aborting"),
        ("stop", "tab b", "blueapi is stopping"),
        ("stop", "API", "blueapi is stopping"),
    ]
    assert len(await control.control_store.audit()) == 5


async def test_an_action_that_was_done_is_no_failure_when_redis_refuses_what_came_of_it(
    store: Store, client: redis.Redis
) -> None:
    """Redis fills up while blueapi is at it."""
    blueapi = Server()

    class Filling(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            FAULTS[0].begin(client)
            return blueapi(request)

    control = control_of(store, Filling(), exclusive=False)
    blueapi.state = "RUNNING"
    assert await control.change("stop", reason="", caller=PROGRAM) == "STOPPING"
    assert [one["came"] for one in await control.control_store.audit()] == [""]
    FAULTS[0].end(client)
    assert [one["came"] for one in await control.control_store.audit()] == ["blueapi is stopping"]


@pytest.mark.parametrize("holder", ["nobody", "itself"])
async def test_a_page_stops_a_scan_while_redis_is_full(store: Store, client: redis.Redis, holder: str) -> None:
    """The scan began after Redis was full, so that nothing could be kept of it."""
    blueapi = Server()
    control = control_of(store, blueapi)
    page = Page(StatusPoller(control), "a")
    if holder == "itself":
        assert await taken(control, HOLDER)
    FAULTS[0].begin(client)
    blueapi.state = "RUNNING"
    blueapi.tasks.append({"params": {}})
    await page.look()
    assert page.controls["buttons"]["abort"] == {"shown": True, "why": ""}
    page.press("new")
    page.press("abort", reason="enough")
    await page.until(lambda: blueapi.state == "IDLE")
    assert page.forms == []
    page.steering.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_may_evict_is_warned_of(
    server: OwnRedis, store: Store, live: RunFollower, client: redis.Redis, policy: str
) -> None:
    client.config_set("maxmemory", "1gb")
    client.config_set("maxmemory-policy", policy)
    await becomes(lambda: shown(live).get("Redis evicts") == "warn")
    assert (await checks(store))["redis"] == "ok"
    doctor = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "snakemap", "doctor"],
        env={"SNAKEMAP_REDIS_URL": server.url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"its policy is {policy}" in doctor.stdout, doctor.stdout + doctor.stderr


async def test_documents_that_were_evicted_while_others_come_in_are_noticed(store: Store, client: redis.Redis) -> None:
    """The stream alone has gone: its next entries are of another life, however soon they come."""
    await store.append(scans.documents(Scan("run"), points=3))
    async with aclosing(store.follow(StreamPosition("0"), block_ms=50)) as batches:
        assert await anext(batches)
        client.delete(STREAM)
        await store.append(scans.documents(Scan("other"), points=1))
        with pytest.raises(StoreRewound):
            await anext(batches)
