"""Directories and files of ours are closed to other users, whatever the umask is and however they were left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.beamline import Scan
from tests.support.scans import documents

from snakemap.cli.serve import environment
from snakemap.core.documents import Entry
from snakemap.ingest.event_log_files import EventLogFiles
from snakemap.settings import load
from snakemap.store.embedded_redis import EmbeddedRedis


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    try:
        yield request.param
    finally:
        os.umask(before)


def opened(top: Path) -> dict[str, str]:
    """What others may come near, and its mode; sockets lie in a directory that is closed."""
    found = {}
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        if not stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) != wanted:
            found[str(path)] = oct(status.st_mode)
    return found


@pytest.mark.parametrize("there", [False, True])
def test_the_state_directory_is_closed(umask: int, tmp_path_factory: pytest.TempPathFactory, there: bool) -> None:
    state = Path(tmp_path_factory.getbasetemp()) / f"state{umask:o}{there}"
    if there:
        leave_open(state / "redis", "redis.conf", "users")
        leave_open(state, "secret-key")
        (state / "secret-key").write_text("k" * 40)
    with EmbeddedRedis(state):
        environment(load(state_dir=state))
        assert {path.name for path in state.rglob("*")} >= {"secret-key", "redis", "redis.conf", "redis.log", "users"}
        assert opened(state) == {}


@pytest.mark.parametrize("there", [False, True])
def test_the_log_of_events_is_closed(umask: int, tmp_path_factory: pytest.TempPathFactory, there: bool) -> None:
    directory = Path(tmp_path_factory.getbasetemp()) / f"log{umask:o}{there}"
    entries = [
        Entry(f"{1_795_000_000_000 + number}-0", one.name, one.run, None, one.doc)
        for number, one in enumerate(documents(Scan(), points=2))
    ]
    if there:
        log = EventLogFiles(directory, keep_days=7)
        log.begin()
        log.write(entries[:3], now=1.0)
        log.close()
        for path in (directory, *directory.iterdir()):
            path.chmod(0o777)
    log = EventLogFiles(directory, keep_days=7)
    log.begin()
    log.write(entries, now=2.0)
    log.sync(now=1000.0)
    log.close()
    assert len(list(directory.iterdir())) >= 2
    assert opened(directory) == {}


@pytest.mark.parametrize("mask", ["0", "077"])
def test_simulated_data_without_a_data_root_are_closed(tmp_path: Path, mask: str) -> None:
    state = tmp_path / "state"
    code = f"import os, sys; os.umask(0o{mask}); from snakemap.cli.main import app; app(sys.argv[1:])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAP_")}
    arguments = ["simulate", "--shape", "2x2", "--rate", "0", "--frame-shape", "8x8"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, env={**environment, "SNAKEMAP_STATE_DIR": str(state)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list((state / "data").rglob("*.h5"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, state / "data", state / "redis")}
    assert modes == {"state": 0o700, "data": 0o700, "redis": 0o700}


def test_a_directory_of_the_users_own_data_is_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "visit"
    shared.mkdir()
    shared.chmod(0o775)
    load(data_root=shared, state_dir=tmp_path / "state")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o775


def leave_open(directory: Path, *names: str) -> None:
    """Makes a directory and files as an old version, or another program, may have left them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch()
        (directory / name).chmod(0o666)
    directory.chmod(0o777)
