"""State that processes share in Redis: heartbeats, leases, progress; it expires."""

from __future__ import annotations

from typing import Any

import orjson

from snakemap.store.entries import to_json
from snakemap.store.keys import PARTS, PROGRESS
from snakemap.store.redis_connection import RedisConnection, milliseconds
from snakemap.store.scripts import LEASE, RELEASE, REPORT

__all__ = ["RedisSharedState"]

PROGRESS_KEPT_MS = 2500


class RedisSharedState(RedisConnection):
    """The keys ``report:<part>``, ``lease:<name>`` and ``progress``."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self._lease = self._client.register_script(LEASE)
        self._release = self._client.register_script(RELEASE)
        self._report = self._client.register_script(REPORT)

    async def report(self, part: str, state: dict[str, Any], *, ttl_s: float) -> None:
        """Save the state of a process; it expires after ``ttl_s`` seconds, so that a dead process disappears."""
        arguments = [part, to_json(state, "a report"), milliseconds(ttl_s)]
        async with self._translated():
            await self._report(keys=[f"snakemap:report:{part}", PARTS], args=arguments)

    async def reports(self) -> dict[str, dict[str, Any]]:
        """Return the states of the processes that have reported lately, by name."""
        async with self._translated():
            parts = sorted(part.decode() for part in await self._client.smembers(PARTS))
            texts: list[bytes | None] = (
                await self._client.mget([f"snakemap:report:{part}" for part in parts]) if parts else []
            )
        return {part: orjson.loads(text) for part, text in zip(parts, texts, strict=True) if text is not None}

    async def save_progress(self, progress: list[dict[str, Any]]) -> None:
        """Save the progress of moving devices for a few seconds."""
        async with self._translated():
            await self._client.set(PROGRESS, to_json(progress, "progress"), px=PROGRESS_KEPT_MS)

    async def progress(self) -> list[dict[str, Any]]:
        """Return the progress of moving devices; empty without recent progress."""
        async with self._translated():
            text = await self._client.get(PROGRESS)
        return [] if text is None else orjson.loads(text)

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
            arguments = [holder, milliseconds(ttl_s), instead_of or holder]
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
