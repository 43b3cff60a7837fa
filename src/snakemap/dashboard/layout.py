"""The page: its parts, and where each stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import panel as pn

from snakemap.blueapi.scan_control import Caller
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.dashboard.deferred import Deferred
from snakemap.dashboard.figure_theme import STALE
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.background_frame import BackgroundFrame
from snakemap.dashboard.panes.compare import CompareView
from snakemap.dashboard.panes.file_workspace import FileServices, FileWorkspace
from snakemap.dashboard.panes.past_frame import PastFrameReader
from snakemap.dashboard.panes.point_choice import PointChoice
from snakemap.dashboard.panes.region_list import RegionList
from snakemap.dashboard.panes.registry import PANES
from snakemap.dashboard.panes.scan_control import ScanControlPane
from snakemap.dashboard.panes.selection_frame import SelectionFrame
from snakemap.dashboard.panes.summary import SummaryPane
from snakemap.dashboard.panes.time_bar import TimeBarPane
from snakemap.dashboard.permalink import ViewPlace
from snakemap.dashboard.session import Session
from snakemap.dashboard.toolbar import NARROW, Toolbar
from snakemap.dashboard.url_sync import CenterPane, UrlArrival, UrlSync
from snakemap.dashboard.widgets import Rail
from snakemap.store.run_index import run_before

__all__ = ["Dashboard"]

Part = Any
"""A part of the page: whatever Panel shows. None where the page has no such part."""


class Dashboard(pn.viewable.Viewer):
    """The parts of the dashboard of a tab. :meth:`arrange` puts them on the page.

    ::

        top bar
        left           center                          right
        ┌─┐ ┌────────┐ ┌─────────────────────────────┐ ┌─────────────┐
        │ │ │ a list │ │ toolbar, maps, time bar     │ │ frame       │
        │ │ │        │ │ (or a dataset, or two runs) │ │ histogram   │
        │ │ │        │ │                             │ │ run again   │
        └─┘ └────────┘ └─────────────────────────────┘ └─────────────┘
        bottom: summary

    Args:
        tab: the session of the browser.
        services: access to files; None: the page has no files.
        poller: the state of blueapi; None: nothing can be started from the page.
        caller: identity of the tab towards blueapi.
        session: instrument session of new scans.
        place: the view that the address of the page describes; that of a wall has a place for the maps only.
        notes: what of the address could not be used.
        arranged: calls :meth:`arrange`; None: every part in its usual place.

    Attributes:
        runs: list of the runs; a part of the left, like the next three.
        files: the file browser, or None.
        tree: the HDF5 tree of the chosen file, or None.
        actions: list of what was started and stopped, or None.
        toolbar: choices of the maps; a part of the center, like the next three.
        color_limits: fields of the limits set by hand.
        maps: the four maps.
        time_bar: moments of the run.
        frame: the raw frame; a part of the right, like the next two.
        histogram: of one channel, linked to the maps.
        run_again: *Run again*, *New scan*, *Stop*, *Abort*, or None.
        summary: table of the channels; a part of the bottom.
    """

    def __init__(
        self,
        tab: Session,
        *,
        services: FileServices | None = None,
        poller: StatusPoller | None = None,
        caller: Caller | None = None,
        session: str = "",
        place: ViewPlace | None = None,
        notes: Sequence[str] = (),
        arranged: Callable[[Dashboard], None] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.tab = tab
        self.workspace: FileWorkspace | None = None
        self._point: PointChoice | None = None
        self._regions: RegionList | None = None
        self.address: UrlSync | None = None
        self._place, self._notes = place or ViewPlace(), notes
        self._form: pn.viewable.Viewable | None = None
        self._seen: pn.viewable.Viewable | None = None
        self._opened: pn.viewable.Viewable | None = None
        self._moves = 0
        self._layout: pn.viewable.Viewable | None = None
        self._build_files(services)
        self._build_maps()
        self._build_controls(poller, caller, session)
        self.runs: Part = pn.Column(tab.run_list, scroll=True, sizing_mode="stretch_both", margin=0)
        frame = [tab.frame, *(part.bar for part in (self._point, self._regions) if part is not None)]
        self.frame: Part = _pane(*frame, classes=["frame-pane"])
        if self._point is not None:
            tab.choices.param.watch(lambda *_: self._size_frame(), ["point", "frame_of", "rois", "background"])
            self._size_frame()
        self.summary: Part = tab.panes["summary"]
        (arranged or Dashboard.arrange)(self)

    def __panel__(self) -> pn.viewable.Viewable:
        if self._layout is None:
            raise RuntimeError("the parts of the dashboard have no places: call Dashboard.arrange")
        return self._layout

    def arrange(
        self,
        *,
        left: Mapping[str, Part] | None = None,
        center: Sequence[Part] | None = None,
        right: Sequence[Part] | None = None,
        bottom: Sequence[Part] | None = None,
    ) -> None:
        """Put parts on the page; by default each in its usual place. Parts that are None are left out.

        Args:
            left: lists, by their title; one at a time is open, or none, and the others get its space.
            center: shown while maps are shown; a chosen dataset and two compared runs take their place.
            right: while the form of a plan is open, it takes the place of all but :attr:`run_again`.
            bottom: over the whole width.
        """
        if left is None:
            left = {"Runs": self.runs, "Files": self.files, "Tree": self.tree, "Actions": self.actions}
        if center is None:
            center = [self.toolbar, self.color_limits, self.maps, *self.more("center"), self.time_bar]
        if right is None:
            right = [self.frame, self.histogram, *self.more("right"), self.run_again]
        bottom = [self.summary, *self.more("bottom")] if bottom is None else bottom
        if self._place.wall:
            self._layout = self._wall()
            return
        panes = self._center([part for part in center if part is not None])
        lists, drawer = self._lists({title: part for title, part in left.items() if part is not None})
        columns = [lists, drawer] if lists.titles else []
        columns += [*panes, *self._right([part for part in right if part is not None])]
        middle = pn.Row(
            *columns,
            sizing_mode="stretch_both",
            margin=0,
            styles={"min-height": "0", "flex": "1 1 0", "gap": "6px", "padding": "6px"},
            stylesheets=[NARROW, STACKED],
        )
        self._layout = pn.Column(
            pn.Row(*self._top(lists), sizing_mode="stretch_width", margin=0, stylesheets=[NARROW]),
            middle,
            *(self._bottom(part) for part in bottom if part is not None),
            sizing_mode="stretch_both",
            margin=0,
            styles=PAGE,
            stylesheets=[NARROW, SCROLLED],
        )
        for number, part in enumerate(drawer):  # from here on in the browser
            part.visible = number == lists.active

    def more(self, slot: str) -> list[Part]:
        """Return the panes of a slot, ``"center"``, ``"right"`` or ``"bottom"``, beside those that have names here."""
        new = [entry.name for entry in PANES if entry.slot == slot and not hasattr(self, entry.name)]
        return [_pane(self.tab.panes[name], classes=[f"{name}-pane"]) for name in new]

    def _wall(self) -> pn.viewable.Viewable:
        """Return the page for a screen on the wall: maps, status and progress in large letters, nothing to press."""
        self.tab.topbar.param.update(wall=True, height=None)
        if not self.tab.topbar.base:
            UrlArrival(self.tab).go(self._place, self._notes)
        maps = _pane(self.maps, classes=["center"], styles={"border": "none", "padding": "1vmin"})
        return pn.Column(self.tab.topbar, maps, sizing_mode="stretch_both", margin=0, styles=PAGE, stylesheets=[NARROW])

    def _build_files(self, services: FileServices | None) -> None:
        self.files: Part = None
        self.tree: Part = None
        if services is not None:
            selection = SelectionFrame(self.tab, services.means) if services.means is not None else None
            background = BackgroundFrame(self.tab, services)
            self._point = PointChoice(self.tab, PastFrameReader(self.tab, services), selection, background)
            self._regions = RegionList(self.tab, services.regions) if services.regions is not None else None
            self.workspace = FileWorkspace(services, self.tab, on_dataset=self._show_dataset)
            self.files, self.tree = self.workspace.files.component, self.workspace.tree.component

    def _build_maps(self) -> None:
        choices = Toolbar(
            self.tab,
            stop_reading=lambda: self.workspace.stop_reading() if self.workspace else None,
            compare=self._compare_with_before,
        )
        self.toolbar: Part = choices.bar()
        self.color_limits: Part = choices.color_limits()
        self.maps: Part = self.tab.panes["maps"]
        self.time_bar: Part = TimeBarPane(self.tab).bar
        self.histogram: Part = _pane(choices.brush_line(), self.tab.histogram, classes=["histogram-pane"], styles=LEAST)

    def _build_controls(self, poller: StatusPoller | None, caller: Caller | None, session: str) -> None:
        self.actions: Part = None
        self.run_again: Part = None
        if poller is not None and caller is not None:
            control = ScanControlPane(self.tab, poller, caller=caller, session=session, on_form=self._show_form)
            self._form = _pane(control.form, classes=["form-pane"])
            self.actions = pn.Column(control.audit, scroll=True, sizing_mode="stretch_both", margin=0)
            self.run_again = _pane(control.controls, classes=["controls-pane"], styles={"flex": "0 0 auto"})
            self.run_again.sizing_mode = "stretch_width"

    def _top(self, lists: Rail) -> list[Any]:
        """Return the top bar, and the bar of the address on a page of our own."""
        topbar = self.tab.topbar
        if topbar.foreign or topbar.base:  # the address belongs to the page around this one
            return [topbar]
        self.address = UrlSync(self.tab, self.center, lists, names=self._list_names)
        self.address.go(self._place, self._notes)
        return [topbar, self.address.bar]

    def _right(self, parts: Sequence[Part]) -> list[pn.viewable.Viewable]:
        """Return the column at the right: the maps stay in sight while the form of a plan is open."""
        if not parts:
            return []
        shown = [part for part in parts if part is not self.run_again]
        self._seen = pn.Column(
            *(
                part if _is_one(part, self.frame, self.histogram) else _pane(part, classes=["own-pane"])
                for part in shown
            ),
            sizing_mode="stretch_both",
            css_classes=["right"],
            margin=0,
            stylesheets=[RIGHT, RIGHT_STACKED],
        )
        column: list[Any] = [self._seen]
        if len(shown) < len(parts):
            self._opened = pn.Column(
                self._form, sizing_mode="stretch_both", margin=0, stylesheets=[RIGHT], visible=False
            )
            column += [self._opened, self.run_again]
        return [pn.Column(*column, sizing_mode="stretch_both", margin=0, stylesheets=[RIGHT_COLUMN, STACKED])]

    def _size_frame(self) -> None:
        """Give the pane of the frame more height while lines of text stand under it."""
        choices = self.tab.choices
        of_point = choices.frame_of == "point"
        share = 2.2 if of_point and choices.point else 2 if choices.rois else 1.2 if not of_point else 1
        self.tab.frame.name_columns(visible=not (choices.point or choices.rois or choices.background or not of_point))
        self.frame.styles = {**self.frame.styles, "flex": f"{share + 0.4 * bool(choices.background):g} 1 0"}

    def _show_form(self, visible: bool) -> None:
        if self._opened is not None and self._seen is not None:
            self._opened.visible, self._seen.visible = visible, not visible

    def _lists(self, parts: Mapping[str, Part]) -> tuple[Rail, pn.viewable.Viewable]:
        """Return the buttons of the lists, and the pane in which one of them is open."""
        self._list_names = [title.lower() for title in parts] or ["runs"]
        rail = Rail(titles=list(parts), width=RAIL_WIDTH, sizing_mode="stretch_height", margin=0)
        lists = [
            pn.Column(part, sizing_mode="stretch_both", margin=0, visible=not k)
            for k, part in enumerate(parts.values())
        ]
        styles = {"flex": LEFT, "max-width": "none"}
        drawer = _pane(*lists, classes=["left"], styles=styles, stylesheets=[OVER_THE_MAPS])
        workspace = self.workspace
        if workspace is not None:
            of_files = [place for place, part in enumerate(parts.values()) if _is_one(part, self.files, self.tree)]
            rail.param.watch(lambda event: workspace.start() if event.new in of_files else None, "active")
        place = next((place for place, part in enumerate(parts.values()) if part is self.tree), None)
        if self.tree is not None and place is not None:
            # in the browser, at the click: the user may be at another list when the server has opened the file
            self.files.jslink(rail, code={"chosen": f"target.data.setv({{active: {place}, open: true}})"})
        return rail, drawer

    def _center(self, parts: Sequence[Part]) -> list[pn.viewable.Viewable]:
        """Return what takes turns in the center: the maps, two runs, a dataset."""
        self._compare = Deferred(
            self.tab.document,
            lambda: CompareView(self.tab, on_back=self._show_maps, on_channel=self._on_compared_channel),
        )
        self._centers = {
            "maps": _pane(*parts, classes=["center"], stylesheets=[TALL]),
            "comparison": _pane(self._compare.place, classes=["center"], stylesheets=[TALL]),
        }
        if self.workspace is not None:
            self._centers["dataset"] = _pane(self.workspace.dataset.place, classes=["center"], stylesheets=[TALL])
        self.center = CenterPane(
            "maps", self._show_maps, lambda: self._show("comparison"), self._compare, self.workspace
        )
        self.tab.run_list.param.watch(self._compare_runs, "compare")
        self.tab.run_list.param.watch(lambda _: self._show_maps(), ["again", "pinned"])
        self._show_maps()
        return list(self._centers.values())

    def _show(self, name: str) -> None:
        """Show one of the panes of the center."""
        for key, pane in self._centers.items():
            pane.visible = key == name
        if name != "comparison" and self._compare.made is not None:
            self._compare.made.end_comparison()
        if name != "dataset" and self.workspace is not None:
            self.workspace.leave()
        self._moves += 1
        self.center.seen = name
        if self.address is not None:
            self.address.moved()

    def _show_maps(self) -> None:
        self._show("maps")

    def _show_dataset(self, dataset: bool) -> None:
        self._show("dataset" if dataset else "maps")

    def _compare_runs(self, event: Any) -> None:
        """Compare two runs that were chosen in the list, unless the user has gone on since."""
        runs = event.new.get("runs") if isinstance(event.new, dict) else None
        if not (isinstance(runs, list) and len(runs) == 2 and all(isinstance(uid, str) for uid in runs)):
            return
        self._compare_two(runs[0], runs[1])

    def _compare_with_before(self) -> None:
        """Compare the run that is drawn with the one before."""
        run = self.tab.pipeline.run
        before = run_before(self.tab.live.summaries, run.uid) if run is not None else ""
        if run is None or not before:
            warn("There is no earlier run to compare with.")
            return
        self._compare_two(before, run.uid)

    def _compare_two(self, first: str, second: str) -> None:
        """Compare two runs; the maps stay if the user goes elsewhere before they are there."""
        moves = self._moves

        def show(view: CompareView) -> None:
            if self._moves == moves:
                self._show("comparison")
            else:
                view.end_comparison()

        self._compare.use(lambda view: view.compare(first, second, then=lambda: show(view)))

    def _on_compared_channel(self) -> None:
        if self.address is not None:
            self.address.soon()

    def _bottom(self, part: Part) -> pn.viewable.Viewable:
        self.tab.pane(SummaryPane).table.folds = True
        styles = {"background": "var(--sm-panel)", "border-top": "1px solid var(--sm-line)", **STALE}
        return pn.Row(part, sizing_mode="stretch_width", margin=0, styles=styles, stylesheets=[NARROW])


def _is_one(part: Part, *parts: Part) -> bool:
    """Return whether a part is one of some parts; what others put on the page may define equality otherwise."""
    return any(part is one for one in parts)


def _pane(
    *objects: Any, classes: list[str], styles: dict[str, str] | None = None, stylesheets: Sequence[str] = ()
) -> pn.viewable.Viewable:
    return pn.Column(
        *objects,
        stylesheets=list(stylesheets),
        sizing_mode="stretch_both",
        margin=0,
        css_classes=["pane", *classes],
        styles={
            "background": "var(--sm-panel)",
            "border": "1px solid var(--sm-line)",
            "border-radius": "8px",
            "padding": "6px",
            "min-height": "0",
            "min-width": "0",
            "gap": "3px",
            **STALE,
            **(styles or {}),
        },
    )


PAGE = {
    "height": "var(--sm-height, 100vh)",
    "width": "var(--sm-width, 100vw)",
    "background": "var(--sm-page)",
    "overflow": "hidden",
}
LEAST = {"min-height": "min(160px, 22vh)"}
LEFT = "0 0 clamp(204px, 16vw, 380px)"
RIGHT = ":host { gap: 6px; min-width: 0; min-height: 0; }"
RIGHT_COLUMN = ":host { flex: 0 1 clamp(300px, 24vw, 760px) !important; gap: 6px; min-width: 0; min-height: 0; }"
RAIL_WIDTH = 54

# screens of tablets: an open list lies over the maps; of phones: everything below one another, and the page scrolls
PHONE = "@media (max-width: 699px)"
OVER_THE_MAPS = f"""
@media (min-width: 700px) and (max-width: 1199px) {{
  :host {{ position: absolute !important; z-index: 20; left: {RAIL_WIDTH + 12}px; top: 6px; bottom: 6px;
    width: 300px !important; height: auto !important; box-shadow: 0 6px 24px rgb(0 0 0 / 0.4); }}
}}
{PHONE} {{ :host {{ flex: none !important; width: 100% !important; height: 60vh !important; }} }}
"""
SCROLLED = f"{PHONE} {{ :host {{ height: auto !important; overflow: visible !important; }} }}"
STACKED = f"""{PHONE} {{
  :host {{ flex: none !important; flex-direction: column !important; width: 100% !important; height: auto !important; }}
}}"""
TALL = f"{PHONE} {{ :host {{ flex: none !important; width: 100% !important; height: 1240px !important; }} }}"
RIGHT_STACKED = f"{PHONE} {{ :host {{ flex: none !important; width: 100% !important; height: 660px !important; }} }}"
