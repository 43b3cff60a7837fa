"""Two real workers of one store and one queue: one works, one waits, and no message is lost between them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, WorkerProcess, maps_of_frames, write_frames
from tests.support.own_redis import OwnRedis
from tests.support.rabbitmq import RabbitMQ

from snakemap.core.documents import Document
from snakemap.core.source_status import SourceState
from snakemap.errors import NotTheWorker, StoreUnavailable
from snakemap.ingest import listener
from snakemap.store.readiness import checks
from snakemap.store.store import Store
from snakemap.transport.document_source import Delivery
from snakemap.transport.stomp_source import StompSource

TAKEOVER_S = 60.0
LEASE = "snakemap:lease:ingest"


@pytest.fixture
def lab(redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path) -> Lab:
    return Lab(redis_url, root=tmp_path, stomp_url=rabbitmq.stomp_url)


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    scan = Scan(shape=(10, 10), frames=some_frames(100))
    write_frames(tmp_path / "run.h5", scan.frames)
    return scan


async def assert_whole(lab: Lab, scan: Scan) -> None:
    await lab.until_settled("run")
    run = await lab.run("run")
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 101)))
    assert run.status == "complete"


async def test_a_stopped_worker_that_goes_on_after_another_took_over_does_not_listen_any_more(
    lab: Lab, scan: Scan, rabbitmq: RabbitMQ
) -> None:
    whole = scan.whole()
    async with lab, WorkerProcess(lab) as first:
        second = WorkerProcess(lab)
        await second.start(listening=False)
        try:
            lab.publish(*whole[:40])
            await lab.until_points("run", 10)
            assert (first.connections(rabbitmq.stomp_port), second.connections(rabbitmq.stomp_port)) == (1, 0)
            first.signal(signal.SIGSTOP)
            lab.publish(*whole[40:60])  # the broker gives them to the worker that stands still
            await lab.until(lambda: listens(lab, second), timeout_s=TAKEOVER_S)
            first.signal(signal.SIGCONT)
            await lab.until(lambda: connected(first, rabbitmq, 0), timeout_s=TAKEOVER_S)
            lab.publish(*whole[60:])
            await assert_whole(lab, scan)
            assert (first.connections(rabbitmq.stomp_port), second.connections(rabbitmq.stomp_port)) == (0, 1)
            assert second.end() == 0
            await lab.until(lambda: listens(lab, first), timeout_s=TAKEOVER_S)
            assert first.connections(rabbitmq.stomp_port) == 1
        finally:
            first.signal(signal.SIGCONT)
            second.kill()


async def listens(lab: Lab, worker: WorkerProcess) -> bool:
    report = (await lab.store.reports()).get("ingest", {})
    return report.get("pid") == worker.pid and report.get("broker") == "connected"


async def connected(worker: WorkerProcess, rabbitmq: RabbitMQ, connections: int) -> bool:
    return worker.connections(rabbitmq.stomp_port) == connections


async def answers(store: Store) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def test_a_worker_that_has_lost_its_lease_gives_back_what_it_has_taken(
    lab: Lab, scan: Scan, redis_url: str, rabbitmq: RabbitMQ
) -> None:
    async with lab, WorkerProcess(lab) as worker:
        with redis.Redis.from_url(redis_url) as client:
            client.set(LEASE, "elsewhere:7")
            lab.publish(*scan.whole())
            await lab.until(lambda: connected(worker, rabbitmq, 0))
            assert await lab.store.read() == []
            client.delete(LEASE)
        await assert_whole(lab, scan)
        assert worker.connections(rabbitmq.stomp_port) == 1


async def test_a_redis_that_is_away_for_longer_than_the_lease_costs_nothing(
    scan: Scan, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    whole = scan.whole()
    with OwnRedis(tmp_path / "redis") as server:
        async with Lab(server.url, root=tmp_path, stomp_url=rabbitmq.stomp_url) as lab, WorkerProcess(lab) as worker:
            lab.publish(*whole[:40])
            await lab.until_points("run", 10)
            server.kill()
            lab.publish(*whole[40:60])
            await lab.until(lambda: connected(worker, rabbitmq, 0), timeout_s=TAKEOVER_S)
            lab.publish(*whole[60:])
            await asyncio.to_thread(server.start)
            await lab.until(lambda: answers(lab.store))
            await assert_whole(lab, scan)


async def test_a_redis_that_restarts_without_its_lease_gets_its_own_worker_back(
    scan: Scan, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """The worker that waited knows nothing of the run that is open; the other begins it again."""
    whole = scan.whole()
    with OwnRedis(tmp_path / "redis", options="") as server:
        async with Lab(server.url, root=tmp_path, stomp_url=rabbitmq.stomp_url) as lab, WorkerProcess(lab) as first:
            second = WorkerProcess(lab)
            await second.start(listening=False)
            try:
                lab.publish(*whole[:40])
                await lab.until_points("run", 30)
                server.kill()
                await asyncio.to_thread(server.start)
                await lab.until(lambda: answers(lab.store))
                await lab.until(lambda: listens(lab, first))
                lab.publish(*whole[40:])
                await assert_whole(lab, scan)
                assert second.connections(rabbitmq.stomp_port) == 0
            finally:
                second.kill()


async def test_only_the_holder_of_the_lease_can_append(redis_url: str) -> None:
    one, other, anyone = Store(redis_url, worker="here:1"), Store(redis_url, worker="here:2"), Store(redis_url)
    try:
        await one.append([start_of("before any lease")])
        assert await one.lease("ingest", "here:1", 60)
        await one.append([start_of("its own")])
        with pytest.raises(NotTheWorker, match="another worker"):
            await other.append([start_of("not its own")])
        await anyone.append([start_of("of a recording")])
        found: list[Any] = [entry.run for entry in await one.read()]
        assert found == ["before any lease", "its own", "of a recording"]
    finally:
        for store in (one, other, anyone):
            await store.close()


def start_of(uid: str) -> Document:
    return Document("start", {"uid": uid, "time": 1.0}, run=uid)


async def test_another_program_that_reads_the_queue_is_noticed(
    lab: Lab, scan: Scan, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker shares the messages of a queue out among its consumers, and acknowledged is acknowledged."""
    monkeypatch.setattr(listener, "ORPHAN_S", 0.2)
    queue = lab.environment["stomp_subscription"]
    other, taken = StompSource(rabbitmq.stomp_url, destination=lab.destination, subscription=queue), list[Delivery]()

    async def take() -> None:
        async for frames in other.batches():
            taken.extend(frames)
            other.ack(frames)

    async def told() -> bool:
        said = (await checks(lab.store)).get("broker", "")
        return f"another program may read the queue {queue}," in said

    async def ready() -> bool:
        return await checks(lab.store) == {"redis": "ok", "worker": "ok", "broker": "ok"}

    async with lab, lab.worker():
        lab.publish(*scan.whole())
        await assert_whole(lab, scan)
        assert await ready()
        taking = asyncio.create_task(take())
        try:
            await lab.until(lambda: asyncio.sleep(0, other.status.state is SourceState.CONNECTED))
            lab.publish(*Scan("shared", shape=(10, 10), frames=scan.frames).whole())
            await lab.until(told)
            assert taken
        finally:
            await other.close()
            await taking
        monkeypatch.setattr(listener, "ORPHANS_KEPT_S", 0.0)
        await lab.until(ready)
