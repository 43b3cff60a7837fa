"""The demo's supervision, with parts that do as they are told: to live, to die, to hang, to talk too much."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.processes import Tree

from snakemap.cli.demo import Demo, DemoOptions
from snakemap.cli.demo_cleanup import clean_up, groups_left
from snakemap.errors import SettingsError
from snakemap.settings import Settings, load

PART = """
import http.server, json, os, signal, socket, sys, time
name = sys.argv[3]
behavior = os.environ.get(name.upper(), "live")
if behavior == "die":
    print(f"{name} cannot go on")
    sys.exit(3)
if behavior == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"{name} hangs")
if behavior == "talk":
    print("x" * 2_000_000)
    print(f"{name} has talked")
if name == "serve" and behavior == "live":
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/dashboard" else 404)
            self.end_headers()
        def log_message(self, *arguments):
            pass
    http.server.HTTPServer(("127.0.0.1", int(os.environ["SNAKEMAP_PORT"])), Page).serve_forever()
if name == "simulate":
    class Beamline(http.server.BaseHTTPRequestHandler):
        count = begun = asked = 0
        def answer(self, told, status=200):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            Beamline.count += 1
            print("scanning", body["name"], body["params"])
            self.answer({"task_id": str(Beamline.count)}, 201)
        def do_PUT(self):
            busy = behavior == "slow" and Beamline.begun and Beamline.asked < 4
            Beamline.begun += 1
            self.answer({"detail": "busy"} if busy else {}, 409 if busy else 200)
        def do_GET(self):
            Beamline.asked += not self.path.endswith("/worker/task")
            if behavior == "slow" and Beamline.asked < 4:  # the first scan goes on, and its answers come late
                if Beamline.asked == 2 and not self.path.endswith("/worker/task"):
                    time.sleep(3)
                return self.answer(
                    {"task_id": str(Beamline.count)} if self.path.endswith("/worker/task") else
                    {"task": {"name": "", "params": {}}, "is_complete": False, "errors": []})
            done = {"task": {"name": "", "params": {}}, "is_complete": True, "errors": []}
            self.answer({"task_id": str(Beamline.count)} if self.path.endswith("/worker/task") else done)
        def log_message(self, *arguments):
            pass
    if behavior == "late":  # the demo's first request finds no beamline
        with socket.create_server(("127.0.0.1", int(sys.argv[5]))) as listening:
            listening.accept()[0].close()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[5])), Beamline).serve_forever()
time.sleep(600)
"""

DEMO = """
import sys
from snakemap.cli import demo
from snakemap.errors import SnakemapError
from snakemap.settings import load
demo.END_TIMEOUT_S, demo.PAUSE_S, demo.RESTART_DELAY_S, demo.RESTART_DELAY_MAX_S = 0.5, 0.01, 0.01, 0.01
demo.READY_TIMEOUT_S = float(sys.argv[2])
try:
    wishes = demo.DemoOptions(port=0, once=sys.argv[3] == "once")
    sys.exit(demo.Demo(load(), wishes, program=(sys.executable, sys.argv[1])).run())
except SnakemapError as error:
    print("error:", error)
    sys.exit(1)
"""


def demo(directory: Path, *, ready_timeout_s: float = 60.0, once: bool = False, **behavior: str) -> Tree:
    """A demo whose parts behave in their own ways; it needs no Redis."""
    part = directory / "part.py"
    part.write_text(PART)
    environment = {name.upper(): value for name, value in behavior.items()}
    return Tree(
        (sys.executable, "-c", DEMO, str(part), str(ready_timeout_s), "once" if once else ""),
        directory / "tree",
        {"SNAKEMAP_REDIS_URL": "redis://nowhere", **environment},
    )


def report(tree: Tree, error: str) -> list[str]:
    """The last output of a part, as printed below an error; other lines may follow it."""
    _, found, after = tree.said.partition(f"error: {error}\n")
    assert found, f"the demo did not print {error!r}; it printed:\n{tree.said}"
    return [line for line in after.splitlines() if line.startswith("  ")]


def nothing_left(tree: Tree) -> bool:
    return not tree.living() and not list(tree.temporary.iterdir())


@pytest.mark.parametrize("beamline", ["live", "late"])
def test_it_scans_in_turns_once_the_page_answers_and_ends_without_a_trace(tmp_path: Path, beamline: str) -> None:
    with demo(tmp_path, simulate=beamline) as tree:
        tree.until(lambda: "simulated_fly_scan" in tree.said)
        said = tree.said
        assert tree.end(signal.SIGINT) == 0
        assert nothing_left(tree)
    assert said.index("snakemap is ready:  http://localhost:") < said.index("step_scan") < said.index("fly_scan")
    assert "'rows': 60, 'columns': 60, 'rate_hz': 20.0, 'frame_shape': [1216, 1936]" in said


def test_one_scan_that_finds_no_beamline_at_first_is_made_all_the_same(tmp_path: Path) -> None:
    with demo(tmp_path, once=True, simulate="late") as tree:
        tree.until(lambda: "scanning simulated_step_scan" in tree.said)
        assert tree.end(signal.SIGINT) == 0
    assert tree.said.count("scanning") == 1


def test_a_beamline_that_answers_late_is_waited_for_and_scans_go_on(tmp_path: Path) -> None:
    with demo(tmp_path, simulate="slow") as tree:
        tree.until(lambda: "simulated_fly_scan" in tree.said)
        assert tree.end(signal.SIGINT) == 0
    assert "does not answer in time; the demo continues when it answers" in tree.said
    assert tree.said.partition("simulated_fly_scan")[0].count("scanning simulated_step_scan") == 1


def test_a_part_that_dies_again_and_again_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    with demo(tmp_path, api="die") as tree:
        assert tree.process.wait(60 * PATIENCE) == 1
        assert nothing_left(tree)
    assert report(tree, "api keeps dying (exit code 3):") == ["  api cannot go on"]
    assert tree.said.count("api has died (exit code 3) and begins again") == 3


def test_a_beamline_that_keeps_dying_ends_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path, simulate="die") as tree:
        assert tree.process.wait(60 * PATIENCE) == 1
        assert nothing_left(tree)
    assert report(tree, "simulate keeps dying (exit code 3):") == ["  simulate cannot go on"]


def test_a_page_that_never_answers_ends_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path, ready_timeout_s=3.0, serve="talk") as tree:
        assert tree.process.wait(60 * PATIENCE) == 1
        assert nothing_left(tree)
    assert "error: the page does not answer at http://localhost:" in tree.said
    assert "serve    | (a line of more than 1,048,576 bytes)\n" in tree.said
    assert "serve    | serve has talked\n" in tree.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_part_that_will_not_end_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, ingest="hang") as tree:
        tree.until(lambda: "ingest hangs" in tree.said)
        assert tree.end(number) == 0
        assert nothing_left(tree)


def test_a_demo_that_is_killed_leaves_nothing_behind_either(tmp_path: Path) -> None:
    with demo(tmp_path) as tree:
        tree.until(lambda: len(tree.named("ingest")) == len(tree.named("api")) == len(tree.named("serve")) == 1)
        assert tree.end(signal.SIGKILL) == -signal.SIGKILL
        tree.until(lambda: nothing_left(tree))


def test_the_keeper_ends_what_will_not_end_by_itself(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('hangs', flush=True); time.sleep(600)"
    directory = tmp_path / "state"
    (directory / "data").mkdir(parents=True)
    with Tree((sys.executable, "-c", code), tmp_path / "tree") as tree, pytest.MonkeyPatch.context() as patch:
        tree.until(lambda: "hangs" in tree.said)
        patch.setattr("snakemap.cli.demo_cleanup.END_TIMEOUT_S", 0.1)
        clean_up({tree.process.pid}, directory, temporary=True)
        assert tree.process.wait(10 * PATIENCE) == -signal.SIGKILL
    assert not directory.exists()


def test_the_keeper_knows_which_groups_are_left() -> None:
    assert groups_left(["+10\n", "+11\n", "-10\n", "+12\n", "-13\n"]) == {11, 12}


def settings_on(port: int) -> Settings:
    return load(port=port, api_port=port, host="127.0.0.1")


def test_other_ports_are_found_when_ours_are_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = Demo(settings_on(port), DemoOptions())
    assert len({port, found.port, found.api_port}) == 3


def test_a_port_that_was_asked_for_is_taken_or_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--port: nothing can listen on 127.0.0.1:{port}"):
            Demo(settings_on(0), DemoOptions(port=port))
    found = Demo(settings_on(port), DemoOptions(port=port))
    assert found.port == port != found.api_port


@pytest.mark.parametrize(
    "wishes",
    [DemoOptions(shape="60"), DemoOptions(shape="0x4"), DemoOptions(frame_shape="1x1"), DemoOptions(rate_hz=-1.0)],
)
def test_wishes_that_cannot_be_granted_are_refused_at_once(wishes: DemoOptions) -> None:
    with pytest.raises(SettingsError):
        Demo(settings_on(0), wishes)
