"""The base of downloads that are made from the store: limits, headers, and what to do when a client disconnects."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import ClassVar

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from snakemap.errors import SnakemapError
from snakemap.web.connection_limits import ConnectionSlots, block_of

__all__ = ["DownloadHandler"]

log = logging.getLogger(__name__)


class DownloadHandler(RequestHandler):
    """Answers ``GET`` with a file.

    Attributes:
        content: what is downloaded, like ``"events"``, for the log and the message to the user.
        slots: downloads of one process at one time, and of one address.
    """

    content: ClassVar[str]
    slots: ClassVar[ConnectionSlots]

    async def get(self) -> None:
        """Send the file, no faster than the client takes it."""
        self.check_arguments()
        try:
            give_back = self.slots.take(block_of(self.request.remote_ip or ""))
        except SnakemapError as full:
            self.set_status(full.status)
            self.set_header("Retry-After", str(full.retry_after_s))
            self.finish(f"Too many downloads of {self.content}; try again later.\n")
            return
        try:
            await self.send_file()
        except StreamClosedError:
            log.info("a client disconnected during a download of %s, or took nothing for too long", self.content)
        except SnakemapError as trouble:
            if self._headers_written:
                log.warning("%s were not sent to their end: %s", self.content, trouble)
                raise
            raise HTTPError(trouble.status, reason=type(trouble).__name__) from trouble
        finally:
            give_back()

    def check_arguments(self) -> None:
        """Raise an HTTPError when the arguments of the request are invalid; before a slot is taken."""

    @abstractmethod
    async def send_file(self) -> None:
        """Call :meth:`begin`, and write the content."""

    def begin(self, name: str, media_type: str) -> None:
        """Set the headers of a file."""
        self.set_header("Content-Type", media_type)
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
