"""Entity tags of responses, and the headers that caches need."""

from __future__ import annotations

from hashlib import blake2b

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["VaryHeaders", "content_hash", "parse_etags"]


def parse_etags(header: str | None) -> frozenset[str]:
    """Return the entity tags of an ``If-None-Match`` header, weak or not; ``*`` matches any.

    >>> sorted(parse_etags('W/"1795461238076-0", "1795461238076-1"'))
    ['1795461238076-0', '1795461238076-1']
    """
    tags = (part.strip().removeprefix("W/").strip('"') for part in (header or "").split(","))
    return frozenset(tag for tag in tags if tag)


def content_hash(*parts: bytes | str) -> str:
    """Return a short hash of contents.

    >>> content_hash(b"snake", "map") == content_hash("snakemap")
    False
    """
    digest = blake2b(digest_size=12)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


class VaryHeaders:
    """Middleware that sets the cache headers; it wraps the compression.

    A compressed response has other bytes, so its entity tag becomes a weak one. Every response varies by
    ``Accept-Encoding``, compressed or not. ``nosniff`` stops browsers from guessing the content type.

    Args:
        app: the wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and set the headers of its response."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                _mark(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_marked if scope["type"] == "http" else send)


def _mark(headers: MutableHeaders) -> None:
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if not _depends(headers, "accept-encoding"):
        headers.add_vary_header("Accept-Encoding")
    etag = headers.get("etag")
    if etag and not etag.startswith("W/") and "content-encoding" in headers:
        headers["etag"] = f"W/{etag}"


def _depends(headers: Headers, name: str) -> bool:
    return name in (part.strip().lower() for part in headers.get("vary", "").split(","))
