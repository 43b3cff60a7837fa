"""The guide to extensions names files that exist, and its examples run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import panel as pn
import pytest
from tests.support.documented import block
from tests.unit.dashboard.test_session import RunsInMemory, more, run_of, settle, tab_of

from snakemap.core.documents import Document, decode
from snakemap.dashboard import app, layout, session
from snakemap.dashboard.client_state import ClientState
from snakemap.dashboard.pane import Pane, checked_panes, update_script
from snakemap.dashboard.panes.histogram import HistogramView
from snakemap.dashboard.panes.registry import PANES
from snakemap.dashboard.theme import THEMES
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
    assert len(named) > 20
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


async def test_the_example_of_a_pane_is_drawn_wherever_panes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = run("# pane")["entry"]
    monkeypatch.setattr(session, "PANES", checked_panes(*PANES, entry))
    monkeypatch.setattr(layout, "PANES", session.PANES)
    monkeypatch.setattr(app, "PANES", session.PANES)
    assert list(app._code_of_pages()) == ["row_profile"]
    shown = run_of("a")
    tab = tab_of(RunsInMemory(shown))
    page = layout.Dashboard(tab)
    await settle(tab)
    pane: Any = tab.panes["row_profile"]
    np.testing.assert_array_equal(pane.source.data["mean"], [2.5, 5.0])
    assert pane.__panel__() in page.__panel__().select(pn.pane.Bokeh)
    more(shown, 6)
    tab.choices.theme = "light"
    await settle(tab)
    np.testing.assert_array_equal(pane.source.data["mean"], [2.5, 5.5])
    assert pane.figure.title.text_color == THEMES["light"].text
    tab.end()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "maps"}, "two panes have the name 'maps'"),
        ({"name": "row profile"}, "unlike 'row profile'"),
        ({"kind": Pane}, "Pane has no method `update`"),
        ({"height": None}, "has no height on a page of its own"),
    ],
)
def test_an_entry_of_a_pane_that_could_not_be_shown_is_refused(changed: dict[str, Any], reason: str) -> None:
    entry = replace(run("# pane")["entry"], **changed)
    with pytest.raises(ValueError, match=re.escape(reason)):
        checked_panes(*PANES, entry)


def test_panes_whose_scripts_take_the_same_name_are_refused() -> None:
    histogram = HistogramView(theme=THEMES["dark"], on_brush=lambda _: None)
    with pytest.raises(ValueError, match="like HistogramView"):
        update_script(ClientState(), [histogram, histogram])
