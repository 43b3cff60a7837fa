"""Clean up after a demo, however it has ended: a child of the demo in a session of its own.

It is run by path and uses only the standard library, so it starts fast and is small. Its standard input lists process
groups that have begun (``+123``) and ended (``-123``). At the end of the input, when the demo has ended, it ends the
remaining groups, waits for the embedded Redis to stop, and removes a temporary state directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["TEMPORARY", "clean_up", "groups_left"]

TEMPORARY = "temporary"
END_TIMEOUT_S = 8.0
REDIS_TIMEOUT_S = 30.0
LOOK_S = 0.05


def groups_left(lines: Iterable[str]) -> set[int]:
    """Return the groups that have begun and not ended, at the end of the input.

    >>> groups_left(["+12", "+13", "-12"])
    {13}
    """
    groups: set[int] = set()
    for line in lines:
        number = int(line[1:])
        if line.startswith("+"):
            groups.add(number)
        else:
            groups.discard(number)
    return groups


def clean_up(groups: set[int], state_dir: Path, *, temporary: bool) -> None:
    """End process groups, let the embedded Redis stop, and remove the state directory if it is temporary."""
    with _redis_held(state_dir / "redis" / "users"):
        for group in groups:
            _signal(group, signal.SIGTERM)
        _wait(lambda: not any(_lives(group) for group in groups), END_TIMEOUT_S)
        for group in groups:
            _signal(group, signal.SIGKILL)
        _wait(lambda: not any(_lives(group) for group in groups), 1.0)
    if temporary and state_dir.is_dir():
        _wait(lambda: not _is_locked(state_dir / "redis" / "guardian"), REDIS_TIMEOUT_S)
        shutil.rmtree(state_dir, ignore_errors=True)


@contextmanager
def _redis_held(users: Path) -> Iterator[None]:
    """Keep the embedded Redis running, as one of its users, while processes that use it end."""
    try:
        descriptor = os.open(users, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield  # there is none
        return
    try:
        with suppress(BlockingIOError):  # it is stopping already
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _signal(group: int, number: signal.Signals) -> None:
    try:
        if number == signal.SIGKILL:
            os.killpg(group, number)
        else:
            os.kill(group, number)  # the leader ends its own
    except OSError:
        return


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    """Return whether a process holds a lock on a file, as the supervisor of the Redis does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _wait(happens: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens() and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _main(state_dir: str, fate: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the demo, whose end closes the input
    clean_up(groups_left(sys.stdin), Path(state_dir), temporary=fate == TEMPORARY)


if __name__ == "__main__":
    _main(*sys.argv[1:])
