"""The store: every document of every run in one Redis stream, whose entry id is the only version number.

Readers read the stream from a cursor and fold it. All other keys are indexes and shared state. Under ``snakemap:``::

    documents      the stream: {name, run, task, doc}; doc is JSON, verbatim
    life           random id, made with the stream; a new one after the store or the stream was emptied
    owners         uid of every start, descriptor and resource -> uid of its run
    runs           uids of the runs, in the order in which they were first stored
    run:<uid>      first and last cursor, number of entries, summary as JSON, thumbnail as PNG
    owned:<uid>    the uids in `owners` that are removed with the run
    frame:<uid>    newest preview frame, expiring; of another camera than the main one, with its name as a suffix
    report:<part>  heartbeat of a process, expiring; `parts` lists them
    lease:<name>   holder of an exclusive right, expiring
    progress       progress of moving devices, expiring

Each class adds methods to the one before it::

    RedisConnection    time limits, errors
    RedisSharedState   report, lease, progress
    RedisStream        documents, life
    Store              owners, runs, run, owned, frame

(:mod:`snakemap.blueapi.control_store` has further keys: control lock, audit log, parameters of tasks.)

Appending is one script: all entries of a batch, their owners and the index of their run are written, or none is. An
interrupted append may have happened; repeating it may store a document twice, which every fold ignores.

A full Redis refuses documents. Lease and reports are written even then, because they replace keys of the same size:
without them the worker could neither report the problem nor remove old runs.
Needs Redis 6.2 or later, or Valkey.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.core.cursor import cursor_text
from snakemap.errors import FrameError, RunNotFound
from snakemap.store.entries import RunSpan, span_of_run, to_json
from snakemap.store.keys import OWNERS, RUNS, STREAM, frame_key, run_key
from snakemap.store.redis_stream import RedisStream, StreamPosition

__all__ = ["Store", "StreamPosition"]

FRAME_KEPT_S = 86_400.0


class Store(RedisStream):
    """The document stream, and indexes derived from it.

    Every method raises StoreUnavailable, within a time limit, when Redis cannot be reached or answers with an error,
    and StoreRefuses when Redis can be read but refuses writes. Nothing is retried here.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://...`` or ``unix:///path/of/socket``.
        documents_max: entries of the stream before the oldest runs are removed.
        keep_days: days after its last document before a run is removed.
        worker: name of the worker, if this is its store: it appends only while no other worker holds the lease.
        read_only: whether every change raises ReadOnly.

    Attributes:
        address: of Redis, without user and password, for messages.

    Raises:
        SettingsError: when the URL is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        documents_max: int = 2_000_000,
        keep_days: float = 7.0,
        worker: str = "",
        read_only: bool = False,
    ) -> None:
        super().__init__(url, worker=worker, read_only=read_only)
        self.documents_max = documents_max
        self.keep_s = keep_days * 86_400

    async def owners(self) -> dict[str, str]:
        """Return the uid of every start, descriptor and resource, with the uid of its run."""
        async with self._translated():
            owners = await self._client.hgetall(OWNERS)
        return {uid.decode(): run.decode() for uid, run in owners.items()}

    async def save_summary(self, uid: str, summary: dict[str, Any]) -> None:
        """Save the summary of a run, JSON with ``status`` and ``uid``."""
        async with self._translated(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(run_key(uid), "summary", to_json(summary, "a summary"))
            pipeline.zadd(RUNS, {uid: time.time() * 1000}, nx=True)
            await pipeline.execute()

    async def summaries(self, *, count: int | None = None) -> list[dict[str, Any]]:
        """Return the summaries of the runs, newest first: all, or the newest ``count``.

        The newest run is the one that was stored last, so a recording that is replayed today is of today.
        """
        async with self._translated():
            last = -1 if count is None else count - 1
            uids: list[bytes] = await self._client.zrevrange(RUNS, 0, last) if count != 0 else []
            texts = [row[0] for row in await self._fields(uids, "summary")]
        return [orjson.loads(text) for text in texts if text is not None]

    async def summary(self, uid: str) -> dict[str, Any]:
        """Return the summary of a run.

        Raises:
            RunNotFound: when there is none.
        """
        async with self._translated():
            text = await self._client.hget(run_key(uid), "summary")
        if text is None:
            raise RunNotFound(f"No run {uid[:100]!r} is in the store; it may have expired.")
        return orjson.loads(text)

    async def save_frame(self, uid: str, frame: npt.NDArray[Any], *, about: dict[str, Any], source: str = "") -> None:
        """Save a run's newest preview frame for a day, with its metadata.

        Args:
            uid: of the run.
            frame: (rows, columns), or (rows, columns, 3) in color.
            about: metadata, JSON.
            source: name of the camera; empty for the main source.

        Raises:
            FrameError: when the dtype is not numeric.
        """
        if frame.dtype.kind not in "biuf":
            raise FrameError(f"a frame of {frame.dtype}, where numbers were expected")
        header = to_json({"dtype": frame.dtype.str, "shape": frame.shape, "about": about}, "metadata of a frame")
        value = b"%d:%b%b" % (len(header), header, np.ascontiguousarray(frame).tobytes())
        async with self._translated():
            await self._client.set(frame_key(uid, source), value, px=int(FRAME_KEPT_S * 1000))

    async def frame(self, uid: str, source: str = "") -> tuple[npt.NDArray[Any], dict[str, Any]] | None:
        """Return the newest preview frame of a run (read-only) and its metadata; None when there is none (any more).

        Args:
            uid: of the run.
            source: as it was saved.
        """
        async with self._translated():
            value = await self._client.get(frame_key(uid, source))
        if value is None:
            return None
        colon = value.index(b":")
        begins = colon + 1 + int(value[:colon])
        header = orjson.loads(value[colon + 1 : begins])
        pixels = np.frombuffer(value, dtype=header["dtype"], offset=begins)
        return pixels.reshape(header["shape"]), header["about"]

    async def save_picture(self, uid: str, png: bytes) -> None:
        """Save the thumbnail of a run's maps, which is removed with the run."""
        async with self._translated():
            await self._client.hset(f"snakemap:run:{uid}", "picture", png)

    async def picture(self, uid: str) -> bytes | None:
        """Return the thumbnail of a run's maps; None when there is none."""
        async with self._translated():
            return await self._client.hget(f"snakemap:run:{uid}", "picture")

    async def evict(self) -> list[str]:
        """Remove whole runs, the oldest first, until no limit is exceeded.

        A running run stays, whatever its size, unless it has had no document for ``keep_days``. Entries between those
        of a remaining run are deleted one by one, all others by trimming the stream.

        Returns:
            The uids of the removed runs.
        """
        async with self._translated():
            now_s = time.time()
            runs = await self._index()
            aged = [run for run in runs if run.silent_s(now_s) > self.keep_s]
            runs = await self._drop(runs, aged, now_s)
            over = await self._client.xlen(STREAM) - self.documents_max
            excess = list[RunSpan]()
            for run in runs:
                if over > 0 and not run.is_running(now_s):
                    excess.append(run)
                    over -= run.entries
            if excess:
                await self._drop(runs, excess, now_s)
        return [run.uid for run in (*aged, *excess)]

    async def _fields(self, uids: Iterable[bytes | str], *names: str) -> list[list[bytes | None]]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for uid in uids:
                pipeline.hmget(run_key(uid if isinstance(uid, str) else uid.decode()), *names)
            return await pipeline.execute()

    async def _index(self) -> list[RunSpan]:
        """Return the index of all runs, the oldest first."""
        uids = [uid.decode() for uid in await self._client.zrange(RUNS, 0, -1)]
        scores: list[float | None] = await self._client.zmscore(RUNS, uids) if uids else []
        rows = await self._fields(uids, "first", "last", "entries", "summary")
        return [span_of_run(uid, int(score or 0), row) for uid, score, row in zip(uids, scores, rows, strict=True)]

    async def _drop(self, runs: Sequence[RunSpan], going: Sequence[RunSpan], now_s: float) -> list[RunSpan]:
        """Remove runs from the stream, then from all indexes; return the remaining ones."""
        gone = {run.uid for run in going}
        staying = [run for run in runs if run.uid not in gone]
        floor = min((run.first for run in staying if run.entries), default=None)
        if floor is None:
            floor = max((run.last for run in going), default=(0, 0))
            floor = max((floor[0], floor[1] + 1), (int((now_s - self.keep_s) * 1000), 0))
            await self._client.xtrim(STREAM, maxlen=self.documents_max, approximate=False)
        await self._client.xtrim(STREAM, minid=cursor_text(floor), approximate=False)
        for run in going:
            if run.entries and run.last >= floor:
                await self._take_out(run)
            await self._forget(run.uid)
        return staying

    async def _take_out(self, run: RunSpan) -> None:
        async for entries in self.run_entries(run.uid):
            await self._client.xdel(STREAM, *(entry.cursor for entry in entries))

    async def _forget(self, uid: str) -> None:
        owned = await self._client.smembers(f"snakemap:owned:{uid}")
        async with self._client.pipeline(transaction=True) as pipeline:
            if owned:
                pipeline.hdel(OWNERS, *owned)
            pipeline.delete(run_key(uid), frame_key(uid), f"snakemap:owned:{uid}")
            pipeline.zrem(RUNS, uid)
            await pipeline.execute()
