"""What a screen reader needs of a page: each control has a name, each role its place and its state."""

from __future__ import annotations

from pathlib import Path

from tests.support.browser import Shown

__all__ = ["nameless"]

CHECK = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def nameless(shown: Shown) -> list[str]:
    """Return what is on the screen and cannot be named or placed, shadow roots included; each with its classes."""
    return shown.page.evaluate(CHECK)
