"""Replay a recording to the document source, or to the store as the worker would."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import typer

from snakemap.core.documents import SETTLED
from snakemap.errors import SettingsError
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.sink import StoreSink
from snakemap.transport.recording import Recorded, Recording, recordings
from snakemap.transport.rewrite import RunRewriter
from snakemap.transport.sources import DocumentPublisher, open_publisher

__all__ = ["replay"]

log = logging.getLogger(__name__)

INTERRUPTED = 130
PROGRESS_PERIOD_S = 0.5
LOGGED_PERIOD_S = 30.0


def replay(settings: Settings, files: Iterable[Path], *, speed: float, new_uid: bool = False) -> int:
    """Send every message of recordings, one recording after the other.

    Args:
        settings: with the document source, else the store.
        files: recordings, or any part of each.
        speed: 1 for the original speed; infinite sends without a pause.
        new_uid: whether the runs get new uids and times; see :class:`RunRewriter`.

    Returns:
        The exit code: 0, or 130 when it was interrupted.

    Raises:
        SettingsError: when a file cannot be read, or holds no message.
    """
    progress = _Progress(sys.stderr.isatty())
    try:
        for recording in recordings(files):
            _play(settings, recording, speed=speed, new_uid=new_uid, progress=progress)
    except KeyboardInterrupt:
        progress.end(f"interrupted after {progress.sent:,} messages")
        return INTERRUPTED
    finally:
        progress.clear()
    return 0


def _play(settings: Settings, recording: Recording, *, speed: float, new_uid: bool, progress: _Progress) -> None:
    file, before, began = recording.files[0], progress.sent, time.monotonic()
    renewal = RunRewriter(speed=speed, now=time.time()) if new_uid else None
    messages = _chosen(recording, renewal)
    first = next(messages, None)
    if first is None:
        raise SettingsError(f"{file} holds no message; a recording has one JSON object a line")
    with ExitStack() as stack:
        sink = _sink(settings, stack)
        for message in _paced(first, messages, speed=speed, progress=progress, recording=recording):
            sink.publish(message.body, message.correlation_id)
            progress.sent += 1
    progress.clear()
    bad = f", {recording.bad} invalid lines" if recording.bad else ""
    log.info("%s: %d messages sent in %.1f s%s", file, progress.sent - before, time.monotonic() - began, bad)
    for old, new in (renewal.runs if renewal else {}).items():
        log.info("run %s was played as run %s", old, new)


def _chosen(recording: Recording, renewal: RunRewriter | None) -> Iterator[Recorded]:
    """Yield the documents to publish: all but ``settled``, which the worker adds itself."""
    for message in recording.messages():
        if message.body.get("name") == SETTLED:
            continue
        body = message.body if renewal is None else renewal.renew(message.body)
        if body is not None:
            yield message if renewal is None else Recorded(message.at, body, None)


def _paced(
    first: Recorded, rest: Iterator[Recorded], *, speed: float, progress: _Progress, recording: Recording
) -> Iterator[Recorded]:
    """Yield every message when it is due; those without a time at once."""
    began, begun_at = time.monotonic(), first.at
    yield first
    for message in rest:
        progress.show(recording)
        begun_at = begun_at or message.at
        if math.isfinite(speed) and message.at:
            due = began + (message.at - begun_at) / speed
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, PROGRESS_PERIOD_S))
                progress.show(recording)
        yield message


class _Progress:
    """Progress of a replay: one line on a terminal, else log messages."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.sent = 0
        self._began = self._shown_at = time.monotonic()
        self._width = 0

    def show(self, recording: Recording) -> None:
        now = time.monotonic()
        if now - self._shown_at < (PROGRESS_PERIOD_S if self.terminal else LOGGED_PERIOD_S):
            return
        self._shown_at = now
        share = f"{recording.done / recording.size:.0%}" if recording.size else ""
        text = f"{recording.files[0].name[:60]}: {self.sent:,} messages, {share}, {now - self._began:,.0f} s"
        if self.terminal:
            self._write(text)
        else:
            log.info("%s", text)

    def end(self, text: str) -> None:
        self.clear()
        typer.echo(f"snakemap: {text}", err=True)

    def clear(self) -> None:
        if self._width:
            self._write("")
            typer.echo("\r", nl=False, err=True)

    def _write(self, text: str) -> None:
        text = "".join(character if character.isprintable() else "?" for character in text)
        typer.echo(f"\r{text:<{self._width}}", nl=False, err=True)
        self._width = len(text)


def _sink(settings: Settings, stack: ExitStack) -> DocumentPublisher | StoreSink:
    publisher = open_publisher(settings)
    if publisher is not None:
        return stack.enter_context(publisher)
    url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
    return stack.enter_context(StoreSink(url))
