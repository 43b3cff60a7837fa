"""The HoloViews elements of the maps and of the histogram, drawn into the figures of the page.

::

    choices -> Pipeline.update() -> Drawing, Changed -> DynamicMap -> MapImage -> MapImagePlot -> sink -> one message

HoloViews decides what is drawn as a whole and what is patched; ranges, tools and colors belong to the page.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
import param
from bokeh.models import GlyphRenderer, Image, Quad

from snakemap.dashboard.panes.picture_plot import InFigure, drawn
from snakemap.holoviews import LiveHistogram, LiveHistogramPlot, LiveImage, LiveImagePlot

__all__ = ["BarsImage", "MapImage", "Shown", "bars_plot", "map_plot"]


class Shown:
    """The cells of one channel that a tab shows; the pipeline of the tab says which of them are new.

    Args:
        values: (rows, columns) or (bars,), as drawn: both axes rise.
        version: of the maps.
    """

    def __init__(self, values: npt.NDArray[Any], version: int = 0) -> None:
        self.values = values
        self.version = version
        self.span = (np.nan, np.nan)
        self._new: npt.NDArray[np.integer] | None = np.empty(0, dtype=np.int64)

    def replace(self, values: npt.NDArray[Any], version: int) -> None:
        """Take other values of the same shape."""
        self.values, self._new, self.version = values, None, version

    def renew(self, cells: npt.NDArray[np.integer], version: int) -> None:
        """Note which cells have changed, and the version of the maps from now on."""
        self._new, self.version = cells, version

    def changed(self, since: int) -> npt.NDArray[np.integer] | None:
        """Return the cells that have changed since the last time; None when all were replaced."""
        return self._new


class MapImage(LiveImage):
    """A map of a tab. What it shows is sent with all else that is new in the tab."""

    group = param.String(default="MapImage", constant=True)


class BarsImage(LiveHistogram):
    """The histogram of a tab; as :class:`MapImage`."""

    group = param.String(default="BarsImage", constant=True)


class _Live(InFigure):
    """Draws live elements into a figure of the page."""

    def update_frame(self, key: Any, ranges: Any = None, plot: Any = None, element: Any = None) -> None:
        """Send what is new of the element that is shown, and draw another one."""
        super(InFigure, self).update_frame(key, ranges, plot, element)  # type: ignore[misc]

    def _draw_whole(self, key: Any, ranges: Any, plot: Any, element: Any) -> None:
        super()._draw_whole(key, ranges, plot, element)
        self._remember()  # type: ignore[attr-defined]


class MapImagePlot(_Live, LiveImagePlot):
    """Draws a :class:`MapImage`: one column of a source, placed by numbers."""

    mapper = param.Parameter(doc="The color mapper.")

    def get_data(self, element: Any, ranges: Any, style: Any) -> Any:
        """Return the column, and where its picture lies."""
        left, bottom, right, top = element.bounds.lbrt()
        column = str(self.figure.name).removeprefix("map-")
        place = {"x": left, "y": bottom, "dw": right - left, "dh": top - bottom}
        return {column: [element.cells.values]}, {"image": column, **place}, {}

    def _init_glyph(self, plot: Any, mapping: Any, properties: Any) -> Any:
        renderer = plot.add_glyph(self.source, Image(color_mapper=self.mapper, **mapping))
        return renderer, renderer.glyph

    def _update_glyph(self, renderer: Any, properties: Any, mapping: Any, glyph: Any, source: Any, data: Any) -> None:
        glyph.update(**{name: value for name, value in mapping.items() if name != "image"})
        if data is not source.data:
            source.data.update(data)

    def _update_plot(self, key: Any, plot: Any, element: Any = None) -> None:
        for axes, dimension in zip((plot.xaxis, plot.yaxis), element.kdims, strict=True):
            for axis in axes:
                if "values" not in (axis.x_range_name, axis.y_range_name):
                    axis.axis_label = dimension.label

    def recolor(self, mapper: Any) -> GlyphRenderer:
        """Draw by another color mapper, with an image of its own: a browser draws one by its first mapper."""
        self.mapper = mapper
        glyph = self.handles["glyph"].clone(color_mapper=mapper)
        renderer = GlyphRenderer(data_source=self.source, glyph=glyph)
        self.handles.update(glyph=glyph, glyph_renderer=renderer)
        return renderer

    def _set_span(self, span: tuple[float, float]) -> None:
        """Leave the colors to the tab, whose user chooses the limits."""


class BarsImagePlot(_Live, LiveHistogramPlot):
    """Draws a :class:`BarsImage`."""

    def _init_glyph(self, plot: Any, mapping: Any, properties: Any) -> Any:
        sides = {side: mapping[side] for side in ("left", "right", "top", "bottom")}
        renderer = plot.add_glyph(self.source, Quad(**sides, line_color=None))
        return renderer, renderer.glyph

    def _update_glyph(self, renderer: Any, properties: Any, mapping: Any, glyph: Any, source: Any, data: Any) -> None:
        if data is not source.data:
            source.data.update(data)

    def _set_span(self, span: tuple[float, float]) -> None:
        """Leave the axis to the browser, which knows the bars."""


hv.Store.register({MapImage: MapImagePlot, BarsImage: BarsImagePlot}, "bokeh")


def map_plot(element: hv.DynamicMap, *, figure: Any, source: Any, mapper: Any) -> Any:
    """Have HoloViews draw a map into a figure of the page.

    Args:
        element: that yields a :class:`MapImage`.
        figure: called ``map-`` and the channel.
        source: of all maps of the tab; it gets a column of the channel's name.
        mapper: of the colors.
    """
    return drawn(MapImagePlot, element, figure=figure, source=source, mapper=mapper)


def bars_plot(element: hv.DynamicMap, *, figure: Any, source: Any) -> Any:
    """Have HoloViews draw a histogram into a figure of the page."""
    return drawn(BarsImagePlot, element, figure=figure, source=source)
