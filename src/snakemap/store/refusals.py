"""What Redis refuses, and why: one plain sentence for each code word of its protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping

from redis import exceptions

__all__ = ["LIGHTS", "WRITES", "word_of", "words_of"]

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
"""Why a Redis that can be read stores nothing; ``{limit}`` is the limit of its memory, where that is known."""

LIGHTS: Mapping[str, str] = {
    "OOM": "Redis full",
    "READONLY": "Redis read-only",
    "MISCONF": "Redis cannot save",
    "NOREPLICAS": "Redis lacks replicas",
}
"""The same, as the name of a light."""

CALLS: Mapping[str, str] = {
    "NOPERM": "does not permit our user{command}; permit all commands on the keys snakemap:* (ACL SETUSER)",
    "MASTERDOWN": "is a replica that has lost its primary and answers nothing; point SNAKEMAP_REDIS_URL at the primary",
    "UNBLOCKED": "has become a replica; point SNAKEMAP_REDIS_URL at the primary",
    "BUSY": "is busy with a script of another program; end that script (SCRIPT KILL)",
    "CLUSTER": "is part of a Redis Cluster, which snakemap cannot use; point SNAKEMAP_REDIS_URL at a single Redis",
}
"""Why a Redis answers some commands, or all, with an error."""

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
"""The code word at the beginning of an answer, of an answer to a script (Redis 6.2), or to a command of several."""

COMMAND = re.compile(r"the '([a-z|]{1,40})' command")


def word_of(error: exceptions.RedisError) -> str:
    """Return the code word of an error that Redis answered with; empty for one that is not known here.

    >>> word_of(exceptions.OutOfMemoryError("command not allowed")), word_of(exceptions.ResponseError("MISCONF Redis"))
    ('OOM', 'MISCONF')
    >>> word_of(exceptions.ResponseError("Error running script (call to f_1): @user_script:5: -OOM command not"))
    'OOM'
    >>> word_of(exceptions.ResponseError("wrong number of arguments"))
    ''
    """
    for kind in type(error).__mro__:
        if kind in TYPES:
            return TYPES[kind]
    found = WORD.findall(str(error))
    return found[-1] if found else ""


def words_of(word: str, *, limit_bytes: int | None = None, error: object = "") -> str:
    """Return the sentence of a code word, to be put behind the name of that Redis; empty for an unknown word.

    Args:
        word: of :func:`word_of`.
        limit_bytes: memory that Redis may use; None where that is not known.
        error: what Redis said, which may name a command.

    >>> words_of("OOM", limit_bytes=100_000_000).partition(":")[0]
    'is full (maxmemory 100 MB reached)'
    >>> words_of("NOPERM", error="this user has no permissions to run the 'xadd' command").partition(";")[0]
    "does not permit our user the command 'xadd'"
    """
    limit = f" (maxmemory {limit_bytes / 1e6:,.0f} MB reached)" if limit_bytes else ""
    command = COMMAND.search(str(error))
    called = f" the command '{command[1]}'" if command else " what snakemap needs"
    text = WRITES.get(word) or CALLS.get(word, "")
    return text.replace("{limit}", limit).replace("{command}", called)
