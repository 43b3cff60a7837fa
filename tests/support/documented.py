"""Code as our own pages of documentation show it, so that what they promise is what is tested."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["block"]

DOCS = Path(__file__).parents[2] / "docs"
FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def block(page: str, language: str, begins: str, **instead: str) -> str:
    """One block of code of a page.

    Args:
        page: its file, like ``"embedding.md"``.
        language: as it is named behind the fence.
        begins: what the block begins with.
        instead: what stands for what is shown, like ``pages="http://localhost:5006"``; see :data:`ADDRESSES`.
    """
    found = [told["code"] for told in FENCED.finditer((DOCS / page).read_text()) if told["language"] == language]
    (code,) = [code for code in found if code.startswith(begins)]
    for name, address in instead.items():
        assert ADDRESSES[name] in code
        code = code.replace(ADDRESSES[name], address)
    return code


ADDRESSES = {
    "pages": "http://snakemap:5006",
    "api": "http://snakemap:8080",
    "redis": "redis://snakemap:6379",
    "port": "port=8000",
}
"""What the pages of documentation call them."""
