"""The order in which a browser hears of things."""

from __future__ import annotations

from bokeh.document import Document
from panel.io import document as panel_document

__all__ = ["unsent"]


def unsent(document: Document) -> bool:
    """Whether Panel keeps messages for the browser until its connection is free.

    What Bokeh sends meanwhile overtakes them, and must not be about models that the browser has yet to hear of.
    """
    return document in panel_document._WRITE_BLOCK
