from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from bokeh.document import Document

from snakemap.dashboard.background import BackgroundTasks
from snakemap.errors import FileBroken, SnakemapError


class Ticks:
    """A document that does before long what it is told to do in its next tick."""

    def __init__(self) -> None:
        self.ticks: list[asyncio.Task[None]] = []

    def add_next_tick_callback(self, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.ticks.append(asyncio.get_running_loop().create_task(callback()))


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> BackgroundTasks:
    document = Document()
    monkeypatch.setattr(document, "add_next_tick_callback", Ticks().add_next_tick_callback)
    return BackgroundTasks(document)


async def rest() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def fail(error: SnakemapError) -> None:
    raise AssertionError(error)


async def test_a_newer_errand_of_a_kind_makes_the_older_ones_worthless(background: BackgroundTasks) -> None:
    told: list[int] = []
    asked: list[int] = []
    gate = asyncio.Event()

    async def work(number: int) -> int:
        asked.append(number)
        await gate.wait()
        return number

    for number in range(5):
        background.run("read", lambda number=number: work(number), told.append, failed=fail)
        await rest()
    background.run("other", lambda: work(9), told.append, failed=fail)
    gate.set()
    await rest()
    assert asked == [0, 9, 4]
    assert sorted(told) == [4, 9]


async def test_errors_are_told_and_the_next_errand_is_done(
    background: BackgroundTasks, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    async def broken(error: Exception) -> None:
        raise error

    background.run("read", lambda: broken(FileBroken("it is broken")), told.append, failed=told.append)
    await rest()
    background.run("read", lambda: broken(ZeroDivisionError()), told.append, failed=told.append)
    await rest()
    assert isinstance(told[0], FileBroken)
    assert "see the log" in str(told[1])
    assert "ZeroDivisionError" in caplog.text
    background.run("read", lambda: cast(Any, asyncio.sleep(0, "fine")), told.append, failed=fail)
    await rest()
    assert told[2] == "fine"


async def test_nothing_comes_of_it_when_it_is_forgotten_or_the_tab_is_gone(background: BackgroundTasks) -> None:
    told: list[int] = []
    gate = asyncio.Event()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    background.run("read", lambda: work(1), told.append, failed=fail)
    background.run("find", lambda: work(2), told.append, failed=fail)
    await rest()
    background.forget("find")
    background.close()
    gate.set()
    await rest()
    background.run("read", lambda: work(3), told.append, failed=fail)
    await rest()
    assert told == []


async def test_a_result_that_comes_too_late_is_freed(background: BackgroundTasks) -> None:
    shown: list[int] = []
    freed: list[int] = []
    gate = asyncio.Event()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    for number in (1, 2):
        background.run("open", lambda number=number: work(number), shown.append, failed=fail, unused=freed.append)
        await rest()
    gate.set()
    await rest()
    assert (shown, freed) == ([2], [1])
    gate.clear()
    background.run("open", lambda: work(3), shown.append, failed=fail, unused=freed.append)
    await rest()
    background.close()
    gate.set()
    await rest()
    assert (shown, freed) == ([2], [1, 3])
