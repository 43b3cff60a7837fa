"""Runs as they were: folded again from their documents, up to a moment.

What has been folded is kept in chapters, once a process, so that going back a little does not begin at the beginning.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field

from snakemap.core.cursor import cursor_ms, cursor_numbers, last_cursor_of_ms
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.errors import RunNotFound
from snakemap.live.run_loader import RunLoader
from snakemap.store.store import Store

__all__ = ["RunHistory"]

BATCH_ENTRIES = 500
CHAPTER_ENTRIES = 2_000
CHAPTERS_MAX = 16
BYTES_MAX = 128 << 20
CHAPTER_BYTES_MAX = BYTES_MAX // CHAPTERS_MAX
"""A run that takes more has no chapters: a few of them would leave no room for any others."""


@dataclass(slots=True)
class Checkpoints:
    """States of one run, pickled, by the millisecond of the last document in them.

    Attributes:
        states: with rising keys.
        spacing: documents from one to the next; twice as many whenever there would be too many states.
    """

    states: dict[int, bytes] = field(default_factory=dict)
    spacing: int = field(default_factory=lambda: CHAPTER_ENTRIES)

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(map(len, self.states.values()))

    def before(self, moment_ms: int) -> bytes | None:
        """Return the last state that is not beyond a moment."""
        return next((state for at, state in reversed(self.states.items()) if at <= moment_ms), None)

    def keep(self, run: Run) -> None:
        """Add a state beyond all others, unless it is too large."""
        state = pickle.dumps(run)
        if len(state) > CHAPTER_BYTES_MAX:
            self.spacing = sys.maxsize  # nor will any later one be smaller
            return
        self.states[moment_of(run)] = state
        if len(self.states) > CHAPTERS_MAX:
            self.states = dict(list(self.states.items())[1::2])
            self.spacing *= 2


class RunHistory:
    """Folds runs up to a moment, for whoever looks back.

    Args:
        store: the documents.
        habits: what to assume where they are silent.
    """

    def __init__(self, store: Store, *, habits: ScanDefaults) -> None:
        self.store = store
        self._loader = RunLoader(store, habits=habits, quiet=True)
        self._chapters: OrderedDict[str, Checkpoints] = OrderedDict()

    def forget(self) -> None:
        """Drop all that was folded, because the store is not the same any more."""
        self._chapters.clear()

    async def run_at(self, uid: str, moment_ms: int, *, onward: Run | None = None) -> Run:
        """Return the state of a run at a moment, as an object that later documents do not change.

        Args:
            uid: of the run.
            moment_ms: milliseconds since 1970, by the clock of the store; before the first document it is as with that.
            onward: what this returned for the same run before. Where it is not beyond the moment, it goes on from there
                and is returned again.

        Raises:
            RunNotFound: when the store has no such run, or its beginning no more.
            StoreUnavailable: when Redis is away.
        """
        first, _ = await self.store.run_span(uid)
        until = max(last_cursor_of_ms(moment_ms), first, key=cursor_numbers)
        chapters = self._chapters.setdefault(uid, Checkpoints())
        self._chapters.move_to_end(uid)
        run = onward
        if run is None or moment_of(run) > moment_ms:
            state = chapters.before(moment_ms)
            run = pickle.loads(state) if state is not None else None
        run = await self._folded(uid, run, until, chapters)
        self._forget()
        return run

    async def _folded(self, uid: str, run: Run | None, until: str, chapters: Checkpoints) -> Run:
        """Fold on, and keeps chapters where there were none yet; the event loop stays free between batches."""
        since_chapter = 0
        async with aclosing(self._loader.extend(uid, run, until=until, count=BATCH_ENTRIES)) as folded:
            async for run, entries in folded:
                since_chapter += entries
                if since_chapter >= chapters.spacing:
                    since_chapter = 0
                    if moment_of(run) > max(chapters.states, default=0):
                        chapters.keep(run)
        if run is None:
            raise RunNotFound(f"the first documents of run {uid[:100]!r} are no longer in the store")
        return run

    def _forget(self) -> None:
        """Let the chapters go that were asked for least lately."""
        size = sum(chapters.size for chapters in self._chapters.values())
        while size > BYTES_MAX or len(self._chapters) > CHAPTERS_MAX:
            size -= self._chapters.popitem(last=False)[1].size


def moment_of(run: Run) -> int:
    """Return milliseconds since 1970 of the last document that was folded into a run."""
    return cursor_ms(run.cursor)
