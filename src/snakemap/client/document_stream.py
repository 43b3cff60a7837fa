"""The documents of a run over a WebSocket, taken up again where it was when the connection is lost."""

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

__all__ = ["DocumentStream", "StreamMessage", "told"]

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""After so much silence it is asked whether anything is still to come."""

RETRY_S, RETRY_MAX_S = 0.5, 10.0
MESSAGE_BYTES_MAX = 256 * 1024 * 1024
"""A page of events of a long run comes as one message."""

POLICY_VIOLATION = 1008


class StreamMessage(NamedTuple):
    """One document of a run: its name, the document, and its cursor in the stream."""

    name: str
    doc: dict[str, Any]
    cursor: str


def told(text: str | bytes) -> StreamMessage:
    """Return the document that a message of the API holds.

    Raises:
        ApiFailed: when it holds none.
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
        over: says whether nothing is to come any more; asked in silence after the stop document.
        patience_s: how long in all to try to get back a connection that was lost.
        sleep: waits so many seconds.
        cursor: of the last document that came; empty before the first.
    """

    http: Http
    uid: str
    over: Callable[[], bool]
    patience_s: float
    sleep: Callable[[float], None] = time.sleep
    cursor: str = ""
    stopped: bool = False

    def documents(self) -> Iterator[StreamMessage]:
        """Yield every document from the beginning, or after ``cursor``, until there is nothing to come.

        Raises:
            ApiUnavailable: when a connection that was lost could not be made again in ``patience_s``.
        """
        lost_at, delay = None, RETRY_S
        while True:
            try:
                with self._socket() as socket:
                    for document in self._heard(socket):
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

    def _heard(self, socket: ClientConnection) -> Iterator[StreamMessage]:
        """Yield what comes over one connection, until nothing is to come."""
        while True:
            try:
                text = socket.recv(timeout=QUIET_S)
            except TimeoutError:
                if self.stopped and self._is_over():
                    return
                continue
            document = told(text)
            self.cursor = document.cursor
            self.stopped = self.stopped or document.name == "stop"
            yield document

    def _is_over(self) -> bool:
        with suppress(ApiUnavailable):  # that is for the connection to find out
            return self.over()
        return False

    def _check(self, trouble: Exception) -> None:
        """Raise what trying again would not mend: the API's own refusal."""
        if isinstance(trouble, ConnectionClosed) and trouble.rcvd is not None and trouble.rcvd.code == POLICY_VIOLATION:
            raise SnakemapError(trouble.rcvd.reason) from trouble
