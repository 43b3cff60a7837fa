"""What Redis tells of itself, as far as it lets us ask: its version, its memory, whether it persists, its clock."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from snakemap.store import STREAM

__all__ = ["Vitals", "vitals"]


class Store(Protocol):
    """What is needed of :class:`snakemap.store.Store`."""

    def command(self, *words: str | int) -> Awaitable[Any]: ...


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a Redis is; None for what it does not tell us.

    Attributes:
        version: like ``"7.2.4"``; of a Valkey, the Redis that it can stand for.
        entries: of the stream.
        stream_bytes: memory of the stream.
        memory_bytes: that it uses.
        memory_max_bytes: that it may use; 0: as much as there is.
        host_memory_bytes: of the machine that it runs on.
        policy: what goes when memory is full, like ``"noeviction"``.
        appends: whether every write is kept in a file.
        saves: whether snapshots are kept.
        ahead_s: by how much its clock is ahead of ours, in seconds, to within what it takes to ask.
    """

    version: str | None
    entries: int | None
    stream_bytes: int | None
    memory_bytes: int | None
    memory_max_bytes: int | None
    host_memory_bytes: int | None
    policy: str | None
    appends: bool | None
    saves: bool | None
    ahead_s: float | None


async def vitals(store: Store) -> Vitals:
    """Asks.

    Raises:
        StoreUnavailable: when Redis is away.
    """
    info = {key: value for key, value in ((await store.command("INFO")) or {}).items() if isinstance(key, str)}
    entries, size = await store.command("XLEN", STREAM), await store.command("MEMORY", "USAGE", STREAM)
    appends = info.get("aof_enabled")
    return Vitals(
        version=_text(info.get("redis_version")),
        entries=_number(entries),
        stream_bytes=0 if entries == 0 else _number(size),
        memory_bytes=_number(info.get("used_memory")),
        memory_max_bytes=_number(info.get("maxmemory")),
        host_memory_bytes=_number(info.get("total_system_memory")),
        policy=_text(info.get("maxmemory_policy")),
        appends=None if appends is None else bool(appends),
        saves=await _saves(store),
        ahead_s=await _ahead_s(store),
    )


async def _saves(store: Store) -> bool | None:
    told = await store.command("CONFIG GET", "save")
    return None if not isinstance(told, dict) or "save" not in told else bool(told["save"])


async def _ahead_s(store: Store) -> float | None:
    """By how much the clock of Redis is ahead: it looked at it somewhere between our question and its answer."""
    before = time.time()
    told = await store.command("TIME")
    after = time.time()
    if not isinstance(told, tuple | list) or len(told) != 2:
        return None
    theirs = float(told[0]) + float(told[1]) / 1e6
    return theirs - after if theirs > after else min(theirs - before, 0.0)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
