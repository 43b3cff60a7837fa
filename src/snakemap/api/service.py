"""Dependencies of the routes: one instance for each application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any

from snakemap.api.models import ErrorDetail, Readiness
from snakemap.api.session_store import ApiSessions
from snakemap.api.streaming import DocumentStreams, lines
from snakemap.blueapi.scan_control import control_of
from snakemap.core.geometry import ScanDefaults
from snakemap.files.directory_listing import DirectoryCache
from snakemap.live.mean_frames import MeanFormat, MeanFrames, mean_of_points
from snakemap.live.region_answer import maps_with_regions
from snakemap.live.region_maps import RegionMaps
from snakemap.live.run_cache import RunCache, WrittenBytes
from snakemap.render.export import MapFormat
from snakemap.settings import Settings
from snakemap.store.readiness import checks, wrong
from snakemap.store.run_index import find_uid
from snakemap.store.store import Store
from snakemap.synthetic.synthetic_scan import SyntheticScans

__all__ = ["Service"]


class Service:
    """Data access of the routes.

    Args:
        store: the document store.
        settings: of the process.

    Attributes:
        started: seconds since 1970.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.control = control_of(settings, store)
        self.run_cache = RunCache(store, defaults=ScanDefaults(settings.grid, snake=settings.snake))
        self.regions = RegionMaps.of(settings)
        self.means = MeanFrames(self.regions.reader)
        self.directories = DirectoryCache(settings.root)
        self.streams = DocumentStreams(store, origins=settings.origins)
        self.sessions = ApiSessions(store)
        self.synthetic = SyntheticScans()
        self.started = time.time()

    async def summary(self, asked: str) -> dict[str, Any]:
        """Return the entry of a run in the list of runs; see :meth:`maps` for ``asked``."""
        return await self.store.summary(await find_uid(self.store, asked))

    async def maps(
        self,
        asked: str,
        form: MapFormat,
        *,
        source: str = "",
        rois: Sequence[str] = (),
        known: Collection[str] = (),
        approximate: bool = False,
    ) -> WrittenBytes:
        """Return the maps of a run; without a body when the client has the current version.

        Args:
            asked: uid, or ``latest``.
            form: JSON or an archive.
            source: source of the maps; empty for the main one.
            rois: rectangles whose maps are read from the frames, as text.
            known: cursors of maps that the client has, or ``*``.
            approximate: whether sums of blocks do, without reading frames.
        """
        if rois:
            uid = await find_uid(self.store, asked)
            return await maps_with_regions(
                self.run_cache,
                self.regions,
                uid,
                form,
                rois=rois,
                source=source,
                known=known,
                approximate=approximate,
            )
        return await self.run_cache.maps(await find_uid(self.store, asked), form, source=source, known=known)

    async def frame(
        self, asked: str, form: MeanFormat, *, points: str, source: str = "", known: Collection[str] = ()
    ) -> WrittenBytes:
        """Return the mean frame of points of a run; see :meth:`maps` for ``asked``, ``source`` and ``known``."""
        uid = await find_uid(self.store, asked)
        return await mean_of_points(self.run_cache, self.means, uid, form, points=points, source=source, known=known)

    async def documents(self, asked: str, *, after: str = "0") -> AsyncGenerator[bytes]:
        """Return the documents of a run as JSON lines; see :func:`snakemap.api.streaming.lines`."""
        return lines(self.store, await find_uid(self.store, asked), after=after)

    async def readiness(self) -> Readiness:
        """Return the state of Redis, the worker and its broker, if it has one."""
        results = await checks(self.store)
        trouble = wrong(results)
        error = ErrorDetail(code="not_ready", message=trouble) if trouble else None
        return Readiness(ready=not trouble, checks=results, error=error)
