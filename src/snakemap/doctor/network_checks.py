"""Checks of addresses, ports, origins, proxy and the secret key."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx

from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.errors import SettingsError
from snakemap.web.ports import authority, listen

__all__ = ["api_port", "api_requests", "host", "origins", "port", "proxy", "secret_key"]

ANSWER_TIMEOUT_S = 3.0
KEY_MIN = 32
REQUESTS_FEW, REQUESTS_MANY = 240, 100_000
"""A page that polls four maps every second makes 240 requests a minute; more than 100,000 take a core."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")
MAKE = "`python -c 'import secrets; print(secrets.token_urlsafe(48))'` makes one"


def host(context: CheckContext) -> Iterator[Found]:
    """Yield whether the server can listen on the address."""
    place = context.settings.host
    try:
        listen(place, 0, setting="SNAKEMAP_HOST").close()
    except SettingsError as error:
        yield Wrong(f"{error}; set it to 127.0.0.1, or to 0.0.0.0 for the network")
    else:
        yield f"{place}{', which is the whole network' if place in EVERYWHERE else ''}"


def origins(context: CheckContext) -> Iterator[Found]:
    """Yield whether pages can be opened from where they are meant to be."""
    place, hosts = context.settings.host, context.settings.origins
    if place in EVERYWHERE and not hosts:
        yield Wrong("pages listen on the network, but only this machine may open them; name the hosts")
        return
    invalid = [origin for origin in hosts if "/" in origin or "@" in origin]
    if invalid:
        yield Wrong(f"{invalid[0][:60]!r} is not a host; set it as in the address bar, without http:// and path")
        return
    yield ", ".join(hosts) or f"those on {authority(place, context.settings.port)} only"


def port(context: CheckContext) -> Iterator[Found]:
    """Yield whether the pages' port is free, or used by snakemap."""
    yield from _port(context, context.settings.port, setting="SNAKEMAP_PORT", route="/dashboard")


def api_port(context: CheckContext) -> Iterator[Found]:
    """Yield whether the API's port is free, or used by snakemap."""
    if context.settings.api_port == context.settings.port != 0:
        yield Wrong(f"{context.settings.port} is the port of the pages, too; set one of the two to another")
        return
    yield from _port(context, context.settings.api_port, setting="SNAKEMAP_API_PORT", route="/api/runs")


def proxy(context: CheckContext) -> Iterator[Found]:
    """Yield whether the proxy settings are consistent."""
    settings = context.settings
    if settings.api_root_path == "/api":
        yield Note("the proxy strips /api, so the API's own paths begin with /api/api; set another prefix")
    if settings.proxied and settings.host not in LOOPBACK:
        yield Note("pages trust the headers of every client; make sure that only the proxy reaches the pages' port")
    pages = "its headers are used by pages" if settings.proxied else "its headers are not used by pages"
    yield f"{pages}; the API's prefix is {settings.api_root_path or 'empty'}"


def api_requests(context: CheckContext) -> Iterator[Found]:
    """Yield whether the limit allows a polling page, and is a limit."""
    limit = context.settings.api_requests_per_minute
    if limit < REQUESTS_FEW:
        yield Note(
            f"{limit} a minute of one address; a page that polls maps needs {REQUESTS_FEW}, set it to that or more"
        )
    elif limit > REQUESTS_MANY:
        yield Note(f"{limit:,} a minute are no limit; set it to {REQUESTS_MANY} or less")
    else:
        yield f"{limit:,} a minute of one address"


def _port(context: CheckContext, number: int, *, setting: str, route: str) -> Iterator[Found]:
    place = context.settings.host
    try:
        listen(place, number, setting=setting).close()
    except SettingsError as error:
        version = _ours(place, number)
        if version:
            yield f"{authority(place, number)} is snakemap's, version {version}"
        else:
            yield Wrong(f"{error}; another program uses it, set {setting} to another port")
    else:
        yield f"{authority(place, number)} is free"


def _ours(place: str, number: int) -> str:
    """Return the version of the snakemap server on a port; empty for other programs."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(place, place)
    try:
        answer = httpx.get(f"http://{authority(address, number)}/healthz", timeout=ANSWER_TIMEOUT_S, trust_env=False)
        body = answer.json()
        return str(body["version"])[:40] if body["status"] == "ok" else ""
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return ""


def secret_key(context: CheckContext) -> Iterator[Found]:
    """Yield whether the key that signs sessions is long enough, and private."""
    key, path = context.settings.secret_key, context.settings.state_dir.expanduser() / "secret-key"
    if key:
        yield "set" if len(key) >= KEY_MIN else Wrong(f"it has {len(key)} characters; take {KEY_MIN} or more, {MAKE}")
    elif path.exists():
        yield from _kept(path)
    else:
        yield f"made at the first start, in {path}"


def _kept(path: Path) -> Iterator[Found]:
    state = path.stat()
    if stat.S_IMODE(state.st_mode) & 0o077:
        yield Wrong(f"other users may read {path}; `chmod 600 {path}` ends that, remove it if they have")
    elif state.st_size < KEY_MIN:
        yield Wrong(f"{path} holds no key; remove it, a new one is made at the next start")
    else:
        yield Note(f"{path} is not a file") if not path.is_file() else f"in {path}"
