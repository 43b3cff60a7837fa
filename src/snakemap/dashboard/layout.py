"""The page: one layout, from a laptop to the wall of a control room, in which nothing moves while data grow."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import panel as pn

from snakemap.blueapi.scan_control import Caller
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.core.run import Run
from snakemap.dashboard.callbacks import on_click
from snakemap.dashboard.deferred import Deferred
from snakemap.dashboard.figure_theme import STALE
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.compare import CompareView
from snakemap.dashboard.panes.file_workspace import FileServices, FileWorkspace
from snakemap.dashboard.panes.past_frame import PastFrameReader
from snakemap.dashboard.panes.scan_control import ScanControlPane
from snakemap.dashboard.panes.time_bar import TimeBarPane
from snakemap.dashboard.permalink import ViewPlace, shape_text
from snakemap.dashboard.session import Session
from snakemap.dashboard.url_sync import CenterPane, UrlSync
from snakemap.dashboard.view_state import ASPECTS, LIMITS, SCALES
from snakemap.dashboard.widgets import SaveMenu, stylesheet
from snakemap.errors import GeometryError
from snakemap.render.map_view import MapView
from snakemap.render.palettes import COLORS
from snakemap.settings import grid_from_text

__all__ = ["Dashboard"]


class Dashboard(pn.viewable.Viewer):
    """Top bar; runs, files and tree on the left; maps in the middle; frame over histogram on the right; summary below.

    Args:
        tab: whose panes these are.
        room: where files are looked at; None: this page has no files.
        watch: what blueapi does and who holds control; None: nothing can be started from this page.
        caller: who the tab is.
        session: instrument session that new scans belong to.
        place: where the page begins, as its address asks for it.
        notes: what of the address could not be used.
    """

    def __init__(
        self,
        tab: Session,
        *,
        room: FileServices | None = None,
        watch: StatusPoller | None = None,
        caller: Caller | None = None,
        session: str = "",
        place: ViewPlace | None = None,
        notes: Sequence[str] = (),
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.steering: ScanControlPane | None = None
        if watch is not None and caller is not None:
            self.steering = ScanControlPane(tab, watch, caller=caller, session=session, on_form=self._show_form)
        self.tab = tab
        self.room = room
        self.visit: FileWorkspace | None = None
        self.address: UrlSync | None = None
        self._moves = 0
        self._layout = self._laid_out(place or ViewPlace(), notes)

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def _laid_out(self, place: ViewPlace, notes: Sequence[str]) -> pn.viewable.Viewable:
        tab, center = self.tab, self._center()
        lists = self._lists()
        top: list[Any] = [tab.topbar]
        if not (tab.topbar.guest or tab.topbar.base):  # the address of somebody else's page is theirs
            self.address = UrlSync(tab, self.center, lists, names=self._list_names)
            self.address.go(place, notes)
            top.append(self.address.bar)
        middle = pn.Row(
            _pane(lists, classes=["left"], styles={"flex": LEFT, "max-width": "none"}),
            *center,
            *self._right(),
            sizing_mode="stretch_both",
            margin=0,
            styles={"min-height": "0", "flex": "1 1 0", "gap": "6px", "padding": "6px"},
            stylesheets=[NARROW],
        )
        return pn.Column(
            pn.Row(*top, sizing_mode="stretch_width", margin=0, stylesheets=[NARROW]),
            middle,
            self._bottom(),
            sizing_mode="stretch_both",
            margin=0,
            styles={
                "height": "var(--sm-height, 100vh)",
                "width": "var(--sm-width, 100vw)",
                "background": "var(--sm-page)",
                "overflow": "hidden",
            },
            stylesheets=[NARROW],
        )

    def _right(self) -> list[pn.viewable.Viewable]:
        """The frame over the histogram, or the form of a plan: the maps stay in sight, to draw its region on them."""
        self._seen = pn.Column(
            _pane(self.tab.frame, classes=["frame-pane"]),
            _pane(self._brush_line(), self.tab.histogram, classes=["histogram-pane"]),
            sizing_mode="stretch_both",
            css_classes=["right"],
            margin=0,
            stylesheets=[RIGHT],
        )
        column: list[Any] = [self._seen]
        if self.steering is not None:
            column += self._steering_panes(self.steering)
        return [pn.Column(*column, sizing_mode="stretch_both", margin=0, stylesheets=[RIGHT_COLUMN])]

    def _steering_panes(self, steering: ScanControlPane) -> list[pn.viewable.Viewable]:
        """The form of a plan, hidden until it is asked for, and the buttons below it."""
        form = _pane(steering.form, classes=["form-pane"])
        self._form = pn.Column(form, sizing_mode="stretch_both", margin=0, stylesheets=[RIGHT], visible=False)
        controls = _pane(steering.controls, classes=["controls-pane"], styles={"flex": "0 0 auto"})
        controls.sizing_mode = "stretch_width"
        return [self._form, controls]

    def _show_form(self, visible: bool) -> None:
        self._form.visible, self._seen.visible = visible, not visible

    def _lists(self) -> pn.Tabs:
        """Runs, the files of the visit, and the tree of one of them."""
        runs = pn.Column(self.tab.run_list, scroll=True, sizing_mode="stretch_both", margin=0)
        items: list[tuple[str, Any]] = [("Runs", runs)]
        if self.visit is not None:
            items += [("Files", self.visit.files.component), ("Tree", self.visit.tree.component)]
        if self.steering is not None:
            items.append(("Actions", pn.Column(self.steering.audit, scroll=True, sizing_mode="stretch_both", margin=0)))
        self._list_names = [title.lower() for title, _ in items]
        tabs = pn.Tabs(*items, sizing_mode="stretch_both", margin=0, stylesheets=[TABS])
        if self.visit is not None:
            visit = self.visit
            tabs.param.watch(lambda event: visit.start() if event.new in (FILES, TREE) else None, "active")
            # in the browser, at the click: the user may be at another list when the server has opened the file
            visit.files.component.jslink(tabs, code={"chosen": f"target.active = {TREE}"})
        return tabs

    def _center(self) -> list[pn.viewable.Viewable]:
        """The maps, or the dataset that was chosen in a file."""
        maps = _pane(
            self._toolbar(), self._bounds(), self.tab.maps_place, TimeBarPane(self.tab).bar, classes=["center"]
        )
        compare = Deferred(
            self.tab.document,
            lambda: CompareView(self.tab, on_back=lambda: see(maps), on_channel=self._on_compared_channel),
        )
        comparing = _pane(compare.place, classes=["center"])
        panes = [maps, comparing]

        def see(wanted: pn.viewable.Viewable) -> None:
            for pane in panes:
                pane.visible = pane is wanted
            if wanted is not comparing and compare.made is not None:
                compare.made.let_go()
            if self.visit is not None and wanted in (maps, comparing):
                self.visit.leave()
            self._moves += 1
            self.center.seen = {maps: "maps", comparing: "comparison"}.get(wanted, "dataset")
            if self.address is not None:
                self.address.moved()

        if self.room is not None:
            PastFrameReader(self.tab, self.room)
            self.visit = FileWorkspace(self.room, self.tab, on_dataset=lambda dataset: see(chosen if dataset else maps))
            chosen = _pane(self.visit.dataset.place, classes=["center"])
            panes.append(chosen)

        def compare_runs(event: Any) -> None:
            runs = event.new.get("runs") if isinstance(event.new, dict) else None
            if isinstance(runs, list) and len(runs) == 2 and all(isinstance(uid, str) for uid in runs):
                moves = self._moves

                def show(view: CompareView) -> None:
                    if self._moves == moves:
                        see(comparing)
                    else:  # the user has gone on
                        view.let_go()

                compare.use(lambda view: view.compare(runs[0], runs[1], then=lambda: show(view)))

        self.center = CenterPane("maps", lambda: see(maps), lambda: see(comparing), compare, self.visit)
        self.tab.run_list.param.watch(compare_runs, "compare")
        self.tab.run_list.param.watch(lambda _: see(maps), ["again", "pinned"])
        see(maps)
        return panes

    def _on_compared_channel(self) -> None:
        if self.address is not None:
            self.address.soon()

    def _toolbar(self) -> pn.viewable.Viewable:
        """Secondary things, in one line over the maps."""
        choices = self.tab.choices
        selects = [
            pn.widgets.Select.from_param(
                parameter, options=options, width=width, stylesheets=_shrinking(least), margin=0, name="",
                description=None,
            )
            for parameter, options, width, least in (
                (choices.param.limits, LIMITS, 160, 78),
                (choices.param.scale, SCALES, 78, 58),
                (choices.param.aspect, ASPECTS, 124, 78),
                (choices.param.colors, COLORS, 116, 66),
            )
        ]  # fmt: skip
        layout = [self._source_choice(), *selects, self._shape_field(), *self._switches(), self._calling_off()]
        layout += [pn.Spacer(sizing_mode="stretch_width", height=1, margin=0), self._save_menu()]
        return pn.Row(
            *layout, sizing_mode="stretch_width", height=28, margin=0, styles={"gap": "5px"}, stylesheets=[NARROW]
        )

    def _calling_off(self) -> pn.viewable.Viewable:
        """Ends the reading of a file that was opened; there only while one is read."""
        button = pn.widgets.Button(
            label="Stop reading", width=100, stylesheets=[stylesheet("widgets")], margin=0, visible=False
        )
        on_click(button, self.tab.document, lambda: self.visit.call_off() if self.visit else None)

        def show(run: Run | None) -> None:
            visible = run is not None and run.opened and run.stop is None
            if button.visible != visible:
                button.visible = visible

        self.tab.on_words(show)
        return button

    def _save_menu(self) -> pn.viewable.Viewable:
        """Return the menu that saves the maps."""
        tab, menu = self.tab, SaveMenu(margin=0, align="center")

        def show(_: Run | None) -> None:
            drawn = tab.pipeline.run
            state = {"run": drawn.uid, "source": tab.choices.source, "base": tab.topbar.base} if drawn else {}
            if menu.state != state:
                menu.state = state

        tab.on_words(show)
        return menu

    def _bounds(self) -> pn.viewable.Viewable:
        """Lowest and highest color, in a line of their own while they are set by hand."""
        choices, tab, css = self.tab.choices, self.tab, [stylesheet("widgets")]
        fields = [
            pn.widgets.FloatInput.from_param(parameter, width=130, stylesheets=css, margin=0, name="", description=None)
            for parameter in (choices.param.low, choices.param.high)
        ]
        said = pn.pane.HTML("", styles=FAINT, margin=(6, 0))
        line = pn.Row(*fields, said, height=28, margin=0, styles={"gap": "8px"}, visible=False)

        def show_bounds(event: Any) -> None:
            if event.new == "by hand" and tab.pipeline.run is not None and tab.shown_limits:
                low, high = tab.shown_limits[tab.pipeline.channel]
                choices.param.update(low=low, high=high)
            line.visible = event.new == "by hand"

        def say(*_: Any) -> None:
            refusal = tab.pipeline.refusal
            unit = tab.pipeline.unit if tab.pipeline.run is not None else ""
            ends = f"from {choices.low:,.10g} to {choices.high:,.10g} {unit or 'counts'}"
            words = f"{choices.channel[:40]}: colors {ends}"
            said.object = html.escape(f"⚠ not used: {refusal}" if refusal else words)
            for field in fields:
                field.css_classes = ["invalid"] if refusal else []

        choices.param.watch(show_bounds, "limits")
        choices.param.watch(say, ["limits", "low", "high", "scale", "channel"])
        return line

    def _source_choice(self) -> pn.viewable.Viewable:
        """Which camera, or the scalars; out of the way while there is nothing to choose."""
        choices = self.tab.choices
        select = pn.widgets.Select(
            options={"": ""}, value="", width=130, stylesheets=_shrinking(58), margin=0, visible=False
        )

        def offer(names: list[str]) -> None:
            options = {name: ("" if number == 0 else name) for number, name in enumerate(names)}
            chosen = choices.source if choices.source in options.values() else ""
            select.param.update(options=options, value=chosen, visible=len(names) > 1)

        def choose(event: Any) -> None:
            choices.source = event.new or ""

        def show(event: Any) -> None:
            if event.new in select.options.values():  # else it comes with the names of the sources
                select.value = event.new

        select.param.watch(choose, "value")
        choices.param.watch(show, "source")
        self.tab.on_sources(offer)
        return select

    def _shape_field(self) -> pn.viewable.Viewable:
        """A shape typed for a run that does not tell one, for this tab alone."""
        choices = self.tab.choices
        field = pn.widgets.TextInput(placeholder="shape", width=84, stylesheets=_shrinking(50), margin=0, max_length=40)

        reading = False

        def read(event: Any) -> None:
            nonlocal reading
            field.css_classes, reading = [], True
            try:
                shape = grid_from_text(event.new) if event.new.strip() else None
                choices.shape = MapView(shape=shape).shape  # refuses what cannot be drawn
            except (ValueError, GeometryError) as error:
                choices.shape = None
                field.css_classes = ["invalid"]
                warn(str(error))
            finally:
                reading = False

        def show(event: Any) -> None:
            if not reading:  # somebody else chose another one
                field.value = shape_text(event.new) if event.new else ""

        field.param.watch(read, "value")
        choices.param.watch(show, "shape")
        return field

    def _switches(self) -> list[pn.viewable.Viewable]:
        choices, css = self.tab.choices, [stylesheet("widgets")]
        return [
            pn.widgets.Toggle.from_param(parameter, label=label, width=width, stylesheets=css, margin=0)
            for parameter, label, width in (
                (choices.param.exchanged, "x ⇄ y", 58),
                (choices.param.trail, "path", 50),
            )
        ]

    def _brush_line(self) -> pn.viewable.Viewable:
        """What is brushed, and how to let go of it."""
        choices = self.tab.choices
        clear = pn.widgets.Button(label="Clear", stylesheets=[stylesheet("widgets")], margin=0, visible=False)

        def show(*_: Any) -> None:
            clear.visible = choices.brush is not None or choices.box is not None
            hint.visible = not clear.visible

        on_click(clear, self.tab.document, self.tab.clear_selections)
        choices.param.watch(show, ["brush", "box"])
        channel = self._channel_choice()
        hint = pn.pane.HTML("drag to brush", styles={**FAINT, **CUT}, margin=(6, 8), stylesheets=[NARROW])
        return pn.Row(channel, hint, pn.HSpacer(), clear, sizing_mode="stretch_width", height=28, margin=0)

    def _channel_choice(self) -> pn.viewable.Viewable:
        """Whose histogram is drawn, and brushed; options and value change as one: neither holds without the other."""
        choices, channels = self.tab.choices, list(self.tab.maps.channels)
        group = pn.widgets.RadioButtonGroup(
            options=channels, value=choices.channel, stylesheets=[stylesheet("widgets")], margin=0
        )

        def offer(channels: tuple[str, ...]) -> None:
            chosen = choices.channel if choices.channel in channels else channels[-1]
            group.param.update(options=list(channels), value=chosen)

        def choose(event: Any) -> None:
            if event.new in group.options:
                choices.channel = event.new

        def show(event: Any) -> None:
            if event.new in group.options:
                group.value = event.new

        group.param.watch(choose, "value")
        choices.param.watch(show, "channel")
        self.tab.on_channels(offer)
        return group

    def _bottom(self) -> pn.viewable.Viewable:
        self.tab.summary.folds = True
        return pn.Row(
            self.tab.summary,
            sizing_mode="stretch_width",
            margin=0,
            styles={
                **{"background": "var(--sm-panel)", "border-top": "1px solid var(--sm-line)"},
                **STALE,
            },
            stylesheets=[NARROW],
        )


def _pane(*objects: Any, classes: list[str], styles: dict[str, str] | None = None) -> pn.viewable.Viewable:
    return pn.Column(
        *objects,
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


def _shrinking(least: int) -> list[str]:
    """The toolbar is one line on every screen: its fields may shrink to so many pixels, its buttons may not."""
    return [stylesheet("widgets"), f":host {{ flex: 0 1 auto !important; min-width: {least}px !important; }}"]


FILES, TREE = 1, 2
"""Numbers of these lists among the tabs on the left."""


LEFT = "0 0 clamp(204px, 16vw, 380px)"


NARROW = ":host { min-width: 0 !important; }"


CUT = {"flex": "0 1 auto", "overflow": "hidden", "white-space": "nowrap", "text-overflow": "ellipsis"}


FAINT = {"color": "var(--sm-faint)", "font-size": "12px"}


RIGHT = ":host { gap: 6px; min-width: 0; min-height: 0; }"
RIGHT_COLUMN = ":host { flex: 0 1 clamp(300px, 24vw, 760px) !important; gap: 6px; min-width: 0; min-height: 0; }"


TABS = """
.bk-header { border-bottom: 1px solid var(--sm-line) !important; }
.bk-tab { color: var(--sm-faint); font-family: var(--sm-font); font-size: 12px; padding: 4px 9px;
  border: none !important; background: none !important; }
.bk-tab.bk-active { color: var(--sm-text); border-bottom: 2px solid var(--sm-accent) !important; }
"""
