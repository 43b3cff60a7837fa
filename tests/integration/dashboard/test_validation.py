"""Bokeh checks documents for developers, not for users: each check takes 0.1 s of a page's opening."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.http_requests import answers
from tests.support.patience import eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import die_with_parent

WARNING = "W-1005 (FIXED_SIZING_MODE)"
PAGE = """
from bokeh.models import Div, Row
from bokeh.io import curdoc
from snakemap.doors import page

page("summary")
curdoc().add_root(Row(Div(text="no width, no height"), sizing_mode="fixed"))
"""


@pytest.mark.parametrize(("options", "warns"), [((), False), (("--dev",), True)])
def test_documents_are_validated_for_developers_only(
    tmp_path: Path, redis_url: str, options: tuple[str, ...], warns: bool
) -> None:
    (tmp_path / "wrong.py").write_text(PAGE)
    port, log = free_port(), tmp_path / "log"
    environment = {
        "SNAKEMAP_REDIS_URL": redis_url,
        "SNAKEMAP_DATA_ROOT": str(tmp_path),
        "SNAKEMAP_STATE_DIR": str(tmp_path / "state"),
        "SNAKEMAP_PORT": str(port),
    }
    arguments = ["wrong.py", "--port", str(port), "--plugins", "snakemap.doors", *options]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "panel", "serve", *arguments],
            cwd=tmp_path, env={**os.environ, **environment}, stdout=output, stderr=output, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        assert eventually(lambda: answers(f"http://localhost:{port}/wrong"), timeout_s=60, every_s=0.1), log.read_text()
        said = log.read_text()
        assert (WARNING in said) == warns
        assert "Traceback" not in said, said
    finally:
        server.kill()
        server.wait()
