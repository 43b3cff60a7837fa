"""The choices over the maps and over the histogram."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import panel as pn

from snakemap.core.roi_text import text_of
from snakemap.core.run import Run
from snakemap.dashboard.callbacks import on_click
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.maps_pane import MapsPane
from snakemap.dashboard.permalink import shape_text
from snakemap.dashboard.session import Session
from snakemap.dashboard.view_state import ASPECTS, LIMITS, SCALES
from snakemap.dashboard.widgets import UNSEEN_LABEL, SaveMenu, stylesheet
from snakemap.errors import GeometryError
from snakemap.render.export import EXPORTERS
from snakemap.render.map_view import MapView
from snakemap.render.palettes import COLORS
from snakemap.settings import grid_from_text

__all__ = ["FAINT", "NARROW", "Toolbar"]

NARROW = ":host { min-width: 0 !important; }"
WITHIN = f"{NARROW} :host > div {{ overflow: hidden; text-overflow: ellipsis; }}"
WRAPPED = "@media (max-width: 699px) { :host { flex-wrap: wrap; flex: none !important; height: auto !important; } }"
CUT = {"flex": "0 1 auto", "overflow": "hidden", "white-space": "nowrap", "text-overflow": "ellipsis"}
SHORT = ".bk-btn { padding: 0 2px !important; font-size: 12px; }"
FAINT = {"color": "var(--sm-faint)", "font-size": "12px"}

LETTERS_MAX, BUTTON_LETTERS = 38, 3
"""Letters of the names of channels that fit beside each other as buttons, each of which has a margin of so many."""

MENU_WIDTH = 150


class Toolbar:
    """Widgets of the :class:`~snakemap.dashboard.view_state.Choices` of a tab.

    Args:
        tab: with the choices.
        stop_reading: called when the user ends the reading of a file.
        compare: called when the user wants to compare the run with the one before.
    """

    def __init__(
        self, tab: Session, *, stop_reading: Callable[[], None], compare: Callable[[], None] = lambda: None
    ) -> None:
        self._tab = tab
        self._stop_reading = stop_reading
        self._compare = compare

    def bar(self) -> pn.viewable.Viewable:
        """Return one line of choices: source, limits, scale, aspect, colors, shape, axes, path; and *Save*."""
        choices = self._tab.choices
        selects = [
            pn.widgets.Select.from_param(
                parameter, options=options, width=width, stylesheets=_shrinking(least), margin=0, label=name,
                description=None,
            )
            for parameter, options, width, least, name in (
                (choices.param.limits, LIMITS, 138, 54, "limits of the colors"),
                (choices.param.scale, SCALES, 84, 50, "scale of the colors"),
                (choices.param.aspect, ASPECTS, 118, 54, "proportions of the maps"),
                (choices.param.colors, COLORS, 112, 50, "palette of the maps"),
            )
        ]  # fmt: skip
        layout = [self._source_choice(), *selects, self._shape_field(), *self._switches(), self._stop_button()]
        layout += [self._compare_button(), self._save_menu()]
        return pn.Row(
            *layout,
            sizing_mode="stretch_width",
            height=28,
            margin=0,
            styles={"gap": "5px"},
            stylesheets=[NARROW, WRAPPED],
        )

    def _stop_button(self) -> pn.viewable.Viewable:
        """Return the button that ends the reading of a file; visible only while one is read."""
        button = pn.widgets.Button(
            label="Stop reading", width=100, stylesheets=[stylesheet("widgets")], margin=0, visible=False
        )
        on_click(button, self._tab.document, self._stop_reading)

        def show(run: Run | None) -> None:
            visible = run is not None and run.opened and run.stop is None
            if button.visible != visible:
                button.visible = visible

        self._tab.on_status(show)
        return button

    def _compare_button(self) -> pn.viewable.Viewable:
        """Return the button that compares the run with the one before."""
        button = pn.widgets.Button(
            label="Compare",
            description="compare this run with the one before",
            stylesheets=[stylesheet("widgets")],
            margin=0,
        )
        on_click(button, self._tab.document, self._compare)
        return button

    def _save_menu(self) -> pn.viewable.Viewable:
        """Return the menu that saves the maps."""
        kinds = [[form.value, one.title, one.detail] for form, one in EXPORTERS.items() if one.title]
        tab, menu = self._tab, SaveMenu(kinds=kinds, margin=0, align="center")

        def show(_: Run | None) -> None:
            drawn = tab.pipeline.run
            of = {"source": tab.choices.source, "base": tab.topbar.base, "rois": [*map(text_of, tab.shown_regions)]}
            state = {"run": drawn.uid, **of} if drawn else {}
            if menu.state != state:
                menu.state = state

        tab.on_status(show)
        return menu

    def color_limits(self) -> pn.viewable.Viewable:
        """Return the fields of the lowest and highest color; visible only while limits are set by hand."""
        choices, tab, css = self._tab.choices, self._tab, [stylesheet("widgets"), UNSEEN_LABEL]
        fields = [
            pn.widgets.FloatInput.from_param(
                parameter, width=130, stylesheets=css, margin=0, label=name, description=None
            )
            for parameter, name in ((choices.param.low, "lowest color"), (choices.param.high, "highest color"))
        ]
        said = pn.pane.HTML("", styles=FAINT, margin=(6, 0))
        line = pn.Row(*fields, said, height=28, margin=0, styles={"gap": "8px"}, visible=False)

        def show_bounds(event: Any) -> None:
            limits = tab.pane(MapsPane).limits
            if event.new == "by hand" and tab.pipeline.run is not None and limits:
                low, high = limits[tab.pipeline.channel]
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
        """Return the choice of the source: cameras, spectra, scalars; hidden while there is only one."""
        choices = self._tab.choices
        select = pn.widgets.Select(
            label="source", options={"": ""}, value="", width=104, stylesheets=_shrinking(48), margin=0, visible=False
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
        self._tab.on_sources(offer)
        return select

    def _shape_field(self) -> pn.viewable.Viewable:
        """Return the field for the shape of a run without one; it applies to this tab only."""
        choices = self._tab.choices
        field = pn.widgets.TextInput(placeholder="shape", width=66, stylesheets=_shrinking(60), margin=0, max_length=40)

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
            if not reading:  # it was chosen elsewhere, as by the address
                field.value = shape_text(event.new) if event.new else ""

        field.param.watch(read, "value")
        choices.param.watch(show, "shape")
        return field

    def _switches(self) -> list[pn.viewable.Viewable]:
        choices, css = self._tab.choices, [stylesheet("widgets")]
        return [
            pn.widgets.Toggle.from_param(parameter, label=label, width=width, stylesheets=css, margin=0)
            for parameter, label, width in (
                (choices.param.exchanged, "x ⇄ y", 52),
                (choices.param.stage_path, "path", 40),
                (choices.param.grid, "grid", 38),
            )
        ]

    def brush_line(self) -> pn.viewable.Viewable:
        """Return the choice of the channel, and the button that clears brush and box."""
        choices = self._tab.choices
        css: dict[str, Any] = {"stylesheets": [stylesheet("widgets"), SHORT], "margin": 0, "visible": False}
        clear = pn.widgets.Button(label="Clear", width=40, **css)
        colors = pn.widgets.Button(label="Colors", width=46, description="make its ends the ends of the colors", **css)

        def show(*_: Any) -> None:
            colors.visible = choices.brush is not None
            clear.visible = choices.brush is not None or choices.box is not None
            hint.visible = not clear.visible

        on_click(clear, self._tab.document, self._tab.clear_selections)
        on_click(colors, self._tab.document, self._tab.color_brush)
        choices.param.watch(show, ["brush", "box"])
        channel = self._channel_choice()
        hint = pn.pane.HTML("drag to brush", styles={**FAINT, **CUT}, margin=(6, 0, 6, 4), stylesheets=[WITHIN])
        return pn.Row(channel, hint, pn.HSpacer(), colors, clear, sizing_mode="stretch_width", height=28, margin=0)

    def _channel_choice(self) -> pn.viewable.Viewable:
        """Return the choice of the channel of histogram and brush: buttons, or a menu where they would be cut off.

        Options and value change in one step.
        """
        choices, css = self._tab.choices, stylesheet("widgets")
        buttons = pn.widgets.RadioButtonGroup(stylesheets=[css], margin=0)
        menu = pn.widgets.Select(label="channel", stylesheets=[css, UNSEEN_LABEL], width=MENU_WIDTH, margin=0)

        def offer(channels: tuple[str, ...]) -> None:
            chosen = choices.channel if choices.channel in channels else channels[-1]
            fits = sum(map(len, channels)) + len(channels) * BUTTON_LETTERS <= LETTERS_MAX
            for widget in (buttons, menu):
                widget.param.update(options=list(channels), value=chosen, visible=(widget is buttons) == fits)
            buttons.param.trigger("value")  # Panel sends the place of a new value: a name may be at another place

        def choose(event: Any) -> None:
            if event.new in event.obj.options:
                choices.channel = event.new

        def show(event: Any) -> None:
            for widget in (buttons, menu):
                if event.new in widget.options:
                    widget.value = event.new

        offer(self._tab.maps.channels)
        for widget in (buttons, menu):
            widget.param.watch(choose, "value")
        choices.param.watch(show, "channel")
        self._tab.on_channels(offer)
        return pn.Row(buttons, menu, margin=0)


def _shrinking(least: int) -> list[str]:
    """The toolbar is one line on every screen: its fields may shrink to so many pixels, its buttons may not."""
    return [
        stylesheet("widgets"),
        UNSEEN_LABEL,
        f":host {{ flex: 0 1 auto !important; min-width: {least}px !important; }}",
    ]
