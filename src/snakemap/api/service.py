"""What the routes stand on: one for each application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from snakemap.api.folds import Folds, Written, uid_of
from snakemap.api.maps import Form
from snakemap.api.models import ErrorDetail, Readiness
from snakemap.api.streams import Streams, lines
from snakemap.control import control_of
from snakemap.directories import Directories
from snakemap.geometry import Habits
from snakemap.readiness import checks, wrong
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["Service"]


class Service:
    """Answers what the routes are asked.

    Args:
        store: the documents.
        settings: of the process.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.control = control_of(settings, store)
        self.folds = Folds(store, habits=Habits(settings.grid, snake=settings.snake))
        self.directories = Directories(settings.root)
        self.streams = Streams(store, origins=settings.origins)

    async def summary(self, asked: str) -> dict[str, Any]:
        """What the list of runs says of one."""
        return await self.store.summary(await uid_of(self.store, asked))

    async def maps(self, asked: str, form: Form, *, source: str = "", known: str | None) -> Written | None:
        """The maps of a run as they are now; None when a client has missed nothing since those that it knows.

        Args:
            asked: uid, or ``latest``.
            form: JSON or an archive.
            source: what of the run, as the maps tell it; empty for the main one.
            known: the ``If-None-Match`` header, or None.
        """
        return await self.folds.maps(await uid_of(self.store, asked), form, source=source, known=_cursor_of(known))

    async def documents(self, asked: str) -> AsyncGenerator[bytes]:
        """The documents of a run, as JSON lines.

        Raises:
            RunNotFound: at once, when there is no such run.
        """
        found = lines(self.store, await uid_of(self.store, asked))
        await anext(found)
        return found

    async def readiness(self) -> Readiness:
        """What data need to come through: Redis, the worker, and its broker where it has one."""
        told = await checks(self.store)
        trouble = wrong(told)
        error = ErrorDetail(code="not_ready", message=trouble) if trouble else None
        return Readiness(ready=not trouble, checks=told, error=error)


def _cursor_of(etag: str | None) -> str | None:
    """The cursor in an ``If-None-Match`` header with one entity tag, weak or not.

    >>> _cursor_of('W/"1795461238076-0"')
    '1795461238076-0'
    """
    return etag.strip().removeprefix("W/").strip('"') if etag else None
