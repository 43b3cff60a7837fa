"""The regions of one tab: typed as numbers or drawn on the frame, and read from the files of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from panel.io.state import set_curdoc

from snakemap.core.channels import hue_of
from snakemap.core.roi import Roi
from snakemap.core.roi_text import ROIS_MAX, rois_from_text, text_of
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.callbacks import later
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.own_regions import fitting
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import RegionBar
from snakemap.errors import RoiError, SnakemapError
from snakemap.live.measured import visited
from snakemap.live.region_maps import RegionMaps

__all__ = ["RegionList"]

READ_S = 0.5
"""Seconds for which frames are read before the maps are drawn again."""

PERIOD_S = 1.0
"""Seconds between two looks for new frames of a run that grows."""

REST_MS = 400
"""Time after the last movement of a region until its frames are read."""

AGAIN_S = 10.0
"""Seconds until frames that could not be read are tried again."""

ARROWS = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}
"""Rows and columns by which a key moves a region."""


class RegionList:
    """Keeps the regions of a tab and their maps.

    Args:
        tab: whose regions they are.
        regions: reads the frames.
    """

    def __init__(self, tab: Session, regions: RegionMaps) -> None:
        self.tab = tab
        self.regions = regions
        self.bar = RegionBar(sizing_mode="stretch_width", margin=0)
        self.background = BackgroundTasks(tab.document)
        self._busy = False
        self._next_at = 0.0
        self._done: tuple[Any, ...] | None = None
        self._status: dict[str, str] = {}
        self._refusal = ""
        self._moved_at = 0.0
        self.bar.param.watch(self._on_ask, "ask")
        tab.choices.param.watch(self._on_rois, "rois")
        tab.frame.on_region = self.draw
        tab.frame.boxes.on_move = self.move
        tab.on_tick(self.follow)
        tab.on_status(lambda _: self._show())
        tab.on_close(self.background.close)

    def add(self, text: str) -> None:
        """Add a region as it is typed."""
        self._replace(len(self.tab.choices.rois), text)

    def draw(self, left: float, right: float, top: float, bottom: float) -> None:
        """Add the region that was drawn on the frame, widened to whole pixels."""
        run = self.tab.pipeline.run
        shape = self.tab.pipeline.base.frame_shape if run is not None else None
        if shape is None:
            return
        y0, y1 = max(0, math.floor(top)), min(shape[0], math.ceil(bottom))
        x0, x1 = max(0, math.floor(left)), min(shape[1], math.ceil(right))
        taken = {roi.name for roi in self.tab.pipeline.own.rois}
        name = next(name for number in range(1, ROIS_MAX + 2) if (name := f"roi {number}") not in taken)
        self.add(f"{name}:{y0},{y1},{x0},{x1}")

    def move(self, name: str, bounds: tuple[int, int, int, int]) -> None:
        """Move a region by hand: its map is that of the blocks at once, and exact some time after it rests."""
        pipeline = self.tab.pipeline
        number = next((number for number, roi in enumerate(pipeline.own.rois) if roi.name == name), None)
        if number is None or pipeline.run is None or name not in pipeline.source.maps.channels:
            return
        roi = Roi(name, *bounds)
        if roi == pipeline.own.rois[number]:
            return
        if not self._moved_at:
            later(self.tab.document, self._rest, REST_MS)
        self._moved_at = time.monotonic()
        pipeline.own.move(number, roi)
        self._put_blocks(pipeline.run, pipeline.base, roi)
        self.tab.show_regions()
        self._show()
        self.tab.wake()

    def _put_blocks(self, run: Run, base: MapSource, roi: Roi) -> None:
        """Take the sums of blocks for all points; those without are blank."""
        blocks, box = self.regions.blocks, None
        if blocks is not None:
            blocks.want(run, base)
            box = blocks.boxes(run, base, roi)
        points = visited(base)
        values = np.full(int(points.max(initial=0)) + 1, np.nan)
        if box is not None:
            values[box.seq_nums] = box.values
        self.tab.pipeline.own.put(base, roi.name, points, values[points])
        self._mark(roi.name, box is not None and not box.exact)
        self._status[roi.name] = "" if box is not None else "its frames are read when it rests"

    def _rest(self) -> None:
        """Take a region that was moved as it is now, once it rests."""
        rest_ms = REST_MS - 1e3 * (time.monotonic() - self._moved_at)
        if rest_ms > 1:
            later(self.tab.document, self._rest, math.ceil(rest_ms))
            return
        self._moved_at = 0.0
        self._done, self._next_at = None, 0.0
        with set_curdoc(self.tab.document):
            self.tab.frame.boxes.rest()
            self.tab.choices.rois = tuple(map(text_of, self.tab.pipeline.own.rois))
        self.tab.wake()

    def _mark(self, name: str, approximate: bool) -> None:
        """Mark the map of a region as approximate, or as exact."""
        if (name in self.tab.approximate) != approximate:
            others = tuple(one for one in self.tab.approximate if one != name)
            self.tab.mark_approximate((*others, name) if approximate else others)

    def follow(self) -> None:
        """Read the frames that are not read yet, a portion at a time."""
        run, now = self.tab.pipeline.run, time.monotonic()
        if run is None or self._busy or self._moved_at or not self.tab.pipeline.own.rois:
            return
        base = self.tab.pipeline.base
        rois = fitting(self.tab.pipeline.own.rois, base)
        if rois and self.regions.blocks is not None:
            self.regions.blocks.want(run, base)
        state = (run, base, base.maps, base.maps.version, rois)
        if not rois or (state == self._done and now < self._next_at + AGAIN_S) or now < self._next_at:
            return
        self._busy = True

        async def read() -> str:
            return await self.regions.read(run, base, rois, limit_s=READ_S)

        def put(trouble: str) -> None:
            self._busy = False
            if self._moved_at or rois != fitting(self.tab.pipeline.own.rois, base):
                return  # moved meanwhile
            complete = self._put(run, base, rois, trouble)
            # a run that grows is looked at once a second; one that is being read goes on at once
            self._next_at = time.monotonic() + (PERIOD_S if complete or trouble else 0.0)
            self._done = state if complete or trouble else None
            self._show()
            self.tab.wake()

        def failed(error: SnakemapError) -> None:
            put(str(error))

        self.background.run("regions", read, put, failed=failed)

    def _put(self, run: Run, base: MapSource, rois: Sequence[Roi], trouble: str) -> bool:
        """Take the sums that are known; return whether they are all."""
        complete = True
        for roi in rois:
            sums = self.regions.estimated(run, base, roi)
            if self.tab.pipeline.run is run:
                self.tab.pipeline.own.put(base, roi.name, sums.seq_nums, sums.values)
            complete &= sums.read == sums.measured
            self._mark(roi.name, bool(sums.approximate))
            exact = f"{sums.read:,} of {sums.measured:,} frames read"
            words = f"≈ at the edges, {exact}" if sums.approximate else exact
            self._status[roi.name] = "" if sums.read == sums.measured else trouble or words
        return complete

    def _replace(self, number: int, text: str) -> None:
        """Put a region in the place of another one; without text there is none."""
        texts = [*self.tab.choices.rois]
        texts[number : number + 1] = [text] if text.strip() else []
        try:
            base = self.tab.pipeline.base if self.tab.pipeline.run is not None else None
            rois = rois_from_text(texts, taken=base.maps.channels if base is not None else ())
            if base is not None and base.frame_shape is not None:
                for roi in rois:
                    roi.check(base.frame_shape)
        except RoiError as refusal:
            self._refusal = str(refusal)
            self._show()
            return
        self._refusal = ""
        with set_curdoc(self.tab.document):
            self.tab.choices.rois = tuple(map(text_of, rois))
        self._show()

    def _on_ask(self, event: Any) -> None:
        """Do what the user wants; the value comes from a browser."""
        asked = event.new if isinstance(event.new, dict) else {}
        place, text, count = asked.get("place"), asked.get("text"), len(self.tab.choices.rois)
        if isinstance(text, str) and type(place) is int and 0 <= place <= count:
            self._replace(place, text[:300])
        key = asked.get("key")
        if isinstance(key, str) and type(place) is int and 0 <= place < count:
            self._nudge(place, key)

    def _nudge(self, number: int, key: str) -> None:
        """Move a region by a pixel with an arrow key; with Shift, move its lower right corner."""
        run, rois = self.tab.pipeline.run, self.tab.pipeline.own.rois
        shape = self.tab.pipeline.base.frame_shape if run is not None else None
        shift, _, arrow = key.rpartition("+")
        if shape is None or arrow not in ARROWS or shift not in ("", "Shift") or number >= len(rois):
            return
        roi, (down, right) = rois[number], ARROWS[arrow]
        first = 0 if shift else 1
        bounds = (roi.y0 + first * down, roi.y1 + down, roi.x0 + first * right, roi.x1 + right)
        if 0 <= bounds[0] < bounds[1] <= shape[0] and 0 <= bounds[2] < bounds[3] <= shape[1]:
            self.move(roi.name, bounds)

    def _on_rois(self, event: Any) -> None:
        """Take the regions of the tab, also those of an address."""
        try:
            rois = rois_from_text(event.new)
        except RoiError as refusal:
            warn(str(refusal))
            rois = ()
        if tuple(rois) == self.tab.pipeline.own.rois:  # moved by hand
            return
        self._status, self._done, self._next_at = {}, None, 0.0
        self.tab.mark_approximate(())
        self.tab.use_regions(rois)
        self._show()

    def _show(self) -> None:
        pipeline = self.tab.pipeline
        base = pipeline.base if pipeline.run is not None else None
        shown = {roi.name for roi in fitting(pipeline.own.rois, base)} if base is not None else set()
        rows = []
        for roi in pipeline.own.rois:
            note = self._status.get(roi.name, "") if roi.name in shown or base is None else "does not fit this run"
            rows.append({"text": text_of(roi), "name": roi.name, "note": note, "color": self._color(roi.name)})
        state = {"rows": rows, "refusal": self._refusal, "full": len(rows) >= ROIS_MAX}
        if state != self.bar.state:
            with set_curdoc(self.tab.document):
                self.bar.state = state

    def _color(self, name: str) -> str:
        channels = self.tab.pipeline.maps.channels if self.tab.pipeline.run is not None else ()
        return f"var(--sm-channel-{hue_of(name, channels=channels)})"
