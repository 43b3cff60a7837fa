"""The architecture page names what is in the code: files, packages and the lines that it quotes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STOPS = re.findall(r"^\| (\d) [^|]+ \| `([^`]+)` \| `(.+)` \|$", PAGE, flags=re.MULTILINE)


def test_there_are_eight_stops() -> None:
    assert [number for number, _, _ in STOPS] == list("12345678")


@pytest.mark.parametrize(("number", "file", "line"), STOPS, ids=[number for number, _, _ in STOPS])
def test_the_quoted_line_is_in_the_file(number: str, file: str, line: str) -> None:
    assert line.replace(r"\|", "|") in (ROOT / file).read_text(encoding="utf-8"), f"stop {number}"


def test_the_layers_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    packages = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| \w+ \| (`[^|]+) \|", PAGE, flags=re.MULTILINE)]
    layers = [layer.split(" | ") for layer in contract["layers"]]
    assert [name for row in packages for name in sorted(row)] == [
        *[name for layer in layers[:-2] for name in sorted(layer)],
        *sorted(name for layer in layers[-2:] for name in layer),
    ]


def test_every_package_says_in_one_sentence_what_it_is() -> None:
    for package in sorted((ROOT / "src" / "snakemap").rglob("__init__.py")):
        first = package.read_text(encoding="utf-8").split('"""')[1].strip().splitlines()[0]
        assert first.endswith((".", ":")), package


def test_the_file_that_draws_in_the_browser_is_there() -> None:
    assert "`dashboard/widgets/js/update.js`" in PAGE
    assert (ROOT / "src/snakemap/dashboard/widgets/js/update.js").is_file()
