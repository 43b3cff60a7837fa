"""Whether data can come through: what the API and the pages answer to those who watch over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from snakemap.errors import StoreUnavailable
from snakemap.store.redis_info import RedisCondition, condition
from snakemap.store.refusals import WRITES, words_of
from snakemap.store.store import Store

__all__ = ["NO_WORKER", "broker_of", "checks", "checks_of", "refuses_of", "wrong"]

TIMEOUT_S = 3.0
HELD_MAX_S = 10.0
"""Longest time in seconds that a message from the broker may take until it is stored and acknowledged."""

OK = "ok"
NO_WORKER = "No worker holds the lease: no documents are stored. Start `snakemap ingest`."
SOUND = RedisCondition()


async def checks(store: Store) -> dict[str, str]:
    """``"ok"``, or what is wrong, of Redis, the worker, and the worker's broker where it has one."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return checks_of(await store.reports(), await condition(store))
    except TimeoutError:
        return {"redis": f"Redis at {store.address} does not answer in time"}
    except StoreUnavailable as trouble:
        return {"redis": str(trouble)}


def checks_of(reports: Mapping[str, Mapping[str, Any]], told_by_redis: RedisCondition = SOUND) -> dict[str, str]:
    """Return the same, of what the parts have reported to a Redis that answers, and of what that says of itself.

    A Redis that evicts is ready, because data come through; doctor and the lights warn of it.

    >>> checks_of({"ingest": {"broker": "connected"}})
    {'redis': 'ok', 'worker': 'ok', 'broker': 'ok'}
    >>> checks_of({})
    {'redis': 'ok', 'worker': 'No worker holds the lease: no documents are stored. Start `snakemap ingest`.'}
    """
    worker = reports.get("ingest")
    if refuses := refuses_of(reports, told_by_redis).refuses:
        # a worker that cannot report to this Redis may be alive: nothing is claimed of it
        return {"redis": refuses, **({} if worker is None else _others(worker))}
    if worker is None:
        return {"redis": OK, "worker": NO_WORKER}
    return {"redis": OK, **_others(worker)}


def refuses_of(reports: Mapping[str, Mapping[str, Any]], told_by_redis: RedisCondition) -> RedisCondition:
    """Return the condition of Redis, with what was refused to the worker just now.

    Redis counts what it is being sent as memory: a document can be refused by one that seems to have room.

    >>> refuses_of({"ingest": {"refused": "OOM"}}, Condition()).refuses.partition(":")[0]
    'Redis is full'
    """
    word = str(reports.get("ingest", {}).get("refused") or "")
    if told_by_redis.word or word not in WRITES:
        return told_by_redis
    return RedisCondition(word, f"Redis {words_of(word)}", told_by_redis.evicts)


def _others(worker: Mapping[str, Any]) -> dict[str, str]:
    broker = broker_of(worker)
    return {"worker": OK} if broker == "none" else {"worker": OK, "broker": OK if broker == "connected" else broker}


def broker_of(worker: Mapping[str, Any]) -> str:
    """``"connected"``, ``"none"``, or what is wrong with the broker, of what the worker reports.

    >>> broker_of({"broker": "connected", "held": 812, "held_s": 42.3})
    '812 messages were delivered to the worker and are not stored; the oldest has waited 42 s'
    >>> broker_of({"broker": "connected", "held": 3, "held_s": 0.2})
    'connected'
    >>> broker_of({"broker": "connected", "orphans": 7, "subscription": "maps"}).partition(":")[0]
    '7 documents refer to others that never came'
    """
    state, held, held_s = str(worker.get("broker", "none")), worker.get("held"), worker.get("held_s")
    if state != "connected":
        return state
    if not isinstance(held, int) or not isinstance(held_s, int | float):
        return _missing(worker) or state
    if not held or held_s <= HELD_MAX_S:
        return _missing(worker) or state
    words = "message was" if held == 1 else "messages were"
    verb = "is" if held == 1 else "are"
    return f"{held:,} {words} delivered to the worker and {verb} not stored; the oldest has waited {held_s:.0f} s"


def _missing(worker: Mapping[str, Any]) -> str:
    """That documents are missing though the broker is connected, in words; empty when none are."""
    orphans = worker.get("orphans")
    if not isinstance(orphans, int) or not orphans:
        return ""
    refer = "1 document refers to one" if orphans == 1 else f"{orphans:,} documents refer to others"
    queue = str(worker.get("subscription") or "")
    return (
        f"{refer} that never came: another program may read the queue {queue}, or the broker lost them or had no such "
        "queue yet. Give each program a queue of its own (SNAKEMAP_STOMP_SUBSCRIPTION)."
    )


def wrong(told: Mapping[str, str]) -> str:
    """Return what is wrong of some checks, in one line; empty when nothing is.

    >>> wrong({"redis": "ok", "broker": "lost"})
    'broker: lost'
    """
    return "; ".join(f"{part}: {said}" for part, said in told.items() if said != OK)
