"""The maps: one figure a channel, all of one source, with common ranges."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.events import DoubleTap, MouseEnter, MouseLeave, MouseMove, Reset, SelectionGeometry, Tap
from bokeh.layouts import gridplot
from bokeh.models import (
    BasicTicker,
    BoxAnnotation,
    BoxSelectTool,
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    Div,
    GlyphRenderer,
    Image,
    Label,
    Line,
    LinearAxis,
    LinearColorMapper,
    LinearScale,
    LogAxis,
    LogColorMapper,
    LogScale,
    LogTicker,
    Node,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    Scatter,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure
from holoviews.streams import Stream

from snakemap.core.raster import Raster
from snakemap.core.run import Run
from snakemap.dashboard.callbacks import on_events
from snakemap.dashboard.client_state import ClientState, script
from snakemap.dashboard.figure_theme import FONT, apply_theme, save_tool, value_formatter
from snakemap.dashboard.panes.map_grid import MapGrid
from snakemap.dashboard.panes.map_plot import MapImage, Shown, map_plot
from snakemap.dashboard.permalink import NUMBER_MAX, rounded
from snakemap.dashboard.pipeline import SMALLEST, Pipeline
from snakemap.dashboard.quantities import takes_prefix, unit_text
from snakemap.dashboard.theme import NO_LOGARITHM, THEMES, Theme, channel_color
from snakemap.dashboard.widgets import stylesheet
from snakemap.holoviews import Changed, Drawing, dimensions
from snakemap.render.export import file_stem
from snakemap.render.palettes import palette
from snakemap.render.stage_path import StagePath

__all__ = ["MapsView", "map_kind"]

CLEAR = "rgba(0, 0, 0, 0)"
GRID = ":host { background-color: var(--sm-panel); }"
"""What is behind the figures, also in the picture that is saved of them."""

BAR_WIDTH, BAR_WIDTH_WITH_UNIT = 56, 71
"""Pixels beside a map for its color bar, whatever its labels are, so that the map keeps its width."""

Y_AXIS, X_AXIS, EDGE = 52, 39, 3
"""Pixels for the labels of an axis, and where a map has none because the one beside or below it has them."""

LINE_EDGE = 24
"""Pixels beside a line, which has no color bar, for one half of the last label of its axis."""

WALL_LETTERS = 2
"""How much larger letters are on a wall."""

WALL_READOUT = ".readout, .idle { font-size: clamp(20px, 1.25vw, 36px); line-height: 1.5; }"

SWIPED = "@media (max-width: 699px) and (pointer: coarse) { :host { pointer-events: none; } }"
"""On a phone, a swipe over the maps scrolls the page."""

NO_TOOLS = "@media (max-width: 699px) and (pointer: coarse) { :host { display: none; } }"

READOUT = 19
"""Pixels of the line under the maps."""

Corners = tuple[float, float, float, float]


class MapsView(pn.viewable.Viewer):
    """The maps of the run that a tab looks at.

    Args:
        pipeline: of the tab.
        channels: names, like ``("red", "green", "blue", "total")``; a run with others needs another view.
        profile: ``"row"`` or ``"column"`` where the maps are one of these and are drawn as lines; else empty.
        on_box: called with ``(left, right, bottom, top)`` in axis units when a box was drawn, or None when cleared.
        on_tap: called with x and y in axis units after a click.
        on_double_tap: called when a second click made it a double click.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        channels: Sequence[str],
        profile: str = "",
        on_box: Callable[[Corners | None], None],
        on_tap: Callable[[float, float], None] = lambda x, y: None,
        on_double_tap: Callable[[], None] = lambda: None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.pipeline = pipeline
        self.channels = tuple(channels)
        self.profile = profile
        self.kind = map_kind(pipeline, channels, profile)
        self._log = pipeline.choices.scale == "log"
        self.page = ClientState()
        self.enlarge(pipeline.choices.enlarged)
        self.theme = THEMES[pipeline.choices.theme]
        self._wall = pipeline.choices.wall
        grown = WALL_LETTERS if self._wall else 1
        self._y_axis, self._x_axis, self._bar_width = (
            round(grown * side) for side in (Y_AXIS, X_AXIS, LINE_EDGE if profile else BAR_WIDTH)
        )
        self._letters = f"{round(grown * 11)}px"
        numbers, blank = range(len(self.channels)), np.full((1, 1), np.nan)
        dimmed = {"dimmed": [np.zeros((1, 1), dtype=np.uint8)]}
        self.cells = ColumnDataSource({**{name: [blank] for name in self.channels}, **dimmed})
        self._elements = [self._element(number, blank, ("", ""), (0, 0, 1, 1)) for number in numbers]
        self.drawing, self.changed = Drawing(), Changed()
        self.elements = [_dynamic(self._elements, number, [self.drawing, self.changed]) for number in numbers]
        self._place: tuple[Any, ...] = ()
        self._values: list[Any] = []
        self._new: dict[int, Any] = {}
        self.plots: list[Any] = []
        self.lines = [ColumnDataSource({"x": [], "y": []}) for _ in channels] if profile else []
        self.value_ranges = [Range1d(start=0, end=1) for _ in self.lines]
        self._lined: list[Any] = []
        self._draw_lines: Any = None
        self.x_range, self.y_range = Range1d(start=0, end=1), Range1d(start=0, end=1)
        self.readout = Div(
            text="&nbsp;", sizing_mode="stretch_width", css_classes=["readout-line"], height=READOUT, margin=0
        )
        self._cross = (Span(dimension="width"), Span(dimension="height"))
        self.units = ("",) * len(self.channels)
        self._formatters: dict[str, Any] = {}
        self._below: list[Any] = []
        self.mappers = [LinearColorMapper(palette=colors, nan_color=CLEAR) for colors in self._palettes()]
        self.dimming = LinearColorMapper(palette=[CLEAR, self.theme.dim], low=0, high=1)
        # what a log scale cannot show is none of its colors: an image over the other colors what is not above zero
        self._no_log = LinearColorMapper(palette=[CLEAR], low=SMALLEST, high=1, high_color=CLEAR, nan_color=CLEAR)
        self.bars = [self._bar(number) for number in range(len(self.channels))]
        handles = BoxAnnotation().handles
        self.boxes = [_box(handles) for _ in channels]
        self.way = {name: ColumnDataSource({"x": [], "y": []}) for name in ("done", "ahead")}
        self.way |= {name: ColumnDataSource({"x": [], "y": [], "angle": []}) for name in ("arrows", "here")}
        self._paths: list[tuple[Any, Any]] = []
        self.point = ColumnDataSource({"x": [], "y": []})
        self._rings = False
        self.edges = [_box(handles, level="underlay") for _ in channels]
        self.images: list[Any] = []
        self.titles = [_title(name, letters=28 if self._wall else 12) for name in self.channels]
        self.figures = [self._figure(number) for number in range(len(self.channels))]
        self.grid = MapGrid(self.figures)
        self._connect(on_box)
        self._connect_taps(on_tap, on_double_tap)
        self.restyle(self.theme)
        self._layout = self._laid_out()

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def draw(self, run: Run) -> None:
        """Draw all cells: for another run, another window, or a difference that is too large."""
        images = self.pipeline.everything()
        picture = self.pipeline.picture
        # numbered, so that a full drawing is sent even if nothing else has changed
        version = self.pipeline.shown.version
        drawing = self.pipeline.counts["everything"]
        labels = picture.raster.fast.label, picture.raster.slow.label
        left, bottom, width, height = frame = self.pipeline.frame()
        self._show(images, labels, frame, drawing=drawing)
        self.cells.data.update({"dimmed": [np.zeros(self.pipeline.window.shape, dtype=np.uint8)]})
        for image in [*self.images, *self._below]:
            image.glyph.update(x=left, y=bottom, dw=width, dh=height)
        spans = self.pipeline.spans()
        self.page.base = {"uid": run.uid, "drawing": drawing, "version": version, "spans": spans}
        self._set_units([unit_text(self.pipeline.source.units.get(name)) for name in self.channels])
        self._set_place(run, picture.raster)
        for tool in self.saves:
            tool.filename = file_stem(run.start)

    def _show(
        self, images: Mapping[str, npt.NDArray[Any]], labels: tuple[str, str], frame: Corners, *, drawing: int
    ) -> None:
        """Have other values drawn; elements are kept that lie where the ones before lay."""
        place = (labels, frame, images[self.channels[0]].shape)
        if place == self._place:
            for name, element in zip(self.channels, self._elements, strict=True):
                element.cells.replace(images[name], self.pipeline.shown.version)
                element.renew()
            Stream.trigger([self.changed])
            return
        self._place = place
        self._elements[:] = [self._element(k, images[name], labels, frame) for k, name in enumerate(self.channels)]
        self.drawing.event(drawing=drawing)

    def update(self, new: dict[str, Any]) -> dict[str, Any]:
        """Have the plots of the maps brought up to date, and return what they send.

        Args:
            new: what has changed, as :meth:`Pipeline.update` has it.
        """
        cells = np.asarray(new["cells"], dtype=np.int64)
        for element in self._elements:
            element.cells.renew(cells, new["to"])
        self._values, self._new = new["values"], {}
        Stream.trigger([self.changed])
        sent = [self._new[number] for number in range(len(self.channels))]
        return {**new, "values": sent}

    def _element(self, number: int, values: npt.NDArray[Any], labels: tuple[str, str], frame: Corners) -> MapImage:
        """Return the element of a channel.

        Args:
            number: of the channel.
            values: the cells of the window.
            labels: of the axes.
            frame: left, bottom, width and height.
        """
        left, bottom, width, height = frame
        *kdims, vdim = dimensions([*labels, self.channels[number]])
        cells = Shown(values, self.pipeline.shown.version)
        bounds = (left, bottom, left + width, bottom + height)
        return MapImage(cells, kdims, vdim, bounds=bounds, sink=partial(self._send, number))

    def _send(self, number: int, version: int, cells: npt.NDArray[np.integer]) -> None:
        """Take what a plot has to send."""
        self._new[number] = self._values[number] if len(cells) else []

    def _set_place(self, run: Run, raster: Raster) -> None:
        """Send the scripts where cells lie; only if it has changed, as a new object means a new place."""
        (bottom, top), (left, right) = raster.extents
        x, y, width, height = self.pipeline.frame()
        rows, columns = self.pipeline.window.shape
        place = {
            **{"left": left, "right": right, "bottom": bottom, "top": top, "aspect": self.pipeline.aspect},
            **{"rows": raster.rows, "columns": raster.columns, "step": self.pipeline.window.step},
            "dx": (right - left) / raster.columns,
            "dy": (top - bottom) / raster.rows,
            "image": {
                "left": x,
                "bottom": y,
                "dx": width / columns,
                "dy": height / rows,
                "rows": rows,
                "columns": columns,
            },
            "fast": {"name": raster.fast.name, "unit": raster.fast.unit, "known": raster.fast.known},
            "slow": {"name": raster.slow.name, "unit": raster.slow.unit, "known": raster.slow.known},
            "fast_falls": raster.fast.decreases,
            "slow_falls": raster.slow.decreases,
            "units": list(self.units),
            "exchanged": self.pipeline.choices.exchanged,
            "indexed": self.pipeline.indexed,
            "uid": run.uid,
            "of": self.pipeline.coordinates,
        }
        if place != self.page.place:
            self.page.place = place
        self.show_grid()
        for edge in self.edges:
            edge.update(left=left, right=right, bottom=bottom, top=top, visible=True)

    def _set_units(self, units: Sequence[str]) -> None:
        """Label the color bars in the units of the channels."""
        if self.units == tuple(units):
            return
        self.units = tuple(units)
        for unit, plot in zip(self.units, self.figures, strict=True):
            if self.profile:
                _value_axis(plot, self.profile).formatter = self._formatter(unit)
                continue
            more = BAR_WIDTH_WITH_UNIT / BAR_WIDTH if takes_prefix(unit) else 1
            plot.min_border_right = round(more * self._bar_width)
        self._renew_bars()

    def _formatter(self, unit: str) -> Any:
        """Return one formatter for all channels of a unit: its script is the longest part of a color bar."""
        return self._formatters.setdefault(unit, value_formatter(unit))

    def set_scale(self, scale: str, limits: Sequence[tuple[float, float]]) -> None:
        """Set a linear or logarithmic scale, with new mappers and the present limits.

        Images and color bars are new, too: Bokeh draws existing ones with their first mapper.
        """
        kind = LogColorMapper if scale == "log" else LinearColorMapper
        self.mappers = [
            kind(palette=colors, low=low, high=high, nan_color=CLEAR)
            for colors, (low, high) in zip(self._palettes(), limits, strict=True)
        ]
        before, self._below = self._below, []
        for number, (mapper, plot) in enumerate(zip(self.mappers, self.figures, strict=True)):
            self.images[2 * number] = self.plots[number].recolor(mapper)
            self.images[2 * number].visible = not self.profile
            over = [one for one in plot.renderers[1:] if one not in before]
            if scale == "log" and not self.profile:
                self._below.append(self._under(number))
            plot.renderers = [self.images[2 * number], *self._below[number:], *over]
        self._renew_bars()
        if self._draw_lines is not None:
            self._draw_lines.args = {**self._draw_lines.args, "mappers": self.mappers}

    def set_colors(self, _: str) -> None:
        """Draw in the palettes that the tab has chosen."""
        for mapper, colors in zip(self.mappers, self._palettes(), strict=True):
            mapper.palette = colors

    def _palettes(self) -> list[list[str]]:
        """Return the palette of each channel."""
        chosen = self.pipeline.choices.colors
        return [palette(name, number, chosen) for number, name in enumerate(self.channels)]

    def _under(self, number: int) -> GlyphRenderer:
        """Return the image of what a log scale cannot show, over the other colors."""
        glyph = self.images[2 * number].glyph.clone(color_mapper=self._no_log)
        return GlyphRenderer(data_source=self.cells, glyph=glyph)

    def _renew_bars(self) -> None:
        """Replace the color bars: a browser ignores a new mapper or formatter of an existing one."""
        for number, plot in enumerate(self.figures):
            self.bars[number] = self._bar(number)
            plot.right = [self.bars[number]]
        self._color_bars()

    def _bar(self, number: int) -> ColorBar:
        """Return the color bar beside a map."""
        mapper = self.mappers[number]
        ticker = LogTicker if isinstance(mapper, LogColorMapper) else BasicTicker
        return ColorBar(
            color_mapper=mapper,
            visible=not self.profile,
            ticker=ticker(desired_num_ticks=4),
            formatter=self._formatter(self.units[number]),
            width=18 if self._wall else 9,
            padding=4,
            label_standoff=5,
            major_label_text_font_size=self._letters,
        )

    def _color_bars(self) -> None:
        for bar in self.bars:
            bar.update(
                background_fill_color=None,
                major_label_text_color=self.theme.faint,
                major_tick_line_color=self.theme.faint,
            )

    def note(self, text: str, *, of: str = "") -> None:
        """Set the note under the maps, which is shown while the pointer is elsewhere.

        Args:
            text: all of it.
            of: the part that is no warning.
        """
        words, warns = html.escape(text), text != of
        kind, mark = ("idle warn", "⚠ ") if warns else ("idle", "")
        idle = f'<div class="{kind}" title="{words}">{mark}{words}</div>' if text else ""
        if self.page.idle != idle:
            self.page.idle = idle

    def name_channels(self, words: Mapping[str, str]) -> None:
        """Set the titles of the maps: the name of the channel, and a remark."""
        for name, label in zip(self.channels, self.titles, strict=True):
            title = f"{name}  {words[name]}" if words.get(name) else name
            if label.text != title:
                label.text = title

    def show_stage_path(self, path: StagePath | None) -> None:
        """Draw the path of the stage over the maps, or remove it."""
        if path is None:
            self.page.stage_path = None
        else:
            if not self._paths:
                self._paths = [self._way_over(plot) for plot in self.figures]
                self._color_paths()
            corners = {"xs": path.xs.tolist(), "ys": path.ys.tolist(), "ns": path.seq_nums.tolist()}
            self.page.stage_path = {**corners, "arrows": path.arrows}

    def show_point(self, place: tuple[float, float] | None) -> None:
        """Draw a ring around a point on every map, or remove it.

        Args:
            place: x and y in the units of the axes.
        """
        if place is not None and not self._rings:
            self._rings = True
            for plot in self.figures:
                for color, width in (("black", 4), ("white", 2)):  # seen on dark and bright pixels
                    ring: dict[str, Any] = {"fill_color": None, "line_color": color, "line_width": width}
                    plot.add_glyph(self.point, Scatter(marker="circle", size=15, **ring))
        data = {"x": [], "y": []} if place is None else {"x": [place[0]], "y": [place[1]]}
        if data != self.point.data:
            self.point.data = data

    def show_grid(self) -> None:
        """Show or hide grid lines and scale bars, as the tab has chosen."""
        place = self.page.place or {}
        unit = place["fast"]["unit"] if place and place["fast"]["known"] else ""
        chosen = self.pipeline.choices.grid
        self.grid.show(visible=chosen, unit=unit, theme=self.theme, letters=self._letters)

    def show_box(self, corners: Corners | None) -> None:
        """Draw the box whose histogram is shown on every map, or remove it."""
        for box in self.boxes:
            if corners is None:
                box.visible = False
            else:
                left, right, bottom, top = corners
                box.update(left=left, right=right, bottom=bottom, top=top, visible=True)

    @property
    def box(self) -> Corners | None:
        """The box that is drawn on every map: left, right, bottom and top in the units of the axes."""
        box: Any = self.boxes[0]
        return (box.left, box.right, box.bottom, box.top) if box.visible else None

    def enlarge(self, channel: str) -> None:
        """Enlarge the map of a channel to the whole area; any other name shows all maps."""
        self.page.enlarged = channel if channel in self.channels else ""

    @property
    def seen(self) -> Any:
        """A figure that is on the screen: the one that is enlarged, or the first."""
        enlarged = self.page.enlarged
        return self.figures[self.channels.index(enlarged) if enlarged in self.channels else 0]

    @property
    def zoom(self) -> Corners | None:
        """The part of the maps that is in view, as the browser sends it; None for all of it."""
        zoom, place = self.page.zoom, self.page.place
        if not isinstance(zoom, dict) or not place or zoom.get("of") != place["of"]:
            return None
        ranges = zoom.get("ranges")
        if not isinstance(ranges, list) or len(ranges) != 4:
            return None
        if not all(isinstance(end, int | float) and abs(end) <= NUMBER_MAX for end in ranges):
            return None
        return (*rounded(*ranges[:2]), *rounded(*ranges[2:]))

    def show_zoom(self, corners: Corners | None) -> None:
        """Zoom to a part of the maps, or show all of them, once their place is known."""
        if self.page.place:
            of = self.page.place["of"]
            self.page.zoom = None if corners is None else {"of": of, "ranges": list(corners)}

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        self.dimming.palette = [CLEAR, theme.dim]
        self._no_log.low_color = NO_LOGARITHM[theme.name]
        for number, plot in enumerate(self.figures):
            color = channel_color(self.channels[number], theme, channels=self.channels)
            apply_theme(plot, theme)
            for axis in plot.axis:
                axis.update(major_label_text_font_size=self._letters, axis_label_text_font_size=self._letters)
            plot.background_fill_color = theme.panel
            self.titles[number].update(text_color=color, background_fill_color=theme.panel)
            plot.outline_line_color = color
            self.edges[number].update(fill_color=theme.plot, fill_alpha=1.0, line_color=theme.line, line_width=1)
            for line in self._lined[2 * number : 2 * number + 2]:
                line.update(line_color=color)
            if self.profile:
                self._lined[2 * number + 1].fill_color = color
            self.boxes[number].update(line_color=theme.accent, fill_color=None, line_width=2, line_dash="dashed")
        self.show_grid()
        self._color_bars()
        for span in self._cross:
            span.update(line_color=theme.text, line_alpha=0.5)
        self._color_paths()

    def _color_paths(self) -> None:
        for ahead, here in self._paths:
            ahead.glyph.line_color = self.theme.faint
            here.glyph.fill_color = self.theme.accent

    def _figure(self, number: int) -> Any:
        name = self.channels[number]
        plot = figure(
            x_range=self.x_range,
            y_range=self.y_range,
            tools=[],
            sizing_mode="stretch_both",
            min_height=120,
            min_width=160,
            min_border_left=self._y_axis if self._has_y_axis(number) else EDGE,
            min_border_bottom=self._x_axis if self._has_x_axis(number) else EDGE,
            min_border_top=EDGE,
            min_border_right=self._bar_width,
            toolbar_location=None,
            name=f"map-{name}",
            lod_threshold=None,
        )
        for axis in plot.axis:
            axis.update(major_tick_out=4, minor_tick_out=0)
        plot.yaxis.visible, plot.xaxis.visible = self._has_y_axis(number), self._has_x_axis(number)
        self.plots.append(map_plot(self.elements[number], figure=plot, source=self.cells, mapper=self.mappers[number]))
        if self.profile:  # below the mask, which dims what is not brushed
            self._add_line(plot, number)
        mask = Image(image="dimmed", color_mapper=self.dimming, x=0, y=0, dw=1, dh=1)
        self.images += [self.plots[number].handles["glyph_renderer"], plot.add_glyph(self.cells, mask)]
        self.images[2 * number].visible = not self.profile
        plot.add_layout(self.bars[number], "right")
        plot.add_layout(self.edges[number])
        plot.add_layout(self.boxes[number])
        plot.add_layout(self.titles[number])
        if not self._wall:
            self._add_tools(plot)
        return plot

    def _add_line(self, plot: Any, number: int) -> None:
        """Add the values of a map of one row or column as a line, with an axis of their own."""
        scale, axis = (LogScale(), LogAxis) if self._log else (LinearScale(), LinearAxis)
        made = axis(**{f"{'y' if self.profile == 'row' else 'x'}_range_name": "values"}, formatter=self._formatter(""))
        if self.profile == "row":
            plot.update(extra_y_ranges={"values": self.value_ranges[number]}, extra_y_scales={"values": scale})
            plot.left = [made]
            on = {"y_range_name": "values"}
        else:
            plot.update(extra_x_ranges={"values": self.value_ranges[number]}, extra_x_scales={"values": scale})
            plot.below = [made]
            on = {"x_range_name": "values"}
        made.ticker.desired_num_ticks = 4
        self._lined += [
            plot.add_glyph(self.lines[number], Line(line_width=2), **on).glyph,
            plot.add_glyph(self.lines[number], Scatter(size=4), **on).glyph,
        ]

    def _way_over(self, plot: Any) -> tuple[Any, Any]:
        """Add the path of the stage to a map, made when it is first shown; it is visible on dark and bright pixels."""
        ahead = plot.add_glyph(self.way["ahead"], Line(line_width=1, line_dash="dotted", line_alpha=0.9))
        for color, width, alpha in (("black", 2.5, 0.4), ("white", 1, 0.65)):
            plot.add_glyph(self.way["done"], Line(line_color=color, line_width=width, line_alpha=alpha))
        arrow: dict[str, Any] = {"fill_color": "white", "line_color": "black", "line_alpha": 0.6}
        plot.add_glyph(self.way["arrows"], Scatter(angle="angle", marker="triangle", size=8, **arrow))
        dot = Scatter(angle="angle", marker="circle", size=10, line_width=2, line_color="white")
        return ahead, plot.add_glyph(self.way["here"], dot)

    def _add_tools(self, plot: Any) -> None:
        along: Any = {"row": "width", "column": "height"}.get(self.profile, "both")
        wheel, pan = WheelZoomTool(zoom_on_axis=False, dimensions=along), PanTool(dimensions=along)
        box = BoxSelectTool(renderers=[], description="Histogram of a box")
        zoom = BoxZoomTool(match_aspect=not self.profile, dimensions=along)
        cross = CrosshairTool(overlay=self._cross)
        plot.add_tools(pan, wheel, box, zoom, cross, ResetTool(), save_tool("maps"))
        plot.toolbar.active_scroll = wheel
        plot.toolbar.active_drag = pan

    def _connect(self, on_box: Callable[[Corners | None], None]) -> None:
        names = list(self.channels)
        readout = script(
            "readout", page=self.page, cells=self.cells, readout=self.readout, names=names, point=self.point
        )
        ranges: dict[str, Any] = {"x_range": self.x_range, "y_range": self.y_range}
        self.fit = fit = script("fit", page=self.page, figure=self.figures[0], **ranges)
        for name, plot in zip(self.channels, self.figures, strict=True):
            enlarge = script("enlarge", page=self.page, channel=name, figure=plot, **ranges)
            for event in (DoubleTap, MouseEnter, MouseLeave):
                plot.js_on_event(event, enlarge)
            plot.js_on_event(MouseMove, readout)
            plot.js_on_event(MouseLeave, readout)
            on_events(plot, SelectionGeometry, callback=lambda event: _drawn(event, on_box))
            on_events(plot, Reset, callback=lambda _: on_box(None))
            for side in ("inner_width", "inner_height"):
                plot.js_on_change(side, fit)
        for name in ("place", "zoom"):
            self.page.js_on_change(name, fit)
        zoom = script("zoom", page=self.page, **ranges)
        for axis in (self.x_range, self.y_range):
            for name in ("start", "end"):
                axis.js_on_change(name, zoom)
        if self.profile:
            parts = {"page": self.page, "cells": self.cells, "mappers": self.mappers, "names": names}
            parts |= {"sources": self.lines, "ranges": self.value_ranges, "along": self.profile, "log": self._log}
            self._draw_lines = script("profile", **parts)
            self.cells.js_on_change("change", self._draw_lines)
            self.page.js_on_change("place", self._draw_lines)
        self.page.js_on_change("idle", readout)
        self.stage_script = script("stage_path", page=self.page, figure=self.figures[0], **self.way)
        self.page.js_on_change("stage_path", self.stage_script)

    def _connect_taps(self, on_tap: Callable[[float, float], None], on_double_tap: Callable[[], None]) -> None:
        walk = script("walk", page=self.page)
        for plot in self.figures:
            on_events(plot, Tap, callback=lambda event: _tapped(event, on_tap))
            on_events(plot, DoubleTap, callback=lambda _: on_double_tap())
            plot.js_on_event(MouseEnter, walk)
            plot.js_on_event(MouseLeave, walk)

    @property
    def _columns(self) -> int:
        return {1: 1}.get(len(self.channels), 2 if len(self.channels) <= 4 else 3)

    def _has_y_axis(self, number: int) -> bool:
        return number % self._columns == 0 or self.profile == "row"

    def _has_x_axis(self, number: int) -> bool:
        return number + self._columns >= len(self.channels) or self.profile == "column"

    def _laid_out(self) -> pn.viewable.Viewable:
        columns = self._columns
        grid = gridplot(
            self.figures,  # pyright: ignore[reportArgumentType]
            ncols=columns,
            sizing_mode="stretch_both",
            toolbar_location=None if self._wall else "right",
            toolbar_options={"logo": None, "autohide": False},
        )
        # maps are as large as each other: those with labels beside or below them get that much more
        rows = -(-len(self.figures) // columns)
        beside = 0 if self.profile == "row" else self._y_axis - EDGE
        below = 0 if self.profile == "column" else self._x_axis - EDGE
        grid.cols = [_share(columns, beside, first=number == 0) for number in range(columns)]
        grid.rows = [_share(rows, below, first=number == rows - 1) for number in range(rows)]
        grid.stylesheets = [GRID]
        sizes = {"y_axis": self._y_axis, "x_axis": self._x_axis, "edge": EDGE, "along": self.profile}
        sizes["bar"] = self._bar_width
        sizes["wall"] = self._wall
        sizes["tools"] = 0 if self._wall else 30
        parts = {"grid": grid, "figures": self.figures, "names": list(self.channels)}
        arrange = script("arrange", page=self.page, sizes=sizes, fit=self.fit, **parts)
        for name in ("place", "enlarged"):
            self.page.js_on_change(name, arrange)
        for plot in self.figures:
            for side in ("inner_width", "inner_height"):
                plot.js_on_change(side, arrange)
        self.saves = [tool for tool in grid.toolbar.tools if isinstance(tool, SaveTool)]
        for tool in self.saves:  # the tool of all maps is one that Bokeh has made
            tool.filename = "snakemap-maps"
        grid.toolbar.stylesheets = [NO_TOOLS]
        box_key = script("box_key", toolbar=grid.toolbar)
        for plot in self.figures:
            for event in (MouseEnter, MouseLeave):
                plot.js_on_event(event, box_key)
        self.readout.stylesheets = [stylesheet("readout"), *([WALL_READOUT] if self._wall else [])]
        if self._wall:
            self.readout.height = READOUT * 3
        return pn.Column(
            pn.pane.Bokeh(
                grid,
                sizing_mode="stretch_both",
                css_classes=["maps"],
                margin=0,
                autodispatch=False,
                stylesheets=[SWIPED],
            ),
            pn.pane.Bokeh(
                self.readout, sizing_mode="stretch_width", height=self.readout.height, margin=(0, 8), autodispatch=False
            ),
            sizing_mode="stretch_both",
            margin=0,
        )


def map_kind(pipeline: Pipeline, channels: Sequence[str], profile: str) -> tuple[Any, ...]:
    """Return what figures are made for: those of another kind are other figures."""
    return tuple(channels), profile, pipeline.choices.scale if profile else ""


def _value_axis(plot: Any, profile: str) -> Any:
    """Return the axis of the values of a map that is drawn as a line."""
    return plot.left[0] if profile == "row" else plot.below[0]


def _dynamic(elements: Sequence[MapImage], number: int, streams: list[Stream]) -> hv.DynamicMap:
    """Return what yields the element of a channel as it is now."""
    return hv.DynamicMap(lambda drawing: elements[number], streams=streams, cache_size=1)


def _title(name: str, *, letters: int) -> Label:
    """Return the name of a map, inside it: above it, each line would cost all maps of a row their height."""
    return Label(
        x=Node.frame.left, y=Node.frame.top, x_offset=5, y_offset=-4, text=name, text_baseline="top",
        text_font=FONT, text_font_size=f"{letters}px", text_font_style="bold",
        background_fill_alpha=0.72, padding=2, border_radius=3,
    )  # fmt: skip


def _share(count: int, labels: int, *, first: bool) -> str:
    """Return the width of a column of maps, or the height of a row, of which one has labels beside its maps."""
    return f"calc((100% - {labels}px) / {count}{f' + {labels}px' if first else ''})"


def _box(handles: Any, **options: Any) -> BoxAnnotation:
    """Return a hidden box; all boxes of a view share their handles, which are hidden."""
    return BoxAnnotation(left=0, right=1, bottom=0, top=1, visible=False, handles=handles, **options)


def _tapped(event: Tap, on_tap: Callable[[float, float], None]) -> None:
    x, y = event.x, event.y
    if isinstance(x, int | float) and isinstance(y, int | float) and max(abs(x), abs(y)) <= NUMBER_MAX:
        on_tap(float(x), float(y))


def _drawn(event: SelectionGeometry, on_box: Callable[[Corners | None], None]) -> None:
    geometry = event.geometry
    if event.final and geometry and geometry["type"] == "rect":
        on_box((*rounded(geometry["x0"], geometry["x1"]), *rounded(geometry["y0"], geometry["y1"])))
