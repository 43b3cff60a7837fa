"""The stream on a terminal."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import orjson
import typer

from snakemap.documents import WORKER, Entry
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import StoreUnavailable
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["line", "listen"]


def listen(settings: Settings, *, as_json: bool, after: str | None) -> int:
    """Prints entries as they come, until interrupted.

    Args:
        settings: which store.
        as_json: one object a line with ``cursor``, ``name``, ``run``, ``doc``.
        after: cursor to begin after; None for what comes from now on.

    Returns:
        The exit code, 0.

    Raises:
        StoreUnavailable: when Redis cannot be reached at the start.
    """
    with ExitStack() as stack:
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
        try:
            asyncio.run(_follow(Store(url), as_json=as_json, after=after))
        except KeyboardInterrupt:
            return 0
    return 0


async def _follow(store: Store, *, as_json: bool, after: str | None) -> None:
    cursor = after if after is not None else await store.latest()
    try:
        while True:
            try:
                async for entries in store.follow(cursor):
                    for entry in entries:
                        typer.echo(line(entry, as_json=as_json))
                        cursor = entry.cursor
            except StoreUnavailable as trouble:
                typer.echo(f"snakemap: {trouble}; trying again", err=True)
                await asyncio.sleep(1)
    finally:
        await store.close()


def line(entry: Entry, *, as_json: bool) -> str:
    """One entry as one line."""
    if as_json:
        told = {"cursor": entry.cursor, "name": entry.name, "run": entry.run, "doc": entry.doc}
        return orjson.dumps(told).decode()
    seconds = int(entry.cursor.partition("-")[0]) / 1000
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    return f"{clock}.{int(seconds * 1000) % 1000:03d}  {entry.run[:8]:<8}  {entry.name:<15}  {_gist(entry)}"


def _gist(entry: Entry) -> str:
    """What matters of a document, in a few words; control characters cannot reach the terminal."""
    doc = entry.doc
    if entry.name == WORKER:
        text = str(doc.get("state"))
    elif entry.name == "start":
        text = f"{doc.get('plan_name', '')} {doc.get('shape') or ''}"
    elif entry.name in ("event", "event_page"):
        numbers = doc["seq_num"]
        text = (
            f"seq_num {numbers if isinstance(numbers, int) else f'{min(numbers)}..{max(numbers)}' if numbers else ''}"
        )
    elif entry.name == "stream_datum":
        text = f"seq_nums {doc['seq_nums'].get('start')}..{doc['seq_nums'].get('stop')}"
    elif entry.name == "stop":
        text = f"{doc.get('exit_status')} {doc.get('reason') or ''}"
    else:
        text = str(doc.get("name") or doc.get("data_key") or "")
    return "".join(character if character.isprintable() else "?" for character in text)[:160]
