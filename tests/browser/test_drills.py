"""Each part of the chain is killed in the middle of a scan, with a page open in Chromium that is not reloaded by hand.

RabbitMQ, worker, reader, Redis, API and pages are real processes, and a RunEngine publishes. At the end every pixel in
the API and in the open page equals numpy over the file.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import redis
from playwright.sync_api import Browser
from tests.browser.test_chain import maps_of_file
from tests.browser.test_cut_off import holds, is_back, is_cut, opened, ours
from tests.support.browser import CHANNELS, Shown
from tests.support.own_redis import OwnRedis
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import RabbitMQ, free_port
from tests.support.stack import Program, Stack

from snakemap.errors import BrokerUnavailable
from snakemap.simulator.beamline import SimulatedBeamline
from snakemap.synthetic.request import ScanRequest
from snakemap.transport.stomp_publisher import StompPublisher

POINTS = 144
FIRST_POINTS, OUTAGE_POINTS = 40, 12
"""Points that are announced before the kill, and while the victim is away: 1.5 s at 8 points a second."""


class Site:
    """All processes of a beamline, which can be killed and started again."""

    def __init__(self, directory: Path, server: OwnRedis, rabbitmq: RabbitMQ) -> None:
        self.redis = server
        self.rabbitmq = rabbitmq
        self.api_url = f"http://127.0.0.1:{(api_port := free_port())}"
        self.stack = Stack(directory, redis_url=server.url, stomp_url=rabbitmq.stomp_url, API_PORT=str(api_port))
        self.api = Program(["api"], environment=self.stack.pages.environment, log=directory / "api.log")

    def start(self) -> None:
        """Starts all of it; returns when all of it answers."""
        self.api.start()
        self.stack.ingest.start()
        self.stack.serve()
        assert eventually(self.is_ready, timeout_s=60)

    def is_ready(self) -> bool:
        """Whether the API answers, and finds the store and a worker with its broker."""
        try:
            return httpx.get(f"{self.api_url}/readyz", trust_env=False, timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path: str) -> Any:
        """What the API answers to GET."""
        answer = httpx.get(f"{self.api_url}{path}", trust_env=False, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def kill(self, victim: str) -> None:
        """Sends SIGKILL to one part."""
        if victim == "reader":
            killed = self.readers()
            assert killed
            for process in killed:
                process.kill()
            return
        {
            "worker": self.stack.ingest.kill,
            "api": self.api.kill,
            "serve": self.stack.pages.kill,
            "redis": self.redis.kill,
            "rabbitmq": self.rabbitmq.kill,
        }[victim]()

    def restart(self, victim: str) -> None:
        """Starts what does not come back by itself."""
        if victim == "worker":
            self.stack.ingest.start()
        elif victim == "api":
            self.api.start()
        elif victim == "serve":
            self.stack.pages.start()
        elif victim == "redis":
            self.redis.start()
        elif victim == "rabbitmq":
            self.rabbitmq.start()

    def readers(self) -> list[psutil.Process]:
        """The worker's processes that read files."""
        children = psutil.Process(self.stack.ingest.pid).children(recursive=True)
        return [child for child in children if "snakemap.hdf5.child" in child.cmdline()]

    def events(self, uid: str) -> set[int]:
        """The seq_nums of the events of a run that are in the store."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            entries: Any = client.xrange("snakemap:documents")
        own = [fields for _, fields in entries if fields["run"] == uid and fields["name"] == "event"]
        return {json.loads(fields["doc"])["seq_num"] for fields in own}

    def end(self) -> None:
        """Ends all of it."""
        self.api.end()
        self.stack.end()


class AtMostOnce:
    """Publishes as blueapi does: a message that the broker does not take is lost.

    The scan waits at the points where the test wants it to wait, so that a busy machine changes nothing.

    Attributes:
        points: announced so far, whether the broker took the announcement or not.
        lost: messages that the broker did not take.
    """

    def __init__(self, publisher: StompPublisher) -> None:
        self.publisher = publisher
        self.points = 0
        self.lost: list[dict[str, Any]] = []
        self._until = 0
        self._changed = threading.Condition()

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Sends one message, or loses it; waits while as many points as allowed were announced."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.points < self._until, 60 * PATIENCE)
        try:
            self.publisher.publish(body, correlation_id)
        except BrokerUnavailable:
            self.lost.append(body)
        if body.get("name") == "stream_datum":
            self.points = body["doc"]["indices"]["stop"]

    def allow(self, points: int) -> None:
        """Lets the scan go on until that many points are announced."""
        with self._changed:
            self._until = points
            self._changed.notify_all()


class Scanning:
    """A scan in a thread; entered, it runs.

    Attributes:
        sink: what it publishes to.
        uid: of its run; empty until it is over.
        file: its frames.
    """

    def __init__(self, site: Site, request: ScanRequest) -> None:
        self.site = site
        self.request = request
        self.publisher = StompPublisher(site.rabbitmq.stomp_url)
        self.sink = AtMostOnce(self.publisher)
        self.uid = ""
        self.file = Path()
        self._thread = threading.Thread(target=self._work, name="beamline", daemon=True)

    def __enter__(self) -> Scanning:
        self.sink.allow(FIRST_POINTS)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.sink.allow(sys.maxsize)
        self._thread.join(60 * PATIENCE)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        with self.publisher, SimulatedBeamline(self.site.stack.data_root, self.sink) as beamline:
            self.uid = beamline.run(self.request)
            assert beamline.outcome is not None
            self.file = beamline.outcome.file

    def over(self) -> bool:
        """Whether its last message was published."""
        return not self._thread.is_alive()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitMQ) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    rabbitmq_server.start()
    with OwnRedis(directory / "redis") as server:
        site = Site(directory, server, rabbitmq_server)
        try:
            site.start()
            yield site
        finally:
            site.end()


def points_of(shown: Shown) -> int:
    return int(np.isfinite(shown.image("total")).sum())


def lights_of(shown: Shown) -> list[list[str]]:
    return shown.page.locator(".light").evaluate_all("(all) => all.map((one) => [one.innerText, one.dataset.level])")


@pytest.mark.parametrize(
    ("victim", "mode"),
    [
        ("worker", "step"),
        ("reader", "step"),
        ("api", "step"),
        ("serve", "step"),
        ("redis", "step"),
        ("rabbitmq", "step"),
        ("rabbitmq", "fly"),
    ],
)
def test_every_pixel_of_api_and_open_page_is_that_of_the_file_after_a_kill_in_mid_scan(
    site: Site, chromium: Browser, victim: str, mode: Any
) -> None:
    request = ScanRequest(
        shape=(12, 12), mode=mode, rate_hz=8, frame_shape=(48, 64), flush_period_s=0.25, plan_name=f"{victim}_{mode}"
    )
    with opened(chromium, f"{site.stack.url}/dashboard") as shown, Scanning(site, request) as scan:
        page, sink = shown.page, scan.sink
        assert holds(lambda: shown.text("header .plan").startswith(request.plan_name) and points_of(shown) > 24)
        page.evaluate("() => { window.mark = 1 }")
        readers = {process.pid for process in site.readers()}
        site.kill(victim)
        sink.allow(FIRST_POINTS + OUTAGE_POINTS)
        assert eventually(lambda: sink.points >= FIRST_POINTS + OUTAGE_POINTS, timeout_s=20)
        if victim == "serve":
            assert holds(lambda: is_cut(page))
        assert 24 < points_of(shown) < POINTS
        site.restart(victim)
        sink.allow(sys.maxsize)
        assert eventually(scan.over, timeout_s=60)
        assert bool(sink.lost) == (victim == "rabbitmq")

        lost = POINTS - len(site.events(scan.uid)) if mode == "step" else 0
        status = "incomplete" if lost else "complete"
        assert holds(lambda: shown.text(".status") == status and points_of(shown) == POINTS, timeout_s=60)
        assert eventually(site.is_ready, timeout_s=60)
        expected, drawn = maps_of_file(scan.file, request), shown.maps()
        channels = site.ask(f"/api/runs/{scan.uid}/maps")["channels"]
        for name in CHANNELS:
            np.testing.assert_array_equal(drawn[name], expected[name], err_msg=f"{name} in the page")
            np.testing.assert_array_equal(np.array(channels[name], float), expected[name], err_msg=f"{name} in the API")

        run = site.ask(f"/api/runs/{scan.uid}")
        assert (run["status"], run["points"]) == (status, POINTS)
        sentence = f"{lost} of {POINTS} events are missing." if lost else ""
        assert run["note"] == sentence
        assert bool(lost) == (victim == "rabbitmq" and mode == "step")
        if lost:
            assert page.get_by_text(sentence).first.is_visible()
        good = [["finished", "idle"], ["Redis", "good"], ["worker", "good"], ["broker", "good"]]
        assert holds(lambda: lights_of(shown) == good and is_back(page)), lights_of(shown)
        assert not page.title().startswith("⚠")
        if victim == "serve":
            assert page.evaluate("() => window.mark === undefined")
        if victim in ("worker", "reader"):
            assert readers.isdisjoint(process.pid for process in site.readers())
        assert ours(shown) == []
