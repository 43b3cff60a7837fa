"""The table of settings in docs/deploying.md, made from the settings: ``python -m tests.support.settings_table``."""

from __future__ import annotations

import re
from pathlib import Path

from snakemap.settings import Settings

__all__ = ["DEPLOYING", "rows", "written"]

DEPLOYING = Path(__file__).parents[2] / "docs" / "deploying.md"
ROWS = re.compile(r"(?:^\| `SNAKEMAP_[A-Z_]+` \|.*\n)+", re.MULTILINE)


def rows() -> str:
    """Every setting in a row, in the order of their declaration."""
    return "".join(f"| `SNAKEMAP_{name.upper()}` | {Settings.meaning(name)} |\n" for name in Settings.model_fields)


def written(page: str) -> str:
    """The page with the table of today."""
    changed, count = ROWS.subn(lambda _: rows(), page)
    assert count == 1, "the page has one table of settings"
    return changed


if __name__ == "__main__":
    DEPLOYING.write_text(written(DEPLOYING.read_text(encoding="utf-8")), encoding="utf-8")
