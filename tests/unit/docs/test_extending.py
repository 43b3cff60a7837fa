"""The guide to extensions names files that exist, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.documented import block

from snakemap.core.documents import Document, decode
from snakemap.core.maps import Maps
from snakemap.core.raster import Raster
from snakemap.dashboard import embed_pane
from snakemap.transport.document_source import DocumentSource

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(?:src|app)/.*$", GUIDE, re.MULTILINE)
FILE = re.compile(r"`((?:src|tests|app|docs)/[\w./]+\.\w+)`( \(new\))?")


def run(begins: str) -> dict[str, Any]:
    """Run one example, and return the names that it defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block("extending.md", "python", begins), "extending.md", "exec"), names)
    return names


def test_every_file_that_it_names_is_there_unless_it_is_new() -> None:
    named = FILE.findall(GUIDE)
    assert len(named) > 30
    new = {path for path, marked in named if marked}
    assert {path for path in new if (ROOT / path).exists()} == set()
    assert {path for path, _ in named if path not in new and not (ROOT / path).is_file()} == set()


@pytest.mark.parametrize("row", ROWS, ids=[FILE.findall(row)[0][0] for row in ROWS])
def test_what_a_row_names_is_in_its_files(row: str) -> None:
    old = [path for path, new in FILE.findall(row) if not new]
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in old)
    names = re.findall(r"`([A-Za-z_.]+)`", FILE.sub("", row))
    assert [name for name in names if old and name.rpartition(".")[2] not in text] == []


@pytest.mark.parametrize("begins", ["# channel", "# export", "# view setting", "# setting"])
def test_an_example_runs(begins: str) -> None:
    assert run(begins)


async def test_the_example_of_a_source_delivers_what_is_not_acknowledged() -> None:
    source = run("# source")["source"]
    (batch,) = [batch async for batch in source.batches()]
    assert isinstance(decode(batch[0].body), Document)
    assert source.held == 1
    source.ack(batch)
    assert [batch async for batch in source.batches()] == []


def test_the_example_of_a_source_has_all_that_the_worker_asks_for() -> None:
    source = run("# source")["source"]
    assert {name for name in vars(DocumentSource) if name[0] != "_" and not hasattr(source, name)} == set()


def test_the_example_of_a_pane_draws_rows() -> None:
    pane = run("# pane")["pane"]
    maps = Maps(Raster.of_shape((2, 2), snake=False, source="test"), channels=("total",))
    pane.draw(maps, "total")
    assert len(pane.source.data["row"]) == 0
    maps.grids[0, 1] = [2.0, 4.0]
    pane.draw(maps, "total")
    np.testing.assert_array_equal(pane.source.data["mean"], [3.0])


def test_heights_are_where_it_says() -> None:
    assert set(embed_pane.HEIGHTS) == set(embed_pane.EMBEDDED_KINDS)
