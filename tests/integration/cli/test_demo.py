"""The demo as somebody runs it: it comes up, shows a scan, stands a blow, and leaves nothing behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from tests.support.patience import PATIENCE
from tests.support.processes import Tree
from tests.support.rabbitmq import RabbitMQ

COMMAND = (sys.executable, "-m", "snakemap", "demo", "--frame-shape", "32x32", "--shape", "4x5", "--rate", "0")


def nothing_left(tree: Tree) -> bool:
    return not tree.living() and not list(tree.temporary.iterdir())


def addresses(tree: Tree) -> tuple[str, str]:
    """The page, and the API's host and port, as the demo tells them."""
    words = tree.said.split()
    return next(word for word in words if word.endswith("/dashboard")), next(
        word.removesuffix("/docs") for word in words if word.endswith("/docs")
    )


@contextmanager
def demo(directory: Path, *options: str, **settings: str) -> Iterator[Tree]:
    """A demo on ports of its own."""
    environment = {f"SNAKEMAP_{name.upper()}": value for name, value in settings.items()}
    command = (*COMMAND, "--port", "0", *options)
    with Tree(command, directory / "tree", {"SNAKEMAP_API_PORT": "0", **environment}) as tree:
        yield tree


def statuses(api: str) -> list[str]:
    """How the runs stand, the newest first; none while the API does not answer."""
    try:
        return [run["status"] for run in httpx.get(f"{api}/api/runs", trust_env=False).json()]
    except httpx.TransportError:
        return []


def test_the_demo_shows_scans_stands_a_blow_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as tree:
        tree.until(lambda: "Ctrl-C ends it" in tree.said)
        page, api = addresses(tree)
        assert httpx.get(page, trust_env=False, timeout=30 * PATIENCE).status_code == 200
        tree.until(lambda: statuses(api)[-1:] == ["complete"])
        maps = httpx.get(f"{api}/api/runs/latest/maps", trust_env=False).json()
        assert np.array(maps["channels"]["total"]).shape == tuple(maps["shape"]) == (4, 5)
        (before,) = tree.named("api")
        before.kill()
        tree.until(lambda: [process for process in tree.named("api") if process.pid != before.pid])
        tree.until(lambda: len(statuses(api)) >= 2)
        assert httpx.get(f"{api}/readyz", trust_env=False).json()["ready"]
        assert tree.end(signal.SIGINT) == 0
        assert nothing_left(tree)
    assert "api has died (SIGKILL) and begins again" in tree.said


def test_a_demo_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as tree:
        tree.until(lambda: tree.named("simulate") and tree.named("snakemap.hdf5.child"))
        tree.process.kill()
        tree.until(lambda: nothing_left(tree))


def test_documents_go_by_the_broker_where_there_is_one_and_what_is_asked_to_stay_stays(
    tmp_path: Path, rabbitmq: RabbitMQ
) -> None:
    state_dir = tmp_path / "state"
    with demo(tmp_path, "--once", state_dir=str(state_dir), stomp_url=rabbitmq.stomp_url) as tree:
        tree.until(lambda: "Ctrl-C ends it" in tree.said)
        _, api = addresses(tree)
        tree.until(lambda: statuses(api) == ["complete"])
        assert httpx.get(f"{api}/readyz", trust_env=False).json()["checks"]["broker"] == "ok"
        assert tree.end(signal.SIGTERM) == 0
        assert nothing_left(tree)
    assert len(list((state_dir / "data").rglob("*.h5"))) == 1
    assert (state_dir / "secret-key").is_file()
    assert not (state_dir / "redis" / "sock").exists()
