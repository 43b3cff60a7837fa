"""Cancellation of tasks that use redis-py.

redis-py sends with ``asyncio.wait_for``, which before Python 3.12 forgets a cancellation that comes just as the sending
is done. So a cancellation is repeated until the task ends, and a loop in a task checks for one.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["cancel_tasks", "end_if_cancelled"]

REPEAT_S = 0.1


async def cancel_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they end."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=REPEAT_S)


def end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled and has not noticed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
