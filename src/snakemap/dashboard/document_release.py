"""Free what Panel and Bokeh keep of a session that has ended."""

from __future__ import annotations

from bokeh.document import Document
from panel.io.state import state

__all__ = ["release_with_session"]


def release_with_session(document: Document) -> None:
    """Have a document freed when its session ends, also one whose browser never connected.

    Panel keeps the area of notifications of each session, and with it the document and all its models, in a registry
    of views that belongs to the process, and does not take it out.
    """
    document.on_session_destroyed(lambda _: _forget_views(document))


def _forget_views(document: Document) -> None:
    for reference, (_, _, owner, _) in list(state._views.items()):
        if owner is document:
            state._views.pop(reference, None)
