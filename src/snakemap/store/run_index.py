"""Find the newest run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from snakemap.errors import RunNotFound
from snakemap.store.store import Store

__all__ = ["LATEST", "find_uid", "measured_uids"]

LATEST = "latest"
"""Alias for the uid of the newest run."""


def measured_uids(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the uids of measured runs, not those opened from a file, in the order of the list.

    >>> measured_uids([{"uid": "c", "opened": True}, {"uid": "b"}, {"uid": "a"}])
    ['b', 'a']
    """
    return [str(summary["uid"]) for summary in summaries if not summary.get("opened")]


async def find_uid(store: Store, asked: str) -> str:
    """Return a uid; ``latest`` is replaced by that of the newest measured run.

    Raises:
        RunNotFound: when there is no run at all; a uid that is not `latest` is not checked.
    """
    if asked != LATEST:
        return asked
    for count in (1, None):
        if uids := measured_uids(await store.summaries(count=count)):
            return uids[0]
    raise RunNotFound("There is no run in the store yet.")
