"""Whether data can come through: what the API and the pages answer to those who watch over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from snakemap.errors import StoreUnavailable

__all__ = ["broker_of", "checks", "checks_of", "wrong"]

TIMEOUT_S = 3.0
HELD_MAX_S = 10.0
"""Longest time in seconds that a message from the broker may take until it is stored and acknowledged."""

OK = "ok"


class Store(Protocol):
    """What is needed of :class:`snakemap.store.Store`."""

    address: str

    async def reports(self) -> dict[str, dict[str, Any]]: ...


async def checks(store: Store) -> dict[str, str]:
    """``"ok"``, or what is wrong, of Redis, the worker, and the worker's broker where it has one."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return checks_of(await store.reports())
    except TimeoutError:
        return {"redis": f"Redis at {store.address} does not answer in time"}
    except StoreUnavailable as trouble:
        return {"redis": str(trouble)}


def checks_of(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The same, of what the parts have reported to a Redis that answers.

    >>> checks_of({"ingest": {"broker": "connected"}})
    {'redis': 'ok', 'worker': 'ok', 'broker': 'ok'}
    >>> checks_of({})
    {'redis': 'ok', 'worker': 'no word from it; `snakemap ingest` does not run on this store'}
    """
    worker = reports.get("ingest")
    if worker is None:
        return {"redis": OK, "worker": "no word from it; `snakemap ingest` does not run on this store"}
    told = {"redis": OK, "worker": OK}
    broker = broker_of(worker)
    return told if broker == "none" else {**told, "broker": OK if broker == "connected" else broker}


def broker_of(worker: Mapping[str, Any]) -> str:
    """``"connected"``, ``"none"``, or what is wrong with the broker, of what the worker reports.

    >>> broker_of({"broker": "connected", "held": 812, "held_s": 42.3})
    '812 messages were delivered to the worker and are not stored; the oldest waits for 42 s'
    >>> broker_of({"broker": "connected", "held": 3, "held_s": 0.2})
    'connected'
    """
    state, held, held_s = str(worker.get("broker", "none")), worker.get("held"), worker.get("held_s")
    if state != "connected" or not isinstance(held, int) or not isinstance(held_s, int | float):
        return state
    if not held or held_s <= HELD_MAX_S:
        return state
    words = "message was" if held == 1 else "messages were"
    verb = "is" if held == 1 else "are"
    return f"{held:,} {words} delivered to the worker and {verb} not stored; the oldest waits for {held_s:.0f} s"


def wrong(told: Mapping[str, str]) -> str:
    """What is wrong of some checks, in one line; empty when nothing is.

    >>> wrong({"redis": "ok", "broker": "lost"})
    'broker: lost'
    """
    return "; ".join(f"{part}: {said}" for part, said in told.items() if said != OK)
