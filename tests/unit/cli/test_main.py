"""The command line: what it says, how it fails, and what its small programs make of files and documents."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.support.recordings import CASES, FOLDER, bodies, ordered
from typer.testing import CliRunner, Result

from snakemap import __version__
from snakemap.cli.listen import line
from snakemap.cli.main import app
from snakemap.cli.serve import command, environment, origins
from snakemap.core.documents import Entry
from snakemap.doctor import Mark, doctor, findings
from snakemap.errors import SettingsError
from snakemap.resources import app_dir
from snakemap.settings import load
from snakemap.transport.recording import Recording

COMMANDS = ("demo", "serve", "ingest", "api", "simulate", "replay", "listen", "doctor")
HEAVY = {"panel", "bokeh", "numpy", "h5py", "redis", "stomp", "fastapi", "uvicorn", "httpx", "bluesky", "numba"}
PROCFILE = Path(__file__).parents[3] / "Procfile"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has settings of its own."""
    for name in [name for name in os.environ if name.startswith("SNAKEMAP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SNAKEMAP_STATE_DIR", str(tmp_path / "state"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"{name} [OPTIONS]" in result.output
    assert len(result.output.splitlines()) >= 5


def test_all_commands_are_listed() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in result.output] == []


def test_the_version_is_told() -> None:
    assert run("--version").output == f"snakemap {__version__}\n"


def test_asking_for_help_costs_no_heavy_import() -> None:
    code = "import sys, snakemap.cli.main; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("dance",),
        ("demo", "--dance"),
        ("demo", "--mode", "dance"),
        ("demo", "--port", "70000"),
        ("replay",),
        ("--log-level", "loud", "doctor"),
        ("replay", "nothing.jsonl", "--speed", "0"),
        ("replay", "nothing.jsonl", "--speed", "nan"),
        ("replay", "nothing.jsonl", "--speed", "fast"),
        ("replay", "nothing.jsonl"),
        ("replay", "/"),
        ("simulate", "--shape", "60"),
        ("demo", "--shape", "0x4"),
    ],
)
def test_what_cannot_be_understood_is_a_mistake_of_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.output.strip()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("doctor", "replay")])
def test_a_setting_that_cannot_be_used_is_named_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAP_GRID", "seven by nine")
    result = run(name)
    assert result.exit_code == 2
    assert result.stderr.startswith("snakemap: SNAKEMAP_GRID: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("listen",), ("replay", str(FOLDER / "blob_fly.jsonl"))])
def test_a_failure_is_one_line_that_tells_no_password(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAKEMAP_REDIS_URL", "redis://me:swordfish@127.0.0.1:1")
    monkeypatch.setattr("snakemap.store.sink.StoreSink.__init__.__kwdefaults__", {"patience_s": 0.0})
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("snakemap: Redis at 127.0.0.1:1 cannot be reached")
    assert result.stderr.count("\n") == 1
    assert "swordfish" not in result.output


def test_the_procfile_starts_commands_that_there_are() -> None:
    group: Any = typer.main.get_command(app)
    processes = dict(line.split(": ", 1) for line in PROCFILE.read_text().splitlines())
    assert list(processes) == ["ingest", "api", "serve", "simulate"]
    for process in processes.values():
        program, name, *arguments = shlex.split(process)
        assert program == "snakemap"
        group.commands[name].make_context(name, arguments)


def test_pages_are_served_with_signed_sessions_to_whom_they_are_meant_for() -> None:
    words = command(load(host="127.0.0.1", port=5123, origins="dashboard.beamline"), log_level="warning")
    text = shlex.join(words)
    assert words[1:4] == ["-m", "panel", "serve"]
    assert [word for word in words if word.endswith("dashboard.py")] == [str(app_dir() / "dashboard.py")]
    for part in (
        "--index dashboard",
        "--address 127.0.0.1 --port 5123",
        "--session-ids signed",
        "--log-level warning",
        "--allow-websocket-origin dashboard.beamline --allow-websocket-origin 127.0.0.1:5123",
    ):
        assert part in text
    assert "--dev" not in words
    assert "--dev" in command(load(), dev=True)


def test_the_headers_of_a_proxy_are_believed_only_where_a_setting_says_so() -> None:
    assert "--use-xheaders" not in command(load())
    assert "--use-xheaders" in command(load(proxied=True))


@pytest.mark.parametrize(
    ("host", "named", "expected"),
    [
        ("127.0.0.1", "", ["127.0.0.1:5006", "localhost:5006"]),
        ("0.0.0.0", "wall.beamline:80", ["wall.beamline:80", "0.0.0.0:5006", "localhost:5006", "127.0.0.1:5006"]),
        ("10.0.0.7", "", ["10.0.0.7:5006"]),
        ("::1", "", ["localhost:5006", "127.0.0.1:5006"]),
    ],
)
def test_sessions_are_opened_from_this_machine_only_when_we_listen_there(
    host: str, named: str, expected: list[str]
) -> None:
    assert origins(load(host=host, origins=named)) == expected


def test_the_key_of_sessions_is_made_once_and_for_our_eyes_only(tmp_path: Path) -> None:
    settings = load(state_dir=tmp_path / "state")
    key = environment(settings)["BOKEH_SECRET_KEY"]
    path = tmp_path / "state" / "secret-key"
    assert len(key) >= 32
    assert environment(settings)["BOKEH_SECRET_KEY"] == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_was_set_is_the_one_that_signs(tmp_path: Path) -> None:
    settings = load(state_dir=tmp_path / "state", secret_key="a key of the beamline's own")
    assert environment(settings)["BOKEH_SECRET_KEY"] == "a key of the beamline's own"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", ["", "short"])
def test_a_file_that_holds_no_key_is_told_of(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret-key").write_text(content)
    with pytest.raises(SettingsError, match="holds no key"):
        environment(load(state_dir=tmp_path))


@pytest.mark.parametrize("case", CASES)
def test_recordings_are_read_as_they_were_received(case: str) -> None:
    recorded = list(Recording([FOLDER / f"{case}.jsonl"]).messages())
    assert [message.body for message in recorded] == [json.loads(body) for body in bodies(case)]
    assert sorted(message.at for message in recorded) == [message.at for message in recorded]
    for message in recorded:
        assert (message.correlation_id is None) == ("doc" in message.body)


def test_lines_that_are_no_messages_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body: dict[str, Any] = {"name": "stop", "doc": {}}
    good = [{"t": 1.5, "headers": {}, "body": json.dumps(body)}, {"body": body}, body, {"t": None, "body": body}]
    bad = ["", "{", "[]", "7", '{"body": "{"}', '{"body": 7}', '{"t": "noon", "body": {}}', "\udcff"]
    path = tmp_path / "recording.jsonl"
    path.write_text("\n".join([*bad, *map(json.dumps, good)]), errors="surrogateescape")
    assert [(message.at, message.body) for message in Recording([path]).messages()] == [(1.5, body), *[(0.0, body)] * 3]
    assert [record.getMessage().split(" is no")[0] for record in caplog.records] == [
        f"{path}, line {number}" for number in range(1, len(bad) + 1)
    ]


def test_a_file_without_a_message_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n\n")
    result = run("--log-level", "error", "replay", str(path))
    assert (result.exit_code, "holds no message" in result.stderr) == (2, True)


@pytest.mark.parametrize("case", CASES)
def test_every_document_has_a_line_of_its_own(case: str) -> None:
    for number, document in enumerate(ordered(case)):
        entry = Entry(f"1795461238076-{number}", document.name, document.run, None, document.doc)
        text = line(entry, as_json=False)
        assert f".076  {document.run[:8]}  {document.name}" in text
        assert text.isprintable()
        assert json.loads(line(entry, as_json=True)) == {
            "cursor": entry.cursor,
            "name": document.name,
            "run": document.run,
            "doc": document.doc,
        }


def test_what_a_document_holds_cannot_move_the_cursor_of_the_terminal() -> None:
    start = Entry("1795461238076-0", "start", "\x1b[2J", None, {"plan_name": "\x1b]0;evil\x07\r\n", "shape": [2, 3]})
    assert line(start, as_json=False).endswith("?[2J      start            ?]0;evil??? [2, 3]")


def test_the_doctor_names_each_setting_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNAKEMAP_GRID", "seven by nine")
    monkeypatch.setenv("SNAKEMAP_PORT", "many")
    monkeypatch.setenv("SNAKEMAP_STOMPURL", "stomp://me:swordfish@host:61613")
    wrong = [finding for finding in findings() if finding.mark is Mark.WRONG]
    assert [(finding.name, finding.text.partition(":")[0]) for finding in wrong] == [
        ("SNAKEMAP_STOMPURL", "is no setting; is SNAKEMAP_STOMP_URL meant?"),
        ("SNAKEMAP_GRID", "Value error, 'seven by nine' is not a shape like 7x9 (slow x fast) or 7x9"),
        ("SNAKEMAP_PORT", "Input should be a valid integer, unable to parse string as an integer. It is"),
    ]
    assert doctor() == 1
    said = capsys.readouterr().out
    assert said.endswith("3 to be fixed\n")
    assert "swordfish" not in said
