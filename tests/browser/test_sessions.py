"""Tabs come and go, and nothing of them stays."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from tests.support.made_up import MadeUpRun
from tests.support.rabbitmq import eventually
from tests.support.stack import Stack
from tests.support.tabs import open_and_close

ALLOWED = 1.10


@pytest.mark.timeout(400)
def test_a_hundred_tabs_opened_and_closed_leave_the_memory_where_it_was(tmp_path: Path, redis_url: str) -> None:
    run = MadeUpRun(redis_url, shape=(50, 50))
    run.add(1, 2_000)
    stack = Stack(tmp_path, redis_url=redis_url).serve()
    try:
        server = psutil.Process(stack.pages.pid)
        assert open_and_close(stack.url, tabs=30, messages=8) == 30  # what is made once a process, and once a size
        before = server.memory_info().rss
        assert open_and_close(stack.url, tabs=100, messages=8) == 100
        assert eventually(lambda: server.memory_info().rss <= ALLOWED * before, timeout_s=60), (
            f"{before / 1e6:.0f} MB before, {server.memory_info().rss / 1e6:.0f} MB after"
        )
    finally:
        stack.end()
