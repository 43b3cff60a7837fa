"""The regions of a tab: further channels that grow with the run, and what a browser may ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from tests.unit.dashboard.test_session import RunsInMemory, more, run_of, settle, tab_of

from snakemap.core.derived_documents import derived_descriptor
from snakemap.core.documents import Document
from snakemap.core.roi import Roi
from snakemap.core.roi_text import rois_from_text
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.own_regions import OwnRegions
from snakemap.dashboard.panes import region_list
from snakemap.dashboard.panes.region_list import RegionList
from snakemap.dashboard.session import Session
from snakemap.dashboard.toolbar import Toolbar
from snakemap.live.block_access import BoxSums
from snakemap.live.region_maps import RegionMaps
from snakemap.live.region_sums import RegionSums


def camera_run(uid: str, *, points: int = 5) -> Run:
    """A run whose frames (2, 2) are in a file."""
    run = Run({"uid": uid, "time": 1.0, "shape": [4, 4]})
    keys = {"camera": {"source": "c", "dtype": "array", "shape": [1, 2, 2], "external": "STREAM:"}}
    descriptor = {"uid": f"{uid}/d", "run_start": uid, "time": 1.0, "name": "primary", "data_keys": keys}
    run.apply(Document("descriptor", descriptor, run=uid))
    sums = derived_descriptor(run, dict.fromkeys(("red", "green", "blue"), (0, 1, 0, 1)), frame_shape=(2, 2), time=1.0)
    resource = {"uid": f"{uid}/r", "run_start": uid, "data_key": "camera", "mimetype": "application/x-hdf5"}
    resource |= {"uri": "file://localhost/data/a.h5", "parameters": {"dataset": "/data"}}
    run.apply(Document("descriptor", sums, run=uid))
    run.apply(Document("stream_resource", resource, run=uid))
    more(run, *range(1, points + 1))
    return run


class Blocks:
    """Sums of blocks of all points: the number of the point times the columns of the rectangle, plus a half."""

    def __init__(self) -> None:
        self.wanted = 0

    def want(self, run: Run, source: MapSource) -> None:
        self.wanted += 1

    def boxes(self, run: Run, source: MapSource, roi: Roi) -> BoxSums:
        seq_nums = np.arange(1, source.maps.visited + 1)
        return BoxSums(seq_nums, np.asarray(seq_nums * float(roi.x1 - roi.x0) + 0.5, np.float64), exact=False)


class Sums:
    """Regions whose sum at each point is its number times the rows of the rectangle."""

    def __init__(self) -> None:
        self.readable = 0
        self.trouble = ""
        self.asked: list[tuple[str, ...]] = []
        self.blocks: Blocks | None = None

    async def read(self, run: Run, source: MapSource, rois: Sequence[Roi], *, limit_s: float) -> str:
        self.asked.append(tuple(roi.name for roi in rois))
        self.readable += 3
        return self.trouble

    def estimated(self, run: Run, source: MapSource, roi: Roi) -> RegionSums:
        measured = source.maps.visited
        seq_nums = np.arange(1, min(measured, self.readable) + 1)
        values = np.asarray(seq_nums * float(roi.y1 - roi.y0), np.float64)
        if self.blocks is None:
            return RegionSums(seq_nums, values, 0, measured)
        box = self.blocks.boxes(run, source, roi)
        box.values[: len(values)] = values
        return RegionSums(box.seq_nums, box.values, measured - len(values), measured)


async def listed(*runs: Run) -> tuple[Session, RegionList, Sums]:
    tab = tab_of(RunsInMemory(*runs))
    sums = Sums()
    regions = RegionList(tab, cast(RegionMaps, sums))
    await settle(tab)
    return tab, regions, sums


async def until_read(tab: Session, regions: RegionList) -> None:
    """Let the background tasks of the regions end."""
    for _ in range(10):
        if (task := regions.background._tasks.get("regions")) is not None:
            await task
        await settle(tab)


def channel(tab: Session, name: str) -> Any:
    return tab.maps.cells.data[name][0]


def test_a_source_with_regions_grows_with_its_run_and_is_the_run_itself_without() -> None:
    run, own = camera_run("a"), OwnRegions()
    base = run.main
    assert own.over(base) is base
    own.use(rois_from_text(["spot:0,1,0,1", "far:0,9,0,9", "red:0,1,0,1"]))  # the others do not fit
    source = own.over(base)
    assert source.maps.channels == ("red", "green", "blue", "spot", "total")
    assert source.rois["spot"] == (0, 1, 0, 1)
    more(run, 6)
    assert own.over(base) is source
    np.testing.assert_array_equal(source.maps.grids[[0, 1, 2, 4]], base.maps.grids)
    points = np.array([1, 2])
    assert own.put(base, "spot", points, np.array([7.0, np.nan]))
    assert not own.put(base, "spot", points, np.array([7.0, np.nan]))
    assert not own.put(base, "gone", points, np.array([7.0, 8.0]))
    assert source.maps.summary(3).total == 7.0
    assert source.maps.summary(3).points == 1
    other = camera_run("b")
    assert own.over(other.main).maps.summary(3).points == 0
    own.use(())
    assert own.over(base) is base


async def test_a_typed_region_becomes_a_map_and_is_read_to_its_end() -> None:
    run = camera_run("a")
    tab, regions, sums = await listed(run)
    group = Toolbar(tab, stop_reading=lambda: None)._channel_choice()
    root: Any = group.get_root()
    buttons = root.children[0]
    regions.bar.ask = {"number": 1, "place": 0, "text": "spot: 0, 2, 0, 1"}
    await settle(tab)
    assert tab.choices.rois == ("spot:0,2,0,1",)
    assert tab.maps.channels == ("red", "green", "blue", "spot", "total")
    assert buttons.labels[buttons.active] == tab.choices.channel == "total"
    await until_read(tab, regions)
    assert sums.asked[:2] == [("spot",), ("spot",)]
    np.testing.assert_array_equal(channel(tab, "spot")[0], [2.0, 4.0, 6.0, 8.0])
    assert tab.pipeline.source.maps.summary(3).total == 30.0
    assert regions.bar.state["rows"][0]["text"] == "spot:0,2,0,1"
    assert [roi.name for roi in tab.shown_regions] == [tab.maps.titles[3].text] == ["spot"]
    regions.bar.ask = {"number": 2, "place": 0, "text": ""}
    await settle(tab)
    assert tab.choices.rois == ()
    assert tab.maps.channels == ("red", "green", "blue", "total")


async def test_a_box_on_the_frame_is_widened_to_pixels_and_named() -> None:
    tab, regions, _ = await listed(camera_run("a"))
    for number in range(9):
        regions.draw(-0.4, 1.2, 0.3, 0.9)
        assert len(tab.choices.rois) == min(number + 1, 8)
    assert tab.choices.rois[0] == "roi 1:0,1,0,2"
    assert len(set(tab.choices.rois)) == 8
    assert "at most 8" in regions.bar.state["refusal"]
    assert regions.bar.state["full"]


async def test_what_is_no_region_is_refused_and_what_no_field_sends_does_nothing() -> None:
    tab, regions, _ = await listed(camera_run("a"))
    refusals = {
        "0,9,0,1": "reaches beyond the frame",
        "1,1,0,1": "holds no pixel",
        "<b>x": "four whole numbers",
        "total:0,1,0,1": "two channels cannot have the name 'total'",
    }
    for number, (text, reason) in enumerate(refusals.items()):
        regions.bar.ask = {"number": number, "place": 0, "text": text}
        assert reason in regions.bar.state["refusal"]
        assert tab.choices.rois == ()
    for place, text in ((1, "0,1,0,1"), (-1, "0,1,0,1"), ("0", "0,1,0,1"), (0, None), (True, "0,1,0,1")):
        regions.bar.ask = {"number": 9, "place": place, "text": text}
        assert tab.choices.rois == ()


async def test_a_region_that_does_not_fit_another_run_says_so_and_a_trouble_is_named() -> None:
    tab, regions, sums = await listed(run_of("a"), camera_run("b"))
    tab.choices.rois = ("spot:0,2,0,1",)
    await settle(tab)
    sums.trouble, sums.readable = "the file is gone", -10
    await until_read(tab, regions)
    assert regions.bar.state["rows"][0]["note"] == "the file is gone"
    tab.choices.pinned = "a"  # no file of its frames is known
    await settle(tab)
    tab.soon()
    tab.wake()
    await settle(tab)
    assert tab.maps.channels == ("red", "green", "blue", "total")
    assert regions.bar.state["rows"][0]["note"] == "does not fit this run"


async def test_a_region_that_is_moved_shows_its_blocks_at_once_and_the_frames_when_it_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(region_list, "REST_MS", 0)
    tab, regions, sums = await listed(camera_run("a"))
    regions.bar.ask = {"number": 1, "place": 0, "text": "spot:0,2,0,1"}
    await until_read(tab, regions)
    sums.blocks, sums.readable = Blocks(), 0
    rests: list[Any] = []
    monkeypatch.setattr(region_list, "later", lambda document, work, ms: rests.append(work))
    source, asked = tab.pipeline.source, len(sums.asked)
    tab.choices.box = None
    box = tab.frame.boxes._boxes[0]
    assert (box.left, box.right, box.top, box.bottom, box.editable) == (0, 1, 0, 2, True)
    tab.frame.boxes._on_side(0, "right", 1, 2)  # as long as the server has set it, nothing is moved
    box.right = 1.9
    await settle(tab)
    assert tab.pipeline.own.rois == (Roi("spot", 0, 2, 0, 2),)
    assert tab.pipeline.source is source
    assert source.rois["spot"] == tab.frame.regions["spot"] == (0, 2, 0, 2)
    np.testing.assert_array_equal(channel(tab, "spot")[0], [2.5, 4.5, 6.5, 8.5])
    assert tab.approximate == ("spot",)
    assert box.right == 1.9  # the hand may still hold it
    assert len(sums.asked) == asked
    assert tab.choices.rois == ("spot:0,2,0,1",)
    regions.bar.ask = {"number": 2, "place": 0, "key": "Shift+ArrowUp"}
    await settle(tab)
    assert regions.bar.state["rows"][0]["text"] == "spot:0,1,0,2"
    for key in ("ArrowLeft", "Shift+ArrowUp", "F1", "", "Shift+", "Control+ArrowUp"):
        regions.bar.ask = {"number": 3, "place": 0, "key": key}
        await settle(tab)
    assert regions.bar.state["rows"][0]["text"] == "spot:0,1,0,2"
    assert len(rests) == 1
    rests[0]()
    await settle(tab)
    assert tab.choices.rois == ("spot:0,1,0,2",)
    assert (box.right, box.bottom) == (2, 1)
    await until_read(tab, regions)
    assert tab.pipeline.source is source
    np.testing.assert_array_equal(channel(tab, "spot")[0], [1.0, 2.0, 3.0, 4.0])
    assert tab.approximate == ()
    assert sums.blocks.wanted


async def test_without_blocks_a_moved_region_is_blank_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tab, regions, _ = await listed(camera_run("a"))
    regions.bar.ask = {"number": 1, "place": 0, "text": "spot:0,2,0,1"}
    await until_read(tab, regions)
    regions.move("spot", (1, 2, 0, 1))
    regions.move("gone", (0, 1, 0, 1))
    await settle(tab)
    assert np.isnan(channel(tab, "spot")).all()
    assert regions.bar.state["rows"][0]["note"] == "its frames are read when it rests"
