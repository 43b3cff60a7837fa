"""The mean frame of the points that are selected on the maps: those in the box, and within the brush.

As it is, or minus the mean frame of all other points.

::

    box, brush -> points -> their mean grows by a portion -> drawn -> the next portion ... until it is complete

A new selection, another run and the end of the tab end it. While the run goes on, new selected points are added.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from snakemap.live.measured import measured

__all__ = ["SelectionFrame", "title_of"]

Picture = npt.NDArray[np.float64]

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
        self.background = BackgroundTasks(tab.document)
        self._means: list[FrameMean] = []
        self._pictures: list[Picture | None] = []
        self._rough: list[Picture] = []
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
        choices = self.tab.choices
        where = "in the box" if choices.box is not None else ""
        range_ = f"in the brushed range of {choices.channel}" if choices.brush is not None else ""
        points = f"points {' and '.join(filter(None, (where, range_)))}"
        if self._rough and not self._complete:
            read, wanted = (
                sum(counts) for counts in zip(*((one.points, one.wanted) for one in self._means), strict=True)
            )
            return f"≈ in blocks of 16 x 16 pixels, {read:,} of {wanted:,} frames read: {points}"
        if not self._complete or not all(mean.points for mean in self._means):
            return points
        rest = f", minus the mean of {_frames(self._means[1])} of the rest" if len(self._means) > 1 else ""
        return f"mean of {_frames(self._means[0])} of the selection{rest}: {points}"

    def show(self, run: Run) -> None:
        """Begin with the mean of the selection, or go on when it has new points; called several times a second."""
        camera = frames_beside(run, self.tab.pipeline.base)
        if camera is None:
            self._forget()
            self.tab.frame.blank("no camera has the points of this source")
        elif not self._means or self._of is None or self._of[0] is not run or self._of[1] is not camera:
            self._begin(run, camera)
        elif self._complete and time.monotonic() - self._checked >= CHECK_S:
            self._follow(run, camera)

    @property
    def _complete(self) -> bool:
        return bool(self._means) and all(mean.complete for mean in self._means)

    def _begin(self, run: Run, camera: MapSource, *, blank: bool = True) -> None:
        """Begin with the means of what is selected now.

        Args:
            run: that is drawn.
            camera: whose frames are shown.
            blank: whether the frame that is shown until then is removed.
        """
        self._forget()
        try:
            self._means = [self.means.mean_of(run, camera, points) for points in self._parts(camera)]
        except SnakemapError as error:
            self.note = str(error)
            self.tab.frame.blank("the selection has no mean")
            return
        self._pictures = [None] * len(self._means)
        self._of, self._version = (run, camera), self._versions(camera)
        if blank or not all(mean.wanted for mean in self._means):
            self.tab.frame.blank(title_of(self._means))
        self._show_blocks(run, camera)
        self._go(camera)

    def _show_blocks(self, run: Run, camera: MapSource) -> None:
        """Draw the mean of blocks, which is had at once, until the mean of all frames is read."""
        blocks, means, parts, self._rough = self.means.blocks, self._means, self._parts(camera), []
        if blocks is None:
            return

        async def rough() -> list[tuple[int, Picture | None]]:
            return [await blocks.mean(run, camera, points) for points in parts]

        def draw(found: list[tuple[int, Picture | None]]) -> None:
            pictures = [picture for count, picture in found if picture is not None and count]
            whole = [count >= mean.wanted for (count, _), mean in zip(found, means, strict=False)]
            if means is self._means and not self._complete and all(whole) and len(pictures) == len(means):
                self._rough = pictures
                self._draw(camera)

        self.background.run("blocks", rough, draw, failed=lambda _: None)

    def _follow(self, run: Run, camera: MapSource) -> None:
        """Add the points that the selection has in addition; begin again if others are not selected any more."""
        self._checked = time.monotonic()
        if self._version == self._versions(camera):
            return
        self._version = self._versions(camera)
        for mean, points in zip(self._means, self._parts(camera), strict=True):
            if not self.means.extend(mean, camera, points):
                self._begin(run, camera, blank=False)
                return
        self._go(camera)

    def _go(self, camera: MapSource) -> None:
        """Read a portion of the mean that has the smaller share of its frames, draw, and so on."""
        means, pictures = self._means, self._pictures
        growing = [
            number
            for number, mean in enumerate(means)
            if not mean.complete or (pictures[number] is None and mean.sums is not None)
        ]
        if not growing:
            return
        number = min(growing, key=lambda number: (means[number].points + means[number].lost) / means[number].wanted)
        mean = means[number]

        async def portion() -> Picture | None:
            read = await self.means.grow(mean)
            return await picture_of(mean) if read and mean.sums is not None else None

        def draw(picture: Picture | None) -> None:
            if means is not self._means:
                return
            self.note = _note_of(means)
            pictures[number] = picture if picture is not None else pictures[number]
            if not self._rough or self._complete:
                self._draw(camera)
            self._go(camera)

        def fail(error: SnakemapError) -> None:
            self.means.end(mean)
            if means is self._means:
                self.note = str(error)
                self.tab.frame.blank("the mean of the selection cannot be computed")

        self.background.run("mean", portion, draw, failed=fail)

    def _draw(self, camera: MapSource) -> None:
        """Draw the mean, or the difference of both, as soon as there are frames of each."""
        title, pictures = title_of(self._means), [one for one in self._pictures if one is not None]
        if self._rough and not self._complete:
            title, pictures = f"≈ {title_of(self._means, whole=True)}", self._rough
        if len(pictures) < len(self._means):
            self.tab.frame.blank(title)
            return
        signed = len(pictures) > 1
        picture = pictures[0] - pictures[1] if signed else pictures[0]
        self.tab.frame.draw_other(camera, picture.astype(np.float32), title=title, signed=signed)

    def _parts(self, camera: MapSource) -> list[npt.NDArray[np.int64]]:
        """Return the selected points, and for a difference the other ones that are measured, too."""
        found = self.tab.pipeline.selected()
        selected = np.empty(0, np.int64) if found is None else found
        if self.tab.choices.frame_of != "difference":
            return [selected]
        return [selected, np.setdiff1d(measured(camera)[0], selected)]

    def _versions(self, camera: MapSource) -> tuple[int, int]:
        return self.tab.pipeline.maps.version, camera.maps.version

    def _forget(self) -> None:
        """End the means that grow."""
        for mean in self._means:
            self.means.end(mean)
        if self._means:
            self.background.forget("mean")
        self._means, self._pictures, self._rough, self._of, self.note = [], [], [], None, ""

    def _on_selection(self, *events: Any) -> None:
        choices = self.tab.choices
        of = {what for event in events for what in (event.old, event.new) if event.name == "frame_of"}
        if len(events) == 1 and of == {"selection", "difference"} and self._means and self._of is not None:
            self._keep_selection(self._of[1])
            return
        self._forget()
        if any(event.name == "frame_of" and event.new == "point" for event in events):
            self.tab.frame.blank("no frame yet")
        if choices.frame_of != "point" and choices.box is None and choices.brush is None:
            choices.frame_of = "point"

    def _keep_selection(self, camera: MapSource) -> None:
        """Show the selection with the rest or without it; the frames of the selection are not read again."""
        first, *others = self._means
        for mean in others:
            self.means.end(mean)
        self.background.forget("mean")
        points = self._parts(camera)[1:]
        self._means = [first, *(self.means.mean_of(self._of[0], camera, part) for part in points if self._of)]
        self._pictures = [*self._pictures[:1], *(None for _ in points)]
        self._rough = []
        self._draw(camera)
        if self._of is not None:
            self._show_blocks(self._of[0], camera)
        self._go(camera)

    def _on_point(self, event: Any) -> None:
        """Show the frame of a point that is chosen."""
        if event.new:
            self.tab.choices.frame_of = "point"

    def _close(self) -> None:
        self.background.close()
        for mean in self._means:
            self.means.end(mean)
        self._means = []


def title_of(means: Sequence[FrameMean], *, whole: bool = False) -> str:
    """Return the title of a mean, or of the difference of two; it is short, as the pane is narrow.

    Args:
        means: of the selection, and of the rest.
        whole: whether what is shown is of all frames.
    """
    for mean, of in zip(means, ("selection", "rest"), strict=False):
        if not mean.wanted:
            return f"no frame of the {of} yet"
        if mean.complete and not mean.points:
            return f"no frame of the {of} can be read"
    if len(means) == 1:
        return f"mean of {_frames(means[0], whole=whole)}"
    if whole or all(mean.complete for mean in means):
        return "selection − rest"
    read, wanted = (sum(mean.points + mean.lost for mean in means), sum(mean.wanted for mean in means))
    return f"selection − rest: {read:,} of {wanted:,}"


def _frames(mean: FrameMean, *, whole: bool = False) -> str:
    """Return the number of frames in a mean, and of those that it will have."""
    what = "the frames of {} points" if mean.frames != mean.points else "{} frames"
    if whole and not mean.complete:
        return f"{mean.wanted:,} frames" if mean.frames == mean.points else what.format(f"{mean.wanted:,}")
    number = f"{mean.points:,}" if mean.complete else f"{mean.points + mean.lost:,} of {mean.wanted:,}"
    return what.format(number)


def _note_of(means: Sequence[FrameMean]) -> str:
    lost, trouble = sum(mean.lost for mean in means), next((mean.trouble for mean in means if mean.trouble), "")
    if not lost:
        return ""
    points = "1 point" if lost == 1 else f"{lost:,} points"
    return f"The frames of {points} are left out: {trouble}"
