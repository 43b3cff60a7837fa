"""The tree of an HDF5 file, opened group by group, and the details of the chosen node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import param
from bokeh.document import Document

from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.callbacks import every
from snakemap.dashboard.format import bytes_text, shape_text
from snakemap.dashboard.widgets import Part, list_script, stylesheet
from snakemap.errors import FileNotReady, SnakemapError
from snakemap.hdf5.inspector import FileInspector

__all__ = ["Hdf5Tree", "TreeList"]

PAGE = 100
"""Members of a group that are listed at one time."""

ROWS_MAX = 3_000
REFRESH_MS = 2_000


class TreeList(Part):
    """Rows of a tree. What is asked for comes as one dictionary with a growing number."""

    state = param.Dict(default={}, doc="What to show; see `tree.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user did: `number`, `what`, `id`, `text`.")
    base = param.String(default="", doc="Where links lead from; empty on our own page, which they are relative to.")

    written = ("ask",)
    _esm = list_script("tree")
    _stylesheets = [stylesheet("tree")]  # noqa: RUF012 - Panel reads it from the class


@dataclass
class Branch:
    """A group that is open.

    Attributes:
        members: those listed so far.
        total: number of all members.
        trouble: why they cannot be listed.
    """

    members: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    trouble: str = ""


class Hdf5Tree:
    """The tree of one tab.

    Args:
        inspector: reads the files; shared by all tabs.
        document: Bokeh's, of the tab.
        on_node: called with the file and the description of the chosen node.
        download_max: bytes of the largest file that may be downloaded.

    Attributes:
        wanted: whether the node that was chosen last is to be drawn.
    """

    def __init__(
        self,
        inspector: FileInspector,
        *,
        document: Document,
        on_node: Callable[[str, dict[str, Any]], None],
        download_max: int = 0,
    ) -> None:
        self.inspector = inspector
        self.document = document
        self.on_node = on_node
        self.download_max = download_max
        self.component = TreeList(sizing_mode="stretch_both", margin=0)
        self.component.param.watch(self._on_ask, "ask")
        self.background = BackgroundTasks(document)
        self.file = ""
        self._branches: dict[str, Branch] = {}
        self._paths: list[tuple[str, dict[str, Any]]] = []
        self._chosen = ""
        self.wanted = False
        self._about: dict[str, Any] = {}
        self._trouble = ""
        self._search = ""
        self._found: dict[str, Any] | None = None
        self._live = False
        self._timer: Any = None

    def show(self, file: str, *, node: str = "", then: Callable[[SnakemapError | None], None] = lambda _: None) -> None:
        """Show the tree of a file, its root opened, and choose a node or the default plot of the file.

        Args:
            file: in the data root.
            node: its path in the file.
            then: called when the node is described, with the error, if any.
        """
        self.file, self._branches, self._chosen, self._about = file, {}, "", {}
        self._trouble, self._search, self._found, self._live = "", "", None, False
        self._open("/")
        self.choose(node or "/", then=then)
        self._fill()

    def choose(self, node: str, *, then: Callable[[SnakemapError | None], None] = lambda _: None) -> None:
        """Show all that is known of a node."""
        self._chosen, file, self.wanted = node, self.file, True

        async def look() -> tuple[dict[str, Any], dict[str, Any] | None]:
            about = await self.inspector.about(file, node)
            signal = about["nexus"]["signal"] if about["kind"] == "group" else None
            return about, await self.inspector.about(file, signal) if signal else None

        def show(found: tuple[dict[str, Any], dict[str, Any] | None]) -> None:
            self._show_about(file, *found)
            then(None)

        def failed(error: SnakemapError) -> None:
            self._no_about(error)
            then(error)

        self.background.run("about", look, show, failed=failed)

    def leave(self) -> None:
        """Do not draw the chosen node if it is still being read."""
        self.wanted = False

    def close(self) -> None:
        """Release all resources."""
        self.background.close()
        self._rest()

    def _show_about(self, file: str, about: dict[str, Any], signal: dict[str, Any] | None) -> None:
        self._about, self._trouble = about, ""
        self._fill()
        drawable = signal is not None or about["kind"] == "dataset" or about["values"] == "number"
        if drawable and self.wanted:
            self.on_node(file, signal or about)

    def _no_about(self, error: SnakemapError) -> None:
        self._about, self._trouble = {}, str(error)
        self._fill()

    def _open(self, node: str, *, more: bool = False) -> None:
        """Request the members of a group, or the next page of them."""
        branch = self._branches.setdefault(node, Branch())
        offset, file = (len(branch.members) if more else 0), self.file

        def show(listing: dict[str, Any]) -> None:
            branch.members[offset:] = listing["members"]
            branch.total, branch.trouble = listing["total"], ""
            self._live = self._live or listing["live"]
            self._keep_fresh()
            self._fill()

        def failed(error: SnakemapError) -> None:
            branch.trouble = str(error)
            self._fill()

        self.background.run(
            f"open {node}", lambda: self.inspector.members(file, node, offset=offset, count=PAGE), show, failed=failed
        )

    def _keep_fresh(self) -> None:
        """Refresh the shapes periodically while a program writes to the file."""
        if self._live and self._timer is None:
            self._timer = every(self.document, self._refresh, REFRESH_MS)

    def _rest(self) -> None:
        if self._timer is not None:
            self.document.remove_periodic_callback(self._timer)
            self._timer = None

    def _refresh(self) -> None:
        file, nodes = self.file, list(self._branches)

        async def look() -> dict[str, dict[str, Any]]:
            return {node: await self.inspector.members(file, node, count=PAGE) for node in nodes[:8]}

        def show(listings: dict[str, dict[str, Any]]) -> None:
            if file != self.file:
                return
            for node, listing in listings.items():
                if branch := self._branches.get(node):
                    branch.members[: len(listing["members"])] = listing["members"]
                    branch.total, branch.trouble = listing["total"], ""
            self._trouble = ""
            self._live = any(listing["live"] for listing in listings.values())
            if not self._live:
                self._rest()
            self._fill()

        def failed(error: SnakemapError) -> None:
            self._trouble = str(error)
            if not isinstance(error, FileNotReady):  # a file that is not ready may be so the next time
                self._rest()
            self._fill()

        self.background.run("refresh", look, show, failed=failed)

    def _on_ask(self, event: Any) -> None:
        """Handle a request of the browser, which is checked: rows are named by their numbers, texts are cut."""
        asked = event.new if isinstance(event.new, dict) else {}
        what, number, text = asked.get("what"), asked.get("id"), asked.get("text")
        if what == "search" and isinstance(text, str):
            self._look_for(text[:200].strip())
        elif isinstance(number, int) and 0 <= number < len(self._paths):
            path, row = self._paths[number]
            if what == "toggle" and row["kind"] == "group":
                self._toggle(path)
            elif what == "more" and row["kind"] == "more":
                self._open(path, more=True)
            elif what == "choose" and row["kind"] in ("group", "dataset", "datatype"):
                if row["kind"] == "group" and not row["open"]:
                    self._toggle(path)
                self.choose(path)

    def _toggle(self, path: str) -> None:
        if path in self._branches and path != "/":
            for node in [node for node in self._branches if node == path or node.startswith(f"{path}/")]:
                del self._branches[node]
        else:
            self._open(path)
        self._fill()

    def _look_for(self, text: str) -> None:
        self._search, self._found, file = text, None, self.file
        if not text or not file:
            self.background.forget("find")
            self._fill()
            return

        def show(found: dict[str, Any]) -> None:
            self._found = found
            self._fill()

        self.background.run("find", lambda: self.inspector.find(file, text), show, failed=self._no_about)

    def _fill(self) -> None:
        """Send the rows as they are now, if they differ from what is shown."""
        self._paths = []
        rows: list[dict[str, Any]] = []
        if self._found is not None:
            for path in self._found["paths"]:
                self._add(rows, path, {"name": path, "kind": "dataset", "found": True}, depth=0)
        elif self.file:
            self._grow(rows, "/", 0)
        size = self._about.get("file_size", self.download_max + 1)
        state = {
            "file": self.file,
            "download": bytes_text(size) if size <= self.download_max else "",
            "rows": rows,
            "trouble": self._trouble,
            "search": self._search,
            "note": self._note(),
            "facts": _facts(self._about) if self._about else [],
            "attributes": self._about.get("attributes", []),
            "title": self._about.get("node", ""),
        }
        if state != self.component.state:
            self.component.state = state

    def _note(self) -> str:
        if self._found is None:
            return ""
        count = len(self._found["paths"])
        more = "; there may be more in this large file" if self._found["more"] else ""
        return f"{count:,} found{more}" if count else f"nothing found{more}"

    def _grow(self, rows: list[dict[str, Any]], node: str, depth: int) -> None:
        branch = self._branches.get(node)
        if branch is None or len(rows) > ROWS_MAX:
            return
        base = node.rstrip("/")
        for member in branch.members:
            path = f"{base}/{member['name']}"
            self._add(rows, path, member, depth=depth)
            self._grow(rows, path, depth + 1)
        left = branch.total - len(branch.members)
        if branch.trouble:
            self._add(rows, node, {"name": branch.trouble, "kind": "trouble"}, depth=depth)
        elif left > 0 and branch.members:
            self._add(rows, node, {"name": f"{left:,} more", "kind": "more"}, depth=depth)
        elif not branch.members and node in self._branches and branch.total == 0:
            self._add(rows, node, {"name": "empty", "kind": "nothing"}, depth=depth)

    def _add(self, rows: list[dict[str, Any]], path: str, member: dict[str, Any], *, depth: int) -> None:
        row = {
            "id": len(rows),
            "depth": depth,
            "name": member["name"],
            "kind": member["kind"],
            "open": path in self._branches and member["kind"] == "group",
            "shape": shape_text(member.get("shape")) if member.get("dtype") else "",
            "dtype": member.get("dtype", ""),
            "nx": member.get("nx", ""),
            "default": bool(member.get("default")),
            "auxiliary": bool(member.get("auxiliary")),
            "link": member.get("target", "") if member.get("link", "hard") != "hard" else "",
            "why": member.get("why", ""),
            "chosen": path == self._chosen,
            "found": bool(member.get("found")),
        }
        self._paths.append((path, row))
        rows.append(row)


def _facts(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the properties of a node beside its attributes, as names and texts."""
    facts = [("file", about["file"]), ("class", about["nx"])]
    if about["kind"] == "group":
        facts += [("members", f"{about['members'] or 0:,}"), ("default plot", about["nexus"]["default"] or "")]
        if about["shape"]:
            facts += [("stack of frames", shape_text(about["shape"])), ("datatype", about["dtype"])]
            facts += [("size", bytes_text(about["bytes"])), ("data files", about["missing"] or "complete")]
        return [(name, text) for name, text in facts if text]
    growing = about["maxshape"] is not None and None in about["maxshape"]
    facts += [
        ("shape", shape_text(about["shape"]) + (", growing" if growing and about["live"] else "")),
        ("datatype", about["dtype"]),
        ("units", about["units"]),
        ("storage", about["layout"] + (f", chunks {shape_text(about['chunks'])}" if about["chunks"] else "")),
        ("filters", ", ".join(about["filters"])),
        ("size", bytes_text(about["bytes"])),
        ("on disk", bytes_text(about["stored"]) if about["stored"] is not None else ""),
    ]
    return [(name, text) for name, text in facts if text]
