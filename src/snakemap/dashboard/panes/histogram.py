"""The histogram of one channel over its range, and the brush on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import holoviews as hv
import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.events import DoubleTap, Reset, SelectionGeometry
from bokeh.models import (
    BasicTicker,
    BoxAnnotation,
    BoxSelectTool,
    ColumnDataSource,
    CustomJSTicker,
    CustomJSTickFormatter,
    NumeralTickFormatter,
    Range1d,
    ResetTool,
)
from bokeh.plotting import figure
from holoviews.streams import Stream

from snakemap.core.maps import BINS
from snakemap.dashboard.callbacks import on_events
from snakemap.dashboard.client_state import ValueRange
from snakemap.dashboard.figure_theme import apply_theme, save_tool
from snakemap.dashboard.pane import Pane
from snakemap.dashboard.panes.map_plot import BarsImage, Shown, bars_plot
from snakemap.dashboard.quantities import takes_prefix
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.theme import THEMES, Theme, channel_color
from snakemap.dashboard.widgets import script_of
from snakemap.holoviews import Changed

__all__ = ["HistogramView"]

Brush = tuple[float, float]


class HistogramView(Pane):
    """Bars over the range of a channel; what is brushed on them stands out in the maps.

    The axis of the figure always goes from 0 to 1, as brushes and addresses do; its labels are values between the ends
    of the range, or percent of the maximum for counts.

    Args:
        theme: the colors of the page.
        on_brush: called with the brushed range, in shares of the range of the channel, or None when it was cleared.
    """

    script = "histogram_update"

    def __init__(self, *, theme: Theme, on_brush: Callable[[Brush | None], None], **params: Any) -> None:
        super().__init__(**params)
        edges = np.linspace(0, 1, BINS + 1)
        self.channel = "total"
        self.channels: tuple[str, ...] = ()
        self.source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "top": np.zeros(BINS)})
        self.changed = Changed()
        self._cells = Shown(np.zeros(BINS))
        bars = BarsImage(self._cells, "share", "pixels", edges=edges, sink=self._send)
        self.element = hv.DynamicMap(lambda: bars, streams=[self.changed], cache_size=1)
        self._sent: list[int] = []
        self.count_range = Range1d(start=0, end=1.04)
        self.value_range = ValueRange()
        self.brushed = BoxAnnotation(left=0, right=1, visible=False)
        self.figure = self._figure()
        on_events(self.figure, SelectionGeometry, callback=lambda event: _brushed(event, on_brush))
        on_events(self.figure, Reset, DoubleTap, callback=lambda _: on_brush(None))
        self.restyle(theme)
        self.name_it("total", of_box=False)
        self._layout = pn.pane.Bokeh(
            self.figure, sizing_mode="stretch_both", css_classes=["histogram"], autodispatch=False
        )

    @classmethod
    def of(cls, session: SessionContext) -> Self:
        """Return the histogram of a session."""
        choices = session.choices
        made = cls(theme=THEMES[choices.theme], on_brush=session.show_brush)

        def name_it(*_: Any) -> None:
            made.name_it(choices.channel, of_box=choices.box is not None, channels=session.channels)

        choices.param.watch(name_it, ["channel", "box"])
        session.on_channels(name_it)
        return made

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def script_arguments(self) -> dict[str, Any]:
        """Return the models that receive bars and their range."""
        return {"bars": self.source, "count_range": self.count_range, "value_range": self.value_range}

    def update(self, session: SessionContext) -> None:
        """Send bars and range of the chosen channel, which change while data grow."""
        pipeline = session.pipeline
        if self.is_new("unit", (pipeline.unit, pipeline.in_shares)):
            self.show_unit(pipeline.unit, in_shares=pipeline.in_shares)
        low, high = pipeline.span
        if low == low and self.is_new("range", (low, high)):
            session.news["range"] = low, high
        bars = pipeline.histogram()
        if self.is_new("bars", bars):
            session.news["bars"] = self.draw(bars)

    def draw(self, bars: npt.NDArray[np.integer]) -> list[int]:
        """Have the plot brought up to date, and return what it sends: the points of all bars."""
        self._cells.values[:] = bars
        self._cells.renew(np.arange(BINS), self._cells.version + 1)
        Stream.trigger([self.changed])
        return self._sent

    def _send(self, version: int, cells: npt.NDArray[np.integer]) -> None:
        """Take what the plot has to send."""
        self._sent = self._cells.values[cells].astype(np.int64).tolist()

    def name_it(self, channel: str, *, of_box: bool, channels: Sequence[str] = ()) -> None:
        """Name the channel of the histogram, one of all channels."""
        self.channel, self.channels = channel, tuple(channels) or self.channels
        self.figure.title.text = f"{channel}{', pixels in the box' if of_box else ', all pixels'}"
        self._label()
        self._color()

    def show_unit(self, unit: str, *, in_shares: bool) -> None:
        """Label the axis with values in a unit, or with shares of the maximum."""
        self.value_range.update(unit=unit, in_shares=in_shares)
        self._label()

    def _label(self) -> None:
        unit = self.value_range.unit
        title = f"{self.channel} ({unit})" if unit and not takes_prefix(unit) else self.channel
        self.figure.xaxis.axis_label = f"{self.channel}, % of current maximum" if self.value_range.in_shares else title

    def show_brush(self, brush: Brush | None) -> None:
        """Mark the brushed range, or remove the mark."""
        if brush is None:
            self.brushed.visible = False
        else:
            self.brushed.update(left=brush[0], right=brush[1], visible=True)

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        apply_theme(self.figure, theme)
        self.figure.ygrid.grid_line_color = theme.line
        self.figure.background_fill_color = theme.panel
        self.brushed.update(
            fill_color=theme.accent, fill_alpha=0.22, line_color=theme.accent, line_alpha=0.9, line_width=1
        )
        self._color()

    def _color(self) -> None:
        self.bars.glyph.fill_color = channel_color(self.channel, self.theme, channels=self.channels)

    def _figure(self) -> Any:
        plot = figure(
            x_range=Range1d(start=0, end=1.0),
            y_range=self.count_range,
            tools=[],
            title=" ",
            sizing_mode="stretch_both",
            min_height=120,
            min_width=160,
            min_border_left=56,
            toolbar_location=None,
            name="histogram",
        )
        box = BoxSelectTool(dimensions="width", renderers=[], description="Brush a range")
        plot.add_tools(box, ResetTool(), save_tool("histogram"))
        plot.toolbar.active_drag = box
        self.plot = bars_plot(self.element, figure=plot, source=self.source)
        self.bars = self.plot.handles["glyph_renderer"]
        plot.add_layout(self.brushed)
        plot.yaxis.axis_label = "pixels"
        plot.yaxis.ticker = BasicTicker(min_interval=1)  # there are no half pixels
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
        plot.xaxis.ticker = CustomJSTicker(major_code=script_of("range_ticks"), args={"range": self.value_range})
        code = script_of("quantity", "range_labels")
        plot.xaxis.formatter = CustomJSTickFormatter(code=code, args={"range": self.value_range})
        return plot


def _brushed(event: SelectionGeometry, on_brush: Callable[[Brush | None], None]) -> None:
    if not event.final or not event.geometry or event.geometry["type"] != "rect":
        return
    low, high = sorted((float(event.geometry["x0"]), float(event.geometry["x1"])))
    low, high = round(max(low, 0.0), 4), round(min(high, 1.0), 4)  # finer than the screen, and short in an address
    # a click, or a brush beside the bars, means: no brush
    on_brush((low, high) if high - low > 1 / BINS / 4 else None)
