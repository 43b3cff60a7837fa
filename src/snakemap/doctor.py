"""Checks of everything snakemap needs, each with what to do when it fails."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import typer

from snakemap.broker import Publisher
from snakemap.confine import DataRoot
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import SettingsError, SnakemapError
from snakemap.resources import app_dir
from snakemap.settings import Settings, load
from snakemap.store import Store

__all__ = ["doctor"]

PACKAGES = (
    "panel",
    "bokeh",
    "holoviews",
    "datashader",
    "h5py",
    "bluesky",
    "ophyd-async",
    "scanspec",
    "redis",
    "stomp.py",
)


def doctor() -> int:
    """Prints every check.

    Returns:
        The exit code: 0 when all is well, 1 when something is wrong, 2 when a setting cannot be used.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    typer.echo(f"Python {platform.python_version()}; {versions}")
    try:
        settings = load()
    except SettingsError as error:
        typer.echo(f"WRONG  settings: {error}")
        return 2
    wrong = 0
    for name, check in _checks(settings):
        try:
            said = check()
        except (SnakemapError, OSError) as error:
            wrong += 1
            typer.echo(f"WRONG  {name}: {error}")
        else:
            typer.echo(f"ok     {name}: {said}")
    return 1 if wrong else 0


def _checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "Python", _python
    yield "pages", lambda: f"{len(list(app_dir().glob('*.py')))} in {app_dir()}"
    yield "data root (SNAKEMAP_DATA_ROOT)", lambda: _data_root(settings)
    yield "Redis (SNAKEMAP_REDIS_URL)", lambda: _redis(settings)
    yield "broker (SNAKEMAP_STOMP_URL)", lambda: _broker(settings)
    yield "worker (snakemap ingest)", lambda: _worker(settings)
    yield "log (SNAKEMAP_LOG_DIR)", lambda: _log_dir(settings)
    yield "who may open pages (SNAKEMAP_ORIGINS)", lambda: _origins(settings)


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        raise SettingsError("Python 3.11 to 3.13 is needed")
    return platform.python_version()


def _data_root(settings: Settings) -> str:
    root = settings.root
    if not root.is_dir():
        raise SettingsError(f"{root} is not a directory; make it, or set SNAKEMAP_DATA_ROOT to where the files are")
    if not os.access(root, os.R_OK | os.X_OK):
        raise SettingsError(f"{root} cannot be read by this user")
    DataRoot(root).close()
    mapped = "; ".join(f"{writer} is {local}" for writer, local in settings.path_map)
    return f"{root}{f' ({mapped})' if mapped else ''}"


def _redis(settings: Settings) -> str:
    return _with_store(settings, lambda store: store.ping(), said="answers")


def _worker(settings: Settings) -> str:
    async def look(store: Store) -> None:
        if "ingest" not in await store.reports():
            raise SettingsError("no word from it; start `snakemap ingest` with the same settings")

    return _with_store(settings, look, said="is at work")


def _with_store(settings: Settings, ask: Callable[[Store], object], *, said: str) -> str:
    async def asking(url: str) -> str:
        store = Store(url)
        try:
            await ask(store)  # pyright: ignore[reportGeneralTypeIssues]
        finally:
            await store.close()
        return f"{store.address} {said}"

    with ExitStack() as stack:
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
        return asyncio.run(asking(url))


def _broker(settings: Settings) -> str:
    if not settings.stomp_url:
        return "none is set; documents come from whoever writes to the store"
    with Publisher(settings.stomp_url, destination=settings.stomp_destination):
        return f"answers; listening to {settings.stomp_destination}"


def _log_dir(settings: Settings) -> str:
    if settings.log_dir is None:
        return "none is kept"
    if not settings.log_dir.is_dir() or not os.access(settings.log_dir, os.W_OK):
        raise SettingsError(f"{settings.log_dir} is not a directory that can be written to")
    return str(settings.log_dir)


def _origins(settings: Settings) -> str:
    if settings.host == "0.0.0.0" and not settings.origins:
        raise SettingsError("pages listen on the network, but only this machine may open them; name the hosts")
    return ", ".join(settings.origins) or "this machine only"
