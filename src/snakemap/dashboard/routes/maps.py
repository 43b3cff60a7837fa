"""The maps of a run as a file."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from snakemap.dashboard.large_response import taken
from snakemap.errors import SnakemapError
from snakemap.live.run_cache import RunCache
from snakemap.render.export import MapFormat, file_stem
from snakemap.web.connection_limits import ConnectionSlots, block_of

__all__ = ["MapsHandler"]

log = logging.getLogger(__name__)

SLOTS = ConnectionSlots(most=4, each=2)
"""Downloads of one process at one time, and of one address."""


class MapsHandler(RequestHandler):
    """Answers ``GET export?run=&source=&format=`` with the maps of a run in one of :class:`MapFormat`."""

    def initialize(self, runs: Callable[[], RunCache]) -> None:
        """Take what gives the runs at the time of a request."""
        self.runs = runs

    async def get(self) -> None:
        """Send the maps as they are now."""
        try:
            form = MapFormat(self.get_query_argument("format", MapFormat.CSV))
        except ValueError as error:
            raise HTTPError(400, reason=f"format must be one of {', '.join(MapFormat)}") from error
        try:
            give_back = SLOTS.take(block_of(self.request.remote_ip or ""))
        except SnakemapError as full:
            self.set_status(full.status)
            self.set_header("Retry-After", str(full.retry_after_s))
            self.finish("Too many downloads at a time; try again later.\n")
            return
        try:
            await self._send(form)
        except StreamClosedError:
            log.info("a client disconnected during a download of maps, or took nothing for too long")
        except SnakemapError as error:
            raise HTTPError(error.status, reason=type(error).__name__) from error
        finally:
            give_back()

    async def _send(self, form: MapFormat) -> None:
        runs, uid = self.runs(), self.get_query_argument("run", "")[:200]
        found = await runs.maps(uid, form, source=self.get_query_argument("source", "")[:500])
        run = await runs.run(uid)
        self.set_header("Content-Type", form.media_type)
        self.set_header("Content-Disposition", f'attachment; filename="{file_stem(run.start)}{form.suffix}"')
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.write(found.body or b"")
        await taken(self)
