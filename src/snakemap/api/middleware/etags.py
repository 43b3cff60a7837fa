"""What a client has already need not be sent again: entity tags, and what caches must know of answers that differ."""

from __future__ import annotations

from hashlib import blake2b

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Variants", "known_of", "version_of"]


def known_of(header: str | None) -> frozenset[str]:
    """What is in the entity tags of an ``If-None-Match`` header, weak or not; ``*`` is any.

    >>> sorted(known_of('W/"1795461238076-0", "1795461238076-1"'))
    ['1795461238076-0', '1795461238076-1']
    """
    tags = (part.strip().removeprefix("W/").strip('"') for part in (header or "").split(","))
    return frozenset(tag for tag in tags if tag)


def version_of(*parts: bytes | str) -> str:
    """A short name for contents: other ones have another.

    >>> version_of(b"snake", "map") == version_of("snakemap")
    False
    """
    digest = blake2b(digest_size=12)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


class Variants:
    """Keeps caches right where answers may be compressed; put around what compresses them.

    What was compressed has other bytes, so its tag is a weak one. All answers say that they depend on what the client
    can unpack, also those that were not compressed this time. Browsers are told to take nothing for what it is not.

    Args:
        app: what comes behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and marks its answer."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                _mark(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)


def _mark(headers: MutableHeaders) -> None:
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if not _depends(headers, "accept-encoding"):
        headers.add_vary_header("Accept-Encoding")
    etag = headers.get("etag")
    if etag and not etag.startswith("W/") and "content-encoding" in headers:
        headers["etag"] = f"W/{etag}"


def _depends(headers: Headers, name: str) -> bool:
    return name in (part.strip().lower() for part in headers.get("vary", "").split(","))
