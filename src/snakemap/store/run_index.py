"""The newest run in the list of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from snakemap.errors import RunNotFound
from snakemap.store.store import Store

__all__ = ["LATEST", "find_uid", "measured_uids"]

LATEST = "latest"
"""Stands for the uid of the newest run."""


def measured_uids(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the uids of the runs in a list that were measured, not opened from a file, in its order.

    >>> measured_uids([{"uid": "c", "opened": True}, {"uid": "b"}, {"uid": "a"}])
    ['b', 'a']
    """
    return [str(summary["uid"]) for summary in summaries if not summary.get("opened")]


async def find_uid(store: Store, asked: str) -> str:
    """Return the uid that is asked for; ``latest`` is that of the newest measured run.

    Raises:
        RunNotFound: when there is no run at all; a uid that is not `latest` is not checked.
    """
    if asked != LATEST:
        return asked
    for count in (1, None):
        if uids := measured_uids(await store.summaries(count=count)):
            return uids[0]
    raise RunNotFound("There is no run in the store yet.")
