"""The command ``snakemap``."""

from __future__ import annotations

from snakemap.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
