"""Components of the page with scripts of their own, which write text as text: no name becomes markup."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import param
from bokeh.document import Document
from panel.custom import JSComponent
from panel.io.state import set_curdoc, state

__all__ = [
    "UNSEEN_LABEL",
    "AddressBar",
    "AuditLog",
    "ConnectionLine",
    "Controls",
    "Part",
    "PlanForm",
    "PointBar",
    "Rail",
    "RegionBar",
    "RunList",
    "SaveMenu",
    "SummaryTable",
    "TimeBar",
    "TopBar",
    "list_script",
    "page_stylesheet",
    "script_of",
    "stylesheet",
]

UNSEEN_LABEL = """
.bk-input-group > label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""
"""Style of the name of a field that shows what it is by its value: it is for screen readers."""

JS = Path(__file__).parent / "js"
CSS = Path(__file__).parent / "css"


def stylesheet(name: str) -> str:
    """Return the style sheet of a pane, behind what all panes share."""
    return "".join((CSS / f"{part}.css").read_text(encoding="utf-8") for part in ("common", name))


def page_stylesheet() -> str:
    """Return the style sheet of our own pages, around the panes."""
    return (CSS / "page.css").read_text(encoding="utf-8")


def list_script(name: str) -> str:
    """Return the script of a pane, behind what all panes share."""
    return script_of("text", name)


@cache
def script_of(*names: str) -> str:
    """Some of our scripts as one, in this order."""
    return "\n".join((JS / f"{name}.js").read_text(encoding="utf-8") for name in names)


class Part(JSComponent):
    """A component whose script writes only the parameters that it names.

    Panel reads every parameter back from the browser unless a component says otherwise. It also takes a change that the
    server itself made while its document was held for one of the browser, and repeats it 50 ms later. A change made in
    between is lost then.

    Attributes:
        written: parameters that the script assigns to; only these are read from the browser.
    """

    written: ClassVar[tuple[str, ...]] = ()

    __abstract = True

    @property
    def _linked_properties(self) -> tuple[str, ...]:
        return self.written

    def _server_change(self, doc: Document, ref: str, subpath: str | None, attr: str, old: Any, new: Any) -> None:
        """Take every value that the script assigns, in order; Panel takes the last one of 50 ms."""
        if attr in self._events:
            try:
                with set_curdoc(doc):
                    self._process_events({attr: self._events[attr]})
            except Exception as error:  # noqa: BLE001 - as Panel does with that of the last one
                state._handle_exception(error)
        super()._server_change(doc, ref, subpath, attr, old, new)

    def _get_properties(self, doc: Document | None) -> dict[str, Any]:
        """Return Panel's properties, with the mark of scripts that need no translation from TypeScript in the browser.

        The translation would take a tenth of the time in which a browser opens the page.
        """
        properties = super()._get_properties(doc)
        if not properties["dev"]:
            properties["bundle"] = hashlib.sha256(properties["esm"].encode()).hexdigest()
        return properties


class _Connected(Part):
    """A component that watches the connection of its page; see `connection.js`. A page has one."""

    foreign = param.Boolean(default=False, doc="Whether the page is that of others: it stays open, its colors too.")
    embedded = param.String(default="", doc="Address of the script that put the page into another; empty: into none.")
    again = param.Number(default=0, bounds=(0, None), doc="Seconds after which the page is opened again; 0: it stays.")
    left = param.Boolean(default=False, doc="Set by the browser when nothing of the page is used any more.")

    __abstract = True


class ConnectionLine(_Connected):
    """One line above panes without a top bar, there only while the page is cut off from its server."""

    written = ("left",)
    _esm = script_of("sheets", "patches", "connection", "messages", "line")
    _stylesheets = [stylesheet("line")]  # noqa: RUF012 - Panel reads it from the class


class TopBar(_Connected):
    """Name, run, progress, connections, and the switch between day and night."""

    state = param.Dict(default={}, doc="What to show; see `topbar.js` for its keys.")
    theme = param.Selector(default="dark", objects=["dark", "light"], doc="Colors of the page; the button sets it.")
    logo = param.String(default="", doc="The logo, as SVG of our own.")
    base = param.String(default="", doc="Where links lead from; empty on our own page, which they are relative to.")
    wall = param.Boolean(default=False, doc="Whether it is read from afar: large letters, nothing to press.")

    written = ("theme", "left")
    _esm = script_of("text", "sheets", "patches", "connection", "notice", "messages", "topbar")
    _stylesheets = [stylesheet("topbar")]  # noqa: RUF012 - Panel reads it from the class


class AddressBar(Part):
    """The address of the page, back and forward, and a button that copies a link."""

    state = param.Dict(default={}, doc="What the address holds; see `address.js` for its keys.")
    asked = param.Dict(default={}, doc="Where back or forward led: `number`, which grows, and `query`.")

    written = ("asked",)
    _esm = JS / "address.js"
    _stylesheets = [stylesheet("address")]  # noqa: RUF012


class Rail(Part):
    """Buttons at the edge of the page, one a list; the pane after it, in the same row, holds the lists."""

    titles = param.List(default=[], item_type=str, doc="Of the lists.")
    active = param.Integer(default=0, bounds=(0, None), doc="Which list was opened last.")
    open = param.Boolean(
        default=None, allow_None=True, doc="Whether it is open; None: as this browser had it last, or as wide as it is."
    )

    written = ("active", "open")
    _esm = list_script("rail")
    _stylesheets = [stylesheet("rail")]  # noqa: RUF012


class SummaryTable(Part):
    """One row a channel: least, most, mean, sum, and where the most is."""

    state = param.Dict(default={}, doc="`rows` and `caption`; see `summary.js`.")
    folds = param.Boolean(default=False, doc="Whether a button folds it to its heads, which the browser remembers.")

    _esm = script_of("text", "quantity", "summary")
    _stylesheets = [stylesheet("summary")]  # noqa: RUF012


class SaveMenu(Part):
    """A menu of files that the maps can be saved as."""

    kinds = param.List(default=[], item_type=list, doc="Format, title and detail of each file.")
    state = param.Dict(default={}, doc="`run`, its uid; `source` of the run; `base` of the address; see `save.js`.")

    _esm = list_script("save")
    _stylesheets = [stylesheet("save")]  # noqa: RUF012


class TimeBar(Part):
    """From the first document of a run to the last: where one is, and the way back and forward."""

    state = param.Dict(default={}, doc="What to show; see `timebar.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants: `number`, which grows, `what` and `value`.")

    written = ("ask",)
    _esm = list_script("timebar")
    _stylesheets = [stylesheet("timebar")]  # noqa: RUF012


class PointBar(Part):
    """The point whose frame is shown: its number, its place, its counts, its file, and the ways to other points."""

    state = param.Dict(default={}, doc="What to show; see `pointbar.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants: `number`, which grows, `what` and `value`.")

    written = ("ask",)
    _esm = script_of("text", "quantity", "pointbar")
    _stylesheets = [stylesheet("pointbar")]  # noqa: RUF012


class RegionBar(Part):
    """The regions of the tab: a field each, to add, change and remove."""

    state = param.Dict(default={}, doc="What to show; see `regions.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants: `number`, which grows, `place` in the list and `text`.")

    written = ("ask",)
    _esm = list_script("regions")
    _stylesheets = [stylesheet("regions")]  # noqa: RUF012


class RunList(Part):
    """The runs in the store, newest first, to search, to follow the newest or stay with one, and to compare two."""

    runs = param.List(
        default=[], item_type=dict, doc="What is listed; see :func:`snakemap.dashboard.panes.status_text.history`."
    )
    pinned = param.String(default="", doc="Uid of the run to stay with; empty follows the newest.")
    more = param.Integer(default=0, doc="How many there are beyond those that are listed.")
    wanted = param.Dict(default={}, doc="What is looked for; see :func:`snakemap.dashboard.panes.status_text.sought`.")
    again = param.Integer(default=0, doc="Grows when the run that is shown already is chosen once more.")
    compare = param.Dict(default={}, doc="Which runs to compare: `number`, which grows, and `runs`, two uids.")

    written = ("pinned", "wanted", "again", "compare")
    _esm = list_script("runs")
    _stylesheets = [stylesheet("runs")]  # noqa: RUF012


class Controls(Part):
    """State of blueapi's worker, the buttons that change it, and the holder of control."""

    state = param.Dict(default={}, doc="What to show; see `controls.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants: `number`, which grows, and `what`.")
    beat = param.Integer(default=0, doc="Grows when the browser is to say that it is there.")
    answer = param.Integer(default=0, doc="The last `beat` that the browser has answered.")
    key = param.String(default="", doc="Secret by which a reloaded tab proves that it is the same.")

    written = ("ask", "answer")
    _esm = list_script("controls")
    _stylesheets = [stylesheet("controls")]  # noqa: RUF012


class PlanForm(Part):
    """The form of a plan."""

    state = param.Dict(default={}, doc="What to show; see `form.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants: `number`, which grows, `what`, `values` and `session`.")

    written = ("ask",)
    _esm = list_script("form")
    _stylesheets = [stylesheet("form")]  # noqa: RUF012


class AuditLog(Part):
    """The audit log: each action with its user and result."""

    entries = param.List(default=[], item_type=dict, doc="Newest first: `what`, `who`, `time`, `detail`, `came`.")

    _esm = list_script("audit")
    _stylesheets = [stylesheet("audit")]  # noqa: RUF012
