"""REST and WebSocket API over the document stream."""

from snakemap.api.app import create_app
from snakemap.api.server import run

__all__ = ["create_app", "run"]
