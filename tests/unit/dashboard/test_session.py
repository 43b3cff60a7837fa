"""A tab on a plain Bokeh document: no server and no browser, so that what it asks for is run by hand."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import threading
import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import holoviews as hv
import numpy as np
import panel as pn
import pytest
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.document import Document
from bokeh.document.events import ModelChangedEvent
from bokeh.protocol import Protocol
from bokeh.server.callbacks import TimeoutCallback
from panel.io import document as panel_document
from tornado.locks import Lock

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document as BlueskyDocument
from snakemap.core.run import Run
from snakemap.dashboard.layout import Dashboard
from snakemap.dashboard.panes.maps_pane import MapsPane
from snakemap.dashboard.permalink import ViewPlace
from snakemap.dashboard.run_text import run_notes
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import Rail, SummaryTable, TopBar
from snakemap.errors import RunNotFound, StoreUnavailable
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache


class RunsInMemory(RunFollower):
    """A Live that follows nothing: its runs are put in by the tests, and opened after a turn of the loop."""

    def __init__(self, *runs: Run) -> None:
        super().__init__(cast(Any, None))
        self.shelf = {run.uid: run for run in runs}
        self.runs = dict(list(self.shelf.items())[-1:])
        self.newest = runs[-1].uid if runs else None
        self.away = False
        self.may_open = asyncio.Event()
        self.may_open.set()

    def start(self) -> None:
        """Nothing to follow."""

    async def _load(self, uid: str) -> Run:
        await self.may_open.wait()
        if self.away:
            raise StoreUnavailable("Redis is away")
        if uid not in self.shelf:
            raise RunNotFound(f"No run {uid}")
        return self.runs.setdefault(uid, self.shelf[uid])

    @property
    def users(self) -> dict[str, int]:
        return self._users


def run_of(
    uid: str, *, points: int = 5, channels: tuple[str, ...] = ("red", "green", "blue"), shape: Sequence[int] = (4, 4)
) -> Run:
    run = Run({"uid": uid, "time": 1.0, "shape": list(shape)})
    told = derived_descriptor(run, dict.fromkeys(channels, (0, 1, 0, 1)), frame_shape=(2, 2), time=1.0)
    run.apply(BlueskyDocument("descriptor", told, run=uid))
    more(run, *range(1, points + 1))
    return run


def more(run: Run, *seq_nums: int) -> None:
    sums = {name: [float(seq_num) for seq_num in seq_nums] for name in run.maps.channels}
    page = derived_page(next(iter(run.derived_uids)), list(seq_nums), sums, time=1.0)
    run.apply(BlueskyDocument("event_page", page, run=run.uid))


def tab_of(live: RunFollower, *, levels: RenderCache | None = None, pinned: str = "") -> Session:
    tab = Session(live, levels or RenderCache(), document=Document(), pinned=pinned)
    tab.start()
    return tab


def news_of(tab: Session) -> dict[str, Any]:
    """What the last tick sent of maps and histogram."""
    return json.loads(tab.page.news)


async def settle(*tabs: Session) -> None:
    """Runs what the tabs' documents are asked to run, until they ask for nothing more."""

    def asked(tab: Session) -> list[Any]:
        return [one for one in tab.document.session_callbacks if getattr(one, "timeout", None) is None]

    while any(asked(tab) for tab in tabs):
        for tab in tabs:
            for callback in asked(tab):
                tab.document.callbacks.remove_session_callback(callback)
                done: Any = callback.callback()
                if inspect.isawaitable(done):
                    await done


def destroy(tab: Session) -> None:
    """What Bokeh does when the session of a tab ends."""
    for callback in tab.document.session_destroyed_callbacks:
        callback(cast(Any, None))
    tab.document.callbacks._session_destroyed_callbacks.clear()


# what is drawn


async def test_a_tab_draws_the_newest_run_and_follows_it() -> None:
    run = run_of("a")
    live = RunsInMemory(run)
    tab = tab_of(live)
    await settle(tab)
    image = tab.maps.cells.data["total"][0]
    np.testing.assert_array_equal(image, run.maps.grids[3])
    assert tab.page.base["version"] == run.maps.version
    more(run, 6, 7)
    tab.wake()
    await settle(tab)
    assert (news_of(tab)["from"], news_of(tab)["to"]) == (5, 7)
    assert len(news_of(tab)["cells"]) == 2
    assert sum(news_of(tab)["bars"]) == 7


async def test_a_zoom_before_the_browser_has_sent_its_size_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    await settle(tab)
    asked: list[tuple[float, float]] = []

    def resize(*, view: Any, pixels: tuple[float, float]) -> bool:
        asked.append(pixels)
        return False

    monkeypatch.setattr(tab.pipeline, "resize", resize)
    for figure in tab.maps.figures:
        with pytest.raises(UnsetValueError):
            _ = figure.inner_width
    tab.pane(MapsPane).check_zoom()
    assert asked == []
    monkeypatch.setattr("snakemap.dashboard.panes.maps_pane.inner_size", lambda _figure, _default: (400, 300))
    tab.pane(MapsPane).check_zoom()
    assert asked == [(300.0, 400.0)]


async def test_a_tab_turns_to_the_scalars_when_the_camera_turns_out_to_be_no_use() -> None:
    run = Run({"uid": "a", "time": 1.0, "shape": [2, 2]})
    camera = {"shape": [1, 8, 8], "dtype": "array", "external": "STREAM:"}
    keys = {"cam": camera, "diode": {"shape": [], "dtype": "number", "units": "nA"}}
    apply(run, "descriptor", {"uid": "d", "run_start": "a", "name": "primary", "data_keys": keys})
    apply(run, "event", {"descriptor": "d", "seq_num": 1, "data": {"diode": 1.0}})
    tab = tab_of(RunsInMemory(run))
    await settle(tab)
    assert tab.maps.channels == ("red", "green", "blue", "total")
    resource = {"uid": "r", "run_start": "a", "data_key": "cam", "uri": "file:///d", "parameters": {}}
    apply(run, "stream_resource", {**resource, "mimetype": "image/tiff"})
    for seq_num in (2, 4):
        apply(run, "event", {"descriptor": "d", "seq_num": seq_num, "data": {"diode": float(seq_num)}})
    tab.soon()
    tab.wake()
    await settle(tab)
    assert (tab.choices.source, tab.maps.channels) == ("", ("diode",))
    np.testing.assert_array_equal(tab.maps.cells.data["diode"][0], run.sources["scalars"].maps.grids[0])
    remarks = "1 of 4 events are missing. cam is not drawn: its files are TIFF (image/tiff), and only HDF5 is read."
    assert remarks in str(tab.maps.page.idle)
    trouble = "cam is not drawn: its files are TIFF (image/tiff), and only HDF5 is read."
    tab.live.summaries = [{"uid": "a", "trouble": trouble}]
    assert run_notes(tab, run).count(trouble) == 1


def apply(run: Run, name: str, doc: dict[str, Any]) -> None:
    run.apply(BlueskyDocument(name, doc, run=run.uid))


async def test_a_tab_that_is_woken_often_ticks_once() -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    for _ in range(10):
        tab.wake()
    await settle(tab)
    assert tab.ticks == 1


async def test_a_page_has_images_before_the_first_run() -> None:
    tab = tab_of(RunsInMemory())
    await settle(tab)
    assert {name: column[0].shape for name, column in tab.maps.cells.data.items()} == dict.fromkeys(
        ("red", "green", "blue", "total", "dimmed"), (1, 1)
    )


async def test_maps_and_histogram_are_elements_of_holoviews_that_show_what_the_tab_shows() -> None:
    run = run_of("a")
    tab = tab_of(RunsInMemory(run))
    await settle(tab)
    maps: list[Any] = [one[()] for one in tab.maps.elements]
    bars: Any = tab.histogram.element[()]
    assert [type(one).__bases__[0].__bases__[0] for one in maps] == [hv.Image] * 4
    assert isinstance(bars, hv.Histogram)
    assert [one.vdims[0].name for one in maps] == ["red", "green", "blue", "total"]
    more(run, 6, 7)
    tab.wake()
    await settle(tab)
    assert [one[()] for one in tab.maps.elements] == maps  # patched, not made again
    for one, grid in zip(maps, run.maps.grids, strict=True):
        np.testing.assert_array_equal(one.dimension_values(2, flat=False), grid)
    assert bars.dimension_values(1).sum() == 7


async def test_values_that_are_replaced_are_drawn_as_a_whole_by_the_same_elements() -> None:
    run = run_of("a")
    tab = tab_of(RunsInMemory(run))
    await settle(tab)
    maps: list[Any] = [one[()] for one in tab.maps.elements]
    tab.pipeline.shown.version = -1
    more(run, 6)
    tab.wake()
    await settle(tab)
    assert [one[()] for one in tab.maps.elements] == maps
    np.testing.assert_array_equal(tab.maps.cells.data["total"][0], run.maps.grids[3])
    np.testing.assert_array_equal(maps[3].dimension_values(2, flat=False), run.maps.grids[3])


async def test_a_tick_without_news_sends_nothing() -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    await settle(tab)
    news = tab.page.news
    tab.wake()
    await settle(tab)
    assert tab.page.news is news


async def test_another_run_begins_and_the_tab_turns_to_it() -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    await settle(tab)
    live.runs["b"] = run_of("b", points=2)
    live.newest = "b"
    tab.choices.box = (0, 2, 0, 2)
    tab.wake()
    await settle(tab)
    assert tab.pipeline.run is live.runs["b"]
    assert tab.choices.box is None
    assert np.count_nonzero(~np.isnan(tab.maps.cells.data["total"][0])) == 2


async def test_without_a_run_a_tab_waits_and_whatever_is_chosen_holds_for_the_first() -> None:
    live = RunsInMemory()
    tab = tab_of(live)
    Dashboard(tab)
    tab.choices.param.update(scale="log", limits="locked", aspect="fill", theme="light", channel="red")
    await settle(tab)
    assert tab.topbar.state["plan"] == "no run yet"
    live.runs["a"] = run_of("a")
    live.newest = "a"
    tab.wake()
    await settle(tab)
    assert {type(mapper).__name__ for mapper in tab.maps.mappers} == {"LogColorMapper"}
    assert news_of(tab)["limits"] == [[0.0005, 5.0]] * 4


async def test_an_update_that_was_missed_is_sent_as_a_whole() -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    await settle(tab)
    before = tab.pipeline.counts["everything"]
    tab.page.missed = 1  # pyright: ignore[reportAttributeAccessIssue]
    await settle(tab)
    assert tab.pipeline.counts["everything"] == before + 1


async def test_a_change_of_colors_recomputes_no_map() -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    await settle(tab)
    maps = tab.pipeline.counts["everything"]
    cells = tab.maps.cells.data
    for choice in ({"scale": "log"}, {"limits": "locked"}, {"theme": "light"}, {"aspect": "fill"}, {"channel": "red"}):
        tab.choices.param.update(**choice)
        await settle(tab)
    assert tab.pipeline.counts["everything"] == maps
    assert tab.maps.cells.data is cells


async def test_a_run_with_other_channels_gets_maps_of_its_own_with_the_choices_of_before() -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    Dashboard(tab)
    await settle(tab)
    tab.choices.param.update(scale="log", channel="total")
    tab.show_brush((0.0, 0.5))
    await settle(tab)
    assert tab.page.brush == (3, 0.0, 0.5)
    live.runs["b"] = run_of("b", channels=("iron",))
    live.newest = "b"
    tab.wake()
    await settle(tab)
    assert tab.maps.channels == ("iron", "total")
    assert tab.page.brush == (1, 0.0, 0.5)
    assert {type(mapper).__name__ for mapper in tab.maps.mappers} == {"LogColorMapper"}
    scripts = tab.page.js_property_callbacks
    assert [len(scripts[name]) for name in ("change:news", "change:place")] == [1, 2]


@pytest.mark.parametrize(("shape", "profile"), [([1, 6], "row"), ([6, 1], "column")])
async def test_a_map_of_one_row_or_column_is_a_line_on_an_axis_with_the_scale_of_the_colors(
    shape: list[int], profile: str
) -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    await settle(tab)
    assert (tab.maps.profile, tab.maps.lines) == ("", [])
    live.runs["b"], live.newest = run_of("b", shape=shape), "b"
    tab.wake()
    await settle(tab)
    assert tab.maps.profile == profile
    plot = tab.maps.figures[0]
    scales = plot.extra_y_scales if profile == "row" else plot.extra_x_scales
    assert type(scales["values"]).__name__ == "LinearScale"
    kinds = [type(one.glyph).__name__ for one in plot.renderers]
    assert kinds == ["Image", "Line", "Scatter", "Image"]
    assert [one.visible for one in plot.renderers] == [False, True, True, True]
    assert not any(bar.visible for bar in tab.maps.bars)
    tab.choices.scale = "log"
    await settle(tab)
    plot = tab.maps.figures[0]
    scales = plot.extra_y_scales if profile == "row" else plot.extra_x_scales
    assert type(scales["values"]).__name__ == "LogScale"
    assert {type(mapper).__name__ for mapper in tab.maps.mappers} == {"LogColorMapper"}
    live.newest = "a"
    tab.wake()
    await settle(tab)
    assert (tab.maps.profile, tab.maps.bars[0].visible) == ("", True)


async def test_a_page_for_the_wall_has_maps_and_status_and_nothing_to_press() -> None:
    tab = Session(RunsInMemory(run_of("a")), RenderCache(), document=Document(), wall=True)
    dashboard = Dashboard(tab, place=ViewPlace(wall=True, enlarged="red", scale="log"))
    tab.start()
    await settle(tab)
    shown: Any = dashboard.__panel__()
    assert shown.select(TopBar) == [tab.topbar]
    assert tab.topbar.wall
    assert tab.maps.__panel__() in shown.select(pn.Column)
    assert [one for one in shown.select(pn.widgets.WidgetBase) if not isinstance(one, TopBar)] == []
    assert shown.select(Rail) == shown.select(SummaryTable) == []
    assert (tab.choices.enlarged, tab.choices.scale, tab.page.enlarged) == ("red", "log", "red")
    assert [plot.toolbar.tools for plot in tab.maps.figures] == [[]] * 4


class BusyConnection:
    """A browser that has not yet taken what was sent to it, as Bokeh and Panel know one."""

    def __init__(self) -> None:
        self.protocol = Protocol()
        self.write_lock = Lock()
        self._socket = self


async def test_the_browser_has_new_figures_before_it_is_told_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    document, connection = tab.document, BusyConnection()
    await settle(tab)
    document.add_root(tab.pane(MapsPane).place.get_root(document))
    session = SimpleNamespace(_subscribed_connections=[connection], _pending_writes=None)
    context = SimpleNamespace(session=session, request=SimpleNamespace(arguments={}, headers={}, cookies={}))
    monkeypatch.setattr(document, "_session_context", lambda: context)
    monkeypatch.setitem(pn.state._connected, document, True)
    monkeypatch.setitem(pn.state._loaded, document, True)
    monkeypatch.setitem(pn.state._thread_id_, document, threading.get_ident())
    told: list[Any] = []
    document.on_change(told.append)
    await connection.write_lock.acquire()
    live.runs["b"] = run_of("b", channels=("iron",))
    live.newest = "b"
    tab.wake()
    await settle(tab)
    attributes = [(event.model, event.attr) for event in told if isinstance(event, ModelChangedEvent)]
    first = [attribute for _, attribute in attributes].index("children")
    assert tab.page in [model for model, _ in attributes[first:]]
    assert tab.page not in [model for model, _ in attributes[:first]]


async def test_a_tick_waits_for_messages_that_it_would_overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    monkeypatch.setitem(panel_document._WRITE_BLOCK, tab.document, True)
    await settle(tab)
    assert tab.ticks == 0
    (later,) = [one for one in tab.document.session_callbacks if isinstance(one, TimeoutCallback)]
    monkeypatch.delitem(panel_document._WRITE_BLOCK, tab.document)
    await cast(Any, later.callback())
    assert (tab.ticks, tab.pipeline.run) == (1, tab.live.runs["a"])


async def test_a_map_is_enlarged_by_the_browser_or_by_a_choice_that_waits_for_a_run_that_has_it() -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    tab.choices.enlarged = "iron"
    await settle(tab)
    assert tab.page.enlarged == ""
    assert tab.maps.seen is tab.maps.figures[0]
    assert tab.choices.enlarged == "iron"
    live.runs["b"], live.newest = run_of("b", channels=("carbon", "iron")), "b"
    tab.wake()
    await settle(tab)
    assert tab.page.enlarged == "iron"
    assert tab.maps.seen is tab.maps.figures[1]
    tab.page.enlarged = "no channel"  # what a browser says is not believed
    assert tab.choices.enlarged == tab.page.enlarged == ""
    assert tab.maps.seen is tab.maps.figures[0]
    tab.page.enlarged = "total"
    assert tab.choices.enlarged == "total"
    assert tab.maps.seen is tab.maps.figures[2]


async def test_a_box_on_the_map_is_a_box_of_pixels_and_one_beside_it_is_none() -> None:
    tab = tab_of(RunsInMemory(run_of("a")))
    await settle(tab)
    tab.show_box((0.7, 1.6, -0.4, 1.4))  # axes are indices: cell edges at -0.5, 0.5, ...
    assert tab.choices.box == (0, 2, 1, 3)
    tab.show_box((50.0, 60.0, 50.0, 60.0))
    assert tab.choices.box is None


# each tab for itself


async def test_the_choices_of_one_tab_do_not_touch_anothers() -> None:
    live, levels = RunsInMemory(run_of("a"), run_of("b")), RenderCache()
    one, other = (tab_of(live, levels=levels) for _ in range(2))
    await settle(one, other)
    before = dict(other.choices.param.values())
    news = other.page.news
    one.choices.param.update(scale="log", limits="by hand", high=7.0, aspect="fill", channel="red", theme="light")
    one.choices.pinned = "a"
    one.show_brush((0.1, 0.2))
    one.show_box((0.0, 1.0, 0.0, 1.0))
    await settle(one, other)
    other.wake()
    await settle(one, other)
    assert dict(other.choices.param.values()) == before
    assert other.page.news is news
    assert other.page.brush is None
    assert (one.pipeline.run, other.pipeline.run) == (live.runs["a"], live.runs["b"])
    assert {type(mapper).__name__ for mapper in other.maps.mappers} == {"LinearColorMapper"}
    assert other.topbar.theme == "dark"


# pinned runs


async def test_a_pinned_run_is_opened_once_and_released_when_another_is_chosen() -> None:
    live = RunsInMemory(run_of("a"), run_of("b"), run_of("c"))
    tab = tab_of(live, pinned="a")
    await settle(tab)
    assert live.users == {"a": 1}
    assert tab.pipeline.run is live.runs["a"]
    tab.choices.pinned = "b"
    await settle(tab)
    assert live.users == {"b": 1}
    tab.choices.pinned = ""
    await settle(tab)
    assert live.users == {}
    assert tab.pipeline.run is live.runs["c"]


async def test_a_pinned_run_is_asked_for_again_after_the_store_was_away() -> None:
    live = RunsInMemory(run_of("a"), run_of("b"))
    live.away = True
    tab = tab_of(live, pinned="a")
    await settle(tab)
    assert (tab.choices.pinned, live.users, tab.pipeline.run) == ("a", {}, None)
    live.away = False
    (again,) = [one for one in tab.document.session_callbacks if getattr(one, "timeout", None) is not None]
    await cast(Any, again.callback)()
    await settle(tab)
    assert tab.pipeline.run is live.shelf["a"]


async def test_the_way_of_the_stage_is_told_once_and_taken_away_from_a_run_that_has_none() -> None:
    a, b = run_of("a"), Run({"uid": "b", "time": 1.0})
    live = RunsInMemory(b, a)
    tab = tab_of(live)
    tab.choices.stage_path = True
    await settle(tab)
    first = tab.page.stage_path
    assert first["ns"] == [1, 4, 5, 8, 9, 12, 13, 16]
    more(a, 6)
    tab.pane(MapsPane)._remembered["path at"] = 0.0
    tab.wake()
    await settle(tab)
    assert tab.page.stage_path is first
    assert news_of(tab)["at"] == 6
    tab.choices.pinned = "b"
    await settle(tab)
    assert tab.page.stage_path is None


async def test_two_tabs_share_the_way_of_the_stage() -> None:
    levels, live = RenderCache(), RunsInMemory(run_of("a"))
    one, other = tab_of(live, levels=levels), tab_of(live, levels=levels)
    await settle(one, other)
    assert one.pipeline.stage_path is other.pipeline.stage_path is not None


async def test_a_quick_change_of_mind_leaves_one_run_open() -> None:
    live = RunsInMemory(run_of("a"), run_of("b"), run_of("c"))
    tab = tab_of(live)
    await settle(tab)
    live.may_open.clear()
    opening = []
    for uid in ("a", "b", "a", "b"):
        tab.choices.pinned = uid
        opening.append(asyncio.create_task(tab._pin()))
        await asyncio.sleep(0)
    live.may_open.set()
    await asyncio.gather(*opening)
    await settle(tab)
    assert live.users == {"b": 1}
    assert tab.pipeline.run is live.runs["b"]


async def test_a_run_that_is_not_there_is_told_and_another_tabs_stays_open(caplog: pytest.LogCaptureFixture) -> None:
    live = RunsInMemory(run_of("a"), run_of("b"))
    tab, other = tab_of(live, pinned="nowhere"), tab_of(live, pinned="a")
    with caplog.at_level(logging.WARNING):
        await settle(tab, other)
    assert "nowhere" in caplog.text
    assert tab.choices.pinned == ""
    assert tab.pipeline.run is live.runs["b"]
    assert live.users == {"a": 1}


# the end of a tab


async def test_nothing_refers_to_a_tab_whose_session_was_destroyed() -> None:
    live, levels = RunsInMemory(run_of("a"), run_of("b")), RenderCache()
    tab = tab_of(live, levels=levels, pinned="a")
    page = Dashboard(tab)
    await settle(tab)
    tab.show_brush((0.1, 0.9))
    tab.show_box((0.0, 1.0, 0.0, 1.0))
    tab.choices.param.update(scale="log", theme="light")
    await settle(tab)
    gone = [weakref.ref(one) for one in (tab, tab.pipeline, tab.maps, tab.choices, page)]
    destroy(tab)
    del tab, page
    gc.collect()
    assert [one() for one in gone] == [None] * len(gone)
    assert live.watchers == 0
    assert live.users == {}
    assert "b" in live.runs


async def test_a_run_that_is_opened_after_its_tab_has_gone_is_released() -> None:
    live = RunsInMemory(run_of("a"), run_of("b"))
    live.may_open.clear()
    tab = tab_of(live, pinned="a")
    opening = asyncio.create_task(tab._pin())
    await asyncio.sleep(0)
    destroy(tab)
    live.may_open.set()
    await opening
    assert live.users == {}


async def test_a_tab_that_has_gone_ticks_no_more() -> None:
    live = RunsInMemory(run_of("a"))
    tab = tab_of(live)
    destroy(tab)
    await settle(tab)
    tab.wake()
    assert tab.ticks == 0
    assert not tab.document.session_callbacks


async def test_a_run_at_the_same_version_as_the_one_before_is_another_base_for_the_browser() -> None:
    live = RunsInMemory(run_of("a", points=0))
    tab = tab_of(live)
    await settle(tab)
    before = tab.page.base
    live.runs["b"] = run_of("b", points=0)
    live.newest = "b"
    tab.wake()
    await settle(tab)
    assert tab.page.base != before
