"""Scans of a simulated beamline that is asked over its REST interface."""

from __future__ import annotations

from typing import Any

import httpx
from tests.support.http_requests import get
from tests.support.patience import eventually

__all__ = ["begin", "end", "simulated"]


def begin(url: str, plan: str = "simulated_step_scan", **params: Any) -> str:
    """Begin a scan once the worker is idle; returns the id of its task.

    Args:
        url: of the beamline.
        plan: its name.
        params: of the plan, over those of a small scan as fast as possible.
    """
    until_idle(url)
    told = {"rows": 4, "columns": 5, "rate_hz": 0, "frame_shape": [32, 32], **params}
    body = {"name": plan, "params": told, "instrument_session": "cm12345-1"}
    task = httpx.post(f"{url}/api/v1/tasks", json=body, trust_env=False).json()
    httpx.put(f"{url}/api/v1/worker/task", json=task, trust_env=False).raise_for_status()
    return task["task_id"]


def end(url: str) -> None:
    """Abort what runs, if anything does, and wait until nothing does."""
    answer = httpx.put(f"{url}/api/v1/worker/state", json={"new_state": "ABORTING"}, trust_env=False)
    if answer.status_code != 400:  # there is nothing to abort
        answer.raise_for_status()
    until_idle(url)


def until_idle(url: str) -> None:
    """Wait until the worker is idle."""
    assert eventually(lambda: get(f"{url}/api/v1/worker/state").json() == "IDLE", timeout_s=30)


def simulated(url: str, plan: str = "simulated_step_scan", **params: Any) -> str:
    """Begin a scan, and wait for its end; as :func:`begin`."""
    task_id = begin(url, plan, **params)
    until_idle(url)
    return task_id
