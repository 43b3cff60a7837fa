"""What blueapi's worker does, who holds control, and who asked for what: looked at once a second for all tabs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from snakemap.blueapi.client import Task
from snakemap.blueapi.control_store import ControlLock
from snakemap.blueapi.scan_control import ScanControl
from snakemap.errors import PlanNotFound, SnakemapError, StoreUnavailable

__all__ = ["StatusPoller", "WorkerStatus"]

log = logging.getLogger(__name__)

PERIOD_S = 1.0
AUDIT_SHOWN = 100


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The worker as it was looked at last.

    Attributes:
        state: like ``"IDLE"``; empty before the first answer, and while blueapi is away.
        since: when it came to that, in seconds since 1970.
        task: that it has, or had last; None while nobody knows.
        trouble: why nothing is known of it, or empty.
    """

    state: str = ""
    since: float = 0.0
    task: Task | None = None
    trouble: str = ""

    @property
    def idle(self) -> bool:
        """Whether it can begin something."""
        return self.state == "IDLE"


@dataclass
class StatusPoller:
    """Looks while anybody looks at it.

    Args:
        control: of the beamline.

    Attributes:
        worker: the worker.
        baton: who holds control.
        audit: who asked for what, newest first.
    """

    control: ScanControl
    worker: WorkerStatus = field(default_factory=WorkerStatus)
    baton: ControlLock | None = None
    audit: list[dict[str, Any]] = field(default_factory=list)
    _users: dict[object, str] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def join(self, user: object, *, token: str = "") -> None:
        """Somebody looks, with a token where a proxy brought one; needs a running event loop."""
        self._users.setdefault(user, token)
        if not self._tasks:
            works = [self._look_at_desk()]
            if self.control.connected:
                works.append(self._look_at_worker())
            self._tasks = [asyncio.create_task(work, name="watch", context=contextvars.Context()) for work in works]

    def leave(self, user: object) -> None:
        """Somebody looks no more."""
        self._users.pop(user, None)
        if not self._users:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()

    async def look(self, *, token: str = "") -> None:
        """Look once."""
        await self.look_at_worker(token=token)
        await self.look_at_desk()

    async def look_at_worker(self, *, token: str = "") -> None:
        """Ask blueapi, for all with one token: the one that is given, or that of who joined last and has one."""
        control, before = self.control, self.worker
        token = token or next((one for one in reversed(self._users.values()) if one), "")
        try:
            state = await control.blueapi.state(token=token)
            task = await self._task(await control.blueapi.active_task(token=token), token=token)
            trouble = ""
        except SnakemapError as error:
            state, task, trouble = "", before.task, str(error)
        same = state == before.state and bool(trouble) == bool(before.trouble)
        since = before.since if same and before.since else time.time()
        self.worker = WorkerStatus(state, since, task, trouble)

    async def look_at_desk(self) -> None:
        """Ask the store."""
        try:
            self.baton = await self.control.desk.baton()
            self.audit = await self.control.desk.audit(count=AUDIT_SHOWN)
        except StoreUnavailable:
            log.debug("the desk is away with its store")

    async def _task(self, task_id: str, *, token: str) -> Task | None:
        """Return a task, asked for until it has ended; what it was started with is kept, for blueapi forgets it."""
        known = self.worker.task
        if not task_id or (known is not None and known.task_id == task_id and known.complete):
            return known if task_id else None
        try:
            task = await self.control.blueapi.task(task_id, token=token)
        except PlanNotFound:
            return None
        if (known is None or known.task_id != task_id) and not self.control.read_only:
            kept = {"name": task.name, "params": task.params, "instrument_session": task.instrument_session}
            try:
                await self.control.desk.keep_task(task_id, kept)
            except StoreUnavailable as trouble:
                log.debug("what task %s was started with is not kept: %s", task_id, trouble)
        return task

    async def _look_at_worker(self) -> None:
        await self._again(self.look_at_worker)

    async def _look_at_desk(self) -> None:
        await self._again(self.look_at_desk)

    @staticmethod
    async def _again(look: Any) -> None:
        while True:
            try:
                await look()
            except Exception:
                log.exception("looking at the beamline failed")
            await asyncio.sleep(PERIOD_S)
