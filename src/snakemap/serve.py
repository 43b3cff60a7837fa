"""The dashboard as a program: ``panel serve`` with what a beamline network asks for."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from snakemap.errors import SettingsError
from snakemap.resources import app_dir, assets_dir
from snakemap.settings import Settings

__all__ = ["command", "environment", "serve"]

UNUSED_SESSION_MS = 15_000
MESSAGE_BYTES_MAX = 1_000_000
"""What a browser may send at once: choices and mouse events, nothing large."""


def serve(settings: Settings, *, dev: bool) -> int:
    """Becomes ``panel serve``; does not return.

    Raises:
        SettingsError: when there are no pages, or the key for sessions can neither be read nor made.
    """
    os.execve(sys.executable, command(settings, dev=dev), environment(settings))


def command(settings: Settings, *, dev: bool = False) -> list[str]:
    """The command line: every page of ``app``, sessions signed, origins named.

    Raises:
        SettingsError: when there are no pages.
    """
    pages = sorted(str(page) for page in app_dir().glob("*.py"))
    if not pages:
        raise SettingsError(f"no pages in {app_dir()}; the installation is not complete")
    origins = dict.fromkeys(
        [*settings.origins, *(f"{host}:{settings.port}" for host in {"localhost", "127.0.0.1", settings.host})]
    )
    return [
        *(sys.executable, "-m", "panel", "serve", *pages),
        *("--index", "dashboard"),
        *("--address", settings.host, "--port", str(settings.port)),
        *(part for origin in origins for part in ("--allow-websocket-origin", origin)),
        *("--session-ids", "signed"),
        *("--unused-session-lifetime", str(UNUSED_SESSION_MS), "--check-unused-sessions", str(UNUSED_SESSION_MS // 3)),
        *("--websocket-max-message-size", str(MESSAGE_BYTES_MAX)),
        *("--static-dirs", f"assets={assets_dir()}"),
        *(("--dev",) if dev else ()),
    ]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of the server: ours, and the key that signs session ids."""
    return {**os.environ, "BOKEH_SECRET_KEY": settings.secret_key or _kept_key(settings.state_dir)}


def _kept_key(state_dir: Path) -> str:
    """The key of this state directory, made on first use, readable by us alone."""
    path = state_dir / "secret-key"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip() or _refused(path)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            key = secrets.token_urlsafe(48)
            file.write(key)
        return key
    except OSError as error:
        raise SettingsError(f"SNAKEMAP_SECRET_KEY is not set and {path} cannot be used: {error.strerror}") from error


def _refused(path: Path) -> str:
    raise SettingsError(f"{path} is empty; remove it, or set SNAKEMAP_SECRET_KEY")
