"""Start programs by a fork of a process that has imported their modules.

The imports of a server of pages take several seconds of a core, and tests start a hundred servers.

    test process ── socket ── imported process, one for each kind of program
                                  ├── fork: snakemap serve …   its own environment, arguments, log
                                  └── fork: snakemap serve …

A program started in this way runs the same code as the command, from ``snakemap.__main__`` on. Two things differ: what
the modules compute while they are imported does not see the environment of the program, and ``exec`` of another Python
module (``snakemap serve`` becomes ``panel serve``) runs that module in the same process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import NoReturn

__all__ = ["IMPORTS", "Fork", "fork"]

IMPORTS = {
    "serve": ("snakemap.cli.main", "panel.command", "snakemap.dashboard.app", "snakemap.doors", "datashader"),
    "ingest": ("snakemap.cli.main", "snakemap.ingest"),
    "api": ("snakemap.cli.main", "snakemap.api.server", "uvicorn.protocols.http.auto", "uvicorn.lifespan.on"),
    "simulate": ("snakemap.cli.main", "snakemap.simulator.beamline"),
}
"""Modules that are imported before the fork, by command."""

PR_SET_PDEATHSIG = 1
REQUEST_BYTES_MAX, DESCRIPTORS_MAX = 100_000, 1024
_servers: dict[str, socket.socket] = {}


class Fork:
    """A forked program, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code, None while the program runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, as ``Popen`` does.

        Raises:
            subprocess.TimeoutExpired: when the program still runs.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("snakemap", timeout or 0)
            code = self._status.recv(100)
            self._status.close()
            self.returncode = int(code) if code else -signal.SIGTERM  # the process before the fork is gone
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the program at once."""
        self.send_signal(signal.SIGKILL)


def fork(arguments: list[str], *, environment: Mapping[str, str], output: int) -> Fork:
    """Start ``snakemap`` with some arguments.

    Args:
        arguments: the first is a key of :data:`IMPORTS`.
        environment: of the program, whole.
        output: file descriptor of its log.
    """
    server = _servers.get(arguments[0]) or _start(arguments[0])
    ours, theirs = socket.socketpair()
    with theirs:
        request = json.dumps([arguments, dict(environment)]).encode()
        assert len(request) < REQUEST_BYTES_MAX
        socket.send_fds(server, [request], [output, theirs.fileno()])
    pid = ours.recv(100)
    assert pid, f"the process with the imports of {arguments[0]} has ended; its error is above"
    return Fork(int(pid), ours)


def _start(kind: str) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.support.forks", kind]
        process = subprocess.Popen(command, stdin=theirs.fileno())
    _servers[kind] = ours
    atexit.register(_end, ours, process)
    return ours


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.wait()


def _serve(kind: str) -> None:
    """Fork for each request, report the exit code of each fork, and end with the test process."""
    for name in IMPORTS[kind]:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not control:
                selector.unregister(key.fileobj)
                _report(key.fd, *key.data)
                continue
            request, descriptors, _flags, _address = socket.recv_fds(control, REQUEST_BYTES_MAX, 2)
            if not request:
                return
            output, status = descriptors
            pid = os.fork()
            if pid == 0:
                selector.close()
                control.close()
                os.close(status)
                _run(*json.loads(request), output=output)
            os.close(output)
            channel = socket.socket(fileno=status)
            channel.send(str(pid).encode())
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, channel))


def _report(descriptor: int, pid: int, channel: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(descriptor)
    with channel:
        try:
            channel.send(str(code).encode())
        except BrokenPipeError:
            return  # the test has forgotten the program


def _run(arguments: list[str], environment: dict[str, str], *, output: int) -> NoReturn:
    """Become the program, which ends as an interpreter does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, DESCRIPTORS_MAX)
    os.execve = _run_module
    _run_module("", ["python", "-m", "snakemap", *arguments], environment)


def _run_module(_executable: str, command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Run ``python -m module`` in this process; takes the place of ``os.execve``."""
    assert command[1] == "-m", command
    os.environ.clear()
    os.environ.update(environment)
    if bokeh := sys.modules.get("bokeh.settings"):
        vars(bokeh.settings).pop("_secret_key_bytes", None)  # kept from the import
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve(sys.argv[1])
