"""The whole chain with real parts: RunEngine, RabbitMQ, worker, Redis, pages, Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import redis
from playwright.sync_api import Browser
from tests.support.browser import CHANNELS, open_page
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import RabbitMQ
from tests.support.stack import Stack

from snakemap.simulator.beamline import SimulatedBeamline
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample
from snakemap.transport.stomp_publisher import StompPublisher


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, redis_server: str, rabbitmq_server: RabbitMQ) -> Iterator[Stack]:
    """One for all scans: each page follows the newest."""
    rabbitmq_server.start()
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    stack = Stack(tmp_path_factory.mktemp("chain"), redis_url=redis_server, stomp_url=rabbitmq_server.stomp_url).serve()
    stack.ingest.start()
    assert eventually(lambda: "Listening" in stack.ingest.log.read_text(), timeout_s=30)
    try:
        yield stack
    finally:
        stack.end()


def maps_of_file(path: Path, request: ScanRequest) -> dict[str, np.ndarray]:
    """The maps by plain numpy, as drawn: rows and columns rise with the stage's coordinates."""
    rows, columns = request.shape
    with h5py.File(path, "r", swmr=True) as file:
        dataset = file["/entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        frames = dataset[:]
    sums = {
        name: frames[:, y0:y1, x0:x1].sum(axis=(1, 2), dtype=np.uint64)
        for name, (y0, y1, x0, x1) in request.rectangles.items()
    }
    sums["total"] = frames.sum(axis=(1, 2), dtype=np.uint64)
    maps = {name: column.reshape(rows, columns).astype(float) for name, column in sums.items()}
    for grid in maps.values():
        grid[1::2] = grid[1::2, ::-1].copy()
    return maps


def totals_of(path: Path) -> np.ndarray:
    """The sum (frames,) over each whole frame of a file, by plain numpy."""
    with h5py.File(path, "r", swmr=True) as file:
        dataset = file["/entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[:].sum(axis=(1, 2), dtype=np.uint64)


def scan(stack: Stack, broker: RabbitMQ, request: ScanRequest) -> tuple[threading.Thread, list[Path]]:
    """Begins a scan in a thread; the file stands in the list when it is over."""
    files: list[Path] = []

    def work() -> None:
        with StompPublisher(broker.stomp_url) as sink, SimulatedBeamline(stack.data_root, sink) as beamline:
            beamline.run(request)
            assert beamline.outcome is not None
            files.append(Path(beamline.outcome.file))

    thread = threading.Thread(target=work, name="beamline", daemon=True)
    thread.start()
    return thread, files


def test_every_pixel_in_chromium_equals_numpy_though_the_worker_was_killed_in_mid_scan(
    stack: Stack, rabbitmq: RabbitMQ, chromium: Browser
) -> None:
    request = ScanRequest(shape=(20, 30), mode="fly", rate_hz=60, frame_shape=(96, 128), flush_period_s=0.2)
    shown = open_page(chromium, f"{stack.url}/dashboard")
    thread, files = scan(stack, rabbitmq, request)
    shown.wait(lambda: shown.image("total").size == 600 and np.isfinite(shown.image("total")).sum() > 150)
    stack.ingest.kill()
    stack.ingest.start()
    thread.join(60 * PATIENCE)
    assert files
    shown.wait(lambda: "complete" in shown.text(".status"), timeout_s=40)
    expected = maps_of_file(files[0], request)
    drawn = shown.maps()
    for name in CHANNELS:
        np.testing.assert_array_equal(drawn[name], expected[name], err_msg=name)
    assert "600 of 600 points" in shown.text(".figures")
    assert shown.errors == []
    shown.page.close()


def test_a_scan_of_ten_thousand_points_at_full_speed_is_complete_to_the_last_pixel(
    stack: Stack, rabbitmq: RabbitMQ, chromium: Browser
) -> None:
    request = ScanRequest(shape=(100, 100), mode="fly", rate_hz=0, frame_shape=(48, 64), flush_period_s=0.2)
    shown = open_page(chromium, f"{stack.url}/dashboard")
    thread, files = scan(stack, rabbitmq, request)
    thread.join(90 * PATIENCE)
    assert files
    whole = request.shape
    shown.wait(lambda: shown.image("total").shape == whole and np.isfinite(shown.image("total")).all(), timeout_s=60)
    shown.wait(lambda: "complete" in shown.text(".status"), timeout_s=60)
    expected = maps_of_file(files[0], request)
    drawn = shown.maps()
    for name in CHANNELS:
        np.testing.assert_array_equal(drawn[name], expected[name], err_msg=name)
    assert shown.errors == []
    shown.page.close()


def test_a_spiral_of_two_cameras_is_seen_where_the_stage_was_in_both(
    stack: Stack, chromium: Browser, rabbitmq: RabbitMQ
) -> None:
    request = ScanRequest(
        shape=(7, 9), path="spiral", cameras=2, mode="fly", rate_hz=60, flush_period_s=0.2, frame_shape=(48, 64)
    )
    tab = open_page(chromium, f"{stack.url}/dashboard")
    files: dict[str, Path] = {}

    def work() -> None:
        with StompPublisher(rabbitmq.stomp_url) as sink, SimulatedBeamline(stack.data_root, sink) as beamline:
            beamline.run(request)
            assert beamline.outcome is not None
            files.update(beamline.outcome.files)

    thread = threading.Thread(target=work, name="beamline", daemon=True)
    thread.start()
    thread.join(60 * PATIENCE)
    places = [Sample(request).position(point) for point in range(request.points)]

    def all_seen(totals: np.ndarray) -> bool:
        return all(tab.seen_at("total", x, y) == total for (y, x), total in zip(places, totals, strict=True))

    tab.wait(lambda: all_seen(totals_of(files["camera"])))
    tab.page.locator(".center select:visible").first.select_option("camera2")
    tab.wait(lambda: all_seen(totals_of(files["camera2"])))
    tab.wait(lambda: tab.text(".status") == "complete")
    assert tab.errors == []
    tab.page.close()


def test_the_file_of_a_run_is_one_click_away_and_the_run_from_its_file(
    stack: Stack, rabbitmq: RabbitMQ, chromium: Browser
) -> None:
    """The file is looked into while it is written, and its maps are those of the run, not another reading."""
    request = ScanRequest(shape=(10, 12), mode="fly", rate_hz=20, frame_shape=(48, 64), flush_period_s=0.2)
    tab = open_page(chromium, f"{stack.url}/dashboard")
    page = tab.page
    thread, files = scan(stack, rabbitmq, request)
    tab.wait(lambda: tab.image("total").shape == (10, 12) and np.isfinite(tab.image("total")).sum() > 10)
    page.get_by_text("Files", exact=True).click()
    page.get_by_text("file of this run").click()
    name = page.locator("[role=treeitem] .name")
    tab.wait(lambda: name.get_by_text("entry", exact=True).count() == 1)
    thread.join(60 * PATIENCE)
    tab.wait(lambda: tab.text(".status") == "complete", timeout_s=40)
    uid = page.evaluate("() => sm.models().find((model) => model.place?.uid).place.uid")
    thread, _ = scan(stack, rabbitmq, ScanRequest(shape=(3, 4), rate_hz=0, frame_shape=(48, 64)))
    thread.join(60 * PATIENCE)
    tab.wait(lambda: tab.image("total").shape == (3, 4))
    for node in ("entry", "data", "data"):
        name.get_by_text(node, exact=True).last.click()
        page.wait_for_timeout(300)
    page.get_by_text("Open as maps").click()
    tab.wait(lambda: tab.image("total").shape == (10, 12))
    tab.wait(lambda: uid in page.evaluate("() => location.search"))
    np.testing.assert_array_equal(tab.image("total"), maps_of_file(files[0], request)["total"])
    page.get_by_text("Runs", exact=True).click()
    page.get_by_text("Follow the newest").click()
    tab.wait(lambda: tab.image("total").shape == (3, 4))
    page.get_by_text("Files", exact=True).click()
    page.get_by_text("show the maps of this file").click()
    tab.wait(lambda: tab.image("total").shape == (10, 12))
    assert tab.errors == []
    page.close()
