"""Processes that a test has started, however they are related to it now: found by a mark in their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from tests.support.patience import PATIENCE

__all__ = ["Tree"]

TIMEOUT_S = 60.0 * PATIENCE
MARK = "TEST_TREE"


class Tree:
    """A program and all that comes of it.

    Args:
        command: the program.
        directory: made; its temporary files go there, and so does what it says.
        environment: besides ours, without any of our settings.

    Attributes:
        temporary: the directory of its temporary files.
    """

    def __init__(self, command: Sequence[str], directory: Path, environment: dict[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = directory / "tmp"
        self.temporary.mkdir(parents=True)
        self._seen: set[psutil.Process] = set()
        self._output = directory / "output"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAP_")}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**ours, "TMPDIR": str(self.temporary), MARK: self.mark, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_signals,
            )

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.living():
            process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        """Everything that it printed up to now."""
        return self._output.read_text(errors="replace")

    def living(self) -> list[psutil.Process]:
        """Its processes that live, children and orphans alike, and those that have taken the mark off."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    self._seen.update((process, *process.children(recursive=True)))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self._seen = {process for process in self._seen if _lives(process)}
        return list(self._seen)

    def named(self, *words: str) -> list[psutil.Process]:
        """Those of them whose command line has all these words."""
        found = []
        for process in self.living():
            try:
                if set(words) <= set(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def until(self, happens: Callable[[], object], *, timeout_s: float = TIMEOUT_S) -> None:
        """Returns when something is so; it must come to that while the program lives, or have been so at its end."""
        deadline = time.monotonic() + timeout_s
        while not happens():
            assert time.monotonic() < deadline, f"it never came to that; it said:\n{self.said}"
            time.sleep(0.05)

    def end(self, number: int) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


def _heed_signals() -> None:
    """Whoever started the tests in the background may have had these ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
