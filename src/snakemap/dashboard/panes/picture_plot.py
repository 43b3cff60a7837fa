"""HoloViews elements drawn into figures of the page, whose ranges, tools and colors are set elsewhere.

::

    an element -> Picture.show() -> Drawing -> DynamicMap -> PicturePlot -> the source of a glyph of the figure
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
import param
from holoviews.plotting.bokeh import RasterPlot, RGBPlot
from holoviews.plotting.util import initialize_dynamic

from snakemap.holoviews import Drawing, dimensions

__all__ = ["RENDERER", "InFigure", "Picture", "colored", "drawn", "picture"]

RENDERER = hv.renderer("bokeh")

Box = tuple[float, float, float, float]
"""Left, bottom, width and height in the units of the axes."""


class InFigure(param.Parameterized):
    """Draws into a figure of the page, and leaves its ranges, tools, sizes and type alone."""

    figure = param.Parameter(doc="Of the page.")
    source = param.Parameter(doc="A `ColumnDataSource` that several plots may share.")

    def initialize_plot(self, ranges: Any = None, plot: Any = None, plots: Any = None, source: Any = None) -> Any:
        """Draw all of the element into the figure."""
        return super().initialize_plot(ranges, plot, plots, self.source)  # type: ignore[misc]

    def update_frame(self, key: Any, ranges: Any = None, plot: Any = None, element: Any = None) -> None:
        """Draw an element; nothing of it depends on ranges, styles or options, which cost more than all else."""
        self._draw_whole(key, ranges, plot, self._get_frame(key) if element is None else element)  # type: ignore[attr-defined]

    def _draw_whole(self, key: Any, ranges: Any, plot: Any, element: Any) -> None:
        if element is None:
            return
        self.current_key, self.current_frame = key, element
        handles: dict[str, Any] = self.handles  # type: ignore[attr-defined]
        data, mapping, _ = self.get_data(element, {}, {})  # type: ignore[attr-defined]
        self._update_glyph(handles["glyph_renderer"], {}, mapping, handles["glyph"], self.source, data)  # type: ignore[attr-defined]
        self._update_plot(key, self.figure, element)

    def _init_plot(self, key: Any, element: Any, plots: Any, ranges: Any = None) -> Any:
        return self.figure

    def _update_plot(self, key: Any, plot: Any, element: Any = None) -> None:
        """Leave sizes and type to the page."""

    def _update_ranges(self, element: Any, ranges: Any) -> None:
        """Leave the ranges to the page: they are fitted in the browser, which knows the size of the figure."""

    def _set_active_tools(self, plot: Any) -> None:
        """Leave the tools to the page."""

    def _execute_hooks(self, element: Any) -> None:
        """Run no hooks."""

    def _postprocess_hover(self, renderer: Any, source: Any) -> None:
        """Leave what is written beside the pointer to the page."""

    def _process_legend(self, plot: Any = None) -> None:
        """Draw no legend: titles are names."""


class _Glyph(InFigure):
    """Draws with a glyph that the figure has."""

    renderer = param.Parameter(default=None, doc="Of the figure.")
    glyph = param.Parameter(doc="The renderer of the glyph.")

    def get_data(self, element: Any, ranges: Any, style: Any) -> Any:
        """Return the values with their place."""
        left, bottom, right, top = element.bounds.lbrt()
        box = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
        return {"image": [self._pixels(element)], **box}, {}, {}

    def _pixels(self, element: Any) -> npt.NDArray[Any]:
        return np.ascontiguousarray(element.dimension_values(2, flat=False))

    def _init_glyph(self, plot: Any, mapping: Any, properties: Any) -> Any:
        return self.glyph, self.glyph.glyph

    def _update_glyph(self, renderer: Any, properties: Any, mapping: Any, glyph: Any, source: Any, data: Any) -> None:
        if data is not source.data:
            source.data = data


class ValuesPlot(_Glyph, RasterPlot):  # type: ignore[misc]
    """Draws the values of an image."""


class ColorsPlot(_Glyph, RGBPlot):  # type: ignore[misc]
    """Draws a color image."""

    def _pixels(self, element: Any) -> npt.NDArray[np.uint32]:
        levels = np.dstack([element.dimension_values(channel, flat=False) for channel in element.vdims])
        if levels.shape[2] == 3:
            levels = np.dstack([levels, np.full(levels.shape[:2], 255, np.uint8)])
        return np.ascontiguousarray(levels.astype(np.uint8)).view(np.uint32)[..., 0]


class PictureImage(hv.Image):
    """Values on a grid, as a pane shows them: as many as the screen has pixels."""

    group = param.String(default="PictureImage", constant=True)


class PictureColors(hv.RGB):
    """A color image, as a pane shows it."""

    group = param.String(default="PictureColors", constant=True)


hv.Store.register({PictureImage: ValuesPlot, PictureColors: ColorsPlot}, "bokeh")


class Picture:
    """An element of a pane that is drawn as a whole whenever it changes.

    Args:
        element: to begin with.
        figure: of the page.
        glyph: the renderer of the figure that draws it, with a source of its own.

    Attributes:
        element: what is shown.
        map: the `DynamicMap`.
    """

    def __init__(self, element: Any, *, figure: Any, glyph: Any) -> None:
        self.element = element
        self._drawing = Drawing()
        self.map = hv.DynamicMap(lambda drawing: self.element, streams=[self._drawing], cache_size=1)
        kind = ColorsPlot if isinstance(element, PictureColors) else ValuesPlot
        self._plot = drawn(kind, self.map, figure=figure, source=glyph.data_source, glyph=glyph)

    def show(self, element: Any) -> None:
        """Draw another element."""
        self.element = element
        self._drawing.event(drawing=self._drawing.drawing + 1)


def drawn(kind: type, element: hv.DynamicMap, **params: Any) -> Any:
    """Draw a plot. HoloViews' own way ties it to the current document, which may outlive the tab."""
    initialize_dynamic(element)
    plot: Any = kind(element, renderer=RENDERER, **params)
    plot.update(())
    return plot


def picture(values: npt.NDArray[Any], box: Box, names: tuple[str, str, str] = ("x", "y", "value")) -> PictureImage:
    """Return an image.

    Args:
        values: (rows, columns), first row at the lowest coordinate.
        box: where they lie.
        names: of the axes, columns first, and of the values.
    """
    *kdims, vdim = dimensions(names)
    return PictureImage((*_centers(box, values.shape), values), kdims, vdim, **_densities(box, values.shape))


def colored(levels: npt.NDArray[np.uint8], box: Box, names: tuple[str, str] = ("x", "y")) -> PictureColors:
    """Return a color image; levels are (rows, columns, 3 or 4)."""
    channels = [levels[..., number] for number in range(levels.shape[2])]
    kdims = dimensions(names)
    vdims = [hv.Dimension(name) for name in ("red level", "green level", "blue level", "alpha level")]
    shape = levels.shape[:2]
    return PictureColors((*_centers(box, shape), *channels), kdims, vdims[: len(channels)], **_densities(box, shape))


def _centers(box: Box, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    left, bottom, width, height = box
    xs = left + width / shape[1] * (np.arange(shape[1]) + 0.5)
    ys = bottom + height / shape[0] * (np.arange(shape[0]) + 0.5)
    return xs, ys


def _densities(box: Box, shape: tuple[int, ...]) -> dict[str, float]:
    return {"xdensity": shape[1] / box[2], "ydensity": shape[0] / box[3]}
