"""A pane in the page of another server: what its style needs comes from ours, never from a server on the internet."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from bokeh.document import Document
from panel.io.resources import patch_model_css

__all__ = ["script_address", "server_of", "style_from_here"]

SESSION_ARGUMENTS = ("bokeh-session-id", "bokeh-token")
LOADER = "/autoload.js"
"""What a page of others asks for, behind the path of the page that it embeds."""


def style_from_here(document: Document) -> None:
    """Load the style sheets of an embedded page from the server of its script.

    Panel sees to it when it writes a page of its own. What is embedded has no such page, and would ask a server that a
    beamline's network may not reach.
    """
    request = getattr(document.session_context, "request", None)
    server = server_of(request)
    if server:
        for root in document.roots:
            patch_model_css(root, dist_url=f"{server}/static/extensions/panel/")


def server_of(request: Any) -> str:
    """Return the address of this server as the browser of an embedding page knows it; empty for our own pages.

    Args:
        request: of the session, with ``uri``, ``host``, ``protocol`` and ``arguments``; None where there is none.
    """
    if request is None:
        return ""
    path = urlsplit(request.uri).path
    if not path.endswith(LOADER):
        return ""
    address = (request.arguments.get("bokeh-absolute-url") or [b""])[-1].decode("ascii", "replace")
    # behind a proxy with TLS only the browser knows the scheme; nothing else of what it says is believed
    known = next((one for one in ("http", "https") if address.startswith(f"{one}://{request.host}/")), request.protocol)
    return f"{known}://{request.host}{path.removesuffix(LOADER).rpartition('/')[0]}"


def script_address(document: Document) -> str:
    """Return the address of the script that embeds a document in a foreign page, without the session that it named;
    empty for our own pages.

    A request for it makes a new session with the same arguments.
    """
    request = getattr(document.session_context, "request", None)
    server = server_of(request) if request is not None else ""
    if request is None or not server:
        return ""
    asked = urlsplit(request.uri)
    page = asked.path.removesuffix(LOADER).rpartition("/")[2]
    query = [(name, value) for name, value in parse_qsl(asked.query) if name not in SESSION_ARGUMENTS]
    return f"{server}/{page}{LOADER}?{urlencode(query)}"
