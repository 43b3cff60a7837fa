"""The control desk in a real Redis: one holder, hand-over, audit, and one press for one task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from snakemap.blueapi.control_store import ControlStore
from snakemap.errors import StoreUnavailable
from snakemap.store.store import Store


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[ControlStore]:
    store = Store(redis_url)
    yield ControlStore(store)
    await store.close()


async def take(desk: ControlStore, tab: str, *, back: bool = False, key: str = "") -> bool:
    return await desk.take(tab, key=key or f"key of {tab}", name=f"tab {tab}", address="10.0.0.1", back=back)


async def ask(desk: ControlStore, tab: str) -> bool:
    return await desk.ask(tab, key=f"key of {tab}", name=f"tab {tab}", address="10.0.0.1")


async def holder(desk: ControlStore) -> str | None:
    held = await desk.lock()
    return held.tab if held else None


async def test_one_of_many_takes_control(desk: ControlStore) -> None:
    assert await holder(desk) is None
    assert sum(await asyncio.gather(*(take(desk, str(number)) for number in range(10)))) == 1
    held = await desk.lock()
    assert held is not None
    assert await take(desk, held.tab)
    assert (held.name, held.address, held.gone) == (f"tab {held.tab}", "10.0.0.1", False)


async def test_control_survives_a_restart_and_a_reload(desk: ControlStore, redis_url: str) -> None:
    assert await take(desk, "a", key="secret")
    before = await desk.lock()
    other = Store(redis_url)
    again = ControlStore(other)
    assert await holder(again) == "a"
    assert not await take(again, "b")
    assert await take(again, "reloaded", key="secret", back=True)
    held = await again.lock()
    assert held is not None
    assert before is not None
    assert (held.tab, held.since) == ("reloaded", before.since)
    assert not await desk.seen("a")
    await other.close()


async def test_who_comes_back_takes_nothing_that_was_not_its_own(desk: ControlStore) -> None:
    assert not await take(desk, "a", back=True)
    assert await holder(desk) is None


async def test_who_asks_has_it_when_the_holder_lets_go(desk: ControlStore) -> None:
    assert not await ask(desk, "b")
    await take(desk, "a")
    assert not await ask(desk, "a")
    assert await ask(desk, "b")
    held = await desk.lock()
    assert held is not None
    assert (held.asking, held.asking_name) == ("b", "tab b")
    assert not await desk.release("b")
    assert await desk.release("a")
    assert await holder(desk) == "b"
    assert await desk.release("b")
    assert await holder(desk) is None


async def test_the_holder_may_keep_it(desk: ControlStore) -> None:
    await take(desk, "a")
    await ask(desk, "b")
    assert not await desk.deny("b")
    assert await desk.deny("a")
    held = await desk.lock()
    assert held is not None
    assert held.asking == ""
    assert await desk.release("a")
    assert await holder(desk) is None


async def test_a_holder_that_has_gone_is_followed_by_whoever_comes(
    desk: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take(desk, "a")
    assert not await take(desk, "b")
    monkeypatch.setattr("snakemap.blueapi.control_store.GONE_S", 0.05)
    await asyncio.sleep(0.1)
    held = await desk.lock()
    assert held is not None
    assert held.gone
    assert await take(desk, "b")
    assert await holder(desk) == "b"
    assert await desk.seen("b")


async def test_the_log_tells_newest_first_what_came_of_each(desk: ControlStore) -> None:
    first = await desk.note({"who": "tab a", "what": "start", "of": "run 1"})
    await desk.note({"who": "tab b", "what": "abort"})
    await desk.note({"answers": first, "came": "task t"})
    log = await desk.audit()
    assert [(one["what"], one["came"]) for one in log] == [("abort", ""), ("start", "task t")]
    assert log[1]["of"] == "run 1"
    assert len(await desk.audit(count=1)) == 1


async def test_a_press_is_known_again(desk: ControlStore) -> None:
    assert await desk.reserve("k") is None
    assert await desk.reserve("k") == ""
    await desk.complete("k", "task t")
    assert await desk.reserve("k") == "task t"
    await desk.reserve("other")
    await desk.complete("other", "")
    assert await desk.reserve("other") is None


async def test_so_many_in_a_minute_and_no_more(desk: ControlStore) -> None:
    assert [await desk.allow("a", per_minute=2) for _ in range(3)] == [True, True, False]
    assert await desk.allow("b", per_minute=2)


async def test_what_a_task_was_started_with_is_kept(desk: ControlStore) -> None:
    assert await desk.task("t") is None
    await desk.keep_task("t", {"name": "p", "params": {"a": [1]}})
    assert await desk.task("t") == {"name": "p", "params": {"a": [1]}}


async def test_without_its_store_it_says_so() -> None:
    store = Store("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        await ControlStore(store).lock()
    await store.close()
