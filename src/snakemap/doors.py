"""What ``panel serve --plugins snakemap.doors`` and the scripts of ``app/`` name: see ``snakemap.doors``."""

from __future__ import annotations

from snakemap.dashboard.app import ROUTES, page
from snakemap.dashboard.layout import Dashboard

__all__ = ["ROUTES", "Dashboard", "page"]
