"""Health of Redis, the worker and its broker, for the API and the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from snakemap.core.source_status import SourceState
from snakemap.errors import StoreUnavailable
from snakemap.store.redis_info import RedisCondition, read_condition
from snakemap.store.refusals import WRITES, message_of
from snakemap.store.store import Store

__all__ = ["NO_WORKER", "broker_of", "checks", "checks_of", "refuses_of", "wrong"]

TIMEOUT_S = 3.0
HELD_MAX_S = 10.0
"""Maximum seconds until a message from the broker is stored and acknowledged."""

OK = "ok"
NO_WORKER = "No worker holds the lease: no documents are stored. Start `snakemap ingest`."
SOUND = RedisCondition()


async def checks(store: Store) -> dict[str, str]:
    """Return ``"ok"`` or the problem, of Redis, the worker, and the worker's broker if it has one."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return checks_of(await store.reports(), await read_condition(store))
    except TimeoutError:
        return {"redis": f"Redis at {store.address} does not answer in time"}
    except StoreUnavailable as trouble:
        return {"redis": str(trouble)}


def checks_of(reports: Mapping[str, Mapping[str, Any]], redis: RedisCondition = SOUND) -> dict[str, str]:
    """Return the results of :func:`checks` from the reports of the processes and the condition of Redis.

    A Redis that evicts keys is ready, because data arrive; doctor and the health indicators warn of it.

    >>> checks_of({"ingest": {"broker": "connected"}})
    {'redis': 'ok', 'worker': 'ok', 'broker': 'ok'}
    >>> checks_of({})
    {'redis': 'ok', 'worker': 'No worker holds the lease: no documents are stored. Start `snakemap ingest`.'}
    """
    worker = reports.get("ingest")
    if refuses := refuses_of(reports, redis).refuses:
        # a worker that cannot report to this Redis may be running, so its absence is no error
        return {"redis": refuses, **({} if worker is None else _others(worker))}
    if worker is None:
        return {"redis": OK, "worker": NO_WORKER}
    return {"redis": OK, **_others(worker)}


def refuses_of(reports: Mapping[str, Mapping[str, Any]], redis: RedisCondition) -> RedisCondition:
    """Return the condition of Redis, with a recent refusal of the worker's writes.

    Redis counts a command as memory: a document may be refused although there seems to be enough memory.

    >>> refuses_of({"ingest": {"refused": "OOM"}}, RedisCondition()).refuses.partition(":")[0]
    'Redis is full'
    """
    word = str(reports.get("ingest", {}).get("refused") or "")
    if redis.word or word not in WRITES:
        return redis
    return RedisCondition(word, f"Redis {message_of(word)}", redis.evicts)


def _others(worker: Mapping[str, Any]) -> dict[str, str]:
    broker = broker_of(worker)
    if broker == SourceState.NONE:
        return {"worker": OK}
    return {"worker": OK, "broker": OK if broker == SourceState.CONNECTED else broker}


def broker_of(worker: Mapping[str, Any]) -> str:
    """Return ``"connected"``, ``"none"``, or the problem of the broker, from the report of the worker.

    >>> broker_of({"broker": "connected", "held": 812, "held_s": 42.3})
    '812 messages were delivered to the worker and are not stored; the oldest has waited 42 s'
    >>> broker_of({"broker": "connected", "held": 3, "held_s": 0.2})
    'connected'
    >>> broker_of({"broker": "connected", "orphans": 7, "subscription": "maps"}).partition(":")[0]
    '7 documents refer to others that never came'
    """
    state, held, held_s = str(worker.get("broker", SourceState.NONE)), worker.get("held"), worker.get("held_s")
    if SourceState.of(state) is not SourceState.CONNECTED:
        return state
    if not isinstance(held, int) or not isinstance(held_s, int | float):
        return _missing(worker) or state
    if not held or held_s <= HELD_MAX_S:
        return _missing(worker) or state
    words = "message was" if held == 1 else "messages were"
    verb = "is" if held == 1 else "are"
    return f"{held:,} {words} delivered to the worker and {verb} not stored; the oldest has waited {held_s:.0f} s"


def _missing(worker: Mapping[str, Any]) -> str:
    """Return a text about missing documents; empty when none are missing."""
    orphans = worker.get("orphans")
    if not isinstance(orphans, int) or not orphans:
        return ""
    refer = "1 document refers to one" if orphans == 1 else f"{orphans:,} documents refer to others"
    queue = str(worker.get("subscription") or "")
    return (
        f"{refer} that never came: another program may read the queue {queue}, or the broker lost them or had no such "
        "queue yet. Give each program a queue of its own (SNAKEMAP_STOMP_SUBSCRIPTION)."
    )


def wrong(results: Mapping[str, str]) -> str:
    """Return the failed checks in one line; empty when all are ok.

    >>> wrong({"redis": "ok", "broker": "lost"})
    'broker: lost'
    """
    return "; ".join(f"{part}: {text}" for part, text in results.items() if text != OK)
