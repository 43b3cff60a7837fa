"""Check the origin of a request, and read its token."""

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

__all__ = ["TokenFilter", "check_page", "hash_token", "is_allowed_origin", "new_token", "redact_ids", "token_of"]


def is_allowed_origin(origin: str, host: str | None, origins: Collection[str]) -> bool:
    """Return whether a web page has an allowed origin: this server's, or a host in ``origins``.

    Args:
        origin: the ``Origin`` header of the page.
        host: the ``Host`` header of the request.
        origins: further allowed hosts, from the settings.

    >>> is_allowed_origin("http://api:8080", "api:8080", ()), is_allowed_origin("null", "api:8080", ())
    (True, False)
    """
    try:
        asking = urlsplit(origin).netloc
    except ValueError:
        return False
    return asking != "" and (asking == host or asking in origins)


def check_page(request: Request, settings: Settings) -> None:
    """Refuse requests of pages of other sites; programs and this server's pages pass.

    Raises:
        OriginRefused: when the page has another origin; a browser sends such a request, but hides the answer.
    """
    headers = request.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    asked = headers.get("host")
    if not (
        is_allowed_origin(origin, asked, settings.origins) if origin is not None else site in ("none", "same-origin")
    ):
        raise OriginRefused(
            "pages of other sites must not start, stop or change anything; SNAKEMAP_ORIGINS lists the allowed sites"
        )


def token_of(request: Request, settings: Settings) -> str:
    """Return the token to pass on to blueapi; empty when there is none."""
    header = settings.blueapi_token_header or "authorization"
    return request.headers.get(header, "").removeprefix("Bearer ").strip()


IN_PATH = re.compile(r"(/api/sessions/)[^/?#\s]+")


def new_token() -> str:
    """Return a random session id: 256 bits, 43 letters."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the SHA-256 of a session id. The store holds only hashes, so reading the store gives no access."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def redact_ids(text: str) -> str:
    """Return a path without session ids, for the log.

    >>> redact_ids("/api/sessions/abc/maps?format=npz")
    '/api/sessions/.../maps?format=npz'
    """
    return IN_PATH.sub(r"\1...", text)


class TokenFilter(logging.Filter):
    """Logging filter that removes session ids from the access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the arguments of the record, and accept it."""
        if isinstance(record.args, tuple):
            record.args = tuple(redact_ids(part) if isinstance(part, str) else part for part in record.args)
        return True
