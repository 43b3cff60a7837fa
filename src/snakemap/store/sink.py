"""Write to the store without a broker, with the checks of a worker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import orjson

from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Message, WorkerEvent, decode, progress_of
from snakemap.errors import DocumentError, StoreUnavailable
from snakemap.store.store import Store

__all__ = ["StoreSink"]

log = logging.getLogger(__name__)

RETRY_S = 0.5


class StoreSink:
    """Appends every envelope to the store, in order; waits while Redis cannot be reached.

    Args:
        url: of Redis.
        patience_s: maximum time to wait for Redis.
    """

    def __init__(self, url: str, *, patience_s: float = 60.0) -> None:
        self._store = Store(url)
        self._patience_s = patience_s
        self._order: CausalOrder | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store sink", daemon=True)
        self._thread.start()

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Store one envelope in blueapi's format; return when it is stored.

        Raises:
            StoreUnavailable: when Redis could not be reached for ``patience_s``.
        """
        try:
            text = orjson.dumps(body)
            message = decode(text)
            if message is None:
                self._wait(self._save_progress(text))
            ready = [] if message is None else self._ready(message)
        except DocumentError as trouble:
            log.warning("not published: %s", trouble)
            return
        deadline = time.monotonic() + self._patience_s
        while ready:
            try:
                self._wait(self._store.append(ready))
                return
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._wait(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> StoreSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self, message: Message) -> list[Message]:
        if isinstance(message, WorkerEvent):
            return [message]
        if self._order is None:
            self._order = CausalOrder(self._wait(self._store.owners()))
        return list(self._order.accept(message))

    async def _save_progress(self, text: bytes) -> None:
        try:
            await self._store.save_progress(progress_of(text))
        except StoreUnavailable as trouble:
            log.debug("progress is not saved: %s", trouble)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
