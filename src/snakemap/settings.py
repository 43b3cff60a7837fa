"""Settings of a process, read once from ``SNAKEMAP_*`` and passed down."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from snakemap.errors import SettingsError

__all__ = ["Settings", "grid_from_text", "load"]

GRID_PATTERN = re.compile(r"^\s*(\d+)\s*[xX]\s*(\d+)\s*(?::\s*(snake|raster))?\s*$")
ROOT_PATH_PATTERN = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

NEXT_URL = re.compile(r",\s*(?=[a-z][a-z+]*://)", re.IGNORECASE)
"""Between two addresses; a password may contain a comma."""

GROUPED_FROM = 10_000
"""Numbers from here on are written with commas."""


def _state_home() -> Path:
    """Return the default state directory, by the XDG convention."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "snakemap"


def grid_from_text(text: str) -> tuple[int, int, bool]:
    """Parse a shape: rows (slow), columns (fast), and whether every second row is reversed.

    Raises:
        ValueError: when the text is not a shape.

    >>> grid_from_text("7x9"), grid_from_text("7 x 9:raster")
    ((7, 9, True), (7, 9, False))
    """
    match = GRID_PATTERN.match(text)
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
        raise ValueError(f"{text[:50]!r} is not a shape like 7x9 (slow x fast) or 7x9:raster")
    return int(match[1]), int(match[2]), match[3] != "raster"


class Settings(BaseSettings):
    """All settings, each read from ``SNAKEMAP_`` and its name in capitals.

    Raises:
        SettingsError: from :func:`load`, with each invalid setting.
    """

    # an empty variable counts as unset; an empty path would be the working directory
    model_config = SettingsConfigDict(env_prefix="SNAKEMAP_", env_ignore_empty=True, frozen=True, extra="ignore")

    data_root: Path | None = Field(
        None, description="The one directory whose files users may see. Default: `data` in the state directory."
    )
    redis_url: str = Field(
        "",
        repr=False,
        description="`redis://host:6379/0` or `unix:///run/redis.sock`. Empty: a private Redis.",
    )
    stomp_url: str = Field(
        "",
        repr=False,
        description=(
            "`stomp://user:password@host:61613`. Empty: no broker; documents come from programs that "
            "write to the store."
        ),
    )
    source_url: str = Field(
        "",
        repr=False,
        description=(
            "Document source instead of a broker: `lines:///path/of/documents.jsonl`, a file of JSON "
            "lines that grows, or `stomp://…`; several with commas. Empty: the broker of `SNAKEMAP_STOMP_URL`."
        ),
    )
    stomp_destination: str = Field("/topic/public.worker.event", description="Destination to which blueapi publishes.")
    stomp_subscription: str = Field(
        "", description="Name of the durable queue. Default: made from this host and the store."
    )
    blueapi_url: str = Field("", description="`http://host:8000`. Empty: nothing can be started from the page.")
    blueapi_token: str = Field(
        "", repr=False, description="Bearer token for a blueapi that requires one. Empty: none, or that of the header."
    )
    blueapi_token_header: str = Field(
        "",
        description="Header in which a proxy passes the token of each user, like `X-Forwarded-Access-Token`.",
        pattern=r"^[A-Za-z0-9-]*$",
    )
    instrument_session: str = Field(
        "", description="The visit that new scans belong to, like `cm12345-1`. Empty: each tab asks for it once."
    )
    baton: bool = Field(True, description="Whether only the tab that has control may start and stop scans.")
    pausing: bool = Field(False, description="Offer pause and resume, which blueapi 1.21 cannot always undo.")
    actions_per_minute: int = Field(
        30, ge=1, description="Requests to start or stop something that one address may make in a minute."
    )
    path_map: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        (), description="`/writer/prefix=/local/prefix`, several with commas."
    )
    grid: Annotated[tuple[int, int, bool] | None, NoDecode] = Field(
        None, description="`7x9`, slow by fast, for runs without a shape; snaked unless `7x9:raster`."
    )
    snake: bool = Field(True, description="Whether a run with a shape and no other geometry is taken as snaked.")
    rois: dict[str, tuple[int, int, int, int]] | None = Field(
        None,
        description=(
            'Detector rectangles, half open, for runs without regions: `{"red": [y0, y1, x0, x1], ...}`. '
            "Default: three bands of rows."
        ),
    )
    read_only: bool = Field(
        False,
        description=(
            '`true`: nothing can be started, stopped or changed from the page or the API, "Open as maps" '
            "and taking control included."
        ),
    )
    log_dir: Path | None = Field(
        None,
        description=(
            "Directory of the event log of the worker: JSON lines, one file per run; one directory per "
            "store. Empty: none."
        ),
    )
    log_rows: int = Field(
        200_000,
        ge=1000,
        description="Newest events that a process keeps in memory for the log page, about 500 bytes each.",
    )
    log_max_gb: float = Field(
        50.0,
        gt=0,
        description="Gigabytes of that log; beyond, and after `SNAKEMAP_KEEP_DAYS`, the oldest files are removed.",
    )
    state_dir: Path = Field(
        default_factory=_state_home,
        description="The private Redis, the session key and simulated data. Default: `~/.local/state/snakemap`.",
    )
    blocks_dir: Path | None = Field(
        None,
        description=(
            "Directory of the sums of blocks of frames, with which maps of regions follow the hand. Worker, pages and "
            "API share it. Default: `blocks` in the state directory."
        ),
    )
    blocks_max_gb: float = Field(
        10.0,
        ge=0,
        description="Gigabytes of these sums; beyond, those of the oldest runs are removed. 0: none are made.",
    )
    host: str = Field("127.0.0.1", description="Address on which pages and API listen.")
    port: int = Field(5006, ge=0, le=65535, description="Port of the pages.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port of the API.")
    api_requests_per_minute: int = Field(
        1200, ge=1, description="Requests to the API that one address may make in a minute."
    )
    api_root_path: str = Field(
        "",
        description=(
            "Path that a proxy strips before the API, like `/snakemap-api`; see the page on operating. Empty: none."
        ),
    )
    proxied: bool = Field(
        False,
        description=(
            "`true`: the pages take addresses and scheme from the headers of a proxy, which alone may reach their port."
        ),
    )
    origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description=(
            "Hosts that pages and API answer to, and whose web pages may embed the panes, like "
            "`dashboard.beamline:5006`, several with commas."
        ),
    )
    secret_key: str = Field(
        "", repr=False, description="Signs session ids. Default: made once, in the state directory."
    )
    max_sessions: int = Field(200, ge=1, description="Tabs open at one time in one process.")
    download_max_mb: int = Field(
        2_000, ge=0, description="Largest file, in MB, that can be downloaded from the page as a whole; 0: none."
    )
    documents_max: int = Field(
        2_000_000, ge=1000, description="Documents kept in the store; beyond, whole runs are removed, the oldest first."
    )
    keep_days: float = Field(7.0, gt=0, description="Days for which a finished run is kept.")
    silence_s: float = Field(
        900.0, gt=0, description="Seconds without a document after which an open run counts as lost."
    )
    file_timeout_s: float = Field(10.0, gt=0, description="Seconds to wait for a frame that was announced.")
    dask: str = Field(
        "",
        description=(
            "`tcp://scheduler:8786` of a Dask cluster that reads finished files (`pip install "
            '"snakemap[dask]"`; its workers need snakemap and the same files). Empty: reader processes of '
            "the worker."
        ),
    )
    file_locking: bool = Field(
        False,
        description=(
            "Take the file lock of HDF5 when reading; a reader with the lock can keep the writer from its own file."
        ),
    )

    @field_validator("path_map", mode="before")
    @classmethod
    def _read_path_map(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            writer, equals, local = part.partition("=")
            if not equals or not writer.startswith("/") or not local.startswith("/"):
                raise ValueError(f"{part!r} is not /writer/prefix=/local/prefix")
            pairs.append((writer.rstrip("/") or "/", local.rstrip("/") or "/"))
        return tuple(pairs)

    @field_validator("grid", mode="before")
    @classmethod
    def _read_grid(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        return grid_from_text(value)

    @field_validator("origins", mode="before")
    @classmethod
    def _read_origins(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        origins = tuple(filter(None, (part.strip() for part in value.split(","))))
        if any("*" in origin for origin in origins):
            raise ValueError("`*` would let any web page read this one; name the hosts")
        return origins

    @field_validator("api_root_path")
    @classmethod
    def _check_api_root_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not ROOT_PATH_PATTERN.fullmatch(path):
            raise ValueError("it is no path like /snakemap-api")
        return path

    @field_validator("rois")
    @classmethod
    def _check_rois(cls, value: dict[str, tuple[int, int, int, int]] | None) -> Any:
        for name, (y0, y1, x0, x1) in (value or {}).items():
            if not (0 <= y0 < y1 and 0 <= x0 < x1):
                raise ValueError(f"{name} {(y0, y1, x0, x1)} is not y0 < y1, x0 < x1, from 0 on")
            if name == "total":
                raise ValueError("`total` is the sum over the whole frame and cannot be a rectangle")
        return value

    @field_validator("stomp_url")
    @classmethod
    def _check_stomp_url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            usable = url.scheme in ("stomp", "stomp+ssl", "tcp") and url.hostname and url.port != 0
        except ValueError:
            usable = False  # the original message may contain a part of the password
        if value and not usable:
            raise ValueError("it is not stomp://user:password@host:61613 (a / in the password is written %2F)")
        return value

    @classmethod
    def meaning(cls, name: str) -> str:
        """Return what a setting means, with its default, as the documentation has it.

        >>> Settings.meaning("port")
        'Port of the pages. Default: 5006.'
        """
        field = cls.model_fields[name]
        default = field.default
        if isinstance(default, bool):
            shown = str(default).lower()
        elif isinstance(default, int | float):
            shown = f"{default:g}" if default < GROUPED_FROM else f"{default:,.0f}"
        else:
            shown = f"`{default}`" if default and isinstance(default, str) else ""
        return f"{field.description}{f' Default: {shown}.' if shown else ''}"

    @property
    def documents_urls(self) -> tuple[str, ...]:
        """Addresses of the document sources, each once; none when documents come from other writers to the store."""
        urls = (url.strip() for url in NEXT_URL.split(self.source_url or self.stomp_url))
        return tuple(dict.fromkeys(filter(None, urls)))

    @property
    def root(self) -> Path:
        """The data root, absolute and with every link in its own path resolved."""
        return (self.data_root or self.state_dir / "data").expanduser().resolve()

    @property
    def blocks_path(self) -> Path:
        """The directory of the sums of blocks."""
        return (self.blocks_dir or self.state_dir / "blocks").expanduser()


def load(**overrides: Any) -> Settings:
    """Return the settings from the environment, with overrides from a command line (None is ignored).

    Raises:
        SettingsError: with each invalid setting and the reason; never with the value of a secret.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"SNAKEMAP_{'_'.join(str(part) for part in problem['loc'][:1]).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise SettingsError("; ".join(lines)) from None
