"""The mean frame of the selected points: what a tab reads, draws and says of it, and when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tests.support.camera_run import camera_run, measure
from tests.support.patience import PATIENCE
from tests.unit.dashboard.test_session import RunsInMemory, destroy, settle, tab_of

from snakemap.core.run import Run
from snakemap.dashboard.panes import selection_frame
from snakemap.dashboard.panes.past_frame import PastFrameReader
from snakemap.dashboard.panes.point_choice import PointChoice
from snakemap.dashboard.panes.selection_frame import SelectionFrame
from snakemap.dashboard.session import Session
from snakemap.errors import FileBroken
from snakemap.hdf5.frame_reader import FrameBatch, FrameTotal
from snakemap.live.mean_frames import MeanFrames
from snakemap.render.palettes import DIVERGING

FRAMES = np.arange(20 * 4 * 6, dtype=np.uint16).reshape(20, 4, 6) ** 2 % 977


class Frames:
    """A reader process that has the frames in memory, and gives as many of them at a time as it may.

    Attributes:
        at_once: points in an answer.
        bad: rows that cannot be read.
        asked: number of requests.
    """

    marks = ()

    def __init__(self) -> None:
        self.at_once = 100
        self.bad: set[int] = set()
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Any]:
        yield self

    async def add(self, batch: FrameBatch, ranges: Sequence[tuple[int, int]], *, limit_s: float) -> FrameTotal:
        self.asked += 1
        await self.may_answer.wait()
        rows = [row for start, stop in ranges for row in range(start, stop)][: self.at_once]
        good = rows[: next((number for number, row in enumerate(rows) if row in self.bad), len(rows))]
        if not good:
            raise FileBroken(f"frame {rows[0] + 1} cannot be read")
        return FrameTotal(FRAMES[good].sum(axis=0, dtype=np.uint64), len(good), len(good))


class Shown:
    """A tab with a run of 4 rows and 5 columns, of which 15 points are measured."""

    def __init__(self, *runs: Run) -> None:
        self.tab: Session = tab_of(RunsInMemory(*runs))
        self.frames = Frames()
        self.means = MeanFrames(self.frames.lend)
        self.selection = SelectionFrame(self.tab, self.means)
        files = SimpleNamespace(services=SimpleNamespace(place_of=lambda file: ""))
        self.choice = PointChoice(self.tab, cast(PastFrameReader, files), self.selection)

    @property
    def title(self) -> str:
        return self.tab.frame.figure.title.text

    @property
    def picture(self) -> Any:
        return self.tab.frame.image.data["image"][0]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run what the tab asks for until a condition holds."""
        end = time.monotonic() + 10 * PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.title, self.choice.bar.state)
            self.tab.soon()
            self.tab.frame.hasten()
            self.tab.wake()
            await settle(self.tab)
            await asyncio.sleep(0.001)

    def press(self, what: str) -> None:
        self.choice.bar.ask = {"number": self.frames.asked + 1, "what": what, "at": time.monotonic()}


@pytest.fixture
async def shown(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    monkeypatch.setattr(selection_frame, "CHECK_S", 0.0)
    run = camera_run("/data/scan.h5", uid="b", point=(4, 6))
    measure(run, 1, 15)
    made = Shown(camera_run("/data/other.h5", uid="a", point=(4, 6)), run)
    await settle(made.tab)
    yield made
    made.frames.may_answer.set()
    destroy(made.tab)
    assert made.means._running == []


def boxed(shown: Shown, *, columns: int = 2) -> list[int]:
    """Draw a box over the first columns of all lines; return its rows of the file: every other line runs back."""
    shown.tab.choices.box = (0, 4, 0, columns)
    return [row for row in range(20) if (row % 5 if row // 5 % 2 == 0 else 4 - row % 5) < columns]


async def test_the_mean_of_a_box_grows_and_is_complete(shown: Shown) -> None:
    rows = [row for row in boxed(shown) if row < 15]
    await shown.until(lambda: shown.choice.bar.visible)
    assert shown.choice.bar.state == {"of": "newest", "selection": True, "chosen": False}
    assert shown.frames.asked == 0  # nothing is read before it is wanted
    shown.frames.at_once = 2
    titles: list[str] = []
    shown.tab.frame.figure.title.on_change("text", lambda attribute, old, new: titles.append(new))
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 6 frames")
    assert titles[-4:] == [
        "mean of 0 of 6 frames", "mean of 2 of 6 frames", "mean of 4 of 6 frames", "mean of 6 frames",
    ]  # fmt: skip
    np.testing.assert_array_equal(shown.picture, FRAMES[rows].mean(axis=0).astype(np.float32))
    assert shown.tab.frame.picture.visible
    await shown.until(lambda: "mean" in shown.choice.bar.state["place"])
    state = shown.choice.bar.state
    assert (state["of"], state["trouble"]) == ("selection", "")
    assert state["place"] == "mean of 6 frames of the selection: points in the box"
    measure(shown.tab.live.runs["b"], 16, 20)
    await shown.until(lambda: shown.title == "mean of 8 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[boxed(shown)].mean(axis=0).astype(np.float32))


async def test_points_within_the_brush_and_in_the_box_are_selected(shown: Shown) -> None:
    shown.tab.show_brush((0.4, 1.0))  # of totals 1 to 15: from 6 on
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 10 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[5:15].mean(axis=0).astype(np.float32))
    await shown.until(lambda: shown.choice.bar.state["place"].endswith(": points in the brushed range of total"))
    boxed(shown, columns=1)
    await shown.until(lambda: shown.title == "mean of 2 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[[9, 10]].mean(axis=0).astype(np.float32))
    place = "mean of 2 frames of the selection: points in the box and in the brushed range of total"
    await shown.until(lambda: shown.choice.bar.state["place"] == place)


async def test_unreadable_frames_are_left_out_and_counted(shown: Shown) -> None:
    shown.frames.bad = {0, 8}
    rows = [row for row in boxed(shown) if row < 15 and row not in shown.frames.bad]
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 4 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[rows].mean(axis=0).astype(np.float32))
    await shown.until(lambda: bool(shown.choice.bar.state["trouble"]))
    assert shown.choice.bar.state["trouble"] == "The frames of 2 points are left out: frame 9 cannot be read"
    shown.frames.bad = set(range(20))
    boxed(shown, columns=1)
    await shown.until(lambda: shown.title == "no frame of the selection can be read")
    assert not shown.tab.frame.picture.visible


async def test_the_difference_to_the_rest_is_centered_on_zero(shown: Shown) -> None:
    rows = [row for row in boxed(shown) if row < 15]
    rest = [row for row in range(15) if row not in rows]
    shown.frames.at_once = 4
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 6 frames")
    gray, asked = shown.tab.frame.mapper.palette, shown.frames.asked
    shown.press("difference")
    await shown.until(lambda: shown.title == "selection − rest")
    assert shown.frames.asked == asked + 3  # the selection is not read again
    expected = (FRAMES[rows].mean(axis=0) - FRAMES[rest].mean(axis=0)).astype(np.float32)
    np.testing.assert_array_equal(shown.picture, expected)
    mapper, bar = shown.tab.frame.mapper, shown.tab.frame.bar
    assert (mapper.low, mapper.high) == (-abs(expected).max(), abs(expected).max())
    assert (mapper.palette, bar.title) == (DIVERGING, "counts")
    text = "mean of 6 frames of the selection, minus the mean of 9 frames of the rest: points in the box"
    await shown.until(lambda: shown.choice.bar.state["place"] == text)
    measure(shown.tab.live.runs["b"], 16, 20)
    text = "mean of 8 frames of the selection, minus the mean of 12 frames of the rest: points in the box"
    await shown.until(lambda: shown.choice.bar.state["place"] == text)
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 8 frames")
    assert (mapper.palette, mapper.low, bar.title) == (gray, 0, "")
    shown.tab.choices.box = (0, 4, 0, 5)
    shown.press("difference")
    await shown.until(lambda: shown.title == "no frame of the rest yet")
    assert not shown.tab.frame.picture.visible


@pytest.mark.parametrize("by", ["newest", "point", "box", "run", "source", "close"])
async def test_a_mean_that_is_not_wanted_any_more_ends(shown: Shown, by: str) -> None:
    boxed(shown)
    shown.frames.at_once = 1
    shown.frames.may_answer.clear()
    shown.press("selection")
    await shown.until(lambda: shown.frames.asked == 1)
    assert len(shown.means._running) == 1
    if by == "newest":
        shown.press("newest")
    elif by == "point":
        shown.tab.notify("tap", 2.0, 0.0)
    elif by == "box":
        shown.tab.clear_selections()
    elif by == "run":
        shown.tab.choices.pinned = "a"
        await settle(shown.tab)
    elif by == "source":
        shown.tab.choices.source = "camera-2"
    else:
        destroy(shown.tab)
    assert shown.means._running == []
    assert shown.tab.choices.frame_of == ("selection" if by == "close" else "point")
    shown.frames.may_answer.set()
    await shown.until(lambda: not shown.selection.background._tasks)
    assert shown.frames.asked == 1
    assert "mean" not in shown.title or by == "close"


async def test_another_box_has_the_mean_of_its_own_points(shown: Shown) -> None:
    boxed(shown)
    shown.frames.may_answer.clear()
    shown.press("selection")
    await shown.until(lambda: shown.frames.asked == 1)
    boxed(shown, columns=1)
    shown.frames.may_answer.set()
    await shown.until(lambda: shown.title == "mean of 3 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[[0, 9, 10]].mean(axis=0).astype(np.float32))


async def test_what_has_no_mean_says_so(shown: Shown) -> None:
    shown.press("selection")  # nothing is selected
    shown.press("everything")
    assert shown.tab.choices.frame_of == "point"
    shown.tab.choices.box = (3, 4, 0, 5)  # not measured yet
    shown.press("selection")
    await shown.until(lambda: shown.title == "no frame of the selection yet")
    measure(shown.tab.live.runs["b"], 16, 17)
    await shown.until(lambda: shown.title == "mean of 2 frames")
    np.testing.assert_array_equal(shown.picture, FRAMES[15:17].mean(axis=0).astype(np.float32))


class Blocks:
    """Sums of blocks of all points, or of fewer."""

    def __init__(self, *, lack: int = 0) -> None:
        self.lack = lack

    async def mean(self, run: Run, source: Any, seq_nums: Any) -> tuple[int, Any]:
        points = int(np.count_nonzero(np.asarray(seq_nums) <= 15))
        return points - self.lack, np.full((1, 1), float(points))


async def test_the_mean_of_blocks_is_there_at_once_and_the_exact_one_when_it_is_complete(shown: Shown) -> None:
    shown.means.blocks = cast(Any, Blocks())
    shown.frames.at_once = 2
    shown.frames.may_answer.clear()
    rows = [row for row in boxed(shown) if row < 15]
    shown.press("selection")
    await shown.until(lambda: shown.title == f"≈ mean of {len(rows)} frames")
    assert shown.picture.tolist() == [[len(rows)]]
    assert shown.selection.described.startswith(f"≈ in blocks of 16 x 16 pixels, 0 of {len(rows)} frames read")
    shown.frames.may_answer.set()
    await shown.until(lambda: shown.title == f"mean of {len(rows)} frames")
    np.testing.assert_allclose(shown.picture, FRAMES[rows].mean(axis=0), rtol=1e-6)
    shown.frames.may_answer.clear()
    shown.press("difference")
    await shown.until(lambda: shown.title == "≈ selection − rest")
    assert shown.picture.tolist() == [[2 * len(rows) - 15]]
    shown.frames.may_answer.set()
    await shown.until(lambda: shown.title == "selection − rest")
    assert shown.picture.shape == (4, 6)


async def test_blocks_of_some_of_the_frames_only_are_not_shown(shown: Shown) -> None:
    shown.means.blocks = cast(Any, Blocks(lack=1))
    shown.frames.may_answer.clear()
    rows = [row for row in boxed(shown) if row < 15]
    shown.press("selection")
    await shown.until(lambda: shown.frames.asked == 1)
    assert shown.title == f"mean of 0 of {len(rows)} frames"
