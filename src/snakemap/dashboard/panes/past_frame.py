"""Earlier frames of a run, read from their files: the store only has the newest frame."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.roi import shrink
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.panes.file_workspace import FileServices
from snakemap.dashboard.session import Session
from snakemap.errors import FrameError, SnakemapError

__all__ = ["PastFrameReader", "frame_at", "frames_beside"]

PIXELS_MAX = 64_000_000


class PastFrameReader:
    """Shows a tab the frame of the point that was chosen, or, while it looks back, of the last point it sees.

    Args:
        tab: whose frame it is.
        services: access to files.
    """

    def __init__(self, tab: Session, services: FileServices) -> None:
        self.tab = tab
        self.services = services
        self.background = BackgroundTasks(tab.document)
        self._asked: tuple[str, str, int, bool] | None = None
        tab.show_past_frame = self.show
        tab.choices.param.watch(self._forget, ["point", "source", "shape", "exchanged", "frame_of"])
        tab.on_close(self.background.close)

    def show(self, run: Run, source: MapSource) -> None:
        """Read and draw the frame of the chosen point, or of the last point of a run as it was.

        A frame that is shown already is not read again.
        """
        point = self.tab.choices.point
        if point:
            beside = frames_beside(run, self.tab.pipeline.base)
            if beside is None:
                self._asked = None
                self.tab.frame.blank("no camera has the points of this source")
                return
            source = beside
        number = point or source.maps.highest
        place = source.ledger.location_of(number)
        asked = run.uid, run.name_of(source), number, place is not None
        if asked == self._asked and self.tab.frame.shown in (number, None):
            return
        self._asked = asked
        if place is None:
            self.tab.frame.blank(_no_place(source, number, chosen=bool(point)))
            return

        def draw(frame: npt.NDArray[Any]) -> None:
            if self._is_wanted(asked):
                self.tab.frame.draw(source, frame, number=number)

        def blank(_: SnakemapError) -> None:
            if self._is_wanted(asked):
                self.tab.frame.blank(f"frame of point {number:,} cannot be read")

        self.background.run("frame", lambda: frame_at(self.services, *place), draw, failed=blank)

    def _is_wanted(self, asked: tuple[str, str, int, bool]) -> bool:
        return self._asked == asked and (self.tab.playback.moment is not None or bool(self.tab.choices.point))

    def _forget(self, *_: Any) -> None:
        """Read again what is chosen again: its file may be readable by now."""
        self._asked = None


def frames_beside(run: Run, source: MapSource) -> MapSource | None:
    """Return the camera whose points are those of a source: itself, or one of the same stream; None if there is none.

    Args:
        run: of the source.
        source: whose points are counted.
    """
    if source.kind == "frames":
        return source
    cameras = (one for one in run.sources.values() if one.kind == "frames" and one.stream == source.stream)
    return next(cameras, None)


def _no_place(source: MapSource, number: int, *, chosen: bool) -> str:
    """Return the title of a frame that is in no known file."""
    if not number:
        return "no frame yet"
    if chosen and not source.maps.seen(number):
        return f"point {number:,} is not measured yet"
    return f"location of frame {number:,} unknown"


async def frame_at(services: FileServices, resource: Resource, row: int) -> npt.NDArray[Any]:
    """Return the frame (rows, columns), or (rows, columns, 3) in color, of a point, as small as a screen needs it.

    Args:
        services: of the process.
        resource: where the frames are.
        row: of the point, as :meth:`~snakemap.core.frame_ledger.FrameLedger.location_of` has it; of several frames
            it is the last.

    Raises:
        FrameError: when it is not there, or is no frame.
        FileRefused: when the file may not be read, or
        FileBroken: cannot be.
    """
    last = resource.frames_per_point * (row + 1) - 1
    path = services.place_of(resource.uri_of(last))
    if not path:
        raise FrameError("the file is not in the data root")
    shape = (await services.inspector.about(path, resource.dataset)).get("shape") or []
    lead = divmod(row, resource.columns) if resource.columns else (last,)
    if resource.template:  # a file holds the one frame, or a stack of it
        lead = (shape[0] - 1,) if len(shape) > 2 else ()
    sides = [[0, size, 1] for size in shape[len(lead) :]]
    if (len(sides) == 3 and sides[-1][1] != 3) or len(sides) not in (2, 3) or 0 in shape:
        raise FrameError(f"a dataset of shape {shape} has no frames that can be shown")
    block = await services.inspector.read(path, resource.dataset, [*lead, *sides], most=PIXELS_MAX)
    try:
        return await asyncio.to_thread(shrink, np.asarray(block.values))
    except TypeError as error:
        raise FrameError("the frame cannot be drawn") from error
