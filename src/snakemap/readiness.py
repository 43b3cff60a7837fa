"""Whether data can come through: what the API and the pages answer to those who watch over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from snakemap.errors import StoreUnavailable

__all__ = ["checks", "checks_of", "wrong"]

TIMEOUT_S = 3.0

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
    broker = str(worker.get("broker", "none"))
    return told if broker == "none" else {**told, "broker": OK if broker == "connected" else broker}


def wrong(told: Mapping[str, str]) -> str:
    """What is wrong of some checks, in one line; empty when nothing is.

    >>> wrong({"redis": "ok", "broker": "lost"})
    'broker: lost'
    """
    return "; ".join(f"{part}: {said}" for part, said in told.items() if said != OK)
