"""Compression of the scripts and styles of a page, once a process.

They are 3.0 MB, and 0.8 MB when compressed. Pages themselves are not compressed: they hold a token beside texts that an
address can choose, and lengths of compressed pages would let an attacker guess it.
"""

from __future__ import annotations

import zlib
from typing import ClassVar

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

__all__ = ["StaticGzip"]

CONTENT_TYPES = ("text/css", "text/javascript", "application/javascript", "application/json", "image/svg+xml")
GZIP = 16 + zlib.MAX_WBITS
STATIC = "/static/"


class StaticGzip(OutputTransform):
    """Compress the whole of a static file, for a browser that accepts gzip.

    The first answer is compressed while it is sent. The next ones, with the same ETag, are sent from memory.
    """

    compressed: ClassVar[dict[str, bytes]] = {}
    """Compressed files by ETag, which Tornado makes of the contents: as many as there are files."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self._accepted = (
            request.method == "GET"
            and STATIC in request.path
            and "gzip" in request.headers.get("Accept-Encoding", "").lower()
        )
        self._compressor = None
        self._parts: list[bytes] | None = None
        self._etag = ""
        self._missing = 0
        self._sent = False

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Replace the headers of a file that can be compressed, and its first bytes."""
        self._etag = headers.get("Etag", "")
        type_ = headers.get("Content-Type", "").partition(";")[0]
        whole = status_code == 200 and "Content-Length" in headers
        if not (self._accepted and whole and self._etag and type_ in CONTENT_TYPES):
            return status_code, headers, chunk
        headers.add("Vary", "Accept-Encoding")
        headers["Content-Encoding"] = "gzip"
        headers["Etag"] = f"W/{self._etag}"  # the same file in another form
        if (known := self.compressed.get(self._etag)) is not None:
            self._sent = True
            headers["Content-Length"] = str(len(known))
            return status_code, headers, known
        self._missing = int(headers.pop("Content-Length"))
        self._compressor = zlib.compressobj(wbits=GZIP)
        self._parts = []
        return status_code, headers, self.transform_chunk(chunk, finishing)

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        """Return the compressed form of further bytes."""
        if self._sent:
            return b""
        if self._compressor is None or self._parts is None:
            return chunk
        self._parts.append(self._compressor.compress(chunk))
        self._missing -= len(chunk)
        if finishing:
            self._parts.append(self._compressor.flush())
            if self._missing == 0:  # Tornado also finishes an answer whose client has left
                self.compressed[self._etag] = b"".join(self._parts)
            return b"".join(self._parts[-2:])
        return self._parts[-1]
