"""The order of the files: the longest begin first, so that no process is left alone with one of them at the end."""

from __future__ import annotations

import pytest

LONGEST = (
    "test_session_owner", "test_ingest", "test_demo", "test_old_scans", "test_health", "test_cluster", "test_cli",
    "test_workers", "test_cases", "test_h5_routes", "test_control_api", "test_hdf5_look", "test_session_end",
    "test_server_end", "test_written_frames", "test_replay", "test_proxy", "test_visr", "test_beamline",
)  # fmt: skip
"""Files by their duration, as measured; all others are shorter. A list that is out of date costs time alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, in their order in each file."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))
