"""Maps of a run as elements that anybody composes: they grow, follow the newest run, and end with the last plot."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pytest
from bokeh.document import Document
from bokeh.io.doc import patch_curdoc
from tests.unit.dashboard.test_session import RunsInMemory, more, run_of

from snakemap.core.derived_documents import derived_descriptor
from snakemap.core.documents import Document as BlueskyDocument
from snakemap.core.run import Run
from snakemap.dashboard.live_elements import MapOfRun
from snakemap.holoviews import LiveImage, NewCells
from snakemap.render.cache import RenderCache


class Shown:
    """A plot in a document of its own, and what it has sent."""

    def __init__(self, element: Any) -> None:
        self.document = Document()
        with patch_curdoc(self.document):
            self.plot = hv.renderer("bokeh").get_plot(element)
        self.document.add_root(self.plot.state)
        self.sent: list[dict[str, Any]] = []
        self.document.on_change(self._take)

    def _take(self, event: Any) -> None:
        if isinstance(getattr(event, "model", None), NewCells):
            self.sent.append(event.new)

    def image(self) -> np.ndarray:
        (plot,) = self.plot.traverse(
            lambda one: one, [lambda one: isinstance(getattr(one, "current_frame", None), LiveImage)]
        )[:1]
        return np.asarray(plot.handles["source"].data["image"][0])


def element_of(live: RunsInMemory, channel: str = "total", **options: Any) -> MapOfRun:
    return MapOfRun(channel, follower=lambda: live, levels=RenderCache(), **options)


async def test_it_shows_the_newest_run_and_grows() -> None:
    run = run_of("a")
    live = RunsInMemory(run)
    element = element_of(live)
    shown = Shown(element.map)
    np.testing.assert_array_equal(shown.image(), run.maps.grids[3])
    more(run, 6, 7)
    element._wake()
    assert len(shown.sent) == 1
    assert sorted(shown.sent[0]["values"]) == [6.0, 7.0]
    late = Shown(element.map * hv.Points([(1, 1)]))
    np.testing.assert_array_equal(late.image(), run.maps.grids[3])
    more(run, 8)
    element._wake()
    assert [len(one.sent) for one in (shown, late)] == [2, 1]


async def test_another_run_is_drawn_as_a_whole() -> None:
    live = RunsInMemory(run_of("a"))
    element = element_of(live)
    shown = Shown(element.map)
    newest = run_of("b", points=3)
    live.runs["b"], live.newest = newest, "b"
    element._wake()
    np.testing.assert_array_equal(shown.image(), newest.maps.grids[3])


async def test_a_run_that_was_asked_for_stays_and_is_released_at_the_end() -> None:
    live = RunsInMemory(run_of("a"), run_of("b"))
    element = element_of(live, run="a")
    shown = Shown(element.map)
    for task in list(element._tasks):
        await task
    np.testing.assert_array_equal(shown.image(), live.shelf["a"].maps.grids[3])
    assert live.users == {"a": 1}
    shown.plot.cleanup()
    element._wake()
    assert live.users == {}
    assert not element.following
    assert live.watchers == 0


async def test_it_is_blank_before_the_first_run_and_for_a_channel_that_is_not_there() -> None:
    live = RunsInMemory()
    element = element_of(live)
    shown = Shown(element.map)
    assert np.isnan(shown.image()).all()
    run = run_of("a")
    live.runs["a"], live.newest = run, "a"
    element._wake()
    np.testing.assert_array_equal(shown.image(), run.maps.grids[3])
    assert np.isnan(Shown(element_of(live, "diode").map).image()).all()


@pytest.mark.parametrize("axes", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
async def test_axes_that_fall_are_turned_as_cells_come(axes: tuple[int, int]) -> None:
    hints = {"dimensions": [[["y"], "primary"], [["x"], "primary"]]}
    extents = [sorted_([0.0, 1.0], axes[0]), sorted_([0.0, 3.0], axes[1])]
    run = Run({"uid": "a", "time": 1.0, "shape": [2, 4], "extents": extents, "hints": hints, "motors": ["y", "x"]})
    fill(run, 1, 2, 3)
    element = element_of(RunsInMemory(run))
    shown = Shown(element.map)
    values = shown.image().copy()
    fill(run, 4, 5, 6, describe=False)
    element._wake()
    new = shown.sent[-1]
    values.ravel()[new["cells"]] = new["values"]
    up, right = (-1 if run.raster.slow.decreases else 1), (-1 if run.raster.fast.decreases else 1)
    np.testing.assert_array_equal(values, run.maps.grids[3][::up, ::right])
    assert (run.raster.slow.decreases, run.raster.fast.decreases) == (axes[0] < 0, axes[1] < 0)


def sorted_(ends: list[float], direction: int) -> list[float]:
    return ends if direction > 0 else ends[::-1]


def fill(run: Run, *seq_nums: int, describe: bool = True) -> None:
    if describe:
        rois: dict[str, Any] = dict.fromkeys(("red", "green", "blue"), (0, 1, 0, 1))
        run.apply(BlueskyDocument("descriptor", derived_descriptor(run, rois, frame_shape=(2, 2), time=1.0), run="a"))
    more(run, *seq_nums)


def test_without_an_event_loop_it_stays_blank() -> None:
    element = element_of(RunsInMemory(run_of("a")))
    assert np.isnan(Shown(element.map).image()).all()
    assert not element.following
