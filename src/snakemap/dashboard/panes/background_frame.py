"""The frame of one point that is subtracted from all frames that a tab shows."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from panel.io.state import set_curdoc

from snakemap.core.run import Run
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.panes.file_workspace import FileServices
from snakemap.dashboard.panes.past_frame import frame_at, frames_beside
from snakemap.dashboard.session import Session
from snakemap.errors import SnakemapError

__all__ = ["BackgroundFrame"]


class BackgroundFrame:
    """Reads the frame of the point that is the background, once it is measured.

    Args:
        tab: whose frames they are.
        files: access to files.

    Attributes:
        note: why there is no background (yet), a sentence for the user; empty if there is.
    """

    def __init__(self, tab: Session, files: FileServices) -> None:
        self.tab = tab
        self.files = files
        self.note = ""
        self.tasks = BackgroundTasks(tab.document)
        self._asked: tuple[str, int] | None = None
        tab.choices.param.watch(self._on_background, "background")
        tab.on_status(lambda _: self._read())
        tab.on_close(self.tasks.close)

    def _on_background(self, _: Any) -> None:
        self._asked, self.note = None, ""
        with set_curdoc(self.tab.document):
            self.tab.frame.use_background(0, None)
        self._read()

    def _read(self) -> None:
        """Read the frame, unless that is done; called once a second."""
        point, run = self.tab.choices.background, self.tab.pipeline.run
        if not point or run is None or self._asked == (run.uid, point):
            return
        camera = frames_beside(run, self.tab.pipeline.base)
        place = camera.ledger.location_of(point) if camera is not None and camera.maps.seen(point) else None
        if place is None:
            self.note = f"The background, point {point:,}, is not measured yet."
            return
        self._asked = asked = run.uid, point

        def use(frame: npt.NDArray[Any]) -> None:
            if self._is_wanted(asked, run):
                self.note = ""
                self.tab.frame.use_background(point, frame)

        def fail(_: SnakemapError) -> None:
            if self._is_wanted(asked, run):
                self.note = f"The background, the frame of point {point:,}, cannot be read."

        self.tasks.run("background", lambda: frame_at(self.files, *place), use, failed=fail)

    def _is_wanted(self, asked: tuple[str, int], run: Run) -> bool:
        return self._asked == asked == (run.uid, self.tab.choices.background)
