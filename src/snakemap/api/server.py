"""The API as a program."""

from __future__ import annotations

import uvicorn

from snakemap.api.app import create_app
from snakemap.embedded_redis import EmbeddedRedis
from snakemap.settings import Settings
from snakemap.store import Store

__all__ = ["run"]

WEBSOCKET_BYTES_MAX = 64 * 1024
"""What a client may send us; it has nothing to say but "close"."""


def run(settings: Settings) -> int:
    """Serves the API until it is told to end.

    Returns:
        The exit code: 0, or 1 when it could not listen.
    """
    if settings.redis_url:
        return _serve(settings, settings.redis_url)
    with EmbeddedRedis(settings.state_dir) as url:
        return _serve(settings, url)


def _serve(settings: Settings, redis_url: str) -> int:
    store = Store(redis_url, documents_max=settings.documents_max, keep_days=settings.keep_days)
    config = uvicorn.Config(
        create_app(settings, store),
        host=settings.host,
        port=settings.api_port,
        log_config=None,
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_BYTES_MAX,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1
