"""What the file list opens, when the directory has changed since the browser drew it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bokeh.document import Document

from snakemap.dashboard.panes.file_browser import Files
from snakemap.files.directory_listing import DirectoryCache, DirectoryPage, FileEntry

NEW, OLD = FileEntry("new.h5", "hdf5"), FileEntry("old.h5", "hdf5")


@pytest.mark.parametrize(
    ("number", "name", "opened"),
    [
        (40, "new.h5", ["visit/new.h5"]),
        (40, "old.h5", ["visit/old.h5"]),  # a file came before it
        (42, "old.h5", ["visit/old.h5"]),  # a file before it has gone
        (0, "old.h5", ["visit/old.h5"]),
        (41, "gone.h5", []),
        (41, "../old.h5", []),
        (41, None, []),
        (-1, "new.h5", ["visit/new.h5"]),
        (40, "notes.txt", []),
    ],
)
def test_the_file_is_opened_whose_name_was_clicked(
    tmp_path: Path, number: int, name: object, opened: list[str]
) -> None:
    chosen: list[str] = []
    files = Files(DirectoryCache(tmp_path), document=Document(), on_file=chosen.append, on_run=lambda uid: None)
    files.path = "visit"
    entries = (NEW, OLD, FileEntry("notes.txt", "file"))
    files._page = DirectoryPage("visit", entries, offset=40, found=43, total=43, more=False)
    files.component.ask = {"number": 1, "what": "open", "id": number, "text": name}
    assert chosen == opened
