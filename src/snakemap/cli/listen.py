"""Print the document stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace

import typer

from snakemap.core.cursor import cursor_ms
from snakemap.core.document_text import summary_line
from snakemap.core.documents import Entry
from snakemap.errors import CursorError, SettingsError, StoreRewound, StoreUnavailable
from snakemap.live.event_filter import EventFilter
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.run_index import find_uid
from snakemap.store.store import Store

__all__ = ["ListenRequest", "line", "listen"]

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """Selection of entries.

    Attributes:
        events: names of documents, and the uid of one run, or ``"latest"``.
        after: cursor to begin after; None for now, or for the beginning with a run or ``once``.
        count: number of entries; None for no limit.
        once: whether to end at the last stored entry.
    """

    events: EventFilter = field(default_factory=EventFilter)
    after: str | None = None
    count: int | None = None
    once: bool = False


def listen(settings: Settings, wanted: ListenRequest, *, as_json: bool) -> int:
    """Print entries as they arrive, until interrupted or the selection ends.

    Args:
        settings: with the store.
        wanted: selection of entries.
        as_json: one object a line with ``cursor``, ``name``, ``run``, ``doc``.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when ``after`` is not a cursor.
        RunNotFound: when the store has no such run.
        StoreUnavailable: when Redis cannot be reached at the start.
    """
    with ExitStack() as stack:
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
        try:
            asyncio.run(_print(Store(url), wanted, as_json=as_json))
        except KeyboardInterrupt:
            return 0
        except CursorError as error:
            raise SettingsError(f"--after: {error}") from error
    return 0


async def _print(store: Store, wanted: ListenRequest, *, as_json: bool) -> None:
    left = wanted.count
    try:
        async with aclosing(_entries(store, wanted)) as entries:
            async for entry in entries:
                typer.echo(line(entry, as_json=as_json))
                left = None if left is None else left - 1
                if left == 0:
                    return
    finally:
        await store.close()


async def _entries(store: Store, wanted: ListenRequest) -> AsyncGenerator[Entry]:
    """Yield the selected entries as they arrive; retry while Redis cannot be reached."""
    latest = await store.latest()
    events = wanted.events
    if events.run:
        events = replace(events, run=await find_uid(store, events.run))
    cursor = wanted.after or ("0" if wanted.once or events.run else latest)
    await store.read(cursor, count=1)  # a first failure is reported instead of retried
    if events.run:
        async for entries in store.run_entries(events.run, after=cursor):
            for entry in entries:
                cursor = entry.cursor
                if events.takes(entry):
                    yield entry
    while True:
        try:
            async with aclosing(_batches(store, cursor, until=latest if wanted.once else None)) as batches:
                async for entries in batches:
                    for entry in entries:
                        cursor = entry.cursor
                        if events.takes(entry):
                            yield entry
        except StoreRewound as trouble:
            typer.echo(f"snakemap: {trouble}", err=True)
            cursor = "0"
        except StoreUnavailable as trouble:
            typer.echo(f"snakemap: {trouble}; trying again", err=True)
            await asyncio.sleep(RETRY_S)
        else:
            return


async def _batches(store: Store, after: str, *, until: str | None) -> AsyncGenerator[list[Entry]]:
    """Yield the entries after a cursor: without end, or until another cursor."""
    if until is None:
        async with aclosing(store.follow(after)) as batches:
            async for entries in batches:
                yield entries
    while until is not None and (entries := await store.read(after, until=until)):
        after = entries[-1].cursor
        yield entries


def line(entry: Entry, *, as_json: bool) -> str:
    """Return one entry as one line, without control characters.

    >>> line(Entry("1795461238076-0", "stop", "r", None, {"exit_status": "success"}), as_json=True)
    '{"cursor":"1795461238076-0","name":"stop","run":"r","doc":{"exit_status":"success"}}'
    """
    if as_json:
        return entry.json_line.decode()
    milliseconds = cursor_ms(entry.cursor)
    clock = time.strftime("%H:%M:%S", time.localtime(milliseconds // 1000))
    words = summary_line(entry.name, entry.doc)
    text = f"{clock}.{milliseconds % 1000:03d}  {entry.run[:8]:<8}  {entry.name:<15}  {words}"
    return "".join(character if character.isprintable() else "?" for character in text)[:200].rstrip()
