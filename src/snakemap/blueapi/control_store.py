"""Control of scans, stored in Redis, so that all processes share it and it survives restarts.

The control lock, the audit log, parameters of tasks, idempotency keys and rate limits::

    snakemap:baton        the control lock: its holder, and the tab that requests it
    snakemap:audit        stream of requests and their results
    snakemap:press:<key>  result of the request with an idempotency key; expiring
    snakemap:rate:<who>   requests of a client in this minute; expiring
    snakemap:task:<id>    plan and parameters of a task, which blueapi forgets; expiring
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from snakemap.errors import StoreUnavailable
from snakemap.store.store import Store

__all__ = ["GONE_S", "ControlLock", "ControlStore"]

GONE_S = 15.0
"""After this time without a sign of life of its holder, any tab may take the control lock."""

ASKED_S = 120.0
PRESS_KEPT_S = 86_400
PRESSING_S = 60
AUDIT_MAX = 5000
KEPT_MAX = 100
"""Audit entries that a process keeps in memory while Redis refuses writes."""

TASK_KEPT_S = 90 * 86_400

NOW = "local time = redis.call('TIME') local now = tonumber(time[1]) + tonumber(time[2]) / 1000000 "

TAKE = (
    NOW
    + """
local tab, key, name, address = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('HMGET', KEYS[1], 'tab', 'key', 'seen')
local own = held[1] == tab
local back = key ~= '' and held[2] == key
if held[1] and not own and not back and now - tonumber(held[3] or 0) <= tonumber(ARGV[5]) then return 0 end
if ARGV[6] == 'back' and not own and not back then return 0 end
if not own and not back then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'since', string.format('%.3f', now))
end
redis.call('HSET', KEYS[1], 'tab', tab, 'key', key, 'name', name, 'address', address)
redis.call('HSET', KEYS[1], 'seen', string.format('%.3f', now))
return 1
"""
)
SEEN = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'tab') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'seen', string.format('%.3f', now))
return 1
"""
)
ASK = (
    NOW
    + """
local held = redis.call('HGET', KEYS[1], 'tab')
if not held or held == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'asking', ARGV[1], 'asking_key', ARGV[2], 'asking_name', ARGV[3], 'asking_address', ARGV[4],
  'asked', string.format('%.3f', now))
return 1
"""
)
RELEASE = (
    NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'tab', 'asking', 'asking_key', 'asking_name', 'asking_address', 'asked')
if held[1] ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if held[2] and now - tonumber(held[6]) <= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'tab', held[2], 'key', held[3], 'name', held[4], 'address', held[5],
    'since', string.format('%.3f', now), 'seen', string.format('%.3f', now))
  return 2
end
return 1
"""
)
DENY = """
if redis.call('HGET', KEYS[1], 'tab') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'asking', 'asking_key', 'asking_name', 'asking_address', 'asked')
return 1
"""
HELD = NOW + "return {string.format('%.3f', now), redis.call('HGETALL', KEYS[1])}"
ADD = "return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'entry', ARGV[1])"
LAST = "return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])"
PRESS = """
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('SET', KEYS[1], '', 'EX', ARGV[1])
return false
"""
PUT = "redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) return 1"
GET = "return redis.call('GET', KEYS[1])"
DELETE = "return redis.call('DEL', KEYS[1])"
COUNT = """
local count = redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], 120)
return count
"""


@dataclass(frozen=True, slots=True)
class ControlLock:
    """Holder of the control lock, and the tab that requests it.

    Attributes:
        tab: of the holder.
        name: of the holder, for display.
        address: of the holder.
        since: seconds since 1970.
        gone: whether the holder gave no sign of life lately.
        asking: tab that requests control; empty when none does.
        asking_name: its name, for display.
    """

    tab: str
    name: str
    address: str
    since: float
    gone: bool
    asking: str = ""
    asking_name: str = ""


def _dated(entry: dict[str, Any]) -> bytes:
    return orjson.dumps({"time": time.time(), **entry})


class ControlStore:
    """State of the control of scans in Redis; every method raises StoreUnavailable while Redis cannot be reached.

    Args:
        store: the document store.
    """

    BATON, AUDIT = "snakemap:baton", "snakemap:audit"

    def __init__(self, store: Store) -> None:
        self.store = store
        scripts = {
            "take": TAKE, "seen": SEEN, "ask": ASK, "release": RELEASE, "deny": DENY, "held": HELD, "add": ADD,
            "last": LAST, "press": PRESS, "put": PUT, "get": GET, "delete": DELETE, "count": COUNT,
        }  # fmt: skip
        self._kept: deque[bytes] = deque(maxlen=KEPT_MAX)
        self._scripts = {
            name: store.script(text, changes=name not in ("held", "last", "get")) for name, text in scripts.items()
        }

    async def lock(self) -> ControlLock | None:
        """Return the control lock; None while no tab holds it."""
        now, flat = await self._scripts["held"]([self.BATON])
        fields = {flat[i].decode(): flat[i + 1].decode("utf-8", "replace") for i in range(0, len(flat), 2)}
        if "tab" not in fields:
            return None
        asks = "asking" in fields and float(now) - float(fields["asked"]) <= ASKED_S
        return ControlLock(
            tab=fields["tab"],
            name=fields["name"],
            address=fields["address"],
            since=float(fields["since"]),
            gone=float(now) - float(fields["seen"]) > GONE_S,
            asking=fields["asking"] if asks else "",
            asking_name=fields["asking_name"] if asks else "",
        )

    async def take(self, tab: str, *, key: str, name: str, address: str, back: bool = False) -> bool:
        """Take the control lock if it is free, its holder is gone, or the tab holds it; return whether it is held now.

        Args:
            tab: that takes it.
            key: secret by which a tab identifies itself after a reload.
            name: for display.
            address: of the tab.
            back: only take the lock again that the tab held before.
        """
        mode = "back" if back else ""
        return bool(await self._scripts["take"]([self.BATON], tab, key, name, address, GONE_S, mode))

    async def seen(self, tab: str) -> bool:
        """Record a sign of life of the holder; return whether the tab still holds the lock."""
        return bool(await self._scripts["seen"]([self.BATON], tab))

    async def ask(self, tab: str, *, key: str, name: str, address: str) -> bool:
        """Request control from the holder."""
        return bool(await self._scripts["ask"]([self.BATON], tab, key, name, address))

    async def release(self, tab: str) -> bool:
        """Release the control lock; it passes to the tab that requested it in the last two minutes."""
        return bool(await self._scripts["release"]([self.BATON], tab, ASKED_S))

    async def deny(self, tab: str) -> bool:
        """Refuse a request for control."""
        return bool(await self._scripts["deny"]([self.BATON], tab))

    async def note(self, entry: dict[str, Any]) -> str:
        """Add an entry to the audit log; return its number."""
        await self._add_kept()
        return await self._add(_dated(entry))

    def keep(self, entry: dict[str, Any]) -> None:
        """Keep an entry that Redis has refused; it is added before the next entry, or when the log is read."""
        self._kept.append(_dated(entry))

    async def _add(self, entry: bytes) -> str:
        return (await self._scripts["add"]([self.AUDIT], entry, AUDIT_MAX)).decode()

    async def _add_kept(self) -> None:
        while self._kept:
            entry = self._kept.popleft()
            try:
                await self._add(entry)
            except BaseException:
                self._kept.appendleft(entry)
                raise

    async def audit(self, *, count: int = 100) -> list[dict[str, Any]]:
        """Return the requests, newest first; ``came`` is the result, empty while unknown."""
        with contextlib.suppress(StoreUnavailable):
            await self._add_kept()
        rows = await self._scripts["last"]([self.AUDIT], 2 * count)
        came: dict[str, str] = {}
        asked: list[dict[str, Any]] = []
        for number, fields in rows:
            entry = orjson.loads(fields[1])
            if "answers" in entry:
                came.setdefault(entry["answers"], entry["came"])
            else:
                asked.append({"number": number.decode(), "came": "", **entry})
        return [{**entry, "came": came.get(entry["number"], entry["came"])} for entry in asked[:count]]

    async def reserve(self, key: str) -> str | None:
        """Reserve an idempotency key; return None for a new key, else the result, empty while unknown."""
        known = await self._scripts["press"]([f"snakemap:press:{key}"], PRESSING_S)
        return None if known is None else known.decode()

    async def complete(self, key: str, result: str) -> None:
        """Store the result of an idempotency key; an empty result frees the key for another try."""
        if result:
            await self._scripts["put"]([f"snakemap:press:{key}"], result, PRESS_KEPT_S)
        else:
            await self._scripts["delete"]([f"snakemap:press:{key}"])

    async def allow(self, client: str, *, per_minute: int) -> bool:
        """Count a request; return whether the client is below its rate limit for this minute."""
        count = await self._scripts["count"]([f"snakemap:rate:{client}:{int(time.time() // 60)}"])
        return int(count) <= per_minute

    async def keep_task(self, task_id: str, fields: dict[str, Any]) -> None:
        """Store the plan and parameters of a task."""
        await self._scripts["put"]([f"snakemap:task:{task_id}"], orjson.dumps(fields), TASK_KEPT_S)

    async def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the plan and parameters of a task; None when they were not stored."""
        text = await self._scripts["get"]([f"snakemap:task:{task_id}"])
        return None if text is None else orjson.loads(text)
