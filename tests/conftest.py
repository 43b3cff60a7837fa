"""Real servers for every test that wants one; a server starts when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from tests.support.rabbitmq import RabbitMQ

from snakemap.embedded_redis import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a private Redis that lives as long as the session."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a private Redis that is empty when the test begins."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A private RabbitMQ that lives as long as the session."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitMQ) -> RabbitMQ:
    """A private RabbitMQ that runs when the test begins, whatever the test before did to it."""
    rabbitmq_server.start()
    return rabbitmq_server
