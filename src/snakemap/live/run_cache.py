"""Cache of folded runs: a repeated request folds only the new documents."""

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
from snakemap.core.streams import MapSource
from snakemap.errors import RunNotFound, StoreRewound
from snakemap.live.run_loader import RunLoader
from snakemap.live.written_maps import write_maps
from snakemap.render.export import MapFormat
from snakemap.store.store import Store, StreamPosition

__all__ = ["RunCache", "WrittenBytes", "source_of"]

T = TypeVar("T")

log = logging.getLogger(__name__)

RUNS_KEPT = 16
BYTES_KEPT = 256 * 1024 * 1024
ENTRIES_AT_ONCE = 200
"""Entries that are folded in one go, about 10 ms, during which no other request is answered."""


def source_of(run: Run, name: str) -> MapSource:
    """Return a source of a run; the main one for an empty name.

    Raises:
        RunNotFound: when it has no such source.
    """
    if name and name not in run.sources:
        raise RunNotFound(f"run {run.uid[:100]!r} has no {name[:100]!r}; it has {', '.join(run.sources)}")
    return run.source(name)


@dataclass(frozen=True, slots=True)
class WrittenBytes:
    """Encoded maps.

    Attributes:
        cursor: of the last document in them.
        body: JSON or an archive; None for a client that has them already.
    """

    cursor: str
    body: bytes | None


@dataclass(slots=True)
class CachedRun:
    """One run, and what has been encoded of it.

    Attributes:
        lock: held while documents are folded and while maps are encoded.
        run: None before its start document.
        written: the latest encoding of each format and source.
        place: how far the run has been read; None before its start document.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    run: Run | None = None
    written: dict[tuple[MapFormat, str], WrittenBytes] = field(default_factory=dict)
    place: StreamPosition | None = None

    @property
    def size_bytes(self) -> int:
        """Approximate memory."""
        grids = sum(source.maps.grids.nbytes for source in self.run.sources.values()) if self.run else 0
        return grids + sum(len(one.body or b"") for one in self.written.values())


class RunCache:
    """The runs that were requested most recently.

    Args:
        store: the document store.
        defaults: geometry of runs whose documents have none.
    """

    def __init__(self, store: Store, *, defaults: ScanDefaults) -> None:
        self._store = store
        self._loader = RunLoader(store, defaults=defaults)
        self._runs: OrderedDict[str, CachedRun] = OrderedDict()

    async def run(self, uid: str) -> Run:
        """Return a run, folded to the end of the store; read-only, and valid until the next await.

        Raises:
            RunNotFound: when there is no such run.
            StoreUnavailable: when Redis cannot be reached.
        """
        cached = self._runs.setdefault(uid, CachedRun())
        self._runs.move_to_end(uid)
        async with cached.lock:
            run = await self._catch_up(uid, cached)
        self._forget()
        return run

    async def maps(self, uid: str, form: MapFormat, *, source: str = "", known: Collection[str] = ()) -> WrittenBytes:
        """Return the maps of a run, folded to the end of the store; encoded once for simultaneous requests.

        Args:
            uid: of the run.
            form: format of the maps.
            source: name in :attr:`Run.sources`; empty for the main one.
            known: cursors of maps that the client has, or ``*`` for any; then the body is None.

        Raises:
            RunNotFound: when there is no such run or source.
            StoreUnavailable: when Redis cannot be reached.
        """
        cached = self._runs.setdefault(uid, CachedRun())
        self._runs.move_to_end(uid)
        async with cached.lock:
            run = await self._catch_up(uid, cached)
            source_of(run, source)
            if run.cursor in known or "*" in known:
                return WrittenBytes(run.cursor, None)
            latest = cached.written.get((form, source))
            if latest is None or latest.cursor != run.cursor:
                latest = WrittenBytes(run.cursor, await asyncio.to_thread(write_maps, run, form, source=source))
                cached.written = {key: kept for key, kept in cached.written.items() if kept.cursor == run.cursor}
                cached.written[form, source] = latest
        self._forget()
        return latest

    async def compute(self, uid: str, function: Callable[[Run], T]) -> T:
        """Return the value of a function of a run, folded to the end of the store.

        The function runs in a thread; the run does not change meanwhile.

        Raises:
            RunNotFound: when there is no such run.
            StoreUnavailable: when Redis cannot be reached.
        """
        cached = self._runs.setdefault(uid, CachedRun())
        self._runs.move_to_end(uid)
        async with cached.lock:
            answer = await asyncio.to_thread(function, await self._catch_up(uid, cached))
        self._forget()
        return answer

    async def _catch_up(self, uid: str, cached: CachedRun) -> Run:
        await self._check(uid, cached)
        try:
            async with aclosing(self._loader.extend(uid, cached.run, at_once=ENTRIES_AT_ONCE)) as folded:
                async for cached.run, _ in folded:
                    pass
            if cached.run is None:
                raise RunNotFound(f"the first documents of run {uid[:100]!r} are no longer in the store")
        except RunNotFound:
            self._runs.pop(uid, None)
            raise
        return cached.run

    async def _check(self, uid: str, cached: CachedRun) -> None:
        """Drop a run that was read from a store that was replaced."""
        if cached.run is None:
            cached.place = StreamPosition(BEGINNING)
        elif cached.place is not None:
            cached.place.cursor, cached.place.read = cached.run.cursor, True
        if cached.place is None:
            return
        try:
            await self._store.check(cached.place)
        except StoreRewound as trouble:
            log.warning("run %s is folded again: %s", uid, trouble)
            cached.run, cached.written, cached.place = None, {}, StreamPosition(BEGINNING)

    def _forget(self) -> None:
        """Drop the least recently used runs; a run that is being read stays until then."""
        kept_bytes = sum(cached.size_bytes for cached in self._runs.values())
        while len(self._runs) > 1 and (len(self._runs) > RUNS_KEPT or kept_bytes > BYTES_KEPT):
            kept_bytes -= self._runs.popitem(last=False)[1].size_bytes
