"""snakemap: live maps of a beamline scan, drawn from Bluesky documents.

For programs and notebooks: :func:`connect` is a client of a running ``snakemap api``, :class:`Beamline` draws the
panes of the dashboard in another application. Both are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemap.client import connect
    from snakemap.dashboard.embed import Beamline

__all__ = ["Beamline", "__version__", "connect"]

__version__ = "0.1.0"

PLACES = {"Beamline": "snakemap.dashboard.embed", "connect": "snakemap.client"}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
