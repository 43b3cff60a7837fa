"""Components read from the browser what their scripts write, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bokeh.document import Document

from snakemap.dashboard import embed_pane, widgets
from snakemap.dashboard.panes import dataset_state, event_log, file_browser, hdf5_tree
from snakemap.dashboard.widgets import Controls, Part, RegionBar

PARTS = [
    one
    for module in (widgets, file_browser, embed_pane, event_log, dataset_state, hdf5_tree)
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, Part) and one.__module__ == module.__name__ and hasattr(one, "_esm")
]
SHOWING = [one for one in PARTS if one._esm and "state" in one.param]


def script(part: type[Part]) -> str:
    return Path(part._esm).read_text() if isinstance(part._esm, os.PathLike) else part._esm


@pytest.mark.parametrize("part", PARTS)
def test_a_component_reads_from_the_browser_what_its_script_writes(part: type[Part]) -> None:
    assert set(part.written) == set(re.findall(r"\bmodel\.(\w+) (?:[-+]?=) ", script(part)))


def test_all_components_are_looked_at() -> None:
    assert {part.__name__ for part in PARTS} > {"Controls", "RunList", "TopBar", "FileList", "EventList", "ValueTable"}


def test_everything_that_a_script_asks_for_in_quick_succession_is_taken_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = Document()
    monkeypatch.setattr(
        Document, "session_context", property(lambda _: SimpleNamespace(request=SimpleNamespace(arguments={})))
    )
    later: list[Callable[[], Any]] = []
    monkeypatch.setattr(document, "add_timeout_callback", lambda callback, _ms: later.append(callback))
    bar = RegionBar()
    taken: list[int] = []
    bar.param.watch(lambda event: taken.append(event.new["number"]), "ask")
    for number in range(1, 5):
        bar._server_change(document, "ref", None, "ask", None, {"number": number})
    for callback in later:
        asyncio.run(callback())
    assert taken == [1, 2, 3, 4]


@pytest.mark.parametrize("part", SHOWING)
def test_a_change_of_the_server_is_not_repeated_when_its_document_is_released(part: type[Part]) -> None:
    """The repetition would undo what was changed after it."""
    document, component, seen = Document(), part(), []
    document.add_root(component.get_root(document))
    component.param.watch(lambda event: seen.append(event.new), "state")
    document.hold("collect")
    component.param.update(state={"number": 1})
    component.param.update(state={"number": 2})
    document.unhold()
    assert seen == [{"number": 1}, {"number": 2}]


def test_what_the_browser_wrote_is_read() -> None:
    document, component = Document(), Controls()
    document.add_root(root := component.get_root(document))
    data = root.data  # pyright: ignore[reportAttributeAccessIssue]
    data.ask = {"number": 1, "what": "take"}
    data.state = {"text": "made up"}
    assert component.ask == {"number": 1, "what": "take"}
    assert component.state == {}
