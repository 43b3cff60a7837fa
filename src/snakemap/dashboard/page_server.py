"""The HTTP server of the pages: Tornado's, with time limits, bounds on connections, and a list of its own names."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import bokeh.server.server
from bokeh.server.tornado import BokehTornado
from panel.io.application import Application as PageApplication
from panel.io.handlers import PanelCodeHandler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.web import Application

from snakemap.dashboard.shutdown import end_in_time
from snakemap.dashboard.static_gzip import StaticGzip
from snakemap.files.data_root import shown
from snakemap.web.connection_limits import (
    BODY_TIMEOUT_S,
    HEADER_TIMEOUT_S,
    SEND_TIMEOUT_S,
    ConnectionLimit,
    OutOfDescriptors,
    raise_descriptors,
)
from snakemap.web.hosts import HOST_HEADERS, REFUSAL, HostNames

__all__ = ["PageServer", "install"]

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 1_000_000
ACCEPTED_AT_ONCE = 128
RETRY_S = 1.0
"""After which a server that has no descriptors left tries to accept again."""


class PageServer(HTTPServer):
    """A server whose clients must ask in time, and by a name of it.

    Args:
        request_callback: the application.
        hosts: names of the server; by default those that :func:`install` was given.
        connections: their bounds.
        options: of Tornado's server.
    """

    make_hosts: Callable[[], HostNames] = staticmethod(lambda: HostNames("localhost"))

    def initialize(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request_callback: Any, *, hosts: HostNames | None = None, connections: ConnectionLimit | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        """Take what :class:`HTTPServer` takes, with limits where it has none."""
        limits = {
            "idle_connection_timeout": HEADER_TIMEOUT_S,
            "body_timeout": BODY_TIMEOUT_S,
            "max_body_size": BODY_BYTES_MAX,
        }
        super().initialize(request_callback, **{**limits, **options})
        self.hosts = hosts or self.make_hosts()
        self.open = connections or ConnectionLimit()
        self.exhausted = OutOfDescriptors()
        raise_descriptors()
        end_in_time()
        if isinstance(request_callback, Application):
            request_callback.add_transform(StaticGzip)

    def add_sockets(self, sockets: Any) -> None:
        """Accept connections on sockets that listen already."""
        for one in sockets:
            self._sockets[one.fileno()] = one
            self._handlers[one.fileno()] = _accept(one, self._take, self.exhausted)

    def _take(self, connection: socket.socket, address: Any) -> None:
        if connection.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * SEND_TIMEOUT_S))
        self._handle_connection(connection, address)

    def handle_stream(self, stream: IOStream, address: Any) -> None:  # pyright: ignore
        """Serve a connection, unless its address has too many."""
        if not self.open.opened(stream, str(address[0]) if address else "", stream.close):
            stream.close()
            return
        super().handle_stream(stream, address)

    def start_request(self, server_conn: Any, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Start the time limit of the next request of a connection."""
        stream: IOStream = server_conn.stream
        self.open.waits(stream, stream.close)
        return _Checked(self, stream, request_conn, super().start_request(server_conn, request_conn))

    def on_close(self, server_conn: Any) -> None:
        """Release a connection that has ended or has become a WebSocket."""
        self.open.closed(server_conn.stream)
        super().on_close(server_conn)


class _Checked(HTTPMessageDelegate):
    """A request on its way to the application, refused when it names another host."""

    def __init__(
        self, server: PageServer, stream: IOStream, connection: HTTPConnection, then: HTTPMessageDelegate
    ) -> None:
        self._server = server
        self._stream = stream
        self._connection = connection
        self._then: HTTPMessageDelegate | None = then

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._server.open.asked(self._stream)
        asked = [value for name in HOST_HEADERS for value in headers.get_list(name)]
        own = self._stream.socket.getsockname() if self._stream.socket is not None else ""
        if not self._server.hosts.allows(asked, arrived_at=str(own[0]) if own else ""):
            log.info("a request for the host %s was refused; SNAKEMAP_ORIGINS names the hosts", shown(asked[0]))
            self._then = None
            self._refuse()
            return None
        return self._then.headers_received(start_line, headers) if self._then is not None else None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._then.data_received(chunk) if self._then is not None else None

    def finish(self) -> None:
        if self._then is not None:
            self._then.finish()

    def on_connection_close(self) -> None:
        if self._then is not None:
            self._then.on_connection_close()

    def _refuse(self) -> None:
        body = f"{REFUSAL}\n".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"}
        line = ResponseStartLine("HTTP/1.1", 421, "Misdirected Request")
        self._connection.write_headers(line, HTTPHeaders(headers), body)
        self._connection.finish()


class Pages(BokehTornado):
    """The pages of a server: those of the command line, and further ones by their code."""

    code: Mapping[str, str] = {}

    def __init__(self, applications: Mapping[str, Any], **options: Any) -> None:
        more = {
            f"/{name}": PageApplication(PanelCodeHandler(source=code, filename=f"{name}.py"))
            for name, code in self.code.items()
        }
        super().__init__({**more, **applications}, **options)


def install(hosts: Callable[[], HostNames], code: Mapping[str, str]) -> None:
    """Make every Bokeh server of this process listen with this one from now on.

    Args:
        hosts: the names of the server, asked for when it is made.
        code: of pages that no script has, by their names.
    """
    PageServer.make_hosts = staticmethod(hosts)
    Pages.code = code
    bokeh.server.server.BokehTornado = Pages  # pyright: ignore[reportPrivateImportUsage]
    bokeh.server.server.HTTPServer = PageServer  # pyright: ignore[reportPrivateImportUsage]


def _accept(
    listening: socket.socket, take: Callable[[socket.socket, Any], None], exhausted: OutOfDescriptors
) -> Callable[[], None]:
    """Accept connections; Tornado's own loop tries again at once, for ever, when there are no descriptors.

    Returns:
        What ends it.
    """
    loop = IOLoop.current()
    ended = False

    def accept(_: Any, __: int) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if ended:
                return
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if not exhausted.is_it(error):
                    raise
                loop.remove_handler(listening)
                loop.call_later(RETRY_S, resume)
                return
            take(connection, address)

    def resume() -> None:
        if not ended:
            loop.add_handler(listening, accept, IOLoop.READ)

    def end() -> None:
        nonlocal ended
        ended = True
        loop.remove_handler(listening)

    loop.add_handler(listening, accept, IOLoop.READ)
    return end
