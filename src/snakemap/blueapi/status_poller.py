"""State of blueapi's worker, of the control lock and of the audit log, read once a second for all tabs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
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
    """State of the worker.

    Attributes:
        state: like ``"IDLE"``; empty before the first answer, and while blueapi cannot be reached.
        since: start of this state, in seconds since 1970.
        task: current or last task; None while unknown.
        trouble: why the state is unknown, or empty.
    """

    state: str = ""
    since: float = 0.0
    task: Task | None = None
    trouble: str = ""

    @property
    def idle(self) -> bool:
        """Whether the worker can begin a task."""
        return self.state == "IDLE"


@dataclass
class StatusPoller:
    """Polls while it has users.

    Args:
        control: of the beamline.

    Attributes:
        worker: state of the worker.
        lock: the control lock.
        audit: requests, newest first.
    """

    control: ScanControl
    worker: WorkerStatus = field(default_factory=WorkerStatus)
    lock: ControlLock | None = None
    audit: list[dict[str, Any]] = field(default_factory=list)
    _users: dict[object, str] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def join(self, user: object, *, token: str = "") -> None:
        """Add a user, with its blueapi token if it has one; needs a running event loop."""
        self._users.setdefault(user, token)
        if not self._tasks:
            works = [self._keep_polling(self.poll_control)]
            if self.control.connected:
                works.append(self._keep_polling(self.poll_worker))
            self._tasks = [
                asyncio.create_task(work, name="status poller", context=contextvars.Context()) for work in works
            ]

    def leave(self, user: object) -> None:
        """Remove a user."""
        self._users.pop(user, None)
        if not self._users:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()

    async def poll(self, *, token: str = "") -> None:
        """Read everything once."""
        await self.poll_worker(token=token)
        await self.poll_control()

    async def poll_worker(self, *, token: str = "") -> None:
        """Read the state of the worker with a token: the given one, else that of the latest user with one."""
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

    async def poll_control(self) -> None:
        """Read the control lock and the audit log."""
        try:
            self.lock = await self.control.control_store.lock()
            self.audit = await self.control.control_store.audit(count=AUDIT_SHOWN)
        except StoreUnavailable:
            log.debug("no state of the control lock: Redis cannot be reached")

    async def _task(self, task_id: str, *, token: str) -> Task | None:
        """Return a task, polled until it has ended; its parameters are stored, because blueapi forgets them."""
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
                await self.control.control_store.keep_task(task_id, kept)
            except StoreUnavailable as trouble:
                log.debug("the parameters of task %s are not stored: %s", task_id, trouble)
        return task

    @staticmethod
    async def _keep_polling(poll: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await poll()
            except Exception:
                log.exception("polling the beamline failed")
            await asyncio.sleep(PERIOD_S)
