"""Two runs side by side, with linked zoom and the same colors, and below them their difference and their ratio."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import panel as pn
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
from bokeh.plotting import figure
from panel.io.state import set_curdoc

from snakemap.core.channels import DEFAULT_CHANNELS, TOTAL
from snakemap.core.run import Run
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.callbacks import on_click, soon
from snakemap.dashboard.client_state import fitted, resettable
from snakemap.dashboard.figure_theme import apply_theme, tooltip, value_formatter, value_hover
from snakemap.dashboard.panes.dataset import complain
from snakemap.dashboard.panes.picture_plot import Picture, picture
from snakemap.dashboard.proportions import drawn_aspect
from snakemap.dashboard.quantities import unit_text
from snakemap.dashboard.session import Session
from snakemap.dashboard.theme import THEMES, Theme
from snakemap.dashboard.widgets import stylesheet
from snakemap.errors import SnakemapError
from snakemap.render.comparison import Comparison, compare_maps
from snakemap.render.palettes import DIVERGING, palette

__all__ = ["CompareView"]

PARTS = ("first", "second", "difference", "ratio")
RATIO_MAX = 100.0
NO_IMAGE: dict[str, list[Any]] = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
CLEAR = "rgba(0, 0, 0, 0)"
NARROW = ":host { min-width: 0 !important; }"


class CompareView(pn.viewable.Viewer):
    """Two runs.

    Args:
        tab: whose it is.
        on_back: called when the user wants to see the maps again.
        on_channel: called when another channel is compared.
    """

    def __init__(
        self,
        tab: Session,
        *,
        on_back: Callable[[], None],
        on_channel: Callable[[], None] = lambda: None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.tab = tab
        self.background = BackgroundTasks(tab.document)
        self.runs: tuple[Run, Run] | None = None
        self._shown: tuple[Any, ...] = ()
        css: dict[str, Any] = {"stylesheets": [stylesheet("widgets")], "margin": 0}
        back = pn.widgets.Button(label="‹ Maps", width=70, **css)
        on_click(back, tab.document, on_back)
        self.channel = pn.widgets.RadioButtonGroup(options=list(DEFAULT_CHANNELS), value=TOTAL, **css)
        self.channel.param.watch(lambda _: self.draw(), "value")
        self.channel.param.watch(lambda _: on_channel(), "value")
        self.note = pn.pane.HTML("", sizing_mode="stretch_width", styles={"color": "var(--sm-faint)"}, margin=(6, 8))
        self.sources = {part: ColumnDataSource(NO_IMAGE) for part in PARTS}
        self.pictures: dict[str, Picture] = {}
        self.mappers = {
            "first": LinearColorMapper(palette=palette(TOTAL), nan_color=CLEAR),
            "second": LinearColorMapper(palette=palette(TOTAL), nan_color=CLEAR),
            "difference": LinearColorMapper(palette=DIVERGING, nan_color=CLEAR),
            # a logarithmic mapper without limits complains of values that are not there yet
            "ratio": LogColorMapper(palette=DIVERGING, low=0.5, high=2, nan_color=CLEAR),
        }
        self.x_range, self.y_range = Range1d(start=0, end=1), Range1d(start=0, end=1)
        self._units: dict[str, str] = {}
        self.figures = {part: self._figure(part) for part in PARTS}
        self.page = fitted(self.figures["first"])
        self.restyle(THEMES[tab.choices.theme])
        panes = [pn.pane.Bokeh(self.figures[part], sizing_mode="stretch_both", autodispatch=False) for part in PARTS]
        half: dict[str, Any] = {"sizing_mode": "stretch_both", "margin": 0, "stylesheets": [NARROW]}
        self._layout = pn.Column(
            pn.Row(
                back, self.channel, self.note, sizing_mode="stretch_width", height=30, margin=0, stylesheets=[NARROW]
            ),
            pn.Row(*panes[:2], **half),
            pn.Row(*panes[2:], **half),
            **half,
        )
        tab.choices.param.watch(lambda event: self.restyle(THEMES[event.new]), "theme")
        tab.on_status(lambda _: self.draw())
        tab.on_close(self.close)

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def compare(
        self,
        first: str,
        second: str,
        *,
        channel: str = "",
        then: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Show two runs.

        Args:
            first: uid of the one.
            second: uid of the other.
            channel: that is compared; empty for the last one.
            then: called when they are there.
            failed: called when they cannot be shown, after a notification.
        """

        async def open_both() -> tuple[Run, Run]:
            one = await self.tab.live.open(first)
            try:
                return one, await self.tab.live.open(second)
            except BaseException:
                self.tab.live.release(first)
                raise

        def show(runs: tuple[Run, Run]) -> None:
            self.end_comparison()
            self.runs, self._shown = runs, ()
            channels = [name for name in runs[0].maps.channels if name in runs[1].maps.channels]
            if channels and channels != self.channel.options:
                self.channel.param.update(options=channels, value=channels[0])
                self.channel.value = channels[-1]  # the buttons need both, and only a change notifies
            if channel in channels:
                self.channel.value = channel
            then()
            # the browser must have the figures before their content
            soon(self.tab.document, self._draw_first)

        def refuse(error: SnakemapError) -> None:
            complain(error)
            failed()

        self.background.run("compare", open_both, show, failed=refuse, unused=self._release)

    def end_comparison(self) -> None:
        """End the comparison."""
        runs, self.runs = self.runs, None
        self._release(runs or ())

    def _release(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self.tab.live.release(run.uid)

    def close(self) -> None:
        """Release all resources."""
        self.background.close()
        self.end_comparison()

    def _draw_first(self) -> None:
        with set_curdoc(self.tab.document):
            self.draw()

    def draw(self) -> None:
        """Draw the runs if they have changed."""
        if self.runs is None:
            return
        first, second = self.runs
        shown = (first.uid, second.uid, first.version, second.version, self.channel.value)
        if shown == self._shown:
            return
        self._shown = shown
        names = {
            "first": f"A: {_name(first)}",
            "second": f"B: {_name(second)}",
            "difference": "B − A",
            "ratio": "B / A",
        }
        for part, plot in zip(PARTS, self.figures.values(), strict=True):
            plot.title.text = names[part]
        try:
            compared = compare_maps(first.maps, second.maps, self.channel.value)
        except SnakemapError as error:
            self.note.object = f"⚠ {html.escape(str(error))}"
            for source in self.sources.values():
                source.data = dict(NO_IMAGE)
            return
        units = [unit_text(run.main.units.get(self.channel.value)) for run in (first, second)]
        self.note.object = html.escape("; ".join(filter(None, (compared.note, _unlike(*units)))))
        self._place(compared, aspect=drawn_aspect(self.tab.choices.aspect, first.maps.raster))
        self._color(compared)
        for part in PARTS:
            (bottom, top), (left, right) = compared.extents
            image = _short(getattr(compared, part))
            box = left, bottom, right - left, top - bottom
            self.pictures[part].show(picture(image, box, (*compared.labels[::-1], part)))
        for part, plot, unit in zip(PARTS, self.figures.values(), (*units, _common(*units), ""), strict=True):
            self._set_unit(part, plot, unit)
            plot.title.text = f"{names[part]} ({unit})" if unit else names[part]
            plot.yaxis.axis_label, plot.xaxis.axis_label = compared.labels

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        for plot in self.figures.values():
            apply_theme(plot, theme)
            for bar in plot.right:
                bar.update(background_fill_color=None, major_label_text_color=theme.faint)

    def _place(self, comparison: Comparison, *, aspect: str) -> None:
        (bottom, top), (left, right) = comparison.extents
        rows, columns = comparison.first.shape
        place = {
            **{"left": left, "right": right, "bottom": bottom, "top": top, "rows": rows, "columns": columns},
            **{"dx": (right - left) / columns, "dy": (top - bottom) / rows, "aspect": aspect},
        }
        if place != self.page.place:
            self.page.place = place
            self.x_range.update(start=left, end=right)
            self.y_range.update(start=bottom, end=top)

    def _color(self, compared: Comparison) -> None:
        """Set the limits of the colors: the same for both runs, symmetric for differences and ratios."""
        number = list(self.channel.options).index(self.channel.value)
        for part in ("first", "second"):
            low, high = compared.limits
            self.mappers[part].update(palette=palette(self.channel.value, number), low=low, high=high)
        finite = np.abs(compared.difference[np.isfinite(compared.difference)])
        far = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        self.mappers["difference"].update(low=-far, high=far)
        ratios = compared.ratio[np.isfinite(compared.ratio) & (compared.ratio > 0)]
        far = float(np.percentile(np.maximum(ratios, 1 / ratios), 99)) if ratios.size else 2.0
        far = min(max(far, 1.01), RATIO_MAX)
        self.mappers["ratio"].update(low=1 / far, high=far)

    def _figure(self, part: str) -> Any:
        plot = figure(
            title=part, x_range=self.x_range, y_range=self.y_range, tools=[], sizing_mode="stretch_both",
            min_height=120, min_width=160, toolbar_location=None, name=f"compare {part}",
        )  # fmt: skip
        wheel = WheelZoomTool()
        plot.add_tools(PanTool(), wheel, ResetTool())
        plot.toolbar.active_scroll = wheel
        resettable(plot)
        glyph = plot.image(
            "image", x="x", y="y", dw="dw", dh="dh", source=self.sources[part], color_mapper=self.mappers[part]
        )
        blank = picture(np.full((1, 1), np.nan, np.float32), (0, 0, 1, 1))
        self.pictures[part] = Picture(blank, figure=plot, glyph=glyph)
        tooltips = tooltip([("x", "$x"), ("y", "$y"), ("value", "@image{custom}")])
        plot.add_tools(HoverTool(tooltips=tooltips, renderers=[glyph]))
        plot.add_layout(
            ColorBar(color_mapper=self.mappers[part], formatter=value_formatter(), width=9, padding=4), "right"
        )
        self._set_unit(part, plot, "")
        return plot

    def _set_unit(self, part: str, plot: Any, unit: str) -> None:
        """Write the values of a figure in a unit."""
        if self._units.get(part) == unit:
            return
        self._units[part] = unit
        plot.select_one(HoverTool).formatters = {"@image": value_hover(unit)}
        plot.right[0].formatter.args = {"unit": unit}  # a browser takes no other formatter of a color bar


def _short(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    """Return values in half the bytes where they stay the same: counts of nine digits do not, nor do 1e-50 or 7e287.

    >>> _short(np.array([[0.5, np.nan]])).dtype, _short(np.array([[123_456_789.0]])).dtype
    (dtype('float32'), dtype('float64'))
    """
    with np.errstate(over="ignore", under="ignore"):
        short = grid.astype(np.float32)
    return short if np.array_equal(short, grid, equal_nan=True) else grid


def _common(unit: str, other: str) -> str:
    """Return the unit of a difference; none where two runs have different ones."""
    return unit if unit == other else ""


def _unlike(unit: str, other: str) -> str:
    """Return a note on units that differ."""
    if unit == other:
        return ""
    first, second = unit or "no unit", other or "no unit"
    return f"the first is in {first}, the second in {second}; values are compared without conversion"


def _name(run: Run) -> str:
    scan_id = run.start.get("scan_id")
    name = str(run.start.get("plan_name") or "run")[:60]
    return f"{name} · {scan_id}" if scan_id is not None else name
