"""Panes in a foreign page: one tree for each document, with colors that stay inside the pane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import param
from bokeh.document import Document
from panel.io.location import Location
from panel.viewable import Child

from snakemap.dashboard.figure_theme import STALE
from snakemap.dashboard.layout import Dashboard
from snakemap.dashboard.page_css import embedded_css
from snakemap.dashboard.panes.registry import PANES
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import JS, ConnectionLine, Part

__all__ = ["EMBEDDED_KINDS", "HEIGHTS_ALONE", "EmbeddedPane", "boxed", "colored", "laid_out", "under_line"]

HEIGHTS = {**{entry.name: entry.height for entry in PANES}, "dashboard": 860}
EMBEDDED_KINDS = tuple(HEIGHTS)
HEIGHTS_ALONE = {**HEIGHTS, **{one.name: one.height_alone for one in PANES if one.height_alone}, "log": 560}
"""Pixels of an embedded page whose element has no height of its own."""

LAYOUT = (
    *("width", "height", "min_width", "min_height", "max_width", "max_height"),
    *("sizing_mode", "margin", "align", "visible"),
)
BOX = {
    **{"background": "var(--sm-panel)", "border": "1px solid var(--sm-line)", "border-radius": "8px"},
    **{"padding": "8px", "box-sizing": "border-box", "overflow": "hidden"},
}


EMBEDDED = ":host { --sm-height: 100%; --sm-width: 100%; }"
"""An embedded page has the size of its element instead of that of the window."""


class EmbedBox(Part):
    """The box around embedded panes: their colors end here, and it lays out its own content."""

    view = Child(doc="The pane.")
    alone = param.Integer(
        default=0,
        doc="Height in pixels of a page whose element has none; 0: the box is in a layout.",
    )

    _esm = JS / "embed_box.js"
    # Panel gives it the height of the whole, borders and padding included
    _stylesheets = [":host > .box { width: 100% !important; height: 100% !important; }"]  # noqa: RUF012


class EmbeddedPane(pn.viewable.Viewable):
    """One pane, to be put into any layout of Panel, served, or shown in a notebook.

    Every document that shows it gets its own tree, so one pane can be served to many documents.

    Args:
        kind: one of :data:`EMBEDDED_KINDS`.
        session_of: returns the tab of a document, and a function to call when the pane is removed from it.
        params: width, height and the like, as every component of Panel has.
    """

    def __init__(self, kind: str, *, session_of: Callable[[Document, Any], OpenSession], **params: Any) -> None:
        self._kind = kind
        self._session_of = session_of
        self._trees: dict[str, tuple[pn.viewable.Viewable, Callable[[], None]]] = {}
        size = {"height": HEIGHTS[kind], "sizing_mode": "stretch_width"} if "sizing_mode" not in params else {}
        super().__init__(**{**size, **params})

    def server_doc(
        self, doc: Document | None = None, title: str | None = None, location: bool | Location = True
    ) -> Document:
        """Add the pane to a document, which keeps its title unless `title` is given; Panel renames an unnamed one."""
        before = doc.title if doc is not None else None
        shown = super().server_doc(doc, title=title, location=location)
        if before is not None and not title:
            shown.title = before
        return shown

    def select(self, selector: Any = None) -> list[Any]:
        """Return its parts in all documents; themes and designs need them."""
        return [*super().select(selector), *(one for tree, _ in self._trees.values() for one in tree.select(selector))]

    def _get_model(self, doc: Document, root: Any = None, parent: Any = None, comm: Any = None) -> Any:
        tab, left = self._session_of(doc, comm)
        tree = laid_out(self._kind, tab, **{name: getattr(self, name) for name in LAYOUT})
        model = tree._get_model(doc, root, parent, comm)
        ref = (root or model).ref["id"]
        self._models[ref] = (model, parent)
        self._trees[ref] = (tree, left)
        tab.on_close(lambda: self._trees.pop(ref, None))
        return model

    def _cleanup(self, root: Any = None) -> None:
        if root is not None and root.ref["id"] in self._trees:
            tree, left = self._trees.pop(root.ref["id"])
            self._models.pop(root.ref["id"], None)
            tree._cleanup(root)
            left()
        super()._cleanup(root)

    @param.depends(*LAYOUT, watch=True)
    def _on_layout(self) -> None:
        for tree, _ in self._trees.values():
            tree.param.update(**{name: getattr(self, name) for name in LAYOUT})


OpenSession = tuple[Session, Callable[[], None]]


def laid_out(kind: str, tab: Session, **layout: Any) -> pn.viewable.Viewable:
    """One pane of a tab, with the colors of its theme around it and nowhere else.

    Args:
        kind: one of :data:`EMBEDDED_KINDS`.
        tab: whose pane it is.
        layout: as Panel has it.
    """
    view, styles = _view(kind, tab), dict(BOX)
    if kind == "dashboard":
        styles = {**styles, "padding": "0"}
    if kind != "dashboard":  # whose top bar says so
        view = under_line(view, ConnectionLine(foreign=True), sizing_mode=layout.get("sizing_mode") or "stretch_width")
    box = EmbedBox(view=pn.panel(view), css_classes=["snakemap"], styles=styles, **layout)
    return colored(box, tab)


def boxed(view: Any, *, theme: str, height: int) -> EmbedBox:
    """Return a page in a box that fits the element that it is embedded into.

    Args:
        view: all of the page.
        theme: ``"dark"`` or ``"light"``.
        height: pixels, where the element around it has no height of its own.
    """
    css = f"{embedded_css(theme)} {EMBEDDED}"
    return EmbedBox(view=pn.panel(view), alone=height, stylesheets=[css], sizing_mode="stretch_both", margin=0)


def colored(box: EmbedBox, tab: Session) -> EmbedBox:
    """Give a box the colors of a tab, now and whenever they change."""
    more = EMBEDDED if box.alone else ""

    def color(theme: str) -> None:
        box.stylesheets = [f"{embedded_css(theme)} {more}"]

    color(tab.choices.theme)
    tab.choices.param.watch(lambda event: color(event.new), "theme")
    return box


def under_line(view: Any, line: ConnectionLine, *, sizing_mode: str) -> pn.viewable.Viewable:
    """Lay out a pane below the line that says when the page is cut off; the pane then looks faded.

    Args:
        view: the pane.
        line: of the page.
        sizing_mode: as Panel has it.
    """
    line.param.update(sizing_mode="stretch_width", margin=0)
    styles = {**STALE, "min-height": "0", "flex": "1 1 0"} if sizing_mode == "stretch_both" else dict(STALE)
    pane = pn.Column(view, sizing_mode=sizing_mode, margin=0, styles=styles)
    return pn.Column(line, pane, sizing_mode=sizing_mode, margin=0, styles={"min-height": "0"})


def _view(kind: str, tab: Session) -> Any:
    if kind != "dashboard":
        return tab.panes[kind]
    tab.topbar.foreign = True
    tab.pictures = False  # their route belongs to our own server
    layout: Any = Dashboard(tab).__panel__()
    layout.styles = {**layout.styles, "height": "100%", "width": "100%"}
    return layout
