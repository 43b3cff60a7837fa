"""A line of a dataset, over its axis and with its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.document import Document
from bokeh.events import DoubleTap, Reset
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    HoverTool,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from snakemap.dashboard.callbacks import later, on_change, on_events
from snakemap.dashboard.client_state import inner_size, resettable
from snakemap.dashboard.figure_theme import apply_theme, save_tool, tooltip, value_hover
from snakemap.dashboard.theme import Theme
from snakemap.render.axis_edges import stepped
from snakemap.render.dataset_display import envelope

__all__ = ["LinePane"]

SETTLE_MS = 150
MARKED_MAX = 200
"""Points of a line that are marked one by one."""

Numbers = npt.NDArray[np.float64]
EMPTY: dict[str, Any] = {"x": [], "y": []}


class LinePane:
    """Draws one line, of which the browser has no more points than it has pixels.

    Args:
        document: Bokeh's, of the tab.
        theme: the colors of the page.
    """

    def __init__(self, *, document: Document, theme: Theme) -> None:
        self.document = document
        self.theme = theme
        self.source, self.marks = ColumnDataSource(EMPTY), ColumnDataSource(EMPTY)
        self.band = ColumnDataSource({"x": [], "low": [], "high": []})
        self.hovers: dict[bool, HoverTool] = {}
        self.figures = {log: self._figure(log=log) for log in (False, True)}
        self.picture = pn.pane.Bokeh(self.figures[False], sizing_mode="stretch_both")
        self.pane = pn.Column(self.picture, sizing_mode="stretch_both", margin=0, visible=False)
        self.restyle(theme)
        self._points: tuple[Numbers, Numbers] | None = None
        self._units = ("", "")
        self._x: Numbers = np.zeros(0)
        self._y: Numbers = np.zeros(0)
        self._errors: Numbers | None = None
        self._shown: object = None
        self._held = False

    def draw(
        self, x: Numbers, y: Numbers, *, errors: Numbers | None, titles: tuple[str, str, str], key: object,
        units: tuple[str, str] = ("", ""),
    ) -> None:  # fmt: skip
        """Draw a line.

        Args:
            x: (points,) along the axis, drawn in rising order; or (points + 1,), the edges of bins.
            y: (points,).
            errors: (points,), or None.
            titles: over it, of the axis, of the values; text, not markup.
            key: what it is of: the zoom stays while that stays.
            units: of the axis, and of the values.
        """
        centers, values = x, y
        if len(x) == len(y) + 1:
            if x[0] > x[-1]:
                x, y, errors = x[::-1], y[::-1], None if errors is None else errors[::-1]
            centers, values = (x[1:] + x[:-1]) / 2, y
            errors = None if errors is None else np.repeat(errors, 2)
            x, y = stepped(x, y)
        elif len(x) and np.any(np.diff(x) < 0):
            order = np.argsort(x, kind="stable")
            x, y, errors = x[order], y[order], None if errors is None else errors[order]
            centers, values = x, y
        self._x, self._y, self._errors = x, y, errors
        self._points = (centers, values) if len(centers) <= MARKED_MAX else None
        self._point_at(units)
        for plot in self.figures.values():
            plot.title.text, plot.xaxis.axis_label, plot.yaxis.axis_label = titles
        if key != self._shown:
            self._shown = key
            self._whole()
        self._render()

    def _point_at(self, units: tuple[str, str]) -> None:
        """Set what the pointer shows: marked points, else the line, with units."""
        for plot, hover in zip(self.figures.values(), self.hovers.values(), strict=True):
            line, marks, _ = plot.renderers
            hover.renderers = [line if self._points is None else marks]
            if units != self._units:
                hover.formatters = {"@x": value_hover(units[0]), "@y": value_hover(units[1])}
        self._units = units

    def set_log(self, log: bool) -> None:
        """Draw the values on a logarithmic axis, or on a linear one."""
        if self.picture.object is not self.figures[log]:
            self.picture.object = self.figures[log]
            self._whole()

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        for plot in self.figures.values():
            apply_theme(plot, theme)
            plot.grid.grid_line_color = theme.line
            plot.background_fill_color = theme.panel
            line, marks, band = plot.renderers
            line.glyph.line_color = marks.glyph.fill_color = marks.glyph.line_color = theme.accent
            band.glyph.update(fill_color=theme.accent, fill_alpha=0.22)

    def _whole(self) -> None:
        """Show all of the line."""
        x, y = self._x[np.isfinite(self._x)], self._y[np.isfinite(self._y)]
        edges = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
        wide = (edges[1] - edges[0]) or 1.0
        for log, plot in self.figures.items():
            seen = y[y > 0] if log else y
            low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.1, 1.0)
            if log:
                low, high = low / 1.3, high * 1.3
            else:
                margin = 0.05 * ((high - low) or abs(high) or 1.0)
                low, high = low - margin, high + margin
            plot.x_range.update(start=edges[0] - 0.02 * wide, end=edges[1] + 0.02 * wide)
            plot.y_range.update(start=low, end=high)

    def _render(self) -> None:
        plot = self.figures[self.picture.object is self.figures[True]]
        bins = max(100, min(4000, inner_size(plot, (800, 480))[0]))
        view = {"start": float(plot.x_range.start), "stop": float(plot.x_range.end), "bins": bins}
        x, y = envelope(self._x, self._y, **view)
        self.source.data = {"x": x, "y": y}
        self.marks.data = EMPTY if self._points is None else dict(zip("xy", self._points, strict=True))
        if self._errors is None:
            self.band.data = {"x": [], "low": [], "high": []}
        else:
            low = envelope(self._x, self._y - self._errors, **view)
            high = envelope(self._x, self._y + self._errors, **view)
            self.band.data = {"x": low[0], "low": low[1], "high": high[1]}

    def _on_range(self, attribute: str, old: Any, new: Any) -> None:
        if not self._held and len(self._x) > MARKED_MAX:
            self._held = True
            later(self.document, self._look_closer, SETTLE_MS)

    def _look_closer(self) -> None:
        self._held = False
        self._render()

    def _on_reset(self, _: Any) -> None:
        self._whole()
        self._render()

    def _figure(self, *, log: bool) -> Any:
        plot = figure(
            title="", x_range=Range1d(start=0, end=1), y_range=Range1d(start=0.1, end=1), tools=[],
            y_axis_type="log" if log else "linear", sizing_mode="stretch_both", min_height=160, min_width=200,
            min_border_left=60, min_border_right=16, toolbar_location=None, name="dataset line",
        )  # fmt: skip
        wheel = WheelZoomTool(dimensions="width")
        plot.add_tools(PanTool(), wheel, ResetTool(), save_tool("line"))
        plot.toolbar.active_scroll = wheel
        resettable(plot)
        plot.xaxis.formatter = BasicTickFormatter(power_limit_high=7)  # energies in eV stay whole
        line = plot.line("x", "y", source=self.source, line_width=1.5)
        plot.scatter("x", "y", source=self.marks, size=4)
        plot.varea("x", "low", "high", source=self.band)
        self.hovers[log] = HoverTool(
            tooltips=tooltip([("at", "@x{custom}"), ("value", "@y{custom}")]),
            formatters={"@x": value_hover(), "@y": value_hover()},
            renderers=[line],
        )
        plot.add_tools(self.hovers[log])
        on_events(plot, Reset, DoubleTap, callback=self._on_reset)
        on_change(plot.x_range, "start", "end", callback=self._on_range)
        return plot
