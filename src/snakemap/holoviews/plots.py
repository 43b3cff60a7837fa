"""Bokeh plots of live elements: HoloViews makes the plot, and later changes are sent cell by cell."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from bokeh.core.properties import Any as AnyProperty
from bokeh.model import DataModel
from bokeh.models import CustomJS, Range1d
from holoviews.plotting.bokeh import HistogramPlot, RasterPlot
from holoviews.plotting.bokeh.element import ElementPlot
from panel.io.state import state

from snakemap.holoviews.elements import Changed, LiveHistogram, LiveImage

__all__ = ["LiveHistogramPlot", "LiveImagePlot", "NewCells"]

PUT = """
const {cells, values} = news.cells ?? {}
if (!cells) return
const column = source.data[field]
const target = field == "image" ? column[0].data ?? column[0] : column
cells.forEach((cell, i) => { target[cell] = values[i] ?? NaN })
source.change.emit()
"""
"""Writes new values into the browser's copy of a source; nothing is sent back."""


class NewCells(DataModel):
    """The message of one plot: flat indices of cells, and their values with None for NaN."""

    cells: Any = AnyProperty(default=None)


class _LivePlot(ElementPlot):  # type: ignore[misc]
    """A plot that patches changed cells; everything else is drawn by HoloViews."""

    _field = ""

    def initialize_plot(self, ranges: Any = None, plot: Any = None, plots: Any = None, source: Any = None) -> Any:
        """Draw the whole element."""
        figure = super().initialize_plot(ranges, plot, plots, source)
        self._remember()
        if self._shown is not None and self._shown.sink is None:
            self.news = NewCells()
            arguments = {"news": self.news, "source": self.handles["source"], "field": self._field}
            self.news.js_on_change("cells", CustomJS(args=arguments, code=PUT))
            figure.tags = [*figure.tags, self.news]  # the tag adds it to the document
        return figure

    def refresh(self, **kwargs: Any) -> None:
        """Send changed cells; if only cells changed, evaluate nothing."""
        triggering = [stream for stream, _ in self._triggering] or [one for one in self.streams if one._triggering]
        only_cells = triggering and all(isinstance(stream, Changed) for stream in triggering)
        if not only_cells or self._shown is None or self.invert_axes or _is_locked(self):
            super().refresh(**kwargs)
            return
        self._triggering = []
        self._patch(self._shown)

    def update_frame(self, key: Any, ranges: Any = None, plot: Any = None, element: Any = None) -> None:
        """Send the changed cells; another element is drawn completely."""
        if element is None and not self.overlaid:
            element = self._get_frame(key)
        if element is not None and element is self._shown and not self.invert_axes:
            self._patch(element)
            return
        self._draw_whole(key, ranges, plot, element)

    def _draw_whole(self, key: Any, ranges: Any, plot: Any, element: Any) -> None:
        """Draw a whole element with HoloViews."""
        super().update_frame(key, ranges, plot, element)
        self._remember()

    def _patch(self, element: Any) -> None:
        """Send the cells changed since the version in the browser; the whole element if unknown."""
        cells = element.cells.changed(self._version)
        if cells is None:
            self.handles["previous_id"] = None  # else HoloViews skips an element that it has drawn
            self._draw_whole(self.current_key, None, None, element)
            return
        self._version = element.cells.version
        self._set_span(element.cells.span)
        if element.sink is not None:
            element.sink(self._version, cells)
        elif len(cells):
            values = element.cells.values.flat[cells]
            self.news.cells = {"cells": cells.tolist(), "values": [None if v != v else v for v in values.tolist()]}

    def _remember(self) -> None:
        """Record the displayed element and its version."""
        element = self.current_frame
        self._shown: Any = element if getattr(element, "cells", None) is not None else None
        self._version = self._shown.cells.version if self._shown is not None else 0

    def _set_span(self, span: tuple[float, float]) -> None:
        """Follow the range of the values, if no limits are set."""


class LiveImagePlot(_LivePlot, RasterPlot):  # type: ignore[misc]
    """Draws a :class:`~snakemap.holoviews.elements.LiveImage`."""

    _field = "image"

    def _set_span(self, span: tuple[float, float]) -> None:
        mapper = self.handles.get("color_mapper")
        if mapper is None or span[0] != span[0] or self.clim != (np.nan, np.nan):
            return
        ends = [own if own is not None else end for end, own in zip(span, self._shown.vdims[0].range, strict=True)]
        if [mapper.low, mapper.high] != ends:
            mapper.update(low=ends[0], high=ends[1])


class LiveHistogramPlot(_LivePlot, HistogramPlot):  # type: ignore[misc]
    """Draws a :class:`~snakemap.holoviews.elements.LiveHistogram`; its axis grows in steps of 1, 2, 5 and 10."""

    _field = "top"

    def _set_span(self, span: tuple[float, float]) -> None:
        axis = self.handles.get("y_range")
        if self.ylim != (np.nan, np.nan) or not isinstance(axis, Range1d):
            return
        end = round_up(float(np.nanmax(self._shown.cells.values, initial=1)))
        if axis.end != end:
            axis.end = end


def round_up(most: float) -> float:
    """Return the end of an axis of counts: the next of 1, 2, 5 and 10 times a power of ten.

    >>> [round_up(most) for most in (0.0, 1.0, 3.0, 17.0, 600.0)]
    [1.0, 1.0, 5.0, 20.0, 1000.0]
    """
    unit = 10.0 ** np.floor(np.log10(max(most, 1.0)))
    return float(next(step * unit for step in (1, 2, 5, 10) if step * unit >= most))


def _is_locked(plot: Any) -> bool:
    """Return whether another thread may hold the document of a plot; HoloViews then waits for it."""
    return plot.renderer.mode == "server" and not state._unblocked(plot.document)


def _register() -> None:
    """Register the elements with the options of their base elements."""
    hv.Store.register({LiveImage: LiveImagePlot, LiveHistogram: LiveHistogramPlot}, "bokeh")


_register()
