"""The store's contract, with a real Redis: order, cursors, late readers, eviction, and Redis going away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis
from tests.support.patience import PATIENCE, patiently
from tests.support.rabbitmq import free_port

from snakemap.core.documents import Document, Entry, WorkerEvent
from snakemap.errors import (
    CursorError,
    DocumentError,
    FrameError,
    RunNotFound,
    SettingsError,
    StoreRefuses,
    StoreUnavailable,
)
from snakemap.store import redis_connection, redis_stream
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store

DEADLINE_S = 20.0


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """A store that is empty."""
    store = Store(redis_url)
    yield store
    await store.close()


@pytest.fixture
async def small(redis_url: str) -> AsyncIterator[Store]:
    """A store that is empty and has room for ten documents."""
    store = Store(redis_url, documents_max=10)
    yield store
    await store.close()


def started(run: str, **more: Any) -> Document:
    return Document("start", {"uid": run, "time": 1.5, **more}, run=run, task_id="task")


def datum(run: str, number: int) -> Document:
    return Document("stream_datum", {"uid": f"{run}/{number}", "number": number}, run=run, task_id="task")


def worker(state: str) -> WorkerEvent:
    return WorkerEvent.from_body({"state": state, "task_status": {"task_id": "task"}})


def run_of(uid: str, size: int) -> list[Document]:
    """A run of ``size`` documents."""
    return [started(uid), *(datum(uid, number) for number in range(1, size))]


async def everything(store: Store, after: str = "0") -> list[Entry]:
    entries: list[Entry] = []
    while batch := await store.read(entries[-1].cursor if entries else after):
        entries += batch
    return entries


async def of_run(store: Store, uid: str, *, after: str = "0", count: int = 1000) -> list[Entry]:
    return [entry async for batch in store.run_entries(uid, after=after, count=count) for entry in batch]


async def followed(store: Store, after: str, number: int, *, block_ms: int = 50) -> list[Entry]:
    """The next ``number`` entries that a follower sees."""
    entries: list[Entry] = []
    async with patiently(DEADLINE_S), aclosing(store.follow(after, block_ms=block_ms)) as batches:
        async for batch in batches:
            entries += batch
            if len(entries) >= number:
                break
    return entries


def numbers(cursors: Sequence[str]) -> list[tuple[int, ...]]:
    return [tuple(int(part) for part in cursor.split("-")) for cursor in cursors]


async def test_what_goes_in_comes_out_verbatim_and_in_order(store: Store) -> None:
    sent = [started("a", plan_name="σ-scan", nested={"list": [1, 2.5, None, True]}), worker("RUNNING"), datum("a", 1)]
    cursors = await store.append(sent)
    entries = await store.read()
    assert [entry.cursor for entry in entries] == cursors
    assert [entry.name for entry in entries] == ["start", "worker", "stream_datum"]
    assert [entry.run for entry in entries] == ["a", "", "a"]
    assert [entry.task_id for entry in entries] == ["task", "task", "task"]
    assert entries[0].doc == sent[0].doc  # type: ignore[union-attr]
    assert entries[1].doc == {"state": "RUNNING", "task_status": {"task_id": "task"}}
    assert entries[2].document == sent[2]


async def test_cursors_grow_within_a_batch_and_from_batch_to_batch(store: Store) -> None:
    cursors = [cursor for _ in range(5) for cursor in await store.append(run_of("a", 50))]
    assert numbers(cursors) == sorted(set(numbers(cursors)))


async def test_a_document_without_a_task_has_none_when_it_comes_back(store: Store) -> None:
    await store.append([Document("start", {"uid": "a", "time": 1}, run="a")])
    assert (await store.read())[0].task_id is None


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    assert await store.append([]) == []
    assert await store.latest() == "0-0"


async def test_a_large_batch_is_cut_up_and_stays_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_stream, "BATCH_ENTRIES", 7)
    monkeypatch.setattr(redis_stream, "BATCH_BYTES", 500)
    large = Document("event", {"uid": "large", "text": "x" * 2000}, run="a")
    sent = [*run_of("a", 100), large, *run_of("b", 20)]
    cursors = await store.append(sent)
    entries = await everything(store)
    assert [entry.cursor for entry in entries] == cursors
    assert [entry.doc for entry in entries] == [document.doc for document in sent]


async def test_a_document_that_is_no_json_keeps_the_whole_batch_out(store: Store) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(DocumentError, match="a stream_datum that cannot be written as JSON"):
        await store.append([started("a"), Document("stream_datum", {"deep": deep}, run="a")])
    assert await store.latest() == "0-0"


async def test_numbers_of_numpy_are_numbers(store: Store) -> None:
    await store.append([Document("event_page", {"seq_num": np.arange(3), "sum": np.uint64(2**63)}, run="a")])
    assert (await store.read())[0].doc == {"seq_num": [0, 1, 2], "sum": 2**63}


async def test_reading_goes_on_after_a_cursor_and_never_beyond_the_count_or_the_end(store: Store) -> None:
    cursors = await store.append(run_of("a", 10))
    assert [entry.cursor for entry in await store.read(cursors[3], count=4)] == cursors[4:8]
    assert [entry.cursor for entry in await store.read(cursors[3], until=cursors[5])] == cursors[4:6]
    assert await store.read(cursors[-1]) == []


async def test_latest_is_the_last_cursor(store: Store) -> None:
    assert await store.latest() == "0-0"
    cursors = await store.append(run_of("a", 3))
    assert await store.latest() == cursors[-1]


@pytest.mark.parametrize("cursor", ["", "x", "-", "+", "$", "1-", "1-2-3", "-1", "1.5", "٣", "9" * 20, "1 "])
async def test_what_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(CursorError, match="is not a cursor"):
        await store.read(cursor)
    with pytest.raises(CursorError):
        await anext(store.follow(cursor))


async def test_a_follower_that_comes_late_sees_all_from_the_beginning_and_then_what_is_new(store: Store) -> None:
    early = await store.append(run_of("a", 30))
    following = asyncio.create_task(followed(store, "0", 60))
    late = await store.append(run_of("b", 30))
    assert [entry.cursor for entry in await following] == early + late


async def test_a_follower_begins_after_its_cursor(store: Store) -> None:
    cursors = await store.append(run_of("a", 10))
    assert [entry.cursor for entry in await followed(store, cursors[6], 3)] == cursors[7:]


async def test_a_follower_of_a_quiet_store_hears_that_it_is_quiet(store: Store) -> None:
    async with patiently(DEADLINE_S), aclosing(store.follow("0", block_ms=20)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == []
        cursors = await store.append([started("a")])
        assert [entry.cursor for entry in await anext(batches)] == cursors


async def test_a_slow_follower_gets_everything_in_bounded_batches(store: Store) -> None:
    cursors = await store.append(run_of("a", 1000))
    seen: list[str] = []
    async with aclosing(store.follow("0", count=64)) as batches:
        async for batch in batches:
            assert 0 < len(batch) <= 64
            seen += [entry.cursor for entry in batch]
            cursors += await store.append([datum("a", 1)]) if len(cursors) < 1010 else []
            if len(seen) == len(cursors):
                break
    assert seen == cursors


async def test_two_followers_and_two_writers_agree_on_one_order(store: Store, redis_url: str) -> None:
    other = Store(redis_url)

    async def write(into: Store, run: str) -> None:
        for document in run_of(run, 100):
            await into.append([document])

    first, second = (asyncio.create_task(followed(reader, "0", 200)) for reader in (store, other))
    await asyncio.gather(write(store, "a"), write(other, "b"))
    assert await first == await second == await everything(store)
    for run in "ab":
        assert [entry.document for entry in await first if entry.run == run] == run_of(run, 100)
    await other.close()


async def test_a_follower_that_is_cancelled_leaves_no_connection_behind(store: Store, redis_url: str) -> None:
    following = asyncio.create_task(followed(store, "0", 1, block_ms=60_000))
    with redis.Redis.from_url(redis_url) as client:
        async with patiently(DEADLINE_S):
            while not any(row["cmd"] == "xread" for row in client.client_list()):
                await asyncio.sleep(0.01)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        async with patiently(DEADLINE_S):
            while any(row["cmd"] == "xread" for row in client.client_list()):
                await asyncio.sleep(0.01)
    assert await store.append([started("a")])


async def test_the_entries_of_a_run_come_without_those_between_them(store: Store) -> None:
    both = [document for pair in zip(run_of("a", 20), run_of("b", 20), strict=True) for document in pair]
    await store.append([worker("RUNNING"), *both, worker("IDLE")])
    assert [entry.document for entry in await of_run(store, "a", count=3)] == run_of("a", 20)
    assert [entry.document for entry in await of_run(store, "b")] == run_of("b", 20)


async def test_the_entries_of_a_run_can_be_asked_for_after_a_cursor(store: Store) -> None:
    cursors = await store.append(run_of("a", 10))
    assert [entry.cursor for entry in await of_run(store, "a", after=cursors[4])] == cursors[5:]
    assert await of_run(store, "a", after=cursors[-1]) == []


async def test_the_entries_of_a_run_end_with_what_was_there_when_asked(store: Store) -> None:
    cursors = await store.append(run_of("a", 4))
    seen: list[str] = []
    async for batch in store.run_entries("a", count=2):
        seen += [entry.cursor for entry in batch]
        await store.append([datum("a", 9)])
    assert seen == cursors


async def test_the_entries_of_a_run_can_end_before_its_last(store: Store) -> None:
    cursors = await store.append(run_of("a", 6))

    async def up_to(until: str, **more: Any) -> list[str]:
        batches = store.run_entries("a", until=until, count=2, **more)
        return [entry.cursor async for batch in batches for entry in batch]

    assert await up_to(cursors[3]) == cursors[:4]
    assert await up_to(cursors[3], after=cursors[1]) == cursors[2:4]
    assert await up_to(f"{2**63}-0") == cursors
    assert await up_to("1-0") == []
    with pytest.raises(CursorError):
        await up_to("yesterday")


async def test_the_entries_of_an_unknown_run_are_not_found(store: Store) -> None:
    with pytest.raises(RunNotFound, match="'nobody'"):
        await of_run(store, "nobody")


async def test_owners_are_the_documents_that_others_refer_to(store: Store) -> None:
    named = [
        Document("descriptor", {"uid": "d", "run_start": "a"}, run="a"),
        Document("stream_resource", {"uid": "s"}, run="a"),
        Document("resource", {"uid": "r"}, run="a"),
        Document("event", {"uid": "e"}, run="a"),
        Document("stop", {"uid": "z"}, run="a"),
    ]
    await store.append([started("a"), *named, started("b")])
    assert await store.owners() == {"a": "a", "d": "a", "s": "a", "r": "a", "b": "b"}


async def test_a_summary_is_kept_and_replaced(store: Store) -> None:
    await store.append([started("a")])
    await store.save_summary("a", {"uid": "a", "status": "running", "expected": None})
    await store.save_summary("a", {"uid": "a", "status": "complete", "expected": 63})
    assert await store.summary("a") == {"uid": "a", "status": "complete", "expected": 63}


async def test_an_unknown_run_has_no_summary(store: Store) -> None:
    with pytest.raises(RunNotFound):
        await store.summary("nobody")


async def test_summaries_come_the_newest_first_in_the_order_in_which_the_runs_came(store: Store) -> None:
    assert await store.summaries() == []
    for run in "bacd":
        await store.append([started(run)])
    for run in "abcd":
        await store.save_summary(run, {"uid": run})
    assert [summary["uid"] for summary in await store.summaries()] == ["d", "c", "a", "b"]
    assert [summary["uid"] for summary in await store.summaries(count=2)] == ["d", "c"]
    assert await store.summaries(count=0) == []


async def test_a_run_that_has_only_just_begun_is_not_in_the_list_yet(store: Store) -> None:
    await store.append([started("a")])
    assert await store.summaries() == []


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "uint64", "float32", "float64", "bool"])
async def test_a_frame_comes_back_as_it_was(store: Store, dtype: str) -> None:
    frame = np.arange(12).reshape(3, 4).astype(dtype)
    await store.save_frame("a", frame[:, ::2], about={"seq_num": 7, "name": "a:b"})
    found = await store.frame("a")
    assert found is not None
    assert found[0].dtype == np.dtype(dtype)
    assert np.array_equal(found[0], frame[:, ::2])
    assert not found[0].flags.writeable
    assert found[1] == {"seq_num": 7, "name": "a:b"}


async def test_a_run_without_a_frame_has_none(store: Store) -> None:
    assert await store.frame("a") is None


async def test_a_frame_expires(store: Store, redis_url: str) -> None:
    await store.save_frame("a", np.zeros((2, 2)), about={})
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < int(client.ttl("snakemap:frame:a")) <= 86_400  # type: ignore[arg-type]


async def test_a_frame_of_objects_is_refused(store: Store) -> None:
    with pytest.raises(FrameError, match="object"):
        await store.save_frame("a", np.array([object()]), about={})


async def test_a_report_is_heard_until_it_expires(store: Store) -> None:
    await store.report("ingest", {"queue": 3}, ttl_s=60)
    await store.report("simulator", {"points": 1}, ttl_s=0.05)
    assert (await store.reports())["ingest"] == {"queue": 3}
    async with patiently(DEADLINE_S):
        while "simulator" in await store.reports():
            await asyncio.sleep(0.01)
    assert await store.reports() == {"ingest": {"queue": 3}}


async def test_nobody_reports_to_an_empty_store(store: Store) -> None:
    assert await store.reports() == {}


async def test_a_lease_is_one_holders_until_it_expires_or_is_given_back(store: Store) -> None:
    assert await store.lease("ingest", "host:1", 60)
    assert await store.lease("ingest", "host:1", 60)
    assert not await store.lease("ingest", "host:2", 60)
    assert await store.holder("ingest") == "host:1"
    await store.release("ingest", "host:2")
    assert await store.holder("ingest") == "host:1"
    await store.release("ingest", "host:1")
    assert await store.holder("ingest") is None
    assert await store.lease("ingest", "host:2", 0.05)
    async with patiently(DEADLINE_S):
        while not await store.lease("ingest", "host:3", 60):
            await asyncio.sleep(0.01)


async def test_a_dead_holder_is_replaced_at_once_and_only_by_one(store: Store) -> None:
    assert await store.lease("ingest", "host:1", 60)
    answers = await asyncio.gather(
        *(store.lease("ingest", f"host:{number}", 60, instead_of="host:1") for number in range(2, 6))
    )
    assert sorted(answers) == [False, False, False, True]


async def ended(store: Store, uid: str, size: int, *, status: str = "complete") -> None:
    """Appends a run and its summary."""
    await store.append(run_of(uid, size))
    await store.save_summary(uid, {"uid": uid, "status": status})


async def test_nothing_is_evicted_while_there_is_room(small: Store) -> None:
    await ended(small, "a", 5)
    await ended(small, "b", 5)
    assert await small.evict() == []
    assert len(await everything(small)) == 10


async def test_the_oldest_runs_go_whole_until_there_is_room(small: Store, redis_url: str) -> None:
    for uid in "abc":
        await ended(small, uid, 6)
        await small.save_frame(uid, np.zeros((2, 2)), about={})
    assert await small.evict() == ["a", "b"]
    assert [entry.document for entry in await everything(small)] == run_of("c", 6)
    assert [summary["uid"] for summary in await small.summaries()] == ["c"]
    assert await small.owners() == {"c": "c"}
    with pytest.raises(RunNotFound):
        await of_run(small, "a")
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys("snakemap:*")
        assert [key for key in keys if key.endswith((b":a", b":b"))] == []  # type: ignore[union-attr]


async def test_a_running_run_is_never_evicted_and_what_ended_before_and_after_it_is(small: Store) -> None:
    await ended(small, "before", 6)
    await ended(small, "long", 20, status="running")
    await ended(small, "after", 6)
    assert await small.evict() == ["before", "after"]
    assert [entry.document for entry in await everything(small)] == run_of("long", 20)


async def test_a_run_that_has_no_summary_yet_counts_as_running(small: Store) -> None:
    await small.append(run_of("a", 20))
    assert await small.evict() == []


async def test_a_run_between_whose_entries_another_lies_goes_without_it(small: Store) -> None:
    pairs = zip(run_of("going", 8), run_of("staying", 8), strict=True)
    await small.append([document for pair in reversed(list(pairs)) for document in reversed(pair)])
    await small.save_summary("staying", {"status": "running"})
    await small.save_summary("going", {"status": "aborted"})
    assert await small.evict() == ["going"]
    assert [entry.run for entry in await everything(small)] == ["staying"] * 8
    assert len(await of_run(small, "staying")) == 8


async def test_no_more_runs_go_than_must(small: Store) -> None:
    await ended(small, "pinned", 4, status="running")
    for uid in "abc":
        await ended(small, uid, 4)
    assert await small.evict() == ["a", "b"]
    assert {entry.run for entry in await everything(small)} == {"pinned", "c"}


async def test_a_run_that_ended_long_ago_goes_even_if_there_is_room(redis_url: str) -> None:
    store = Store(redis_url, keep_days=1)
    await ended(store, "old", 3)
    await ended(store, "deserted", 3, status="running")
    await store.append([worker("IDLE")])
    backdate(redis_url, days=2)
    await ended(store, "new", 3)
    assert await store.evict() == ["old", "deserted"]
    assert [entry.run for entry in await everything(store)] == ["new"] * 3
    await store.close()


async def test_worker_events_without_any_run_go_too(small: Store) -> None:
    await small.append([worker("IDLE")] * 50)
    assert await small.evict() == []
    assert len(await everything(small)) == 10


async def test_a_document_that_comes_after_its_run_has_gone_does_not_stay_for_ever(redis_url: str) -> None:
    store = Store(redis_url, documents_max=10)
    await store.append([datum("gone", 7)])
    backdate(redis_url, days=0.1)
    await ended(store, "a", 10)
    assert await store.evict() == ["gone"]
    assert len(await everything(store)) == 10
    await store.close()


def backdate(url: str, *, days: float) -> None:
    """Makes everything in the store that much older."""
    earlier = int((time.time() - days * 86_400) * 1000)
    with redis.Redis.from_url(url) as client:
        rows: Any = client.xrange("snakemap:documents")
        client.delete("snakemap:documents")
        renamed = {cursor: f"{earlier}-{number}" for number, (cursor, _) in enumerate(rows)}
        for cursor, fields in rows:
            client.xadd("snakemap:documents", fields, id=renamed[cursor])
        for key in list(client.scan_iter("snakemap:run:*")):
            ends: Any = client.hmget(key, "first", "last")
            client.hset(key, mapping={"first": renamed[ends[0]], "last": renamed[ends[1]]})


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with a Redis of its own that may be killed; it restarts by itself."""
    with EmbeddedRedis(tmp_path) as url:
        store = Store(url)
        yield store
        await store.close()


def kill_redis(tmp_path: Path) -> None:
    for process in psutil.process_iter(["cwd", "name"]):
        if process.info["cwd"] == str(tmp_path / "redis") and process.info["name"] == "redis-server":
            process.kill()
            process.wait(timeout=10 * PATIENCE)


async def test_a_redis_that_is_killed_and_comes_back_has_lost_nothing(mortal: Store, tmp_path: Path) -> None:
    cursors = await mortal.append(run_of("a", 500))
    await mortal.save_summary("a", {"status": "running"})
    kill_redis(tmp_path)
    async with patiently(DEADLINE_S):
        cursors += await stubborn_append(mortal, [datum("a", 500)])
    assert [entry.cursor for entry in await of_run(mortal, "a")] == cursors
    assert await mortal.summary("a") == {"status": "running"}
    assert await mortal.owners() == {"a": "a"}


async def test_a_follower_is_told_when_redis_dies_and_goes_on_from_its_cursor(mortal: Store, tmp_path: Path) -> None:
    cursors = await mortal.append(run_of("a", 10))
    batches = mortal.follow("0", block_ms=30_000)
    async with patiently(DEADLINE_S):
        seen = await anext(batches)
        kill_redis(tmp_path)
        with pytest.raises(StoreUnavailable):
            await anext(batches)
        cursors += await stubborn_append(mortal, [datum("a", 10)])
        seen += await followed(mortal, seen[-1].cursor, 1)
    assert [entry.cursor for entry in seen] == cursors


async def test_a_follower_that_waits_is_told_at_once_when_redis_dies(mortal: Store, tmp_path: Path) -> None:
    following = asyncio.create_task(followed(mortal, "0", 1, block_ms=600_000))
    await mortal.append([started("a")])
    assert len(await following) == 1
    following = asyncio.create_task(followed(mortal, await mortal.latest(), 1, block_ms=600_000))
    kill_redis(tmp_path)
    with pytest.raises(StoreUnavailable):
        await following


async def stubborn_append(store: Store, documents: list[Document]) -> list[str]:
    """Appends as the worker does: again and again until Redis is back."""
    while True:
        try:
            return await store.append(documents)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def test_a_store_whose_redis_is_not_there_says_so_promptly_and_without_the_password() -> None:
    port = free_port()
    store = Store(f"redis://me:secret@127.0.0.1:{port}/0?client_name=secret")
    began = time.monotonic()
    for attempt in (
        store.ping(),
        store.append([started("a")]),
        store.read(),
        anext(store.follow("0")),
        store.summaries(),
        store.evict(),
        store.report("ingest", {}, ttl_s=1),
        store.lease("ingest", "host:1", 1),
    ):
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/0") as told:
            await attempt
        assert "secret" not in str(told.value)
    assert time.monotonic() - began < 5 * PATIENCE
    await store.close()


async def test_a_redis_that_is_silent_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "ANSWER_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never a word from them
        store = Store(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            await store.ping()
        await store.close()


async def test_a_wrong_password_is_told_as_such(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "right")
        store = Store(f"{redis_url}?password=wrong")
        try:
            with pytest.raises(StoreUnavailable, match="refuses the user or password") as refused:
                await store.ping()
            assert "wrong" not in str(refused.value)
        finally:
            client.config_set("requirepass", "")
            await store.close()


async def test_a_redis_that_is_full_is_unavailable_and_then_well_again(store: Store, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreRefuses, match="is full: new documents wait in the broker; raise its maxmemory"):
                await store.append([started("a")])
        finally:
            client.config_set("maxmemory", "0")
    assert len(await store.append([started("a")])) == 1


@pytest.mark.parametrize("url", ["", "http://host", "host:6379", "redis://host:notaport"])
def test_a_url_that_redis_does_not_know_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="SNAKEMAP_REDIS_URL"):
        Store(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://me:secret@host:6379/2", "host:6379/2"),
        ("rediss://:secret@host", "host:6379"),
        ("redis://[::1]:7000/0", "[::1]:7000/0"),
        ("unix:///run/a%20b/sock?password=secret", "/run/a b/sock"),
    ],
)
def test_the_address_tells_where_redis_is_and_no_password(url: str, address: str) -> None:
    assert Store(url).address == address


async def test_a_reader_whose_cancellation_was_forgotten_gets_no_further_entries(store: Store) -> None:
    got: list[int] = []
    waiting = asyncio.Event()

    async def read() -> None:
        async with aclosing(store.follow("0", block_ms=20)) as batches:
            async for entries in batches:
                got.append(len(entries))
                waiting.set()
                with contextlib.suppress(asyncio.CancelledError):  # as redis-py may
                    await asyncio.sleep(3600)

    reading = asyncio.create_task(read())
    async with patiently(DEADLINE_S):
        await waiting.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert len(got) == 1
