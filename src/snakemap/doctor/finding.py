"""Result types of checks, and the context that checks share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from snakemap.core.cursor import cursor_ms
from snakemap.errors import SnakemapError
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis, redis_binary
from snakemap.store.redis_info import RedisInfo, read_redis_info
from snakemap.store.store import Store

__all__ = ["Check", "CheckContext", "Finding", "Found", "Mark", "Note", "StoreState", "Wrong", "variable"]


class Mark(StrEnum):
    """Result of a check."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


class Note(str):
    """Text of a finding worth knowing."""


class Wrong(str):
    """Text of a finding that keeps snakemap from working as configured, with the remedy."""


Found = str
"""Text of a finding: a :class:`Note`, something :class:`Wrong`, or a plain string when all is well."""


def variable(setting: str) -> str:
    """Return the environment variable of a setting.

    >>> variable("data_root")
    'SNAKEMAP_DATA_ROOT'
    """
    return f"SNAKEMAP_{setting.upper()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        mark: ``WRONG`` keeps snakemap from working as configured; ``NOTE`` is worth knowing.
        name: of the check.
        text: the result; for what is wrong, with the remedy.
        settings: that concern it, like ``("data_root",)``.
        group: heading in the report.
    """

    mark: Mark
    name: str
    text: str
    settings: tuple[str, ...] = ()
    group: str = ""

    def __str__(self) -> str:
        settings = f" ({', '.join(map(variable, self.settings))})" if self.settings else ""
        return f"{self.mark:<6} {self.name}{settings}: {self.text}"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        group: heading in the report.
        name: one or two words.
        settings: that concern it.
        look: yields the texts of its findings; a SnakemapError or OSError becomes a finding, too.
    """

    group: str
    name: str
    settings: tuple[str, ...]
    look: Callable[[CheckContext], Iterable[Found]]

    def findings(self, context: CheckContext) -> list[Finding]:
        """Return the findings."""
        try:
            found = list(self.look(context))
        except (SnakemapError, OSError) as error:
            found = [Wrong(error)]
        return [Finding(_mark(text), self.name, str(text), self.settings, self.group) for text in found]


@dataclass(frozen=True, slots=True)
class StoreState:
    """State of the store.

    Attributes:
        address: of Redis.
        whose: remark that it is the embedded Redis, or empty.
        reports: heartbeats of the processes.
        redis: of Redis.
        oldest: time of the oldest document, in seconds since 1970; None when there is none.
        frame_shape: rows and columns of the newest run's frames; None when there is no preview frame.
    """

    address: str
    whose: str
    reports: Mapping[str, Mapping[str, Any]]
    redis: RedisInfo
    oldest: float | None
    frame_shape: tuple[int, int] | None


class CheckContext:
    """What the checks share; slow values are read once.

    Args:
        settings: of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def store_or_error(self) -> StoreState | SnakemapError:
        """State of the store, or the error."""
        try:
            return self._ask()
        except SnakemapError as trouble:
            return trouble

    @property
    def store(self) -> StoreState | None:
        """State of the store; None while Redis cannot be reached, which one check reports."""
        return self.store_or_error if isinstance(self.store_or_error, StoreState) else None

    def _ask(self) -> StoreState:
        with ExitStack() as stack:
            url, whose = self.settings.redis_url, ""
            if not url:
                whose = f", embedded ({redis_binary()})"
                url = stack.enter_context(EmbeddedRedis(self.settings.state_dir))
            return asyncio.run(_asked(url, whose))


async def _asked(url: str, whose: str) -> StoreState:
    store = Store(url)
    try:
        reports, redis = await store.reports(), await read_redis_info(store)
        first, newest = await store.read("0", count=1), await store.summaries(count=1)
        frame = await store.frame(newest[0]["uid"]) if newest else None
        shape = frame[1].get("frame_shape") if frame else None
        return StoreState(
            address=store.address,
            whose=whose,
            reports=reports,
            redis=redis,
            oldest=cursor_ms(first[0].cursor) / 1000 if first else None,
            frame_shape=(int(shape[0]), int(shape[1])) if shape else None,
        )
    finally:
        await store.close()


def _mark(text: Found) -> Mark:
    return Mark.WRONG if isinstance(text, Wrong) else Mark.NOTE if isinstance(text, Note) else Mark.OK
