"""The real worker, with a real Redis, a real RabbitMQ and real files, and what may happen to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import redis
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, WorkerProcess, maps_of_frames, write_frames
from tests.support.rabbitmq import RabbitMQ

from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import StoreUnavailable
from snakemap.runs import Run
from snakemap.simulator.beamline import Beamline, ScanRequest
from snakemap.store import Store


def scan_of(**changes: Any) -> Scan:
    return Scan(**{"shape": (10, 10), "frames": some_frames(100), **changes})


def assert_maps(run: Run, frames: npt.NDArray[Any], *, points: int) -> None:
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, frames, points=range(1, points + 1)))


@pytest.fixture
def lab(redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path) -> Lab:
    return Lab(redis_url, root=tmp_path, stomp_url=rabbitmq.stomp_url)


# accidents in mid-run


async def test_a_worker_killed_and_started_again_in_mid_run_loses_nothing(lab: Lab) -> None:
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    whole = scan.whole()
    async with lab, WorkerProcess(lab) as worker:
        lab.publish(*whole[:40])
        await lab.until_points("run", 10)
        worker.kill()
        lab.publish(*whole[40:70])  # while nobody listens
        await worker.start()
        lab.publish(*whole[70:])
        await lab.until_settled("run")
        assert worker.end() == 0
        run, summary = await lab.run("run"), await lab.summary("run")
    assert_maps(run, scan.frames, points=100)
    assert summary["status"] == run.status == "complete"


async def test_a_redis_killed_in_mid_run_is_waited_for_and_nothing_is_lost(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    scan = scan_of()
    write_frames(tmp_path / "run.h5", scan.frames)
    whole = scan.whole()
    with EmbeddedRedis(tmp_path / "state") as url:
        async with Lab(url, root=tmp_path, stomp_url=rabbitmq.stomp_url) as lab, lab.worker():
            for start in range(0, len(whole), 26):
                lab.publish(*whole[start : start + 26])
                kill_redis(url)
                await lab.until(lambda: answers(lab.store))
            await lab.until_settled("run")
            run = await lab.run("run")
            assert_maps(run, scan.frames, points=100)
            assert run.status == "complete"


def kill_redis(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        os.kill(client.info()["process_id"], signal.SIGKILL)


async def answers(store: Store) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def test_a_redis_that_forgot_everything_in_mid_run_is_filled_again(lab: Lab, redis_url: str) -> None:
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    whole = scan.whole()
    async with lab, lab.worker():
        lab.publish(*whole[:50])
        await lab.until_points("run", 47)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        await lab.until_points("run", 47)
        lab.publish(*whole[50:])
        await lab.until_settled("run")
        run = await lab.run("run")
    assert_maps(run, scan.frames, points=100)


async def test_a_broker_stopped_and_started_again_in_mid_run_costs_no_point(lab: Lab, rabbitmq: RabbitMQ) -> None:
    """What is published while the broker is away never arrives; the file has it."""
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    whole = scan.whole()
    async with lab, lab.worker():
        lab.publish(*whole[:40])
        await lab.until_points("run", 37)
        await asyncio.to_thread(rabbitmq.stop)
        await lab.until(lambda: broker_state(lab, "lost"))
        await asyncio.to_thread(rabbitmq.start)
        await lab.until(lambda: broker_state(lab, "connected"))
        lab.publish(*whole[60:])
        await lab.until_settled("run")
        run, note = await lab.run("run"), await lab.settled("run")
    assert_maps(run, scan.frames, points=100)
    assert note["filled"] == 20


async def broker_state(lab: Lab, state: str) -> bool:
    return (await lab.store.reports()).get("ingest", {}).get("broker", "").startswith(state)


async def test_a_redis_that_is_not_there_at_the_start_is_waited_for(
    rabbitmq: RabbitMQ, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = scan_of()
    write_frames(tmp_path / "run.h5", scan.frames)
    server = EmbeddedRedis(tmp_path / "state")
    url = f"unix://{server.directory}/sock"
    async with Lab(url, root=tmp_path, stomp_url=rabbitmq.stomp_url) as lab, lab.worker(listening=False):
        await lab.until(lambda: logged(caplog, "waiting for the store"))
        with server:
            await lab.until_listening()
            lab.publish(*scan.whole())
            await lab.until_settled("run")
            assert_maps(await lab.run("run"), scan.frames, points=100)


async def logged(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


async def test_a_broker_that_does_not_answer_at_the_start_is_waited_for(lab: Lab, rabbitmq: RabbitMQ) -> None:
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    rabbitmq.pause()
    async with lab, lab.worker(listening=False):
        await lab.until(lambda: broker_state(lab, "connecting"))
        rabbitmq.start()
        await lab.until_listening()
        lab.publish(*scan.whole())
        await lab.until_settled("run")


# real scans


@pytest.mark.parametrize(("mode", "ending"), [("step", "complete"), ("fly", "abort"), ("step", "lose")])
async def test_a_simulated_scan_through_the_broker_gives_the_maps_of_its_file(
    redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path, mode: Any, ending: Any
) -> None:
    request = ScanRequest(
        shape=(5, 8), mode=mode, ending=ending, rate_hz=200.0, frame_shape=(64, 48), flush_period_s=0.03, dtype="uint16"
    )
    async with Lab(redis_url, root=tmp_path, stomp_url=rabbitmq.stomp_url) as lab, lab.worker():
        outcome = await asyncio.to_thread(simulated, request, lab.publisher, tmp_path)
        await lab.until_settled(outcome.uid)
        run = await lab.run(outcome.uid)
    with h5py.File(outcome.file, "r", swmr=True) as file:
        dataset = file["/entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        frames = dataset[:]
    assert_maps(run, frames, points=len(frames))
    assert run.status == {"complete": "complete", "abort": "aborted", "lose": "lost"}[ending]
    assert run.points == 40 if ending == "complete" else run.points >= outcome.points


def simulated(request: ScanRequest, publisher: Any, root: Path) -> Any:
    with Beamline(root, publisher) as beamline:
        beamline.run(request)
        return beamline.outcome


async def test_a_late_reader_and_an_early_one_see_the_same(lab: Lab) -> None:
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    async with lab, lab.worker():
        follower = asyncio.create_task(followed(lab.store, "run"))
        for body in scan.whole():
            lab.publish(body)
        live = await asyncio.wait_for(follower, 30)
        late = await lab.run("run")
    np.testing.assert_array_equal(live.maps.grids, late.maps.grids)
    assert_maps(late, scan.frames, points=100)


async def followed(store: Store, uid: str) -> Run:
    """A run as a tab sees it that was there from the beginning."""
    run: Run | None = None
    async for entries in store.follow("0"):
        for entry in entries:
            if entry.run == uid:
                run = run or Run(entry.doc)
                run.apply(entry.document, cursor=entry.cursor)
        if run is not None and run.settled is not None:
            break
    assert run is not None
    return run


# how fast


async def test_an_announced_frame_is_in_the_store_within_the_budget(lab: Lab) -> None:
    scan = scan_of(shape=(6, 7), frames=some_frames(42, shape=(1216, 1936)).astype(np.uint8), frame_shape=(1216, 1936))
    write_frames(lab.root / "run.h5", scan.frames)
    whole = scan.whole()
    waits = []
    async with lab, lab.worker():
        follower = Follower(lab.store)
        task = asyncio.create_task(follower.follow())
        lab.publish(*whole[:3])
        for index, body in enumerate(whole[3:-1]):
            began = time.monotonic()
            lab.publish(body)
            await follower.until(index + 1)
            waits.append(time.monotonic() - began)
        follower.ended = True
        await task
    assert np.median(waits[3:]) < 0.150, waits


class Follower:
    """Who follows the store, as a page does, and tells when a point has come."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.points = 0
        self.ended = False
        self.news = asyncio.Event()

    async def follow(self) -> None:
        async for entries in self.store.follow("0"):
            self.points += sum(len(entry.doc["seq_num"]) for entry in entries if entry.name == "event_page")
            self.news.set()
            if self.ended:
                return

    async def until(self, points: int) -> None:
        async with asyncio.timeout(30):
            while self.points < points:
                self.news.clear()
                await self.news.wait()
