"""Client of blueapi's REST API: plans, tasks, and the state of the worker (API 1.5, blueapi 1.21).

Every call raises within a time limit: BlueapiUnavailable without an answer, BlueapiForbids without a valid token,
ParamsRefused, PlanNotFound, WorkerBusy and TransitionRefused as blueapi reports them, BlueapiFailed for all other
answers. The token is sent to blueapi only, never after a redirect, and is part of no message.
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
    """A task as blueapi reports it.

    Attributes:
        task_id: like ``"d4d2336f-..."``.
        name: of its plan.
        params: of its plan.
        instrument_session: like ``"cm12345-1"``; empty when unknown.
        complete: whether it has ended.
        errors: messages, oldest first.
        kind: class of the exception that ended it, like ``"TimeoutError"``; empty when unknown.
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
        token: bearer token for calls without one of their own.
        transport: for tests.

    Raises:
        SettingsError: when the URL is invalid.
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
        """Close the connections."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.aclose()

    async def state(self, *, token: str = "") -> str:
        """Return the state of the worker, like ``"IDLE"``."""
        state = await self._ask("GET", "/worker/state", token=token)
        if not isinstance(state, str) or state not in STATES:
            raise BlueapiFailed(f"blueapi at {self.address} reports an unknown state: {str(state)[:60]!r}")
        return state

    async def active_task(self, *, token: str = "") -> str:
        """Return the id of the worker's current or last task; empty when it had none."""
        answer = await self._ask("GET", "/worker/task", token=token)
        return str((answer or {}).get("task_id") or "") if isinstance(answer, dict) else ""

    async def task(self, task_id: str, *, token: str = "") -> Task:
        """Return a task; blueapi forgets all tasks when it restarts."""
        answer = await self._ask("GET", f"/tasks/{quote(task_id, safe='')}", token=token)
        try:
            task = answer["task"]
            metadata = task.get("metadata") or {}
            return Task(
                task_id=str(answer.get("task_id") or task_id),
                name=str(task["name"]),
                params=dict(task.get("params") or {}),
                instrument_session=str(metadata.get("instrument_session") or ""),
                complete=bool(answer.get("is_complete")),
                errors=tuple(str(error) for error in answer.get("errors") or ()),
                kind=str((answer.get("outcome") or {}).get("type") or "") if answer.get("errors") else "",
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._unreadable("a task") from error

    async def plan(self, name: str, *, token: str = "") -> Plan:
        """Return one plan."""
        try:
            return self._plan(await self._ask("GET", f"/plans/{quote(name, safe='')}", token=token))
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no plan {name[:100]!r} (any more)") from None

    async def plans(self, *, token: str = "") -> list[Plan]:
        """Return all plans, by name."""
        answer = await self._ask("GET", "/plans", token=token)
        try:
            return sorted((self._plan(one) for one in answer["plans"]), key=lambda plan: plan.name)
        except (KeyError, TypeError) as error:
            raise self._unreadable("plans") from error

    async def submit(self, name: str, params: dict[str, Any], *, instrument_session: str, token: str = "") -> str:
        """Submit a task without beginning it; return its id.

        A server older than blueapi 0.19 has no instrument sessions; the request is repeated without.
        """
        body = {"name": name, "params": params, "instrument_session": instrument_session}
        try:
            answer = await self._ask("POST", "/tasks", body, token=token)
        except ParamsRefused as refused:
            if UNKNOWN_FIELD not in refused.faults.get("instrument_session", ""):
                raise
            answer = await self._ask("POST", "/tasks", {"name": name, "params": params}, token=token)
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no plan {name[:100]!r} (any more)") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("task_id"), str):
            raise self._unreadable("a task's id")
        return answer["task_id"]

    async def begin(self, task_id: str, *, token: str = "") -> None:
        """Begin a submitted task."""
        try:
            await self._ask("PUT", "/worker/task", {"task_id": task_id}, token=token)
        except PlanNotFound:
            raise PlanNotFound(f"blueapi has no task {task_id[:60]}, or the task is done") from None

    async def drop(self, task_id: str, *, token: str = "") -> None:
        """Delete a task that was not begun."""
        await self._ask("DELETE", f"/tasks/{quote(task_id, safe='')}", token=token)

    async def change(self, new_state: str, *, reason: str = "", token: str = "") -> str:
        """Request another state of the worker; return the state it is in then."""
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
            answer = orjson.loads(text) if text else None
        except orjson.JSONDecodeError:
            answer = None
            if status < 300:
                raise self._unreadable("something") from None
        if 200 <= status < 300:
            return answer
        raise self._refusal(status, answer.get("detail") if isinstance(answer, dict) else None, given=given)

    def _refusal(self, status: int, detail: Any, *, given: bool) -> SnakemapError:
        words = str(detail)[:500] if isinstance(detail, str) else ""
        if status in (401, 403):
            text = "requires a valid token" if status == 401 else "does not allow this"
            hint = "; reload the page to renew its token" if given and status == 401 else ""
            return BlueapiForbids(f"blueapi at {self.address} {text}{f': {words}' if words else ''}{hint}")
        if status == 422:
            return ParamsRefused(_faults(detail))
        if status == 404:
            return PlanNotFound(f"not found in blueapi: {words or 'not found'}")
        if status == 409:
            return WorkerBusy(f"blueapi's worker is busy: {words or 'it has another task'}")
        if status == 400:
            return TransitionRefused(f"blueapi refuses: {words or 'bad request'}")
        return BlueapiFailed(f"blueapi at {self.address} answered with {status}{f': {words}' if words else ''}")

    def _plan(self, answer: Any) -> Plan:
        try:
            return Plan(str(answer["name"]), str(answer.get("description") or ""), dict(answer["schema"] or {}))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._unreadable("a plan") from error

    def _unreadable(self, what: str) -> BlueapiFailed:
        return BlueapiFailed(f"blueapi at {self.address} answered with {what} that cannot be read")

    def _client(self) -> httpx.AsyncClient:
        if self._kept is None or self._kept.is_closed:
            self._kept = httpx.AsyncClient(trust_env=False, follow_redirects=False, transport=self._transport)
        return self._kept


def _faults(detail: Any) -> dict[str, str]:
    """Return the errors of a 422 response, by parameter.

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
