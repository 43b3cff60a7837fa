"""Live elements: what HoloViews makes of them, and that what is patched equals what is drawn as a whole."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import holoviews as hv
import numpy as np
import pytest
from bokeh.document import Document
from bokeh.io.doc import patch_curdoc
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper
from holoviews.operation.datashader import rasterize
from holoviews.streams import Stream, Tap
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemap.holoviews import LiveCells, LiveHistogram, LiveImage, NewCells, dimensions, live

RENDERER = hv.renderer("bokeh")


def image_of(cells: LiveCells, **options: Any) -> LiveImage:
    x, y, total = dimensions(["stage-x", "stage-y", "total"], ["mm", "mm"])
    return LiveImage(cells, [x, y], total, bounds=(0, 10, 3, 12), **options)


class Screen:
    """What a browser has of a plot: its source, and the news that came."""

    def __init__(self, shown: Any) -> None:
        self.document = Document()
        with patch_curdoc(self.document):  # as in a session of a server
            self.plot = RENDERER.get_plot(shown)
        self.document.add_root(self.plot.state)
        source = self.plot.state.select_one(ColumnDataSource)
        column = source.data["image"][0] if "image" in source.data else source.data["top"]
        self.values = np.array(column, dtype=float).ravel()
        self.events: list[Any] = []
        self.document.on_change(self._take)

    def _take(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(getattr(event, "model", None), NewCells):
            new = event.model.cells
            self.values[new["cells"]] = [np.nan if value is None else value for value in new["values"]]


def test_the_figure_has_the_names_units_and_colors_of_an_image() -> None:
    cells = LiveCells((2, 3))
    cells.put([0, 5], [4.0, 8.0])
    plot = RENDERER.get_plot(image_of(cells).opts(colorbar=True, cmap="viridis", width=420))
    figure = plot.state
    assert (figure.xaxis.axis_label, figure.yaxis.axis_label) == ("stage-x (mm)", "stage-y (mm)")
    assert (figure.x_range.start, figure.x_range.end, figure.y_range.start, figure.y_range.end) == (0, 3, 10, 12)
    assert figure.width == 420
    assert figure.select_one(ColorBar) is not None
    mapper = plot.handles["color_mapper"]
    assert isinstance(mapper, LinearColorMapper)
    assert (mapper.low, mapper.high) == (4.0, 8.0)
    drawn = plot.handles["source"].data["image"][0]
    np.testing.assert_array_equal(drawn, [[4.0, np.nan, np.nan], [np.nan, np.nan, 8.0]])


def test_only_new_cells_are_sent_and_colors_follow_the_maximum() -> None:
    cells = LiveCells((2, 3))
    screen = Screen(live(image_of(cells), cells))
    cells.put([1, 2], [4.0, np.nan])
    (new,) = [event.new for event in screen.events if event.attr == "cells"]
    assert new == {"cells": [1, 2], "values": [4.0, None]}
    assert not [event for event in screen.events if event.attr == "data"]
    cells.put(0, 9.0)
    mapper = screen.plot.handles["color_mapper"]
    assert (mapper.low, mapper.high) == (4.0, 9.0)


def test_limits_that_were_set_stay() -> None:
    cells = LiveCells((2, 3))
    screen = Screen(live(image_of(cells).opts(clim=(0, 100)), cells))
    cells.put(0, 900.0)
    mapper = screen.plot.handles["color_mapper"]
    assert (mapper.low, mapper.high) == (0, 100)


def test_what_is_called_back_with_another_element_is_drawn_as_a_whole() -> None:
    first, second = LiveCells((2, 3)), LiveCells((4, 4), fill=1.0)
    stream = Stream.define("Choice", which=0)()
    images = [image_of(first), image_of(second)]
    screen = Screen(hv.DynamicMap(lambda which: images[which], streams=[stream]))
    stream.event(which=1)
    drawn = screen.plot.handles["source"].data["image"][0]
    np.testing.assert_array_equal(drawn, np.ones((4, 4)))
    second.put(3, 7.0)
    stream.event(which=1)
    assert screen.events[-1].new == {"cells": [3], "values": [7.0]}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 11), st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=6), max_size=8)
)
def test_patched_equals_drawn_as_a_whole(steps: list[dict[int, float]]) -> None:
    cells = LiveCells((3, 4))
    screens = [Screen(live(image_of(cells), cells))]
    for number, step in enumerate(steps):
        cells.put(list(step), list(step.values()))
        if number == 2:
            screens.append(Screen(live(image_of(cells), cells)))  # one that comes later
    for screen in screens:
        np.testing.assert_array_equal(screen.values, cells.values.ravel())


def test_elements_compose_and_each_plot_is_brought_up_to_date() -> None:
    cells, bars = LiveCells((2, 3)), LiveCells((4,), fill=0)
    image = live(image_of(cells), cells)
    layout = image * hv.Points([(1, 11)]) + image + live(LiveHistogram(bars, "share", "pixels"), bars)
    plot = RENDERER.get_plot(layout)
    document = Document()
    document.add_root(plot.state)
    events: list[Any] = []
    document.on_change(events.append)
    cells.put(4, 5.0)
    new = {event.model.id: event.new for event in events if isinstance(event.model, NewCells)}
    assert list(new.values()) == [{"cells": [4], "values": [5.0]}] * 2
    bars.put(2, 7)
    assert events[-1].new == {"cells": [2], "values": [7.0]}


def test_streams_of_the_user_work_as_on_any_image() -> None:
    cells = LiveCells((2, 3), fill=2.0)
    image = live(image_of(cells), cells)
    tap = Tap(source=image, x=0.5, y=10.5)
    marked = image * hv.DynamicMap(lambda x, y: hv.Points([(x, y)]), streams=[tap])
    plot = RENDERER.get_plot(marked)
    tap.event(x=2.5, y=11.5)
    points = plot.subplots[(tuple(plot.subplots)[1])].handles["source"].data
    assert (points["x"][0], points["y"][0]) == (2.5, 11.5)


def test_what_is_cut_from_an_image_or_computed_of_it_stays_as_it_is() -> None:
    cells = LiveCells((2, 3), fill=1.0)
    image = image_of(cells)
    part: Any = image[0:2]
    assert part.cells is None
    assert image.clone().cells is cells
    coarse = rasterize(image, width=1, height=1, dynamic=False, aggregator="mean")
    assert float(coarse.dimension_values(2)[0]) == 1.0
    assert isinstance(image + part, hv.Layout)


def test_the_range_of_the_values_is_known_without_a_look_at_them() -> None:
    cells = LiveCells((2, 3))
    image = image_of(cells)
    assert all(np.isnan(image.range("total")))
    cells.put([0, 1, 2], [3.0, np.inf, -1.0])
    assert image.range("total") == (-1.0, 3.0)
    assert image.range("stage-x") == (0, 3)


def test_a_histogram_sends_its_bars_and_its_axis_grows_in_steps() -> None:
    bars = LiveCells((4,), fill=0)
    screen = Screen(live(LiveHistogram(bars, "share", "pixels"), bars))
    bars.put([0, 3], [17, 600])
    assert screen.values.tolist() == [17, 0, 0, 600]
    assert screen.plot.handles["y_range"].end == 1000


@pytest.mark.parametrize("names", [["x", "x", "x"], ["y", "x", "y"], ["", "", ""], ["<b>x</b>", "<b>x</b>", "n\n"]])
def test_names_may_be_anything(names: list[str]) -> None:
    *kdims, vdim = dimensions(names)
    image = LiveImage(LiveCells((2, 5), fill=1.0), kdims, vdim, bounds=(0, 0, 5, 2))
    assert (image.range(0), image.range(1)) == ((0, 5), (0, 2))
    assert RENDERER.get_plot(image).handles["source"].data["image"][0].shape == (2, 5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_one_row_or_column_is_drawn(shape: tuple[int, int]) -> None:
    cells = LiveCells(shape)
    screen = Screen(live(LiveImage(cells, bounds=(0, 0, 1e-6, 1e6)), cells))
    cells.put(0, 3.0)
    assert screen.values[0] == 3.0


def test_cells_outside_are_refused_and_nothing_is_written() -> None:
    cells = LiveCells((2, 3))
    with pytest.raises(IndexError, match="0 to 5"):
        cells.put([1, 6], [1.0, 2.0])
    with pytest.raises(ValueError, match="broadcast"):
        cells.put([1, 2], [1.0, 2.0, 3.0])
    assert np.isnan(cells.values).all()
    assert cells.version == 0


def test_nothing_refers_to_what_is_no_longer_shown() -> None:
    cells = LiveCells((2, 3))
    screen = Screen(live(image_of(cells), cells))
    gone = weakref.ref(screen)
    del screen
    gc.collect()
    assert gone() is None
    cells.put(0, 1.0)
