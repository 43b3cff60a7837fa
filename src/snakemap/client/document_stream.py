"""The documents of a run over a WebSocket, continued after a lost connection."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from snakemap.client.http import Http
from snakemap.errors import ApiFailed, ApiUnavailable, SnakemapError

__all__ = ["DocumentStream", "StreamMessage", "parse_message"]

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""Silence after which the client asks whether the run is over."""

RETRY_S, RETRY_MAX_S = 0.5, 10.0
MESSAGE_BYTES_MAX = 256 * 1024 * 1024
"""Maximum of one message; a page of events of a long run is one."""

POLICY_VIOLATION = 1008


class StreamMessage(NamedTuple):
    """One document of a run: its name, the document, and its cursor in the stream."""

    name: str
    doc: dict[str, Any]
    cursor: str


def parse_message(text: str | bytes) -> StreamMessage:
    """Return the document in a message of the API.

    Raises:
        ApiFailed: when the message is invalid.
    """
    try:
        message = json.loads(text)
        return StreamMessage(message["name"], message["doc"], message["cursor"])
    except (ValueError, KeyError, TypeError) as error:
        raise ApiFailed("the API's documents cannot be read; it is of another version than this client") from error


@dataclass(slots=True)
class DocumentStream:
    """Follows one run.

    Attributes:
        http: the API.
        uid: of the run.
        over: returns whether the run is over; called after the stop document, during silence.
        patience_s: total time to restore a lost connection.
        sleep: waits some seconds.
        cursor: of the last document; empty before the first.
    """

    http: Http
    uid: str
    over: Callable[[], bool]
    patience_s: float
    sleep: Callable[[float], None] = time.sleep
    cursor: str = ""
    stopped: bool = False

    def documents(self) -> Iterator[StreamMessage]:
        """Yield every document from the beginning, or after ``cursor``, until the run is over.

        Raises:
            ApiUnavailable: when a lost connection could not be restored in ``patience_s``.
        """
        lost_at, delay = None, RETRY_S
        while True:
            try:
                with self._socket() as socket:
                    for document in self._receive(socket):
                        lost_at, delay = None, RETRY_S
                        yield document
                return
            except (ConnectionClosed, InvalidHandshake, OSError, EOFError) as trouble:
                self._check(trouble)
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at + delay > self.patience_s:
                    raise ApiUnavailable(
                        f"lost {self.http.address} while following run {self.uid}, and could not get it back in "
                        f"{self.patience_s:g} s ({trouble}); follow(after={self.cursor!r}) goes on from here"
                    ) from trouble
                log.warning("run %s: lost the API (%s); trying again in %.1f s", self.uid, trouble, delay)
            self.sleep(delay)
            delay = min(2 * delay, RETRY_MAX_S)

    def _socket(self) -> ClientConnection:
        path = f"/api/runs/{quote(self.uid, safe='')}/documents?after={quote(self.cursor or '0')}"
        url = self.http.url.replace("http", "ws", 1) + path
        proxy = {} if self.http.proxies else {"proxy": None}
        try:
            return connect(
                url,
                additional_headers=self.http.headers,
                open_timeout=self.http.timeout_s,
                max_size=MESSAGE_BYTES_MAX,
                **proxy,
            )
        except InvalidURI as error:
            raise ApiFailed(f"{self.http.address} has no WebSocket: {error}") from error

    def _receive(self, socket: ClientConnection) -> Iterator[StreamMessage]:
        """Yield the documents of one connection until the run is over."""
        while True:
            try:
                text = socket.recv(timeout=QUIET_S)
            except TimeoutError:
                if self.stopped and self._is_over():
                    return
                continue
            document = parse_message(text)
            self.cursor = document.cursor
            self.stopped = self.stopped or document.name == "stop"
            yield document

    def _is_over(self) -> bool:
        with suppress(ApiUnavailable):  # the connection reports this itself
            return self.over()
        return False

    def _check(self, trouble: Exception) -> None:
        """Raise refusals of the API, which a retry does not change."""
        if isinstance(trouble, ConnectionClosed) and trouble.rcvd is not None and trouble.rcvd.code == POLICY_VIOLATION:
            raise SnakemapError(trouble.rcvd.reason) from trouble
