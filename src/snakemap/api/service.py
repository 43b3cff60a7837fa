"""What the routes stand on: one for each application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection
from typing import Any

from snakemap.api.models import ErrorDetail, Readiness
from snakemap.api.session_store import ApiSessions
from snakemap.api.streaming import DocumentStreams, lines
from snakemap.blueapi.scan_control import control_of
from snakemap.core.geometry import ScanDefaults
from snakemap.files.directory_listing import DirectoryCache
from snakemap.live.run_cache import RunCache, WrittenBytes
from snakemap.render.export import MapFormat
from snakemap.settings import Settings
from snakemap.store.readiness import checks, wrong
from snakemap.store.run_index import find_uid
from snakemap.store.store import Store
from snakemap.synthetic.scene import SyntheticScans

__all__ = ["Service"]


class Service:
    """Answers what the routes are asked.

    Args:
        store: the documents.
        settings: of the process.

    Attributes:
        started: when, in seconds since 1970.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.control = control_of(settings, store)
        self.folds = RunCache(store, habits=ScanDefaults(settings.grid, snake=settings.snake))
        self.directories = DirectoryCache(settings.root)
        self.streams = DocumentStreams(store, origins=settings.origins)
        self.visitors = ApiSessions(store)
        self.scenes = SyntheticScans()
        self.started = time.time()

    async def summary(self, asked: str) -> dict[str, Any]:
        """What the list of runs says of one."""
        return await self.store.summary(await find_uid(self.store, asked))

    async def maps(self, asked: str, form: MapFormat, *, source: str = "", known: Collection[str] = ()) -> WrittenBytes:
        """The maps of a run as they are now; without a body when a client has missed nothing.

        Args:
            asked: uid, or ``latest``.
            form: JSON or an archive.
            source: what of the run, as the maps tell it; empty for the main one.
            known: cursors of maps that the client has, or ``*``.
        """
        return await self.folds.maps(await find_uid(self.store, asked), form, source=source, known=known)

    async def documents(self, asked: str, *, after: str = "0") -> AsyncGenerator[bytes]:
        """The documents of a run, as JSON lines; see :func:`snakemap.api.streaming.lines`."""
        return lines(self.store, await find_uid(self.store, asked), after=after)

    async def readiness(self) -> Readiness:
        """What data need to come through: Redis, the worker, and its broker where it has one."""
        told = await checks(self.store)
        trouble = wrong(told)
        error = ErrorDetail(code="not_ready", message=trouble) if trouble else None
        return Readiness(ready=not trouble, checks=told, error=error)
