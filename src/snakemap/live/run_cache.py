"""Runs, folded for those who ask, and kept: whoever asks again costs only what has come since."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from snakemap.core.cursor import BEGINNING
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.errors import RunNotFound, StoreRewound
from snakemap.live.run_loader import RunLoader
from snakemap.live.written_maps import write_maps
from snakemap.render.export import MapFormat
from snakemap.store.store import Store, StreamPosition

__all__ = ["RunCache", "WrittenBytes"]

T = TypeVar("T")

log = logging.getLogger(__name__)

RUNS_KEPT = 16
BYTES_KEPT = 256 * 1024 * 1024
ENTRIES_AT_ONCE = 200
"""Entries that are folded in one go, some ten milliseconds: nobody else is answered meanwhile."""


@dataclass(frozen=True, slots=True)
class WrittenBytes:
    """Maps, ready to be sent.

    Attributes:
        cursor: of the last document in them.
        body: JSON or an archive; None for a client that has them already.
    """

    cursor: str
    body: bytes | None


@dataclass(slots=True)
class CachedRun:
    """One run and what has been written of it; whoever has the lock may go on with it.

    Attributes:
        lock: held while documents are folded in and while maps are written, so that neither sees half of the other.
        run: None before its start document.
        written: the last of each form.
        place: how far the run has been read; None before its start document.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    run: Run | None = None
    written: dict[tuple[MapFormat, str], WrittenBytes] = field(default_factory=dict)
    place: StreamPosition | None = None

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        grids = sum(source.maps.grids.nbytes for source in self.run.sources.values()) if self.run else 0
        return grids + sum(len(one.body or b"") for one in self.written.values())


class RunCache:
    """The runs that were asked for lately; the others are folded anew when somebody asks.

    Args:
        store: where their documents are.
        habits: what to assume where these are silent.
    """

    def __init__(self, store: Store, *, habits: ScanDefaults) -> None:
        self._store = store
        self._loader = RunLoader(store, habits=habits)
        self._folds: OrderedDict[str, CachedRun] = OrderedDict()

    async def run(self, uid: str) -> Run:
        """Return a run with everything that is in the store now; to look at, and only before anything else is awaited.

        Raises:
            RunNotFound: when there is none of that uid.
            StoreUnavailable: when Redis is away.
        """
        fold = self._folds.setdefault(uid, CachedRun())
        self._folds.move_to_end(uid)
        async with fold.lock:
            run = await self._catch_up(uid, fold)
        self._forget()
        return run

    async def maps(self, uid: str, form: MapFormat, *, source: str = "", known: Collection[str] = ()) -> WrittenBytes:
        """Return the maps of a run with everything that is in the store now.

        Those who ask at the same time get the same bytes, written once.

        Args:
            uid: of the run.
            form: of the answer.
            source: what of the run, as :attr:`Run.sources` names it; empty for the main one.
            known: cursors, or ``*`` for any; when nothing has come since one of them, nothing is written.

        Raises:
            RunNotFound: when there is none of that uid, or it has no such source.
            StoreUnavailable: when Redis is away.
        """
        fold = self._folds.setdefault(uid, CachedRun())
        self._folds.move_to_end(uid)
        async with fold.lock:
            run = await self._catch_up(uid, fold)
            if source and source not in run.sources:
                raise RunNotFound(f"run {uid[:100]!r} has no {source[:100]!r}; it has {', '.join(run.sources)}")
            if run.cursor in known or "*" in known:
                return WrittenBytes(run.cursor, None)
            latest = fold.written.get((form, source))
            if latest is None or latest.cursor != run.cursor:
                latest = WrittenBytes(run.cursor, await asyncio.to_thread(write_maps, run, form, source=source))
                fold.written = {key: kept for key, kept in fold.written.items() if kept.cursor == run.cursor}
                fold.written[form, source] = latest
        self._forget()
        return latest

    async def told(self, uid: str, tell: Callable[[Run], T]) -> T:
        """Return what a function makes of a run with everything that is in the store now.

        The function runs in a thread, and nobody else changes the run meanwhile.

        Raises:
            RunNotFound: when there is none of that uid.
            StoreUnavailable: when Redis is away.
        """
        fold = self._folds.setdefault(uid, CachedRun())
        self._folds.move_to_end(uid)
        async with fold.lock:
            answer = await asyncio.to_thread(tell, await self._catch_up(uid, fold))
        self._forget()
        return answer

    async def _catch_up(self, uid: str, fold: CachedRun) -> Run:
        await self._check(uid, fold)
        try:
            async with aclosing(self._loader.extend(uid, fold.run, at_once=ENTRIES_AT_ONCE)) as folded:
                async for fold.run, _ in folded:
                    pass
            if fold.run is None:
                raise RunNotFound(f"the first documents of run {uid[:100]!r} are no longer in the store")
        except RunNotFound:
            self._folds.pop(uid, None)
            raise
        return fold.run

    async def _check(self, uid: str, fold: CachedRun) -> None:
        """Begin a run again when the store is not the one that it was read from any more."""
        if fold.run is None:
            fold.place = StreamPosition(BEGINNING)
        elif fold.place is not None:
            fold.place.cursor, fold.place.read = fold.run.cursor, True
        if fold.place is None:
            return
        try:
            await self._store.check(fold.place)
        except StoreRewound as trouble:
            log.warning("run %s is folded again: %s", uid, trouble)
            fold.run, fold.written, fold.place = None, {}, StreamPosition(BEGINNING)

    def _forget(self) -> None:
        """Let the runs go that were asked for least lately; one that is just being read lives on with its reader."""
        kept_bytes = sum(fold.size_bytes for fold in self._folds.values())
        while len(self._folds) > 1 and (len(self._folds) > RUNS_KEPT or kept_bytes > BYTES_KEPT):
            kept_bytes -= self._folds.popitem(last=False)[1].size_bytes
