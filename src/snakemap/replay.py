"""A recording sent again: into the broker, or into the store as the worker would have put it there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from snakemap.broker import Publisher
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import SettingsError
from snakemap.settings import Settings
from snakemap.store_sink import StoreSink

__all__ = ["messages", "replay"]

log = logging.getLogger(__name__)


def replay(settings: Settings, file: Path, *, speed: float) -> int:
    """Sends every message of a recording.

    Args:
        settings: where to: the broker if one is set, else the store.
        file: one JSON object a line: ``{"t", "headers", "body"}``, the body as text, or a bare body.
        speed: how many times faster than it was recorded; infinite sends without a pause.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when the file cannot be read.
    """
    with ExitStack() as stack:
        sink = _sink(settings, stack)
        began, first, count = time.monotonic(), None, 0
        for at, body, correlation_id in messages(file):
            first = at if first is None else first
            if math.isfinite(speed):
                time.sleep(max(0.0, (at - first) / speed - (time.monotonic() - began)))
            sink.publish(body, correlation_id)
            count += 1
    log.info("%s: %d messages sent in %.1f s", file, count, time.monotonic() - began)
    return 0


def messages(file: Path) -> Iterator[tuple[float, dict[str, Any], str | None]]:
    """Time, body and correlation id of every message; lines that are none are logged and left out.

    Raises:
        SettingsError: when the file cannot be read.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _message(line)
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                    log.warning("%s, line %d is no message: %s", file, number, error)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _message(line: bytes) -> tuple[float, dict[str, Any], str | None]:
    told = orjson.loads(line)
    body = told.get("body", told)
    body = orjson.loads(body) if isinstance(body, str) else body
    if not isinstance(body, dict):
        raise TypeError(f"its body is a {type(body).__name__}")
    return float(told.get("t", 0.0)), body, (told.get("headers") or {}).get("correlation-id")


def _sink(settings: Settings, stack: ExitStack) -> Publisher | StoreSink:
    if settings.stomp_url:
        return stack.enter_context(Publisher(settings.stomp_url, destination=settings.stomp_destination))
    url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
    return stack.enter_context(StoreSink(url))
