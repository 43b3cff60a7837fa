"""Finished files read on a Dask cluster, where a setting names one; its workers need snakemap and the same files.

Each thread of a Dask worker has a reading process of its own, confined and replaceable like ours. Should the cluster be
away, or lose what it was asked, processes of our own do the work.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.errors import SettingsError, SnakemapError
from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameReader, FrameSums
from snakemap.hdf5.protocol import ReaderConfig
from snakemap.ingest.reader_pool import FrameReading

__all__ = ["AT_ONCE", "DaskCluster", "DaskReader", "reads_here"]

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Pieces that a cluster is asked for at one time."""

CONNECT_S, RETRY_S = 5.0, 30.0


class DaskCluster:
    """The connection to a scheduler, made when first needed.

    Args:
        address: like ``tcp://scheduler:8786``.

    Raises:
        SettingsError: when Dask is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed  # noqa: F401 - only where a setting asks for it
        except ImportError as error:
            raise SettingsError("SNAKEMAP_DASK: install snakemap[dask] to use a Dask cluster") from error
        self.address = address
        self._client: Any = None
        self._lost_at = -RETRY_S
        self._lock = asyncio.Lock()

    async def client(self) -> Any:
        """Return the client; None while the scheduler cannot be reached, which is tried again after a while."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._client is None and now - self._lost_at >= RETRY_S:
                self._client = await self._connected()
                self._lost_at = now if self._client is None else self._lost_at
            return self._client

    async def lost(self, trouble: BaseException) -> None:
        """Let go of a connection that failed."""
        log.warning("the Dask cluster at %s failed, our own processes read meanwhile: %s", self.address, trouble)
        async with self._lock:
            self._lost_at = asyncio.get_running_loop().time()
            await self._let_go()

    async def close(self) -> None:
        """End the connection."""
        async with self._lock:
            await self._let_go()

    async def _connected(self) -> Any:
        from distributed import Client

        try:
            client = await Client(self.address, asynchronous=True, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as trouble:
            log.warning("the Dask cluster at %s cannot be reached, our own processes read: %s", self.address, trouble)
            return None
        log.info("finished files are read by the Dask cluster at %s", self.address)
        return client

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class DaskReader:
    """Reads on the cluster, or by a process of our own while it is away.

    Args:
        cluster: the connection.
        terms: what a reading process is told.
        make: makes a reader of our own.
    """

    def __init__(self, cluster: DaskCluster, terms: ReaderConfig, *, make: Callable[[], FrameReading]) -> None:
        self.cluster = cluster
        self.terms = terms
        self._make = make
        self._own: FrameReading | None = None

    @property
    def launches(self) -> int:
        """How often a process of our own was started."""
        return self._own.launches if self._own is not None else 0

    @property
    def marks(self) -> tuple[FileFingerprint, ...]:
        """Of the files that our own process read last; what the cluster reads is finished."""
        return getattr(self._own, "marks", ())

    async def start(self) -> None:
        """Nothing is started before it is needed."""

    async def close(self) -> None:
        """End the process of our own, if there is one."""
        if self._own is not None:
            await self._own.close()

    async def reduce(self, batch: FrameBatch) -> FrameSums:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.reduce`."""
        return await self._ask("reduce", batch)

    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.scalars`."""
        return await self._ask("scalars", batch)

    async def written(self, batch: FrameBatch) -> npt.NDArray[np.bool_]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.written`."""
        return await self._ask("written", batch)

    async def length(self, uri: str, dataset: str) -> int:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.length`."""
        return await self._ask("length", uri, dataset)

    async def size(self, uri: str, dataset: str) -> tuple[int, ...]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.size`."""
        return await self._ask("size", uri, dataset)

    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.shape`."""
        return await self._ask("shape", uri, dataset)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        client = await self.cluster.client()
        if client is not None:
            patience_s = 2 * self.terms.time_limit_s + CONNECT_S
            try:
                future = client.submit(read_there, self.terms, method, arguments, pure=False)
                return await asyncio.wait_for(future, patience_s)
            except SnakemapError:
                raise
            except Exception as trouble:  # noqa: BLE001 - whatever a cluster may fail with, which is logged
                await self.cluster.lost(trouble)
        if self._own is None:
            self._own = self._make()
        return await getattr(self._own, method)(*arguments)


# what happens in a Dask worker

_here = threading.local()
_reads = 0


def read_there(terms: ReaderConfig, method: str, arguments: tuple[Any, ...]) -> Any:
    """Have this thread's reading process do something; run by a Dask worker.

    Raises:
        SnakemapError: as the reader does.
    """
    global _reads
    _reads += 1
    readers = _here.__dict__.setdefault("readers", {})
    if terms not in readers:
        readers[terms] = FrameReader(
            Path(terms.root),
            path_map=terms.path_map,
            locking=terms.locking,
            time_limit_s=terms.time_limit_s,
            memory_limit_bytes=terms.memory_limit_bytes,
            nice=terms.nice,
        )
    work = getattr(readers[terms], method)(*arguments)
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


def reads_here() -> int:
    """Return how often this process was asked to read."""
    return _reads


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return an event loop in a thread of its own, for all readers of a Dask worker."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="readers", daemon=True).start()
    return loop
