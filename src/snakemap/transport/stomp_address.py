"""Parse the address of a STOMP broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from snakemap.errors import SettingsError

__all__ = ["StompAddress"]


@dataclass(frozen=True, slots=True)
class StompAddress:
    """Address of the broker, with user and password.

    >>> str(StompAddress.read("stomp://me:secret@host"))
    'host:61613'
    """

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    vhost: str
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def read(cls, url: str) -> StompAddress:
        """Read ``stomp://user:password@host:61613/vhost``; ``stomp+ssl://`` for TLS.

        Raises:
            SettingsError: when the URL is invalid.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("stomp", "stomp+ssl", "tcp") or not parts.hostname:
            raise SettingsError("SNAKEMAP_STOMP_URL: it is not stomp://user:password@host:61613")
        tls = parts.scheme == "stomp+ssl"
        return cls(
            host=parts.hostname,
            port=port or (61614 if tls else 61613),
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            vhost=unquote(parts.path[1:]) or "/",
            tls=tls,
        )
