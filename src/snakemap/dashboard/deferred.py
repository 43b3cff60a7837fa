"""A view that is made when it is first wanted: most tabs never compare runs or open a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import panel as pn
from bokeh.document import Document
from panel.io.state import set_curdoc

__all__ = ["Deferred"]

View = TypeVar("View", bound=pn.viewable.Viewer)


class Deferred(Generic[View]):
    """The place of a view in a page, empty until the view is wanted.

    Args:
        document: Bokeh's, of the tab.
        make: makes the view; called once at most.

    Attributes:
        place: in the page; it holds the view once it is made.
        made: the view; None until it is wanted.
    """

    def __init__(self, document: Document, make: Callable[[], View]) -> None:
        self._document = document
        self._make = make
        self.place = pn.Column(sizing_mode="stretch_both", margin=0, styles={"min-height": "0", "min-width": "0"})
        self.made: View | None = None

    def use(self, work: Callable[[View], None]) -> None:
        """Call with the view, which is made and put into the page if it is wanted for the first time.

        Then it is put there after the call: a browser that has a model, but has not drawn it yet, cannot change all
        of its properties.
        """
        if self.made is not None:
            work(self.made)
            return
        with set_curdoc(self._document):
            self.made = self._make()
            work(self.made)
            self._put(self.made)

    def _put(self, view: View) -> None:
        """Send the view at once: Panel may send it later than Bokeh sends changes of it."""
        self._document.hold("combine")
        try:
            children: list[Any] = [view]
            self.place[:] = children
        finally:
            self._document.unhold()
