"""Following the store for the tabs of a process, with a real Redis that is killed, and late comers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from tests.support.patience import patiently

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document, Entry, WorkerEvent
from snakemap.core.run import Run
from snakemap.errors import RunNotFound, StoreUnavailable
from snakemap.live import run_follower as live_module
from snakemap.live.run_follower import RunFollower
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store

DEADLINE_S = 20.0
SHAPE = (10, 10)
ROIS = {"red": (0, 1, 0, 1), "green": (1, 2, 0, 1)}
CHANNELS = (*ROIS, "total")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, shorter."""
    monkeypatch.setattr(live_module, "RETRY_S", 0.02)
    monkeypatch.setattr(live_module, "REPORTS_PERIOD_S", 0.05)
    monkeypatch.setattr(live_module, "FRAME_PERIOD_S", 0.02)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """A store that is empty."""
    store = Store(redis_url)
    yield store
    await store.close()


@asynccontextmanager
async def following(store: Store, *, period_s: float = 0.005) -> AsyncIterator[RunFollower]:
    """A Live that has caught up; none of its tasks may be left when it has been closed."""
    before = asyncio.all_tasks()
    live = RunFollower(store, period_s=period_s)
    live.start()
    try:
        async with patiently(DEADLINE_S):
            await live.ready.wait()
        yield live
    finally:
        await live.close()
        assert asyncio.all_tasks() <= before


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.005)


def begun(uid: str, **more: Any) -> list[Document]:
    """Start and descriptor of sums."""
    start = {"uid": uid, "time": 1.0, "shape": list(SHAPE), **more}
    told = derived_descriptor(Run(start), ROIS, frame_shape=(2, 2), time=1.0)
    return [Document("start", start, run=uid), Document("descriptor", told, run=uid)]


def points(uid: str, first: int, last: int) -> list[Document]:
    """A page for each point; its value is its seq_num."""
    descriptor = begun(uid)[1].doc["uid"]
    sums = [{name: [float(number)] for name in CHANNELS} for number in range(first, last + 1)]
    pages = [derived_page(descriptor, [first + n], sums[n], time=1.0) for n in range(len(sums))]
    return [Document("event_page", page, run=uid) for page in pages]


async def announce(store: Store, uid: str, *documents: Document) -> None:
    """Appends, and has the run in the list, as the worker does."""
    await store.append(documents)
    await store.save_summary(uid, {"uid": uid, "status": "running"})


def assert_points(run: Run, number: int) -> None:
    expected = Run(run.start)
    for document in (begun(run.uid)[1], *points(run.uid, 1, number)):
        expected.apply(document)
    np.testing.assert_array_equal(run.maps.grids, expected.maps.grids)
    assert run.points == number


# following


async def test_it_opens_in_mid_run_with_everything_so_far_and_follows(store: Store) -> None:
    await announce(store, "a", *begun("a"), *points("a", 1, 30))
    async with following(store) as live:
        assert live.newest == "a"
        assert_points(live.runs["a"], 30)
        await store.append(points("a", 31, 60))
        await until(lambda: live.runs["a"].points == 60)
        assert_points(live.runs["a"], 60)


async def test_it_turns_to_a_run_that_begins(store: Store) -> None:
    async with following(store) as live:
        assert live.newest is None
        for uid in ("a", "b"):
            await store.append([*begun(uid), *points(uid, 1, 5)])
            await until(lambda uid=uid: live.newest == uid and live.runs[uid].points == 5)


async def test_a_run_whose_beginning_it_came_too_late_for_is_found_in_the_list(store: Store) -> None:
    """A start document stands in the store a moment before the worker lists its run."""
    await announce(store, "old", *begun("old"))
    await store.append([*begun("a"), *points("a", 1, 5)])
    async with following(store) as live:
        assert live.newest == "old"
        live.watch("tab", lambda: None)
        await announce(store, "a", *points("a", 6, 9))
        await until(lambda: live.newest == "a")
        await store.append(points("a", 10, 12))
        await until(lambda: live.runs["a"].points == 12)
        assert_points(live.runs["a"], 12)


async def test_a_run_that_is_not_in_the_list_yet_stays_the_newest(store: Store) -> None:
    await announce(store, "old", *begun("old"))
    async with following(store) as live:
        live.watch("tab", lambda: None)
        await store.append(begun("a"))
        await until(lambda: live.newest == "a")
        await store.report("ingest", {"pid": 1}, ttl_s=60)
        await until(lambda: "ingest" in live.reports)  # it has looked at the list again
        assert live.newest == "a"


async def test_what_comes_while_a_run_is_being_opened_is_not_lost(store: Store) -> None:
    """The follower passes documents of a run that is not there yet, while it is still being read."""
    await announce(store, "a", *begun("a"), *points("a", 1, 10))
    await announce(store, "b", *begun("b"))
    written = [10, 0]

    async def goes_on() -> None:
        """Five more points of the run, and one of another by which it is seen that the follower has passed them."""
        last, others = written[0] + 5, written[1] + 1
        await store.append([*points("a", last - 4, last), *points("b", others, others)])
        written[:] = last, others
        await until(lambda: live.runs["b"].points == others)

    class Slow(Store):
        async def run_entries(self, uid: str, *, after: str = "0", until: str = "", count: int = 1000):
            async for entries in super().run_entries(uid, after=after, until=until, count=count):
                if uid == "a":
                    await goes_on()
                yield entries

    slow = Slow(store._url)
    async with following(slow) as live:
        run = await live.open("a")
        await goes_on()
        assert written[0] >= 20
        assert_points(run, written[0])
        assert live.runs["a"] is run
    await slow.close()


async def test_what_comes_between_the_opening_of_a_run_and_the_first_follow_is_not_lost(store: Store) -> None:
    """A tab opens its run while the process is still catching up."""
    await announce(store, "a", *begun("a"), *points("a", 1, 10))
    live = RunFollower(store)
    run = await live.open("a")
    await store.append(points("a", 11, 15))
    live.start()
    await until(lambda: run.points == 15)
    assert_points(run, 15)
    await live.close()


async def test_a_document_that_cannot_be_used_is_logged_and_left_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        Document("event_page", {"descriptor": begun("a")[1].doc["uid"], "seq_num": [1], "data": {"red": ["x"]}}, "a"),
        Document("descriptor", {"name": "snakemap", "uid": "u", "data_keys": {}, "configuration": None}, "a"),
    ]
    await announce(store, "a", *begun("a"), bad[0], *points("a", 1, 5))
    with caplog.at_level(logging.WARNING):
        async with following(store) as live:
            assert_points(live.runs["a"], 5)
            await store.append([*bad, WorkerEvent.from_body({"state": "IDLE"}), *points("a", 6, 9)])
            await until(lambda: live.runs["a"].points == 9)
            assert_points(live.runs["a"], 9)
    assert "sums that are not numbers" in caplog.text
    assert "has no usable ROIs" in caplog.text


async def test_documents_that_come_twice_or_too_late_change_nothing(store: Store) -> None:
    async with following(store) as live:
        await store.append([*begun("a"), *points("a", 1, 5)])
        await until(lambda: "a" in live.runs and live.runs["a"].points == 5)
        version = live.runs["a"].version
        live.fold(await store.read())
        assert live.runs["a"].version == version
        assert_points(live.runs["a"], 5)


# Redis goes away


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with a Redis of its own that may be killed; it restarts by itself."""
    with EmbeddedRedis(tmp_path) as url:
        store = Store(url)
        yield store
        await store.close()


def kill_redis(store: Store) -> None:
    with redis.Redis.from_url(store._url) as client:
        os.kill(client.info()["process_id"], signal.SIGKILL)


async def stubborn_append(store: Store, documents: list[Document]) -> None:
    """Appends as the worker does: again and again until Redis is back."""
    async with patiently(DEADLINE_S):
        while True:
            try:
                await store.append(documents)
                return
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def test_a_redis_killed_and_started_again_is_told_and_nothing_is_lost(mortal: Store) -> None:
    await announce(mortal, "a", *begun("a"), *points("a", 1, 10))
    async with following(mortal) as live:
        woken: list[float | None] = []
        live.watch("tab", lambda: woken.append(live.store_lost_since))
        run = live.runs["a"]
        for last in (20, 30):
            kill_redis(mortal)
            await until(lambda: live.store_lost_since is not None)
            await stubborn_append(mortal, points("a", last - 9, last))
            await until(lambda last=last: live.store_lost_since is None and run.points == last)
        assert_points(run, 30)
        assert live.runs["a"] is run
        await until(lambda: woken[-1] is None)
        assert any(woken)


async def test_it_starts_before_its_redis_does(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as url:
        pass
    store = Store(url)
    live = RunFollower(store)
    live.start()
    await until(lambda: live.store_lost_since is not None)
    assert not live.ready.is_set()
    with EmbeddedRedis(tmp_path) as again:
        assert again == url
        await until(live.ready.is_set)
        await announce(store, "a", *begun("a"), *points("a", 1, 5))
        await until(lambda: live.newest == "a" and live.runs["a"].points == 5)
        await live.close()
        await store.close()


# pinned runs


async def some_runs(store: Store, number: int) -> list[str]:
    uids = [f"run-{n}" for n in range(number)]
    for uid in uids:
        await announce(store, uid, *begun(uid), *points(uid, 1, 3))
    return uids


async def test_a_pinned_run_is_kept_up_to_date_until_it_is_released(store: Store) -> None:
    uids = await some_runs(store, 3)
    async with following(store) as live:
        first, again = await asyncio.gather(live.open(uids[0]), live.open(uids[0]))
        assert first is again
        for n in range(10):
            await store.append(begun(f"later-{n}"))
        await store.append(points(uids[0], 4, 6))
        await until(lambda: first.points == 6)
        assert live.runs[uids[0]] is first
        live.release(uids[0])
        assert uids[0] in live.runs
        live.release(uids[0])
        await store.append([document for n in range(10) for document in begun(f"latest-{n}")])
        await until(lambda: live.newest == "latest-9")
        assert uids[0] not in live.runs
        assert len(live.runs) == live_module.IDLE_RUNS_KEPT + 1


async def test_runs_opened_all_at_once_are_all_kept(store: Store) -> None:
    uids = await some_runs(store, 12)
    async with following(store) as live:
        runs = await asyncio.gather(*map(live.open, uids))
        await store.append(begun("newest"))
        await store.append([document for uid in uids for document in points(uid, 4, 4)])
        await until(lambda: all(run.points == 4 for run in runs))
        assert set(uids) <= set(live.runs)


async def test_a_run_that_is_not_there_is_told_and_leaves_nothing(store: Store) -> None:
    async with following(store) as live:
        with pytest.raises(RunNotFound):
            await live.open("nowhere")
        assert live._users == live._loading == live._arrived == {}


async def test_a_tab_that_leaves_while_its_run_is_opened_leaves_nothing(store: Store) -> None:
    uids = await some_runs(store, 2)
    async with following(store) as live:
        opening = asyncio.create_task(live.open(uids[0]))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not live._loading)
        assert live._users == live._arrived == {}
        assert_points(await live.open(uids[0]), 3)


# wakes


async def test_wakes_are_throttled_and_the_last_news_is_never_swallowed(store: Store) -> None:
    period_s = 0.1
    async with following(store, period_s=period_s) as live:
        woken: list[tuple[float, int]] = []
        await store.append(begun("a"))
        await until(lambda: live.newest == "a")
        live.watch("tab", lambda: woken.append((time.monotonic(), live.runs["a"].points)))
        for number in range(1, 61):
            await store.append(points("a", number, number))
        await until(lambda: woken and woken[-1][1] == 60)
        live.unwatch("tab")
    times = np.array([at for at, _ in woken])
    assert np.diff(times).min(initial=period_s) > 0.8 * period_s


async def test_a_tab_that_cannot_be_woken_does_not_keep_others_from_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no document any more")

    async with following(store) as live:
        woken: list[int] = []
        live.watch("broken", broken)
        live.watch("tab", lambda: woken.append(1))
        await store.append(begun("a"))
        await until(lambda: len(woken) > 2)
        assert live.watchers == 1
    assert "tab callback failed" in caplog.text


async def test_the_list_of_runs_and_the_reports_are_kept_while_anyone_looks(store: Store) -> None:
    async with following(store) as live:
        live.watch("tab", lambda: None)
        await announce(store, "a", *begun("a"))
        await store.report("ingest", {"broker": "connected"}, ttl_s=0.2)
        await until(lambda: live.summaries and live.reports.get("ingest") == {"broker": "connected"})
        await until(lambda: not live.reports)


# frames


async def test_the_last_frame_is_fetched_while_a_tab_shows_it_and_again_when_it_comes_back(store: Store) -> None:
    await announce(store, "a", *begun("a"), *points("a", 1, 3))
    async with following(store) as live:
        assert live.frame("a") == (None, None)
        live.show_frames_of("tab", "a")
        # a frame is saved a little later than its point, and nothing more may come
        await until(lambda: ("a", "") in live._frames_at)
        frame = np.arange(6, dtype=np.uint16).reshape(2, 3)
        await store.save_frame("a", frame, about={"seq_num": 3})
        await until(lambda: live.frame("a")[1] == 3)
        np.testing.assert_array_equal(live.frame("a")[0], frame)
        live.show_frames_of("tab", None)
        await until(lambda: live.frame("a")[0] is None)
        live.show_frames_of("tab", "a")
        await until(lambda: live.frame("a")[1] == 3)


# the end


async def test_nothing_is_left_of_it_after_close_wherever_it_was(store: Store) -> None:
    uids = await some_runs(store, 3)
    before = asyncio.all_tasks()
    for turns in range(0, 40, 6):
        live = RunFollower(store)
        live.start()
        live.start()
        opening = asyncio.create_task(live.open(uids[0]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await live.close()
        await asyncio.gather(opening, return_exceptions=True)
        gc.collect()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before


async def test_it_can_be_started_again_after_close(store: Store) -> None:
    await announce(store, "a", *begun("a"))
    live = RunFollower(store)
    for number in (1, 2):
        live.start()
        await store.append(points("a", number, number))
        await until(lambda number=number: live.newest == "a" and live.runs["a"].points == number)
        await live.close()


def test_entries_of_an_unknown_run_are_left_alone() -> None:
    live = RunFollower(Store("redis://127.0.0.1:1/0"))
    live.fold([Entry("1-1", "stop", "nobody", None, {"run_start": "nobody", "exit_status": "success"})])
    assert live.runs == {}
