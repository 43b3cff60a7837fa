"""The stream of documents in Redis: append, read, follow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from snakemap.core.cursor import BEGINNING, cursor_before, cursor_numbers, cursor_text, read_cursor
from snakemap.core.documents import Entry, Message
from snakemap.errors import NotTheWorker, RunNotFound, StoreRewound
from snakemap.store.entries import RawEntry, entry_of_row, raw_entry_of_row, row_of_message
from snakemap.store.keys import LIFE, OWNERS, RUNS, STREAM, WORKER_LEASE, run_key
from snakemap.store.redis_connection import ANSWER_TIMEOUT_S
from snakemap.store.redis_shared_state import RedisSharedState
from snakemap.store.scripts import APPEND, SPAN, STATE
from snakemap.store.tasks import end_if_cancelled

__all__ = ["RedisStream", "StreamPosition"]

BATCH_ENTRIES = 1000
BATCH_BYTES = 4 * 1024 * 1024
"""Maximum of one append script, so that Redis is not blocked for long; a larger document is appended alone."""


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


class RedisStream(RedisSharedState):
    """The key ``documents``, and the life of the stream.

    Args:
        url: as of the :class:`~snakemap.store.store.Store`.
        worker: name of the worker, which appends only while no other worker holds the lease; empty for any.
        read_only: whether every change raises ReadOnly.
    """

    def __init__(self, url: str, *, worker: str = "", read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self.worker = worker
        self._append = self._client.register_script(APPEND)
        self._span = self._client.register_script(SPAN)

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
                end_if_cancelled()
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
