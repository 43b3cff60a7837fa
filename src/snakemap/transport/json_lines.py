"""Document source: a file of JSON lines that grows, as a RunEngine beside the worker writes it.

A line is a message in any format of a :mod:`recording <snakemap.transport.recording>`. The source keeps its position,
which is the begin of the oldest message that is not acknowledged, in the state directory::

    |-- acknowledged --|-- delivered, held --|-- not read --|...a line without its end
                       ^ position            ^ _offset
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any, Self
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import orjson

from snakemap.core.documents import BODY_BYTES_MAX
from snakemap.core.source_status import SourceState, SourceStatus
from snakemap.errors import SettingsError
from snakemap.files.private import make_private, write_private
from snakemap.transport.document_source import Delivery
from snakemap.transport.recording import recorded_message

__all__ = ["LinesPublisher", "LinesSource", "probe_lines"]

log = logging.getLogger(__name__)

POLL_S = 0.1
BATCH = 500
HELD_MAX = 2000


@dataclass(frozen=True, slots=True)
class _Held:
    begin: int
    at: float


class LinesSource:
    """The lines of one file, followed while it grows; from its beginning when it is replaced or becomes shorter.

    Args:
        url: ``lines:///path/of/documents.jsonl``.
        state_dir: where the position is kept.
        held_max: maximum of messages that are not acknowledged.
        body_bytes_max: a longer line is dropped.
        poll_s: interval of looking for new lines.

    Raises:
        SettingsError: when the URL is invalid.
    """

    subscription = ""
    queued = 0
    """Lines stay in the file."""

    def __init__(
        self,
        url: str,
        *,
        state_dir: Path,
        held_max: int = HELD_MAX,
        body_bytes_max: int = BODY_BYTES_MAX,
        poll_s: float = POLL_S,
    ) -> None:
        self.path = lines_path(url)
        self.held_max = held_max
        self.body_bytes_max = body_bytes_max
        self.poll_s = poll_s
        self.oversized = 0
        self._position_file = state_dir / "sources" / f"{uuid5(NAMESPACE_URL, str(self.path))}.json"
        self._status = SourceStatus(SourceState.CONNECTING, time.time())
        self._closing: asyncio.Event | None = None
        self._closed = False
        self._connection = 0
        self._inode = 0
        self._offset = 0
        self._held: dict[str, _Held] = {}

    @property
    def status(self) -> SourceStatus:
        """CONNECTED while the file can be read."""
        return self._status

    @property
    def held(self) -> int:
        """Messages that are delivered and not acknowledged yet."""
        return len(self._held)

    @property
    def held_s(self) -> float:
        """Age in seconds of the oldest of them; 0 when there is none."""
        oldest = next(iter(self._held.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.at

    async def batches(self) -> AsyncGenerator[list[Delivery]]:
        """Yield batches of lines, in order; ends with :meth:`leave` and :meth:`close`.

        Raises:
            RuntimeError: when there is another reader.
        """
        if self._closing is not None:
            raise RuntimeError("the lines of a file have one reader")
        closing = self._closing = asyncio.Event()
        if self._closed:
            closing.set()
        self._connection += 1
        self._held.clear()
        try:
            self._inode, self._offset = await asyncio.to_thread(self._saved_position)
            while not closing.is_set():
                if batch := await self._next():
                    yield batch
                    continue
                try:
                    await asyncio.wait_for(closing.wait(), self.poll_s)
                except TimeoutError:
                    continue
        finally:
            self._closing = None

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge lines, and save the position."""
        known = [one.ack_id for one in deliveries if one.connection == self._connection and one.ack_id in self._held]
        for ack_id in known:
            del self._held[ack_id]
        if known:
            self._save_position()

    async def leave(self) -> None:
        """Stop reading; the next :meth:`batches` begins with the oldest line that is not acknowledged."""
        if self._closing is not None:
            self._closing.set()
        self._held.clear()
        self._status = SourceStatus(SourceState.CONNECTING, time.time())

    async def close(self) -> None:
        """Stop reading for good."""
        self._closed = True
        await self.leave()

    async def _next(self) -> list[Delivery]:
        """Return the next lines; empty when there are none, or the file cannot be read."""
        room = min(BATCH, self.held_max - len(self._held))
        if room <= 0:
            return []
        try:
            lines = await asyncio.to_thread(self._read, room)
        except OSError as error:
            self._lost(f"{self.path} cannot be read: {error.strerror or error}")
            return []
        if self._status.state is not SourceState.CONNECTED:
            log.info("Reading documents from %s", self.path)
            self._status = SourceStatus(SourceState.CONNECTED, time.time())
        batch = [_delivery(line, f"{begin}", self._connection) for begin, line in lines]
        self._held |= {one.ack_id: _Held(int(one.ack_id), time.monotonic()) for one in batch}
        return batch

    def _read(self, count: int) -> list[tuple[int, bytes]]:
        """Return up to ``count`` complete lines from the offset on, each with its begin."""
        lines: list[tuple[int, bytes]] = []
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset = status.st_ino, 0
                self._connection += 1  # acknowledgements of the former file are ignored
                self._held.clear()
            file.seek(self._offset)
            while len(lines) < count:
                line = self._complete_line(file)
                if line is None:
                    break
                if line.strip():
                    lines.append((self._offset, line))
                self._offset = file.tell()
        return lines

    def _complete_line(self, file: IO[bytes]) -> bytes | None:
        """Return the next line, empty if it is too long; None if its end is not written yet."""
        line = file.readline(self.body_bytes_max + 1)
        if line.endswith(b"\n"):
            return line
        if len(line) <= self.body_bytes_max:
            return None
        while line and not line.endswith(b"\n"):
            line = file.readline(self.body_bytes_max)
        if not line:
            return None
        self.oversized += 1
        log.warning("A line of %s was dropped, it is too long; %d so far", self.path, self.oversized)
        return b""

    def _lost(self, reason: str) -> None:
        if self._status.reason == reason:
            return
        log.warning("Document source lost; trying again: %s", reason)
        lost = self._status.state is SourceState.LOST
        self._status = SourceStatus(SourceState.LOST, self._status.since if lost else time.time(), reason)

    def _saved_position(self) -> tuple[int, int]:
        """Return inode and offset; zeros when none is saved."""
        try:
            saved = orjson.loads(self._position_file.read_bytes())
            return int(saved["inode"]), int(saved["offset"])
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("The position in %s is not known, it is read from its beginning: %s", self.path, error)
            return 0, 0

    def _save_position(self) -> None:
        """Save the position; if that fails, lines are delivered again after a restart, which is harmless."""
        offset = min((held.begin for held in self._held.values()), default=self._offset)
        try:
            make_private(self._position_file.parent)
            new = self._position_file.with_suffix(".new")
            write_private(new, orjson.dumps({"inode": self._inode, "offset": offset, "path": str(self.path)}).decode())
            new.replace(self._position_file)
        except OSError as error:
            log.warning("The position in %s cannot be saved: %s", self.path, error)


class LinesPublisher:
    """Appends messages to the file of a :class:`LinesSource`. Thread-safe.

    Args:
        url: ``lines:///path/of/documents.jsonl``.

    Raises:
        SettingsError: when the URL is invalid.
    """

    def __init__(self, url: str) -> None:
        self.path = lines_path(url)
        self._lock = Lock()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, body: dict[str, Any] | bytes, *, correlation_id: str | None = None, confirm: bool = False) -> None:
        """Append one message.

        Args:
            body: an object to be written as JSON; bytes are written as they are.
            correlation_id: the task's id, on worker and progress events.
            confirm: whether to wait until the line is on the disk.

        Raises:
            OSError: when the file cannot be written.
        """
        line = body + b"\n" if isinstance(body, bytes) else _line(body, correlation_id)
        with self._lock:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            self._file.write(line)
            if confirm:
                os.fsync(self._file.fileno())

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Append one message, as the simulator calls it."""
        self.send(body, correlation_id=correlation_id)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def lines_path(url: str) -> Path:
    """Return the path in ``lines:///path``.

    Raises:
        SettingsError: when it is no absolute path.

    >>> str(lines_path("lines:///data/my%20documents.jsonl"))
    '/data/my documents.jsonl'
    """
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme != "lines" or parts.netloc or not parts.path or not path.is_absolute():
        raise SettingsError("SNAKEMAP_SOURCE_URL: it is not lines:///path/of/documents.jsonl")
    return path


def probe_lines(url: str) -> None:
    """Open the file.

    Raises:
        OSError: when it cannot be read.
        SettingsError: when the URL is invalid.
    """
    with lines_path(url).open("rb"):
        pass


def _line(body: dict[str, Any], correlation_id: str | None) -> bytes:
    headers = {} if correlation_id is None else {"correlation-id": correlation_id}
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return orjson.dumps({"t": time.time(), "headers": headers, "body": text}, option=orjson.OPT_APPEND_NEWLINE)


def _delivery(line: bytes, ack_id: str, connection: int) -> Delivery:
    """Return a line as a message; an invalid one as it is, and the listener counts it."""
    arrived = time.time()
    try:
        message = recorded_message(line)
    except (KeyError, TypeError, ValueError):
        return Delivery(line, ack_id, connection=connection, arrived=arrived)
    headers = {} if message.correlation_id is None else {"correlation-id": message.correlation_id}
    return Delivery(orjson.dumps(message.body), ack_id, headers, connection=connection, arrived=arrived)
