"""Runs, folded for those who ask, and kept: whoever asks again costs only what has come since."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from snakemap.documents import joined_pages
from snakemap.errors import DocumentError, RunNotFound
from snakemap.geometry import Habits
from snakemap.runs import Run
from snakemap.store import Store

__all__ = ["Folds"]

log = logging.getLogger(__name__)

KEPT = 8


class Folds:
    """The runs that were asked for lately.

    Args:
        store: where their documents are.
        habits: what to assume where these are silent.
    """

    def __init__(self, store: Store, *, habits: Habits) -> None:
        self._store = store
        self._habits = habits
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, uid: str) -> Run:
        """The run with everything that is in the store now.

        Raises:
            RunNotFound: when there is none of that uid.
            StoreUnavailable: when Redis is away.
        """
        lock = self._locks.setdefault(uid, asyncio.Lock())
        try:
            async with lock:
                run = await self._caught_up(uid)
        finally:
            if not lock.locked():
                self._locks.pop(uid, None)
        self._runs[uid] = run
        self._runs.move_to_end(uid)
        while len(self._runs) > KEPT:
            self._runs.popitem(last=False)
        return run

    async def _caught_up(self, uid: str) -> Run:
        run = self._runs.get(uid)
        async for entries in self._store.run_entries(uid, after=run.cursor if run else "0"):
            for entry in joined_pages(entries):
                if run is None and entry.name == "start":
                    run = Run(entry.doc, habits=self._habits)
                if run is None:
                    continue
                try:
                    run.apply(entry.document, cursor=entry.cursor)
                except DocumentError as trouble:
                    log.warning("run %s: %s", uid, trouble)
            await asyncio.sleep(0)
        if run is None:
            raise RunNotFound(f"the beginning of run {uid} is no longer in the store")
        return run
