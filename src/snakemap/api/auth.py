"""Who asks: whether a web page of ours, and with which token."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request

from snakemap.errors import OriginRefused
from snakemap.settings import Settings

__all__ = ["TokenFilter", "check_page", "discreet", "is_ours", "kept_as", "new_token", "token_of"]


def is_ours(origin: str, host: str | None, origins: Collection[str]) -> bool:
    """Whether a web page is ours, or of a host that a setting names.

    Args:
        origin: the page's.
        host: that was asked, as the page knows it.
        origins: hosts that a setting names.

    >>> is_ours("http://api:8080", "api:8080", ()), is_ours("null", "api:8080", ())
    (True, False)
    """
    try:
        asking = urlsplit(origin).netloc
    except ValueError:
        return False
    return asking != "" and (asking == host or asking in origins)


def check_page(request: Request, settings: Settings) -> None:
    """Lets programs and our own pages pass.

    Raises:
        OriginRefused: when it is a web page of another site, which a browser lets send a request, but not read.
    """
    headers = request.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    asked = headers.get("host")
    if not (is_ours(origin, asked, settings.origins) if origin is not None else site in ("none", "same-origin")):
        raise OriginRefused(
            "pages of other sites must not start, stop or change anything; SNAKEMAP_ORIGINS lists the allowed sites"
        )


def token_of(request: Request, settings: Settings) -> str:
    """The token that goes on to blueapi; empty when there is none."""
    header = settings.blueapi_token_header or "authorization"
    return request.headers.get(header, "").removeprefix("Bearer ").strip()


IN_PATH = re.compile(r"(/api/sessions/)[^/?#\s]+")


def new_token() -> str:
    """An id that cannot be guessed: 256 bits, 43 letters."""
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


class TokenFilter(logging.Filter):
    """Keeps ids out of what a logger of others says of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and lets it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(discreet(part) if isinstance(part, str) else part for part in record.args)
        return True
