"""Every setting, command, route, pane and address parameter is documented, and none that does not exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main
from tests.support.settings_table import written

from snakemap.cli.main import app
from snakemap.dashboard.permalink import READERS
from snakemap.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOYING = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROUTES = json.loads((ROOT / "tests" / "data" / "openapi.json").read_text(encoding="utf-8"))["paths"]
COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


def test_the_table_of_settings_is_made_from_the_settings() -> None:
    assert written(DEPLOYING) == DEPLOYING, "run `python -m tests.support.settings_table`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    named = set(re.findall(r"SNAKEMAP_([A-Z_]*[A-Z])", page.read_text(encoding="utf-8")))
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_the_table(name: str) -> None:
    assert re.search(rf"\| `snakemap {name}( FILE)?` \|", DEPLOYING)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_command_that_does_not_exist(page: Path) -> None:
    named = re.findall(r"`snakemap ([a-z]+)\b", page.read_text(encoding="utf-8"))
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_every_route_is_documented(path: str) -> None:
    for method in ROUTES[path]:
        assert f"`{method.upper()} {path}`" in API


def test_no_route_is_documented_that_does_not_exist() -> None:
    named = re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`?]*)`", API)
    assert [f"{method} {path}" for method, path in named if method.lower() not in ROUTES.get(path, {})] == []


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_address_parameter_is_in_the_table(name: str) -> None:
    table = DEPLOYING.partition("## Address parameters")[2].partition("\n## ")[0]
    names = [cell for row in re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE) for cell in row.split(", ")]
    assert f"`{name}`" in names


@pytest.mark.parametrize("script", sorted((ROOT / "app").glob("*.py")), ids=lambda script: script.stem)
def test_every_page_that_is_served_is_named(script: Path) -> None:
    assert f"`/{script.stem}`" in DEPLOYING
