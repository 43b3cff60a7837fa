"""Sessions that belong to one browser: the handlers of pages, ``autoload.js`` and WebSockets.

Bokeh signs session ids, but takes any signed id from anyone: a link with ``?bokeh-session-id=`` makes two browsers
share one session, and the bearer token of the second one. Here:

- An id or token in an address or a header is refused. Every load of a page makes a new session.
- A page sets a cookie that scripts cannot read, and its session can be joined only with that cookie.
- A pane in a page of another site gets no cookie. Its session is joined by its first WebSocket, once. A pane that has
  to connect again loads ``autoload.js`` again.
- A WebSocket never makes a session. When its session has ended, it is refused, and the page is to be loaded again.
- What the browser sent (cookies, tokens of a proxy) stays on the server; the token in the page does not hold it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from bokeh.protocol.exceptions import ProtocolError
from bokeh.server.session import ServerSession
from bokeh.server.urls import per_app_patterns
from bokeh.server.util import check_allowlist
from bokeh.util.token import check_token_signature, get_session_id
from panel.io.server import AutoloadJsHandler, DocHandler, WSHandler
from tornado.web import HTTPError, RequestHandler

from snakemap.dashboard.host_bokeh import with_bokeh_of_page
from snakemap.errors import SessionRefused

__all__ = ["COOKIE", "SessionOwner", "install", "owner_of", "refuse_adoption"]

log = logging.getLogger(__name__)

COOKIE = "snakemap-browser-"
"""How the names of our cookies begin. Tabs that open at the same moment get one each; the browser sends them all."""

COOKIES_MAX = 8
VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
SOCKETS_MAX = 4
"""WebSockets of one session at one time: an old one may not be closed yet when the page connects again."""

FRAMES = ("iframe", "frame", "embed", "object", "fencedframe")


@dataclass(slots=True)
class SessionOwner:
    """The browser that a session was made for.

    Attributes:
        keys: digests of the cookies, one of which a WebSocket must bring.
        once: one WebSocket may come without; the session is bound to that one's cookies then.
        headers: of the request that made the session, names in lower case. They hold the user's tokens.
    """

    keys: frozenset[bytes]
    once: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def admits(self, keys: frozenset[bytes]) -> bool:
        """Return whether a WebSocket with these cookies may join; the right to join without one is used up by that."""
        if self.keys & keys:
            self.once = False
            return True
        if not self.once:
            return False
        self.once, self.keys = False, keys
        return True


_owners: WeakKeyDictionary[ServerSession, SessionOwner] = WeakKeyDictionary()


def owner_of(request: Any) -> SessionOwner | None:
    """Return the browser that a session is being made for; None when no page was asked for."""
    return getattr(request, "session_owner", None)


def install() -> None:
    """Make every server of this process use these handlers from now on."""
    ours: dict[type[RequestHandler], type[RequestHandler]]
    ours = {DocHandler: PageHandler, AutoloadJsHandler: PaneHandler, WSHandler: SocketHandler}
    for number, (pattern, handler, *more) in enumerate(per_app_patterns):
        per_app_patterns[number] = (pattern, ours.get(handler, handler), *more)  # pyright: ignore[reportArgumentType]


def refuse_adoption(request: Any) -> None:
    """Refuse a session that a WebSocket would make: its own ended in the moment between the check and the opening.

    Raises:
        SessionRefused: when no page was asked for.
    """
    if getattr(request, "may_only_join", False):
        raise SessionRefused("this session has ended; load the page again")


class PageHandler(DocHandler):
    """Answers with a page, and binds its session to the browser's cookie."""

    async def get_session(self) -> ServerSession:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make a session."""
        refuse_chosen(self)
        keys, headers = _keys(self), _headers(self)
        owner = SessionOwner(keys, headers=headers)
        if not keys:
            owner = SessionOwner(frozenset((_set_cookie(self),)), once=_in_a_foreign_frame(headers), headers=headers)
        return await _made(self, super().get_session, owner)


class PaneHandler(AutoloadJsHandler):
    """Answers with the script of a pane in another page. It sends no cookies, or those that it has."""

    async def get_session(self) -> ServerSession:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make a session; one for a page that no setting names can be joined by nothing."""
        refuse_chosen(self)
        keys, headers = _keys(self), _headers(self)
        if _is_named(headers, self.application.websocket_origins):
            owner = SessionOwner(keys, once=not keys, headers=headers)
        elif _comes_from_a_page(headers):
            owner = SessionOwner(frozenset())
        else:  # a program; or a page that hides, which must not act with the user's tokens
            owner = SessionOwner(frozenset(), once=True)
        return await _made(self, super().get_session, owner)

    def write(self, chunk: str | bytes | dict[str, Any]) -> None:
        """Write the script of the pane, for a page that may have a Bokeh of its own."""
        if isinstance(chunk, str) and self.get_status() == 200:
            chunk = with_bokeh_of_page(chunk, self.get_argument("bokeh-autoload-element"))
        super().write(chunk)


class SocketHandler(WSHandler):
    """Opens a WebSocket for the browser that the session belongs to."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Read the token, after the origin was checked and before the handshake is answered.

        Raises:
            HTTPError: when this browser may not join the session.
        """
        chosen = super().select_subprotocol(subprotocols)
        self.request.may_only_join = True  # pyright: ignore[reportAttributeAccessIssue]
        if self._token is not None:
            try:
                self._join(self._token)
            except HTTPError as refusal:
                log.warning("a WebSocket from %s was refused: %s", self.request.remote_ip, refusal.reason)
                raise
        return chosen

    def _join(self, token: str) -> None:
        owner = _owners.get(session) if (session := self._session_of(token)) is not None else None
        if session is None or owner is None:
            raise HTTPError(403, reason="This session has ended; load the page again")
        if session.connection_count >= SOCKETS_MAX:
            raise HTTPError(403, reason="This session has too many connections")
        keys = _keys(self)
        if not owner.admits(keys):
            raise HTTPError(403, reason="This session belongs to another browser; load the page again")
        if not owner.keys:
            owner.keys = frozenset((_set_cookie(self),))

    def _session_of(self, token: str) -> ServerSession | None:
        app = self.application
        try:
            if check_token_signature(token, signed=app.sign_sessions, secret_key=app.secret_key):
                return self.application_context.get_session(get_session_id(token))
        except (ValueError, KeyError, TypeError, ProtocolError):
            log.debug("a WebSocket brought a token that names no session")
        return None


async def _made(handler: Any, make: Any, owner: SessionOwner) -> ServerSession:
    handler.request.session_owner = owner  # the document's request hands it on
    session = await make()
    _owners[session] = owner
    return session


def refuse_chosen(handler: RequestHandler) -> None:
    """Refuse a request that brings a session.

    Raises:
        HTTPError: when it does.
    """
    names = ("bokeh-session-id", "bokeh-token")
    if any(name in handler.request.arguments or name in handler.request.headers for name in names):
        raise HTTPError(403, reason="The address must not contain a session id; open the page without it")


def _headers(handler: RequestHandler) -> dict[str, str]:
    return {name.lower(): value for name, value in handler.request.headers.items()}


def _keys(handler: RequestHandler) -> frozenset[bytes]:
    """Return digests of our cookies in a request."""
    values = [one.value for name, one in handler.request.cookies.items() if name.startswith(COOKIE)]
    return frozenset(_digest(value) for value in values[:COOKIES_MAX] if VALUE.fullmatch(value))


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


def _set_cookie(handler: RequestHandler) -> bytes:
    """Give a browser its cookie; return its digest."""
    name, value = f"{COOKIE}{secrets.token_hex(4)}", secrets.token_urlsafe(32)
    proxied = handler.request.headers.get("X-Forwarded-Proto", "").strip().lower()
    secure = "https" in (handler.request.protocol, proxied)
    handler.set_cookie(name, value, path="/", httponly=True, samesite="Lax", secure=secure)
    return _digest(value)


def _in_a_foreign_frame(headers: Mapping[str, str]) -> bool:
    """Return whether a page is opened where the browser keeps no cookie for it: in a frame of another site."""
    if "sec-fetch-dest" in headers:
        return headers["sec-fetch-dest"] in FRAMES and headers.get("sec-fetch-site") == "cross-site"
    # a browser sends that over TLS only
    page = _host(headers.get("referer", ""))
    return page not in ("", headers.get("host", ""))


def _is_named(headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Return whether a request comes from a page that may show panes."""
    page = _host(headers.get("origin") or headers.get("referer", ""))
    return page != "" and check_allowlist(page, allowed)


def _comes_from_a_page(headers: Mapping[str, str]) -> bool:
    return any(name in headers for name in ("origin", "referer", "sec-fetch-site"))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
