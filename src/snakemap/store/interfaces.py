# ruff: noqa: D102 - the methods are described at the Store
"""Interfaces of :class:`snakemap.store.store.Store`, by purpose; tests implement them in memory.

::

    DocumentLog    the stream          append, read, follow
    RunIndex       derived from it     summaries, thumbnails, preview frames
    SharedState    of processes        lease, heartbeat, progress
    WorkerStore    all three, for the worker
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from snakemap.core.documents import Entry, Message
from snakemap.store.store import StreamPosition

__all__ = ["DocumentLog", "RunIndex", "SharedState", "WorkerStore"]


class DocumentLog(Protocol):
    """The stream of documents."""

    async def append(self, messages: Sequence[Message]) -> list[str]: ...
    async def latest(self) -> str: ...
    async def read(self, after: str = "0", *, count: int = 1000, until: str = "+") -> list[Entry]: ...
    def follow(self, after: StreamPosition, *, block_ms: int = 1000) -> AsyncIterator[list[Entry]]: ...
    def run_entries(self, uid: str, *, after: str = "0") -> AsyncIterator[list[Entry]]: ...


class RunIndex(Protocol):
    """Data derived from the documents of each run."""

    async def owners(self) -> dict[str, str]: ...
    async def summaries(self) -> list[dict[str, Any]]: ...
    async def save_summary(self, uid: str, summary: dict[str, Any]) -> None: ...
    async def save_picture(self, uid: str, png: bytes) -> None: ...
    async def save_frame(
        self, uid: str, frame: npt.NDArray[Any], *, about: dict[str, Any], source: str = ""
    ) -> None: ...
    async def evict(self) -> list[str]: ...


class SharedState(Protocol):
    """State that processes share; it expires."""

    async def report(self, part: str, state: dict[str, Any], *, ttl_s: float) -> None: ...
    async def save_progress(self, progress: list[dict[str, Any]]) -> None: ...
    async def lease(self, name: str, holder: str, ttl_s: float, *, instead_of: str | None = None) -> bool: ...
    async def holder(self, name: str) -> str | None: ...
    async def release(self, name: str, holder: str) -> None: ...


class WorkerStore(DocumentLog, RunIndex, SharedState, Protocol):
    """The store of a worker."""
