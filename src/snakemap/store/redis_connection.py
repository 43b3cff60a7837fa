"""Connection to Redis: time limits, and errors as those of the store."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from snakemap.errors import ReadOnly, SettingsError, StoreRefuses, StoreUnavailable
from snakemap.store.refusals import WRITES, error_code_of, message_of

__all__ = ["ANSWER_TIMEOUT_S", "RedisConnection", "milliseconds"]

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 8
"""Connections for short requests, in addition to one for each follower."""


class RedisConnection:
    """Connections to one Redis.

    Args:
        url: as of the :class:`~snakemap.store.store.Store`.
        read_only: whether every change raises ReadOnly.

    Raises:
        SettingsError: when the URL is invalid.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._url = url
        self._client = self._connect(timeout_s=ANSWER_TIMEOUT_S, connections_max=CONNECTIONS_MAX)
        self.address = _address(url)

    def may_change(self) -> None:
        """Raise unless changes are allowed.

        Raises:
            ReadOnly: when they are not.
        """
        if self.read_only:
            raise ReadOnly("this dashboard is read-only (SNAKEMAP_READ_ONLY)")

    def script(self, text: str, *, changes: bool = True) -> Callable[..., Awaitable[Any]]:
        """Return a Lua script as a function of keys and arguments.

        Args:
            text: of the script.
            changes: whether it changes shared data, which a read-only store refuses.
        """
        registered = self._client.register_script(text)

        async def call(keys: Sequence[str], *arguments: str | bytes | int | float) -> Any:
            if changes:
                self.may_change()
            async with self._translated():
                return await registered(keys=list(keys), args=list(arguments))

        return call

    async def command(self, *words: str | int) -> Any:
        """Return the answer of Redis to a command; None when the command is unknown or not permitted."""
        async with self._translated():
            try:
                return await self._client.execute_command(*words)
            except exceptions.ResponseError:
                return None

    async def ping(self) -> None:
        """Return when Redis answers."""
        async with self._translated():
            await self._client.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _connect(self, *, timeout_s: float, connections_max: int = 1) -> Any:  # redis-py has no type for raw bytes
        try:
            pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                self._url,
                max_connections=connections_max,
                timeout=ANSWER_TIMEOUT_S,
                protocol=2,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=timeout_s,
                health_check_interval=0,  # PING is refused as writes are, by a Redis that cannot save
                retry=Retry(NoBackoff(), 0),
            )
            return Redis.from_pool(pool)
        except ValueError as error:
            raise SettingsError(f"SNAKEMAP_REDIS_URL: {error}") from None

    @asynccontextmanager
    async def _translated(self, client: Any = None) -> AsyncGenerator[None]:
        """Translate exceptions of Redis and its client to StoreUnavailable, by type."""
        try:
            yield
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError, EOFError) as error:
            # the other idle connections are dead, too; the next calls shall not discover that one by one
            await (client or self._client).connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"Redis at {self.address} {_trouble(error)}") from error
        except exceptions.RedisError as error:
            word = error_code_of(error)
            text = message_of(word, error=error) or f"answers with an error: {error}"
            if word in WRITES:
                raise StoreRefuses(f"Redis at {self.address} {text}", word) from error
            raise StoreUnavailable(f"Redis at {self.address} {text}") from error


def milliseconds(seconds: float) -> int:
    """Return a duration for Redis, at least one."""
    return max(1, math.ceil(seconds * 1000))


def _trouble(error: BaseException) -> str:
    refused = (exceptions.AuthenticationError, exceptions.AuthorizationError)
    if isinstance(error, refused) or isinstance(error.__cause__, refused):  # redis-py wraps it up while connecting
        return "refuses the user or password"
    if isinstance(error, exceptions.BusyLoadingError):
        return "is still reading its data"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "does not answer in time"
    return f"cannot be reached: {error}"


def _address(url: str) -> str:
    """Return the address without user, password and query.

    >>> _address("redis://me:secret@host:6379/0?password=secret"), _address("unix:///run/redis.sock?db=1")
    ('host:6379/0', '/run/redis.sock')
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
    return f"{host}:{parts.port or 6379}{parts.path.rstrip('/')}"
