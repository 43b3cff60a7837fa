"""A private RabbitMQ that speaks STOMP, for one test session: real, on free ports, and gone when the session is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.patience import PATIENCE, eventually

__all__ = ["RabbitMQ", "eventually", "free_port"]

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0 * PATIENCE

KEEPER = 'read -r _; kill -TERM "-$1"; sleep 2; kill -KILL "-$1"'
"""Waits until its standard input closes, because the test session has died, and then ends a process group."""

CONFIGURATION = """\
stomp.listeners.tcp.1 = 127.0.0.1:{stomp_port}
loopback_users = none
log.console = false
"""


class RabbitMQ:
    """The broker, and what may happen to it.

    Args:
        directory: an empty one, for its data, logs and configuration.

    Attributes:
        stomp_port: on 127.0.0.1; stays the same over an outage.
        stomp_url: with user and password.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stomp_port, self._amqp_port, self._dist_port, self._epmd_port = (free_port() for _ in range(4))
        self.stomp_url = f"stomp://guest:guest@127.0.0.1:{self.stomp_port}"
        self._epmd: _Kept | None = None
        self._server: _Kept | None = None

    def start(self) -> None:
        """Starts it, or lets it go on, and returns when it listens; what was durable is there again."""
        if self._epmd is None:
            self._configure()
            port = str(self._epmd_port)
            self._epmd = _Kept(["epmd", "-port", port, "-address", "127.0.0.1"], self._environment())
        if self._server is None:
            self._server = _Kept([SERVER], self._environment())
        self._server.send(signal.SIGCONT)
        if not eventually(lambda: _listens(self.stomp_port) or self._server_has_died(), timeout_s=START_TIMEOUT_S):
            raise TimeoutError(f"RabbitMQ does not listen after {START_TIMEOUT_S:.0f} s; see {self.directory}")
        if self._server_has_died():
            raise RuntimeError(f"RabbitMQ does not start; see {self.directory}")

    def stop(self) -> None:
        """Shuts it down in good order, as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it, as a power failure does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Makes it silent with its connections open, as a broken network does; ``start`` lets it go on."""
        if self._server is not None:
            self._server.send(signal.SIGSTOP)

    def close(self) -> None:
        """Leaves nothing behind."""
        self.kill()
        if self._epmd is not None:
            self._epmd.end(signal.SIGKILL)
            self._epmd = None

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send(signal.SIGCONT)
            self._server.end(how)
            self._server = None

    def _server_has_died(self) -> bool:
        return self._server is None or self._server.has_died()

    def _configure(self) -> None:
        (self.directory / "plugins").write_text("[rabbitmq_stomp].")
        (self.directory / "environment").write_text("")
        (self.directory / "rabbitmq.conf").write_text(CONFIGURATION.format(stomp_port=self.stomp_port))

    def _environment(self) -> dict[str, str]:
        here = self.directory
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(here),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self._amqp_port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._amqp_port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "environment"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            # the server itself is our child, not a shell that waits for it; and it is not to spin while it waits
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }


class _Kept:
    """A process in a group of its own, with a keeper that ends the group when the test session dies before it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=environment["HOME"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        group = str(self._process.pid)
        self._keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "keeper", group],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def send(self, what: signal.Signals) -> None:
        if not self.has_died():
            os.killpg(self._process.pid, what)

    def has_died(self) -> bool:
        return self._process.poll() is not None

    def end(self, how: signal.Signals) -> None:
        self.send(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
        self._keeper.kill()
        self._keeper.communicate()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
