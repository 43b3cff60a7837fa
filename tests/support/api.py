"""The API in a thread of its own, for clients that block; it can end and come back at the same port."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self, cast

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import free_port

from snakemap.api import server
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.web.ports import listen

__all__ = ["ApiThread"]

TIMEOUT_S = 20.0 * PATIENCE


class ApiThread:
    """Serves a store until the end of a ``with``."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        self.redis_url = redis_url
        self.settings = Settings(host="127.0.0.1", **settings)
        self.port = free_port()
        self._server: server.Server | None = None
        self._thread: threading.Thread | None = None
        self.requests: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Returns when it answers."""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="api")
        self._thread.start()
        assert started.wait(TIMEOUT_S)
        return self

    def stop(self) -> None:
        """Ends it; connections are closed."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(TIMEOUT_S)
            assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def _serve(self, started: threading.Event) -> None:
        with listen("127.0.0.1", self.port, setting="port") as listening:
            configuration = server.configuration(self.settings, Store(self.redis_url))
            cast("FastAPI", configuration.app).add_middleware(Noted, requests=self.requests)
            self._server = ThreadServer(configuration)
            serving = asyncio.create_task(self._server.serve(sockets=[listening]))
            while not self._server.started:
                await asyncio.sleep(0.01)
            started.set()
            await serving


class Noted:
    """Notes path and status of every answer."""

    def __init__(self, app: ASGIApp, *, requests: list[tuple[str, int]]) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.requests.append((scope["path"], message["status"]))
            await send(message)

        await self.app(scope, receive, told)


class ThreadServer(server.Server):
    """Hears no signals, which are for the main thread."""

    capture_signals = server.uvicorn.Server.capture_signals
