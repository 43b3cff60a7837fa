"""Checks of Redis, of what it keeps for how long, and of the worker that reports there."""

from __future__ import annotations

import time
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from snakemap import __version__
from snakemap.doctor.finding import CheckContext, Found, InStore, Note, Wrong
from snakemap.errors import SnakemapError
from snakemap.store.readiness import broker_of

__all__ = ["keep_days", "redis", "room", "silence", "worker"]

REDIS_MIN = Version("6.2")
ENTRY_BYTES = 600.0
"""What an entry of the stream takes, about, as long as there are too few to tell."""

ENTRIES_TO_TELL = 1000
FULL = 0.9
HALF = 0.5
DAYS_MANY = 365.0
AWAY = "cannot be told while Redis is away"


def redis(scene: CheckContext) -> Iterator[Found]:
    """Yield whether Redis answers, is new enough, keeps what it has, and lets nothing go by itself."""
    asked = scene.asked
    if isinstance(asked, SnakemapError):
        yield Wrong(f"{asked}; start it, or set it to where it runs")
        return
    told = asked.vitals
    wrong = [*_old(told.version), *_evicts(asked)]
    if told.condition.refuses:
        wrong.append(Wrong(told.condition.refuses))
    if told.appends is False and not asked.whose:
        text = "`appendonly yes` in its configuration keeps them"
        what = "all documents are lost" if not told.saves else "the documents since its last snapshot are lost"
        wrong.append(Note(f"it does not append to a file: when it is killed {what}; {text}"))
    yield from wrong or [f"{asked.address} answers{asked.whose}{f', version {told.version}' if told.version else ''}"]


def _old(version: str | None) -> Iterator[Found]:
    try:
        old = version is not None and Version(version) < REDIS_MIN
    except InvalidVersion:
        return
    if old:
        yield Wrong(f"it is version {version}; install Redis {REDIS_MIN} or later, or Valkey")


def _evicts(asked: InStore) -> Iterator[Found]:
    """Yield whether Redis forgets what it likes when its memory is full."""
    policy, most = asked.vitals.policy, asked.vitals.memory_max_bytes
    if not most or policy in (None, "noeviction"):
        return
    what = "documents of runs that are being taken" if policy.startswith("allkeys") else "leases, reports and frames"
    yield Wrong(
        f"its policy is {policy}: when its memory is full it forgets {what}; set `maxmemory-policy noeviction`, "
        "snakemap itself lets the oldest runs go"
    )


def room(scene: CheckContext) -> Iterator[Found]:
    """Yield whether as many documents as may be kept fit into the memory of Redis."""
    asked, most = scene.store, scene.settings.documents_max
    if asked is None:
        yield Note(AWAY)
        return
    told = asked.vitals
    size = ENTRY_BYTES
    if told.entries is not None and told.stream_bytes is not None and told.entries >= ENTRIES_TO_TELL:
        size = told.stream_bytes / told.entries
    needed = most * size
    text = f"{most:,} documents take about {needed / 1e6:,.0f} MB"
    if told.memory_max_bytes and needed > FULL * told.memory_max_bytes:
        fitting = int(FULL * told.memory_max_bytes / size)
        yield Wrong(
            f"{text}, and Redis may use {told.memory_max_bytes / 1e6:,.0f} MB, then it refuses documents; raise its "
            f"maxmemory, or set SNAKEMAP_DOCUMENTS_MAX to {fitting:,} or less".replace(f"{fitting:,}", str(fitting))
        )
    elif told.host_memory_bytes and needed > HALF * told.host_memory_bytes:
        share = f"more than half of the {told.host_memory_bytes / 1e6:,.0f} MB of its machine"
        yield Note(
            f"{text}, {share}; set SNAKEMAP_DOCUMENTS_MAX to {int(HALF * told.host_memory_bytes / size)} or less"
        )
    else:
        yield f"{text}; {told.entries or 0:,} are there"


def keep_days(scene: CheckContext) -> Iterator[Found]:
    """Yield whether runs stay as long as they are to stay."""
    days, most, asked = scene.settings.keep_days, scene.settings.documents_max, scene.store
    if asked is not None and asked.oldest is not None and (asked.vitals.entries or 0) > FULL * most:
        there = (time.time() - asked.oldest) / 86_400
        if there < FULL * days:
            yield Note(
                f"runs go after {there:.1f} days already, because the store is full; raise SNAKEMAP_DOCUMENTS_MAX, or "
                f"set it to {max(there, 0.1):.1f}"
            )
            return
    if days > DAYS_MANY:
        yield Note(f"runs stay for {days:,.0f} days; a year is the most that was tried, set it to 365 or less")
        return
    yield f"runs stay for {days:g} days"


def silence(scene: CheckContext) -> Iterator[Found]:
    """Yield whether a run is not given up while one of its frames is still waited for."""
    silence_s, timeout_s = scene.settings.silence_s, scene.settings.file_timeout_s
    if silence_s <= timeout_s:
        yield Wrong(
            f"a run is lost after {silence_s:g} s, while a frame of it may be waited for {timeout_s:g} s; set it "
            "to more than SNAKEMAP_FILE_TIMEOUT_S"
        )
        return
    yield f"a run counts as lost after {silence_s:g} s without any word"


def worker(scene: CheckContext) -> Iterator[Found]:
    """Yield whether a worker reports, is of our version, and has its broker."""
    asked = scene.store
    if asked is None:
        yield Note(AWAY)
        return
    told = asked.reports.get("ingest")
    if told is None and asked.vitals.condition.refuses:
        yield Note("it cannot report while Redis stores nothing; see what is said of Redis here")
        return
    if told is None:
        yield Note(
            "No worker holds the lease: no documents are stored. Start `snakemap ingest` with the same settings."
        )
        return
    broker, version = broker_of(told), told.get("version")
    where = f"at work on {told.get('host')}, process {told.get('pid')}; its broker: {broker}"
    yield where if broker in ("connected", "none") else Wrong(f"{where}; see what is said of the broker here")
    if version not in (None, __version__):
        yield Note(f"it is version {version} and this is {__version__}; start it anew")
