"""Checks of what others meet: addresses, ports, who may open pages, and the key that signs their sessions."""

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
"""A page that polls four maps every second makes so many in a minute; one client that makes more takes a core."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")
MAKE = "`python -c 'import secrets; print(secrets.token_urlsafe(48))'` makes one"


def host(scene: CheckContext) -> Iterator[Found]:
    """Yield whether we can listen there at all."""
    place = scene.settings.host
    try:
        listen(place, 0, setting="SNAKEMAP_HOST").close()
    except SettingsError as error:
        yield Wrong(f"{error}; set it to 127.0.0.1, or to 0.0.0.0 for the network")
    else:
        yield f"{place}{', which is the whole network' if place in EVERYWHERE else ''}"


def origins(scene: CheckContext) -> Iterator[Found]:
    """Yield whether those whom pages are meant for can open them."""
    place, told = scene.settings.host, scene.settings.origins
    if place in EVERYWHERE and not told:
        yield Wrong("pages listen on the network, but only this machine may open them; name the hosts")
        return
    spoiled = [origin for origin in told if "/" in origin or "@" in origin]
    if spoiled:
        yield Wrong(f"{spoiled[0][:60]!r} is not a host; set it as in the address bar, without http:// and path")
        return
    yield ", ".join(told) or f"those on {authority(place, scene.settings.port)} only"


def port(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the pages' port is free, or has our pages."""
    yield from _port(scene, scene.settings.port, setting="SNAKEMAP_PORT", route="/dashboard")


def api_port(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the API's port is free, or has our API."""
    if scene.settings.api_port == scene.settings.port != 0:
        yield Wrong(f"{scene.settings.port} is the port of the pages, too; set one of the two to another")
        return
    yield from _port(scene, scene.settings.api_port, setting="SNAKEMAP_API_PORT", route="/api/runs")


def proxy(scene: CheckContext) -> Iterator[Found]:
    """Yield whether what is set for a proxy fits what it would reach."""
    settings = scene.settings
    if settings.api_root_path == "/api":
        yield Note("the proxy strips /api, so the API's own paths begin with /api/api; set another prefix")
    if settings.proxied and settings.host not in LOOPBACK:
        yield Note(
            "pages believe the headers of whatever connects; make sure that only the proxy reaches the pages' port"
        )
    pages = "its headers are used by pages" if settings.proxied else "its headers are not used by pages"
    yield f"{pages}; the API's prefix is {settings.api_root_path or 'empty'}"


def api_requests(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the limit lets a page that polls live, and is one."""
    told = scene.settings.api_requests_per_minute
    if told < REQUESTS_FEW:
        yield Note(
            f"{told} a minute of one address; a page that polls maps needs {REQUESTS_FEW}, set it to that or more"
        )
    elif told > REQUESTS_MANY:
        yield Note(f"{told:,} a minute are no limit; set it to {REQUESTS_MANY} or less")
    else:
        yield f"{told:,} a minute of one address"


def _port(scene: CheckContext, number: int, *, setting: str, route: str) -> Iterator[Found]:
    place = scene.settings.host
    try:
        listen(place, number, setting=setting).close()
    except SettingsError as error:
        version = _ours(place, number)
        if version:
            yield f"{authority(place, number)} is snakemap's, version {version}"
        else:
            yield Wrong(f"{error}; something else has it, set {setting} to another")
    else:
        yield f"{authority(place, number)} is free"


def _ours(place: str, number: int) -> str:
    """Return the version of the snakemap that listens on a port; empty when something else does."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(place, place)
    try:
        told = httpx.get(f"http://{authority(address, number)}/healthz", timeout=ANSWER_TIMEOUT_S, trust_env=False)
        body = told.json()
        return str(body["version"])[:40] if body["status"] == "ok" else ""
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return ""


def secret_key(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the key that signs sessions is long enough, and ours alone."""
    told, path = scene.settings.secret_key, scene.settings.state_dir.expanduser() / "secret-key"
    if told:
        yield "set" if len(told) >= KEY_MIN else Wrong(f"it has {len(told)} characters; take {KEY_MIN} or more, {MAKE}")
    elif path.exists():
        yield from _kept(path)
    else:
        yield f"made with the first start, in {path}"


def _kept(path: Path) -> Iterator[Found]:
    about = path.stat()
    if stat.S_IMODE(about.st_mode) & 0o077:
        yield Wrong(f"others on this machine may read {path}; `chmod 600 {path}` ends that, remove it if they have")
    elif about.st_size < KEY_MIN:
        yield Wrong(f"{path} holds no key; remove it, a new one is made with the next start")
    else:
        yield Note(f"{path} is not a file") if not path.is_file() else f"in {path}"
