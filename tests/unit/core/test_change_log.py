"""Tests of the log of changed cells."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snakemap.core.change_log import ChangeLog


@given(st.lists(st.lists(st.integers(0, 99), max_size=20), max_size=20))
def test_a_reader_gets_what_changed_since_its_version_each_once(batches: list[list[int]]) -> None:
    for size in (None, 100):
        changes, versions = ChangeLog(size), []
        for batch in batches:
            versions.append(changes.version)
            changes.add(np.array(batch, dtype=np.int64))
        for number, version in enumerate(versions):
            assert changes.since(version).tolist() == sorted({cell for batch in batches[number:] for cell in batch})
        assert changes.since(changes.version).tolist() == []


def test_without_a_size_every_change_is_kept() -> None:
    changes = ChangeLog()
    for turn in range(10_000):
        changes.add(np.array([turn % 7]))
    assert (changes.version, changes.since(9_999).tolist(), changes.since(0).tolist()) == (10_000, [3], list(range(7)))
