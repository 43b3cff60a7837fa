"""Sessions of the API in the store: the followed run, ROIs, and a small JSON value of the client.

Keys under ``snakemap:``; all expire, and each use extends them::

    session:<hash>         one session
    sessions               session keys, by time of expiry
    sessions:<address>     those of one address
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from snakemap.api.auth import hash_token, new_token
from snakemap.core.derived_documents import Rectangle
from snakemap.errors import Busy, SessionNotFound, StoreRefuses, TooManySessions
from snakemap.store.run_index import LATEST
from snakemap.store.store import Store

__all__ = ["KEPT_S", "ApiSession", "ApiSessions"]

KEPT_S = 86_400
"""A session expires after this time without use."""

SESSIONS_MAX = 5000
SESSIONS_EACH = 100

RENEW = """
local function renew(key, of)
  local time = redis.call('TIME')
  local expires = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
  redis.call('PEXPIRE', key, ARGV[1])
  for _, index in ipairs({'snakemap:sessions', of}) do
    redis.call('ZADD', index, expires, key)
    redis.call('PEXPIRE', index, ARGV[1])
  end
end
"""
CREATE = (
    RENEW
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, index in ipairs({'snakemap:sessions', KEYS[2]}) do redis.call('ZREMRANGEBYSCORE', index, '-inf', now) end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 1 end
if redis.call('ZCARD', 'snakemap:sessions') >= tonumber(ARGV[2]) then return 2 end
redis.call('HSET', KEYS[1], 'of', KEYS[2], unpack(ARGV, 4))
renew(KEYS[1], KEYS[2])
return 0
"""
)
USE = (
    RENEW
    + """
local of = redis.call('HGET', KEYS[1], 'of')
if not of then return false end
if #ARGV > 1 then redis.call('HSET', KEYS[1], unpack(ARGV, 2)) end
renew(KEYS[1], of)
return redis.call('HGETALL', KEYS[1])
"""
)
READ = "return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HGETALL', KEYS[1])"
FORGET = """
local of = redis.call('HGET', KEYS[1], 'of')
if not of then return 0 end
for _, index in ipairs({'snakemap:sessions', of}) do redis.call('ZREM', index, KEYS[1]) end
return redis.call('DEL', KEYS[1])
"""


@dataclass(frozen=True, slots=True)
class ApiSession:
    """One session.

    Attributes:
        token: its id, known to its client only.
        follow: uid of a run, or ``"latest"``.
        source: source of the maps; empty for the main one.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, by name; empty for those of the run.
        view: free JSON value of the client.
    """

    token: str = field(repr=False)
    follow: str = LATEST
    source: str = ""
    rois: dict[str, Rectangle] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)


class ApiSessions:
    """All sessions; every method raises StoreUnavailable while Redis cannot be reached.

    Args:
        store: where the sessions are kept.
    """

    def __init__(self, store: Store) -> None:
        # allowed when read-only: a session is its client's own state
        self._create = store.script(CREATE, changes=False)
        self._use = store.script(USE, changes=False)
        self._read = store.script(READ, changes=False)
        self._forget = store.script(FORGET, changes=False)

    async def create(self, address: str, fields: Mapping[str, Any]) -> ApiSession:
        """Create a session.

        Args:
            address: of its client.
            fields: attributes of :class:`ApiSession` that differ from the defaults.

        Raises:
            TooManySessions: when the address has too many.
            Busy: when there are too many in all.
        """
        token = new_token()
        keys = [_key(token), f"snakemap:sessions:{address}"]
        flat = _flatten({"follow": LATEST, "source": "", "rois": {}, "view": {}, **fields})
        full = await self._create(keys, 1000 * KEPT_S, SESSIONS_MAX, SESSIONS_EACH, *flat)
        if full == 1:
            raise TooManySessions(f"an address has at most {SESSIONS_EACH} sessions; delete one, or wait")
        if full:
            raise Busy("there are too many sessions; try again later")
        return _session(token, flat)

    async def use(self, token: str, changes: Mapping[str, Any] | None = None) -> ApiSession:
        """Return a session after applying changes, and extend its life by a day.

        Raises:
            SessionNotFound: when the id is unknown or expired.
        """
        try:
            flat = await self._use([_key(token)], 1000 * KEPT_S, *_flatten(changes or {}))
        except StoreRefuses:
            if changes:
                raise
            flat = await self._read([_key(token)])  # without extending its life
        if flat is None:
            raise _not_found()
        return _session(token, flat)

    async def forget(self, token: str) -> None:
        """Delete a session.

        Raises:
            SessionNotFound: when the id is unknown or expired.
        """
        if not await self._forget([_key(token)]):
            raise _not_found()


def _key(token: str) -> str:
    return f"snakemap:session:{hash_token(token)}"


def _flatten(fields: Mapping[str, Any]) -> list[bytes]:
    return [part for name, value in fields.items() for part in (name.encode(), orjson.dumps(value))]


def _session(token: str, flat: list[bytes]) -> ApiSession:
    fields = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
    read = {name: orjson.loads(fields[name]) for name in ("follow", "source", "rois", "view")}
    rois = {name: (y0, y1, x0, x1) for name, (y0, y1, x0, x1) in read.pop("rois").items()}
    return ApiSession(token, rois=rois, **read)


def _not_found() -> SessionNotFound:
    return SessionNotFound("there is no session with this id; POST /api/sessions makes one")
