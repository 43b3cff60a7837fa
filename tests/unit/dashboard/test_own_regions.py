"""The regions of a tab: further channels that grow with the run, and what a browser may ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from tests.unit.dashboard.test_session import RunsInMemory, more, run_of, settle, tab_of

from snakemap.core.derived_documents import derived_descriptor
from snakemap.core.documents import Document
from snakemap.core.roi import Roi
from snakemap.core.roi_text import rois_from_text
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.own_regions import OwnRegions
from snakemap.dashboard.panes.region_list import RegionList
from snakemap.dashboard.session import Session
from snakemap.dashboard.toolbar import Toolbar
from snakemap.live.region_maps import RegionMaps


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


class Sums:
    """Regions whose sum at each point is its number times the rows of the rectangle."""

    def __init__(self) -> None:
        self.readable = 0
        self.trouble = ""
        self.asked: list[tuple[str, ...]] = []

    async def read(self, run: Run, source: MapSource, rois: Sequence[Roi], *, limit_s: float) -> str:
        self.asked.append(tuple(roi.name for roi in rois))
        self.readable += 3
        return self.trouble

    def known(
        self, run: Run, source: MapSource, roi: Roi
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
        measured = source.maps.visited
        seq_nums = np.arange(1, min(measured, self.readable) + 1)
        return seq_nums, np.asarray(seq_nums * float(roi.y1 - roi.y0), np.float64), measured


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
    assert regions.bar.state["rows"][0]["words"] == "the file is gone"
    tab.choices.pinned = "a"  # no file of its frames is known
    await settle(tab)
    tab._status_at = 0.0
    tab.wake()
    await settle(tab)
    assert tab.maps.channels == ("red", "green", "blue", "total")
    assert regions.bar.state["rows"][0]["words"] == "does not fit this run"
