"""The maps of a run as a file."""

from __future__ import annotations

from collections.abc import Callable

from tornado.web import HTTPError

from snakemap.dashboard.large_response import taken
from snakemap.dashboard.routes.download import DownloadHandler
from snakemap.live.region_answer import maps_with_regions
from snakemap.live.region_maps import RegionMaps
from snakemap.live.run_cache import RunCache
from snakemap.render.export import MapFormat, file_stem
from snakemap.web.connection_limits import ConnectionSlots

__all__ = ["MapsHandler"]


class MapsHandler(DownloadHandler):
    """Answers ``GET export?run=&source=&format=&roi=`` with the maps of a run in one of :class:`MapFormat`."""

    content = "maps"
    slots = ConnectionSlots(most=4, each=2)

    def initialize(self, runs: Callable[[], RunCache], regions: Callable[[], RegionMaps | None] = lambda: None) -> None:
        """Take what gives the runs, and maps of other regions, at the time of a request."""
        self.runs = runs
        self.regions = regions

    def check_arguments(self) -> None:
        """Refuse a format that does not exist."""
        try:
            self.format = MapFormat(self.get_query_argument("format", MapFormat.CSV))
        except ValueError as error:
            raise HTTPError(400, reason=f"format must be one of {', '.join(MapFormat)}") from error

    async def send_file(self) -> None:
        """Send the maps as they are now."""
        runs, uid = self.runs(), self.get_query_argument("run", "")[:200]
        source = self.get_query_argument("source", "")[:500]
        rois, regions = self.get_query_arguments("roi"), self.regions()
        if rois and regions is not None:
            found = await maps_with_regions(runs, regions, uid, self.format, rois=rois, source=source)
        else:
            found = await runs.maps(uid, self.format, source=source)
        run = await runs.run(uid)
        self.begin(f"{file_stem(run.start)}{self.format.suffix}", self.format.media_type)
        self.write(found.body or b"")
        await taken(self)
