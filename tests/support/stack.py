"""Programs of ours as real processes, which end with the test session however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.forks import IMPORTS, Fork, fork
from tests.support.http_requests import answers
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port

__all__ = ["START_TIMEOUT_S", "Program", "Stack", "die_with_parent"]

START_TIMEOUT_S = 60.0
PR_SET_PDEATHSIG = 1


class Program:
    """``snakemap`` with some arguments.

    Args:
        arguments: like ``["ingest"]``.
        environment: added to ours.
        log: where its output goes.
        module: that is run instead.
        forked: whether it is forked from a process with its imports, where that is possible.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        environment: dict[str, str],
        log: Path,
        module: str = "snakemap",
        forked: bool = True,
    ) -> None:
        self.arguments = arguments
        self.module = module
        self.environment = environment
        self.log = log
        self.forked = forked and module == "snakemap" and arguments[0] in IMPORTS
        self.process: subprocess.Popen[bytes] | Fork | None = None

    def start(self) -> Self:
        """Starts it; returns at once."""
        environment = {**os.environ, **self.environment}
        with self.log.open("ab") as output:
            if self.forked:
                self.process = fork(self.arguments, environment=environment, output=output.fileno())
                return self
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Ends it without a warning, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 15.0 * PATIENCE) -> int:
        """Tells it to end, and waits; returns its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


class Stack:
    """Worker and pages over one Redis, with a data root of their own.

    Args:
        directory: for state, data and logs.
        redis_url: of the store.
        stomp_url: of the broker; empty for none.
        settings: more settings, without their prefix.
    """

    def __init__(self, directory: Path, *, redis_url: str, stomp_url: str = "", **settings: str) -> None:
        self.data_root = directory / "data"
        self.data_root.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        told = {
            "REDIS_URL": redis_url,
            "STOMP_URL": stomp_url,
            "STATE_DIR": str(directory / "state"),
            "DATA_ROOT": str(self.data_root),
            "PORT": str(self.port),
            **settings,
        }
        environment = {f"SNAKEMAP_{name}": value for name, value in told.items()}
        self.ingest = Program(["ingest"], environment=environment, log=directory / "ingest.log")
        self.pages = Program(["serve"], environment=environment, log=directory / "serve.log")

    @property
    def url(self) -> str:
        """Of the server of pages."""
        return f"http://localhost:{self.port}"

    def serve(self) -> Self:
        """Starts the pages and returns when they answer."""
        self.pages.start()
        if not eventually(self.answers, timeout_s=START_TIMEOUT_S, every_s=0.1):
            raise TimeoutError(f"the pages do not answer:\n{self.pages.log.read_text()[-2000:]}")
        return self

    def end(self) -> None:
        """Ends everything."""
        for program in (self.ingest, self.pages):
            program.end()

    def answers(self) -> bool:
        """Return whether the server of pages serves files: a page would cost the making of a session."""
        return answers(f"{self.url}/assets/logo.svg")


def die_with_parent() -> None:
    """Has the kernel end a new process when this one has ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
