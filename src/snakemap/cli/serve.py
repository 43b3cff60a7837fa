"""Start the dashboard: ``panel serve`` with the options for a beamline network."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from snakemap.errors import SettingsError
from snakemap.files.private import make_private, open_private
from snakemap.resources import app_dir, assets_dir
from snakemap.settings import Settings
from snakemap.web.ports import authority, listen

__all__ = ["command", "environment", "serve"]

UNUSED_SESSION_MS, CHECK_SESSIONS_MS = 60_000, 5_000
"""Time limit for a page to connect; pages that open at the same moment wait for each other."""

MESSAGE_BYTES_MAX = 1_000_000
"""Maximum of one message of a browser; choices and mouse events are small."""

THIS_MACHINE = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")


def serve(settings: Settings, *, dev: bool = False, log_level: str = "info") -> int:
    """Replace this process by ``panel serve``.

    Args:
        settings: of the process.
        dev: whether pages are reloaded when their code changes.
        log_level: of the server.

    Raises:
        SettingsError: when there are no pages, the port cannot be used, or there is no key to sign sessions.
    """
    listen(settings.host, settings.port, setting="SNAKEMAP_PORT").close()
    arguments = command(settings, dev=dev, log_level=log_level)
    os.execve(sys.executable, arguments, environment(settings))


def command(settings: Settings, *, dev: bool = False, log_level: str = "info") -> list[str]:
    """Return the command line: all pages of ``app``, signed sessions, allowed origins.

    Raises:
        SettingsError: when there are no pages.
    """
    pages = sorted(str(page) for page in app_dir().glob("*.py"))
    if not pages:
        raise SettingsError(f"no pages in {app_dir()}; the installation is not complete")
    return [
        *(sys.executable, "-m", "panel", "serve", *pages),
        *("--index", "dashboard"),
        *("--address", settings.host, "--port", str(settings.port)),
        *(part for origin in origins(settings) for part in ("--allow-websocket-origin", origin)),
        *(("--use-xheaders",) if settings.proxied else ()),
        *("--session-ids", "signed"),
        # the token in a page contains the request headers named here: no cookies, no tokens of a proxy
        *("--include-headers", "User-Agent", "--include-cookies", "none"),
        *("--unused-session-lifetime", str(UNUSED_SESSION_MS), "--check-unused-sessions", str(CHECK_SESSIONS_MS)),
        *("--websocket-max-message-size", str(MESSAGE_BYTES_MAX)),
        *("--static-dirs", f"assets={assets_dir()}"),
        *("--plugins", "snakemap.doors"),
        *("--log-level", log_level),
        *(("--dev",) if dev else ()),
    ]


def origins(settings: Settings) -> list[str]:
    """Return the hosts whose pages may open a session: the configured ones, and the names of this server."""
    local = ("localhost", "127.0.0.1") if settings.host in THIS_MACHINE else ()
    # Bokeh cannot read an address with colons
    ours = [authority(host, settings.port) for host in (settings.host, *local) if ":" not in host]
    return [*dict.fromkeys((*settings.origins, *ours))]


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the server, with the key that signs session ids."""
    return {**os.environ, "BOKEH_SECRET_KEY": settings.secret_key or _kept_key(settings.state_dir)}


def _kept_key(state_dir: Path) -> str:
    """Return the key of this state directory, created atomically on first use, readable by this user only."""
    path, new = state_dir / "secret-key", state_dir / f"secret-key.{os.getpid()}"
    try:
        make_private(state_dir)
        if not path.exists():
            new.unlink(missing_ok=True)
            descriptor = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48))
            _name(new, path)
        path.chmod(0o600)
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"SNAKEMAP_SECRET_KEY is not set and {path} cannot be used: {error.strerror}") from error
    if len(key) < 32:
        raise SettingsError(f"{path} holds no key; remove it, or set SNAKEMAP_SECRET_KEY")
    return key


def _name(new: Path, path: Path) -> None:
    """Rename a new file, unless the name exists already."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        return
    finally:
        new.unlink()
