"""Checks of Redis, of its capacity and retention, and of the worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from snakemap import __version__
from snakemap.core.source_status import SourceState
from snakemap.doctor.finding import CheckContext, Found, Note, StoreState, Wrong
from snakemap.errors import SnakemapError
from snakemap.store.readiness import broker_of

__all__ = ["capacity", "keep_days", "redis", "silence", "worker"]

REDIS_MIN = Version("6.2")
ENTRY_BYTES = 600.0
"""Approximate size of a stream entry, while there are too few to measure."""

ENTRIES_MEASURED = 1000
FULL = 0.9
HALF = 0.5
DAYS_MANY = 365.0
AWAY = "unknown while Redis cannot be reached"


def redis(context: CheckContext) -> Iterator[Found]:
    """Yield whether Redis answers, is new enough, persists its data, and does not evict keys."""
    asked = context.store_or_error
    if isinstance(asked, SnakemapError):
        yield Wrong(f"{asked}; start it, or set it to where it runs")
        return
    status = asked.redis
    wrong = [*_old(status.version), *_evicts(asked)]
    if status.condition.refuses:
        wrong.append(Wrong(status.condition.refuses))
    if status.appends is False and not asked.whose:
        text = "`appendonly yes` in its configuration keeps them"
        what = "all documents are lost" if not status.saves else "the documents since its last snapshot are lost"
        wrong.append(Note(f"it does not append to a file: when it is killed {what}; {text}"))
    version = f", version {status.version}" if status.version else ""
    yield from wrong or [f"{asked.address} answers{asked.whose}{version}"]


def _old(version: str | None) -> Iterator[Found]:
    try:
        old = version is not None and Version(version) < REDIS_MIN
    except InvalidVersion:
        return
    if old:
        yield Wrong(f"it is version {version}; install Redis {REDIS_MIN} or later, or Valkey")


def _evicts(asked: StoreState) -> Iterator[Found]:
    """Yield a finding if Redis evicts keys when its memory is full."""
    policy, most = asked.redis.policy, asked.redis.memory_max_bytes
    if not most or policy in (None, "noeviction"):
        return
    what = "documents of current runs" if policy.startswith("allkeys") else "leases, reports and frames"
    yield Wrong(
        f"its policy is {policy}: when its memory is full it evicts {what}; set `maxmemory-policy noeviction`, "
        "snakemap itself removes the oldest runs"
    )


def capacity(context: CheckContext) -> Iterator[Found]:
    """Yield whether the maximum of documents fits into the memory of Redis."""
    asked, most = context.store, context.settings.documents_max
    if asked is None:
        yield Note(AWAY)
        return
    status = asked.redis
    size = ENTRY_BYTES
    if status.entries is not None and status.stream_bytes is not None and status.entries >= ENTRIES_MEASURED:
        size = status.stream_bytes / status.entries
    needed = most * size
    text = f"{most:,} documents take about {needed / 1e6:,.0f} MB"
    if status.memory_max_bytes and needed > FULL * status.memory_max_bytes:
        fitting = int(FULL * status.memory_max_bytes / size)
        yield Wrong(
            f"{text}, but Redis may use {status.memory_max_bytes / 1e6:,.0f} MB, then it refuses documents; raise its "
            f"maxmemory, or set SNAKEMAP_DOCUMENTS_MAX to {fitting} or less"
        )
    elif status.host_memory_bytes and needed > HALF * status.host_memory_bytes:
        share = f"more than half of the {status.host_memory_bytes / 1e6:,.0f} MB of its machine"
        yield Note(
            f"{text}, {share}; set SNAKEMAP_DOCUMENTS_MAX to {int(HALF * status.host_memory_bytes / size)} or less"
        )
    else:
        yield f"{text}; {status.entries or 0:,} are there"


def keep_days(context: CheckContext) -> Iterator[Found]:
    """Yield whether runs are kept as long as configured."""
    days, most, asked = context.settings.keep_days, context.settings.documents_max, context.store
    if asked is not None and asked.oldest is not None and (asked.redis.entries or 0) > FULL * most:
        there = (time.time() - asked.oldest) / 86_400
        if there < FULL * days:
            yield Note(
                f"runs are removed after {there:.1f} days already, because the store is full; raise "
                f"SNAKEMAP_DOCUMENTS_MAX, or set it to {max(there, 0.1):.1f}"
            )
            return
    if days > DAYS_MANY:
        yield Note(f"runs are kept for {days:,.0f} days; a year is the longest tested time, set it to 365 or less")
        return
    yield f"runs are kept for {days:g} days"


def silence(context: CheckContext) -> Iterator[Found]:
    """Yield whether a run counts as lost later than the time limit for its frames."""
    silence_s, timeout_s = context.settings.silence_s, context.settings.file_timeout_s
    if silence_s <= timeout_s:
        yield Wrong(
            f"a run is lost after {silence_s:g} s, but the worker waits up to {timeout_s:g} s for a frame; set it "
            "to more than SNAKEMAP_FILE_TIMEOUT_S"
        )
        return
    yield f"a run counts as lost after {silence_s:g} s without a document"


def worker(context: CheckContext) -> Iterator[Found]:
    """Yield whether a worker reports, has this version, and has its broker."""
    asked = context.store
    if asked is None:
        yield Note(AWAY)
        return
    report = asked.reports.get("ingest")
    if report is None and asked.redis.condition.refuses:
        yield Note("it cannot report while Redis refuses writes; see the finding about Redis")
        return
    if report is None:
        yield Note(
            "No worker holds the lease: no documents are stored. Start `snakemap ingest` with the same settings."
        )
        return
    broker, version = broker_of(report), report.get("version")
    where = f"running on {report.get('host')}, process {report.get('pid')}; its broker: {broker}"
    yield (
        where
        if broker in (SourceState.CONNECTED, SourceState.NONE)
        else Wrong(f"{where}; see the finding about the broker")
    )
    if version not in (None, __version__):
        yield Note(f"it is version {version} and this is {__version__}; restart it")
