"""An image of a dataset, with as many pixels as the screen has; a zoom brings finer ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.document import Document
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from snakemap.dashboard.callbacks import later, on_change
from snakemap.dashboard.client_state import fitted, inner_size, resettable
from snakemap.dashboard.figure_theme import apply_theme, counts_formatter, save_tool, tooltip, value_hover
from snakemap.dashboard.panes.picture_plot import Picture, picture
from snakemap.dashboard.panes.picture_plot import colored as in_color
from snakemap.dashboard.theme import Theme
from snakemap.render.averages import averaged
from snakemap.render.axis_edges import Scale, resampled
from snakemap.render.dataset_display import color_levels, color_limits, limits_refusal

__all__ = ["ImagePane", "warm_up"]

SETTLE_MS = 200
PIXELS = (640, 480)
"""Columns and rows that are drawn before the browser has sent the size of its figure."""

NOTHING = {"image": [np.zeros((1, 1), np.uint8)], "x": [0], "y": [0], "dw": [1], "dh": [1]}
UNIT = (0.0, 0.0, 1.0, 1.0)
COLORLESS = {**NOTHING, "image": [np.zeros((1, 1), np.uint32)]}


class ImagePane:
    """Draws images with square pixels; row 0 is at the top unless it is flipped.

    Args:
        document: Bokeh's, of the tab.
        theme: the colors of the page.
        on_view: called with the rows and columns in view after a zoom or pan.
    """

    def __init__(
        self, *, document: Document, theme: Theme, on_view: Callable[[tuple[float, float, float, float]], None]
    ) -> None:
        self.document = document
        self.on_view = on_view
        self.limits, self.by_hand, self.log, self.flipped = "1 % to 99 %", (0.0, 1.0), False, False
        self.source, self.color_source = ColumnDataSource(NOTHING), ColumnDataSource(COLORLESS)
        self.mappers = {
            False: LinearColorMapper(palette=Cividis256, nan_color="rgba(0, 0, 0, 0)"),
            True: LogColorMapper(palette=Cividis256, low=1, high=10, nan_color="rgba(0, 0, 0, 0)"),
        }
        self.figure = self._figure()
        self.page = fitted(self.figure)
        for axis in (self.figure.x_range, self.figure.y_range):
            on_change(axis, "start", "end", callback=self._on_range)
        picture = pn.pane.Bokeh(self.figure, sizing_mode="stretch_both")
        self.pane = pn.Column(picture, sizing_mode="stretch_both", margin=0, visible=False)
        self.restyle(theme)
        self._values: npt.NDArray[Any] | None = None
        self._origin, self._step, self._shape = (0, 0), 1, (1, 1)
        self._scales = Scale.numbered(1, "row"), Scale.numbered(1, "column")
        self._held = False

    def draw(
        self, values: npt.NDArray[Any], *, origin: tuple[int, int], step: int, shape: tuple[int, int], title: str = "",
        scales: tuple[Scale, Scale] | None = None, unit: str = "",
    ) -> None:  # fmt: skip
        """Draw an image, or a part of one.

        Args:
            values: (rows, columns), or (rows, columns, 3 or 4) in color.
            origin: its first row and column in the whole image.
            step: of so many rows and columns one was read.
            shape: rows and columns of the whole image.
            title: over it; text, not markup.
            scales: where its rows and its columns lie; None: at their numbers.
            unit: of its values.
        """
        self._values, self._origin, self._step, self._shape = values, origin, step, shape
        self._scales = scales or (Scale.numbered(shape[0], "row"), Scale.numbered(shape[1], "column"))
        self._name_axes(unit)
        self.figure.title.text = title
        self._place()
        self._render(rescaled=True)

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        apply_theme(self.figure, theme)
        for bar in self.bars.values():
            bar.update(background_fill_color=None, major_label_text_color=theme.faint)

    def rescale(self, *, limits: str, by_hand: tuple[float | None, float | None], log: bool, flipped: bool) -> None:
        """Draw what there is in other colors, or upside down."""
        self.limits, self.by_hand, self.log, self.flipped = limits, by_hand, log, flipped
        if self._values is not None:
            self._place()
            self._render(rescaled=True)

    @property
    def refusal(self) -> str:
        """Why limits that were typed are not used, so that colors go from 1 % to 99 %; empty when there are none."""
        return limits_refusal(*self.by_hand, log=self.log) if self.limits == "by hand" else ""

    def _name_axes(self, unit: str) -> None:
        """Say what goes along the axes, and what stands beside the pointer."""
        y, x = self._scales
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = x.title, y.title
        fields = [(one.name, f"{at}{{custom}}" if one.valued else f"{at}{{0,0}}") for at, one in (("$x", x), ("$y", y))]
        fields_text = tooltip([*fields, ("value", "@image{custom}")])
        if fields_text != self.hover.tooltips or self._units != (x.unit, y.unit, unit):
            self._units = x.unit, y.unit, unit
            formatters = {"$x": value_hover(x.unit), "$y": value_hover(y.unit), "@image": value_hover(unit)}
            self.hover.update(tooltips=fields_text, formatters=formatters)

    def _place(self) -> None:
        (first, last), (left, right) = ((float(one.edges[0]), float(one.edges[-1])) for one in self._scales)
        bottom, top = (first, last) if self.flipped else (last, first)
        left, right = sorted((left, right))
        rows, columns = self._shape
        place: dict[str, Any] = {"left": left, "right": right, "bottom": bottom, "top": top}
        place |= {"dx": (right - left) / columns, "dy": abs(top - bottom) / rows, "aspect": self._aspect()}
        if place != self.page.place:
            self.page.place = place
            # the script in the browser has the last word; until then all of it is in view
            self.figure.x_range.update(start=left, end=right)
            self.figure.y_range.update(start=bottom, end=top)

    def _render(self, *, rescaled: bool) -> None:
        """Send pixels to the browser: those of the screen, or those of the image where they are fewer."""
        values = self._values
        if values is None:
            return
        rows, columns, pixels = self._seen(values)
        pixels, y, dh = self._laid(pixels, rows, 0)
        pixels, x, dw = self._laid(pixels, columns, 1)
        box, names = (x, y, dw, dh), (self._scales[1].title, self._scales[0].title)
        colored = values.ndim == 3
        if colored:
            self.in_color.show(in_color(color_levels(pixels), box, names))
        else:
            if rescaled:
                by_hand = self.limits == "by hand" and not self.refusal
                low, high = self.by_hand if by_hand else color_limits(values, self.limits, log=self.log)
                self.mappers[self.log].update(low=low, high=high)
            self.in_scale.show(picture(pixels, box, (*names, "value")))
        for log, glyph in self.glyphs.items():
            glyph.visible = self.bars[log].visible = not colored and log == self.log
        self.colors.visible = colored

    def _aspect(self) -> str:
        """Square pixels, or true distances where both axes have one unit; as much as fits where these are a thread."""
        y, x = self._scales
        sides = self._shape
        same = x.valued == y.valued and x.unit == y.unit and (bool(x.unit) or not x.valued)
        if same and x.valued:
            sides = abs(float(y.edges[-1] - y.edges[0])), abs(float(x.edges[-1] - x.edges[0]))
        if max(sides) > 20 * min(sides):
            return "fill"
        return "true distances" if same else "square pixels"

    def _laid(self, pixels: npt.NDArray[Any], cells: range, axis: int) -> tuple[npt.NDArray[Any], float, float]:
        """Return an image with pixels of equal width along an axis, with its start and its length.

        Uneven cells are put on the pixels of the screen.
        """
        scale, count = self._scales[axis], pixels.shape[axis]
        start = self._origin[axis] + cells.start * self._step
        stop = (
            min(start + len(cells) * self._step, len(scale.edges) - 1)
            if scale.valued
            else start + len(cells) * self._step
        )
        edges = scale.at(np.linspace(start, stop, count + 1)) if scale.valued else np.array([start, stop], np.float64)
        if scale.falling:
            pixels, edges = np.flip(pixels, axis), edges[::-1]
        if not scale.valued or scale.even:
            return pixels, float(edges[0]), float(edges[-1] - edges[0])
        seen = (self.figure.y_range, self.figure.x_range)[axis]
        low, high = sorted((float(seen.start), float(seen.end)))
        numbers, low, high = resampled(edges, low, high, self._pixels()[1 - axis])
        return np.take(pixels, numbers, axis), low, high - low

    def _seen(self, values: npt.NDArray[Any]) -> tuple[range, range, npt.NDArray[Any]]:
        """Return the part that is on the screen, averaged over what falls on one of its pixels."""
        rows, columns = (range(size) for size in values.shape[:2])
        width, height = self._pixels()
        if len(rows) * len(columns) > 2 * width * height:
            rows, columns = self._in_view(values.shape)
        part = values[rows.start : rows.stop, columns.start : columns.stop]
        if len(rows) <= 2 * height and len(columns) <= 2 * width:
            return rows, columns, part.astype(np.float32) if part.dtype.itemsize > 4 and part.ndim == 2 else part
        if part.ndim == 3:
            return rows, columns, part[:: max(1, len(rows) // height), :: max(1, len(columns) // width)]
        return rows, columns, _averaged(part, width=min(width, len(columns)), height=min(height, len(rows)))

    def _pixels(self) -> tuple[int, int]:
        """Return columns and rows of the figure on the screen."""
        width, height = inner_size(self.figure, PIXELS)
        return max(32, min(4000, int(width))), max(32, min(4000, int(height)))

    def _in_view(self, shape: tuple[int, ...]) -> tuple[range, range]:
        sides: list[range] = []
        axes = (self.figure.y_range, self.figure.x_range)
        for axis, scale, origin, size in zip(axes, self._scales, self._origin, shape, strict=False):
            low, high = self._numbers(axis, scale)
            start = int(np.clip((low - origin) // self._step, 0, size - 1))
            sides.append(range(start, int(np.clip(-((origin - high) // self._step), start + 1, size))))
        return sides[0], sides[1]

    def _numbers(self, axis: Any, scale: Scale) -> tuple[float, float]:
        """Return the first and the last cell number that are in view."""
        ends = float(axis.start), float(axis.end)
        low, high = sorted((scale.number(end) for end in ends) if scale.valued else ends)
        return low, high

    def _on_range(self, attribute: str, old: Any, new: Any) -> None:
        if not self._held and self._values is not None:
            self._held = True
            later(self.document, self._look_closer, SETTLE_MS)

    def _look_closer(self) -> None:
        self._held = False
        if self._values is None or not self.pane.visible:
            return
        y, x = self._scales
        self._render(rescaled=False)
        self.on_view((*self._numbers(self.figure.y_range, y), *self._numbers(self.figure.x_range, x)))

    def _figure(self) -> Any:
        plot = figure(
            title="", x_range=Range1d(start=0, end=1), y_range=Range1d(start=1, end=0), tools=[],
            sizing_mode="stretch_both", min_height=160, min_width=200, min_border_left=60, toolbar_location=None,
            name="dataset image",
        )  # fmt: skip
        wheel = WheelZoomTool()
        plot.add_tools(PanTool(), wheel, ResetTool(), save_tool("image"))
        plot.toolbar.active_scroll = wheel
        resettable(plot)
        common: dict[str, Any] = {"image": "image", "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
        self.glyphs = {
            log: plot.image(**common, source=self.source, color_mapper=mapper, visible=False)
            for log, mapper in self.mappers.items()
        }
        self.colors = plot.image_rgba(**common, source=self.color_source, visible=False)
        self.in_scale = Picture(picture(np.zeros((1, 1), np.uint8), UNIT), figure=plot, glyph=self.glyphs[False])
        self.in_color = Picture(in_color(np.zeros((1, 1, 4), np.uint8), UNIT), figure=plot, glyph=self.colors)
        self.hover = HoverTool(tooltips="", renderers=list(self.glyphs.values()))
        self._units: tuple[str, ...] = ()
        plot.add_tools(self.hover)
        self.bars = {log: ColorBar(color_mapper=mapper, width=9, padding=4) for log, mapper in self.mappers.items()}
        for bar in self.bars.values():
            bar.formatter = counts_formatter()
            plot.add_layout(bar, "right")
        return plot


def warm_up() -> None:
    """Make Datashader compile its functions, so that no tab waits a second for it."""
    for side in (1, 4):
        _averaged(np.zeros((side * 8, side * 8), np.float32), width=8, height=8)


def _averaged(values: npt.NDArray[Any], *, width: int, height: int) -> npt.NDArray[np.float32]:
    """Return an image as the means over the pixels of a screen, by Datashader; what is NaN does not count."""
    means = averaged(values.astype(np.float32), width=width, height=height, downsample_method="mean")
    return means.astype(np.float32, copy=False)
