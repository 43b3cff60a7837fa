"""A Redis of a test's own: configured as it likes, and away for as long as it likes."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.patience import eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import die_with_parent

from snakemap.store.embedded_redis import redis_binary

__all__ = ["OwnRedis"]


class OwnRedis:
    """A Redis that stays away when it is killed, and comes back with what it had.

    Args:
        directory: made; for its data.
        options: of redis-server, like ``"--appendonly yes"``.
    """

    def __init__(self, directory: Path, options: str = "--appendonly yes") -> None:
        directory.mkdir()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            *(str(redis_binary()), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(directory), *options.split()),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and returns when it listens."""
        output = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=output, stderr=output, preexec_fn=die_with_parent)
        if not eventually(self._listens):
            raise TimeoutError(f"redis-server does not listen on port {self.port}")

    def kill(self) -> None:
        """Kills it, as the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
