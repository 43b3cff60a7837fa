"""A Redis that was emptied or restored while others had read of it: worker, pages and API fold what it has now."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from tests.support import scans
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, maps_of_frames, write_frames
from tests.support.own_redis import OwnRedis
from tests.support.patience import patiently

from snakemap.core.documents import Document
from snakemap.core.geometry import ScanDefaults
from snakemap.errors import StoreRewound, StoreUnavailable
from snakemap.live.event_filter import EventFilter
from snakemap.live.event_index import EventIndex
from snakemap.live.run_cache import RunCache
from snakemap.live.run_follower import RunFollower
from snakemap.render.export import MapFormat
from snakemap.store.store import Store, StreamPosition

FUTURE_MS = 9_000_000_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis that writes a snapshot when it is asked to, and has nothing else when it starts."""
    with OwnRedis(tmp_path / "redis", options="--dbfilename dump.rdb") as server:
        yield server


@pytest.fixture
async def store(server: OwnRedis) -> AsyncIterator[Store]:
    store = Store(server.url)
    yield store
    await store.close()


def saved(server: OwnRedis, directory: Path) -> Path:
    """A copy of all that Redis has now."""
    with redis.Redis.from_url(server.url) as client:
        client.save()
    return Path(shutil.copy(directory / "redis" / "dump.rdb", directory / "backup.rdb"))


async def restore(server: OwnRedis, store: Store, backup: Path | None, directory: Path) -> None:
    """Kills Redis and starts it with a backup, or with nothing."""
    server.kill()
    (directory / "redis" / "dump.rdb").unlink(missing_ok=True)
    if backup is not None:
        shutil.copy(backup, directory / "redis" / "dump.rdb")
    await asyncio.to_thread(server.start)
    await until(lambda: answers(store))


async def answers(store: Store) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with patiently(10):
        while not await condition():
            await asyncio.sleep(0.01)


async def becomes(condition: Callable[[], object]) -> None:
    async with patiently(10):
        while not condition():
            await asyncio.sleep(0.01)


async def put_ahead(server: OwnRedis) -> None:
    """Makes the cursors of a store lie far ahead, as those of a Redis whose clock was wrong do."""
    with redis.Redis.from_url(server.url) as client:
        fields: dict[Any, Any] = {"name": "worker", "run": "", "task": "", "doc": "{}"}
        client.xadd("snakemap:documents", fields, id=f"{FUTURE_MS}-0")


async def flush(server: OwnRedis, store: Store, backup: Path | None, directory: Path) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


LOSSES = [pytest.param(flush, id="FLUSHALL"), pytest.param(restore, id="restart")]
Loss = Callable[[OwnRedis, Store, Path | None, Path], Awaitable[None]]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("lose", LOSSES)
async def test_a_follower_is_told_before_it_gets_anything_of_another_life(
    server: OwnRedis, store: Store, tmp_path: Path, lose: Loss, ahead: bool
) -> None:
    await store.append(scans.documents(Scan("old"), points=3))
    if ahead:
        await put_ahead(server)
    place, seen = StreamPosition("0"), []

    async def follow() -> None:
        async with aclosing(store.follow(place, block_ms=50)) as batches:
            async for entries in batches:
                seen.extend(entry.run for entry in entries)
                if entries:
                    await lose(server, store, None, tmp_path)
                    await store.append(scans.documents(Scan("new"), points=3))

    with pytest.raises(StoreUnavailable) as lost:
        await follow()
    if not isinstance(lost.value, StoreRewound):  # the connection was lost first
        with pytest.raises(StoreRewound, match="emptied or restored"):
            await follow()
    assert set(seen) <= {"old", ""}


async def test_a_backup_of_the_same_life_is_noticed_although_newer_entries_have_come(
    server: OwnRedis, store: Store, tmp_path: Path
) -> None:
    await store.append(scans.documents(Scan("old"), points=3))
    backup = saved(server, tmp_path)
    (last,) = await store.append([Document("start", {"uid": "lost", "time": 1.0}, run="lost")])
    place = StreamPosition(last, read=True)
    await store.check(place)
    await restore(server, store, backup, tmp_path)
    await store.append([Document("start", {"uid": "new", "time": 1.0}, run="new")])
    with pytest.raises(StoreRewound):
        await store.check(place)
    place = StreamPosition(await store.latest(), read=True)
    await store.check(place)
    await restore(server, store, saved(server, tmp_path), tmp_path)
    await store.check(place)


@pytest.mark.parametrize("lose", LOSSES)
async def test_pages_show_what_the_store_has_now(server: OwnRedis, store: Store, tmp_path: Path, lose: Loss) -> None:
    await store.append(scans.documents(Scan("kept"), points=3))
    await store.save_summary("kept", {"uid": "kept", "status": "running"})
    backup = saved(server, tmp_path)
    await store.append(scans.documents(Scan("kept"), points=5)[-2:])
    await store.append(scans.documents(Scan("lost"), points=4))
    await put_ahead(server)
    live = RunFollower(store)
    live.start()
    try:
        live.watch("tab", lambda: None)
        await becomes(lambda: live.newest == "kept" and live.runs["kept"].points == 5)
        lost = await live.open("lost")
        assert lost.points == 4
        before = live.runs["kept"]
        past = await live.past.run_at("kept", FUTURE_MS)
        assert past.points == 5
        await lose(server, store, backup, tmp_path)
        kept = 3 if lose is restore else 0
        await becomes(lambda: "lost" not in live.runs and (("kept" in live.runs) == bool(kept)))
        if kept:
            await becomes(lambda: live.newest == "kept" and live.runs["kept"] is not before)
            assert live.runs["kept"].points == (await live.past.run_at("kept", FUTURE_MS)).points == 3
        # cursors of the new life lie before those of the old one
        await store.append(scans.documents(Scan("lost"), points=2))
        await store.save_summary("lost", {"uid": "lost", "status": "running"})  # as a worker does
        await becomes(lambda: live.newest == "lost" and live.runs["lost"].points == 2)
        assert live.runs["lost"] is not lost
    finally:
        await live.close()


async def test_the_log_lists_what_the_store_has_now(server: OwnRedis, store: Store, tmp_path: Path) -> None:
    await store.append(scans.documents(Scan("old"), points=3))
    backup = saved(server, tmp_path)
    await store.append(scans.documents(Scan("lost"), points=3))
    await put_ahead(server)
    chronicle = EventIndex(store)
    try:
        chronicle.watch("tab", lambda: None)
        await becomes(lambda: chronicle.loaded)
        assert set(chronicle.runs) == {"old", "lost"}
        chronicle.select(EventFilter())
        await restore(server, store, backup, tmp_path)
        await becomes(lambda: chronicle.lives == 2 and chronicle.loaded)
        assert set(chronicle.runs) == {"old"}
        selection = chronicle.select(EventFilter())
        await store.append([Document("start", {"uid": "new", "time": 1.0}, run="new")])
        await becomes(lambda: "new" in chronicle.runs)
        await becomes(lambda: selection.stop - selection.start == chronicle.stop - chronicle.start)
        runs = [row.run for row in chronicle.rows(selection, selection.start, selection.stop)]
        assert runs == ["old"] * 7 + ["new"]
    finally:
        await chronicle.close()


@pytest.mark.parametrize("lose", LOSSES)
async def test_the_api_folds_what_the_store_has_now(server: OwnRedis, store: Store, tmp_path: Path, lose: Loss) -> None:
    await store.append(scans.documents(Scan("run"), points=2))
    backup = saved(server, tmp_path)
    await store.append(scans.documents(Scan("run"), points=6)[-4:])
    folds = RunCache(store, defaults=ScanDefaults())
    assert (await folds.run("run")).points == 6
    written = await folds.maps("run", MapFormat.JSON)
    await lose(server, store, backup, tmp_path)
    if lose is flush:
        await store.append(scans.documents(Scan("run"), points=2))
    assert (await folds.run("run")).points == 2
    assert (await folds.maps("run", MapFormat.JSON)).body != written.body
    await store.append(scans.documents(Scan("run"), points=3)[-1:])
    assert (await folds.run("run")).points == 3


async def test_a_worker_takes_everything_up_from_a_backup(server: OwnRedis, tmp_path: Path) -> None:
    """What the backup lacks of an open run is read from its file again; new runs are seen though cursors lie behind."""
    scan, other = (Scan(uid, shape=(10, 10), frames=some_frames(100)) for uid in ("run", "other"))
    for one in (scan, other):
        one.uri = f"file://localhost/data/{one.uid}.h5"
        write_frames(tmp_path / f"{one.uid}.h5", one.frames)
    async with Lab(server.url, root=tmp_path) as lab, lab.worker():
        await lab.append(*scan.whole()[:20], run="run")
        await lab.until_points("run", 10)
        backup = saved(server, tmp_path)
        await lab.append(*scan.whole()[20:60], run="run")
        await lab.until_points("run", 50)
        await put_ahead(server)
        await asyncio.sleep(0)
        await restore(server, lab.store, backup, tmp_path)
        await lab.until_points("run", 50)
        await lab.append(*scan.whole()[60:], run="run")
        await lab.append(*other.whole(), run="other")
        await lab.until_settled("run", "other")
        for uid in ("run", "other"):
            run = await lab.run(uid)
            np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 101)))
