"""The stream on a terminal."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import orjson
import typer

from snakemap.documents import WORKER, Entry
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import CursorError, SettingsError, StoreUnavailable
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["line", "listen"]

RETRY_S = 1.0


def listen(settings: Settings, *, as_json: bool, after: str | None) -> int:
    """Prints entries as they come, until interrupted.

    Args:
        settings: which store.
        as_json: one object a line with ``cursor``, ``name``, ``run``, ``doc``.
        after: cursor to begin after; None for what comes from now on.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when ``after`` is no cursor.
        StoreUnavailable: when Redis cannot be reached at the start.
    """
    with ExitStack() as stack:
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
        try:
            asyncio.run(_follow(Store(url), as_json=as_json, after=after))
        except KeyboardInterrupt:
            return 0
        except CursorError as error:
            raise SettingsError(f"--after: {error}") from error
    return 0


async def _follow(store: Store, *, as_json: bool, after: str | None) -> None:
    try:
        cursor = after if after is not None else await store.latest()
        await store.read(cursor, count=1)  # who cannot even begin is told so, instead of being kept waiting
        while True:
            try:
                async for entries in store.follow(cursor):
                    for entry in entries:
                        typer.echo(line(entry, as_json=as_json))
                        cursor = entry.cursor
            except StoreUnavailable as trouble:
                typer.echo(f"snakemap: {trouble}; trying again", err=True)
                await asyncio.sleep(RETRY_S)
    finally:
        await store.close()


def line(entry: Entry, *, as_json: bool) -> str:
    """One entry as one line; control characters of a document cannot reach the terminal.

    >>> line(Entry("1795461238076-0", "stop", "r", None, {"exit_status": "success"}), as_json=True)
    '{"cursor":"1795461238076-0","name":"stop","run":"r","doc":{"exit_status":"success"}}'
    """
    if as_json:
        told = {"cursor": entry.cursor, "name": entry.name, "run": entry.run, "doc": entry.doc}
        return orjson.dumps(told).decode()
    milliseconds = int(entry.cursor.partition("-")[0])
    clock = time.strftime("%H:%M:%S", time.localtime(milliseconds // 1000))
    text = f"{clock}.{milliseconds % 1000:03d}  {entry.run[:8]:<8}  {entry.name:<15}  {_gist(entry.name, entry.doc)}"
    return "".join(character if character.isprintable() else "?" for character in text)[:200].rstrip()


def _gist(name: str, doc: dict[str, Any]) -> str:
    """What matters of a document, in a few words."""
    match name:
        case _ if name == WORKER:
            return str(doc.get("state"))
        case "start":
            return f"{doc.get('plan_name') or ''} {doc.get('shape') or ''}"
        case "descriptor" | "resource" | "stream_resource":
            return str(doc.get("name") or doc.get("data_key") or "")
        case "event":
            return f"seq_num {doc.get('seq_num')}"
        case "event_page":
            seq_nums = doc.get("seq_num") or [""]
            return f"seq_num {seq_nums[0]}..{seq_nums[-1]}"
        case "stream_datum":
            seq_nums = doc.get("seq_nums") or {}
            return f"seq_nums {seq_nums.get('start')}..{seq_nums.get('stop')}"
        case "stop":
            return f"{doc.get('exit_status')} {doc.get('reason') or ''}"
        case _:
            return ""
