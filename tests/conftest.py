"""Real servers for every test that wants one; a server starts when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings
from tests.support.made_up import MadeUpRun
from tests.support.nginx import Proxy, proxied
from tests.support.rabbitmq import RabbitMQ

from snakemap.store.embedded_redis import EmbeddedRedis

# how long an example takes depends on what else the machine does
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


# sums of blocks need a reader process more for each worker; tests of them set the setting
os.environ.setdefault("SNAKEMAP_BLOCKS_MAX_GB", "0")


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


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Proxy]:
    """Pages and API behind nginx, with TLS and a prefix each."""
    with proxied(tmp_path_factory.mktemp("proxy"), redis_server) as proxy:
        yield proxy


@pytest.fixture
def run_behind_proxy(proxy: Proxy, redis_url: str) -> MadeUpRun:
    """A run of 33 points in the store of the pages behind nginx."""
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    return run
