"""HTML of a run for notebooks: a table and a small picture. Values of documents are escaped."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["markup"]

LETTERS_MAX = 200
PNG = b"\x89PNG\r\n\x1a\n"


def markup(summary: Mapping[str, Any], picture: bytes | None) -> str:
    """Return a run as HTML, in the colors of the page around it.

    Args:
        summary: from the list of runs.
        picture: PNG; None when there is none.
    """
    words = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in _rows(summary))
    image = ""
    if picture is not None and picture.startswith(PNG):
        data = base64.b64encode(picture).decode("ascii")
        image = (
            f'<img alt="its maps" src="data:image/png;base64,{data}" '
            'style="height: 72px; image-rendering: pixelated; background: #2a303a; padding: 4px; border-radius: 4px">'
        )
    return f'<div style="display: flex; gap: 16px; align-items: center"><table>{words}</table>{image}</div>'


def _rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    points, expected = summary.get("points"), summary.get("expected")
    rows = {
        "run": summary.get("uid"),
        "plan": summary.get("plan_name"),
        "status": summary.get("status"),
        "points": f"{points:,} of {expected:,}" if _whole(points) and _whole(expected) else points,
        "geometry": summary.get("geometry"),
        "started": _time(summary.get("started")),
        "file": summary.get("file"),
    }
    return [(name, str(value)[:LETTERS_MAX]) for name, value in rows.items() if value not in (None, "")]


def _whole(value: Any) -> bool:
    return isinstance(value, int)


def _time(seconds: Any) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
