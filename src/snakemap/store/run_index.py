"""Find the newest run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from snakemap.errors import RunNotFound
from snakemap.store.store import Store

__all__ = ["LATEST", "find_uid", "measured_uids", "run_before"]

LATEST = "latest"
"""Alias for the uid of the newest run."""


def measured_uids(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the uids of measured runs, not those opened from a file, in the order of the list.

    >>> measured_uids([{"uid": "c", "opened": True}, {"uid": "b"}, {"uid": "a"}])
    ['b', 'a']
    """
    return [str(summary["uid"]) for summary in summaries if not summary.get("opened")]


def run_before(summaries: Sequence[Mapping[str, Any]], uid: str) -> str:
    """Return the uid of the measured run that began before a run and has points; empty if there is none.

    Args:
        summaries: the list of runs, newest first.
        uid: of the run; one that is not listed is older than all that are.

    >>> listed = [{"uid": "c"}, {"uid": "file", "opened": True}, {"uid": "b", "points": 0}, {"uid": "a", "points": 9}]
    >>> run_before(listed, "c"), run_before(listed, "a")
    ('a', '')
    """
    places = [place for place, one in enumerate(summaries) if one["uid"] == uid]
    older = summaries[places[0] + 1 :] if places else summaries[:0]
    return next(iter(measured_uids(one for one in older if one.get("points") != 0)), "")


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
