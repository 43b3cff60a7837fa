from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from snakemap import logs

FORGED = "a.h5\n2026-01-01 00:00:00,000 INFO    snakemap: all is well"
LINE = re.compile(r"^\d{4}-\d\d-\d\d ", re.MULTILINE)


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What a handler writes that was there before us, in the format of the command line."""
    root, factory, output = logging.getLogger(), logging.getLogRecordFactory(), io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root.addHandler(handler)
    formatters = [(one, one.formatter) for one in root.handlers]
    logs.install()
    try:
        yield output
    finally:
        logging.setLogRecordFactory(factory)
        for one, formatter in formatters:
            one.setFormatter(formatter)
        root.removeHandler(handler)


@pytest.mark.parametrize("name", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_name_with_a_line_break_is_one_line(said: io.StringIO, name: str) -> None:
    logging.getLogger("snakemap.test").warning("not opened: %s", f"a{name}b")
    logging.getLogger("another.package").warning(f"GET /a{name}b")
    lines = said.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f"not opened: a{name.encode('unicode_escape').decode()}b")


@pytest.mark.parametrize("name", ["\x1b[2K\x1b[1A", "\x00", "\x7f", "\x9b2K", "\u202e"])
def test_nothing_in_a_name_moves_the_cursor_of_a_terminal(said: io.StringIO, name: str) -> None:
    logging.getLogger("snakemap.test").warning("%s", name)
    assert name[0] not in said.getvalue()


def test_a_traceback_cannot_look_like_another_event(said: io.StringIO) -> None:
    try:
        raise OSError(FORGED)
    except OSError:
        logging.getLogger("snakemap.test").exception("not read: %s", FORGED)
    text = said.getvalue()
    assert len(LINE.findall(text)) == 1
    assert "    OSError: a.h5" in text


def test_tabs_and_other_alphabets_stay(said: io.StringIO) -> None:
    logging.getLogger("snakemap.test").warning("%s", "σ\tÅngström 走査.h5")
    assert said.getvalue().endswith("σ\tÅngström 走査.h5\n")


def test_every_command_logs_that_way() -> None:
    code = (
        "import logging, sys; from snakemap.cli.main import app\n"
        "@app.command('say')\n"
        "def say() -> None: logging.getLogger('uvicorn.error').error('%s', sys.stdin.read())\n"
        "app(['say'])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=FORGED, capture_output=True, text=True, check=True)
    assert len(done.stderr.splitlines()) == 1
    assert r"a.h5\n2026" in done.stderr
