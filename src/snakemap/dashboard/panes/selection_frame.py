"""The mean of the frames of the points that are selected on the maps: those in the box, and within the brush.

::

    box, brush -> points -> their mean grows by a portion -> drawn -> the next portion ... until it is complete

A new selection, another run and the end of the tab end it. While the run goes on, new selected points are added.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.panes.past_frame import frames_beside
from snakemap.dashboard.session import Session
from snakemap.errors import SnakemapError
from snakemap.live.mean_frames import FrameMean, MeanFrames, picture_of

__all__ = ["SelectionFrame", "title_of"]

CHECK_S = 1.0
"""Seconds between two looks for new points of the selection."""

SELECTION = ["box", "brush", "channel", "source", "shape", "exchanged", "frame_of"]
"""Choices of which the selection depends."""


class SelectionFrame:
    """Shows a tab the mean frame of its selection.

    Args:
        tab: whose selection it is.
        means: of this process.

    Attributes:
        note: why some frames are not in the mean, a sentence for the user; empty if all are.
    """

    def __init__(self, tab: Session, means: MeanFrames) -> None:
        self.tab = tab
        self.means = means
        self.note = ""
        self.errands = BackgroundTasks(tab.document)
        self._mean: FrameMean | None = None
        self._of: tuple[Run, MapSource] | None = None
        self._version = (-1, -1)
        self._checked = 0.0
        tab.show_mean_frame = self.show
        tab.choices.param.watch(self._on_selection, SELECTION)
        tab.choices.param.watch(self._on_point, "point")
        tab.on_close(self._close)

    @property
    def described(self) -> str:
        """The frame that is shown, and the points that are selected, as a sentence without its end."""
        choices, mean = self.tab.choices, self._mean
        where = "in the box" if choices.box is not None else ""
        range_ = f"in the brushed range of {choices.channel}" if choices.brush is not None else ""
        points = f"points {' and '.join(filter(None, (where, range_)))}"
        if mean is None or not mean.complete or not mean.points:
            return points
        return f"{title_of(mean)} of the selection: {points}"

    def show(self, run: Run) -> None:
        """Begin with the mean of the selection, or go on when it has new points; called several times a second."""
        camera = frames_beside(run, self.tab.pipeline.source)
        if camera is None:
            self._forget()
            self.tab.frame.blank("no camera has the points of this source")
        elif self._mean is None or self._of is None or self._of[0] is not run or self._of[1] is not camera:
            self._begin(run, camera)
        elif self._mean.complete and time.monotonic() - self._checked >= CHECK_S:
            self._follow(run, camera)

    def _begin(self, run: Run, camera: MapSource, *, blank: bool = True) -> None:
        """Begin with the mean of what is selected now.

        Args:
            run: that is drawn.
            camera: whose frames are shown.
            blank: whether the frame that is shown until then is removed.
        """
        self._forget()
        selected = self._selected()
        try:
            self._mean = self.means.mean_of(run, camera, selected)
        except SnakemapError as error:
            self.note = str(error)
            self.tab.frame.blank("the selection has no mean")
            return
        self._of, self._version = (run, camera), self._versions(camera)
        if blank or not self._mean.wanted:
            self.tab.frame.blank(title_of(self._mean))
        self._go(self._mean, camera)

    def _follow(self, run: Run, camera: MapSource) -> None:
        """Add the points that the selection has in addition; begin again if others are not selected any more."""
        mean, self._checked = self._mean, time.monotonic()
        if mean is None or self._version == self._versions(camera):
            return
        self._version = self._versions(camera)
        selected = self._selected()
        if np.array_equal(np.sort(self.means.measured(camera, selected)), np.sort(mean.places)):
            return
        if self.means.extend(mean, camera, selected):
            self._go(mean, camera)
        else:
            self._begin(run, camera, blank=False)

    def _go(self, mean: FrameMean, camera: MapSource) -> None:
        """Read a portion, draw the mean, and so on."""
        if mean.complete:
            return

        async def portion() -> npt.NDArray[np.float64] | None:
            read = await self.means.grow(mean)
            return await picture_of(mean) if read and mean.sums is not None else None

        def draw(picture: npt.NDArray[np.float64] | None) -> None:
            if mean is not self._mean:
                return
            self.note = _note_of(mean)
            if picture is not None:
                self.tab.frame.draw_mean(camera, picture.astype(np.float32), title=title_of(mean))
            elif mean.sums is None:
                self.tab.frame.blank(title_of(mean))
            self._go(mean, camera)

        def fail(error: SnakemapError) -> None:
            self.means.end(mean)
            if mean is self._mean:
                self.note = str(error)
                self.tab.frame.blank("the mean of the selection cannot be computed")

        self.errands.run("mean", portion, draw, failed=fail)

    def _versions(self, camera: MapSource) -> tuple[int, int]:
        return self.tab.pipeline.maps.version, camera.maps.version

    def _selected(self) -> npt.NDArray[np.int64]:
        selected = self.tab.pipeline.selected()
        return np.empty(0, np.int64) if selected is None else selected

    def _forget(self) -> None:
        """End the mean that grows."""
        if self._mean is not None:
            self.means.end(self._mean)
            self.errands.forget("mean")
        self._mean, self._of, self.note = None, None, ""

    def _on_selection(self, *events: Any) -> None:
        self._forget()
        choices = self.tab.choices
        if any(event.name == "frame_of" and event.new == "point" for event in events):
            self.tab.frame.blank("no frame yet")
        if choices.frame_of != "point" and choices.box is None and choices.brush is None:
            choices.frame_of = "point"

    def _on_point(self, event: Any) -> None:
        """Show the frame of a point that is chosen."""
        if event.new:
            self.tab.choices.frame_of = "point"

    def _close(self) -> None:
        self.errands.close()
        if self._mean is not None:
            self.means.end(self._mean)
            self._mean = None


def title_of(mean: FrameMean) -> str:
    """Return the title of a mean, with the number of frames in it; it is short, as a pane is narrow."""
    if not mean.wanted:
        return "no frame of the selection yet"
    if mean.complete and not mean.points:
        return "no frame of the selection can be read"
    several = mean.frames != mean.points
    what = "the frames of {} points" if several else "{} frames"
    if mean.complete:
        return f"mean of {what.format(f'{mean.points:,}')}"
    return f"mean of {what.format(f'{mean.points + mean.lost:,} of {mean.wanted:,}')}"


def _note_of(mean: FrameMean) -> str:
    if not mean.lost:
        return ""
    points = "1 point" if mean.lost == 1 else f"{mean.lost:,} points"
    return f"The frames of {points} are left out: {mean.trouble}"
