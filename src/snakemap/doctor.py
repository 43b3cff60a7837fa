"""Checks of everything snakemap needs, each with what to do when it fails."""

from __future__ import annotations

import asyncio
import difflib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import httpx
import typer
from packaging.requirements import Requirement

from snakemap.broker import Publisher
from snakemap.confine import DataRoot
from snakemap.embedded_redis import EmbeddedRedis, redis_binary
from snakemap.errors import SettingsError, SnakemapError
from snakemap.ports import authority, listen
from snakemap.resources import app_dir
from snakemap.settings import Settings, load
from snakemap.store import Store

__all__ = ["Finding", "Mark", "doctor", "findings"]

Answer = TypeVar("Answer")

SHOWN = ("panel", "bokeh", "holoviews", "datashader", "h5py", "bluesky", "redis", "stomp.py")
ANSWER_TIMEOUT_S = 5.0
PREFIX = "SNAKEMAP_"


class Mark(StrEnum):
    """How a check went."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        mark: wrong is what keeps snakemap from working as it was told to; a note is worth knowing.
        name: what was looked at, with the setting that tells of it.
        text: what was found; for what is wrong, how to mend it.
    """

    mark: Mark
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.mark:<6} {self.name}: {self.text}"


def doctor() -> int:
    """Prints every finding.

    Returns:
        The exit code: 0, or 1 when something is wrong.
    """
    wrong = 0
    for finding in findings():
        typer.echo(str(finding))
        wrong += finding.mark is Mark.WRONG
    typer.echo("all is well" if not wrong else f"{wrong} to be mended")
    return 1 if wrong else 0


def findings() -> Iterator[Finding]:
    """All checks, one after the other; each that fails leaves the others as they are."""
    yield _checked("Python", lambda: [_python()])[0]
    yield from _checked("packages", lambda: [_packages()])
    yield from _strangers(name for name in os.environ if name.startswith(PREFIX))
    try:
        settings = load()
    except SettingsError as error:
        yield from (Finding(Mark.WRONG, "settings", problem) for problem in str(error).split("; "))
        return
    yield from _checked("pages", lambda: [_pages()])
    yield from _checked("state (SNAKEMAP_STATE_DIR)", lambda: [_state_dir(settings)])
    yield from _checked("data root (SNAKEMAP_DATA_ROOT)", lambda: [_data_root(settings)])
    yield from _checked("Redis (SNAKEMAP_REDIS_URL)", lambda: _redis(settings))
    yield from _checked("broker (SNAKEMAP_STOMP_URL)", lambda: [_broker(settings)])
    yield from _checked("blueapi (SNAKEMAP_BLUEAPI_URL)", lambda: [_blueapi(settings)])
    yield from _checked("log (SNAKEMAP_LOG_DIR)", lambda: [_log_dir(settings)])
    yield from _checked("who may open pages (SNAKEMAP_ORIGINS)", lambda: [_origins(settings)])
    for name, port in (("SNAKEMAP_PORT", settings.port), ("SNAKEMAP_API_PORT", settings.api_port)):
        yield _port(settings.host, port, setting=name)


def _checked(name: str, check: Callable[[], Iterable[Finding | str]]) -> list[Finding]:
    """What a check has found; what it raises is wrong."""
    try:
        return [found if isinstance(found, Finding) else Finding(Mark.OK, name, found) for found in check()]
    except (SnakemapError, OSError) as error:
        return [Finding(Mark.WRONG, name, str(error))]


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        raise SettingsError(f"{platform.python_version()} is not 3.11 to 3.13; install one of these")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    """Whether every package is here in a version that we know to work."""
    unfit = []
    try:
        needed = importlib.metadata.requires("snakemap") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise SettingsError("snakemap itself is not installed; `pip install .` does it") from error
    for text in needed:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            unfit.append(f"{requirement.name} is missing")
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                unfit.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if unfit:
        raise SettingsError(f"{', '.join(unfit)}; install snakemap anew")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)


def _strangers(names: Iterable[str]) -> Iterator[Finding]:
    """Variables that look like settings and are none, perhaps for a slip of the pen."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(set(names) - set(known)):
        alike = difflib.get_close_matches(name, known, n=1)
        yield Finding(Mark.WRONG, name, f"is no setting{f'; is {alike[0]} meant?' if alike else ''}")


def _pages() -> str:
    pages = sorted(page.stem for page in app_dir().glob("*.py"))
    if not pages:
        raise SettingsError(f"none in {app_dir()}; install snakemap anew")
    return f"{', '.join(pages)} in {app_dir()}"


def _state_dir(settings: Settings) -> str:
    place = settings.state_dir.expanduser()
    exists = next(parent for parent in (place, *place.parents) if parent.exists())
    if not exists.is_dir() or not os.access(exists, os.W_OK | os.X_OK):
        raise SettingsError(f"{exists} cannot be written to by this user; set SNAKEMAP_STATE_DIR to where it can")
    return str(place)


def _data_root(settings: Settings) -> Finding | str:
    root = settings.root
    if not root.exists() and settings.data_root is None:
        return Finding(Mark.NOTE, "data root (SNAKEMAP_DATA_ROOT)", f"{root} is not there yet; `simulate` makes it")
    if not root.is_dir():
        raise SettingsError(f"{root} is not a directory; make it, or set SNAKEMAP_DATA_ROOT to where the files are")
    if not os.access(root, os.R_OK | os.X_OK):
        raise SettingsError(f"{root} cannot be read by this user")
    DataRoot(root).close()
    mapped = "; ".join(f"{writer} is {local}" for writer, local in settings.path_map)
    return f"{root} ({mapped})" if mapped else str(root)


def _redis(settings: Settings) -> Iterator[Finding | str]:
    """Redis, and who reports there."""
    with ExitStack() as stack:
        url, whose = settings.redis_url, ""
        if not url:
            whose = f", our own ({redis_binary()})"
            url = stack.enter_context(EmbeddedRedis(settings.state_dir))
        reports = _ask(url, Store.reports)
        yield f"{Store(url).address} answers{whose}"
    worker = reports.get("ingest")
    name = "worker (snakemap ingest)"
    if worker is None:
        yield Finding(Mark.NOTE, name, "no word from it; `snakemap ingest` with the same settings starts it")
        return
    broker = str(worker.get("broker"))
    mark = Mark.OK if broker in ("connected", "none") else Mark.WRONG
    yield Finding(mark, name, f"at work on {worker.get('host')}, process {worker.get('pid')}; its broker: {broker}")


def _ask(url: str, question: Callable[[Store], Awaitable[Answer]]) -> Answer:
    async def asking() -> Answer:
        store = Store(url)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(asking())


def _broker(settings: Settings) -> str:
    if not settings.stomp_url:
        return "none is set; documents come from whoever writes to the store"
    with Publisher(settings.stomp_url, destination=settings.stomp_destination):
        return f"lets us in; documents come from {settings.stomp_destination}"


def _blueapi(settings: Settings) -> str:
    if not settings.blueapi_url:
        return "none is set; nothing can be started from the page"
    try:
        answer = httpx.get(f"{settings.blueapi_url.rstrip('/')}/healthz", timeout=ANSWER_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SettingsError(f"does not answer: {error}; is it http://host:8000?") from error
    if answer.status_code != 200:
        raise SettingsError(f"/healthz answers {answer.status_code}; is it blueapi at all?")
    return "answers"


def _log_dir(settings: Settings) -> str:
    if settings.log_dir is None:
        return "none is kept"
    if settings.log_dir.exists() and not (settings.log_dir.is_dir() and os.access(settings.log_dir, os.W_OK | os.X_OK)):
        raise SettingsError(f"{settings.log_dir} is not a directory that this user can write to")
    return str(settings.log_dir)


def _origins(settings: Settings) -> str:
    if settings.host in ("0.0.0.0", "::") and not settings.origins:
        raise SettingsError("pages listen on the network, but only this machine may open them; name the hosts")
    return ", ".join(settings.origins) or f"those on {authority(settings.host, settings.port)} only"


def _port(host: str, port: int, *, setting: str) -> Finding:
    """Whether a port is free; when it is not, that may well be our own server."""
    try:
        listen(host, port, setting=setting).close()
    except SettingsError as error:
        return Finding(Mark.NOTE, f"port {port} ({setting})", f"{error}; unless that is snakemap, choose another")
    return Finding(Mark.OK, f"port {port} ({setting})", f"{authority(host, port)} is free")
