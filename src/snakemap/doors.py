"""What a page of ``panel serve`` stands on, made once a process: settings, store, live runs."""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import panel as pn
from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.io.doc import curdoc
from bokeh.settings import settings
from bokeh.util.token import check_session_id_signature

from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import SessionRefused
from snakemap.geometry import Habits
from snakemap.levels import warm_up
from snakemap.live import Live
from snakemap.settings import Settings, load
from snakemap.store import Store
from snakemap.views.dashboard import page_css
from snakemap.views.pipeline import Levels
from snakemap.views.tab import Tab

__all__ = ["Process", "pane", "process", "tab"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """What all tabs of a server process share.

    Attributes:
        settings: of the process.
        live: the runs it follows.
        levels: their coarse maps.
    """

    settings: Settings
    live: Live
    levels: Levels


@cache
def process() -> Process:
    """The one of this process; the first call makes it.

    Raises:
        SettingsError: when a setting cannot be used.
    """
    told = load()
    url = told.redis_url
    if not url:
        redis = EmbeddedRedis(told.state_dir)
        url = redis.join()
        atexit.register(redis.leave)
    store = Store(url, documents_max=told.documents_max, keep_days=told.keep_days)
    threading.Thread(target=warm_up, name="warm up", daemon=True).start()
    return Process(told, Live(store, habits=Habits(told.grid, snake=told.snake)), Levels())


def tab(*, title: str = "snakemap") -> Tab:
    """The tab of the session that is being made; call it from a page, then lay out its panes."""
    document = curdoc()
    _refuse_made_up(document)
    pn.extension(raw_css=[page_css()], notifications=True)
    shared = process()
    document.title = title
    made = Tab(shared.live, shared.levels, document=document, pinned=_argument("run"), theme=_theme())
    # not before: what is sent while the browser still fetches the page would miss it
    document.on_event(DocumentReady, lambda _: made.start())
    return made


def _theme() -> str:
    asked = _argument("theme")
    return asked if asked in ("dark", "light") else "dark"


def _argument(name: str) -> str:
    values = (pn.state.session_args or {}).get(name, [])
    return values[0].decode("utf-8", "replace")[:200] if values else ""


def pane(view: Any) -> pn.viewable.Viewable:
    """One pane as a whole page, as high as the frame that embeds it."""
    styles = {"height": "100vh", "background": "var(--sm-panel)", "padding": "8px", "box-sizing": "border-box"}
    return pn.Column(view, sizing_mode="stretch_both", margin=0, styles=styles)


def _refuse_made_up(document: Document) -> None:
    """Refuses a session whose id the browser chose, which a server without signed ids would let pass.

    Raises:
        SessionRefused: when an id was asked for that no server of ours has signed.
    """
    request = getattr(document.session_context, "request", None)
    if request is None:
        return
    asked = [value.decode("ascii", "replace") for value in request.arguments.get("bokeh-session-id", [])]
    asked += [value for name, value in request.headers.items() if name.lower() == "bokeh-session-id"]
    secret = settings.secret_key_bytes()
    for session_id in asked:
        if secret is None or not check_session_id_signature(session_id, secret_key=secret, signed=True):
            raise SessionRefused("this session id was not given by this server; open the page without one")
