"""A recording sent again: into the broker, or into the store as the worker would have put it there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from snakemap.broker import Publisher
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import SettingsError
from snakemap.settings import Settings
from snakemap.store_sink import StoreSink

__all__ = ["Recorded", "messages", "replay"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of a recording.

    Attributes:
        at: when it was received, in seconds since 1970; 0 when nobody noted it.
        body: plain JSON.
        correlation_id: blueapi's task, on worker events; None on documents.
    """

    at: float
    body: dict[str, Any]
    correlation_id: str | None


def replay(settings: Settings, file: Path, *, speed: float) -> int:
    """Sends every message of a recording.

    Args:
        settings: where to: the broker if one is set, else the store.
        file: one JSON object a line: ``{"t", "headers", "body"}``, the body as text, or a bare body.
        speed: how many times faster than it was recorded; infinite sends without a pause.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when the file cannot be read, or holds no message.
    """
    recording = messages(file)
    first = next(recording, None)
    if first is None:
        raise SettingsError(f"{file} holds no message; a recording has one JSON object a line")
    began, count = time.monotonic(), 1
    with ExitStack() as stack:
        sink = _sink(settings, stack)
        sink.publish(first.body, first.correlation_id)
        for message in recording:
            if math.isfinite(speed):
                time.sleep(max(0.0, began + (message.at - first.at) / speed - time.monotonic()))
            sink.publish(message.body, message.correlation_id)
            count += 1
    log.info("%s: %d messages sent in %.1f s", file, count, time.monotonic() - began)
    return 0


def messages(file: Path) -> Iterator[Recorded]:
    """Every message of a recording; lines that are none are logged and left out.

    Raises:
        SettingsError: when the file cannot be read.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _recorded(line)
                except (KeyError, TypeError, ValueError) as error:
                    log.warning("%s, line %d is no message: %s", file, number, error)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _recorded(line: bytes) -> Recorded:
    told = orjson.loads(line)
    if not isinstance(told, dict):
        raise TypeError(f"it is a {type(told).__name__}")
    body = told.get("body", told)
    body = orjson.loads(body) if isinstance(body, str) else body
    if not isinstance(body, dict):
        raise TypeError(f"its body is a {type(body).__name__}")
    headers = told.get("headers") if isinstance(told.get("headers"), dict) else {}
    return Recorded(float(told.get("t") or 0.0), body, (headers or {}).get("correlation-id"))


def _sink(settings: Settings, stack: ExitStack) -> Publisher | StoreSink:
    if settings.stomp_url:
        return stack.enter_context(Publisher(settings.stomp_url, destination=settings.stomp_destination))
    url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
    return stack.enter_context(StoreSink(url))
