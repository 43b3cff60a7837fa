"""Read finished files on a Dask cluster, if one is set; its workers need snakemap and access to the same files.

Each thread of a Dask worker has a confined, replaceable reader process of its own. If the cluster cannot be reached or
loses a request, local reader processes take over.
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

__all__ = ["AT_ONCE", "DaskCluster", "DaskReader", "read_count"]

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Row ranges that are requested from a cluster at one time."""

CONNECT_S, RETRY_S = 5.0, 30.0


class DaskCluster:
    """Connection to a scheduler, made on first use.

    Args:
        address: like ``tcp://scheduler:8786``.

    Raises:
        SettingsError: when Dask is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed  # noqa: F401  # pyright: ignore[reportUnusedImport] - only where a setting asks for it
        except ImportError as error:
            raise SettingsError("SNAKEMAP_DASK: install snakemap[dask] to use a Dask cluster") from error
        self.address = address
        self._client: Any = None
        self._lost_at = -RETRY_S
        self._lock = asyncio.Lock()

    async def client(self) -> Any:
        """Return the client; None while the scheduler cannot be reached; the next try is after ``RETRY_S``."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._client is None and now - self._lost_at >= RETRY_S:
                self._client = await self._connected()
                self._lost_at = now if self._client is None else self._lost_at
            return self._client

    async def lost(self, trouble: BaseException) -> None:
        """Close a connection that failed."""
        log.warning("the Dask cluster at %s failed, local processes read meanwhile: %s", self.address, trouble)
        async with self._lock:
            self._lost_at = asyncio.get_running_loop().time()
            await self._disconnect()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._disconnect()

    async def _connected(self) -> Any:
        from distributed import Client

        try:
            client = await Client(self.address, asynchronous=True, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as trouble:
            log.warning("the Dask cluster at %s cannot be reached, local processes read: %s", self.address, trouble)
            return None
        log.info("finished files are read by the Dask cluster at %s", self.address)
        return client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class DaskReader:
    """Reads on the cluster, or in a local process while the cluster cannot be reached.

    Args:
        cluster: the connection.
        config: of the reader processes.
        make: makes a local reader.
    """

    def __init__(self, cluster: DaskCluster, config: ReaderConfig, *, make: Callable[[], FrameReading]) -> None:
        self.cluster = cluster
        self.config = config
        self._make = make
        self._own: FrameReading | None = None

    @property
    def launches(self) -> int:
        """How often the local process was started."""
        return self._own.launches if self._own is not None else 0

    @property
    def marks(self) -> tuple[FileFingerprint, ...]:
        """Fingerprints of the files that the local process read last; files that the cluster reads are finished."""
        return getattr(self._own, "marks", ())

    async def start(self) -> None:
        """Do nothing: the local process is started on first use."""

    async def close(self) -> None:
        """End the local process."""
        if self._own is not None:
            await self._own.close()

    async def reduce(self, batch: FrameBatch) -> FrameSums:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.reduce`."""
        return await self._call("reduce", batch)

    async def scalars(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.scalars`."""
        return await self._call("scalars", batch)

    async def written(self, batch: FrameBatch) -> npt.NDArray[np.bool_]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.written`."""
        return await self._call("written", batch)

    async def length(self, uri: str, dataset: str) -> int:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.length`."""
        return await self._call("length", uri, dataset)

    async def size(self, uri: str, dataset: str) -> tuple[int, ...]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.size`."""
        return await self._call("size", uri, dataset)

    async def shape(self, uri: str, dataset: str) -> tuple[int, ...]:
        """As :meth:`snakemap.hdf5.frame_reader.FrameReader.shape`."""
        return await self._call("shape", uri, dataset)

    async def _call(self, method: str, *arguments: Any) -> Any:
        client = await self.cluster.client()
        if client is not None:
            timeout_s = 2 * self.config.time_limit_s + CONNECT_S
            try:
                future = client.submit(read_on_worker, self.config, method, arguments, pure=False)
                return await asyncio.wait_for(future, timeout_s)
            except SnakemapError:
                raise
            except Exception as trouble:  # noqa: BLE001 - a cluster may fail with anything; it is logged
                await self.cluster.lost(trouble)
        if self._own is None:
            self._own = self._make()
        return await getattr(self._own, method)(*arguments)


# functions that run in a Dask worker

_thread_state = threading.local()
_reads = 0


def read_on_worker(config: ReaderConfig, method: str, arguments: tuple[Any, ...]) -> Any:
    """Call a method of this thread's reader.

    Raises:
        SnakemapError: as the reader does.
    """
    global _reads
    _reads += 1
    readers = _thread_state.__dict__.setdefault("readers", {})
    if config not in readers:
        readers[config] = FrameReader(
            Path(config.root),
            path_map=config.path_map,
            locking=config.locking,
            time_limit_s=config.time_limit_s,
            memory_limit_bytes=config.memory_limit_bytes,
            nice=config.nice,
        )
    work = getattr(readers[config], method)(*arguments)
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


def read_count() -> int:
    """Return how many calls this process has made."""
    return _reads


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return an event loop in its own thread, for all readers of a Dask worker."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="readers", daemon=True).start()
    return loop
