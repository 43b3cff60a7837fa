"""The small programs with a real Redis and a real broker: listen, replay, doctor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.own_redis import OwnRedis
from tests.support.patience import PATIENCE
from tests.support.processes import Tree
from tests.support.rabbitmq import RabbitMQ, free_port
from tests.support.recordings import FOLDER, documents

from snakemap.core.documents import WORKER, WorkerEvent
from snakemap.store.store import Store

COMMAND = (sys.executable, "-m", "snakemap")
RECORDING = FOLDER / "blob_fly.jsonl"


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, with these settings and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAP_")}
    environment |= {f"SNAKEMAP_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        (*COMMAND, *arguments), env=environment, capture_output=True, text=True, timeout=60 * PATIENCE
    )


async def in_store(redis_url: str) -> list[Any]:
    store = Store(redis_url)
    entries = await store.read("0", count=10_000)
    await store.close()
    return entries


async def test_a_recording_goes_into_the_store_in_order_and_verbatim(redis_url: str) -> None:
    result = run("replay", str(RECORDING), "--speed", "max", redis_url=redis_url)
    assert result.returncode == 0, result.stderr
    assert "60 messages sent" in result.stderr
    stored = [entry for entry in await in_store(redis_url) if entry.name != WORKER]
    recorded = documents("blob_fly")
    assert [(entry.name, entry.doc) for entry in stored] == [(document.name, document.doc) for document in recorded]
    assert {entry.run for entry in stored} == {recorded[0].doc["uid"]}


async def test_a_recording_is_played_at_the_speed_that_was_asked_for(redis_url: str) -> None:
    with RECORDING.open() as lines:
        times = [json.loads(line)["t"] for line in lines]
    speed = (times[-1] - times[0]) / 1.5
    began = time.monotonic()
    assert run("replay", str(RECORDING), "--speed", f"{speed:.3f}", redis_url=redis_url).returncode == 0
    cursors = [int(entry.cursor.partition("-")[0]) for entry in await in_store(redis_url)]
    assert 1.2 < (cursors[-1] - cursors[0]) / 1000 < time.monotonic() - began


def test_a_recording_goes_to_the_broker_where_there_is_one(rabbitmq: RabbitMQ) -> None:
    result = run("replay", str(RECORDING), "--speed", "max", stomp_url=rabbitmq.stomp_url)
    assert (result.returncode, "60 messages sent" in result.stderr) == (0, True)


def test_a_broker_that_is_away_is_a_failure_in_one_line() -> None:
    url = f"stomp://me:swordfish@127.0.0.1:{free_port()}"
    result = run("--log-level", "error", "replay", str(RECORDING), stomp_url=url)
    assert result.returncode == 1
    assert result.stderr.startswith("snakemap: The broker at ")
    assert (result.stderr.count("\n"), "swordfish" in result.stderr) == (1, False)


async def test_what_comes_in_is_printed_as_it_comes(redis_url: str, tmp_path: Path) -> None:
    store = Store(redis_url)
    event = WorkerEvent.from_body({"state": "IDLE"})
    cursors = await store.append([event] * 3)
    command = (*COMMAND, "listen", "--json", "--after", cursors[0])
    with Tree(command, tmp_path, {"SNAKEMAP_REDIS_URL": redis_url}) as tree:
        tree.until(lambda: tree.said.count("\n") == 2)
        cursors += await store.append([event])
        tree.until(lambda: tree.said.count("\n") == 3)
        assert tree.end(signal.SIGINT) == 0
    assert [json.loads(line) for line in tree.said.splitlines()] == [
        {"cursor": cursor, "name": "worker", "run": "", "doc": {"state": "IDLE"}} for cursor in cursors[1:]
    ]
    await store.close()


async def test_nobody_minds_when_who_reads_what_is_printed_has_had_enough(redis_url: str) -> None:
    store = Store(redis_url)
    await store.append([WorkerEvent.from_body({"state": "IDLE"})] * 20_000)
    await store.close()
    with subprocess.Popen(
        (*COMMAND, "listen", "--after", "0"),
        env={**os.environ, "SNAKEMAP_REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"IDLE" in process.stdout.readline()
        process.stdout.close()
        assert (process.wait(30 * PATIENCE), process.stderr.read()) == (1, b"")


def test_what_is_no_cursor_is_a_mistake_of_usage(redis_url: str) -> None:
    result = run("listen", "--after", "yesterday", redis_url=redis_url)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("snakemap: --after: 'yesterday' is not a cursor")


async def test_the_doctor_is_content_when_all_is_well(redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    store = Store(redis_url)
    await store.report("ingest", {"broker": "connected", "host": "b01-1", "pid": 7}, ttl_s=60)
    await store.close()
    settings = {"redis_url": redis_url, "stomp_url": rabbitmq.stomp_url, "data_root": str(tmp_path)}
    result = run("doctor", **settings, state_dir=str(tmp_path / "state"), port=str(free_port()), api_port="0")
    assert result.returncode == 0, result.stdout
    assert "WRONG" not in result.stdout
    assert "worker: running on b01-1, process 7; its broker: connected" in result.stdout
    assert f"data root (SNAKEMAP_DATA_ROOT): {tmp_path}" in result.stdout


def test_the_doctor_needs_no_settings_and_leaves_no_server_behind(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    environment = {"SNAKEMAP_STATE_DIR": str(state_dir), "SNAKEMAP_PORT": str(free_port()), "SNAKEMAP_API_PORT": "0"}
    with Tree((*COMMAND, "doctor"), tmp_path / "tree", environment) as tree:
        assert tree.process.wait(60 * PATIENCE) == 0, tree.said
        assert tree.living() == []
    assert f"Redis (SNAKEMAP_REDIS_URL): {state_dir}/redis/sock answers, embedded (" in tree.said


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("data_root", "/nowhere", "/nowhere is not a directory; make it, or set SNAKEMAP_DATA_ROOT"),
        ("redis_url", "redis://me:swordfish@127.0.0.1:1", "Redis at 127.0.0.1:1 cannot be reached"),
        ("redis_url", "ftp://host", "SNAKEMAP_REDIS_URL: Redis URL must specify"),
        ("stomp_url", "stomp://me:swordfish@127.0.0.1:1", "The broker at 127.0.0.1:1 cannot be reached"),
        ("blueapi_url", "http://127.0.0.1:1", "does not answer"),
        ("host", "0.0.0.0", "only this machine may open them; name the hosts"),
        ("log_dir", "/dev/null", "/dev/null is not a directory that this user can write to"),
        ("state_dir", "/dev/null", "/dev/null cannot be written to"),
    ],
)
def test_the_doctor_says_how_to_mend_what_is_wrong(
    redis_url: str, tmp_path: Path, setting: str, value: str, remedy: str
) -> None:
    others = {"redis_url": redis_url, "state_dir": str(tmp_path), "port": str(free_port()), "api_port": "0"}
    result = run("doctor", **{**others, setting: value})
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert (result.returncode, len(wrong)) == (1, 1)
    assert f"SNAKEMAP_{setting.upper()}" in wrong[0] or setting == "host"
    assert remedy in wrong[0]
    assert "swordfish" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("end", "destination", "name"),
    [
        ("/nowhere", "/topic/x", "broker (SNAKEMAP_STOMP_URL)"),
        ("", "/exchange/nowhere", "destination (SNAKEMAP_STOMP_DESTINATION)"),
        ("", "/topic/x", ""),
    ],
)
def test_the_doctor_tells_what_a_real_broker_refuses(
    redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path, end: str, destination: str, name: str
) -> None:
    settings = {"redis_url": redis_url, "state_dir": str(tmp_path), "port": str(free_port()), "api_port": "0"}
    settings |= {"stomp_url": f"{rabbitmq.stomp_url}{end}", "stomp_destination": destination}
    result = run("doctor", **settings)
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert [line.removeprefix("WRONG  ").partition(": ")[0] for line in wrong] == ([name] if name else [])
    assert all("refuses us" in line for line in wrong)


def test_the_doctor_tells_how_a_redis_would_lose_documents(tmp_path: Path) -> None:
    options = "--appendonly no --maxmemory 50mb --maxmemory-policy allkeys-lru"
    with OwnRedis(tmp_path / "redis", options) as server:
        settings = {"redis_url": server.url, "state_dir": str(tmp_path), "port": str(free_port()), "api_port": "0"}
        result = run("doctor", "--json", **settings)
    told = json.loads(result.stdout)
    found = {(finding["mark"], finding["name"]): finding["text"] for finding in told["findings"]}
    assert (result.returncode, told["well"]) == (1, False)
    assert "set `maxmemory-policy noeviction`" in found["wrong", "Redis"]
    assert "when it is killed all documents are lost" in found["note", "Redis"]
    assert "raise its maxmemory, or set SNAKEMAP_DOCUMENTS_MAX to 7" in found["wrong", "capacity"]
    assert found["ok", "clock"] == "agrees with that of Redis"
