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

(:mod:`snakemap.blueapi.control_store` has further keys: control lock, audit log, parameters of tasks.)

Appending is one script: all entries of a batch, their owners and the index of their run are written, or none is. An
interrupted append may have happened; repeating it may store a document twice, which every fold ignores.

A full Redis refuses documents. Lease and reports are written even then, because they replace keys of the same size:
without them the worker could neither report the problem nor remove old runs.
Needs Redis 6.2 or later, or Valkey.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import orjson
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from snakemap.core.cursor import BEGINNING, cursor_before, cursor_numbers, cursor_text, read_cursor
from snakemap.core.documents import Entry, Message
from snakemap.errors import (
    FrameError,
    NotTheWorker,
    ReadOnly,
    RunNotFound,
    SettingsError,
    StoreRefuses,
    StoreRewound,
    StoreUnavailable,
)
from snakemap.store.entries import (
    RawEntry,
    RunSpan,
    entry_of_row,
    raw_entry_of_row,
    row_of_message,
    span_of_run,
    to_json,
)
from snakemap.store.keys import LIFE, OWNERS, PARTS, PROGRESS, RUNS, STREAM, WORKER_LEASE, frame_key, run_key
from snakemap.store.refusals import WRITES, error_code_of, message_of
from snakemap.store.scripts import APPEND, LEASE, RELEASE, REPORT, SPAN, STATE

__all__ = ["Store", "StreamPosition"]

PROGRESS_KEPT_MS = 2500


BATCH_ENTRIES = 1000


BATCH_BYTES = 4 * 1024 * 1024
"""Maximum of one append script, so that Redis is not blocked for long; a larger document is appended alone."""


CONNECT_TIMEOUT_S = 3.0


ANSWER_TIMEOUT_S = 10.0


CONNECTIONS_MAX = 8
"""Connections for short requests, in addition to one for each follower."""


FRAME_KEPT_S = 86_400.0


@dataclass(slots=True)
class StreamPosition:
    """Position of a reader in the stream.

    A reader keeps it while Redis cannot be reached, and detects with it that the store was replaced.

    Attributes:
        cursor: of the last entry that was read, or after which reading begins.
        life: id of the store that it was read from; empty before the first answer.
        read: whether the entry at the cursor was read, so that it must exist.
    """

    cursor: str
    life: str = ""
    read: bool = False


class Store:
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
        self.read_only = read_only
        self.documents_max = documents_max
        self.worker = worker
        self.keep_s = keep_days * 86_400
        self._url = url
        self._client = self._connect(timeout_s=ANSWER_TIMEOUT_S, connections_max=CONNECTIONS_MAX)
        self.address = _address(url)
        self._append = self._client.register_script(APPEND)
        self._lease = self._client.register_script(LEASE)
        self._release = self._client.register_script(RELEASE)
        self._span = self._client.register_script(SPAN)
        self._report = self._client.register_script(REPORT)

    async def append(self, messages: Sequence[Message]) -> list[str]:
        """Append documents (with their ``run`` set) and worker events to the stream, in order.

        Returns:
            The cursor of each.

        Raises:
            DocumentError: when one cannot be written as JSON (for example nested deeper than 254); none is appended.
            NotTheWorker: when another worker has the lease.
        """
        self.may_change()
        rows = [row_of_message(message) for message in messages]
        cursors: list[bytes] = []
        async with self._translated():
            for batch in _batches(rows):
                arguments = [self.worker, uuid4().hex, *(field for row in batch for field in row)]
                appended = await self._append(keys=[STREAM, OWNERS, RUNS, WORKER_LEASE, LIFE], args=arguments)
                if appended is None:
                    raise NotTheWorker("another worker uses this store now")
                cursors += appended
        return [cursor.decode() for cursor in cursors]

    async def read(self, after: str = "0", *, count: int = 1000, until: str = "+") -> list[Entry]:
        """Return the next entries after a cursor, at most ``count``, none beyond ``until``; empty at the end.

        Raises:
            CursorError: when a cursor is invalid.
        """
        beyond = until if until == "+" else cursor_text(read_cursor(until))
        async with self._translated():
            rows = await self._client.xrange(STREAM, min=f"({cursor_text(read_cursor(after))}", max=beyond, count=count)
        return [entry_of_row(row) for row in rows]

    async def follow(
        self, after: str | StreamPosition, *, block_ms: int = 1000, count: int = 500
    ) -> AsyncGenerator[list[Entry]]:
        """Yield batches of entries after a cursor, without end: stored ones first, then new ones.

        Entries wait in Redis, not here, for a slow reader. Each follower has its own connection.

        Args:
            after: a cursor, or a position, which is updated and can be used again after an error.
            block_ms: milliseconds without an entry before an empty batch.
            count: maximum of entries in a batch.

        Yields:
            At most ``count`` entries, or an empty list after ``block_ms`` milliseconds without an entry.

        Raises:
            CursorError: when the cursor is invalid.
            StoreRewound: when the entries that were read are no longer in the store; see :meth:`check`.
        """
        async with aclosing(self._follow(after, block_ms=block_ms, count=count)) as batches:
            async for rows in batches:
                yield [entry_of_row(row) for row in rows]

    async def raw(
        self, *, after: str = "", until: str = "+", count: int = 500, newest_first: bool = False
    ) -> list[RawEntry]:
        """Return entries as stored, without parsing their documents; otherwise as :meth:`read`.

        Args:
            after: exclusive lower bound, a cursor; empty for the beginning.
            until: inclusive upper bound.
            count: maximum of entries.
            newest_first: whether to return the last entries of the range, newest first, instead of the first ones.

        Raises:
            CursorError: when a cursor is invalid.
        """
        least = f"({cursor_text(read_cursor(after))}" if after else "-"
        most = until if until == "+" else cursor_text(read_cursor(until))
        async with self._translated():
            if newest_first:
                rows = await self._client.xrevrange(STREAM, max=most, min=least, count=count)
            else:
                rows = await self._client.xrange(STREAM, min=least, max=most, count=count)
        return [raw_entry_of_row(row) for row in rows]

    async def follow_raw(
        self, after: str | StreamPosition, *, block_ms: int = 1000, count: int = 500
    ) -> AsyncGenerator[list[RawEntry]]:
        """Yield entries as stored; otherwise as :meth:`follow`."""
        async with aclosing(self._follow(after, block_ms=block_ms, count=count)) as batches:
            async for rows in batches:
                yield [raw_entry_of_row(row) for row in rows]

    async def run_span(self, uid: str) -> tuple[str, str]:
        """Return the cursors of the first and the newest document of a run.

        Raises:
            RunNotFound: when no document of the run is in the store.
        """
        async with self._translated():
            first, last = await self._client.hmget(run_key(uid), "first", "last")
        if first is None or last is None:
            raise RunNotFound(f"No run {uid[:100]!r} is in the store; it may have expired.")
        return first.decode(), last.decode()

    async def check(self, place: StreamPosition) -> None:
        """Check that the entries that were read up to a position are still those of the store.

        A store that was emptied, or whose stream was evicted, has another life; one that was restored from a backup, or
        has lost its last writes, lacks the entry that was read last. An entry of an evicted run is missing, too: then a
        reader begins again without need, which costs time and no data.

        Raises:
            StoreRewound: when they are not; the reader has to begin again.
        """
        async with self._translated():
            state = await self._client.eval(STATE, 2, STREAM, LIFE, cursor_text(read_cursor(place.cursor)))
        self._compare(place, state, resumed=True)

    def _compare(self, place: StreamPosition, state: Sequence[Any], *, resumed: bool) -> None:
        life, newest, there = state[0].decode(), state[1].decode(), bool(state[2])
        other = bool(place.life) and life != place.life
        if other or read_cursor(newest) < read_cursor(place.cursor) or (resumed and place.read and not there):
            raise StoreRewound(f"Redis at {self.address} was emptied or restored: start again from its first document")
        place.life = life

    async def _follow(self, after: str | StreamPosition, *, block_ms: int, count: int) -> AsyncGenerator[list[Any]]:
        place = after if isinstance(after, StreamPosition) else StreamPosition(after)
        place.cursor = cursor_text(read_cursor(place.cursor))
        client = self._connect(timeout_s=block_ms / 1000 + ANSWER_TIMEOUT_S)
        try:
            await self.check(place)
            while True:
                # the state is read after the entries, so that no entry of another life is accepted
                async with self._translated(client), client.pipeline(transaction=False) as pipeline:
                    pipeline.xread({STREAM: place.cursor}, count=count, block=block_ms)
                    pipeline.eval(STATE, 2, STREAM, LIFE, place.cursor)
                    answer, state = _answers(await pipeline.execute(raise_on_error=False))
                self._compare(place, state, resumed=False)
                rows: list[tuple[bytes, dict[bytes, bytes]]] = answer[0][1] if answer else []
                if rows:
                    place.cursor, place.read = rows[-1][0].decode(), True
                yield rows
        finally:
            await client.aclose()

    async def run_entries(
        self, uid: str, *, after: str = "0", until: str = "", count: int = 1000
    ) -> AsyncGenerator[list[Entry]]:
        """Yield the stored documents of one run in batches, without those of other runs in between.

        Args:
            uid: of the run.
            after: exclusive lower bound, a cursor.
            until: inclusive upper bound; empty for none.
            count: entries that are read at one time.

        Raises:
            RunNotFound: when no document of the run is in the store.
            CursorError: when a cursor is invalid.
        """
        cursor = read_cursor(after)
        first, last = await self.run_span(uid)
        last = min(last, until, key=read_cursor) if until else last
        cursor = max(cursor, cursor_numbers(cursor_before(first)))
        while entries := await self.read(cursor_text(cursor), count=count, until=last):
            if own := [entry for entry in entries if entry.run == uid]:
                yield own
            cursor = read_cursor(entries[-1].cursor)

    async def latest(self) -> str:
        """Return the cursor of the last entry; ``"0-0"`` when there is none."""
        async with self._translated():
            rows = await self._client.xrevrange(STREAM, count=1)
        return rows[0][0].decode() if rows else BEGINNING

    async def span(self) -> tuple[str, str]:
        """Return the cursors of the oldest stored entry and of the newest ever stored; twice the latter if none is."""
        async with self._translated():
            oldest, newest = await self._span(keys=[STREAM])
        return oldest.decode(), newest.decode()

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

    async def report(self, part: str, state: dict[str, Any], *, ttl_s: float) -> None:
        """Save the state of a process; it expires after ``ttl_s`` seconds, so that a dead process disappears."""
        arguments = [part, to_json(state, "a report"), _milliseconds(ttl_s)]
        async with self._translated():
            await self._report(keys=[f"snakemap:report:{part}", PARTS], args=arguments)

    async def save_progress(self, progress: list[dict[str, Any]]) -> None:
        """Save the progress of moving devices for a few seconds."""
        async with self._translated():
            await self._client.set(PROGRESS, to_json(progress, "progress"), px=PROGRESS_KEPT_MS)

    async def progress(self) -> list[dict[str, Any]]:
        """Return the progress of moving devices; empty without recent progress."""
        async with self._translated():
            text = await self._client.get(PROGRESS)
        return [] if text is None else orjson.loads(text)

    async def save_picture(self, uid: str, png: bytes) -> None:
        """Save the thumbnail of a run's maps, which is removed with the run."""
        async with self._translated():
            await self._client.hset(f"snakemap:run:{uid}", "picture", png)

    async def picture(self, uid: str) -> bytes | None:
        """Return the thumbnail of a run's maps; None when there is none."""
        async with self._translated():
            return await self._client.hget(f"snakemap:run:{uid}", "picture")

    async def start_of(self, uid: str) -> dict[str, Any]:
        """Return the start document of a run.

        Raises:
            RunNotFound: when no document of the run is in the store.
        """
        async for entries in self.run_entries(uid, count=100):
            for entry in entries:
                if entry.name == "start":
                    return entry.doc
        raise RunNotFound(f"The beginning of run {uid[:100]!r} is no longer in the store.")

    async def reports(self) -> dict[str, dict[str, Any]]:
        """Return the states of the processes that have reported lately, by name."""
        async with self._translated():
            parts = sorted(part.decode() for part in await self._client.smembers(PARTS))
            texts: list[bytes | None] = (
                await self._client.mget([f"snakemap:report:{part}" for part in parts]) if parts else []
            )
        return {part: orjson.loads(text) for part, text in zip(parts, texts, strict=True) if text is not None}

    async def lease(self, name: str, holder: str, ttl_s: float, *, instead_of: str | None = None) -> bool:
        """Take or renew a lease for ``ttl_s`` seconds.

        Args:
            name: of the lease.
            holder: new holder.
            ttl_s: seconds until it must be renewed.
            instead_of: a holder that is known to be dead and is replaced at once.

        Returns:
            Whether ``holder`` has it now.
        """
        self.may_change()
        async with self._translated():
            arguments = [holder, _milliseconds(ttl_s), instead_of or holder]
            return bool(await self._lease(keys=[f"snakemap:lease:{name}"], args=arguments))

    async def holder(self, name: str) -> str | None:
        """Return the holder of a lease; None without one."""
        async with self._translated():
            holder = await self._client.get(f"snakemap:lease:{name}")
        return None if holder is None else holder.decode()

    async def release(self, name: str, holder: str) -> None:
        """Release a lease, if ``holder`` still has it."""
        async with self._translated():
            await self._release(keys=[f"snakemap:lease:{name}"], args=[holder])

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

    def may_change(self) -> None:
        """Raise unless changes are allowed.

        Raises:
            ReadOnly: when they are not.
        """
        if self.read_only:
            raise ReadOnly("this dashboard is read-only (SNAKEMAP_READ_ONLY)")

    def script(self, text: str, *, changes: bool = True) -> Callable[..., Awaitable[Any]]:
        """Return a Lua script as a function of keys and arguments.

        Args:
            text: of the script.
            changes: whether it changes shared data, which a read-only store refuses.
        """
        registered = self._client.register_script(text)

        async def call(keys: Sequence[str], *arguments: str | bytes | int | float) -> Any:
            if changes:
                self.may_change()
            async with self._translated():
                return await registered(keys=list(keys), args=list(arguments))

        return call

    async def command(self, *words: str | int) -> Any:
        """Return the answer of Redis to a command; None when the command is unknown or not permitted."""
        async with self._translated():
            try:
                return await self._client.execute_command(*words)
            except exceptions.ResponseError:
                return None

    async def ping(self) -> None:
        """Return when Redis answers."""
        async with self._translated():
            await self._client.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _connect(self, *, timeout_s: float, connections_max: int = 1) -> Any:  # redis-py has no type for raw bytes
        try:
            pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                self._url,
                max_connections=connections_max,
                timeout=ANSWER_TIMEOUT_S,
                protocol=2,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=timeout_s,
                health_check_interval=0,  # PING is refused as writes are, by a Redis that cannot save
                retry=Retry(NoBackoff(), 0),
            )
            return Redis.from_pool(pool)
        except ValueError as error:
            raise SettingsError(f"SNAKEMAP_REDIS_URL: {error}") from None

    @asynccontextmanager
    async def _translated(self, client: Any = None) -> AsyncGenerator[None]:
        """Translate exceptions of Redis and its client to StoreUnavailable, by type."""
        try:
            yield
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError, EOFError) as error:
            # the other idle connections are dead, too; the next calls shall not discover that one by one
            await (client or self._client).connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"Redis at {self.address} {_trouble(error)}") from error
        except exceptions.RedisError as error:
            word = error_code_of(error)
            text = message_of(word, error=error) or f"answers with an error: {error}"
            if word in WRITES:
                raise StoreRefuses(f"Redis at {self.address} {text}", word) from error
            raise StoreUnavailable(f"Redis at {self.address} {text}") from error

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


def _answers(answers: list[Any]) -> list[Any]:
    """Return the answers to a pipeline.

    Raises:
        RedisError: the first error.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _batches(rows: Sequence[tuple[str, str, str, bytes, str]]) -> Iterator[Sequence[tuple[str, str, str, bytes, str]]]:
    """Split rows into batches for one script call each."""
    start, size = 0, 0
    for stop, row in enumerate(rows):
        if stop > start and (stop - start >= BATCH_ENTRIES or size + len(row[3]) > BATCH_BYTES):
            yield rows[start:stop]
            start, size = stop, 0
        size += len(row[3])
    if start < len(rows):
        yield rows[start:]


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _trouble(error: BaseException) -> str:
    refused = (exceptions.AuthenticationError, exceptions.AuthorizationError)
    if isinstance(error, refused) or isinstance(error.__cause__, refused):  # redis-py wraps it up while connecting
        return "refuses the user or password"
    if isinstance(error, exceptions.BusyLoadingError):
        return "is still reading its data"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "does not answer in time"
    return f"cannot be reached: {error}"


def _address(url: str) -> str:
    """Return the address without user, password and query.

    >>> _address("redis://me:secret@host:6379/0?password=secret"), _address("unix:///run/redis.sock?db=1")
    ('host:6379/0', '/run/redis.sock')
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
    return f"{host}:{parts.port or 6379}{parts.path.rstrip('/')}"
