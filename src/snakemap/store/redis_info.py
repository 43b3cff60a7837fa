"""What Redis tells of itself, as far as it lets us ask: its version, memory, persistence, clock, what it refuses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemap.store.keys import STREAM
from snakemap.store.refusals import words_of
from snakemap.store.store import Store

__all__ = ["RedisCondition", "RedisInfo", "condition", "vitals"]


@dataclass(frozen=True, slots=True)
class RedisCondition:
    """Whether Redis stores what is new, and keeps what it has.

    Attributes:
        word: the code word that it refuses writes with, like ``"OOM"``; empty while it stores.
        refuses: the sentence for people about that; empty too.
        evicts: its policy, where it removes keys of its own accord when its memory is full; empty where it does not.
    """

    word: str = ""
    refuses: str = ""
    evicts: str = ""


@dataclass(frozen=True, slots=True)
class RedisInfo:
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
        condition: whether it stores what is new, and keeps what it has.
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
    condition: RedisCondition = RedisCondition()


async def condition(store: Store) -> RedisCondition:
    """Ask whether Redis stores what is new; one that does not let us ask counts as sound.

    Raises:
        StoreUnavailable: when Redis is away.
    """
    return await _condition(store, await _info(store))


async def vitals(store: Store) -> RedisInfo:
    """Ask.

    Raises:
        StoreUnavailable: when Redis is away.
    """
    info = await _info(store)
    entries, size = await store.command("XLEN", STREAM), await store.command("MEMORY", "USAGE", STREAM)
    appends = info.get("aof_enabled")
    return RedisInfo(
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
        condition=await _condition(store, info),
    )


async def _info(store: Store) -> dict[str, Any]:
    told = await store.command("INFO")
    return {key: value for key, value in told.items() if isinstance(key, str)} if isinstance(told, dict) else {}


async def _condition(store: Store, info: Mapping[str, Any]) -> RedisCondition:
    word, limit = await _refused(store, info), _number(info.get("maxmemory"))
    policy = _text(info.get("maxmemory_policy")) or "noeviction"
    return RedisCondition(
        word=word,
        refuses=f"Redis at {store.address} {words_of(word, limit_bytes=limit)}" if word else "",
        evicts=policy if limit and policy != "noeviction" else "",
    )


async def _refused(store: Store, info: Mapping[str, Any]) -> str:
    """Return the code word that a write would be refused with; empty when Redis would take it.

    Redis asks itself the same, in the same order; a setting that we may not ask for counts as it is by default.
    """
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        return "READONLY"
    if info.get("aof_enabled") and info.get("aof_last_write_status") == "err":
        return "MISCONF"
    if info.get("rdb_last_bgsave_status") == "err" and info.get("role") != "slave":
        stops = await _configured(store, "stop-writes-on-bgsave-error") != "no"
        if stops and await _saves(store) is not False:
            return "MISCONF"
    replicas = _number(info.get("min_slaves_good_slaves"))
    if replicas is not None and replicas < int(await _configured(store, "min-replicas-to-write") or 0):
        return "NOREPLICAS"
    used, limit = _number(info.get("used_memory")), _number(info.get("maxmemory"))
    if used and limit and info.get("maxmemory_policy") == "noeviction":
        return "OOM" if used - (_number(info.get("mem_not_counted_for_evict")) or 0) > limit else ""
    return ""


async def _configured(store: Store, name: str) -> str | None:
    told = await store.command("CONFIG GET", name)
    return _text(told.get(name)) if isinstance(told, dict) else None


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
