"""Thumbnails of runs, for the list of runs."""

from __future__ import annotations

from collections.abc import Callable

from tornado.web import HTTPError, RequestHandler

from snakemap.errors import StoreUnavailable
from snakemap.store.store import Store

__all__ = ["PictureHandler"]


class PictureHandler(RequestHandler):
    """Answers ``GET picture?run=`` with PNG, and with nothing where there is none."""

    def initialize(self, store: Callable[[], Store]) -> None:
        """Take the function that returns the store."""
        self.store = store

    async def get(self) -> None:
        """Send the picture as it is now; the address changes when it does."""
        try:
            png = await self.store().picture(self.get_query_argument("run", "")[:200])
        except StoreUnavailable as trouble:
            raise HTTPError(trouble.status) from trouble
        if png is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", "image/png")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "private, max-age=60")
        self.write(png)
