"""The point whose frame is shown: chosen by a click on a map, by arrow keys, or by its number."""

from __future__ import annotations

from typing import Any

from panel.io.state import set_curdoc

from snakemap.core.run import Run
from snakemap.dashboard.panes.background_frame import BackgroundFrame
from snakemap.dashboard.panes.past_frame import PastFrameReader, frames_beside
from snakemap.dashboard.panes.selection_frame import SelectionFrame
from snakemap.dashboard.panes.status_text import whereabouts
from snakemap.dashboard.quantities import unit_text
from snakemap.dashboard.session import Session
from snakemap.dashboard.view_state import FRAME_OF
from snakemap.dashboard.widgets import PointBar
from snakemap.files.data_root import shown

__all__ = ["PointChoice"]

STEPS = {"Shift+ArrowLeft": -1, "Shift+ArrowRight": 1, "Shift+ArrowDown": -1, "Shift+ArrowUp": 1}
"""Keys that go along the scan, and by how many points."""

DIRECTIONS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowDown": (0, -1), "ArrowUp": (0, 1)}
"""Keys that go over the map: to the right, and upwards."""


class PointChoice:
    """Chooses the point whose frame a tab shows, or the mean of the selected points, and says what is known of it.

    Args:
        tab: whose maps and frame they are.
        reader: of its frames.
        selection: the mean of the selected points; None: there is none.
        background: the frame that is subtracted; None: there is none.
    """

    def __init__(
        self,
        tab: Session,
        reader: PastFrameReader,
        selection: SelectionFrame | None = None,
        background: BackgroundFrame | None = None,
    ) -> None:
        self.tab = tab
        self.reader = reader
        self.selection = selection
        self.background = background
        self.bar = PointBar(sizing_mode="stretch_width", margin=0, visible=False)
        self._before = 0
        self._marked: tuple[Any, ...] | None = None
        self.bar.param.watch(self._on_ask, "ask")
        tab.choices.param.watch(lambda *_: self._show(), ["point", "box", "brush", "frame_of", "background"])
        tab.on_tap(self.tap, double=self._untap)
        tab.on_walk(self._on_walk)
        tab.on_tick(self._mark)
        tab.on_status(lambda _: self._show())

    def tap(self, x: float, y: float) -> None:
        """Choose the point that is drawn at a place on the maps; where there is none, nothing changes."""
        if self.tab.pipeline.run is None:
            return
        self._before = self.tab.choices.point
        if point := self.tab.pipeline.point_at(x, y):
            self.choose(point)

    def choose(self, point: int) -> None:
        """Choose a point by its number; 0 is the newest frame. Numbers that the run does not have are limited."""
        if self.tab.pipeline.run is None:
            return
        with set_curdoc(self.tab.document):
            self.tab.choices.point = max(0, min(point, self.tab.pipeline.points))

    def _untap(self) -> None:
        """Choose what was chosen before a double click, which is for the map."""
        self.choose(self._before)

    def _on_walk(self, asked: Any) -> None:
        """Go on by a key; the value comes from a browser."""
        key, point = asked.get("key") if isinstance(asked, dict) else None, self.tab.choices.point
        if not isinstance(key, str) or not point or self.tab.pipeline.run is None:
            return
        if key in STEPS:
            self.choose(max(1, point + STEPS[key]))
        elif key in DIRECTIONS:
            right, up = DIRECTIONS[key]
            self.choose(self.tab.pipeline.neighbor(point, right=right, up=up))

    def _on_ask(self, event: Any) -> None:
        """Do what the user wants; the value comes from a browser."""
        asked = event.new if isinstance(event.new, dict) else {}
        what, value, point = asked.get("what"), asked.get("value"), self.tab.choices.point
        if what == "newest":
            self._show_frame_of("point")
            self.choose(0)
        elif what in ("background", "no background") and self.background is not None:
            with set_curdoc(self.tab.document):
                self.tab.choices.background = point if what == "background" else 0
        elif what in FRAME_OF:
            self._show_frame_of(what)
        elif isinstance(value, int) and abs(value) < 2**53:
            if what == "step" and point:
                self.choose(max(1, point + (1 if value > 0 else -1)))
            elif what == "go":
                self.choose(max(1, value))
        self._show()

    def _show_frame_of(self, what: str) -> None:
        """Show the frame of the point, or the mean of the selection if there is one."""
        choices = self.tab.choices
        if what == "point" or (self.selection is not None and self._is_selected()):
            with set_curdoc(self.tab.document):
                choices.frame_of = what

    def _is_selected(self) -> bool:
        """Return whether some points are selected."""
        choices = self.tab.choices
        return self.tab.pipeline.run is not None and (choices.box is not None or choices.brush is not None)

    def _mark(self) -> None:
        """Keep the ring on the maps where the point is drawn now."""
        tab, point = self.tab, self.tab.choices.point
        if tab.pipeline.run is None or (not point and self._marked is None):
            return
        place = tab.pipeline.place_of(point) if point else None
        marked = (tab.maps, place) if point else None
        if marked != self._marked:
            self._marked = marked
            tab.maps.show_point(place)

    def _show(self) -> None:
        run, point = self.tab.pipeline.run, self.tab.choices.point
        selection = self.selection if self._is_selected() else None
        background = self.tab.choices.background
        visible = run is not None and (bool(point) or selection is not None or bool(background))
        with set_curdoc(self.tab.document):
            if visible and run is not None:
                of = self.tab.choices.frame_of if point else self._frame_of()
                state: dict[str, Any] = {"of": of, "selection": selection is not None, "chosen": bool(point)}
                if of == "point":
                    state |= self._state(run, point)
                elif of != "newest" and selection is not None:
                    state |= {"place": selection.described, "trouble": selection.note}
                if self.background is not None:
                    state |= {"background": background, "note": self.background.note if background else ""}
                if state != self.bar.state:
                    self.bar.state = state
            if self.bar.visible != visible:
                self.bar.visible = visible

    def _frame_of(self) -> str:
        """Return what is shown while no point is chosen."""
        return "newest" if self.tab.choices.frame_of == "point" else self.tab.choices.frame_of

    def _state(self, run: Run, point: int) -> dict[str, Any]:
        """Return what there is to say of a point."""
        pipeline, source = self.tab.pipeline, self.tab.pipeline.source
        maps = source.maps
        rows, columns, _ = maps.raster.pixel([point])
        place, counts = "", []
        if len(rows):
            found = whereabouts(pipeline, int(rows[0]), int(columns[0]))
            row, _, column = (found["at"] or "").partition(", ")
            at = f"row {row}, column {column}" if pipeline.indexed and column else ""
            place = " · ".join(filter(None, (found["position"], at)))
            cell = rows * maps.raster.columns + columns
            for number, name in enumerate(maps.channels):
                value = float(maps.values(number, cell)[0])
                unit = unit_text(source.units.get(name))
                counts.append({"name": name, "value": value if value == value else None, "unit": unit})
        trouble = "" if maps.seen(point) else "not measured yet"
        return {
            **{"point": point, "last": pipeline.points, "place": place, "counts": counts, "trouble": trouble},
            **self._file(run, point),
        }

    def _file(self, run: Run, point: int) -> dict[str, str]:
        """Return the file that holds the frame of a point, and its row in the dataset, counted from 0."""
        camera = frames_beside(run, self.tab.pipeline.base)
        if camera is None:
            return {"trouble": "no camera has the points of this source"}
        found = camera.ledger.location_of(point)
        if found is None:
            return {}
        resource, row = found
        last = resource.frames_per_point * (row + 1) - 1
        path = self.reader.services.place_of(resource.uri_of(last)) or resource.uri_of(last)
        words = f"row {last:,}" if resource.frames_per_point == 1 else f"rows up to {last:,}"
        if resource.columns:
            words = "row {:,}, column {:,}".format(*divmod(row, resource.columns))
        elif resource.template:
            words = ""
        return {"file": shown(path.rpartition("/")[2]), "path": shown(f"{path} {resource.dataset}"), "row": words}
