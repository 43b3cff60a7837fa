"""An image of a dataset: as many pixels as the screen has, finer ones where it is looked at closer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datashader
import numpy as np
import numpy.typing as npt
import panel as pn
import xarray
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

from snakemap.views.displays import color_limits, rgba
from snakemap.views.order import later, on_change
from snakemap.views.page import fitted, resettable
from snakemap.views.theme import Theme
from snakemap.views.theming import counts_formatter, dress, save_tool, tooltip

__all__ = ["ImagePane", "warm_up"]

SETTLE_MS = 200
PIXELS = (640, 480)
"""Columns and rows that are drawn before the browser has told the size of its figure."""

NOTHING = {"image": [np.zeros((1, 1), np.uint8)], "x": [0], "y": [0], "dw": [1], "dh": [1]}
COLORLESS = {**NOTHING, "image": [np.zeros((1, 1), np.uint32)]}


class ImagePane:
    """Draws images with square pixels; row 0 is at the top unless it is flipped.

    Args:
        document: Bokeh's, of the tab.
        theme: the colors of the page.
        on_view: is told rows and columns that came into view, when finer ones than there are could be shown.
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
            on_change(axis, "start", "end", tell=self._on_range)
        picture = pn.pane.Bokeh(self.figure, sizing_mode="stretch_both")
        self.pane = pn.Column(picture, sizing_mode="stretch_both", margin=0, visible=False)
        self.restyle(theme)
        self._values: npt.NDArray[Any] | None = None
        self._origin, self._step, self._shape = (0, 0), 1, (1, 1)
        self._held = False

    def draw(
        self, values: npt.NDArray[Any], *, origin: tuple[int, int], step: int, shape: tuple[int, int], title: str = ""
    ) -> None:
        """Draws an image, or a part of one.

        Args:
            values: (rows, columns), or (rows, columns, 3 or 4) in color.
            origin: its first row and column in the whole image.
            step: of so many rows and columns one was read.
            shape: rows and columns of the whole image.
            title: over it; text, not markup.
        """
        self._values, self._origin, self._step, self._shape = values, origin, step, shape
        self.figure.title.text = title
        self._place()
        self._render(anew=True)

    def restyle(self, theme: Theme) -> None:
        """Wears the colors of a theme."""
        dress(self.figure, theme)
        for bar in self.bars.values():
            bar.update(background_fill_color=None, major_label_text_color=theme.faint)

    def rescale(self, *, limits: str, by_hand: tuple[float, float], log: bool, flipped: bool) -> None:
        """Draws what there is in other colors, or upside down."""
        self.limits, self.by_hand, self.log, self.flipped = limits, by_hand, log, flipped
        if self._values is not None:
            self._place()
            self._render(anew=True)

    def name_axes(self, column: str, row: str) -> None:
        """Says what goes along the axes."""
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = column, row

    def _place(self) -> None:
        rows, columns = self._shape
        bottom, top = (0, rows) if self.flipped else (rows, 0)
        place = {"left": 0, "right": columns, "bottom": bottom, "top": top, "dx": 1, "dy": 1}
        place["aspect"] = "fill" if max(rows, columns) > 20 * min(rows, columns) else "true distances"  # pyright: ignore[reportArgumentType]
        if place != self.page.place:
            self.page.place = place
            # the script in the browser has the last word; until then all of it is in view
            self.figure.x_range.update(start=0, end=columns)
            self.figure.y_range.update(start=bottom, end=top)

    def _render(self, *, anew: bool) -> None:
        """Brings pixels to the browser: those of the screen, or those of the image where they are fewer."""
        values = self._values
        if values is None:
            return
        rows, columns, told = self._seen(values)
        y, x = self._origin[0] + rows.start * self._step, self._origin[1] + columns.start * self._step
        box = {"x": [x], "y": [y], "dw": [len(columns) * self._step], "dh": [len(rows) * self._step]}
        colored = values.ndim == 3
        if colored:
            self.color_source.data = {"image": [rgba(told)], **box}
        else:
            if anew:
                low, high = (
                    self.by_hand if self.limits == "by hand" else color_limits(values, self.limits, log=self.log)
                )
                self.mappers[self.log].update(low=low, high=high if high > low else low + 1)
            self.source.data = {"image": [np.ascontiguousarray(told)], **box}
        for log, glyph in self.glyphs.items():
            glyph.visible = self.bars[log].visible = not colored and log == self.log
        self.colors.visible = colored

    def _seen(self, values: npt.NDArray[Any]) -> tuple[range, range, npt.NDArray[Any]]:
        """The part that is on the screen, averaged over what falls on one of its pixels."""
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
        """Columns and rows of the figure on the screen."""
        width, height = self.figure.inner_width or PIXELS[0], self.figure.inner_height or PIXELS[1]
        return max(32, min(4000, int(width))), max(32, min(4000, int(height)))

    def _in_view(self, shape: tuple[int, ...]) -> tuple[range, range]:
        sides: list[range] = []
        axes = (self.figure.y_range, self.figure.x_range)
        for axis, origin, size in zip(axes, self._origin, shape, strict=False):
            low, high = sorted((float(axis.start), float(axis.end)))
            start = int(np.clip((low - origin) // self._step, 0, size - 1))
            sides.append(range(start, int(np.clip(-((origin - high) // self._step), start + 1, size))))
        return sides[0], sides[1]

    def _on_range(self, attribute: str, old: Any, new: Any) -> None:
        if not self._held and self._values is not None:
            self._held = True
            later(self.document, self._look_closer, SETTLE_MS)

    def _look_closer(self) -> None:
        self._held = False
        if self._values is None or not self.pane.visible:
            return
        x, y = self.figure.x_range, self.figure.y_range
        (left, right), (low, high) = sorted((x.start, x.end)), sorted((y.start, y.end))
        self._render(anew=False)
        self.on_view((low, high, left, right))

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
        hover = HoverTool(
            tooltips=tooltip([("column", "$x{0,0}"), ("row", "$y{0,0}"), ("value", "@image{0,0.[0000]}")]),
            renderers=list(self.glyphs.values()),
        )
        plot.add_tools(hover)
        self.bars = {log: ColorBar(color_mapper=mapper, width=9, padding=4) for log, mapper in self.mappers.items()}
        for bar in self.bars.values():
            bar.formatter = counts_formatter()
            plot.add_layout(bar, "right")
        return plot


def warm_up() -> None:
    """Has Datashader compile what it needs, which takes a second that no tab should wait for."""
    for side in (1, 4):
        _averaged(np.zeros((side * 8, side * 8), np.float32), width=8, height=8)


def _averaged(values: npt.NDArray[Any], *, width: int, height: int) -> npt.NDArray[np.float32]:
    """An image as the means over the pixels of a screen, by Datashader; what is NaN does not count."""
    rows, columns = values.shape
    canvas = datashader.Canvas(plot_width=width, plot_height=height, x_range=(0, columns), y_range=(0, rows))
    centers = [("y", np.arange(rows) + 0.5), ("x", np.arange(columns) + 0.5)]
    image = xarray.DataArray(values.astype(np.float32), coords=centers)
    return np.asarray(canvas.raster(image, downsample_method="mean").values, np.float32)
