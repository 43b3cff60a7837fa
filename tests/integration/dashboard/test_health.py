"""Health as those meet it who watch over real processes, while a real Redis and a real broker go and come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from tests.support.beamline import Scan
from tests.support.http_requests import get
from tests.support.lab import Lab, write_frames
from tests.support.own_redis import OwnRedis
from tests.support.patience import eventually, patiently
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ, free_port
from tests.support.stack import Program, Stack

from snakemap.store.store import Store

LOOK_EVERY_S = 0.1
"""Pause between two looks: the processes that start need the machine."""

NOTICED_S = 10.0
"""Within so many seconds an outage is told, and its end; a worker's heartbeat holds for five."""


class Watched:
    """A worker, an API and pages, and what their health routes say."""

    def __init__(self, directory: Path, *, redis_url: str, stomp_url: str) -> None:
        self.api_port = free_port()
        self.stack = Stack(directory, redis_url=redis_url, stomp_url=stomp_url, API_PORT=str(self.api_port))
        environment = self.stack.ingest.environment
        self.api = Program(["api"], environment=environment, log=directory / "api.log")
        self.programs = (self.stack.ingest, self.api, self.stack.pages)

    def start(self) -> None:
        for program in self.programs:
            program.start()

    def get(self, path: str, *, pages: bool = False) -> httpx.Response:
        return get(f"{self._of(pages)}{path}")

    def says(self, ready: bool, part: str = "") -> bool:
        """Whether API and pages both say that data can come through, or that a part of it cannot."""
        return all(self._says(ready, part, pages=pages) for pages in (False, True))

    def until(self, ready: bool, part: str = "", *, timeout_s: float = NOTICED_S) -> None:
        """Returns when both say so."""
        assert eventually(lambda: self.says(ready, part), timeout_s=timeout_s, every_s=LOOK_EVERY_S), self.log

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample; None where there is none."""
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def end(self) -> None:
        for program in self.programs:
            program.end()

    @property
    def log(self) -> str:
        return "\n".join(program.log.read_text()[-2000:] for program in self.programs)

    def _says(self, ready: bool, part: str, *, pages: bool) -> bool:
        try:
            answer = self.get("/readyz", pages=pages)
        except httpx.TransportError:
            return False
        body: dict[str, Any] = answer.json()
        assert answer.status_code == (200 if body["ready"] else 503)
        wrong = [name for name, said in body["checks"].items() if said != "ok"]
        return body["ready"] == ready and wrong == ([part] if part else [])

    def _of(self, pages: bool) -> str:
        return self.stack.url if pages else f"http://127.0.0.1:{self.api_port}"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with OwnRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def way(rabbitmq: RabbitMQ) -> Iterator[Proxy]:
    """The way to the broker: to cut it takes no time, while RabbitMQ needs ten seconds to start again."""
    with Proxy(rabbitmq.stomp_port) as proxy:
        yield proxy


@pytest.fixture
def watched(tmp_path: Path, own_redis: OwnRedis, rabbitmq: RabbitMQ, way: Proxy) -> Iterator[Watched]:
    stomp_url = rabbitmq.stomp_url.replace(str(rabbitmq.stomp_port), str(way.port))
    watched = Watched(tmp_path / "stack", redis_url=own_redis.url, stomp_url=stomp_url)
    watched.start()
    try:
        yield watched
    finally:
        watched.end()


def test_readiness_follows_redis_the_broker_and_the_worker_both_ways(
    watched: Watched, own_redis: OwnRedis, way: Proxy
) -> None:
    watched.until(True, timeout_s=60)
    assert eventually(lambda: watched.metric("snakemap_ready") == 1)
    assert watched.metric("snakemap_broker_connected") == 1

    own_redis.kill()
    watched.until(False, "redis")
    assert watched.get("/healthz").json()["status"] == watched.get("/healthz", pages=True).json()["status"] == "ok"
    assert eventually(lambda: watched.metric("snakemap_redis_up") == 0)
    assert watched.metric("snakemap_worker_up") is None
    own_redis.start()
    watched.until(True)

    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "800000")
        watched.until(False, "redis")
        assert "is full (maxmemory 1 MB reached)" in watched.get("/readyz", pages=True).json()["checks"]["redis"]
        assert eventually(lambda: watched.metric("snakemap_redis_refuses_writes") == 1)
        assert watched.metric("snakemap_redis_up") == watched.metric("snakemap_worker_up") == 1
        client.config_set("maxmemory", "0")
    watched.until(True)
    assert eventually(lambda: watched.metric("snakemap_redis_refuses_writes") == 0)

    way.cut()
    watched.until(False, "broker")
    assert eventually(lambda: watched.metric("snakemap_broker_connected") == 0)
    way.restore()
    watched.until(True)

    watched.stack.ingest.kill()
    watched.until(False, "worker")
    assert eventually(lambda: watched.metric("snakemap_worker_up") == 0)
    assert watched.metric("snakemap_points_total") is None
    watched.stack.ingest.start()
    watched.until(True, timeout_s=30)
    assert eventually(lambda: watched.metric("snakemap_points_total") == 0)


async def test_a_scan_over_a_real_broker_is_counted_and_timed(
    redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    scan = Scan(uri="file://localhost/data/run.h5", frames=np.ones((12, 6, 4), np.uint16))
    write_frames(tmp_path / "run.h5", scan.frames)
    async with Lab(redis_url, stomp_url=rabbitmq.stomp_url, root=tmp_path) as lab, lab.worker():
        lab.publish(*scan.whole(), b"poison")
        await lab.until_settled("run")

        async def counted() -> bool:
            work = (await lab.store.reports())["ingest"]["work"]
            taken = sum(work["store_lag"]["counts"])  # the last message may be on its way for a moment longer
            return work["documents"].get("settled", 0) == 1 and taken > len(scan.whole())

        await lab.until(counted)
        report = (await lab.store.reports())["ingest"]
    work = report["work"]
    assert (work["points"], work["documents"]["stream_datum"], report["errors"]) == (12, 12, {"document": 1})
    assert (work["frames"] >= 12, work["frame_bytes"]) == (True, work["frames"] * 6 * 4 * 2)
    assert sum(work["point_lag"]["counts"]) == 12
    assert sum(work["store_lag"]["counts"]) == len(scan.whole()) + 1
    assert 0 < work["store_lag"]["sum"] < 60
    assert 0 <= work["point_lag"]["sum"] < 60


async def test_parts_that_are_silent_are_forgotten(redis_url: str) -> None:
    store = Store(redis_url)
    await store.report("pages:here:1", {"tabs": 1}, ttl_s=60)
    await store.report("pages:here:2", {"tabs": 2}, ttl_s=0.001)
    await until(lambda: reports_of(store), ["pages:here:1"])
    await store.report("pages:here:1", {"tabs": 1}, ttl_s=60)  # reading writes nothing; the next report cleans up
    assert await store.command("SMEMBERS", "snakemap:parts") == {b"pages:here:1"}
    assert await store.command("NO SUCH", "COMMAND") is None
    await store.close()


async def reports_of(store: Store) -> list[str]:
    return list(await store.reports())


async def until(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Returns when what is seen is what is wanted."""
    async with patiently(10):
        while await look() != wanted:
            await asyncio.sleep(0.01)
