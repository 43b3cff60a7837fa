"""Ids of sessions are secrets: how they are made, and how they are kept out of logs and of the store."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets

__all__ = ["Discretion", "discreet", "kept_as", "new_token"]

IN_PATH = re.compile(r"(/api/sessions/)[^/?#\s]+")


def new_token() -> str:
    """An id that nobody can guess: 256 bits, 43 letters."""
    return secrets.token_urlsafe(32)


def kept_as(token: str) -> str:
    """What stands in the store for an id, so that those who can read the store cannot use it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def discreet(text: str) -> str:
    """A path as it may be logged.

    >>> discreet("/api/sessions/abc/maps?format=npz")
    '/api/sessions/.../maps?format=npz'
    """
    return IN_PATH.sub(r"\1...", text)


class Discretion(logging.Filter):
    """Keeps ids out of what a logger of others says of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and lets it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(discreet(part) if isinstance(part, str) else part for part in record.args)
        return True
