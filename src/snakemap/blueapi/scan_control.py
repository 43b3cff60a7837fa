"""Starting, stopping and repeating scans: one press makes one task, whoever presses, from wherever.

Everything that changes something at the beamline goes through here, from the page and from the API alike: whether one
may at all, whether one holds control, how often, whether it was pressed before, and the audit log. blueapi has the last
word.
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
from snakemap.blueapi.plan_form import check
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

__all__ = ["SAFE", "SESSION", "Action", "Caller", "PlanCall", "ScanControl", "told_by"]

log = logging.getLogger(__name__)

Action = Literal["stop", "abort", "pause", "resume"]
SAFE: frozenset[Action] = frozenset(("stop", "abort", "pause"))
"""Actions that end movement. They need nothing that Redis would have to store."""

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
    """Who asks.

    Attributes:
        tab: of the session, which only the server knows; empty for the API.
        name: for people, like ``"tab 3fa2"``.
        address: it came from.
        token: that is passed on to blueapi; neither logged nor shown.
    """

    tab: str
    name: str
    address: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlanCall:
    """What a run was started with.

    Attributes:
        name: of the plan.
        params: of the plan.
        instrument_session: it belonged to; empty when nobody told.
        source: where that is known from, for people.
    """

    name: str
    params: dict[str, Any]
    instrument_session: str
    source: str


class ScanControl:
    """The control of one beamline.

    Args:
        desk: what processes share.
        blueapi: the server; None when no address is set.
        read_only: nothing may be changed.
        baton: whether control is with one tab at a time.
        pausing: whether pause and resume are offered.
        per_minute: requests that one address may make in a minute.
    """

    def __init__(
        self,
        desk: ControlStore,
        blueapi: BlueapiClient | None,
        *,
        read_only: bool = False,
        baton: bool = True,
        pausing: bool = False,
        per_minute: int = 30,
    ) -> None:
        self.desk = desk
        self._blueapi = blueapi
        self.read_only = read_only
        self.baton = baton
        self.pausing = pausing
        self.per_minute = per_minute

    @property
    def connected(self) -> bool:
        """Whether there is a blueapi to talk to."""
        return self._blueapi is not None

    @property
    def blueapi(self) -> BlueapiClient:
        """The server.

        Raises:
            BlueapiUnavailable: when no address is set.
        """
        if self._blueapi is None:
            raise BlueapiUnavailable("no blueapi is set (SNAKEMAP_BLUEAPI_URL); no scan can be started")
        return self._blueapi

    async def close(self) -> None:
        """Let the connections to blueapi go."""
        if self._blueapi is not None:
            await self._blueapi.close()

    async def known(self, start: Mapping[str, Any], *, token: str = "") -> PlanCall:
        """Return what a run was started with: from its task, from what was kept at the time, or from its own documents.

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
            kept = await self.desk.task(task_id)
            if kept is not None:
                session = str(kept.get("instrument_session") or "")
                return PlanCall(str(kept["name"]), dict(kept["params"]), session, "the record of its start")
        return told_by(start)

    async def plan(self, name: str, *, token: str = "") -> Plan:
        """Return a plan as blueapi offers it now."""
        return await self.blueapi.plan(name, token=token)

    async def start(
        self, name: str, params: dict[str, Any], *, instrument_session: str, caller: Caller, key: str = "", of: str = ""
    ) -> str:
        """Start a plan, once for a key; returns the id of its task.

        Args:
            name: of the plan.
            params: of the plan.
            instrument_session: like ``aa12345-1``.
            caller: who asks.
            key: the same for every repetition of one press; empty for a press that is never repeated.
            of: uid of the run that is repeated, for the log.

        Raises:
            SnakemapError: in words, when it was not started; see the classes of :mod:`snakemap.errors`.
        """
        self.may_change()
        if len(key) > KEY_MAX:
            raise ParamsRefused({"": f"an idempotency key has at most {KEY_MAX} characters"})
        known = await self.desk.press(key) if key else None
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
                await self.desk.pressed(key, task_id)
        return task_id

    async def change(self, action: Action, *, reason: str, caller: Caller) -> str:
        """Stop, aborts, pauses or resumes what runs; returns the state of the worker afterwards.

        All but "resume" are also done while Redis refuses to store anything.

        Raises:
            SnakemapError: in words, when it was not done.
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
        """Hand a task in and has it begun, while nobody else does; a task that cannot begin is taken back."""
        blueapi, token, holder = self.blueapi, caller.token, uuid4().hex
        if not await self.desk.store.lease("start", holder, LEASE_S):
            raise WorkerBusy("another scan is being started; try again in a moment")
        try:
            state = await blueapi.state(token=token)
            if state != "IDLE":
                raise WorkerBusy(f"blueapi is {state.lower()}; the next scan can start when it is idle")
            check((await blueapi.plan(name, token=token)).schema, params)
            task_id = await blueapi.submit(name, params, instrument_session=instrument_session, token=token)
            kept = {"name": name, "params": params, "instrument_session": instrument_session}
            await self.desk.keep_task(task_id, kept)
            await self._begin_task(task_id, token=token)
            return task_id
        finally:
            await self.desk.store.release("start", holder)

    async def _begin_task(self, task_id: str, *, token: str) -> None:
        """Begin a task; when the answer is lost, looks whether it began."""
        try:
            await self.blueapi.begin(task_id, token=token)
        except BlueapiUnavailable:
            if await self.blueapi.active_task(token=token) != task_id:
                raise
        except SnakemapError:
            try:
                await self.blueapi.drop(task_id, token=token)
            except SnakemapError as trouble:
                log.info("task %s was not begun, and stays with blueapi: %s", task_id, trouble)
            raise

    def may_change(self) -> None:
        """Look whether anything may be changed at all.

        Raises:
            ReadOnly: when not.
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
        """Do something that is logged, whatever comes of it.

        Args:
            what: the action, one word.
            about: its parameters, for the audit log.
            caller: who asks.
            work: does it.
            came: what came of it, in words.
            safe: whether it is done also while Redis refuses the entry of the audit log.
        """
        entry = {"who": caller.name, "address": caller.address, "what": what, **about}
        try:
            await self._limit(caller)
            number = await self.desk.note(entry)
        except StoreRefuses as refusal:
            if not safe:
                raise
            number = ""
            words = "%s by %s from %s (%s): Redis refuses the entry of the audit log: %s"
            log.warning(words, what, caller.name, caller.address, about, refusal)
        result = "interrupted"
        try:
            await self._must_hold(caller, taking=bool(number))
            told = await work()
            result = came(told)
        except SnakemapError as refusal:
            result = f"refused: {refusal}"
            raise
        except Exception as error:
            result = f"failed: {type(error).__name__}"
            raise
        else:
            return told
        finally:
            log.info("%s by %s from %s: %s", what, caller.name, caller.address, result)
            await self._note_result(number, entry, result)

    async def _limit(self, caller: Caller) -> None:
        """Count what somebody asks for.

        Raises:
            TooOften: it is too much for one minute.
        """
        if not await self.desk.allow(caller.address or caller.name, per_minute=self.per_minute):
            raise TooOften(f"more than {self.per_minute} requests in a minute; wait one minute")

    async def _note_result(self, number: str, entry: dict[str, Any], result: str) -> None:
        """Add what came of an action to the audit log, or keeps it for later: the action is done."""
        answer = {"answers": number, "came": result} if number else {**entry, "came": result}
        if not number:
            self.desk.keep(answer)
            return
        try:
            await self.desk.note(answer)
        except StoreUnavailable as trouble:
            log.warning("the audit log has no result of %s (%s) yet: %s", entry["what"], result, trouble)
            self.desk.keep(answer)

    async def _must_hold(self, caller: Caller, *, taking: bool = True) -> None:
        """Control must be with who asks; for the API, with nobody who is there.

        Args:
            caller: who asks.
            taking: whether control can be taken. While Redis refuses that, what counts is whether it would be given.

        Raises:
            ControlHeld: when it is not.
        """
        if not self.baton:
            return
        held = await self.desk.baton()
        if not taking and (held is None or held.gone):
            return
        if caller.tab and (held is None or held.tab != caller.tab):
            raise ControlHeld(f"{_holder(held)} has control; request it first" if held else "take control first")
        if not caller.tab and held is not None and not held.gone:
            raise ControlHeld(f"{_holder(held)} has control")


def control_of(settings: Settings, store: Store) -> ScanControl:
    """Return the control that a process's settings speak of."""
    blueapi = BlueapiClient(settings.blueapi_url, token=settings.blueapi_token) if settings.blueapi_url else None
    return ScanControl(
        ControlStore(store),
        blueapi,
        read_only=settings.read_only,
        baton=settings.baton,
        pausing=settings.pausing,
        per_minute=settings.actions_per_minute,
    )


def _holder(held: ControlLock) -> str:
    return f"{held.name} at {held.address}" if held.address else held.name


def told_by(start: Mapping[str, Any]) -> PlanCall:
    """Return what a run's own documents say of how it was started.

    Raises:
        NothingToRepeat: when they do not even tell a plan.

    >>> told_by({"plan_name": "count", "plan_args": {"num": 3, "detectors": ["Blob(name='det')"]}}).params
    {'num': 3, 'detectors': ['det']}
    """
    name = start.get("plan_name")
    if not isinstance(name, str) or not name:
        raise NothingToRepeat("the plan of this run is unknown: neither the run nor blueapi has it")
    args = start.get("plan_args")
    params = _plain(args) if isinstance(args, Mapping) else {}
    return PlanCall(name, params, str(start.get("instrument_session") or ""), "the run's own documents")


def _plain(value: Any) -> Any:
    """Return arguments as documents keep them: a device is its repr there, and its name is all that matters."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    match = NAMED.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else value
