"""Download of whole files of the data root, up to the size that a setting allows."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from snakemap.dashboard.large_response import taken
from snakemap.errors import SnakemapError
from snakemap.files.data_root import DataRoot

__all__ = ["FileHandler"]

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


class FileHandler(RequestHandler):
    """Answers ``GET file?path=`` with a file of the data root."""

    def initialize(self, allowed: Callable[[], tuple[Path, int]]) -> None:
        """Take the function that returns the data root and the bytes that a file may have."""
        self.allowed = allowed

    async def get(self) -> None:
        """Send the file in its present length."""
        root, most = self.allowed()
        # get_query_argument takes blanks and control characters out of names, and refuses those that are no text
        path = os.fsdecode(self.request.query_arguments.get("path", [b""])[-1])
        with DataRoot(root) as gate:
            try:
                fd = await asyncio.to_thread(gate.open, path)
            except SnakemapError as refusal:
                raise HTTPError(refusal.status, str(refusal), reason=_line(str(refusal))) from refusal
        try:
            size = os.fstat(fd).st_size
            if size > most:
                raise HTTPError(403, reason="This file is larger than SNAKEMAP_DOWNLOAD_MAX_MB allows")
            name = quote(os.fsencode(PurePosixPath(path).name))
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{name}")
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cross-Origin-Resource-Policy", "same-origin")
            self.set_header("Content-Length", str(size))
            await self._send(fd, size)
        finally:
            os.close(fd)

    async def _send(self, fd: int, size: int) -> None:
        """Send so many bytes, a piece at a time, no faster than the client reads them."""
        sent = 0
        while sent < size:
            piece = await asyncio.to_thread(os.pread, fd, min(PIECE_BYTES, size - sent), sent)
            if not piece:
                log.info("a file became shorter while it was sent")
                break  # too few bytes: the browser says that the download failed
            sent += len(piece)
            self.write(piece)
            try:
                await taken(self)
            except StreamClosedError:
                return


def _line(text: str) -> str:
    """Return a message as the first line of an answer may hold it."""
    return text.encode("latin-1", "replace").decode("latin-1").replace("\r", " ").replace("\n", " ")[:200]
