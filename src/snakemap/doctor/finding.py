"""What a check finds, and what all checks look at."""

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
from snakemap.store.redis_info import RedisInfo, vitals
from snakemap.store.store import Store

__all__ = ["Check", "CheckContext", "Finding", "Found", "InStore", "Mark", "Note", "Wrong", "variable"]


class Mark(StrEnum):
    """How a check went."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


class Note(str):
    """What is worth knowing."""


class Wrong(str):
    """What keeps snakemap from working as it was told to, and how to mend it."""


Found = str
"""What a check has found: a :class:`Note`, something :class:`Wrong`, or a mere text when all is well."""


def variable(setting: str) -> str:
    """Return the environment variable of a setting.

    >>> variable("data_root")
    'SNAKEMAP_DATA_ROOT'
    """
    return f"SNAKEMAP_{setting.upper()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        mark: wrong is what keeps snakemap from working as it was told to; a note is worth knowing.
        name: what was looked at.
        text: what was found; for what is wrong, how to mend it.
        settings: that tell of it, like ``("data_root",)``.
        group: what it belongs to.
    """

    mark: Mark
    name: str
    text: str
    settings: tuple[str, ...] = ()
    group: str = ""

    def __str__(self) -> str:
        told = f" ({', '.join(map(variable, self.settings))})" if self.settings else ""
        return f"{self.mark:<6} {self.name}{told}: {self.text}"


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Attributes:
        group: what it belongs to.
        name: what it is, in a word or two.
        settings: that tell of it.
        look: yields what it finds; an error of ours, or of the system, is wrong too.
    """

    group: str
    name: str
    settings: tuple[str, ...]
    look: Callable[[CheckContext], Iterable[Found]]

    def findings(self, scene: CheckContext) -> list[Finding]:
        """Return what it has found."""
        try:
            found = list(self.look(scene))
        except (SnakemapError, OSError) as error:
            found = [Wrong(error)]
        return [Finding(_mark(text), self.name, str(text), self.settings, self.group) for text in found]


@dataclass(frozen=True, slots=True)
class InStore:
    """What the store was asked.

    Attributes:
        address: where it is.
        whose: says that it is our own Redis, if it is.
        reports: what the parts say of themselves.
        vitals: of Redis.
        oldest: when the oldest document came, in seconds since 1970; None where there is none.
        frame_shape: rows and columns of the newest run's frames; None where none was read lately.
    """

    address: str
    whose: str
    reports: Mapping[str, Mapping[str, Any]]
    vitals: RedisInfo
    oldest: float | None
    frame_shape: tuple[int, int] | None


class CheckContext:
    """What the checks look at; what takes a while is asked once.

    Args:
        settings: of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def asked(self) -> InStore | SnakemapError:
        """What the store says, or why it says nothing."""
        try:
            return self._ask()
        except SnakemapError as trouble:
            return trouble

    @property
    def store(self) -> InStore | None:
        """What the store says; None while it is away, which one check tells for all."""
        return self.asked if isinstance(self.asked, InStore) else None

    def _ask(self) -> InStore:
        with ExitStack() as stack:
            url, whose = self.settings.redis_url, ""
            if not url:
                whose = f", our own ({redis_binary()})"
                url = stack.enter_context(EmbeddedRedis(self.settings.state_dir))
            return asyncio.run(_asked(url, whose))


async def _asked(url: str, whose: str) -> InStore:
    store = Store(url)
    try:
        reports, told = await store.reports(), await vitals(store)
        first, newest = await store.read("0", count=1), await store.summaries(count=1)
        frame = await store.frame(newest[0]["uid"]) if newest else None
        shape = frame[1].get("frame_shape") if frame else None
        return InStore(
            address=store.address,
            whose=whose,
            reports=reports,
            vitals=told,
            oldest=cursor_ms(first[0].cursor) / 1000 if first else None,
            frame_shape=(int(shape[0]), int(shape[1])) if shape else None,
        )
    finally:
        await store.close()


def _mark(text: Found) -> Mark:
    return Mark.WRONG if isinstance(text, Wrong) else Mark.NOTE if isinstance(text, Note) else Mark.OK
