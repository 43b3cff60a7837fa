"""What was recorded, or stands in the worker's log, played again: the same run, map for map."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from tests.integration.cli.test_main import run
from tests.support.lab import Lab, maps_of_frames
from tests.support.processes import Tree
from tests.support.rabbitmq import RabbitMQ
from tests.support.recordings import FOLDER, documents, frames
from typer.testing import CliRunner

from snakemap.api.app import create_app
from snakemap.cli.main import app
from snakemap.core.run import Run
from snakemap.settings import load
from snakemap.store.store import Store

POINTS = {"small_step": 63, "blob_fly": 40, "small_aborted": 21}


def uid_of(case: str) -> str:
    return documents(case)[0].doc["uid"]


def truth(case: str, run: Run) -> Any:
    """The maps by numpy alone."""
    resource = next(iter(run.ledger.resources.values()))
    own = frames(resource.uri, resource.dataset)
    return maps_of_frames(run, own, points=range(1, POINTS[case] + 1))


@asynccontextmanager
async def api(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API over a store."""
    store = Store(redis_url)
    serving = create_app(load(redis_url=redis_url), store)
    async with (
        serving.router.lifespan_context(serving),
        httpx.AsyncClient(transport=httpx.ASGITransport(serving), base_url="http://api") as client,
    ):
        yield client
    await store.close()


async def maps_of(redis_url: str, uid: str) -> dict[str, Any]:
    """The maps of a run as the API tells them, without what is another one each time."""
    async with api(redis_url) as client:
        answer = await client.get(f"/api/runs/{uid}/maps")
        assert answer.status_code == 200, answer.text
        return {key: value for key, value in answer.json().items() if key not in ("cursor", "uid")}


def play(*arguments: str, redis_url: str) -> str:
    """``snakemap replay`` into a store, as fast as can be; what it said."""
    result = run("replay", *arguments, "--speed", "max", redis_url=redis_url)
    assert result.returncode == 0, result.stderr
    return result.stderr


def flush(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


@pytest.mark.parametrize("case", ["blob_fly", "small_aborted"])
async def test_a_logged_run_gives_back_its_maps_to_a_store_that_has_lost_everything_also_without_its_file(
    redis_url: str, rabbitmq: RabbitMQ, tmp_path: Path, case: str
) -> None:
    uid, log = uid_of(case), tmp_path / "log"
    lab = Lab(redis_url, root=FOLDER, stomp_url=rabbitmq.stomp_url, log_dir=log)
    async with lab, lab.worker():
        assert lab.publisher is not None
        for line in (FOLDER / f"{case}.jsonl").read_text().splitlines():
            message = json.loads(line)
            lab.publisher.send(message["body"].encode(), correlation_id=message["headers"].get("correlation-id"))
        await lab.until_settled(uid)
        live, summary = await lab.run(uid), await lab.summary(uid)
    np.testing.assert_array_equal(live.maps.grids, truth(case, live))
    told = await maps_of(redis_url, uid)
    (file,) = log.glob(f"*.{uid}.0001.jsonl")
    assert [path.name for path in log.glob("*no-run*")]
    flush(redis_url)
    packed = file.with_name(f"{file.name}.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    play(str(packed), redis_url=redis_url)
    assert await maps_of(redis_url, uid) == told
    empty = tmp_path / "no files"
    empty.mkdir()
    lab = Lab(redis_url, root=empty, log_dir=log)
    async with lab, lab.worker():
        await lab.until_settled(uid)
        again, summary_again = await lab.run(uid), await lab.summary(uid)
    np.testing.assert_array_equal(again.maps.grids, live.maps.grids)
    for key in ("status", "points", "expected", "plan_name"):
        assert summary_again[key] == summary[key]


async def test_a_recording_is_played_beside_its_original_as_a_run_of_today_and_so_is_its_log(
    redis_url: str, tmp_path: Path
) -> None:
    case, log = "small_step", tmp_path / "log"
    recording = str(FOLDER / f"{case}.jsonl")
    lab = Lab(redis_url, root=FOLDER, log_dir=log)
    async with lab, lab.worker():
        uids = [uid_of(case)]
        play(recording, redis_url=redis_url)
        await lab.until_settled(*uids)
        for source in (recording, str(next(log.glob(f"*.{uids[0]}.*")))):
            said = play(source, "--new-uid", redis_url=redis_url)
            match = re.search(rf"run {uids[0]} was played as run (\S+)", said)
            assert match
            uids.append(match[1])
            await lab.until_settled(uids[-1])
        runs = [await lab.run(uid) for uid in uids]
        summaries = [await lab.summary(uid) for uid in uids]
    assert len(set(uids)) == 3
    for one in runs:
        np.testing.assert_array_equal(one.maps.grids, truth(case, one))
    told = [await maps_of(redis_url, uid) for uid in uids]
    assert told[1] == told[0]
    assert told[2] == told[0]
    assert [one["status"] for one in summaries] == ["complete"] * 3
    assert summaries[1]["started"] > summaries[0]["started"] + 3600
    assert [one.start.get("replay_of") for one in runs] == [None, uids[0], uids[0]]
    assert sorted(path.name.split(".")[2] for path in log.glob("*.jsonl") if "no-run" not in path.name) == sorted(uids)


def test_a_replay_that_is_interrupted_ends_cleanly(redis_url: str, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "snakemap", "replay", str(FOLDER / "small_step.jsonl"), "--speed", "0.05")
    with Tree(command, tmp_path, {"SNAKEMAP_REDIS_URL": redis_url}) as tree, redis.Redis.from_url(redis_url) as client:
        tree.until(lambda: client.xlen("snakemap:documents") > 0)
        assert tree.end(signal.SIGINT) == 130
        assert tree.living() == []
    assert re.fullmatch(r"snakemap: interrupted after \d+ messages\n", tree.said)


# listen


@pytest.fixture
def filled(redis_url: str) -> str:
    """A store with two recordings, one after the other."""
    for case in ("blob_fly", "small_aborted"):
        play(str(FOLDER / f"{case}.jsonl"), redis_url=redis_url)
    return redis_url


def heard(*arguments: str, redis_url: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["listen", "--json", *arguments], env={"SNAKEMAP_REDIS_URL": redis_url})
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_what_is_listened_to_can_be_chosen_by_run_by_name_by_cursor_and_by_number(filled: str) -> None:
    everything = heard("--once", redis_url=filled)
    assert {one["run"] for one in everything} == {"", uid_of("blob_fly"), uid_of("small_aborted")}
    own = [one for one in everything if one["run"] == uid_of("blob_fly")]
    assert len(own) == len(documents("blob_fly"))
    assert heard("--once", "--run", uid_of("blob_fly"), redis_url=filled) == own
    names = ("--name", "stop", "--name", "start")
    assert [one["name"] for one in heard("--once", *names, redis_url=filled)] == ["start", "stop"] * 2
    after = everything[9]["cursor"]
    assert heard("--once", "--after", after, redis_url=filled) == everything[10:]
    assert heard("--count", "3", "--after", after, redis_url=filled) == everything[10:13]
    assert heard("--run", uid_of("blob_fly"), "--count", "5", redis_url=filled) == own[:5]
    assert heard("--once", "--run", uid_of("blob_fly"), "--after", own[3]["cursor"], redis_url=filled) == own[4:]
    assert heard("--once", "--name", "nothing", redis_url=filled) == []


def test_the_newest_run_can_be_listened_to(filled: str) -> None:
    async def summarize() -> None:
        store = Store(filled)
        for case in ("blob_fly", "small_aborted"):
            await store.save_summary(uid_of(case), {"uid": uid_of(case), "status": "running"})
        await store.close()

    asyncio.run(summarize())
    heard_of = heard("--run", "latest", "--once", redis_url=filled)
    assert {one["run"] for one in heard_of} == {uid_of("small_aborted")}


@pytest.mark.parametrize(("asked", "words"), [("nobody", "No run 'nobody'"), ("latest", "There is no run in the")])
def test_a_run_that_is_not_there_is_a_failure_in_one_line(redis_url: str, asked: str, words: str) -> None:
    result = run("listen", "--run", asked, redis_url=redis_url)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"snakemap: {words}")
