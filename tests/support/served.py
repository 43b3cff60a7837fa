"""The API over a real Redis, served within this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
from fastapi import FastAPI
from tests.support.patience import PATIENCE, patiently
from websockets.asyncio.client import connect

from snakemap.api import server
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.web.ports import listen

__all__ = ["Served", "serving", "until"]

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """An API that answers.

    Attributes:
        store: to put documents into.
        app: the application.
        authority: its host and port.
    """

    store: Store
    app: FastAPI
    authority: str

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of its routes."""
        url = f"http://{self.authority}"
        async with httpx.AsyncClient(trust_env=False, base_url=url, timeout=PATIENCE * TIMEOUT_S) as client:
            yield client

    def socket(self, path: str, **options: Any) -> connect:
        """A WebSocket to be entered."""
        told = {"open_timeout": PATIENCE * TIMEOUT_S, **options}
        return connect(f"ws://{self.authority}{path}", compression=None, max_size=None, **told)


@asynccontextmanager
async def serving(redis_url: str, **settings: Any) -> AsyncIterator[Served]:
    """Uvicorn with the API, from when it answers to when it has ended in good order."""
    told = Settings(host="127.0.0.1", **settings)
    store = Store(redis_url)
    with listen("127.0.0.1", 0, setting="port") as listening:
        configuration = server.configuration(told, Store(redis_url))
        running = server.Server(configuration)
        task = asyncio.create_task(running.serve(sockets=[listening]))
        try:
            await until(lambda: running.started)
            authority = f"127.0.0.1:{listening.getsockname()[1]}"
            yield Served(store, cast("FastAPI", configuration.app), authority)
        finally:
            running.should_exit = True
            await task
            await store.close()


async def until(happens: Callable[[], object | Awaitable[object]]) -> None:
    """Returns when something is so."""
    async with patiently(TIMEOUT_S):
        while True:
            now = happens()
            if await now if isinstance(now, Awaitable) else now:
                return
            await asyncio.sleep(0.01)
