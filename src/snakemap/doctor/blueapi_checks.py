"""Checks of blueapi, of who may do what there, and of what is assumed where a run tells nothing."""

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

__all__ = ["acting", "blueapi", "geometry", "rois", "token", "visit"]

ANSWER_TIMEOUT_S = 5.0
ACTIONS_MANY = 600
HOP = frozenset(("host", "connection", "cookie", "upgrade", "content-length", "transfer-encoding"))
NONE = "none is set; nothing can be started from the page"


def blueapi(scene: CheckContext) -> Iterator[Found]:
    """Yield whether blueapi answers, is a version that we know, and has plans."""
    url = scene.settings.blueapi_url
    if not url:
        yield NONE
        return
    client = BlueapiClient(url, token=scene.settings.blueapi_token)
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
    """Return the version of the API, as its schema tells it; empty where it tells none."""
    try:
        told = httpx.get(f"{url.rstrip('/')}/openapi.json", timeout=ANSWER_TIMEOUT_S, trust_env=False).json()
        return str(told["info"]["version"])[:20]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return ""


def _known(version: str) -> Iterator[Found]:
    if version and version.partition(".")[0] not in ("0", "1"):
        yield Note(f"its API is {version}; 1.5 is what we know, so try what you need")


def token(scene: CheckContext) -> Iterator[Found]:
    """Yield whether blueapi accepts the token that it is given."""
    told, header = scene.settings.blueapi_token, scene.settings.blueapi_token_header
    if told != told.strip() or not told.isprintable() or not told.isascii():
        yield Wrong("the token holds blanks or characters that no token has; set SNAKEMAP_BLUEAPI_TOKEN anew")
    elif header.lower() in HOP:
        yield Wrong(f"{header} is a header that has another meaning; have the proxy send X-Forwarded-Access-Token")
    elif not scene.settings.blueapi_url:
        yield Note("there is no blueapi to use it; set SNAKEMAP_BLUEAPI_URL") if told or header else "none is needed"
    else:
        yield from _accepted(scene)


def _accepted(scene: CheckContext) -> Iterator[Found]:
    told, header = scene.settings.blueapi_token, scene.settings.blueapi_token_header
    try:
        asyncio.run(_plans(BlueapiClient(scene.settings.blueapi_url, token=told)))
    except BlueapiForbids as error:
        if told:
            yield Wrong(f"{error}; set SNAKEMAP_BLUEAPI_TOKEN to one that it accepts")
        elif header:
            yield f"each user's own, from {header}"
        else:
            yield Wrong(f"{error}; set SNAKEMAP_BLUEAPI_TOKEN, or SNAKEMAP_BLUEAPI_TOKEN_HEADER behind a proxy")
    except SnakemapError:
        yield Note("cannot be told while blueapi does not answer")
    else:
        yield "the token is accepted" if told else "none is needed"


def visit(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the visit has the form that blueapi wants."""
    session = scene.settings.instrument_session
    if session and not SESSION.fullmatch(session):
        yield Wrong(f"{session[:40]!r} is not like cm12345-1, and blueapi refuses it; mend it, or unset it")
    else:
        yield session or "asked for once in each tab"


def acting(scene: CheckContext) -> Iterator[Found]:
    """Yield whether who may start and stop scans is what it seems to be meant to be."""
    told = scene.settings
    if told.read_only or not told.blueapi_url:
        yield "nothing can be started or stopped"
    elif not told.baton and told.host not in ("127.0.0.1", "::1", "localhost"):
        yield Note("anybody who opens the page may end a scan at any time; set SNAKEMAP_BATON to true")
    else:
        yield "one tab at a time" if told.baton else "every tab on this machine"
    if told.pausing and not told.read_only:
        yield Note("blueapi 1.21 can neither resume nor abort what it has paused; set SNAKEMAP_PAUSING to false")
    if told.actions_per_minute > ACTIONS_MANY:
        number = f"{told.actions_per_minute:,} requests a minute are no limit"
        yield Note(f"{number}; set SNAKEMAP_ACTIONS_PER_MINUTE to {ACTIONS_MANY} or less")


def geometry(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the shape of runs that tell none can be drawn, and agrees with the snaking."""
    grid, snake = scene.settings.grid, scene.settings.snake
    if grid is None:
        yield f"none is set; runs that tell only their shape are {'snaked' if snake else 'not snaked'}"
    elif math.prod(grid[:2]) > CELLS_MAX:
        yield Wrong(f"{grid[0]}x{grid[1]} has more than the {CELLS_MAX:,} points that can be drawn; mend it")
    elif grid[2] and not snake:
        text = "is snaked although SNAKEMAP_SNAKE is false, which is for runs that tell their shape; add :raster to it"
        yield Note(f"{grid[0]}x{grid[1]} {text} if it shall not be")
    else:
        yield f"{grid[0]}x{grid[1]}, {'snaked' if grid[2] else 'not snaked'}, for runs that tell none"


def rois(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the rectangles lie in the frames that were read last."""
    told = scene.settings.rois
    if told is None:
        yield "three bands of rows, for runs that tell none"
        return
    if not told or len(told) > ROIS_MAX or "" in told:
        yield Wrong(f"{len(told)} rectangles; 1 to {ROIS_MAX} with a name each can be summed, mend it")
        return
    shape = scene.store.frame_shape if scene.store else None
    for name, (_, y1, _, x1) in told.items():
        if shape and (y1 > shape[0] or x1 > shape[1]):
            yield Wrong(
                f"{name} reaches to row {y1} and column {x1}, and frames have {shape[0]} and {shape[1]}; mend it"
            )
            return
    yield f"{', '.join(told)}{', all within the newest frames' if shape else ''}"
