"""Start, stop and repeat scans, from the page and from the API.

Every change passes the same checks: read-only mode, control lock, rate limit, idempotency key; and the audit log.
blueapi makes the final decision.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from snakemap.blueapi.client import BlueapiClient, Plan
from snakemap.blueapi.control_store import ControlLock, ControlStore
from snakemap.blueapi.plan_form import check_params
from snakemap.errors import (
    BlueapiFailed,
    BlueapiUnavailable,
    ControlHeld,
    NothingToRepeat,
    ParamsRefused,
    PlanNotFound,
    ReadOnly,
    SnakemapError,
    StoreRefuses,
    StoreUnavailable,
    TooOften,
    WorkerBusy,
)
from snakemap.settings import Settings
from snakemap.store.store import Store

__all__ = ["SAFE", "SESSION", "Action", "Caller", "PlanCall", "ScanControl", "plan_call_from_start"]

log = logging.getLogger(__name__)

Action = Literal["stop", "abort", "pause", "resume"]
SAFE: frozenset[Action] = frozenset(("stop", "abort", "pause"))
"""Actions that end movement; they are done even while Redis refuses writes."""

NEW_STATES: dict[Action, str] = {"stop": "STOPPING", "abort": "ABORTING", "pause": "PAUSED", "resume": "RUNNING"}

SESSION = re.compile(r"[a-z]{2}\d{1,8}-\d{1,4}")
"""An instrument session, like ``aa12345-1``."""

NAMED = re.compile(r"\w+\(.*?\bname=['\"]([^'\"]+)['\"].*", re.DOTALL)
LEASE_S = 60.0
LOST_BY_PAUSING = (
    "; blueapi 1.21 fails like this for a paused scan and loses it: check its worker, then run the scan again"
)
KEY_MAX = 200
REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Origin of a request.

    Attributes:
        tab: id of the session, known to the server only; empty for the API.
        name: for display, like ``"tab 3fa2"``.
        address: of the client.
        token: passed on to blueapi; neither logged nor shown.
    """

    tab: str
    name: str
    address: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlanCall:
    """Plan and parameters that a run was started with.

    Attributes:
        name: of the plan.
        params: of the plan.
        instrument_session: of the run; empty when unknown.
        source: where they are from, for display.
    """

    name: str
    params: dict[str, Any]
    instrument_session: str
    source: str


class ScanControl:
    """Control of one beamline.

    Args:
        control_store: state shared by all processes.
        blueapi: the server; None when none is set.
        read_only: nothing may be changed.
        exclusive: whether one tab at a time has control.
        pausing: whether pause and resume are offered.
        per_minute: requests that one address may make in a minute.
    """

    def __init__(
        self,
        control_store: ControlStore,
        blueapi: BlueapiClient | None,
        *,
        read_only: bool = False,
        exclusive: bool = True,
        pausing: bool = False,
        per_minute: int = 30,
    ) -> None:
        self.control_store = control_store
        self._blueapi = blueapi
        self.read_only = read_only
        self.exclusive = exclusive
        self.pausing = pausing
        self.per_minute = per_minute

    @property
    def connected(self) -> bool:
        """Whether a blueapi is set."""
        return self._blueapi is not None

    @property
    def blueapi(self) -> BlueapiClient:
        """The client of blueapi.

        Raises:
            BlueapiUnavailable: when no address is set.
        """
        if self._blueapi is None:
            raise BlueapiUnavailable("no blueapi is set (SNAKEMAP_BLUEAPI_URL); no scan can be started")
        return self._blueapi

    async def close(self) -> None:
        """Close the connections to blueapi."""
        if self._blueapi is not None:
            await self._blueapi.close()

    async def plan_call(self, start: Mapping[str, Any], *, token: str = "") -> PlanCall:
        """Return what a run was started with: from its task, else from the stored copy, else from its start document.

        Raises:
            NothingToRepeat: when not even its plan is known.
        """
        task_id = start.get("blueapi_task_id")
        if isinstance(task_id, str) and task_id:
            try:
                task = await self.blueapi.task(task_id, token=token)
            except PlanNotFound:
                pass
            else:
                return PlanCall(task.name, task.params, task.instrument_session, "blueapi's task")
            kept = await self.control_store.task(task_id)
            if kept is not None:
                session = str(kept.get("instrument_session") or "")
                return PlanCall(str(kept["name"]), dict(kept["params"]), session, "the record of its start")
        return plan_call_from_start(start)

    async def plan(self, name: str, *, token: str = "") -> Plan:
        """Return a plan as blueapi offers it."""
        return await self.blueapi.plan(name, token=token)

    async def start(
        self, name: str, params: dict[str, Any], *, instrument_session: str, caller: Caller, key: str = "", of: str = ""
    ) -> str:
        """Start a plan, once for each key; return the id of its task.

        Args:
            name: of the plan.
            params: of the plan.
            instrument_session: like ``aa12345-1``.
            caller: origin of the request.
            key: idempotency key, the same for every repetition of a request; empty for none.
            of: uid of the repeated run, for the audit log.

        Raises:
            SnakemapError: when the plan was not started; see :mod:`snakemap.errors`.
        """
        self.may_change()
        if len(key) > KEY_MAX:
            raise ParamsRefused({"": f"an idempotency key has at most {KEY_MAX} characters"})
        known = await self.control_store.reserve(key) if key else None
        if known:
            return known
        if known is not None:
            raise WorkerBusy("this request is already in progress")
        about = {"plan": name, "params": params, "of": of, "instrument_session": instrument_session}

        async def begin() -> str:
            if not SESSION.fullmatch(instrument_session):
                words = "is not an instrument session like aa12345-1"
                raise ParamsRefused({"instrument_session": f"{instrument_session[:40]!r} {words}"})
            return await self._begin(name, params, instrument_session=instrument_session, caller=caller)

        task_id = ""
        try:
            task_id = await self._audited("start", about, caller, begin, came=lambda task_id: f"task {task_id}")
        finally:
            if key:
                await self.control_store.complete(key, task_id)
        return task_id

    async def change(self, action: Action, *, reason: str, caller: Caller) -> str:
        """Stop, abort, pause or resume the current task; return the state of the worker afterwards.

        All but "resume" are also done while Redis refuses writes.

        Raises:
            SnakemapError: when it was not done.
        """
        self.may_change()
        if action in ("pause", "resume") and not self.pausing:
            raise ReadOnly("pausing is off (SNAKEMAP_PAUSING): blueapi 1.21 cannot resume or abort what is paused")
        reason = reason.strip()[:REASON_MAX]

        async def change() -> str:
            try:
                return await self.blueapi.change(NEW_STATES[action], reason=reason, token=caller.token)
            except BlueapiFailed as failed:
                raise BlueapiFailed(f"{failed}{LOST_BY_PAUSING if self.pausing else ''}") from failed

        return await self._audited(
            action,
            {"reason": reason},
            caller,
            change,
            came=lambda state: f"blueapi is {state.lower()}",
            safe=action in SAFE,
        )

    async def _begin(self, name: str, params: dict[str, Any], *, instrument_session: str, caller: Caller) -> str:
        """Submit and begin a task under a lease; a task that cannot begin is deleted."""
        blueapi, token, holder = self.blueapi, caller.token, uuid4().hex
        if not await self.control_store.store.lease("start", holder, LEASE_S):
            raise WorkerBusy("another scan is being started; try again in a moment")
        try:
            state = await blueapi.state(token=token)
            if state != "IDLE":
                raise WorkerBusy(f"blueapi is {state.lower()}; the next scan can start when it is idle")
            check_params((await blueapi.plan(name, token=token)).schema, params)
            task_id = await blueapi.submit(name, params, instrument_session=instrument_session, token=token)
            kept = {"name": name, "params": params, "instrument_session": instrument_session}
            await self.control_store.keep_task(task_id, kept)
            await self._begin_task(task_id, token=token)
            return task_id
        finally:
            await self.control_store.store.release("start", holder)

    async def _begin_task(self, task_id: str, *, token: str) -> None:
        """Begin a task; without an answer, ask whether it has begun."""
        try:
            await self.blueapi.begin(task_id, token=token)
        except BlueapiUnavailable:
            if await self.blueapi.active_task(token=token) != task_id:
                raise
        except SnakemapError:
            try:
                await self.blueapi.drop(task_id, token=token)
            except SnakemapError as trouble:
                log.info("task %s was not begun, and remains in blueapi: %s", task_id, trouble)
            raise

    def may_change(self) -> None:
        """Raise unless changes are allowed.

        Raises:
            ReadOnly: when they are not.
        """
        if self.read_only:
            raise ReadOnly("this dashboard is read-only (SNAKEMAP_READ_ONLY)")

    async def _audited(
        self,
        what: str,
        about: dict[str, Any],
        caller: Caller,
        work: Callable[[], Awaitable[str]],
        *,
        came: Callable[[str], str],
        safe: bool = False,
    ) -> str:
        """Do something, and log request and result in the audit log.

        Args:
            what: the action, one word.
            about: its parameters, for the audit log.
            caller: origin of the request.
            work: does it.
            came: returns the text of the result.
            safe: whether it is also done while Redis refuses the audit entry.
        """
        entry = {"who": caller.name, "address": caller.address, "what": what, **about}
        try:
            await self._limit(caller)
            number = await self.control_store.note(entry)
        except StoreRefuses as refusal:
            if not safe:
                raise
            number = ""
            words = "%s by %s from %s (%s): Redis refuses the audit entry: %s"
            log.warning(words, what, caller.name, caller.address, about, refusal)
        result = "interrupted"
        try:
            await self._must_hold(caller, taking=bool(number))
            value = await work()
            result = came(value)
        except SnakemapError as refusal:
            result = f"refused: {refusal}"
            raise
        except Exception as error:
            result = f"failed: {type(error).__name__}"
            raise
        else:
            return value
        finally:
            log.info("%s by %s from %s: %s", what, caller.name, caller.address, result)
            await self._note_result(number, entry, result)

    async def _limit(self, caller: Caller) -> None:
        """Count a request.

        Raises:
            TooOften: when the caller exceeds its rate limit.
        """
        if not await self.control_store.allow(caller.address or caller.name, per_minute=self.per_minute):
            raise TooOften(f"more than {self.per_minute} requests in a minute; wait one minute")

    async def _note_result(self, number: str, entry: dict[str, Any], result: str) -> None:
        """Add the result of an action to the audit log, or keep it for later: the action is done."""
        answer = {"answers": number, "came": result} if number else {**entry, "came": result}
        if not number:
            self.control_store.keep(answer)
            return
        try:
            await self.control_store.note(answer)
        except StoreUnavailable as trouble:
            log.warning("the audit log has no result of %s (%s) yet: %s", entry["what"], result, trouble)
            self.control_store.keep(answer)

    async def _must_hold(self, caller: Caller, *, taking: bool = True) -> None:
        """Raise unless a tab has control, or, for the API, no present tab has it.

        Args:
            caller: origin of the request.
            taking: whether Redis accepts writes. If not, a lock that could be taken is as good as a held one.

        Raises:
            ControlHeld: when another tab has control.
        """
        if not self.exclusive:
            return
        held = await self.control_store.lock()
        if not taking and (held is None or held.gone):
            return
        if caller.tab and (held is None or held.tab != caller.tab):
            raise ControlHeld(f"{_holder(held)} has control; request it first" if held else "take control first")
        if not caller.tab and held is not None and not held.gone:
            raise ControlHeld(f"{_holder(held)} has control")


def control_of(settings: Settings, store: Store) -> ScanControl:
    """Return the scan control of a process."""
    blueapi = BlueapiClient(settings.blueapi_url, token=settings.blueapi_token) if settings.blueapi_url else None
    return ScanControl(
        ControlStore(store),
        blueapi,
        read_only=settings.read_only,
        exclusive=settings.baton,
        pausing=settings.pausing,
        per_minute=settings.actions_per_minute,
    )


def _holder(held: ControlLock) -> str:
    return f"{held.name} at {held.address}" if held.address else held.name


def plan_call_from_start(start: Mapping[str, Any]) -> PlanCall:
    """Return plan and parameters from a start document.

    Raises:
        NothingToRepeat: when it names no plan.

    >>> plan_call_from_start({"plan_name": "count", "plan_args": {"num": 3, "detectors": ["Blob(name='det')"]}}).params
    {'num': 3, 'detectors': ['det']}
    """
    name = start.get("plan_name")
    if not isinstance(name, str) or not name:
        raise NothingToRepeat("the plan of this run is unknown: neither the run nor blueapi has it")
    args = start.get("plan_args")
    params = _plain(args) if isinstance(args, Mapping) else {}
    return PlanCall(name, params, str(start.get("instrument_session") or ""), "the run's own documents")


def _plain(value: Any) -> Any:
    """Return plan arguments as JSON: a device, which is its repr in documents, becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    match = NAMED.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else value
