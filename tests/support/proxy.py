"""A TCP proxy of the tests' own, which can hold, lose, delay and reset what passes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from tests.support.rabbitmq import free_port

__all__ = ["Proxy"]

CHUNK = 65536
TIMEOUT_S = 30.0
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to a port of this machine, in a thread of its own.

    Args:
        target: port that connections are forwarded to.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._delay_s = 0.0
        self._old: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._generation = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """Of what is behind it."""
        return f"http://localhost:{self.port}"

    def hold(self) -> None:
        """Stop all bytes, as a cable that is pulled; :meth:`release` delivers those that wait."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Let bytes pass again, on all connections that were not lost."""
        self._loop.call_soon_threadsafe(self._open.set)

    def lose(self) -> None:
        """Stop all bytes; what is connected now never carries any again, and neither end learns of it."""

        def lose() -> None:
            self._generation += 1
            self._open.clear()

        self._loop.call_soon_threadsafe(lose)

    def delay(self, seconds: float) -> None:
        """Deliver every piece that much later."""
        self._delay_s = seconds

    def reset(self) -> None:
        """Reset all connections on both sides."""

        self._loop.call_soon_threadsafe(self._reset)

    def cut(self) -> None:
        """Reset all connections and refuse new ones, as a program that was killed; :meth:`restore` ends it."""

        async def cut() -> None:
            self._server.close()
            self._reset()

        self._wait(cut())

    def restore(self) -> None:
        """Listen again, at the same port."""
        self._wait(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def _reset(self) -> None:
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._forward, "localhost", self.port)

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._old):
            task.cancel()
        await asyncio.gather(*self._old, return_exceptions=True)
        for writer in list(self._writers):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._old.add(task)
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            generation = self._generation
            await self._open.wait()
            back, other = await asyncio.open_connection("localhost", self.target)
            self._writers.add(other)
            ways = [self._pass(reader, other, generation), self._pass(back, writer, generation)]
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for one in (writer, other):
                if one is not None:
                    one.close()
                    self._writers.discard(one)
            self._old.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int) -> None:
        while data := await reader.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if generation != self._generation:
                await asyncio.Event().wait()  # until the proxy ends, or the connection is reset
            writer.write(data)
            await writer.drain()
        writer.close()
