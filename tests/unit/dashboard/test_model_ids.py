"""Models of two server processes in one page have different ids."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from bokeh.models import Range1d
from snakemap.dashboard.model_ids import separate_model_ids
first = Range1d().id
separate_model_ids()
print(first, Range1d().id, Range1d().id)
"""


def ids() -> tuple[int, int, int]:
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
    first, second, third = (int(one.removeprefix("p")) for one in said)
    return first, second, third


def test_two_processes_number_their_models_from_different_beginnings() -> None:
    (first, mine, next_one), (same, other, _) = ids(), ids()
    assert first == same, "Bokeh itself makes the same ids in every process"
    assert mine > first
    assert next_one == mine + 1
    assert abs(mine - other) > 100_000
