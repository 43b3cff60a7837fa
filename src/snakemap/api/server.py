"""The API's server process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from snakemap.api.app import create_app
from snakemap.api.auth import TokenFilter
from snakemap.api.http_protocol import protocol
from snakemap.settings import Settings
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store
from snakemap.web.connection_limits import ConnectionLimit, OutOfDescriptors, raise_descriptors
from snakemap.web.ports import authority, listen

__all__ = ["run"]

log = logging.getLogger(__name__)

WEBSOCKET_BYTES_MAX = 64 * 1024
"""Maximum size of a client's message; clients only close."""

PONG_TIMEOUT_S = 60.0
"""Time limit for the answer to a ping, which waits behind the messages that the client has not read yet."""


class Server(uvicorn.Server):
    """Uvicorn server that shuts down on SIGINT and SIGTERM, and returns instead of raising the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening; log exhausted file descriptors once instead of each second, as asyncio does."""
        exhausted = OutOfDescriptors()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if not exhausted.is_it(context.get("exception")):
                loop.default_exception_handler(context)

        asyncio.get_running_loop().set_exception_handler(handle)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, which have no end, then the server."""
        cast("FastAPI", self.config.app).state.service.streams.end()
        await super().shutdown(sockets)


def run(settings: Settings) -> int:
    """Serve the API until a signal ends the process.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: when the address or port cannot be used.
    """
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings.host, settings.api_port, setting="SNAKEMAP_API_PORT"))
        raise_descriptors()
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(settings.state_dir))
        store = Store(
            url,
            documents_max=settings.documents_max,
            keep_days=settings.keep_days,
            read_only=settings.read_only,
        )
        log.info("the API is at http://%s", authority(*listening.getsockname()[:2]))
        Server(configuration(settings, store)).run(sockets=[listening])
    return 0


def configuration(settings: Settings, store: Store) -> uvicorn.Config:
    """Return the server configuration of the application over a store."""
    for name in ("uvicorn.access", "uvicorn.error"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, TokenFilter) for known in logger.filters):
            logger.addFilter(TokenFilter())
    return uvicorn.Config(
        create_app(settings, store),
        http=protocol(ConnectionLimit()),
        log_config=None,
        access_log=log.isEnabledFor(logging.DEBUG),
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_BYTES_MAX,
        ws_per_message_deflate=False,
        ws_ping_timeout=PONG_TIMEOUT_S,
        timeout_graceful_shutdown=3,
    )
