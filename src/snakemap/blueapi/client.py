"""blueapi's REST interface, as far as we use it: plans, tasks, and the state of its worker (API 1.5, blueapi 1.21).

Every call raises, promptly and in words: BlueapiUnavailable when nobody answers, BlueapiForbids without a good token,
ParamsRefused, PlanNotFound, WorkerBusy and TransitionRefused when blueapi says so, BlueapiFailed for all other answers.
A token is sent to blueapi alone, is never followed to another address, and stands in no message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from snakemap.errors import (
    BlueapiFailed,
    BlueapiForbids,
    BlueapiUnavailable,
    ParamsRefused,
    PlanNotFound,
    SettingsError,
    SnakemapError,
    TransitionRefused,
    WorkerBusy,
)

__all__ = ["STATES", "BlueapiClient", "Plan", "Task"]

STATES = frozenset(
    ("IDLE", "RUNNING", "PAUSING", "PAUSED", "HALTING", "STOPPING", "ABORTING", "SUSPENDING", "PANICKED", "UNKNOWN")
)
ANSWER_BYTES_MAX = 20_000_000
LOOK_TIMEOUT_S = 2.5
ACT_TIMEOUT_S = 15.0
UNKNOWN_FIELD = "extra_forbidden"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that blueapi offers.

    Attributes:
        name: like ``"grid_scan"``.
        description: its docstring.
        schema: JSON schema of its parameters.
    """

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A task as blueapi tells of it.

    Attributes:
        task_id: like ``"d4d2336f-..."``.
        name: of its plan.
        params: of its plan.
        instrument_session: like ``"cm12345-1"``; empty when it tells none.
        complete: whether it has ended.
        errors: messages, oldest first.
        kind: class of the exception that ended it, like ``"TimeoutError"``; empty when it tells none.
    """

    task_id: str
    name: str
    params: dict[str, Any]
    instrument_session: str = ""
    complete: bool = False
    errors: tuple[str, ...] = ()
    kind: str = ""


class BlueapiClient:
    """A blueapi server.

    Args:
        url: ``http://host:8000``; a path before ``/api/v1`` is kept, as behind a proxy.
        token: bearer token for those calls that bring none of their own.
        transport: for tests.

    Raises:
        SettingsError: the URL is none.
    """

    def __init__(self, url: str, *, token: str = "", transport: httpx.AsyncBaseTransport | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("SNAKEMAP_BLUEAPI_URL is not http://host:8000")
        self.address = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        self._url = url.rstrip("/")
        self._token = token
        self._transport = transport
        self._kept: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Let the connections go."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.aclose()

    async def state(self, *, token: str = "") -> str:
        """Return what the worker does, like ``"IDLE"``."""
        state = await self._ask("GET", "/worker/state", token=token)
        if not isinstance(state, str) or state not in STATES:
            raise BlueapiFailed(f"blueapi at {self.address} reports an unknown state: {str(state)[:60]!r}")
        return state

    async def active_task(self, *, token: str = "") -> str:
        """Return the id of the task that the worker has, or had last; empty when it had none."""
        told = await self._ask("GET", "/worker/task", token=token)
        return str((told or {}).get("task_id") or "") if isinstance(told, dict) else ""

    async def task(self, task_id: str, *, token: str = "") -> Task:
        """Return a task that blueapi still knows; it forgets all of them when it is started anew."""
        told = await self._ask("GET", f"/tasks/{quote(task_id, safe='')}", token=token)
        try:
            task = told["task"]
            metadata = task.get("metadata") or {}
            return Task(
                task_id=str(told.get("task_id") or task_id),
                name=str(task["name"]),
                params=dict(task.get("params") or {}),
                instrument_session=str(metadata.get("instrument_session") or ""),
                complete=bool(told.get("is_complete")),
                errors=tuple(str(error) for error in told.get("errors") or ()),
                kind=str((told.get("outcome") or {}).get("type") or "") if told.get("errors") else "",
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._nonsense("a task") from error

    async def plan(self, name: str, *, token: str = "") -> Plan:
        """Return one plan."""
        try:
            return self._plan(await self._ask("GET", f"/plans/{quote(name, safe='')}", token=token))
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no plan {name[:100]!r} (any more)") from None

    async def plans(self, *, token: str = "") -> list[Plan]:
        """Return all plans, by name."""
        told = await self._ask("GET", "/plans", token=token)
        try:
            return sorted((self._plan(one) for one in told["plans"]), key=lambda plan: plan.name)
        except (KeyError, TypeError) as error:
            raise self._nonsense("plans") from error

    async def submit(self, name: str, params: dict[str, Any], *, instrument_session: str, token: str = "") -> str:
        """Have blueapi take a task, which it does not begin yet; returns its id.

        A server from before blueapi 0.19 knows no instrument session, and is asked once more without.
        """
        body = {"name": name, "params": params, "instrument_session": instrument_session}
        try:
            told = await self._ask("POST", "/tasks", body, token=token)
        except ParamsRefused as refused:
            if UNKNOWN_FIELD not in refused.faults.get("instrument_session", ""):
                raise
            told = await self._ask("POST", "/tasks", {"name": name, "params": params}, token=token)
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no plan {name[:100]!r} (any more)") from None
        if not isinstance(told, dict) or not isinstance(told.get("task_id"), str):
            raise self._nonsense("a task's id")
        return told["task_id"]

    async def begin(self, task_id: str, *, token: str = "") -> None:
        """Have the worker begin a task."""
        try:
            await self._ask("PUT", "/worker/task", {"task_id": task_id}, token=token)
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no task {task_id[:60]}, or the task is done") from None

    async def drop(self, task_id: str, *, token: str = "") -> None:
        """Have blueapi forget a task that was not begun."""
        await self._ask("DELETE", f"/tasks/{quote(task_id, safe='')}", token=token)

    async def change(self, new_state: str, *, reason: str = "", token: str = "") -> str:
        """Ask for another state of the worker; returns the one that it is in then."""
        body: dict[str, Any] = {"new_state": new_state}
        if new_state == "PAUSED":
            body["defer"] = False
        elif reason:
            body["reason"] = reason
        return str(await self._ask("PUT", "/worker/state", body, token=token))

    async def _ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        timeout_s = LOOK_TIMEOUT_S if method == "GET" else ACT_TIMEOUT_S
        headers = {"authorization": f"Bearer {token or self._token}"} if token or self._token else {}
        content = None if body is None else orjson.dumps(body)
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            client = self._client()
            async with client.stream(
                method, f"{self._url}/api/v1{path}", content=content, headers=headers, timeout=timeout_s
            ) as answer:
                text = b""
                async for part in answer.aiter_bytes():
                    text += part
                    if len(text) > ANSWER_BYTES_MAX:
                        raise BlueapiFailed(
                            f"blueapi at {self.address} answers with more than {ANSWER_BYTES_MAX:,} bytes"
                        )
        except httpx.TimeoutException as error:
            raise BlueapiUnavailable(f"blueapi at {self.address} does not answer in time") from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise BlueapiUnavailable(f"blueapi at {self.address} cannot be reached") from error
        return self._read(answer.status_code, text, given=bool(token))

    def _read(self, status: int, text: bytes, *, given: bool) -> Any:
        try:
            told = orjson.loads(text) if text else None
        except orjson.JSONDecodeError:
            told = None
            if status < 300:
                raise self._nonsense("something") from None
        if 200 <= status < 300:
            return told
        raise self._refusal(status, told.get("detail") if isinstance(told, dict) else None, given=given)

    def _refusal(self, status: int, detail: Any, *, given: bool) -> SnakemapError:
        words = str(detail)[:500] if isinstance(detail, str) else ""
        if status in (401, 403):
            said = "requires a valid token" if status == 401 else "does not allow this"
            aged = "; reload the page to renew its token" if given and status == 401 else ""
            return BlueapiForbids(f"blueapi at {self.address} {said}{f': {words}' if words else ''}{aged}")
        if status == 422:
            return ParamsRefused(_faults(detail))
        if status == 404:
            return PlanNotFound(f"not found in blueapi: {words or 'not found'}")
        if status == 409:
            return WorkerBusy(f"blueapi's worker is busy: {words or 'it has another task'}")
        if status == 400:
            return TransitionRefused(f"blueapi refuses: {words or 'bad request'}")
        return BlueapiFailed(f"blueapi at {self.address} answered with {status}{f': {words}' if words else ''}")

    def _plan(self, told: Any) -> Plan:
        try:
            return Plan(str(told["name"]), str(told.get("description") or ""), dict(told["schema"] or {}))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._nonsense("a plan") from error

    def _nonsense(self, what: str) -> BlueapiFailed:
        return BlueapiFailed(f"blueapi at {self.address} answered with {what} that cannot be read")

    def _client(self) -> httpx.AsyncClient:
        if self._kept is None or self._kept.is_closed:
            self._kept = httpx.AsyncClient(trust_env=False, follow_redirects=False, transport=self._transport)
        return self._kept


def _faults(detail: Any) -> dict[str, str]:
    """Return what a 422 says, by parameter.

    >>> _faults([{"loc": ["body", "params", "x"], "msg": "Device nix cannot be found", "type": "value_error"}])
    {'x': 'Device nix cannot be found'}
    """
    if not isinstance(detail, list):
        return {"": str(detail)[:500] if detail else "blueapi refuses the parameters"}
    faults: dict[str, str] = {}
    for one in detail[:100]:
        if not isinstance(one, dict):
            continue
        place = [str(part) for part in one.get("loc") or ()]
        place = place[place.index("params") + 1 :] if "params" in place else place[1:]
        words = str(one.get("msg") or "cannot be used").removeprefix("Value error, ")
        if one.get("type") == UNKNOWN_FIELD:
            words = f"{words} ({UNKNOWN_FIELD})"
        deeper = f"{'.'.join(place[1:])}: " if len(place) > 1 else ""
        faults.setdefault(place[0] if place else "", f"{deeper}{words}"[:500])
    return faults or {"": "blueapi refuses the parameters"}
