"""The maps of a session: figures for the channels of its run, replaced when a run has others."""

from __future__ import annotations

import logging
import time
from typing import Any, Self

import panel as pn
from bokeh.models import CustomJS

from snakemap.core.channels import DEFAULT_CHANNELS
from snakemap.core.run import Run
from snakemap.dashboard.callbacks import later, on_change
from snakemap.dashboard.client_state import inner_size
from snakemap.dashboard.pane import Pane
from snakemap.dashboard.panes.maps import MapsView, map_kind
from snakemap.dashboard.run_text import channel_titles, run_notes, run_remark
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.theme import Theme

__all__ = ["MapsPane"]

log = logging.getLogger(__name__)

PATH_PERIOD_S = 1.0
"""Seconds between two drawings of the path of the stage, which is much longer than a few new cells."""

SETTLE_MS = 150


class MapsPane(Pane):
    """The place of the maps on the page, and what is sent to them.

    Args:
        session: whose maps they are.

    Attributes:
        view: the figures.
        place: in the page.
        limits: lowest and highest color of each channel that is shown.
    """

    script = "maps_update"

    def __init__(self, session: SessionContext, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.view = self._new_view(DEFAULT_CHANNELS)
        self.place = pn.Column(self.view, sizing_mode="stretch_both", margin=0)
        self.limits: list[tuple[float, float]] = []
        self._checks_zoom = False
        self._update_script: CustomJS | None = None
        choices = session.choices
        choices.param.watch(self._on_scale, "scale")
        choices.param.watch(self._on_aspect, "aspect")
        choices.param.watch(lambda event: self.view.set_colors(event.new), "colors")
        choices.param.watch(lambda _: self.view.show_grid(), "grid")
        choices.param.watch(lambda event: self.view.enlarge(event.new), "enlarged")
        choices.param.watch(self._on_stage_path, "stage_path")
        session.on_status(self._on_status)

    @classmethod
    def of(cls, session: SessionContext) -> Self:
        """Return the maps of a session."""
        return cls(session)

    def __panel__(self) -> pn.viewable.Viewable:
        return self.place

    def script_arguments(self) -> dict[str, Any]:
        """Return the models that receive cells, colors and the place of the stage."""
        view = self.view
        names = list(view.channels)
        return {"cells": view.cells, "names": names, "mappers": view.mappers, "stage": view.stage_script}

    def use_script(self, script: CustomJS) -> None:
        """Run the update script of the session at every message, and listen to the browser."""
        self._update_script = script
        page, view = self.view.page, self.view
        page.js_on_change("news", script)
        on_change(page, "missed", callback=self._on_missed)
        on_change(page, "zoom", callback=lambda *_: self.session.notify("zoom"))
        on_change(page, "enlarged", callback=self._on_enlarged)
        on_change(page, "walk", callback=lambda attribute, old, new: self.session.notify("walk", new))
        for axis in (view.x_range, view.y_range):
            on_change(axis, "start", "end", callback=self._on_view)

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.view.restyle(theme)

    @property
    def is_outdated(self) -> bool:
        """Whether the run that is drawn needs other figures."""
        pipeline = self.session.pipeline
        return map_kind(pipeline, pipeline.maps.channels, pipeline.profile) != self.view.kind

    def renew(self) -> None:
        """Make figures for the channels of the run that is drawn; :meth:`put` shows them."""
        self.session.choices.box = None
        self.view = self._new_view(self.session.channels)

    def put(self) -> None:
        """Show the figures, last: changes of figures must reach the browser after them."""
        self.place[:] = [self.view]

    def update(self, session: SessionContext) -> None:
        """Send changes of cells, colors and the place of the stage."""
        pipeline, run = session.pipeline, session.pipeline.run
        changes = pipeline.update()
        if changes is None and run is not None:
            self.view.draw(run)
            session.news["dim"] = True
            self.limits = []
        elif changes is not None and (changes["cells"] or changes["from"] != changes["to"]):
            session.news.update(self.view.update(changes))
        spans = pipeline.spans()
        if self.is_new("spans", spans):
            session.news["spans"] = spans
        limits = pipeline.limits()
        if limits != self.limits:
            session.news["limits"] = self.limits = limits
        if session.choices.stage_path:
            self._send_stage()

    def forget(self) -> None:
        """Forget what was sent beside the cells."""
        super().forget()
        self.limits = []

    def _new_view(self, channels: tuple[str, ...]) -> MapsView:
        session = self.session
        return MapsView(
            session.pipeline,
            channels=channels,
            profile=session.pipeline.profile if session.pipeline.run is not None else "",
            on_box=session.show_box,
            on_tap=lambda x, y: session.notify("tap", x, y),
            on_double_tap=lambda: session.notify("double tap"),
        )

    def _send_stage(self) -> None:
        """Send the position of the stage, and its path if that has changed."""
        maps, now = self.session.pipeline.maps, time.time()
        if now - self._remembered.get("path at", 0.0) >= PATH_PERIOD_S:
            path, self._remembered["path at"] = self.session.pipeline.stage_path, now
            if self._remembered.get("path", self) is not path:
                self._remembered["path"] = path
                self.view.show_stage_path(path)
        at = int(maps.raster.seq_nums([maps.last_cell])[0]) if maps.last_cell >= 0 else 0
        if self.is_new("at", at):
            self.session.news["at"] = at

    def _on_status(self, _: Run | None) -> None:
        """Update the note under the maps and the text beside their names."""
        run = self.session.pipeline.run
        if run is not None:
            self.view.note(run_notes(self.session, run), of=run_remark(self.session))
            self.view.name_channels(channel_titles(self.session, run))

    def _on_scale(self, _: Any) -> None:
        pipeline = self.session.pipeline
        self.session.soon()
        if pipeline.run is not None and self.is_outdated:
            return  # the next tick brings other maps
        self.limits = pipeline.limits() if pipeline.run else [(0.1, 1.0)] * len(self.view.channels)
        self.view.set_scale(self.session.choices.scale, self.limits)
        if self._update_script is not None:
            self._update_script.args = {**self._update_script.args, "mappers": self.view.mappers}

    def match_scale(self) -> None:
        """Give new figures the scale that the user has chosen."""
        self._on_scale(None)

    def _on_aspect(self, _: Any) -> None:
        page, pipeline = self.view.page, self.session.pipeline
        if page.place and pipeline.run is not None:
            page.place = {**page.place, "aspect": pipeline.aspect}

    def _on_stage_path(self, _: Any) -> None:
        for name in ("path at", "path", "at"):
            self._remembered.pop(name, None)
        if not self.session.choices.stage_path:
            self.view.show_stage_path(None)
        self.session.soon()

    def _on_enlarged(self, attribute: str, old: str, new: str) -> None:
        """Store which map is enlarged; more of its cells may be needed."""
        choices, channels = self.session.choices, self.view.channels
        if new or choices.enlarged in channels:  # else it waits for a run that has it
            choices.enlarged = new if new in channels else ""
        self._on_view(attribute, old, new)

    def _on_view(self, attribute: str, old: Any, new: Any) -> None:
        """Schedule a check after a zoom: large maps may need other cells."""
        if self._checks_zoom or self.session.pipeline.whole:
            return
        self._checks_zoom = True
        later(self.session.document, self.check_zoom, SETTLE_MS)

    def check_zoom(self) -> None:
        """Have other cells drawn if those in view need a finer grid than is sent."""
        self._checks_zoom = False
        pipeline, x, y = self.session.pipeline, self.view.x_range, self.view.y_range
        width, height = inner_size(self.view.seen, (0, 0))
        if pipeline.run is None or not width or not height:
            return  # the browser has not sent the size yet
        view = pipeline.cells_in(x.start, x.end, y.start, y.end)
        if pipeline.resize(view=view, pixels=(float(height), float(width))):
            self.session.soon()

    def _on_missed(self, attribute: str, old: int, new: int) -> None:
        log.info("a tab missed an update and is sent everything again (%s times)", new)
        self.session.send_everything()
