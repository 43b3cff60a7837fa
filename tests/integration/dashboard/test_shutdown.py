"""SIGTERM ends the server of the pages in time, also while its event loop is busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import die_with_parent

from snakemap.dashboard.shutdown import GRACE_S

BUSY = """
import time
from pathlib import Path
Path({begun!r}).touch()
time.sleep({busy_s})
"""
SLACK_S = 2.0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_sigterm_ends_the_pages_in_time(tmp_path: Path, redis_url: str, busy: bool) -> None:
    begun, page, port = tmp_path / "begun", tmp_path / "page.py", free_port()
    busy_s = 10 * PATIENCE * (GRACE_S + SLACK_S)
    page.write_text(BUSY.format(begun=str(begun), busy_s=busy_s if busy else 0))
    server = subprocess.Popen(
        [sys.executable, "-m", "panel", "serve", str(page), "--port", str(port), "--plugins", "snakemap.doors"],
        env={**os.environ, "SNAKEMAP_REDIS_URL": redis_url, "SNAKEMAP_STATE_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        asking = threading.Thread(target=asked, args=(f"http://localhost:{port}/page", begun), daemon=True)
        asking.start()
        assert eventually(begun.exists, timeout_s=30)
        at = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(busy_s) == 0
        assert time.monotonic() - at < PATIENCE * (GRACE_S + SLACK_S)
    finally:
        server.kill()
        server.wait()


def asked(url: str, begun: Path) -> None:
    """Ask for a page until it is being made."""
    while not begun.exists():
        try:
            httpx.get(url, trust_env=False, timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
