"""Scan control of a tab: the buttons, the plan form, the control lock and the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from uuid import uuid4

from snakemap.blueapi.client import Plan
from snakemap.blueapi.plan_estimate import PreviousRun as OldRun
from snakemap.blueapi.plan_estimate import estimate
from snakemap.blueapi.plan_form import Field, fields_of, read_params
from snakemap.blueapi.plan_region import apply_region
from snakemap.blueapi.scan_control import SAFE, SESSION, Caller, PlanCall, ScanControl
from snakemap.blueapi.status_poller import StatusPoller, WorkerStatus
from snakemap.core.run import Run
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.dataset import complain
from snakemap.dashboard.panes.scan_control_text import estimate_text, last_error, worker_text
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import AuditLog, Controls, PlanForm
from snakemap.errors import NothingToRepeat, ParamsRefused, PlanNotFound, SnakemapError, StoreRefuses

__all__ = ["ScanControlPane"]

SEEN_PERIOD_S = 4.0


KEY_LETTERS = 32


BUSY = ("RUNNING", "PAUSED")


@dataclass
class FormFilling:
    """A form that is being filled in.

    Attributes:
        plan: whose form it is.
        fields: of the plan.
        old: what is known of the run that is repeated.
        known: what it was started with.
        of: its uid; empty for a new scan.
        values: texts of the fields.
        session: text of the field of the instrument session.
        key: of this form, so that repeated presses make one task.
        params: checked parameters that wait for the confirmation.
    """

    plan: Plan
    fields: list[Field]
    old: OldRun
    known: PlanCall
    of: str
    values: dict[str, str] = field(default_factory=dict)
    session: str = ""
    key: str = field(default_factory=lambda: uuid4().hex)
    params: dict[str, Any] | None = None


class ScanControlPane:
    """The control of one tab.

    Args:
        tab: whose it is.
        poller: state of blueapi and of the control lock, shared by all tabs.
        caller: identity of the tab, for the audit log and for blueapi.
        session: instrument session to begin with; empty when none is set.
        on_form: called with whether the form is to be seen.
    """

    def __init__(
        self,
        tab: Session,
        poller: StatusPoller,
        *,
        caller: Caller,
        session: str = "",
        on_form: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.tab = tab
        self.poller = poller
        self.caller = caller
        self.session = session
        self.on_form = on_form
        self.background = BackgroundTasks(tab.document)
        self.key = uuid4().hex
        self.controls = Controls(sizing_mode="stretch_width", key=self.key, margin=0)
        self.form = PlanForm(sizing_mode="stretch_both")
        self.audit = AuditLog(sizing_mode="stretch_width")
        self._filling: FormFilling | None = None
        self._plans: list[str] = []
        self._filled = 0
        self._refused = 0
        self._busy = False
        self._asked_at = 0.0
        self._came_back = False
        self.controls.param.watch(self._on_controls, "ask")
        self.controls.param.watch(self._on_beat, "answer")
        self.form.param.watch(self._on_form, "ask")
        tab.worker = lambda: poller.worker if self.control.connected else None
        tab.on_status(lambda _: self._write())
        tab.on_tick(self._show_progress)
        tab.on_box(self._on_box)
        tab.on_close(self.close)

    @property
    def control(self) -> ScanControl:
        """Of the beamline."""
        return self.poller.control

    def close(self) -> None:
        """Release all resources; control stays with the tab for a few seconds, in case the page only reloads."""
        self.poller.leave(self)
        self.background.close()

    # what is shown

    def _write(self) -> None:
        """Update state, buttons, control lock and log, once a second."""
        self.poller.join(self, token=self.caller.token)
        self._set(self.controls, state=self._state())
        self._set(self.audit, entries=[_entry(one) for one in self.poller.audit])
        held = self.poller.lock
        if held is not None and held.tab == self.caller.tab and time.time() - self._asked_at > SEEN_PERIOD_S:
            self._asked_at = time.time()
            self.controls.beat += 1

    def _on_beat(self, _: Any) -> None:
        """Keep control with this tab: its browser has answered. A tab that is closed or cut off answers no more."""
        self.background.run(
            "seen", lambda: self.control.control_store.seen(self.caller.tab), lambda _: None, failed=_quiet
        )

    def _show_progress(self) -> None:
        """Show progress as it comes in."""
        progress = self._progress()
        if self.controls.state and progress != self.controls.state.get("progress"):
            self.controls.state = {**self.controls.state, "progress": progress}

    def _progress(self) -> list[dict[str, Any]]:
        return self.tab.live.progress if self.poller.worker.state not in ("", "IDLE") else []

    def _state(self) -> dict[str, Any]:
        worker = self.poller.worker
        words, level = worker_text(worker, connected=self.control.connected)
        return {
            "text": words,
            "level": level,
            "since": self._since(worker),
            "trouble": worker.trouble or last_error(worker),
            "progress": self._progress(),
            "buttons": self._buttons(worker),
            "lock": self._lock_state(),
        }

    def _since(self, worker: WorkerStatus) -> float:
        """Return when the worker entered its state, or its run began; seconds since 1970."""
        if not worker.state:
            return 0.0
        if worker.task is not None and not worker.idle:
            for run in self.tab.live.summaries[:10]:
                if run.get("task_id") == worker.task.task_id:
                    return float(run["started"])
        return worker.since

    def _buttons(self, worker: WorkerStatus) -> dict[str, dict[str, Any]]:
        held, off = self._held_by_another(), self._off()
        begin = off or held or self._not_idle(worker)
        end = off or held or ("" if worker.state in BUSY else "no scan is running")
        running = worker.state not in ("", "IDLE")
        pausing = self.control.pausing
        no_run = "" if self.tab.pipeline.run is not None else "no run yet"
        return {
            "again": {"shown": True, "why": begin or no_run},
            "new": {"shown": self.control.connected, "why": begin},
            "stop": {"shown": running, "why": end},
            "abort": {"shown": running, "why": end},
            "pause": {"shown": pausing and worker.state == "RUNNING", "why": end},
            "resume": {"shown": pausing and worker.state == "PAUSED", "why": end},
        }

    def _off(self) -> str:
        """Return why this tab can change nothing; empty if it can."""
        if self.control.read_only:
            return "This dashboard is read-only."
        if not self.control.connected:
            return "No blueapi is set (SNAKEMAP_BLUEAPI_URL)."
        return ""

    def _not_idle(self, worker: WorkerStatus) -> str:
        if worker.trouble:
            return worker.trouble
        if not worker.state:
            return "waiting for an answer from blueapi"
        if worker.idle:
            return ""
        if worker.state in BUSY:
            return f"A scan is {worker.state.lower()}; the next can start when it ends"
        return f"{worker_text(worker)[0]}; a scan can start when it is idle"

    def _held_by_another(self) -> str:
        held = self.poller.lock
        if not self.control.exclusive or held is None or held.gone or held.tab == self.caller.tab:
            return ""
        return f"{held.name} has control"

    def _lock_state(self) -> dict[str, Any]:
        held = self.poller.lock
        if not self.control.exclusive or self._off():
            return {"shown": False}
        if held is None or (held.gone and held.tab != self.caller.tab):
            return {"shown": True, "text": "No tab has control", "actions": [["take", "Take control"]]}
        since = time.strftime("%H:%M", time.localtime(held.since))
        if held.tab == self.caller.tab:
            if held.asking:
                actions = [["release", "Hand over"], ["deny", "Keep"]]
                return {"shown": True, "text": f"{held.asking_name} requests control", "actions": actions}
            return {
                "shown": True,
                "text": f"You have control (since {since})",
                "actions": [["release", "Release control"]],
            }
        holder = f"{held.name}{f' at {held.address}' if held.address else ''}"
        words = f"{holder} has control (since {since})"
        if held.asking == self.caller.tab:
            return {"shown": True, "text": f"{words}; request sent", "actions": []}
        return {"shown": True, "text": words, "actions": [["ask", "Request control"]]}

    # what the user does

    def _on_controls(self, event: Any) -> None:
        asked = event.new if isinstance(event.new, dict) else {}
        what, reason = asked.get("what"), asked.get("reason")
        if what == "back":
            self._come_back(asked.get("key"))
        elif what in ("again", "new"):
            self._with_control(self._open_again if what == "again" else self._open_new)
        elif what in ("stop", "abort", "pause", "resume"):
            self._with_control(lambda: self._change(what, reason if isinstance(reason, str) else ""), safe=what in SAFE)
        elif what in ("take", "ask", "release", "deny"):
            self._change_lock(what)

    def _come_back(self, key: Any) -> None:
        """Give a tab its control back after a reload."""
        if (
            not isinstance(key, str)
            or len(key) != KEY_LETTERS
            or not key.isalnum()
            or self._came_back
            or self.control.read_only
        ):
            return
        self._came_back = True
        self.key = key
        self._take(back=True, then=lambda _: self._write())

    def _take(
        self,
        *,
        then: Callable[[bool], None],
        back: bool = False,
        failed: Callable[[SnakemapError], None] = complain,
    ) -> None:
        caller, store = self.caller, self.control.control_store

        async def take() -> bool:
            known = sha256(self.key.encode()).hexdigest()
            held = await store.take(caller.tab, key=known, name=caller.name, address=caller.address, back=back)
            await self.poller.poll_control()
            return held

        self.background.run("take", take, then, failed=failed)

    def _with_control(self, work: Callable[[], None], *, safe: bool = False) -> None:
        """Call with control, which is taken if no tab has it.

        Args:
            work: called once this tab has control.
            safe: whether to call also when Redis refuses to store the control lock.
        """
        if not self.control.exclusive:
            work()
            return

        def go_on(held: bool) -> None:
            self._write()
            if held:
                work()
            else:
                warn(f"{self._held_by_another() or 'Another tab has control'}; request it first.")

        def go_on_without(error: SnakemapError) -> None:
            if safe and isinstance(error, StoreRefuses):
                work()
            else:
                complain(error)

        self._take(then=go_on, failed=go_on_without)

    def _change_lock(self, what: str) -> None:
        caller, store = self.caller, self.control.control_store
        if what == "take":
            self._take(then=lambda held: self._write() if held else warn("Another tab took control first."))
            return

        async def change() -> None:
            if what == "ask":
                known = sha256(self.key.encode()).hexdigest()
                await store.ask(caller.tab, key=known, name=caller.name, address=caller.address)
            elif what == "release":
                await store.release(caller.tab)
            else:
                await store.deny(caller.tab)
            await self.poller.poll_control()

        self.background.run("lock", change, lambda _: self._write(), failed=complain)

    def _change(self, action: Any, reason: str) -> None:
        async def change() -> str:
            state = await self.control.change(action, reason=reason, caller=self.caller)
            await self.poller.poll(token=self.caller.token)
            return state

        self.background.run("change", change, lambda _: self._write(), failed=self._failed)

    def _failed(self, error: SnakemapError) -> None:
        complain(error)
        self._write()

    # the form

    def _open_again(self) -> None:
        """Open the form of the run that is shown, with its values."""
        run = self.tab.pipeline.run
        if run is None:
            return
        start, uid, old = run.start, run.uid, _old_run(run)

        async def look() -> tuple[PlanCall, Plan, list[str]]:
            known = await self.control.plan_call(start, token=self.caller.token)
            plans = [plan.name for plan in await self.control.blueapi.plans(token=self.caller.token)]
            return known, await self.control.plan(known.name, token=self.caller.token), plans

        def show(found: tuple[PlanCall, Plan, list[str]]) -> None:
            known, plan, self._plans = found
            self._fill(plan, known, replace(old, params=known.params), of=uid)

        self.background.run("form", look, show, failed=complain)

    def _open_new(self, name: str = "") -> None:
        """Open the form of a plan with its defaults."""

        async def look() -> tuple[Plan, list[str]]:
            plans = await self.control.blueapi.plans(token=self.caller.token)
            if not plans:
                raise NothingToRepeat("blueapi offers no plans")
            wanted = next((plan for plan in plans if plan.name == name), None)
            if name and wanted is None:
                raise PlanNotFound(f"blueapi has no plan {name[:100]!r} (any more)")
            return wanted or plans[0], [plan.name for plan in plans]

        def show(found: tuple[Plan, list[str]]) -> None:
            plan, self._plans = found
            self._fill(plan, PlanCall(plan.name, {}, "", ""), OldRun({}), of="")

        self.background.run("form", look, show, failed=complain)

    def _fill(self, plan: Plan, known: PlanCall, old: OldRun, *, of: str) -> None:
        fields = fields_of(plan.schema, known.params)
        filling = FormFilling(plan, fields, old, known, of, values={one.name: one.text for one in fields})
        filling.session = self.session or known.instrument_session
        self._filling, self._busy = filling, False
        self._filled += 1
        self.on_form(True)
        self._send_form()

    def _close_form(self) -> None:
        self._filling, self._busy = None, False
        self.form.state = {"open": False}
        self.on_form(False)

    def _on_form(self, event: Any) -> None:
        asked, filling = event.new if isinstance(event.new, dict) else {}, self._filling
        what = asked.get("what")
        if filling is None or self._busy:
            return
        if what == "close":
            self._close_form()
        elif what == "plan":
            self._open_new(str(asked.get("plan") or "")[:200])
        elif what == "back":
            filling.params = None
            self._send_form()
        elif what == "start":
            self._start(filling)
        elif what in ("change", "check"):
            self._take_values(filling, asked)
            filling.params = self._checked(filling) if what == "check" else None
            self._refused += what == "check" and filling.params is None
            self._send_form()

    def _take_values(self, filling: FormFilling, asked: Mapping[str, Any]) -> None:
        values, session = asked.get("values"), asked.get("session")
        for one in filling.fields:
            text = values.get(one.name) if isinstance(values, dict) else None
            if isinstance(text, str):
                filling.values[one.name] = text
        filling.session = session[:100] if isinstance(session, str) else ""

    def _checked(self, filling: FormFilling) -> dict[str, Any] | None:
        """Return the parameters; None if any is invalid."""
        try:
            params = read_params(filling.fields, filling.values, filling.plan.schema)
        except ParamsRefused:
            return None
        return params if SESSION.fullmatch(filling.session) else None

    def _on_box(self, corners: tuple[float, float, float, float]) -> None:
        """Write a region that is drawn on a map into the open form."""
        filling = self._filling
        if filling is None or self._busy or filling.params is not None:
            return
        raster, (left, right, bottom, top) = self.tab.pipeline.picture.raster, corners
        sides = ((raster.fast, left, right), (raster.slow, bottom, top))
        region = {axis.name: (min(low, high), max(low, high)) for axis, low, high in sides if axis.known}
        changed = apply_region(self._loose(filling), region)
        if not changed:
            return
        for one in filling.fields:
            if one.name in changed:
                filling.values[one.name] = replace(one, value=changed[one.name]).text
        self._filled += 1
        self._send_form()

    def _loose(self, filling: FormFilling) -> dict[str, Any]:
        """Return the parameters that are valid so far."""
        params = {}
        for one in filling.fields:
            try:
                params |= read_params([one], filling.values, {})
            except ParamsRefused:
                continue
        return params

    def _send_form(self, *, faults: Mapping[str, str] | None = None, trouble: str = "") -> None:
        filling = self._filling
        if filling is None:
            return
        shown_faults = dict(faults or {})
        if not shown_faults and not self._busy:
            try:
                read_params(filling.fields, filling.values, filling.plan.schema)
            except ParamsRefused as refused:
                shown_faults = dict(refused.faults)
            if not SESSION.fullmatch(filling.session):
                shown_faults["instrument_session"] = (
                    "must be like aa12345-1" if filling.session else "is required, like aa12345-1"
                )
        words = estimate_text(estimate(self._loose(filling), filling.old))
        question = f"Start {filling.plan.name} for {filling.session}? {words}"
        source = f"Values are from {filling.known.source}." if filling.known.source else ""
        self.form.state = {
            "open": True,
            "key": f"{filling.plan.name} {filling.key}",
            "title": "Run again" if filling.of else "New scan",
            "plan": filling.plan.name,
            "plans": self._plans,
            "about": filling.plan.description,
            "session": filling.session,
            "fields": [_field_state(one) for one in filling.fields],
            "values": filling.values,
            "filled": self._filled,
            "faults": shown_faults,
            "refused": self._refused,
            "hint": f"{source} Draw a box on a map (Shift and drag) to fill in start, stop and center.".strip(),
            "estimate": words,
            "confirm": question if filling.params is not None else "",
            "busy": self._busy,
            "trouble": trouble,
        }

    def _start(self, filling: FormFilling) -> None:
        """Start the confirmed scan; the page follows the new run."""
        params = filling.params
        if params is None:
            return
        self._busy = True
        self._send_form()

        async def start() -> str:
            try:
                return await self.control.start(
                    filling.plan.name, params, instrument_session=filling.session, caller=self.caller,
                    key=filling.key, of=filling.of,
                )  # fmt: skip
            finally:
                await self.poller.poll(token=self.caller.token)

        def began(_: str) -> None:
            self._close_form()
            self.session = filling.session
            self.tab.choices.pinned = ""
            self._write()

        def refused(error: SnakemapError) -> None:
            self._busy, filling.params = False, None
            faults = error.faults if isinstance(error, ParamsRefused) else {}
            self._refused += 1
            self._send_form(faults=faults, trouble="" if faults else str(error))
            self._write()

        self.background.run("start", start, began, failed=refused)

    @staticmethod
    def _set(component: Any, **values: Any) -> None:
        changed = {name: value for name, value in values.items() if getattr(component, name) != value}
        if changed:
            component.param.update(**changed)


def _old_run(run: Run) -> OldRun:
    """Return what the estimate of a similar run needs."""
    elapsed = (run.ended or run.updated) - float(run.start["time"])
    period = elapsed / run.points if run.points > 1 and elapsed > 0 else None
    frames = next((resource.frames_per_point for resource in run.ledger.resources.values()), 1)
    return OldRun({}, run.expected, frames, period)


def _field_state(one: Field) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "required": one.required,
        "value": one.text,
        "choices": [str(choice) for choice in one.choices],
        "help": one.help,
    }


def _entry(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the audit log as it is shown."""
    plan, params, reason = one.get("plan"), one.get("params"), one.get("reason")
    values = ", ".join(f"{name} {value}" for name, value in params.items()) if isinstance(params, dict) else ""
    came = str(one.get("came") or "")
    return {
        "number": one.get("number", ""),
        "what": f"{one.get('what', '')} {plan or ''}".strip(),
        "time": one.get("time", 0),
        "who": f"{one.get('who', '')} at {one['address']}" if one.get("address") else str(one.get("who", "")),
        "detail": values or (f"reason: {reason}" if reason else ""),
        "came": came,
        "level": "refused" if came.startswith(("refused", "failed")) else "",
    }


def _quiet(_: SnakemapError) -> None:
    """Ignore a failed heartbeat; the next one follows."""
