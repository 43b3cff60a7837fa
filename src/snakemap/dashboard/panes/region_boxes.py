"""The boxes around the regions of a tab on its frame, which are moved and resized by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bokeh.models import BoxAnnotation

from snakemap.dashboard.callbacks import soon
from snakemap.dashboard.permalink import NUMBER_MAX

__all__ = ["RegionBoxes", "whole_pixels"]

HELD_S = 0.6
"""Seconds after a movement for which the server does not set a box: the hand may still hold it."""

SIDES = ("left", "right", "top", "bottom")

Bounds = tuple[int, int, int, int]


class RegionBoxes:
    """Makes a box for each region when it is first shown.

    Browsers send every movement; those that come while one is answered are answered together, by the last.

    Args:
        plot: the figure of the frame.

    Attributes:
        on_move: called with the name of a region and its new bounds.
    """

    def __init__(self, plot: Any) -> None:
        self.plot = plot
        self.on_move: Callable[[str, Bounds], None] | None = None
        self._boxes: list[BoxAnnotation] = []
        self._names: list[str] = []
        self._shown: tuple[Mapping[str, Bounds], Mapping[str, str]] = {}, {}
        self._frame_shape = (1, 1)
        self._moved: dict[int, float] = {}
        self._pending: set[int] = set()
        self._setting = False

    def show(self, regions: Mapping[str, Bounds], colors: Mapping[str, str], frame_shape: tuple[int, int]) -> None:
        """Show a box for each region, and no others.

        Args:
            regions: bounds by name.
            colors: of their borders, by name.
            frame_shape: rows and columns within which they are moved.
        """
        self._names, self._shown, self._frame_shape = list(regions), (regions, colors), frame_shape
        while len(self._boxes) < len(regions):
            self._add()
        self._setting = True
        try:
            for number, box in enumerate(self._boxes):
                self._place(number, box, regions, colors)
        finally:
            self._setting = False

    def rest(self) -> None:
        """Set all boxes to whole pixels: no hand holds one any more."""
        self._moved.clear()
        self.show(*self._shown, self._frame_shape)

    def _place(self, number: int, box: BoxAnnotation, regions: Mapping[str, Bounds], colors: Mapping[str, str]) -> None:
        if number >= len(self._names):
            if box.visible:
                box.visible = False
            return
        y0, y1, x0, x1 = regions[self._names[number]]
        height, width = self._frame_shape
        wanted: dict[str, Any] = {"visible": True, "line_color": colors[self._names[number]]}
        wanted |= {"right_limit": width, "bottom_limit": height}
        if time.monotonic() - self._moved.get(number, -HELD_S) >= HELD_S:
            wanted |= {"left": x0, "right": x1, "top": y0, "bottom": y1}
        changed = {name: value for name, value in wanted.items() if getattr(box, name) != value}
        if changed:
            box.update(**changed)

    def _add(self) -> None:
        number = len(self._boxes)
        box = BoxAnnotation(
            left=0, right=1, top=0, bottom=1, left_limit=0, top_limit=0, visible=False, editable=True,
            fill_color=None, line_width=2, hover_fill_color="white", hover_fill_alpha=0.12,
        )  # fmt: skip
        if self._boxes:
            box.handles = self._boxes[0].handles
        for side in SIDES:
            box.on_change(side, partial(self._on_side, number))
        self._boxes.append(box)
        self.plot.add_layout(box)

    def _on_side(self, number: int, _attr: str, _old: Any, _new: Any) -> None:
        if self._setting or number in self._pending:
            return
        document = self.plot.document
        self._pending.add(number)
        if document is not None:
            soon(document, partial(self._pass_on, number))
        else:  # in no page
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Pass on where a box is now; the values come from a browser."""
        self._pending.discard(number)
        box = self._boxes[number]
        sides = [getattr(box, side) for side in SIDES]
        if self.on_move is None or number >= len(self._names) or not all(map(_is_number, sides)):
            return
        self._moved[number] = time.monotonic()
        left, right, top, bottom = sides
        self.on_move(self._names[number], whole_pixels(left, right, top, bottom, frame_shape=self._frame_shape))


def whole_pixels(left: float, right: float, top: float, bottom: float, *, frame_shape: tuple[int, int]) -> Bounds:
    """Return the bounds of a box, rounded to whole pixels of a frame; there is one pixel at least.

    >>> whole_pixels(9.6, 2.4, -5, 3, frame_shape=(10, 10)), whole_pixels(12, 12, 4, 4, frame_shape=(10, 10))
    ((0, 3, 2, 10), (4, 5, 9, 10))
    """
    bounds = list[int]()
    for low, high, size in ((top, bottom, frame_shape[0]), (left, right, frame_shape[1])):
        start = min(max(round(min(low, high)), 0), size - 1)
        bounds += [start, min(max(round(max(low, high)), start + 1), size)]
    return bounds[0], bounds[1], bounds[2], bounds[3]


def _is_number(side: Any) -> bool:
    return isinstance(side, int | float) and math.isfinite(side) and abs(side) <= NUMBER_MAX
