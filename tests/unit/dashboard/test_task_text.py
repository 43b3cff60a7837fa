"""Errors of tasks are shown in words."""

from __future__ import annotations

import re

import pytest

from snakemap.blueapi.client import Task
from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.dashboard.panes.scan_control_text import last_error
from snakemap.dashboard.task_text import ENDED, failure_text

PAUSE_MSG = """
Your RunEngine is entering a paused state. These are your options for changing
the state of the RunEngine:

RE.resume()    Resume the plan.
RE.abort()     Perform cleanup, then kill plan. Mark exit_stats='aborted'.
"""


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (PAUSE_MSG, "RunEngineInterrupted", ENDED),
        (f"RunEngineInterrupted({PAUSE_MSG!r})", "", ENDED),
        ("CancelledError()", "", ENDED),
        ("asyncio.exceptions.CancelledError()", "", ENDED),
        ("", "RequestStop", ENDED),
        ("", "", "blueapi gives no reason"),
        ("ValueError('x_stop (3.0) lies\\nbeyond the limit')", "", "x_stop (3.0) lies beyond the limit"),
        ('KeyError("it\'s gone")', "", "it's gone"),
        ("'stage.q'", "KeyError", "stage.q"),
        (
            "<AsyncStatus, device: camera, task: <coroutine object wait at 0x7f01>, errored: TimeoutError('no frame')>",
            "FailedStatus",
            "camera: no frame",
        ),
        ("<Status errored: RuntimeError('stuck')>", "", "stuck"),
        ("cannot move <ophyd_async.epics.Motor object at 0x7f0a1b2c3d>", "", "cannot move Motor"),
        ("the beam is off (shutter)", "RuntimeError", "the beam is off (shutter)"),
        ("Limits(0, 5) of stage-x are passed", "", "Limits(0, 5) of stage-x are passed"),
    ],
)
def test_errors_are_told_in_words(message: str, kind: str, words: str) -> None:
    assert failure_text(message, kind) == words
    assert not re.search(r"0x[0-9a-f]+|Error\(|<\w", words)


def test_the_page_names_the_task_and_what_went_wrong() -> None:
    failed = Task("1", "grid", {}, complete=True, errors=("", PAUSE_MSG), kind="RunEngineInterrupted")
    assert last_error(WorkerStatus("IDLE", task=failed)) == f"last task, grid: {ENDED}"
    assert last_error(WorkerStatus("IDLE", task=Task("1", "grid", {}, complete=True))) == ""
