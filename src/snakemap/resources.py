"""Directories of pages and images: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["app_dir", "asset", "assets_dir"]

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent.parent


def app_dir() -> Path:
    """Return the directory of the pages for ``panel serve``."""
    return _found("app")


def assets_dir() -> Path:
    """Return the directory of logo and images."""
    return _found("assets")


def asset(name: str) -> str:
    """Return the text of an asset, like the logo."""
    return (assets_dir() / name).read_text(encoding="utf-8")


def _found(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name
