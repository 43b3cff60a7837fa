"""The REST and WebSocket API: the one stream, for other programs."""

from snakemap.api.app import create_app
from snakemap.api.server import run

__all__ = ["create_app", "run"]
