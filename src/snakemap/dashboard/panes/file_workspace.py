"""File browser, HDF5 tree and chosen dataset of one tab, beside its maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from snakemap.core.derived_documents import Rectangle
from snakemap.core.run import Run
from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.deferred import Deferred
from snakemap.dashboard.panes.dataset import DatasetView, complain
from snakemap.dashboard.panes.dataset_state import ShownDataset
from snakemap.dashboard.panes.file_browser import Files
from snakemap.dashboard.panes.hdf5_tree import Hdf5Tree
from snakemap.dashboard.session import Session
from snakemap.dashboard.theme import THEMES
from snakemap.errors import FileRefused, FrameError, SnakemapError
from snakemap.files.data_root import local_paths
from snakemap.files.directory_listing import DirectoryCache
from snakemap.hdf5.inspector import FileInspector
from snakemap.live.file_runs import cancel_reading, is_stack, open_stack, stack_of
from snakemap.live.mean_frames import MeanFrames
from snakemap.live.region_maps import RegionMaps

__all__ = ["FileServices", "FileWorkspace"]


@dataclass(frozen=True, slots=True)
class FileServices:
    """What all tabs of a process share to read files.

    Attributes:
        directories: of the data root.
        inspector: reads its files.
        path_map: pairs of the writer's prefix and ours.
        rois: the instrument's ROIs, by name; None where there are none.
        download_max: bytes of the largest file that may be downloaded.
        means: mean frames of many points; None: there are none.
        regions: maps of other regions; None: there are none.
    """

    directories: DirectoryCache
    inspector: FileInspector
    path_map: tuple[tuple[str, str], ...] = ()
    rois: Mapping[str, Rectangle] | None = None
    download_max: int = 0
    means: MeanFrames | None = None
    regions: RegionMaps | None = None

    def place_of(self, file: str | None) -> str:
        """Return where in the data root a file is that a document names; empty when it is not there by its name.

        A URI with two readings means the path that exists.
        """
        places = _places(file or "", str(self.inspector.root), self.path_map)
        there = (place for place in places if len(places) > 1 and (self.inspector.root / place).exists())
        return next(there, places[0] if places else "")


class FileWorkspace:
    """Files, tree and dataset of one tab.

    Args:
        services: shared by all tabs.
        tab: whose they are.
        on_dataset: called when a dataset is to be seen instead of the maps, and with False when the maps are.
    """

    def __init__(self, services: FileServices, tab: Session, *, on_dataset: Callable[[bool], None]) -> None:
        self.services = services
        self.tab = tab
        self.on_dataset = on_dataset
        document = tab.document
        self.files = Files(services.directories, document=document, on_file=self._on_file, on_run=self._on_run)
        self.tree = Hdf5Tree(
            services.inspector, document=document, on_node=self._on_node, download_max=services.download_max
        )
        self.dataset = Deferred(document, self._make_dataset)
        self.on_shown: Callable[[], None] = lambda: None
        self._wanted: tuple[str, str, Sequence[int]] | None = None
        self.background = BackgroundTasks(document)
        self._started = False
        self._left = 0
        tab.choices.param.watch(self._on_theme, "theme")
        tab.choices.param.watch(lambda _: on_dataset(False), "pinned")
        tab.on_status(self._on_status)
        tab.on_close(self.close)

    @property
    def shown(self) -> ShownDataset | None:
        """The dataset that was shown last."""
        return self.dataset.made.shown if self.dataset.made is not None else None

    def _make_dataset(self) -> DatasetView:
        return DatasetView(
            self.services.inspector,
            document=self.tab.document,
            theme=THEMES[self.tab.choices.theme],
            on_back=lambda: self.on_dataset(False),
            on_maps=self._open_as_maps,
            on_shown=lambda: self.on_shown(),
        )

    def _on_theme(self, event: Any) -> None:
        if self.dataset.made is not None:
            self.dataset.made.restyle(THEMES[event.new])

    def start(self) -> None:
        """List the data root, when the files are first opened."""
        if not self._started:
            self._started = True
            self.files.start()

    def open(
        self, file: str, node: str, *, display: str = "", index: Sequence[int] = (), then: Callable[[], None]
    ) -> None:
        """Show a dataset as a click on it does, with the same checks, or notify why not.

        Args:
            file: in the data root.
            node: path of the dataset in the file; empty for what the file itself wants drawn.
            display: how it is shown; empty for what suits it best.
            index: number chosen in each leading dimension.
            then: called when it is shown, or cannot be.
        """
        self._wanted = file, display, index

        def chosen(trouble: SnakemapError | None) -> None:
            self._wanted = None
            if trouble is None and not self.tree.wanted:
                then()  # the user shows something else by now
            elif trouble is None:
                self.dataset.use(lambda view: show(view.shown))
            else:
                complain(trouble)
                then()

        def show(shown: ShownDataset | None) -> None:
            if shown is not None and shown.file == file:
                self._started = True
                self.files.mark(file)
                self._name_run(file)
            else:
                complain(FrameError(f"{node or file} has no data that can be drawn"))
            then()

        self.tree.show(file, node=node, then=chosen)

    def close(self) -> None:
        """Release all resources."""
        self.files.close()
        self.tree.close()
        if self.dataset.made is not None:
            self.dataset.made.close()
        self.background.close()

    def leave(self) -> None:
        """Drop earlier requests for the center pane: it shows something else now."""
        self._left += 1
        self.tree.leave()

    def _on_file(self, path: str) -> None:
        self.tree.show(path)
        self._name_run(path)

    def _on_node(self, file: str, about: dict[str, Any]) -> None:
        wanted, self._wanted = self._wanted, None
        display, index = wanted[1:] if wanted is not None and wanted[0] == file else ("", ())
        self.dataset.use(lambda view: view.look_at(file, about, stack=is_stack(about), display=display, index=index))
        self.on_dataset(True)

    def _open_as_maps(self, file: str, about: dict[str, Any]) -> None:
        """Show a stack of frames as maps: as the run that wrote it, or as a new run."""
        services, store = self.services, self.tab.live.store
        there = {file, about["file"]}
        taken = [
            run["uid"]
            for run in self.tab.live.summaries
            if not run.get("opened") and services.place_of(run.get("file")) in there
        ]

        async def open_it() -> str:
            for uid in taken:
                if await self._has_made(uid, file, about):
                    return uid
            stack = await stack_of(services.inspector, file, about, path_map=services.path_map)
            return await open_stack(store, stack, rois=services.rois)

        left = self._left

        def show(uid: str) -> None:
            if self._left == left:  # else the user has gone on, and finds the run in the list
                self._on_run(uid)

        self.background.run("maps", open_it, show, failed=complain)

    async def _has_made(self, uid: str, file: str, about: dict[str, Any]) -> bool:
        """Return whether a dataset holds the frames of a run: its file may hold others, too."""
        run = await self.tab.live.open(uid)
        try:
            resources = [resource for ledger in run.ledgers() for resource in ledger.resources.values()]
        finally:
            self.tab.live.release(uid)
        nodes = {(file, about["node"].strip("/")), (about["file"], about["place"].strip("/"))}
        return any((self.services.place_of(one.uri), one.dataset.strip("/")) in nodes for one in resources)

    def stop_reading(self) -> None:
        """Cancel the reading of the file that is shown as maps."""
        run = self.tab.pipeline.run
        if run is not None and run.opened and run.stop is None:
            uid, store = run.uid, self.tab.live.store
            self.background.run("cancel", lambda: cancel_reading(store, uid), lambda _: None, failed=complain)

    def _on_run(self, uid: str) -> None:
        self.tab.choices.pinned = uid
        self.on_dataset(False)

    def _on_status(self, run: Run | None) -> None:
        """Update which file belongs to the run, and which run to the file, once a second."""
        if self._started:
            self.files.set_run_file(self.services.place_of(run.file) if run is not None else "")
            self._name_run(self.files.chosen)

    def _name_run(self, path: str) -> None:
        of_file = (run["uid"] for run in self.tab.live.summaries if self.services.place_of(run.get("file")) == path)
        self.files.set_run_of_chosen(next(of_file, "") if path else "")


@lru_cache(maxsize=10_000)
def _places(file: str, root: str, path_map: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return paths in the data root that a path or URI may mean, in the order in which they are tried."""
    try:
        paths = local_paths(file, path_map)
    except FileRefused:
        return ()
    spellings = [Path(spelling) for spelling in dict.fromkeys((root, os.path.realpath(root)))]
    places = ([path.relative_to(one) for one in spellings if path.is_relative_to(one)][:1] for path in paths)
    return tuple(str(place) for found in places for place in found)
