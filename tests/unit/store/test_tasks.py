"""Tests of tasks that are cancelled until they end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from snakemap.store.tasks import cancel_tasks, end_if_cancelled


async def deaf(times: int) -> int:
    """A task that swallows some cancellations."""
    swallowed = 0
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if swallowed == times:
                raise
            swallowed += 1


async def test_tasks_are_cancelled_until_they_end() -> None:
    async def nothing() -> None:
        """A task that has ended already."""

    tasks = [asyncio.create_task(deaf(0)), asyncio.create_task(deaf(2)), asyncio.create_task(nothing())]
    await asyncio.sleep(0)
    await cancel_tasks(*tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    await cancel_tasks()


async def test_a_task_that_swallowed_a_cancellation_ends_where_it_asks() -> None:
    async def work() -> None:
        end_if_cancelled()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        end_if_cancelled()
        pytest.fail("it went on")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
