"""Tests of callbacks that are called at most once a period."""

from __future__ import annotations

import asyncio

import pytest

from snakemap.live.subscribers import Subscribers
from snakemap.store.tasks import cancel_tasks


async def test_subscribers_are_woken_at_once_and_then_once_a_period() -> None:
    subscribers, woken = Subscribers(period_s=0.05), []
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(subscribers.run())
    second = asyncio.Event()

    def wake() -> None:
        woken.append(loop.time())
        if len(woken) == 2:
            second.set()

    subscribers.add("tab", wake)
    subscribers.notify()
    while not woken:
        await asyncio.sleep(0)
    for _ in range(3):
        subscribers.notify()
    await second.wait()
    assert woken[1] - woken[0] >= 0.045
    assert len(woken) == 2
    await cancel_tasks(running)


async def test_a_subscriber_that_fails_is_dropped_and_the_others_are_woken(caplog: pytest.LogCaptureFixture) -> None:
    subscribers, woken = Subscribers(period_s=0.0), asyncio.Event()
    running = asyncio.create_task(subscribers.run())

    def fail() -> None:
        raise RuntimeError("gone")

    subscribers.add("broken", fail)
    subscribers.add("well", woken.set)
    subscribers.notify()
    await woken.wait()
    assert len(subscribers) == 1
    assert "unsubscribed" in caplog.text
    assert (subscribers.remove("broken"), subscribers.remove("well"), len(subscribers)) == (False, True, 0)
    await cancel_tasks(running)
