"""Runs at earlier moments, folded again from their documents.

Checkpoints of folded state are cached, so that going back a little does not start at the beginning.
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
CHECKPOINT_ENTRIES = 2_000
CHECKPOINTS_MAX = 16
BYTES_MAX = 128 << 20
CHECKPOINT_BYTES_MAX = BYTES_MAX // CHECKPOINTS_MAX
"""A larger run gets no checkpoints: a few of them would displace all others."""


@dataclass(slots=True)
class Checkpoints:
    """States of one run, pickled, by the millisecond of their last document.

    Attributes:
        states: in rising order.
        spacing: documents between two states; doubled when there are too many.
    """

    states: dict[int, bytes] = field(default_factory=dict)
    spacing: int = field(default_factory=lambda: CHECKPOINT_ENTRIES)

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(map(len, self.states.values()))

    def before(self, moment_ms: int) -> bytes | None:
        """Return the last state up to a moment; None without one."""
        return next((state for at, state in reversed(self.states.items()) if at <= moment_ms), None)

    def keep(self, run: Run) -> None:
        """Add a state after all others, unless it is too large."""
        state = pickle.dumps(run)
        if len(state) > CHECKPOINT_BYTES_MAX:
            self.spacing = sys.maxsize  # later states are no smaller
            return
        self.states[moment_of(run)] = state
        if len(self.states) > CHECKPOINTS_MAX:
            self.states = dict(list(self.states.items())[1::2])
            self.spacing *= 2


class RunHistory:
    """Folds runs up to a moment.

    Args:
        store: the document store.
        defaults: geometry of runs whose documents have none.
    """

    def __init__(self, store: Store, *, defaults: ScanDefaults) -> None:
        self.store = store
        self._loader = RunLoader(store, defaults=defaults, quiet=True)
        self._checkpoints: OrderedDict[str, Checkpoints] = OrderedDict()

    def forget(self) -> None:
        """Drop all checkpoints, because the store was replaced."""
        self._checkpoints.clear()

    async def run_at(self, uid: str, moment_ms: int, *, onward: Run | None = None) -> Run:
        """Return the state of a run at a moment, as an object that later documents do not change.

        Args:
            uid: of the run.
            moment_ms: milliseconds since 1970, by the clock of Redis; at least that of the first document.
            onward: an earlier result for the same run; if it is not beyond the moment, it is continued and returned.

        Raises:
            RunNotFound: when the store has no such run, or its first documents are missing.
            StoreUnavailable: when Redis cannot be reached.
        """
        first, _ = await self.store.run_span(uid)
        until = max(last_cursor_of_ms(moment_ms), first, key=cursor_numbers)
        checkpoints = self._checkpoints.setdefault(uid, Checkpoints())
        self._checkpoints.move_to_end(uid)
        run = onward
        if run is None or moment_of(run) > moment_ms:
            state = checkpoints.before(moment_ms)
            run = pickle.loads(state) if state is not None else None
        run = await self._folded(uid, run, until, checkpoints)
        self._forget()
        return run

    async def _folded(self, uid: str, run: Run | None, until: str, checkpoints: Checkpoints) -> Run:
        """Fold further, and add checkpoints; yield to the event loop between batches."""
        since_checkpoint = 0
        async with aclosing(self._loader.extend(uid, run, until=until, count=BATCH_ENTRIES)) as folded:
            async for run, entries in folded:
                since_checkpoint += entries
                if since_checkpoint >= checkpoints.spacing:
                    since_checkpoint = 0
                    if moment_of(run) > max(checkpoints.states, default=0):
                        checkpoints.keep(run)
        if run is None:
            raise RunNotFound(f"the first documents of run {uid[:100]!r} are no longer in the store")
        return run

    def _forget(self) -> None:
        """Drop the least recently used checkpoints."""
        size = sum(checkpoints.size for checkpoints in self._checkpoints.values())
        while size > BYTES_MAX or len(self._checkpoints) > CHECKPOINTS_MAX:
            size -= self._checkpoints.popitem(last=False)[1].size


def moment_of(run: Run) -> int:
    """Return the time of the last folded document, in milliseconds since 1970."""
    return cursor_ms(run.cursor)
