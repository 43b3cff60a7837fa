"""Fold the documents of a run from the store, batch by batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from snakemap.core.coalesce import coalesce
from snakemap.core.documents import WORKER, Entry
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.errors import DocumentError, RunNotFound
from snakemap.store.store import Store

__all__ = ["RunLoader"]

log = logging.getLogger(__name__)

BATCH_ENTRIES = 1000


class RunLoader:
    """Begins runs and folds entries into them.

    Args:
        store: the document store.
        defaults: geometry of runs whose documents have none.
        quiet: whether invalid documents are logged at DEBUG only, because they have been logged before.
    """

    def __init__(self, store: Store, *, defaults: ScanDefaults, quiet: bool = False) -> None:
        self.store = store
        self.defaults = defaults
        self.quiet = quiet

    def begin(self, start: Entry) -> Run:
        """Return the run of a start document."""
        run = Run(start.doc, defaults=self.defaults)
        run.apply(start.document, cursor=start.cursor)
        return run

    def apply(self, run: Run, entry: Entry) -> None:
        """Fold an entry into its run; an invalid one is logged and ignored."""
        if entry.name in (WORKER, "start"):
            return
        try:
            run.apply(entry.document, cursor=entry.cursor)
        except DocumentError as trouble:
            log.log(logging.DEBUG if self.quiet else logging.WARNING, "run %s: %s", run.uid, trouble)
        except Exception:  # one document must not affect the others
            level = logging.DEBUG if self.quiet else logging.ERROR
            log.log(level, "run %s: a %s at %s was ignored", run.uid, entry.name, entry.cursor, exc_info=True)

    async def load(self, uid: str) -> Run:
        """Return a run, folded to the end of the store.

        Raises:
            RunNotFound: when the store has no such run, or its first documents are missing.
        """
        loaded: Run | None = None
        async with aclosing(self.extend(uid)) as folded:
            async for run, _ in folded:
                loaded = run
        if loaded is None:
            raise RunNotFound(f"the first documents of run {uid[:100]!r} are no longer in the store")
        return loaded

    async def extend(
        self, uid: str, run: Run | None = None, *, until: str = "", count: int = BATCH_ENTRIES, at_once: int = 0
    ) -> AsyncGenerator[tuple[Run, int]]:
        """Fold the documents of a run after its cursor, yielding to the event loop between batches.

        Args:
            uid: of the run.
            run: state to continue; None before the start document.
            until: cursor of the last entry; empty for all.
            count: entries that are read at one time.
            at_once: entries that are folded at one time; 0 for all that are read.

        Yields:
            The run, and the number of entries that were folded.

        Raises:
            RunNotFound: when the store has no such run.
        """
        after = run.cursor if run else "0"
        async with aclosing(self.store.run_entries(uid, after=after, until=until, count=count)) as batches:
            async for batch in batches:
                for first in range(0, len(batch), at_once or count):
                    entries = batch[first : first + (at_once or count)]
                    for entry in coalesce(entries):
                        if run is not None:
                            self.apply(run, entry)
                        elif entry.name == "start":
                            run = self.begin(entry)
                    if run is not None:
                        yield run, len(entries)
                    await asyncio.sleep(0)
