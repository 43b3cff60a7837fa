"""Errors of Redis, and a plain sentence for each error code."""

from __future__ import annotations

import re
from collections.abc import Mapping

from redis import exceptions

__all__ = ["LIGHTS", "WRITES", "error_code_of", "message_of"]

NOTHING_NEW = "nothing new can be stored, and what is stored can be read"
KEEP_FEWER = "raise its maxmemory, or keep fewer runs (SNAKEMAP_DOCUMENTS_MAX, SNAKEMAP_KEEP_DAYS)"

WRITES: Mapping[str, str] = {
    "OOM": f"is full{{limit}}: new documents wait in the broker; {KEEP_FEWER}",
    "READONLY": f"is a read-only replica: {NOTHING_NEW}; point SNAKEMAP_REDIS_URL at the primary",
    "MISCONF": (
        f"cannot save to its disk and refuses writes (MISCONF): {NOTHING_NEW}; "
        "its log says why, often the disk is full or its directory is not writable"
    ),
    "NOREPLICAS": (
        f"has fewer replicas than its min-replicas-to-write and refuses writes: {NOTHING_NEW}; "
        "start the replicas, or lower that number"
    ),
}
"""Messages for errors of writes; ``{limit}`` is the memory limit, if known."""

LIGHTS: Mapping[str, str] = {
    "OOM": "Redis full",
    "READONLY": "Redis read-only",
    "MISCONF": "Redis cannot save",
    "NOREPLICAS": "Redis lacks replicas",
}
"""Short names for the health indicator."""

CALLS: Mapping[str, str] = {
    "NOPERM": "does not permit this user{command}; permit all commands on the keys snakemap:* (ACL SETUSER)",
    "MASTERDOWN": "is a replica that has lost its primary and answers nothing; point SNAKEMAP_REDIS_URL at the primary",
    "UNBLOCKED": "has become a replica; point SNAKEMAP_REDIS_URL at the primary",
    "BUSY": "is busy with a script of another program; end that script (SCRIPT KILL)",
    "CLUSTER": "is part of a Redis Cluster, which snakemap cannot use; point SNAKEMAP_REDIS_URL at a single Redis",
}
"""Messages for errors of any command."""

TYPES: Mapping[type[exceptions.RedisError], str] = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "CLUSTER",
    exceptions.AskError: "CLUSTER",
    exceptions.ClusterDownError: "CLUSTER",
    exceptions.ClusterCrossSlotError: "CLUSTER",
}
WORD = re.compile(
    r"""(?:^|: -|caused error: \(["'])(OOM|READONLY|MISCONF|NOREPLICAS|NOPERM|MASTERDOWN|UNBLOCKED|BUSY)\s"""
)
"""Error code at the beginning of an answer, of a script's answer (Redis 6.2), or of a transaction's answer."""

COMMAND = re.compile(r"the '([a-z|]{1,40})' command")


def error_code_of(error: exceptions.RedisError) -> str:
    """Return the code of an error from Redis; empty for an unknown one.

    >>> error_code_of(exceptions.OutOfMemoryError("command not allowed"))
    'OOM'
    >>> error_code_of(exceptions.ResponseError("MISCONF Redis"))
    'MISCONF'
    >>> error_code_of(exceptions.ResponseError("Error running script (call to f_1): @user_script:5: -OOM command not"))
    'OOM'
    >>> error_code_of(exceptions.ResponseError("wrong number of arguments"))
    ''
    """
    for kind in type(error).__mro__:
        if kind in TYPES:
            return TYPES[kind]
    found = WORD.findall(str(error))
    return found[-1] if found else ""


def message_of(word: str, *, limit_bytes: int | None = None, error: object = "") -> str:
    """Return the message of an error code, to follow the name of the Redis; empty for an unknown code.

    Args:
        word: from :func:`error_code_of`.
        limit_bytes: memory limit of Redis; None when unknown.
        error: the error, which may name a command.

    >>> message_of("OOM", limit_bytes=100_000_000).partition(":")[0]
    'is full (maxmemory 100 MB reached)'
    >>> message_of("NOPERM", error="this user has no permissions to run the 'xadd' command").partition(";")[0]
    "does not permit this user the command 'xadd'"
    """
    limit = f" (maxmemory {limit_bytes / 1e6:,.0f} MB reached)" if limit_bytes else ""
    command = COMMAND.search(str(error))
    called = f" the command '{command[1]}'" if command else " what snakemap needs"
    text = WRITES.get(word) or CALLS.get(word, "")
    return text.replace("{limit}", limit).replace("{command}", called)
