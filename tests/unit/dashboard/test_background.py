from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from bokeh.document import Document

from snakemap.dashboard.background import BackgroundTasks
from snakemap.errors import FileBroken, SnakemapError


class Ticks:
    """A document that soon calls what is registered for its next tick."""

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


async def test_a_newer_task_of_a_kind_makes_the_older_ones_worthless(background: BackgroundTasks) -> None:
    results: list[int] = []
    asked: list[int] = []
    gate = asyncio.Event()

    async def work(number: int) -> int:
        asked.append(number)
        await gate.wait()
        return number

    for number in range(5):
        background.run("read", lambda number=number: work(number), results.append, failed=fail)
        await rest()
    background.run("other", lambda: work(9), results.append, failed=fail)
    gate.set()
    await rest()
    assert asked == [0, 9, 4]
    assert sorted(results) == [4, 9]


async def test_errors_are_passed_on_and_the_next_task_runs(
    background: BackgroundTasks, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[Any] = []

    async def broken(error: Exception) -> None:
        raise error

    background.run("read", lambda: broken(FileBroken("it is broken")), results.append, failed=results.append)
    await rest()
    background.run("read", lambda: broken(ZeroDivisionError()), results.append, failed=results.append)
    await rest()
    assert isinstance(results[0], FileBroken)
    assert "see the log" in str(results[1])
    assert "ZeroDivisionError" in caplog.text
    background.run("read", lambda: cast(Any, asyncio.sleep(0, "fine")), results.append, failed=fail)
    await rest()
    assert results[2] == "fine"


async def test_nothing_comes_of_it_when_it_is_forgotten_or_the_tab_is_gone(background: BackgroundTasks) -> None:
    results: list[int] = []
    gate = asyncio.Event()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    background.run("read", lambda: work(1), results.append, failed=fail)
    background.run("find", lambda: work(2), results.append, failed=fail)
    await rest()
    background.forget("find")
    background.close()
    gate.set()
    await rest()
    background.run("read", lambda: work(3), results.append, failed=fail)
    await rest()
    assert results == []


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
