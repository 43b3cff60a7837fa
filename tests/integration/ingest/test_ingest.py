"""The real worker, with a real Redis, a real RabbitMQ and real files, and what may happen to them."""

from __future__ import annotations

import asyncio
import json
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
from tests.support.beamline import Scan, expected_map, expected_maps, some_frames
from tests.support.lab import ColumnsWriter, Lab, WorkerProcess, maps_of_frames, write_frames
from tests.support.patience import PATIENCE, patiently
from tests.support.rabbitmq import RabbitMQ
from tests.support.swmr_writer import DATASET, SwmrWriter, picture
from tests.support.swmr_writer import SHAPE as PICTURE

from snakemap.core.roi import default_rois
from snakemap.core.run import Run
from snakemap.errors import StoreUnavailable
from snakemap.simulator.beamline import SimulatedBeamline
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store
from snakemap.synthetic.request import ScanRequest


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
    with SimulatedBeamline(root, publisher) as beamline:
        beamline.run(request)
        return beamline.outcome


async def test_a_late_reader_and_an_early_one_see_the_same(lab: Lab) -> None:
    scan = scan_of()
    write_frames(lab.root / "run.h5", scan.frames)
    async with lab, lab.worker():
        follower = asyncio.create_task(followed(lab.store, "run"))
        for body in scan.whole():
            lab.publish(body)
        live = await asyncio.wait_for(follower, 30 * PATIENCE)
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


# several sources


@pytest.fixture
def quiet_lab(redis_url: str, tmp_path: Path) -> Lab:
    """Without a broker: documents are put into the store."""
    return Lab(redis_url, root=tmp_path)


def write_scan(lab: Lab, scan: Scan) -> None:
    for uri, array in scan.files.items():
        write_frames(lab.root / uri.rpartition("/")[2], array)


def assert_sources(run: Run, scan: Scan, counts: dict[int, int]) -> None:
    """Every camera and every scalar of a run holds what numpy makes of its file; of a color camera, too."""
    for key, array in {"camera": scan.frames, **scan.others}.items():
        if array.ndim == 1:
            scalars = run.sources["scalars"].maps
            grid = scalars.grids[scalars.channels.index(key)]
            np.testing.assert_array_equal(grid, expected_map(scan, counts, key))
            continue
        gray = {4: array.sum(axis=1, dtype=np.uint64) if array.shape[1] == 3 else array.sum(axis=-1), 3: array}
        frames = gray[array.ndim]
        plain = Scan(shape=scan.shape, frames=frames, each=scan.each)
        expected = expected_maps(plain, counts, default_rois(frames.shape[1:]))
        np.testing.assert_array_equal(run.sources[key].maps.grids, expected, err_msg=key)


def many_others(size: int) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(3)
    floats = random.integers(-500, 500, (size, 6, 4)).astype(np.float32) / 8
    floats[7, 2, 2] = np.nan
    return {
        "whole": random.integers(-(2**30), 2**30, (size, 9, 7), dtype=np.int32),
        "floats": floats,
        "planes": random.integers(0, 255, (size, 3, 6, 8), dtype=np.uint8),
        "pixels": random.integers(0, 255, (size, 6, 8, 3), dtype=np.uint8),
        "diode": random.random(size),
        "counts": np.arange(size, dtype=np.uint32),
    }


async def test_every_camera_and_scalar_of_a_run_gives_the_maps_of_numpy(quiet_lab: Lab) -> None:
    lab, scan = quiet_lab, scan_of(others=many_others(100))
    write_scan(lab, scan)
    async with lab, lab.worker():
        await lab.append(*scan.whole(), run="run")
        await lab.until_settled("run")
        run, summary = await lab.run("run"), await lab.summary("run")
        preview = await lab.store.frame("run", "pixels")
        main = await lab.store.frame("run")
    assert_sources(run, scan, {number + 1: number for number in range(100)})
    assert run.status == "complete"
    assert "1 point of floats cannot be summed" in summary["trouble"]
    assert preview is not None
    np.testing.assert_array_equal(preview[0], scan.others["pixels"][-1])
    assert main is not None
    np.testing.assert_array_equal(main[0], scan.frames[-1])


async def test_four_frames_a_point_are_summed_and_so_are_its_scalars(quiet_lab: Lab) -> None:
    """As blueapi was seen to do it: shape [4, 128, 96], five events, twenty frames."""
    frames = some_frames(20, shape=(128, 96))
    others = {"diode": np.arange(20.0), "packed": some_frames(20, shape=(6, 4))}
    lab, scan = quiet_lab, Scan(shape=(1, 5), frames=frames, each=4, frame_shape=(128, 96), others=others)
    write_scan(lab, scan)
    write_frames(lab.root / "run-packed.h5", others["packed"].reshape(5, 4, 6, 4))
    async with lab, lab.worker():
        await lab.append(*scan.whole(), run="run")
        await lab.until_settled("run")
        run = await lab.run("run")
    assert run.sources["camera"].ledger.resources["run-r"].point_shape == (4, 128, 96)
    assert_sources(run, scan, {number + 1: number for number in range(5)})
    assert run.status == "complete"


async def test_the_old_way_to_tell_a_color_frame_makes_one_frame_a_point(quiet_lab: Lab) -> None:
    planes = many_others(12)["planes"]
    lab, scan = quiet_lab, Scan(others={"planes": planes})
    write_scan(lab, scan)
    descriptor = scan.descriptor()
    descriptor["doc"]["data_keys"]["planes"]["shape"] = [3, 6, 8]
    async with lab, lab.worker():
        await lab.append(scan.start(), descriptor, *scan.whole()[2:-9], scan.stop("abort"), run="run")
        await lab.until_settled("run")  # the last points were not announced, and are filled in
        run = await lab.run("run")
    assert_sources(run, scan, {number + 1: number for number in range(12)})


async def test_positions_written_live_by_a_second_writer_come_after_their_frames(quiet_lab: Lab) -> None:
    frames = np.stack([picture(number) for number in range(30)])
    others = {"x": np.arange(30) * 0.5, "y": np.arange(30.0) % 7}
    lab, scan = quiet_lab, Scan(shape=(5, 6), frames=frames, frame_shape=PICTURE, others=others)
    with (
        SwmrWriter(lab.root / "run.h5") as camera,
        ColumnsWriter(lab.root / "run-x.h5", [DATASET]) as x,
        ColumnsWriter(lab.root / "run-y.h5", [DATASET]) as y,
    ):
        async with lab, lab.worker():
            await lab.append(*scan.opening(), run="run")
            for start in range(0, 30, 10):
                stop = start + 10
                camera.write(10)
                await lab.append(*scan.data(start, 10), run="run")  # positions are announced, and not there yet
                await lab.until_points("run", stop)
                x.write(**{DATASET: others["x"][start:stop]})
                y.write(**{DATASET: others["y"][start:stop]})
                began = time.monotonic()
                await lab.until(lambda stop=stop: scalars_there(lab, stop))
                assert time.monotonic() - began < 2 * PATIENCE
            await lab.append(scan.stop(), run="run")
            await lab.until_settled("run")
            run, summary = await lab.run("run"), await lab.summary("run")
    assert_sources(run, scan, {number + 1: number for number in range(30)})
    assert summary["trouble"] == ""


async def scalars_there(lab: Lab, points: int) -> bool:
    scalars = (await lab.run("run")).sources.get("scalars")
    return scalars is not None and scalars.maps.visited >= points


async def test_a_sum_of_the_detector_that_differs_from_ours_is_found(quiet_lab: Lab) -> None:
    scan = scan_of()
    scan.others = {"camera-sum": scan.frames.sum(axis=(1, 2)).astype(np.float64)}
    scan.others["camera-sum"][41] += 1
    write_scan(quiet_lab, scan)
    async with quiet_lab as lab, lab.worker():
        await lab.append(*scan.whole(), run="run")
        await lab.until_settled("run")
        run = await lab.run("run")
    (cross_check,) = run.cross_checks(run.main)
    assert cross_check.described == "total differs from the detector's own camera-sum at 1 of 100"


async def test_two_streams_with_the_same_data_key_are_two_sources(quiet_lab: Lab) -> None:
    scan = scan_of()
    dark = Scan(uid="run-dark", stream="dark", frames=some_frames(5, seed=8))
    for uri, array in (scan.files | dark.files).items():
        write_frames(quiet_lab.root / uri.rpartition("/")[2], array)
    bodies = [dark.descriptor(), dark.resource(), *dark.data(0, 5)]
    bodies[0]["doc"]["run_start"] = "run"
    async with quiet_lab as lab, lab.worker():
        await lab.append(*scan.whole()[:50], *bodies, *scan.whole()[50:], run="run")
        await lab.until_settled("run")
        run = await lab.run("run")
    assert_maps(run, scan.frames, points=100)
    totals = run.sources["dark: camera"].maps.grids[-1].reshape(-1)
    np.testing.assert_array_equal(totals[~np.isnan(totals)], dark.frames.sum(axis=(1, 2)))


async def test_two_cameras_and_a_rewind_over_a_killed_worker_lose_nothing(quiet_lab: Lab) -> None:
    """The RunEngine rewinds from point 60 to 41 while no worker is there; the rows go on."""
    size = 120
    others = {"side": some_frames(size, shape=(9, 5), seed=2), "diode": np.arange(size) / 4}
    scan = scan_of(frames=some_frames(size), others=others)
    counts = {seq_num: seq_num - 1 if seq_num <= 40 else seq_num + 19 for seq_num in range(1, 101)}
    lab = quiet_lab
    write_scan(lab, scan)
    async with lab, WorkerProcess(lab) as worker:
        await lab.append(*scan.opening(), *scan.data(0, 60), run="run")
        await lab.until_points("run", 60)
        await lab.append(*scan.data(60, 30, seq_num=41), run="run")
        worker.kill()
        await lab.append(*scan.data(90, 10, seq_num=71), run="run")
        await worker.start()
        await lab.append(*scan.data(100, 20, seq_num=81), scan.stop(), run="run")
        await lab.until_settled("run")
        run, summary = await lab.run("run"), await lab.summary("run")
    assert_sources(run, scan, counts)
    assert summary["status"] == run.status == "complete"


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
        async with patiently(30):
            while self.points < points:
                self.news.clear()
                await self.news.wait()


# documents from a file


async def test_documents_of_a_file_of_json_lines_fill_a_run_also_after_a_restart(
    redis_url: str, tmp_path: Path
) -> None:
    scan = scan_of()
    write_frames(tmp_path / "run.h5", scan.frames)
    whole = scan.whole()
    lines = tmp_path / "documents.jsonl"
    lines.touch()
    lab = Lab(redis_url, root=tmp_path, source_url=f"lines://{lines}")
    async with lab:
        async with lab.worker():
            lab.publish(*whole[:40])
            await lab.until_points("run", 10)
        lab.publish(*whole[40:70])
        async with lab.worker():
            lab.publish(*whole[70:])
            await lab.until_settled("run")
        run = await lab.run("run")
        entries = [entry async for page in lab.store.run_entries("run") for entry in page]
    assert_maps(run, scan.frames, points=100)
    assert len([entry for entry in entries if entry.name == "stream_datum"]) == 100  # none was stored twice


async def test_documents_of_two_sources_fill_two_runs_and_the_heartbeat_names_both(
    redis_url: str, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        path.touch()
    lab = Lab(redis_url, root=tmp_path, source_url=",".join(f"lines://{path}" for path in paths))
    async with lab, lab.worker():
        for path, uid in zip(paths, ("one", "other"), strict=True):
            path.write_text(json.dumps({"name": "start", "doc": {"uid": uid, "time": 1.0}}) + "\n")
        async with patiently(30):
            while {run["uid"] for run in await lab.store.summaries()} != {"one", "other"}:
                await asyncio.sleep(0.05)
            while not (sources := (await lab.store.reports()).get("ingest", {}).get("sources")):
                await asyncio.sleep(0.05)
    assert [source["name"] for source in sources] == [f"lines://{path}" for path in paths]
    assert {source["broker"] for source in sources} <= {"connecting", "connected"}
