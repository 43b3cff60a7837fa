"""The README tells of every setting, command and route, and of none that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from snakemap.cli.main import app
from snakemap.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROUTES = json.loads((ROOT / "tests" / "data" / "openapi.json").read_text(encoding="utf-8"))["paths"]
COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_table(name: str) -> None:
    assert f"| `SNAKEMAP_{name.upper()}` |" in README


def test_no_setting_is_told_that_is_not_there() -> None:
    told = set(re.findall(r"SNAKEMAP_([A-Z_]*[A-Z])", README))
    assert told <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_the_table(name: str) -> None:
    assert re.search(rf"\| `snakemap {name}( FILE)?` \|", README)


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_every_route_is_told(path: str) -> None:
    for method in ROUTES[path]:
        assert f"`{method.upper()} {path}`" in README


def test_every_picture_is_there() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file()
