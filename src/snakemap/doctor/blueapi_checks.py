"""Checks of blueapi, of the control settings, and of the defaults for runs without geometry."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import httpx

from snakemap.blueapi.client import BlueapiClient
from snakemap.blueapi.scan_control import SESSION
from snakemap.core.derived_documents import ROIS_MAX
from snakemap.core.raster import CELLS_MAX
from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.errors import BlueapiForbids, SnakemapError

__all__ = ["blueapi", "control", "geometry", "instrument_session", "rois", "token"]

ANSWER_TIMEOUT_S = 5.0
ACTIONS_MANY = 600
HOP = frozenset(("host", "connection", "cookie", "upgrade", "content-length", "transfer-encoding"))
NONE = "none is set; nothing can be started from the page"


def blueapi(context: CheckContext) -> Iterator[Found]:
    """Yield whether blueapi answers, has a supported version, and has plans."""
    url = context.settings.blueapi_url
    if not url:
        yield NONE
        return
    client = BlueapiClient(url, token=context.settings.blueapi_token)
    try:
        answer = httpx.get(f"{url.rstrip('/')}/healthz", timeout=ANSWER_TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Wrong(f"does not answer: {error}; is it http://host:8000?")
        return
    if answer.status_code != 200:
        yield Wrong(f"/healthz answers {answer.status_code}; is it blueapi at all?")
        return
    try:
        plans = len(asyncio.run(_plans(client)))
    except BlueapiForbids:
        yield "answers"
    except SnakemapError as error:
        yield Wrong(f"{error}; is it blueapi at all?")
    else:
        version = _version(url)
        yield from _known(version)
        text = f"answers{f', API {version}' if version else ''}, {plans} plans"
        yield text if plans else Note("it has no plans; see its own configuration")


async def _plans(client: BlueapiClient) -> list[Any]:
    try:
        return await client.plans()
    finally:
        await client.close()


def _version(url: str) -> str:
    """Return the version of the API from its schema; empty when it has none."""
    try:
        schema = httpx.get(f"{url.rstrip('/')}/openapi.json", timeout=ANSWER_TIMEOUT_S, trust_env=False).json()
        return str(schema["info"]["version"])[:20]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return ""


def _known(version: str) -> Iterator[Found]:
    if version and version.partition(".")[0] not in ("0", "1"):
        yield Note(f"its API is {version}, snakemap is tested with 1.5; test the plans that you need")


def token(context: CheckContext) -> Iterator[Found]:
    """Yield whether blueapi accepts the configured token."""
    value, header = context.settings.blueapi_token, context.settings.blueapi_token_header
    if value != value.strip() or not value.isprintable() or not value.isascii():
        yield Wrong("the token holds blanks or other invalid characters; correct SNAKEMAP_BLUEAPI_TOKEN")
    elif header.lower() in HOP:
        yield Wrong(f"{header} is a header that has another meaning; have the proxy send X-Forwarded-Access-Token")
    elif not context.settings.blueapi_url:
        yield Note("there is no blueapi to use it; set SNAKEMAP_BLUEAPI_URL") if value or header else "none is needed"
    else:
        yield from _accepted(context)


def _accepted(context: CheckContext) -> Iterator[Found]:
    value, header = context.settings.blueapi_token, context.settings.blueapi_token_header
    try:
        asyncio.run(_plans(BlueapiClient(context.settings.blueapi_url, token=value)))
    except BlueapiForbids as error:
        if value:
            yield Wrong(f"{error}; set SNAKEMAP_BLUEAPI_TOKEN to one that it accepts")
        elif header:
            yield f"each user's own, from {header}"
        else:
            yield Wrong(f"{error}; set SNAKEMAP_BLUEAPI_TOKEN, or SNAKEMAP_BLUEAPI_TOKEN_HEADER behind a proxy")
    except SnakemapError:
        yield Note("unknown while blueapi does not answer")
    else:
        yield "the token is accepted" if value else "none is needed"


def instrument_session(context: CheckContext) -> Iterator[Found]:
    """Yield whether the instrument session has the form that blueapi requires."""
    session = context.settings.instrument_session
    if session and not SESSION.fullmatch(session):
        yield Wrong(f"{session[:40]!r} is not like cm12345-1, and blueapi refuses it; correct it, or unset it")
    else:
        yield session or "each tab asks once"


def control(context: CheckContext) -> Iterator[Found]:
    """Yield whether the control settings are consistent."""
    settings = context.settings
    if settings.read_only or not settings.blueapi_url:
        yield "nothing can be started or stopped"
    elif not settings.baton and settings.host not in ("127.0.0.1", "::1", "localhost"):
        yield Note("every user who opens the page can end a scan at any time; set SNAKEMAP_BATON to true")
    else:
        yield "one tab at a time" if settings.baton else "every tab on this machine"
    if settings.pausing and not settings.read_only:
        yield Note("blueapi 1.21 can neither resume nor abort a paused scan; set SNAKEMAP_PAUSING to false")
    if settings.actions_per_minute > ACTIONS_MANY:
        number = f"{settings.actions_per_minute:,} requests a minute are no limit"
        yield Note(f"{number}; set SNAKEMAP_ACTIONS_PER_MINUTE to {ACTIONS_MANY} or less")


def geometry(context: CheckContext) -> Iterator[Found]:
    """Yield whether the default grid can be drawn, and agrees with the default for snaking."""
    grid, snake = context.settings.grid, context.settings.snake
    if grid is None:
        yield f"none is set; runs with only a shape are {'snaked' if snake else 'not snaked'}"
    elif math.prod(grid[:2]) > CELLS_MAX:
        yield Wrong(f"{grid[0]}x{grid[1]} has more than the {CELLS_MAX:,} points that can be drawn; correct it")
    elif grid[2] and not snake:
        text = "is snaked although SNAKEMAP_SNAKE, for runs with only a shape, is false"
        yield Note(f"{grid[0]}x{grid[1]} {text}; add :raster to it if it is not snaked")
    else:
        yield f"{grid[0]}x{grid[1]}, {'snaked' if grid[2] else 'not snaked'}, for runs without a shape"


def rois(context: CheckContext) -> Iterator[Found]:
    """Yield whether the default ROIs lie within the newest frames."""
    defaults = context.settings.rois
    if defaults is None:
        yield "three bands of rows, for runs without ROIs"
        return
    if not defaults or len(defaults) > ROIS_MAX or "" in defaults:
        yield Wrong(f"{len(defaults)} rectangles; 1 to {ROIS_MAX} with a name each can be summed, correct it")
        return
    shape = context.store.frame_shape if context.store else None
    for name, (_, y1, _, x1) in defaults.items():
        if shape and (y1 > shape[0] or x1 > shape[1]):
            yield Wrong(
                f"{name} reaches to row {y1} and column {x1}, but frames have {shape[0]} and {shape[1]}; correct it"
            )
            return
    yield f"{', '.join(defaults)}{', all within the newest frames' if shape else ''}"
