"""From a document's publication over RabbitMQ to the pixel in Chromium's data source.

    python benchmarks/latency.py [--points 150] [--busy]

With ``--busy`` another tab of the same servers lists a directory of 10,000 files meanwhile and opens a finished scan
of 2,000 frames as maps.

A real broker, worker, Redis, server of pages and browser; the frames (1216x1936 uint8) are in their SWMR file before
they are announced, ten a second, so that only what snakemap does is measured. Both clocks are this machine's. Run it
from the repository: the servers are those of the tests.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.browser import ARGUMENTS, CHROMIUM, open_page
from tests.support.patience import eventually
from tests.support.rabbitmq import RabbitMQ
from tests.support.stack import Stack

from snakemap.core.documents import envelope
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.transport.stomp_publisher import StompPublisher

FRAME = (1216, 1936)
PERIOD_S = 0.1
WATCH = """() => {
  window.seen = []
  const source = sm.cells()
  source.change.connect(() => {
    let visited = 0
    for (const value of source.data.total[0]) if (!Number.isNaN(value)) visited++
    window.seen.push([visited, performance.timeOrigin + performance.now()])
  })
}"""


def documents(path: Path, points: int) -> dict[str, dict[str, Any]]:
    """Start, descriptor and stream_resource of a step scan of one row."""
    run, descriptor, resource = (str(uuid.uuid4()) for _ in range(3))
    key = {"source": "sim", "shape": [1, *FRAME], "dtype": "array", "dtype_numpy": "|u1", "external": "STREAM:"}
    return {
        "start": {"uid": run, "time": time.time(), "plan_name": "latency", "shape": [1, points]},
        "descriptor": {
            "uid": descriptor,
            "run_start": run,
            "time": time.time(),
            "name": "primary",
            "data_keys": {"c": key},
        },
        "stream_resource": {
            "uid": resource,
            "run_start": run,
            "data_key": "c",
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{path}",
            "parameters": {"dataset": "/data", "chunk_shape": [1, *FRAME]},
        },
    }


BUSY_FILES, BUSY_FRAMES = 10_000, 2_000
BUSY_SCAN = "0 finished.h5"


class OtherTab:
    """A tab whose user goes through the files while the scan is taken.

    Args:
        stack: whose pages these are; its data root is filled.
        browser: where it is opened.
    """

    def __init__(self, stack: Stack, browser: Any) -> None:
        for number in range(BUSY_FILES):
            (stack.data_root / f"scan-{number}.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        frames = np.random.default_rng(1).poisson(5, (8, *FRAME)).astype(np.uint8)
        packed = dict(hdf5plugin.Bitshuffle(cname="lz4"))
        with h5py.File(stack.data_root / BUSY_SCAN, "w") as file:
            dataset = file.create_dataset("data", (BUSY_FRAMES, *FRAME), "u1", chunks=(1, *FRAME), **packed)
            for number in range(BUSY_FRAMES):
                dataset[number] = frames[number % 8]
        self.page = open_page(browser, f"{stack.url}/dashboard").page
        self.began = self.ended = 0.0

    def go_on(self, point: int) -> None:
        """Does what comes when so many points have been announced."""
        page = self.page
        if point == 20:
            page.get_by_text("Files", exact=True).click()
        elif point == 40:
            page.locator("[role=option]", has_text=BUSY_SCAN).click()
        elif point == 55:
            page.locator("[role=treeitem] .name").get_by_text("data", exact=True).click()
        elif point == 70:
            page.get_by_text("Open as maps").click()
            self.began = time.monotonic()
        elif self.began and not self.ended and "complete" in page.locator(".status").first.inner_text():
            self.ended = time.monotonic()


def announce(told: dict[str, dict[str, Any]], point: int) -> dict[str, Any]:
    """The stream_datum of one point, from 1 on."""
    return {
        "uid": f"{told['stream_resource']['uid']}/{point}",
        "stream_resource": told["stream_resource"]["uid"],
        "descriptor": told["descriptor"]["uid"],
        "seq_nums": {"start": point, "stop": point + 1},
        "indices": {"start": point - 1, "stop": point},
    }


def measured(directory: Path, points: int, *, busy: bool = False) -> np.ndarray:
    """Milliseconds from publication to pixel (points,)."""
    (directory / "broker").mkdir()
    broker = RabbitMQ(directory / "broker")
    stack = None
    try:
        broker.start()
        with EmbeddedRedis(directory / "state") as url, sync_playwright() as playwright:
            stack = Stack(directory / "stack", redis_url=url, stomp_url=broker.stomp_url).serve()
            stack.ingest.start()
            if not eventually(lambda: "Listening" in stack.ingest.log.read_text(), timeout_s=60):
                raise TimeoutError(stack.ingest.log.read_text())
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            return _published(stack, broker, browser, points, busy=busy)
    finally:
        if stack is not None:
            stack.end()
        broker.close()


def _published(stack: Stack, broker: RabbitMQ, browser: Any, points: int, *, busy: bool) -> np.ndarray:
    other = OtherTab(stack, browser) if busy else None
    path = stack.data_root / "latency.h5"
    frame = np.random.default_rng(0).integers(0, 9, (1, *FRAME), dtype=np.uint8)
    with h5py.File(path, "w", libver="latest") as file, StompPublisher(broker.stomp_url) as publisher:
        dataset = file.create_dataset("data", (0, *FRAME), "u1", maxshape=(None, *FRAME), chunks=(1, *FRAME))
        file.swmr_mode = True
        dataset.resize(points, axis=0)
        for index in range(points):
            dataset[index] = frame[0]
        dataset.flush()
        told = documents(path, points)
        for name, doc in told.items():
            publisher.publish(envelope(name, doc, task_id=None))
        page = open_page(browser, f"{stack.url}/dashboard").page
        page.wait_for_function(f"() => sm.cells()?.data.total[0].length === {points}")
        page.evaluate(WATCH)
        sent = np.zeros(points)
        begun = time.perf_counter()
        for point in range(1, points + 1):
            time.sleep(max(0.0, begun + point * PERIOD_S - time.perf_counter()))
            sent[point - 1] = time.time() * 1000
            publisher.publish(envelope("stream_datum", announce(told, point), task_id=None))
            if other is not None:
                other.go_on(point)
        page.wait_for_function(f"() => window.seen.length && window.seen.at(-1)[0] === {points}")
        seen = page.evaluate("() => window.seen")
    if other is not None:
        took = f"{other.ended - other.began:.1f} s" if other.ended else "longer than this"
        print(f"meanwhile another tab listed {BUSY_FILES:,} files and opened {BUSY_FRAMES:,} frames as maps in {took}")
    first = np.full(points, np.inf)
    for visited, at in seen:
        first[:visited] = np.minimum(first[:visited], at)
    return first - sent


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=150)
    parser.add_argument("--busy", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="latency-") as directory:
        milliseconds = measured(Path(directory), told.points, busy=told.busy)[
            5:
        ]  # the first few wait for files to be opened
    print(f"{'from document to pixel':<26}{'median':>9}{'p95':>9}{'worst':>9}")
    figures = np.percentile(milliseconds, [50, 95, 100])
    print(f"{f'{len(milliseconds)} points at 10 Hz, ms':<26}{figures[0]:>9.0f}{figures[1]:>9.0f}{figures[2]:>9.0f}")


if __name__ == "__main__":
    main()
