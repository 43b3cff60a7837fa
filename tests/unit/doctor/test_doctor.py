"""The doctor: every setting has a check that can fail, and what fails is told with how to mend it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.patience import eventually
from tests.support.rabbitmq import free_port

from snakemap import __version__
from snakemap.doctor import CHECKS, OWN_CHECKS, Finding, Mark, doctor, findings, with_all_settings
from snakemap.doctor.file_checks import filesystem
from snakemap.doctor.finding import CheckContext, StoreState
from snakemap.doctor.machine_checks import disk_space
from snakemap.doctor.report import as_json, columns
from snakemap.errors import SnakemapError, StoreUnavailable
from snakemap.settings import Settings, load
from snakemap.store.redis_info import RedisCondition, RedisInfo

SOUND = RedisInfo(
    version="7.2.4",
    entries=10_000,
    stream_bytes=5_000_000,
    memory_bytes=9_000_000,
    memory_max_bytes=0,
    host_memory_bytes=64_000_000_000,
    policy="noeviction",
    appends=True,
    saves=True,
    ahead_s=0.0,
)
WORKER = {"broker": "connected", "host": "here", "pid": 7, "version": __version__}


class FakeContext(CheckContext):
    """A context whose store says what a test wants."""

    def __init__(self, settings: Settings, asked: StoreState | SnakemapError) -> None:
        super().__init__(settings)
        self.store_or_error = asked  # pyright: ignore[reportAttributeAccessIssue]


def store_state(redis: RedisInfo = SOUND, **more: Any) -> StoreState:
    told: dict[str, Any] = {
        "reports": {"ingest": WORKER},
        "oldest": time.time() - 86_400,
        "frame_shape": None,
        "whose": "",
    }
    return StoreState(address="redis:6379/0", redis=redis, **{**told, **more})


def found(name: str, asked: StoreState | SnakemapError | None = None) -> list[tuple[Mark, str]]:
    """What one check finds with the settings of the environment."""
    context = FakeContext(load(), asked or store_state())
    (check,) = [check for check in CHECKS if name in (check.name, *check.settings)]
    return [(finding.mark, finding.text) for finding in check.findings(context)]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SNAKEMAP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SNAKEMAP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SNAKEMAP_PORT", str(free_port()))
    monkeypatch.setenv("SNAKEMAP_API_PORT", str(free_port()))


class Served:
    """A small HTTP server with fixed answers: status and body by path."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.asked: list[tuple[str, str | None]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append((self.path, self.headers.get("authorization")))
                status, body = answers.get(self.path, (404, {"detail": "not found"}))
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


PLANS = {"plans": [{"name": "count", "description": "", "schema": {}}]}
BLUEAPI = {"/healthz": (200, {}), "/api/v1/plans": (200, PLANS), "/openapi.json": (200, {"info": {"version": "1.5.0"}})}

BAD: dict[str, tuple[dict[str, str], Mark, str]] = {
    "data_root": ({"DATA_ROOT": "/nowhere"}, Mark.WRONG, "make it, or set SNAKEMAP_DATA_ROOT"),
    "source_url": ({"SOURCE_URL": "lines:///nowhere/a.jsonl"}, Mark.WRONG, "No such file or directory; correct it"),
    "stomp_url": ({"STOMP_URL": "stomp://127.0.0.1:1"}, Mark.WRONG, "are user, password and virtual host right"),
    "stomp_destination": ({"STOMP_DESTINATION": "/queue/a"}, Mark.WRONG, "blueapi publishes to /topic/NAME"),
    "stomp_subscription": ({"STOMP_SUBSCRIPTION": "amq.mine"}, Mark.WRONG, "does not begin with amq."),
    "blueapi_url": ({"BLUEAPI_URL": "http://127.0.0.1:1"}, Mark.WRONG, "is it http://host:8000?"),
    "blueapi_token": ({"BLUEAPI_TOKEN": "two words\t"}, Mark.WRONG, "correct SNAKEMAP_BLUEAPI_TOKEN"),
    "blueapi_token_header": ({"BLUEAPI_TOKEN_HEADER": "Cookie"}, Mark.WRONG, "have the proxy send X-Forwarded"),
    "instrument_session": ({"INSTRUMENT_SESSION": "visit 1"}, Mark.WRONG, "is not like cm12345-1"),
    "baton": (
        {"BLUEAPI_URL": "http://127.0.0.1:1", "BATON": "no", "HOST": "0.0.0.0"},
        Mark.NOTE,
        "set SNAKEMAP_BATON to true",
    ),
    "pausing": ({"PAUSING": "yes"}, Mark.NOTE, "set SNAKEMAP_PAUSING to false"),
    "actions_per_minute": ({"ACTIONS_PER_MINUTE": "9999"}, Mark.NOTE, "set SNAKEMAP_ACTIONS_PER_MINUTE to 600"),
    "path_map": ({"PATH_MAP": "/dls=/nowhere"}, Mark.WRONG, "mount it, or correct the pair"),
    "grid": ({"GRID": "9999x9999"}, Mark.WRONG, "more than the 4,000,000 points that can be drawn"),
    "snake": ({"GRID": "7x9", "SNAKE": "false"}, Mark.NOTE, "add :raster to it"),
    "rois": ({"ROIS": "{}"}, Mark.WRONG, "1 to 32 with a name each"),
    "log_dir": ({"LOG_DIR": "/dev/null/log"}, Mark.WRONG, "set it to one that is"),
    "log_max_gb": ({"LOG_DIR": "/tmp", "LOG_MAX_GB": "9000000"}, Mark.NOTE, "set SNAKEMAP_LOG_MAX_GB to"),
    "blocks_dir": (
        {"BLOCKS_DIR": "/dev/null/blocks", "BLOCKS_MAX_GB": "1"},
        Mark.WRONG,
        "set it to one that is",
    ),
    "blocks_max_gb": ({"BLOCKS_DIR": "/tmp", "BLOCKS_MAX_GB": "9000000"}, Mark.NOTE, "set SNAKEMAP_BLOCKS_MAX_GB to"),
    "log_rows": ({"LOG_ROWS": "90000000"}, Mark.NOTE, "set it to 2000000 or less"),
    "state_dir": ({"STATE_DIR": "/dev/null/state"}, Mark.WRONG, "set SNAKEMAP_STATE_DIR to where it can"),
    "api_requests_per_minute": ({"API_REQUESTS_PER_MINUTE": "60"}, Mark.NOTE, "needs 240, set it to that or more"),
    "host": ({"HOST": "host.invalid"}, Mark.WRONG, "set it to 127.0.0.1, or to 0.0.0.0"),
    "origins": ({"ORIGINS": "http://wall.beamline/"}, Mark.WRONG, "without http:// and path"),
    "api_root_path": ({"API_ROOT_PATH": "/api"}, Mark.NOTE, "set another prefix"),
    "proxied": (
        {"PROXIED": "yes", "HOST": "0.0.0.0", "ORIGINS": "a:1"},
        Mark.NOTE,
        "make sure that only the proxy reaches the pages' port",
    ),
    "secret_key": ({"SECRET_KEY": "short"}, Mark.WRONG, "take 32 or more, `python -c"),
    "max_sessions": ({"MAX_SESSIONS": "1000000000"}, Mark.WRONG, "`ulimit -n 2000000100` before the start"),
    "download_max_mb": ({"DOWNLOAD_MAX_MB": "50000"}, Mark.NOTE, "set it to 20000 or less"),
    "keep_days": ({"KEEP_DAYS": "4000"}, Mark.NOTE, "set it to 365 or less"),
    "silence_s": ({"SILENCE_S": "5"}, Mark.WRONG, "set it to more than SNAKEMAP_FILE_TIMEOUT_S"),
    "file_timeout_s": ({"FILE_TIMEOUT_S": "0.1"}, Mark.NOTE, "set it to 1 or more"),
    "dask": ({"DASK": "tcp://127.0.0.1:1"}, Mark.WRONG, "start the scheduler, or unset it"),
    "file_locking": ({"FILE_LOCKING": "yes"}, Mark.NOTE, "unset it unless writers lock, too"),
    "documents_max": ({"DOCUMENTS_MAX": "900000000"}, Mark.NOTE, "set SNAKEMAP_DOCUMENTS_MAX to"),
}  # fmt: skip
ELSEWHERE = {"redis_url", "port", "api_port", "read_only"}
"""Settings whose failing needs more than a value; each has tests of its own below."""


def test_every_setting_has_a_check_and_every_check_is_of_settings_that_there_are() -> None:
    checked = [name for check in CHECKS for name in check.settings]
    assert sorted(checked) == sorted(Settings.model_fields)
    assert set(BAD) | ELSEWHERE == {name for check in OWN_CHECKS for name in check.settings}


def test_a_setting_without_a_check_of_its_own_is_shown_and_a_secret_is_not() -> None:
    context = FakeContext(load(port=7000, secret_key="swordfish"), store_state())
    checks = with_all_settings((), ["port", "secret_key", "blueapi_token", "origins"])
    shown = [(one.mark, one.name, one.text) for check in checks for one in check.findings(context)]
    assert shown == [
        (Mark.OK, "port", "7000"),
        (Mark.OK, "secret key", "set"),
        (Mark.OK, "blueapi token", "not set"),
        (Mark.OK, "origins", "not set"),
    ]


def test_every_setting_is_told_of_by_a_finding_when_all_is_well() -> None:
    context = FakeContext(load(), store_state())
    told = [finding for check in CHECKS for finding in check.findings(context)]
    assert {name for finding in told for name in finding.settings} == set(Settings.model_fields)
    assert [str(finding) for finding in told if finding.mark is Mark.WRONG] == []
    assert all(finding.text.strip() for finding in told)


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_setting_that_is_no_good_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values, mark, remedy = BAD[name]
    assert mark not in [mark for mark, _ in found(name)] or name == "data_root"
    for variable, value in values.items():
        monkeypatch.setenv(f"SNAKEMAP_{variable}", value)
    told = [text for found_mark, text in found(name) if found_mark is mark]
    assert len(told) == 1
    assert remedy in told[0]


TEXTS = {name for name, field in Settings.model_fields.items() if field.annotation is str} - {"stomp_url"}
READABLE = {*TEXTS, "data_root", "log_dir", "blocks_dir", "state_dir", "origins"} - {
    "blueapi_token_header",
    "api_root_path",
}
"""Settings that any text can be read as."""


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - READABLE))
def test_a_setting_that_cannot_be_read_is_told_with_what_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SNAKEMAP_{name.upper()}", "{no such value")
    (finding,) = [finding for finding in findings() if finding.mark is Mark.WRONG]
    assert finding.name == f"SNAKEMAP_{name.upper()}"
    assert finding.text.endswith(f"It is: {Settings.model_fields[name].description}")


def test_no_password_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SNAKEMAP_STOMP_URL", "stomp://me:swordfish@127.0.0.1:1")
    monkeypatch.setenv("SNAKEMAP_REDIS_URL", "redis://me:swordfish@127.0.0.1:1")
    monkeypatch.setenv("SNAKEMAP_BLUEAPI_TOKEN", "swordfish")
    monkeypatch.setenv("SNAKEMAP_SECRET_KEY", "swordfish")
    assert doctor() == 1
    assert "swordfish" not in capsys.readouterr().out


# Redis and the worker


def test_a_redis_that_is_away_is_told_once_and_the_rest_is_left_open() -> None:
    away = StoreUnavailable("Redis at here cannot be reached")
    marks = {
        name: [mark for mark, _ in found(name, away)]
        for name in ("redis_url", "documents_max", "worker", "clock", "rois")
    }
    assert marks == {
        "redis_url": [Mark.WRONG],
        "documents_max": [Mark.NOTE],
        "worker": [Mark.NOTE],
        "clock": [Mark.NOTE],
        "rois": [Mark.OK],
    }


@pytest.mark.parametrize(
    ("changes", "mark", "remedy"),
    [
        ({"version": "5.0.7"}, Mark.WRONG, "install Redis 6.2 or later, or Valkey"),
        ({"appends": False}, Mark.NOTE, "`appendonly yes` in its configuration keeps them"),
        ({"appends": False, "saves": False}, Mark.NOTE, "when it is killed all documents are lost"),
        ({"memory_max_bytes": 10**9, "policy": "allkeys-lru"}, Mark.WRONG, "set `maxmemory-policy noeviction`"),
        ({"memory_max_bytes": 10**9, "policy": "volatile-ttl"}, Mark.WRONG, "it evicts leases, reports and frames"),
    ],
)
def test_a_redis_that_would_lose_documents_is_told(changes: dict[str, Any], mark: Mark, remedy: str) -> None:
    ((told, text),) = found("redis_url", store_state(dataclasses.replace(SOUND, **changes)))
    assert (told, remedy in text) == (mark, True)


@pytest.mark.parametrize(
    "changes", [{"version": None}, {"version": "unstable"}, {"policy": "allkeys-lru"}, {"appends": None, "saves": None}]
)
def test_a_redis_that_does_not_tell_or_has_no_bound_is_fine(changes: dict[str, Any]) -> None:
    assert [mark for mark, _ in found("redis_url", store_state(dataclasses.replace(SOUND, **changes)))] == [Mark.OK]


def test_a_redis_that_stores_nothing_new_is_wrong_and_of_a_silent_worker_nothing_is_claimed() -> None:
    refusing = dataclasses.replace(SOUND, condition=RedisCondition("READONLY", "Redis at here is a read-only replica"))
    assert found("redis_url", store_state(refusing)) == [(Mark.WRONG, "Redis at here is a read-only replica")]


def test_documents_that_do_not_fit_into_redis_are_told_with_how_many_would() -> None:
    tight = dataclasses.replace(SOUND, memory_max_bytes=500_000_000)
    ((mark, text),) = found("documents_max", store_state(tight))
    assert (mark, "set SNAKEMAP_DOCUMENTS_MAX to 900000 or less" in text) == (Mark.WRONG, True)


def test_runs_that_go_before_their_time_are_told() -> None:
    full = dataclasses.replace(SOUND, entries=2_000_000)
    ((mark, text),) = found("keep_days", store_state(full, oldest=time.time() - 2 * 86_400))
    assert (mark, "runs are removed after 2.0 days already" in text) == (Mark.NOTE, True)
    assert [mark for mark, _ in found("keep_days", store_state(full, oldest=time.time() - 8 * 86_400))] == [Mark.OK]


@pytest.mark.parametrize(
    ("ahead_s", "mark"), [(0.4, Mark.OK), (-0.4, Mark.OK), (1.0, Mark.NOTE), (-3.0, Mark.WRONG), (None, Mark.NOTE)]
)
def test_clocks_that_disagree_are_told(ahead_s: float | None, mark: Mark) -> None:
    ((told, text),) = found("clock", store_state(dataclasses.replace(SOUND, ahead_s=ahead_s)))
    assert told is mark
    assert ("timedatectl set-ntp true" in text) is (ahead_s is not None and mark is not Mark.OK)


@pytest.mark.parametrize(
    ("report", "marks"),
    [
        ({}, [Mark.OK]),
        ({"broker": "none"}, [Mark.OK]),
        ({"broker": "lost: gone"}, [Mark.WRONG]),
        ({"version": "0.0.1"}, [Mark.OK, Mark.NOTE]),
    ],
)
def test_what_the_worker_reports_is_told(report: dict[str, Any], marks: list[Mark]) -> None:
    assert [mark for mark, _ in found("worker", store_state(reports={"ingest": {**WORKER, **report}}))] == marks


def test_a_worker_that_is_silent_is_told_with_how_to_start_it() -> None:
    ((mark, text),) = found("worker", store_state(reports={}))
    assert (mark, "Start `snakemap ingest` with the same settings." in text) == (Mark.NOTE, True)


# files


def test_prefixes_that_lead_out_of_the_data_root_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("root/in", "out"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("SNAKEMAP_PATH_MAP", f"/a={tmp_path}/root/in,/b={tmp_path}/out,/a={tmp_path}/root,/c={tmp_path}")
    marks = [mark for mark, _ in found("path_map")]
    assert marks == [Mark.OK, Mark.WRONG, Mark.NOTE, Mark.OK]


def test_a_data_root_that_nobody_may_read_or_that_is_everything_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", "/")
    assert (Mark.WRONG, "the whole machine is the data root; set it to the directory of the data") in found("data_root")
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("snakemap.doctor.file_checks.os.access", lambda *_: False)
    assert [mark for mark, _ in found("data_root")] == [Mark.WRONG]


def test_a_data_root_with_very_many_files_or_of_another_host_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.h5").touch()
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("snakemap.doctor.file_checks.ENTRIES_MANY", 2)
    monkeypatch.setattr("snakemap.doctor.file_checks.filesystem", lambda _: "nfs4")
    (many, remote) = found("data_root")
    assert (many[0], "more than 2 entries" in many[1]) == (Mark.NOTE, True)
    assert (remote[0], "mount it with actimeo=1" in remote[1]) == (Mark.NOTE, True)


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    assert filesystem(Path("/proc/self")) == "proc"
    assert filesystem(Path("/")) != ""


def test_a_disk_that_is_nearly_full_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type(sys)("usage")
    for free, kind in ((2_000_000_000, "NoneType"), (500_000_000, "Note"), (1_000_000, "Wrong")):
        usage.free = free
        monkeypatch.setattr("snakemap.doctor.machine_checks.shutil.disk_usage", lambda _: usage)
        assert type(disk_space(tmp_path)).__name__ == kind


@pytest.mark.parametrize("address", ["scheduler", "tcp://scheduler", "tcp://:8786", "tcp://h:x"])
def test_what_is_no_address_of_a_scheduler_is_told(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SNAKEMAP_DASK", address)
    ((mark, text),) = found("dask")
    assert (mark, "is not tcp://scheduler:8786" in text) == (Mark.WRONG, True)


def test_a_scheduler_that_answers_is_fine_and_dask_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("SNAKEMAP_DASK", f"tcp://127.0.0.1:{server.getsockname()[1]}")
        assert [mark for mark, _ in found("dask")] == [Mark.OK]
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert 'pip install "snakemap[dask]"' in found("dask")[0][1]


# blueapi and maps


def test_a_blueapi_that_answers_is_told_with_its_version_and_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    with Served(BLUEAPI) as server:
        monkeypatch.setenv("SNAKEMAP_BLUEAPI_URL", server.url)
        monkeypatch.setenv("SNAKEMAP_BLUEAPI_TOKEN", "good")
        assert found("blueapi_url") == [(Mark.OK, "answers, API 1.5.0, 1 plans")]
        assert found("blueapi_token") == [(Mark.OK, "the token is accepted")]
        assert ("/api/v1/plans", "Bearer good") in server.asked


@pytest.mark.parametrize(
    ("changes", "mark", "remedy"),
    [
        ({"/healthz": (404, {})}, Mark.WRONG, "is it blueapi at all?"),
        ({"/api/v1/plans": (404, {})}, Mark.WRONG, "is it blueapi at all?"),
        ({"/api/v1/plans": (200, b"<html>")}, Mark.WRONG, "is it blueapi at all?"),
        ({"/api/v1/plans": (200, {"plans": []})}, Mark.NOTE, "it has no plans"),
        (
            {"/openapi.json": (200, {"info": {"version": "3.0.0"}})},
            Mark.NOTE,
            "its API is 3.0.0, snakemap is tested with 1.5",
        ),
        ({"/openapi.json": (200, ["what"])}, Mark.OK, "answers, 1 plans"),
    ],
)
def test_a_blueapi_that_is_not_what_we_know_is_told(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], mark: Mark, remedy: str
) -> None:
    with Served({**BLUEAPI, **changes}) as server:
        monkeypatch.setenv("SNAKEMAP_BLUEAPI_URL", server.url)
        told, text = found("blueapi_url")[0]
    assert (told, remedy in text) == (mark, True)


@pytest.mark.parametrize(
    ("settings", "mark", "remedy"),
    [
        ({"BLUEAPI_TOKEN": "bad"}, Mark.WRONG, "set SNAKEMAP_BLUEAPI_TOKEN to one that it accepts"),
        ({}, Mark.WRONG, "set SNAKEMAP_BLUEAPI_TOKEN, or SNAKEMAP_BLUEAPI_TOKEN_HEADER"),
        ({"BLUEAPI_TOKEN_HEADER": "X-Forwarded-Access-Token"}, Mark.OK, "each user's own"),
    ],
)
def test_a_blueapi_that_wants_a_token_is_told(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], mark: Mark, remedy: str
) -> None:
    with Served({**BLUEAPI, "/api/v1/plans": (401, {"detail": "Not authenticated"})}) as server:
        for name, value in {"BLUEAPI_URL": server.url, **settings}.items():
            monkeypatch.setenv(f"SNAKEMAP_{name}", value)
        ((told, text),) = found("blueapi_token")
        assert [mark for mark, _ in found("blueapi_url")] == [Mark.OK]
    assert (told, remedy in text) == (mark, True)


def test_a_token_for_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAP_BLUEAPI_TOKEN", "good")
    assert found("blueapi_token") == [(Mark.NOTE, "there is no blueapi to use it; set SNAKEMAP_BLUEAPI_URL")]


@pytest.mark.parametrize(
    ("read_only", "text"), [("yes", "nothing can be started or stopped"), ("no", "one tab at a time")]
)
def test_who_may_act_is_told(monkeypatch: pytest.MonkeyPatch, read_only: str, text: str) -> None:
    monkeypatch.setenv("SNAKEMAP_BLUEAPI_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SNAKEMAP_READ_ONLY", read_only)
    assert found("read_only") == [(Mark.OK, text)]


def test_rectangles_beyond_the_newest_frames_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAP_ROIS", '{"red": [0, 10, 0, 10], "blue": [0, 11, 0, 20]}')
    assert found("rois", store_state(frame_shape=(11, 20))) == [(Mark.OK, "red, blue, all within the newest frames")]
    ((mark, text),) = found("rois", store_state(frame_shape=(10, 20)))
    assert (mark, text) == (Mark.WRONG, "blue reaches to row 11 and column 20, but frames have 10 and 20; correct it")


# pages and API


@pytest.mark.parametrize("name", ["port", "api_port"])
def test_a_port_that_something_else_has_is_told_and_one_of_ours_is_fine(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for answers, mark in (({"/healthz": (200, {"status": "ok", "version": "0.1.0"})}, Mark.OK), ({}, Mark.WRONG)):
        with Served(answers) as server:
            monkeypatch.setenv(f"SNAKEMAP_{name.upper()}", str(server.port))
            ((told, text),) = found(name)
        assert told is mark
        assert ("another program uses it, set" in text) is (mark is Mark.WRONG)


def test_pages_and_api_on_one_port_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAP_API_PORT", str(load().port))
    ((mark, text),) = found("api_port")
    assert (mark, "set one of the two to another" in text) == (Mark.WRONG, True)


def test_pages_for_the_network_need_the_names_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAP_HOST", "0.0.0.0")
    assert found("origins") == [
        (Mark.WRONG, "pages listen on the network, but only this machine may open them; name the hosts")
    ]
    monkeypatch.setenv("SNAKEMAP_ORIGINS", "wall.beamline:5006")
    assert found("origins") == [(Mark.OK, "wall.beamline:5006")]


def test_a_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret-key"
    path.parent.mkdir()
    path.write_text("k" * 64)
    path.chmod(0o644)
    assert (found("secret_key")[0][0], f"`chmod 600 {path}`" in found("secret_key")[0][1]) == (Mark.WRONG, True)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert found("secret_key") == [(Mark.OK, f"in {path}")]
    path.write_text("short")
    assert "remove it, a new one is made" in found("secret_key")[0][1]


def test_as_many_tabs_as_files_can_be_opened_for_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, mark in ((500, Mark.OK), (499, Mark.WRONG), (resource.RLIM_INFINITY, Mark.OK)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        ((told, text),) = found("max_sessions")
        assert told is mark
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    assert "LimitNOFILE=500" in (text := found("max_sessions")[0][1])
    assert "set it to 100 or less" in text


# what was left behind


@pytest.fixture
def orphan() -> Iterator[int]:
    """A process that looks like one of ours that reads files, and has lost its parent."""
    code = """
import subprocess, sys
command = [sys.executable, "-c", "input()", "snakemap.hdf5.child"]
print(subprocess.Popen(command, stdin=int(sys.argv[1]), stdout=-3, stderr=-3, start_new_session=True).pid)
"""
    read, write = os.pipe()
    started = subprocess.run([sys.executable, "-c", code, str(read)], pass_fds=[read], capture_output=True, check=True)
    os.close(read)
    pid = int(started.stdout)
    yield pid
    os.close(write)
    assert eventually(
        lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def test_what_earlier_lives_have_left_is_told_with_how_to_remove_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, orphan: int
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "snakemap-demo-dead" / "redis").mkdir(parents=True)
    (tmp_path / "snakemap-demo-dead" / "redis" / "users").touch()
    (tmp_path / "snakemap-demo-other").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "secret-key.123").touch()
    texts = [text for mark, text in found("leftovers") if mark is Mark.NOTE]
    dead = tmp_path / "snakemap-demo-dead"
    assert len([text for text in texts if f"`kill {orphan}` ends it" in text]) == 1
    assert [text for text in texts if "rm -r" in text] == [
        f"a demo was killed and has left {dead}; `rm -r {dead}` removes it"
    ]
    assert f"`rm {tmp_path}/state/secret-key.123` removes it" in texts[-1]


# how it is shown


FINDINGS = [
    Finding(Mark.OK, "Python", "3.12", group="This machine"),
    Finding(Mark.WRONG, "Redis", "is away " * 12, ("redis_url",), "Redis"),
    Finding(Mark.NOTE, "root", "a\x1b[2J/very/long/path/" + "x" * 80, ("data_root",), "Redis"),
]


def test_people_see_columns_under_headings() -> None:
    lines = [line for text in columns(FINDINGS, name_width=8, width=60) for line in text.splitlines()]
    plain = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines]
    assert [line for line in plain if line and not line.startswith(" ")] == ["This machine", "Redis"]
    texts = [line for line in plain if "away" in line or "SNAKEMAP_REDIS_URL" in line]
    assert len(texts) > 1
    assert {line.index("is away") for line in texts if "is away" in line and "Redis" not in line} == {13}
    assert "SNAKEMAP_REDIS_URL" in texts[-1]
    assert not any("\x1b[2J" in line for line in lines)


def test_programs_get_one_object() -> None:
    told = json.loads(as_json(FINDINGS))
    assert told["well"] is False
    assert told["findings"][1] == {
        "mark": "wrong",
        "group": "Redis",
        "name": "Redis",
        "settings": ["SNAKEMAP_REDIS_URL"],
        "text": "is away " * 12,
    }
    assert json.loads(as_json(FINDINGS[:1]))["well"] is True
