"""Pages of ``panel serve``, and what all pages of a process share: settings, store, live runs."""

from __future__ import annotations

import atexit
import gc
import html
import importlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import panel as pn
from bokeh.document import Document
from bokeh.events import ConnectionLost
from bokeh.io.doc import curdoc
from bokeh.settings import settings
from bokeh.util.token import check_session_id_signature
from jinja2 import Template
from tornado.httputil import parse_cookie

from snakemap import logs
from snakemap.blueapi.scan_control import Caller, control_of
from snakemap.blueapi.status_poller import StatusPoller
from snakemap.core.geometry import ScanDefaults
from snakemap.dashboard import page_server, session_owner
from snakemap.dashboard.callbacks import soon
from snakemap.dashboard.connection_beat import ConnectionBeat, disconnect
from snakemap.dashboard.document_release import release_with_session
from snakemap.dashboard.embed_css import script_address, server_of, style_from_here
from snakemap.dashboard.embed_pane import HEIGHTS_ALONE, boxed, colored, under_line
from snakemap.dashboard.layout import Dashboard
from snakemap.dashboard.model_defaults import keep_defaults
from snakemap.dashboard.model_ids import separate_model_ids
from snakemap.dashboard.model_walk import walk_after_changes
from snakemap.dashboard.page_css import page_css
from snakemap.dashboard.panes import dataset_image
from snakemap.dashboard.panes.event_log import LogView, filter_from
from snakemap.dashboard.panes.file_workspace import FileServices
from snakemap.dashboard.panes.registry import PANES
from snakemap.dashboard.permalink import ViewPlace, parse
from snakemap.dashboard.routes.events import EventsHandler
from snakemap.dashboard.routes.files import FileHandler
from snakemap.dashboard.routes.health import HealthHandler, ReadyHandler
from snakemap.dashboard.routes.maps import MapsHandler
from snakemap.dashboard.routes.thumbnails import PictureHandler
from snakemap.dashboard.session import Session
from snakemap.dashboard.session_owner import owner_of, refuse_adoption
from snakemap.dashboard.theme import THEMES
from snakemap.dashboard.url_sync import UrlArrival
from snakemap.dashboard.widgets import ConnectionLine, TopBar, script_of
from snakemap.errors import SessionRefused, SettingsError, SnakemapError
from snakemap.files.directory_listing import DirectoryCache
from snakemap.hdf5.inspector import FileInspector
from snakemap.live.event_index import EventIndex
from snakemap.live.mean_frames import MeanFrames
from snakemap.live.region_maps import RegionMaps
from snakemap.live.run_cache import RunCache
from snakemap.live.run_follower import RunFollower
from snakemap.render import pyramid
from snakemap.render.cache import RenderCache
from snakemap.resources import app_dir
from snakemap.settings import Settings, load
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.heartbeat import HeartbeatReporter
from snakemap.store.store import Store
from snakemap.web.hosts import HostNames

__all__ = ["ROUTES", "ServerProcess", "page", "process"]

log = logging.getLogger(__name__)

TEMPLATE = Template(
    "{% extends base %}{% block postamble %}<script>{% raw %}"
    + script_of("sheets", "opening")
    + "{% endraw %}</script>{% endblock %}"
    "{% block js_resources %}{% for line in bokeh_js.splitlines() if '/bokeh-gl.' not in line %}{{ line }}\n"
    "{% endfor %}{% endblock %}"
)
"""Panel's page without WebGL, which no figure uses, and with a script that opens it again if its document fails."""

THEME_COOKIE = "snakemap-theme"

REFUSED_AGAIN_S = 20
"""Seconds, and up to twice as many, after which a page that was refused is opened again."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """What all tabs of a server process share.

    Attributes:
        settings: of the process.
        live: the runs it follows.
        levels: their coarse maps.
        services: access to files.
        poller: the state of blueapi and of the control lock.
        event_index: summaries of the newest events.
        saved: runs that were saved as files lately.
        heartbeat: by which their browsers know that they are connected.
        refused: tabs that were turned away, by the code of the error.
    """

    settings: Settings
    live: RunFollower
    levels: RenderCache
    services: FileServices
    poller: StatusPoller
    event_index: EventIndex
    saved: RunCache
    heartbeat: ConnectionBeat = field(default_factory=ConnectionBeat)
    refused: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """Return the state of the process, for the metrics."""
        return {
            "tabs": self.live.watchers,
            "tabs_max": self.settings.max_sessions,
            "refused": dict(self.refused),
            "readers_replaced": self.services.inspector.replaced,
        }


@cache
def process() -> ServerProcess:
    """Return what the tabs of this process share; the first call makes it.

    Raises:
        SettingsError: when a setting cannot be used.
    """
    logs.install()
    gc.freeze()  # Panel collects garbage after each session: the libraries' objects would take 0.2 s each time
    separate_model_ids()
    keep_defaults()
    if not pn.config.autoreload:  # which developers use: validation finds their mistakes, and takes 0.1 s for each page
        settings.perform_document_validation.set_value(False)
    config = load()
    url = config.redis_url
    if not url:
        redis = EmbeddedRedis(config.state_dir)
        url = redis.join()
        atexit.register(redis.leave)
    store = Store(url, documents_max=config.documents_max, keep_days=config.keep_days, read_only=config.read_only)
    threading.Thread(target=_warm_up, name="warm up", daemon=True).start()
    inspector = FileInspector(config.root, path_map=config.path_map)
    regions = RegionMaps.of(config)
    services = FileServices(
        DirectoryCache(config.root),
        inspector,
        tuple(config.path_map),
        config.rois,
        config.download_max_mb * 1_000_000,
        regions=regions,
        means=MeanFrames(regions.reader, blocks=regions.blocks),
    )
    event_index = EventIndex(store, rows_max=config.log_rows)
    defaults = ScanDefaults(config.grid, snake=config.snake)
    live, saved = RunFollower(store, defaults=defaults), RunCache(store, defaults=defaults)
    return ServerProcess(
        config, live, RenderCache(), services, StatusPoller(control_of(config, store)), event_index, saved
    )


@cache
def reporter() -> HeartbeatReporter:
    """Return the heartbeat of this process; the first call makes it."""
    shared = process()
    return HeartbeatReporter(shared.live.store, "pages", port=shared.settings.port, fields=shared.report)


def _begin() -> None:
    """Make what all tabs share, and begin to report; idempotent; needs a running event loop."""
    reporter().start()


def _caller(document: Document, settings: Settings) -> Caller:
    """Return the identity of a tab: a generated name, its address, and the token that a proxy added."""
    request = getattr(document.session_context, "request", None)
    owner = owner_of(request)
    sent = owner.headers if owner is not None else getattr(request, "headers", {})
    headers = {name.lower(): value for name, value in sent.items()}
    token = headers.get(settings.blueapi_token_header.lower(), "") if settings.blueapi_token_header else ""
    address = str(getattr(request, "remote_ip", "") or "")
    tab = uuid4().hex
    return Caller(tab, f"tab {tab[:4]}", address, token.removeprefix("Bearer ").strip())


def _warm_up() -> None:
    """Load and compile, once a process, what tabs are going to need."""
    importlib.import_module("snakemap.core.scanspec_geometry")
    pyramid.warm_up()
    dataset_image.warm_up()


def _downloads() -> tuple[Path, int]:
    """Return the data root, and the bytes that a downloaded file may have."""
    config = process().settings
    return config.root, config.download_max_mb * 1_000_000


def _hosts() -> HostNames:
    """Return the names that the server of the pages answers to."""
    config = load()
    return HostNames(config.host, config.origins)


def _code_of_pages() -> dict[str, str]:
    """Return the code of the pages of those panes that have no script of their own."""
    scripts = {path.stem for path in app_dir().glob("*.py")}
    names = [entry.name for entry in PANES if entry.name not in scripts]
    return {name: f"from snakemap.doors import page\n\npage({name!r})\n" for name in names}


ROUTES = [
    ("/file", FileHandler, {"allowed": _downloads}),
    ("/export", MapsHandler, {"runs": lambda: process().saved, "regions": lambda: process().services.regions}),
    ("/picture", PictureHandler, {"store": lambda: process().live.store}),
    ("/healthz", HealthHandler, {"begin": _begin}),
    ("/readyz", ReadyHandler, {"store": lambda: process().live.store}),
    ("/events", EventsHandler, {"store": lambda: process().live.store}),
]
"""What the server of the pages answers beside them."""

# `panel serve --plugins` imports this module before it makes its server
session_owner.install()
page_server.install(_hosts, _code_of_pages())


def page(name: str, arranged: Callable[[Dashboard], None] | None = None) -> None:
    """Make the page of a new session: the dashboard, or one pane for other pages to embed.

    Args:
        name: ``"dashboard"``, ``"log"``, or that of a pane, like ``"maps"``.
        arranged: puts the parts of the dashboard in their places; None: the usual places.
    """
    request = getattr(curdoc().session_context, "request", None)
    if request is not None and not hasattr(request, "uri"):
        return  # `panel serve --dev` runs each page once before it serves, to see what it imports
    curdoc().template = TEMPLATE
    host = server_of(request)
    title = "snakemap" if name == "dashboard" else f"snakemap {name}"
    _show(name, title=title, base=f"{host}/" if host else "", arranged=arranged)
    style_from_here(curdoc())


def _show(name: str, *, title: str, base: str, arranged: Callable[[Dashboard], None] | None) -> None:
    """Fill the document of the session.

    Args:
        name: as :func:`page` has it.
        title: of a page of ours.
        base: our address, as the browser knows it, when a page of others embeds this one; else empty.
        arranged: as :func:`page` has it.
    """
    place, notes = parse(_query())
    release_with_session(curdoc())
    walk_after_changes(curdoc())
    theme = place.theme or ("" if base else _kept_theme(curdoc())) or "dark"
    css = [] if base else [page_css(theme)]  # a page of others keeps its own style
    # Panel's own theme stays as it is: it would follow the address, but not the button that changes the colors
    pn.extension(raw_css=css, notifications=True, theme="default")
    try:
        _begin()
        if name == "log":
            events = _log(curdoc(), place)
            events.component.base = base
            _serve(_alone(events, background="page"), title=title, base=base, place=place, name=name)
            return
        made = _tab(curdoc(), place, theme=theme)
    except SnakemapError as refusal:
        log.warning("a session was refused: %s", refusal)
        if not isinstance(refusal, SettingsError):
            process().refused[refusal.code] += 1
        alert = pn.pane.Alert(html.escape(str(refusal)), alert_type="warning")
        pn.Column(_line(again=REFUSED_AGAIN_S), alert, sizing_mode="stretch_width").servable(title=title)
        return
    if name == "dashboard":
        made.topbar.embedded = script_address(made.document)
        _disconnect_when_left(made.topbar, made.document)
        shared = process()
        config = shared.settings
        caller = _caller(made.document, config)
        made.topbar.base = base
        made.pictures = not base
        dashboard = Dashboard(
            made, services=shared.services, poller=shared.poller, caller=caller, session=config.instrument_session,
            place=place, notes=notes, arranged=arranged,
        )  # fmt: skip
        if base:
            UrlArrival(made).go(place, notes)
            if dashboard.tree is not None:
                dashboard.tree.base = base
        _serve(dashboard, title=title, base=base, place=place, name=name, tab=made)
        return
    UrlArrival(made).go(place, notes)
    _serve(_alone(made.panes[name]), title=title, base=base, place=place, name=name, tab=made)


def _serve(view: Any, *, name: str, title: str, base: str, place: ViewPlace, tab: Session | None = None) -> None:
    """Make a page of the session: all of it, or a box in a page of others that keeps its own style."""
    if not base:
        view.servable(title=title)
        return
    box = boxed(view, theme=place.theme or "dark", height=HEIGHTS_ALONE[name])
    (colored(box, tab) if tab is not None else box).servable()


def _tab(document: Document, place: ViewPlace, *, theme: str) -> Session:
    """Return the tab of a session.

    Raises:
        SessionRefused: when the browser chose the session's id, or too many tabs are open.
        SettingsError: when a setting cannot be used.
    """
    shared = _admitted(document)
    made = Session(shared.live, shared.levels, document=document, pinned=place.run, theme=theme, wall=place.wall)
    made.start_when_ready()
    _free_when_left(document, made.end)
    return made


def _log(document: Document, place: ViewPlace) -> LogView:
    """Return the log of a session; as :func:`_tab`."""
    shared = _admitted(document)
    asked = parse_qs(_query(), errors="replace")
    wanted = filter_from(asked.get("run", [""])[0][:200], asked.get("name", []), asked.get("text", [""])[0][:200])
    made = LogView(shared.event_index, document=document, wanted=wanted, theme=place.theme or "")
    made.start_when_ready()
    _free_when_left(document, made.close)
    return made


def _admitted(document: Document) -> ServerProcess:
    """Return what all tabs share, for a session that may have one more."""
    refuse_adoption(getattr(document.session_context, "request", None))
    _refuse_made_up(document)
    shared = process()
    tabs = shared.live.watchers + shared.event_index.watchers
    if tabs >= shared.settings.max_sessions:
        raise SessionRefused(f"too many tabs are open ({tabs}); close one or try again later")
    return shared


def _free_when_left(document: Document, end: Callable[[], None]) -> None:
    """Keep a beat going, and free the session as soon as its connection is gone.

    A page that was cut off comes back with a new session, so the old one is freed at once to make place for it.
    """

    def leave() -> None:
        session = getattr(document.session_context, "session", None)
        if session is None or session.connection_count == 0:
            end()
            if session is not None:
                session.request_expiration()

    process().heartbeat.follow(document)
    document.on_event(ConnectionLost, lambda _: soon(document, leave))


def _line(*, again: float = 0) -> ConnectionLine:
    """Return the line that says when the page of this session is cut off."""
    line = ConnectionLine(embedded=script_address(curdoc()), again=again, sizing_mode="stretch_width", margin=0)
    _disconnect_when_left(line, curdoc())
    return line


def _disconnect_when_left(part: ConnectionLine | TopBar, document: Document) -> None:
    """Close the connection of an embedded page that its host has removed: the browser keeps it open."""
    part.param.watch(lambda event: disconnect(document), "left")


def _alone(view: Any, *, background: str = "panel") -> pn.viewable.Viewable:
    """One pane as a whole page, as high as the frame that embeds it."""
    styles = {"height": "var(--sm-height, 100vh)", "box-sizing": "border-box"}
    styles["background"] = f"var(--sm-{background})"
    styles["padding"] = "8px" if background == "panel" else "0"
    page = under_line(view, _line(), sizing_mode="stretch_both")
    page.styles = {**page.styles, **styles}
    return page


def _kept_theme(document: Document) -> str:
    """Return the theme that the user chose last in this browser, kept in a cookie by `topbar.js`; else empty."""
    owner = owner_of(getattr(document.session_context, "request", None))
    kept = parse_cookie(owner.headers.get("cookie", "")).get(THEME_COOKIE, "") if owner is not None else ""
    return kept if kept in THEMES else ""


def _query() -> str:
    """Return the query of the address of the session that is being made."""
    return urlencode(pn.state.session_args or {}, doseq=True)


def _refuse_made_up(document: Document) -> None:
    """Refuse a session whose id the browser chose, which a server without signed ids would let pass.

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
            raise SessionRefused("this session id is not from this server; open the page without one")
