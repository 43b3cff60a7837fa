"""The session of a tab: view state, pipeline, panes, and the tick that updates them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import panel as pn
from bokeh.document import Document
from bokeh.events import DocumentReady
from panel.io.state import set_curdoc

from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.core.channels import DEFAULT_CHANNELS
from snakemap.core.maps import Maps
from snakemap.core.raster import Raster
from snakemap.core.roi import Roi
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.callbacks import UNSENT_MS, later, on_change, soon, unsent
from snakemap.dashboard.client_state import ClientState, inner_size, news_text, script
from snakemap.dashboard.model_walk import walked_once
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.own_regions import fitting
from snakemap.dashboard.panes.frame import FrameView
from snakemap.dashboard.panes.histogram import HistogramView
from snakemap.dashboard.panes.maps import MapsView, map_kind
from snakemap.dashboard.panes.status_text import RUNS_SHOWN, RateEstimate, history, lights, progress, sought, table
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.playback import Playback
from snakemap.dashboard.proportions import stretch
from snakemap.dashboard.quantities import unit_text
from snakemap.dashboard.theme import THEMES
from snakemap.dashboard.view_state import Choices
from snakemap.dashboard.widgets import RunList, SummaryTable, TopBar
from snakemap.errors import SnakemapError, StoreUnavailable
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache
from snakemap.render.stage_path import StagePath
from snakemap.resources import asset

__all__ = ["Session"]

log = logging.getLogger(__name__)

STATUS_PERIOD_S = 1.0
"""Period of status text and tables, which also change after a choice; a change costs as much as an update of maps."""

NOT_SENT = object()
FRAME_PERIOD_S = 0.25
SETTLE_MS = 150
NO_FRAME = "of the frames only the newest is kept"
RETRY_MS = 1000
"""Until a run that was asked for is looked for again, after Redis was away."""


class Session:
    """One browser tab: its view state, panes and updates; freed when its session is destroyed.

    Args:
        live: the runs of this process.
        levels: the coarse maps of this process.
        document: Bokeh's, of this session.
        pinned: uid of the run to stay with; empty follows the newest.
        theme: colors of the page.
        wall: whether the page is read from afar.
    """

    def __init__(
        self,
        live: RunFollower,
        levels: RenderCache,
        *,
        document: Document,
        pinned: str = "",
        theme: str = "dark",
        wall: bool = False,
    ) -> None:
        self.live = live
        self.document = document
        self.choices = Choices(pinned=pinned, theme=theme, wall=wall)
        self.playback = Playback(live.past, on_change=self._soon, on_trouble=self._warn)
        self.pipeline = Pipeline(self.choices, levels)
        colors = THEMES[theme]
        self.maps = self._new_maps(DEFAULT_CHANNELS)
        self.histogram = HistogramView(theme=colors, on_brush=self.show_brush)
        self.frame = FrameView(theme=colors)
        self.summary = SummaryTable(sizing_mode="stretch_width")
        self.topbar = TopBar(sizing_mode="stretch_width", theme=theme, height=40, logo=asset("logo.svg"))
        self.run_list = RunList(sizing_mode="stretch_width", pinned=pinned)
        self.maps_place = pn.Column(self.maps, sizing_mode="stretch_both", margin=0)
        self.pace = RateEstimate()
        self.ticks = 0
        self._news: dict[str, Any] = {}
        self._sent = 0
        self.lone = False
        self.pictures = True
        self.approximate: tuple[str, ...] = ()
        self.shown_limits: list[tuple[float, float]] = []
        self._bars: Any = None
        self._spans: list[tuple[float, float] | None] = []
        self._range: tuple[Any, ...] = ()
        self._status_at = 0.0
        self._frame_at = 0.0
        self._waiting = False
        self._held = False
        self._opened = ""
        self._begun = self._gone = False
        self._channel_callbacks: list[Callable[[tuple[str, ...]], None]] = []
        self._source_callbacks: list[Callable[[list[str]], None]] = []
        self._status_callbacks: list[Callable[[Run | None], None]] = []
        self._close_callbacks: list[Callable[[], None]] = []
        self._tick_callbacks: list[Callable[[], None]] = []
        self._run_callbacks: list[Callable[[Run | None], None]] = []
        self._zoom_callbacks: list[Callable[[], None]] = []
        self._box_callbacks: list[Callable[[tuple[float, float, float, float]], None]] = []
        self._tap_callbacks: list[Callable[[float, float], None]] = []
        self._double_tap_callbacks: list[Callable[[], None]] = []
        self._walk_callbacks: list[Callable[[Any], None]] = []
        self.worker: Callable[[], WorkerStatus | None] = lambda: None
        self.show_past_frame: Callable[[Run, MapSource], None] = lambda run, source: self.frame.blank(NO_FRAME)
        self.show_mean_frame: Callable[[Run], None] = lambda run: self.frame.blank(NO_FRAME)
        self.source_names: list[str] = []
        self._trail: StagePath | object | None = NOT_SENT
        self._trail_at = 0.0
        self._at = -1
        self._connect()

    def start(self) -> None:
        """Begin to follow the runs; called when the browser has the page."""
        self._begun = True
        self.live.start()
        self.live.watch(self, self.wake)
        self.document.on_session_destroyed(self._on_destroyed)
        if self.choices.pinned:
            self.document.add_next_tick_callback(self._pin)
        self.wake()

    def start_when_ready(self) -> None:
        """Start when the browser has the page; it misses what is sent earlier."""

        async def begin() -> None:
            self.start()  # on the event loop: Bokeh may call handlers of events in another thread

        self.document.on_event(DocumentReady, lambda _: self.document.add_next_tick_callback(begin))

    def wake(self) -> None:
        """Schedule one tick, unless one is pending."""
        if self._waiting or self._gone or not self._begun:
            return
        self._waiting = True
        soon(self.document, self.tick)

    def tick(self) -> None:
        """Update the whole page in one message."""
        if self._gone:
            return
        if unsent(self.document):
            later(self.document, self.tick, UNSENT_MS)
            return
        self._waiting = False
        self.ticks += 1
        now = time.time()
        shown = self._current()
        run = self.playback.drawn_of(shown)
        if run is not self.pipeline.run:
            self._switch(run)
        for callback in self._run_callbacks:
            callback(run)
        if run is not None and self._wanted_kind() != self.maps.kind:
            self._replace_maps(self.pipeline.maps.channels)
            self.wake()  # the browser must have the new figures before their content
            return
        self.document.hold("combine")
        try:
            with walked_once(self.document):
                if run is not None:
                    self._draw(run)
                if now - self._status_at >= STATUS_PERIOD_S:
                    self._write(shown, now=now)
                if run is not None and now - self._frame_at >= FRAME_PERIOD_S:
                    self._show_frame(run, now=now)
                for callback in self._tick_callbacks:
                    callback()
                if self._news:
                    self._sent += 1
                    self.page.news, self._news = news_text({**self._news, "number": self._sent}), {}
        finally:
            self.document.unhold()

    def _wanted_kind(self) -> tuple[Any, ...]:
        """Return the kind of the figures of the run that is drawn."""
        return map_kind(self.pipeline, self.pipeline.maps.channels, self.pipeline.profile)

    def _draw(self, run: Run) -> None:
        """Send changes of maps, colors and histogram."""
        maps = self.pipeline.maps
        changes = self.pipeline.update()
        if changes is None:
            self.maps.draw(run)
            self._news["veil"] = True
            self.shown_limits = []
        elif changes["cells"] or changes["from"] != changes["to"]:
            self._news.update(self.maps.update(changes))
        spans = self.pipeline.spans()
        if spans != self._spans:
            self._news["spans"] = self._spans = spans
        self._name_range()
        limits = self.pipeline.limits()
        if limits != self.shown_limits:
            self._news["limits"] = self.shown_limits = limits
        bars = self.pipeline.histogram()
        if self._bars is None or not np.array_equal(bars, self._bars):
            self._bars = bars
            self._news["bars"] = self.histogram.update(bars)
        if self.choices.trail:
            self._send_stage(maps)

    def _name_range(self) -> None:
        """Send the range of the histogram, which changes while data grow."""
        pipeline = self.pipeline
        range_ = (pipeline.span, pipeline.unit, pipeline.in_shares)
        if range_ == self._range:
            return
        if range_[1:] != self._range[1:]:
            self.histogram.show_unit(pipeline.unit, in_shares=pipeline.in_shares)
        self._range = range_
        if pipeline.span[0] == pipeline.span[0]:
            self._news["range"] = pipeline.span

    def _send_stage(self, maps: Maps) -> None:
        """Send the position of the stage, and its path if that has changed."""
        if time.time() - self._trail_at >= STATUS_PERIOD_S:
            trail, self._trail_at = self.pipeline.trail, time.time()
            if trail is not self._trail:
                self._trail = trail
                self.maps.show_trail(trail)
        at = int(maps.raster.seq_nums([maps.last_cell])[0]) if maps.last_cell >= 0 else 0
        if at != self._at:
            self._news["at"] = self._at = at

    def _write(self, run: Run | None, *, now: float) -> None:
        """Update status text and tables: the run as it is now in the top bar, and what is drawn of it in the table."""
        self._status_at = now
        drawn = self.pipeline.run
        if run is not None:
            self.pace.note(run.points, now=now)
        brush = self.choices.brush
        brushed = {"range": brush, "channel": self.choices.channel} if brush else None
        with set_curdoc(self.document):
            self._set(self.topbar, state=self._topbar_state(run, now=now))
            if drawn is not None:
                self.maps.note(self._notes(drawn), of=self._remark())
                found = drawn.cross_checks(self.pipeline.base)
                marks = {one.channel: one.described for one in found}
                self.maps.name_channels(self._titles({one.channel: one.short for one in found}))
                summary = table(self.pipeline, self.pipeline.summaries(), brushed=brushed, marks=marks)
                self._set(self.summary, state=summary)
                self._name_sources(drawn)
            found = sought(self.live.summaries, self.run_list.wanted)
            self._set(
                self.run_list,
                runs=history(found, now=now, pictures=self.pictures),
                more=max(0, len(found) - RUNS_SHOWN),
            )
            for callback in self._status_callbacks:
                callback(run)

    def _titles(self, marks: dict[str, str]) -> dict[str, str]:
        """Return the text beside the name of each map: its unit, or a sum of the detector that differs."""
        units = {channel: unit_text(unit) for channel, unit in self.pipeline.source.units.items()}
        words = {channel: f"({unit})" for channel, unit in units.items() if unit}
        words |= dict.fromkeys(self.approximate, "≈")
        return words | {channel: f"⚠ {mark}" for channel, mark in marks.items() if mark}

    def _name_sources(self, run: Run) -> None:
        """Notify the toolbar when the sources of the run have changed."""
        names = list(run.sources)
        if names != self.source_names:
            self.source_names = names
            for callback in self._source_callbacks:
                callback(names)

    @staticmethod
    def _set(component: Any, **values: Any) -> None:
        """Set parameters that differ."""
        changed = {name: value for name, value in values.items() if getattr(component, name) != value}
        if changed:
            component.param.update(**changed)

    def _topbar_state(self, run: Run | None, *, now: float) -> dict[str, Any]:
        moment, worker = self.playback.moment, self.worker()
        state: dict[str, Any] = {"lights": lights(self.live, run, now=now, worker=worker, moment_ms=moment)}
        if run is None:
            return {**state, "plan": "no run yet", "points": 0, "figures": "waiting for the first scan"}
        name = str(run.start.get("plan_name") or "run")
        scan_id = run.start.get("scan_id")
        return {
            **state,
            "uid": run.uid,
            "plan": f"{name} · {scan_id}" if scan_id is not None else name,
            "status": run.status,
            "reason": run.reason,
            "geometry": self._drawn_raster().described,
            "points": run.points,
            "expected": run.expected,
            "figures": progress(run, self.pace, now=now),
        }

    def _drawn_raster(self) -> Raster:
        """Return the raster that is described: that of the run, or the typed one."""
        typed = self.choices.shape is not None
        return self.pipeline.picture.raster if typed else self.pipeline.maps.raster

    def _remark(self) -> str:
        """Return the remark that is no warning: how a path was drawn, and what a log scale cannot show."""
        raster = self._drawn_raster()
        path = raster.note.strip() if self.pipeline.maps.raster.path is not None else ""
        return " ".join(filter(None, (path, self._stretch_remark(), self._log_remark())))

    def _stretch_remark(self) -> str:
        """Return which axis is stretched although distances could be true."""
        return stretch(self.choices.aspect, self.pipeline.picture.raster)

    def _log_remark(self) -> str:
        """Return a remark on pixels that a log scale cannot show."""
        maps = self.pipeline.maps
        if self.choices.scale != "log" or not any(maps.summary(k).minimum <= 0 for k in range(len(maps.channels))):
            return ""
        return "Gray pixels are 0 or negative: they have no logarithm."

    def _limits_note(self) -> str:
        """Return why limits that are set by hand are not used."""
        refusal = self.pipeline.refusal
        return f"The color limits set by hand are not used: {refusal}." if refusal else ""

    def _notes(self, run: Run) -> str:
        """Return all notes on a run in one line."""
        maps = self.pipeline.maps
        notes = [
            self._drawn_raster().note,
            self._stretch_remark(),
            self._log_remark(),
            self._limits_note(),
            run.reason if run.status != "complete" or run.filled else "",
        ]
        if outside := self.pipeline.base.maps.out_of_range:
            notes.append(f"{outside:,} points lie outside the {maps.raster.rows} x {maps.raster.columns} shape.")
        if self.approximate:
            names = ", ".join(self.approximate)
            notes.append(f"{names}: approximate at the edges; exact values are being read from the file.")
        notes += [f"{mark}." for one in run.cross_checks(self.pipeline.base) if (mark := one.described)]
        troubles = [str(one.get("trouble") or "") for one in self.live.summaries[:200] if one["uid"] == run.uid]
        notes += [remark for remark in run.remarks if not any(remark in trouble for trouble in troubles)]
        notes += troubles
        return " ".join(dict.fromkeys(note.strip() for note in notes if note.strip()))

    def _show_frame(self, run: Run, *, now: float) -> None:
        self._frame_at = now
        source = self.pipeline.base
        if source.kind != "frames":
            source = run.main
        self.frame.regions = {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in self.shown_regions}
        if self.choices.frame_of != "point":
            self.show_mean_frame(run)
            return
        if self.playback.moment is not None or self.choices.point:
            self.show_past_frame(run, source)
            return
        frame, number = self.live.frame(run.uid, _frames_of(run, source))
        self.frame.draw(source, frame, number=number)

    def _current(self) -> Run | None:
        if self.choices.pinned:
            return self.live.runs.get(self.choices.pinned)
        return self.live.runs.get(self.live.newest or "")

    def _switch(self, run: Run | None) -> None:
        """Draw another run, or the same run at another time."""
        before = self.pipeline.run
        self.pipeline.look_at(run)
        if run is not None and before is not None and run.uid == before.uid:
            self._status_at = self._frame_at = 0.0
            self._forget_shown()
            self._keep_box()
            return
        self.pace = RateEstimate()
        self.frame.clear()
        self._status_at = 0.0
        self._forget_shown()
        self.choices.param.update(box=None, point=0, frame_of="point", background=0)
        if run is not None:
            self._keep_what_fits(run)
        self._show_frames()

    def _keep_box(self) -> None:
        """Clear a box whose cells do not exist at another time, when less of the path was known."""
        box, raster = self.choices.box, self.pipeline.picture.raster
        if box is not None and (box[1] > raster.rows or box[3] > raster.columns):
            with set_curdoc(self.document):
                self.choices.box = None

    def _keep_what_fits(self, run: Run) -> None:
        """Reset choices that the run does not have: a source, or a typed shape."""
        with set_curdoc(self.document):
            if self.choices.source not in run.sources:
                self.choices.source = ""
            if self.choices.shape is not None and run.raster.certain:
                self.choices.shape = None

    def _show_frames(self) -> None:
        run = self.pipeline.run
        if run is None:
            self.live.show_frames_of(self, None)
            return
        source = self.pipeline.base
        self.live.show_frames_of(self, run.uid, "" if source.kind != "frames" else _frames_of(run, source))

    def _new_maps(self, channels: tuple[str, ...]) -> MapsView:
        profile = self.pipeline.profile if self.pipeline.run is not None else ""
        return MapsView(
            self.pipeline,
            channels=channels,
            profile=profile,
            on_box=self.show_box,
            on_tap=self._on_tap,
            on_double_tap=self._on_double_tap,
        )

    def on_channels(self, callback: Callable[[tuple[str, ...]], None]) -> None:
        """Register a callback for a change of channels."""
        self._channel_callbacks.append(callback)

    def on_sources(self, callback: Callable[[list[str]], None]) -> None:
        """Register a callback for a change of sources."""
        self._source_callbacks.append(callback)

    def on_status(self, callback: Callable[[Run | None], None]) -> None:
        """Register a callback for updates of status text, at most once a second; it gets the run that is shown."""
        self._status_callbacks.append(callback)

    def on_tick(self, callback: Callable[[], None]) -> None:
        """Register a callback for every tick: at most ten times a second, while data change."""
        self._tick_callbacks.append(callback)

    def on_run(self, callback: Callable[[Run | None], None]) -> None:
        """Register a callback for every tick, before its run is drawn; it gets the run."""
        self._run_callbacks.append(callback)

    def on_zoom(self, callback: Callable[[], None]) -> None:
        """Register a callback for zooms and pans by hand, after they rest."""
        self._zoom_callbacks.append(callback)

    def on_box(self, callback: Callable[[tuple[float, float, float, float]], None]) -> None:
        """Register a callback for boxes drawn on a map: left, right, bottom and top in its coordinates."""
        self._box_callbacks.append(callback)

    def on_tap(self, callback: Callable[[float, float], None], *, double: Callable[[], None]) -> None:
        """Register callbacks for clicks on a map, with their coordinates, and for double clicks."""
        self._tap_callbacks.append(callback)
        self._double_tap_callbacks.append(double)

    def on_walk(self, callback: Callable[[Any], None]) -> None:
        """Register a callback for arrow keys over a map; it gets the message of the browser."""
        self._walk_callbacks.append(callback)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Register a callback for the end of the tab."""
        self._close_callbacks.append(callback)

    def _replace_maps(self, channels: tuple[str, ...]) -> None:
        """Replace the figures, for another set of channels.

        Messages are held until all is done: while the connection is busy, Panel sends the figures later than Bokeh
        sends the changes of the next tick.
        """
        self.document.hold("combine")
        try:
            self._exchange_maps(channels)
        finally:
            self.document.unhold()

    def _exchange_maps(self, channels: tuple[str, ...]) -> None:
        with set_curdoc(self.document):
            self.choices.box = None
            self.maps = self._new_maps(channels)
            self._connect_maps()
            for callback in self._channel_callbacks:
                callback(channels)
            if self.choices.channel not in channels:
                self.choices.channel = channels[-1]
            self._on_scale(None)
            self.show_brush(self.choices.brush)  # by number, the channel may be another one
            # last, and with a model of its own: changes of figures must reach the browser after the figures
            self.maps_place[:] = [self.maps]
        self._sent = 0
        self._forget_shown()
        self.pipeline.shown.version = -1
        if self.lone:
            self.stand_alone()

    def stand_alone(self) -> None:
        """Make the histogram work on a page without the maps, whose scripts update it."""
        self.lone = True
        self.histogram.figure.tags = [self.page]

    def _forget_shown(self) -> None:
        """Send everything beside the cells again."""
        self._bars, self.shown_limits, self._spans, self._range = None, [], [], ()
        self._trail, self._trail_at, self._at = NOT_SENT, 0.0, -1

    @property
    def page(self) -> ClientState:
        """What the scripts of the maps share."""
        return self.maps.page

    def _connect(self) -> None:
        self._connect_maps()
        self.choices.param.watch(self._on_channel, "channel")
        self.choices.param.watch(self._on_scale, "scale")
        self.choices.param.watch(self._on_limits, "scale")  # the note under the maps depends on it
        self.choices.param.watch(self._on_limits, ["limits", "low", "high"])
        self.choices.param.watch(self._on_aspect, "aspect")
        self.choices.param.watch(lambda event: self.maps.set_colors(event.new), "colors")
        self.choices.param.watch(lambda event: self.maps.enlarge(event.new), "enlarged")
        self.choices.param.watch(self._on_source, "source")
        self.choices.param.watch(self._on_layout, ["source", "shape", "exchanged"])
        self.choices.param.watch(self._on_point, ["point", "frame_of"])
        self.choices.param.watch(self._on_trail, "trail")
        self.choices.param.watch(self._on_box_choice, "box")
        self.choices.param.watch(self._on_theme, "theme")
        self.choices.param.watch(self._on_pinned, "pinned")
        self.topbar.link(self.choices, theme="theme")
        self.run_list.link(self.choices, pinned="pinned")
        self.run_list.param.watch(lambda _: self._soon(), "wanted")

    def _connect_maps(self) -> None:
        arguments = {"page": self.page, "cells": self.maps.cells, "names": list(self.maps.channels)}
        bars, count_range = self.histogram.source, self.histogram.count_range
        arguments |= {"bars": bars, "count_range": count_range, "mappers": self.maps.mappers}
        arguments["value_range"] = self.histogram.value_range
        arguments["trail"] = self.maps.trail_script
        self._update = script("update", **arguments)
        self.page.js_on_change("news", self._update)
        on_change(self.page, "missed", callback=self._on_missed)
        on_change(self.page, "zoom", callback=self._on_zoom)
        on_change(self.page, "enlarged", callback=self._on_enlarged)
        on_change(self.page, "walk", callback=self._on_walk)
        for axis in (self.maps.x_range, self.maps.y_range):
            on_change(axis, "start", "end", callback=self._on_view)

    def show_brush(self, brush: tuple[float, float] | None) -> None:
        """Highlight the pixels of a range of the chosen channel, relative to its maximum; None: no range."""
        self.choices.brush = brush
        self.page.brush = (self.pipeline.channel, *brush) if brush and self.pipeline.run else None
        self.histogram.show_brush(brush)
        self._soon(veil=True)

    def show_box(self, corners: tuple[float, float, float, float] | None) -> None:
        """Show the histogram of a box: left, right, bottom and top in the units of the axes; None for all."""
        run = self.pipeline.run
        if corners is None or run is None:
            self.choices.box = None
            return
        row0, row1, column0, column1 = self.pipeline.cells_in(*corners)
        raster = self.pipeline.picture.raster
        rows = max(0, int(np.floor(row0))), min(raster.rows, int(np.ceil(row1)))
        columns = max(0, int(np.floor(column0))), min(raster.columns, int(np.ceil(column1)))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            self.choices.box = None
            return
        self.choices.box = (*rows, *columns)
        self.maps.show_box(corners)
        for callback in self._box_callbacks:
            callback(corners)

    def _on_box_choice(self, _: Any) -> None:
        if self.choices.box is None:
            self.maps.show_box(None)
        self._name_histogram()

    def _on_channel(self, _: Any) -> None:
        self._name_histogram()
        if self.choices.brush is not None:
            self.show_brush(self.choices.brush)
        self._soon()

    def _name_histogram(self) -> None:
        channels, boxed = self.maps.channels, self.choices.box is not None
        self.histogram.name_it(self.choices.channel, of_box=boxed, channels=channels)
        self._soon()

    def _on_scale(self, _: Any) -> None:
        run = self.pipeline.run
        if run is not None and self._wanted_kind() != self.maps.kind:
            self._soon()
            return  # the next tick brings other maps
        self.shown_limits = self.pipeline.limits() if run else [(0.1, 1.0)] * len(self.maps.channels)
        self.maps.set_scale(self.choices.scale, self.shown_limits)
        self._update.args = {**self._update.args, "mappers": self.maps.mappers}

    def _on_limits(self, *_: Any) -> None:
        self._soon()

    def _on_aspect(self, _: Any) -> None:
        if self.page.place and self.pipeline.run is not None:
            self.page.place = {**self.page.place, "aspect": self.pipeline.aspect}

    @property
    def shown_regions(self) -> tuple[Roi, ...]:
        """The regions of this tab that are drawn."""
        return fitting(self.pipeline.own.rois, self.pipeline.base) if self.pipeline.run is not None else ()

    def use_regions(self, rois: Sequence[Roi]) -> None:
        """Draw other regions of this tab."""
        self.pipeline.own.use(rois)
        self.choices.box = None
        self._forget_shown()
        self.pipeline.reset()
        self._soon(veil=True)

    def show_regions(self) -> None:
        """Outline the regions of this tab where they are now, before the next frame."""
        if self.pipeline.run is not None:
            self.frame.regions = {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in self.shown_regions}
            self.frame.draw(self.pipeline.base, None, number=None)

    def mark_approximate(self, names: Sequence[str]) -> None:
        """Mark maps whose values are not exact yet."""
        self.approximate = tuple(names)
        self._status_at = 0.0

    def _on_source(self, _: Any) -> None:
        """Show the newest frame: another source may count other points."""
        self.choices.param.update(point=0, frame_of="point", background=0)

    def _on_point(self, *_: Any) -> None:
        self._frame_at = 0.0
        self._soon()

    def _on_tap(self, x: float, y: float) -> None:
        for callback in self._tap_callbacks:
            callback(x, y)

    def _on_double_tap(self) -> None:
        for callback in self._double_tap_callbacks:
            callback()

    def _on_walk(self, attribute: str, old: Any, new: Any) -> None:
        for callback in self._walk_callbacks:
            callback(new)

    def _on_layout(self, *_: Any) -> None:
        """Draw another source, or the same one in another layout."""
        self.choices.box = None
        self.frame.clear()
        self._forget_shown()
        self.pipeline.reset()
        self._show_frames()
        self._soon(veil=True)

    def _on_trail(self, _: Any) -> None:
        self._trail, self._trail_at, self._at = NOT_SENT, 0.0, -1
        if not self.choices.trail:
            self.maps.show_trail(None)
        self._soon()

    def _on_theme(self, _: Any) -> None:
        theme = THEMES[self.choices.theme]
        for view in (self.maps, self.histogram, self.frame):
            view.restyle(theme)
        self._soon()

    def _on_view(self, attribute: str, old: Any, new: Any) -> None:
        """Schedule a check after a zoom: large maps may need other cells."""
        if self._held or self.pipeline.whole:
            return
        self._held = True
        later(self.document, self._look_closer, SETTLE_MS)

    def _on_enlarged(self, attribute: str, old: str, new: str) -> None:
        """Store which map is enlarged; more of its cells may be needed."""
        if new or self.choices.enlarged in self.maps.channels:  # else it waits for a run that has it
            self.choices.enlarged = new if new in self.maps.channels else ""
        self._on_view(attribute, old, new)

    def _on_zoom(self, attribute: str, old: Any, new: Any) -> None:
        for callback in self._zoom_callbacks:
            callback()

    def _look_closer(self) -> None:
        self._held = False
        run, plot = self.pipeline.run, self.maps.seen
        x, y = self.maps.x_range, self.maps.y_range
        width, height = inner_size(plot, (0, 0))
        if run is None or not width or not height:
            return  # the browser has not sent the size yet
        view = self.pipeline.cells_in(x.start, x.end, y.start, y.end)
        if self.pipeline.resize(view=view, pixels=(float(height), float(width))):
            self._soon()

    def _on_missed(self, attribute: str, old: int, new: int) -> None:
        log.info("a tab missed an update and is sent everything again (%s times)", new)
        self.pipeline.shown.version = -1
        self._forget_shown()
        self._soon()

    def _on_pinned(self, event: Any) -> None:
        self._set(self.run_list, pinned=self.choices.pinned)
        self.document.add_next_tick_callback(self._pin)

    async def _pin(self) -> None:
        uid = self.choices.pinned
        if uid != self._opened:
            self._release_run()
            if uid:
                await self._open(uid)
        self._status_at = 0.0
        self.wake()

    async def _open(self, uid: str) -> None:
        """Open a run for this tab; release it if the user has chosen another run, or left, meanwhile."""
        try:
            await self.live.open(uid)
        except StoreUnavailable:
            if not self._gone:
                self.document.add_timeout_callback(self._pin, RETRY_MS)
            return
        except SnakemapError as trouble:
            log.warning("cannot show run %s: %s", uid, trouble)
            if self.choices.pinned == uid and not self._gone:
                with set_curdoc(self.document):
                    self.choices.pinned = ""
                self._warn(str(trouble))
            return
        if self._gone or self.choices.pinned != uid or self._opened == uid:
            self.live.release(uid)
        else:
            self._opened = uid

    def _warn(self, text: str) -> None:
        """Show a warning for some seconds."""
        if self._gone:
            return
        with set_curdoc(self.document):
            warn(text)

    def _release_run(self) -> None:
        """Release the run that :meth:`_open` has opened."""
        opened, self._opened = self._opened, ""
        if opened:
            self.live.release(opened)

    def clear_selections(self) -> None:
        """Clear brush and box."""
        self.choices.box = None
        self.show_brush(None)

    def _soon(self, *, veil: bool = False) -> None:
        if veil:
            self._news["veil"] = True
        self._status_at = 0.0
        self.wake()

    def _on_destroyed(self, _: Any) -> None:
        self.end()

    def end(self) -> None:
        """Release all resources; idempotent."""
        if self._gone:
            return
        self._gone = True
        self.playback.end()
        self.live.unwatch(self)
        self.live.show_frames_of(self, None)
        self._release_run()
        self.pipeline.look_at(None)
        for callback in self._close_callbacks:
            callback()


def _frames_of(run: Run, source: MapSource) -> str:
    """Return the data key of a camera that is not the main one; else empty."""
    return "" if source is run.main else run.name_of(source)
