"""State of Redis: version, memory, persistence, clock, and whether it refuses writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemap.core.json_values import is_array, is_dict
from snakemap.store.keys import STREAM
from snakemap.store.refusals import message_of
from snakemap.store.store import Store

__all__ = ["RedisCondition", "RedisInfo", "read_condition", "read_redis_info"]


@dataclass(frozen=True, slots=True)
class RedisCondition:
    """Whether Redis accepts writes, and keeps its keys.

    Attributes:
        word: error code of refused writes, like ``"OOM"``; empty while writes are accepted.
        refuses: the message about it; empty, too.
        evicts: policy by which Redis evicts keys when its memory is full; empty without eviction.
    """

    word: str = ""
    refuses: str = ""
    evicts: str = ""


@dataclass(frozen=True, slots=True)
class RedisInfo:
    """State of Redis; None for values that Redis does not report.

    Attributes:
        version: like ``"7.2.4"``; of a Valkey, the compatible Redis version.
        entries: of the stream.
        stream_bytes: memory of the stream.
        memory_bytes: used memory.
        memory_max_bytes: limit of memory; 0 is unlimited.
        host_memory_bytes: of the machine.
        policy: eviction policy, like ``"noeviction"``.
        appends: whether writes are appended to a file.
        saves: whether snapshots are saved.
        ahead_s: seconds by which its clock is ahead of this host's, within the duration of the request.
        condition: whether it accepts writes, and keeps its keys.
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


async def read_condition(store: Store) -> RedisCondition:
    """Return whether Redis accepts writes; without permission to ask, it counts as sound.

    Raises:
        StoreUnavailable: when Redis cannot be reached.
    """
    return await _condition(store, await _info(store))


async def read_redis_info(store: Store) -> RedisInfo:
    """Return the state of Redis.

    Raises:
        StoreUnavailable: when Redis cannot be reached.
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
    info = await store.command("INFO")
    return {key: value for key, value in info.items() if isinstance(key, str)} if isinstance(info, dict) else {}  # pyright: ignore[reportUnknownVariableType]


async def _condition(store: Store, info: Mapping[str, Any]) -> RedisCondition:
    word, limit = await _refused(store, info), _number(info.get("maxmemory"))
    policy = _text(info.get("maxmemory_policy")) or "noeviction"
    return RedisCondition(
        word=word,
        refuses=f"Redis at {store.address} {message_of(word, limit_bytes=limit)}" if word else "",
        evicts=policy if limit and policy != "noeviction" else "",
    )


async def _refused(store: Store, info: Mapping[str, Any]) -> str:
    """Return the error code that a write would get; empty when Redis would accept it.

    These are Redis' own checks, in the same order; a setting that cannot be read counts as its default.
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
    answer = await store.command("CONFIG GET", name)
    return _text(answer.get(name)) if is_dict(answer) else None


async def _saves(store: Store) -> bool | None:
    answer = await store.command("CONFIG GET", "save")
    return None if not is_dict(answer) or "save" not in answer else bool(answer["save"])


async def _ahead_s(store: Store) -> float | None:
    """Return by how much the clock of Redis is ahead, given that it was read between request and answer."""
    before = time.time()
    answer = await store.command("TIME")
    after = time.time()
    if not is_array(answer) or len(answer) != 2:
        return None
    theirs = float(answer[0]) + float(answer[1]) / 1e6
    return theirs - after if theirs > after else min(theirs - before, 0.0)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
