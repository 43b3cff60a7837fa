"""Child processes of the demo: start, watch, end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from snakemap.cli import demo_cleanup

__all__ = ["DEATHS_MAX", "CleanupProcess", "DemoProcess", "describe_exit", "die_with_parent", "interrupt"]

DEATHS_MAX = 4


PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class DemoProcess:
    """One process of the tree.

    Attributes:
        name: of the subcommand.
        arguments: of ``snakemap``.
        process: while it runs.
        lines: its last lines of output.
        deaths: times of recent deaths, in monotonic seconds.
    """

    name: str
    arguments: Sequence[str] = ()
    process: asyncio.subprocess.Process | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=12))
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS_MAX))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; SIGKILL goes to the whole process group."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            elif self.process.returncode is None:
                self.process.send_signal(number)

    def last_lines(self) -> str:
        """Return the last lines of output, to follow a message."""
        return "".join(f"\n  {line}" for line in self.lines)


class CleanupProcess:
    """Process that cleans up if this one is killed.

    Args:
        state_dir: of the demo.
        temporary: whether to remove it at the end.
    """

    def __init__(self, state_dir: Path, *, temporary: bool) -> None:
        self._process = subprocess.Popen(
            (
                sys.executable,
                "-I",
                "-S",
                demo_cleanup.__file__,
                state_dir.absolute(),
                demo_cleanup.TEMPORARY if temporary else "",
            ),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def __enter__(self) -> CleanupProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until it has cleaned up."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def began(self, pid: int) -> None:
        """Report a new process group."""
        self._send(f"+{pid}\n")

    def ended(self, pid: int) -> None:
        """Report the end of a process group."""
        self._send(f"-{pid}\n")

    def _send(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it was killed
            if self._process.stdin is not None:
                self._process.stdin.write(line.encode())


def die_with_parent() -> Callable[[], None] | None:
    """Return a function for a new process that makes the kernel end it with its parent; None except on Linux."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent


def describe_exit(code: int) -> str:
    """Describe how a process ended."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise ``KeyboardInterrupt``; a signal handler."""
    raise KeyboardInterrupt
