"""The file browser: one directory of the data root, live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, cast, get_args

import param
from bokeh.document import Document

from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.widgets import Part, list_script, stylesheet
from snakemap.errors import SnakemapError
from snakemap.files.directory_listing import ORDERS, DirectoryCache, DirectoryPage, FileEntry, Order

__all__ = ["FileList", "Files"]

COUNT = 120
"""Entries that the browser has at one time; scrolling brings others."""

SEARCH_MAX = 200


class FileList(Part):
    """A directory. What is asked for comes as one dictionary with a growing number."""

    state = param.Dict(default={}, doc="What to show; see `files.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user did: `number`, `what`, `id`, `text`, `offset`.")

    chosen = param.Integer(default=0, doc="Grows in the browser at the click on a file, whose tree is shown then.")

    written = ("ask", "chosen")
    _esm = list_script("files")
    _stylesheets = [stylesheet("files")]  # noqa: RUF012 - Panel reads it from the class


class Files:
    """The file browser of one tab.

    Args:
        directories: of the process.
        document: Bokeh's, of the tab.
        on_file: called with the path, in the data root, of a chosen file.
        on_run: called with the uid of the run to show.
    """

    def __init__(
        self,
        directories: DirectoryCache,
        *,
        document: Document,
        on_file: Callable[[str], None],
        on_run: Callable[[str], None],
    ) -> None:
        self.directories = directories
        self.document = document
        self.on_file = on_file
        self.on_run = on_run
        self.component = FileList(sizing_mode="stretch_both", margin=0)
        self.component.param.watch(self._on_ask, "ask")
        self.background = BackgroundTasks(document)
        self.path = ""
        self.chosen = ""
        self.order: Order = "newest"
        self._search = ""
        self._offset = 0
        self._page: DirectoryPage | None = None
        self._trouble = ""
        self._run_file = ""
        self._run_of_chosen = ""

    def start(self) -> None:
        """Show the data root."""
        self.enter("")

    def close(self) -> None:
        """Release all resources."""
        self.directories.unwatch(self)
        self.background.close()

    def enter(self, path: str, *, around: str = "") -> None:
        """Show a directory.

        Args:
            path: in the data root.
            around: the name of an entry to be seen at once.
        """
        self.path, self._search, self._offset, self._page = path, "", 0, None
        self.directories.watch(self, path, self._refresh)
        self._load(around=around)

    def reveal(self, path: str) -> None:
        """Choose a file, and show where it lies."""
        self.choose(path)
        self.mark(path)

    def choose(self, path: str) -> None:
        """Choose a file."""
        self.chosen = path
        self.on_file(path)
        self._fill()

    def mark(self, path: str) -> None:
        """Show the directory of a file that was opened from elsewhere."""
        place = PurePosixPath(path)
        self.chosen = path
        self.enter("" if place.parent == PurePosixPath() else str(place.parent), around=place.name)

    def set_run_file(self, path: str) -> None:
        """Set the file of the run that is shown; empty when it has none here."""
        if path != self._run_file:
            self._run_file = path
            self._fill()

    def set_run_of_chosen(self, uid: str) -> None:
        """Set the run that wrote the chosen file; empty when it is unknown."""
        if uid != self._run_of_chosen:
            self._run_of_chosen = uid
            self._fill()

    def _refresh(self) -> None:
        """Read the directory, which has changed."""
        self._load()

    def _load(self, *, around: str = "") -> None:
        path, order, search, offset = self.path, self.order, self._search, self._offset

        async def look() -> DirectoryPage:
            return await self.directories.page(
                path, order=order, search=search, offset=offset, count=COUNT, around=around
            )

        self.background.run("page", look, self._show_page, failed=self._fail)

    def _show_page(self, page: DirectoryPage) -> None:
        self._page, self._offset, self._trouble = page, page.offset, ""
        self._fill()

    def _fail(self, error: SnakemapError) -> None:
        """Show an error; the directory is shown again once it can be read."""
        self._page, self._trouble = None, str(error)
        self._fill()

    def _on_ask(self, event: Any) -> None:
        """Handle a request of the browser, which is checked: only entries of the list can be opened."""
        asked = event.new if isinstance(event.new, dict) else {}
        what, number, text, offset = (asked.get(key) for key in ("what", "id", "text", "offset"))
        if what == "open" and isinstance(number, int):
            self._open(number, text)
        elif what == "crumb" and isinstance(number, int):
            parts = PurePosixPath(self.path).parts
            self.enter("/".join(parts[: max(0, min(number, len(parts)))]))
        elif what == "search" and isinstance(text, str):
            self._search, self._offset = text[:SEARCH_MAX], 0
            self._load()
        elif what == "page" and isinstance(offset, int):
            self._offset = max(0, min(offset, 1_000_000))
            self._load()
        elif what == "sort" and text in get_args(Order):
            self.order, self._offset = cast(Order, text), 0
            self._load()
        elif what == "run file" and self._run_file:
            self.reveal(self._run_file)
        elif what == "run" and self._run_of_chosen:
            self.on_run(self._run_of_chosen)

    def _open(self, number: int, name: object) -> None:
        """Open an entry of the list.

        Args:
            number: of the entry in the list that the browser has, which may be older than ours.
            name: of the entry.
        """
        page = self._page
        if page is None:
            return
        here = page.entries[number - page.offset : number - page.offset + 1] if number >= page.offset else ()
        entry = next((entry for entry in (*here, *page.entries) if entry.name == name), None)
        if entry is None:
            return
        place = str(PurePosixPath(page.path) / entry.name)
        if entry.kind == "directory":
            self.enter(place)
        elif entry.kind == "hdf5":
            self.choose(place)

    def _fill(self) -> None:
        """Send the state, if it differs from what is shown."""
        page = self._page
        state = {
            "crumbs": list(PurePosixPath(self.path).parts),
            "order": self.order,
            "orders": list(ORDERS),
            "search": self._search,
            "trouble": self._trouble,
            "offset": page.offset if page else 0,
            "found": page.found if page else 0,
            "total": page.total if page else 0,
            "more": bool(page and page.more),
            "rows": [self._row(entry) for entry in page.entries] if page else [],
            "loading": page is None and not self._trouble,
            "run_file": PurePosixPath(self._run_file).name if self._run_file != self.chosen else "",
            "run": bool(self._run_of_chosen),
        }
        if state != self.component.state:
            self.component.state = state

    def _row(self, entry: FileEntry) -> dict[str, Any]:
        return {
            "name": entry.name,
            "kind": entry.kind,
            "size": entry.size,
            "modified": entry.modified,
            "live": entry.live,
            "chosen": str(PurePosixPath(self.path) / entry.name) == self.chosen,
        }
