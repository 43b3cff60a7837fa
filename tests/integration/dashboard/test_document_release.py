"""What sessions and clients that have ended leave in a server, while a scan runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support import census
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Program, Stack, die_with_parent
from tests.support.tabs import open_and_close
from websockets.asyncio.client import connect

from snakemap.cli.serve import command
from snakemap.settings import load


@contextmanager
def scanning(run: MadeUpRun, first: int) -> Iterator[None]:
    """Adds ten points a second to a run."""
    stop = threading.Event()

    def scan() -> None:
        for number in range(first, run.points):
            run.add(number, number)
            if stop.wait(0.1):
                return

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10 * PATIENCE)


def documents(process: subprocess.Popen[bytes], file: Path) -> int:
    """How many Bokeh documents live in a server."""
    file.unlink(missing_ok=True)
    process.send_signal(signal.SIGUSR1)
    assert eventually(file.exists, timeout_s=20)
    time.sleep(0.1)  # between two questions
    return int(file.read_text())


def test_ended_sessions_leave_no_document_behind_during_a_scan(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MadeUpRun(redis_url, shape=(50, 50))
    run.add(1, 500)
    stack = Stack(tmp_path, redis_url=redis_url)
    for name, value in stack.pages.environment.items():
        monkeypatch.setenv(name, value)
    python, _, *arguments = command(load())
    environment = {**os.environ, "BOKEH_SECRET_KEY": "for this test alone, of no use elsewhere"}
    file = tmp_path / "documents"
    with stack.pages.log.open("wb") as log:
        server = subprocess.Popen(
            [python, "-P", census.__file__, str(file), *arguments],  # -P: modules beside it shadow no others
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        assert eventually(stack.answers, timeout_s=60, every_s=0.1), stack.pages.log.read_text()
        with scanning(run, 501):
            assert open_and_close(stack.url, tabs=5, together=2, messages=15) == 5
            # one may be held by a connection that was made for it
            assert eventually(lambda: documents(server, file) <= 2, timeout_s=60), documents(server, file)
    finally:
        server.kill()
        server.wait()
    assert sys.executable == python


async def test_two_hundred_stream_clients_leave_the_api_few_descriptors(tmp_path: Path, redis_url: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 40)
    port = free_port()
    environment = {
        "SNAKEMAP_REDIS_URL": redis_url,
        "SNAKEMAP_API_PORT": str(port),
        "SNAKEMAP_STATE_DIR": str(tmp_path / "state"),
    }
    with Program(["api"], environment=environment, log=tmp_path / "api.log") as api:
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://localhost:{port}") as client:
            assert await answers(client), api.log.read_text()
        process = psutil.Process(api.pid)
        before = process.num_fds()
        url = f"ws://localhost:{port}/api/runs/{run.uid}/documents"
        for _ in range(5):  # one address may have so many open at one time
            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(taken(url))
        assert eventually(lambda: process.num_fds() <= before + 12, timeout_s=20), process.num_fds() - before


async def answers(client: httpx.AsyncClient) -> bool:
    """Whether the API answers in time."""
    for _ in range(int(600 * PATIENCE)):
        try:
            return (await client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            await asyncio.sleep(0.1)
    return False


async def taken(url: str) -> None:
    """Connect, take some documents, and leave."""
    async with connect(url, open_timeout=60 * PATIENCE) as socket:
        for _ in range(3):
            await socket.recv()
