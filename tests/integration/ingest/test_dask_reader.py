"""Finished files read on a real Dask cluster: a scheduler and a worker as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from tests.integration.live.test_file_runs import assert_maps, frames_of, opened, written
from tests.support.lab import Lab
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import die_with_parent

from snakemap.hdf5.inspector import FileInspector
from snakemap.ingest.dask_reader import read_count
from snakemap.live.file_runs import open_stack


@pytest.fixture
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address of the scheduler of a cluster of one worker with two threads, and that worker."""
    port, log = free_port(), tmp_path_factory.mktemp("dask") / "log"
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(
                [*dask, *arguments], stdout=output, stderr=output, cwd=log.parent, preexec_fn=die_with_parent
            )
            for arguments in (
                ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter"),
                ("worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard", "--death-timeout", "60"),
            )
        ]
    try:
        assert eventually(lambda: b"Register worker" in log.read_bytes(), timeout_s=60), log.read_text()
        yield address, processes[1]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def lab_of(redis_url: str, root: Path, address: str) -> Lab:
    return Lab(redis_url, root=root, dask=address, file_timeout_s=str(5 * PATIENCE))


async def test_a_finished_scan_is_read_on_the_cluster(
    redis_url: str, tmp_path: Path, scheduler: tuple[str, subprocess.Popen[bytes]]
) -> None:
    frames, looker = frames_of(500), FileInspector(tmp_path)
    written(tmp_path / "scan.nxs", frames, snake=True, compression="gzip")
    async with lab_of(redis_url, tmp_path, scheduler[0]) as lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "scan.nxs"))
        await lab.until_settled(uid)
        run, summary = await lab.run(uid), await lab.summary(uid)
        async with Client(scheduler[0], asynchronous=True, set_as_default=False) as client:
            asked = await client.run(read_count)
    await looker.close()
    assert_maps(run, frames)
    assert summary["status"] == "complete"
    assert sum(asked.values()) >= 500 / 64


async def test_a_file_that_cannot_be_read_there_is_told_as_here(
    redis_url: str, tmp_path: Path, scheduler: tuple[str, subprocess.Popen[bytes]]
) -> None:
    looker = FileInspector(tmp_path)
    written(tmp_path / "scan.h5", frames_of(10))
    stack = await opened(looker, "scan.h5")
    await looker.close()
    (tmp_path / "scan.h5").unlink()
    async with lab_of(redis_url, tmp_path, scheduler[0]) as lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, stack)
        await lab.until_settled(uid)
        summary = await lab.summary(uid)
    assert summary["status"] == "failed"
    assert "scan.h5" in summary["reason"]


async def test_without_a_cluster_our_own_processes_read(redis_url: str, tmp_path: Path) -> None:
    frames, looker = frames_of(40), FileInspector(tmp_path)
    written(tmp_path / "scan.h5", frames)
    began = time.monotonic()
    async with lab_of(redis_url, tmp_path, f"tcp://127.0.0.1:{free_port()}") as lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "scan.h5"))
        await lab.until_settled(uid)
        run = await lab.run(uid)
    await looker.close()
    assert time.monotonic() - began < 40 * PATIENCE
    np.testing.assert_array_equal(run.maps.grids[-1].ravel(), frames.sum(axis=(1, 2)))
