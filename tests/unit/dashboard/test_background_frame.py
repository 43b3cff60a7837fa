"""The frame that is subtracted from all frames that a tab shows."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.camera_run import measure
from tests.unit.dashboard.test_selection_frame import FRAMES, Shown, boxed, shown

from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.dashboard.panes import background_frame
from snakemap.dashboard.panes.background_frame import BackgroundFrame
from snakemap.dashboard.panes.file_workspace import FileServices
from snakemap.errors import FileBroken
from snakemap.render.palettes import DIVERGING

__all__ = ["shown"]


@pytest.fixture
def with_background(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> Shown:
    async def frame_at(_: Any, __: Resource, row: int) -> npt.NDArray[Any]:
        if row in shown.frames.bad:
            raise FileBroken("no frame")
        return FRAMES[row]

    monkeypatch.setattr(background_frame, "frame_at", frame_at)

    def show_past_frame(run: Run, source: MapSource) -> None:
        point = shown.tab.choices.point
        shown.tab.frame.draw(source, FRAMES[point - 1], number=point)

    shown.tab.show_past_frame = show_past_frame
    shown.choice.background = BackgroundFrame(shown.tab, cast(FileServices, None))
    return shown


def draw(shown: Shown, point: int, frame: npt.NDArray[Any]) -> None:
    shown.tab.frame.draw(shown.tab.live.runs["b"].main, frame, number=point)


def less(frame: npt.NDArray[Any], row: int) -> npt.NDArray[np.float32]:
    return (frame.astype(np.float64) - FRAMES[row]).astype(np.float32)


async def test_the_frame_of_a_point_is_subtracted_from_all_frames_until_that_ends(with_background: Shown) -> None:
    shown, view = with_background, with_background.tab.frame
    gray = view.mapper.palette
    shown.choice.choose(3)
    assert shown.choice.bar.state["background"] == 0
    shown.press("background")
    await shown.until(lambda: shown.title == "frame of point 3 − point 3")
    assert not shown.picture.any()
    shown.choice.choose(9)
    await shown.until(lambda: shown.title == "frame of point 9 − point 3")
    np.testing.assert_array_equal(shown.picture, less(FRAMES[8], 2))
    most = float(abs(shown.picture).max())
    assert (view.mapper.palette, view.mapper.low, view.mapper.high) == (DIVERGING, -most, most)
    assert (shown.choice.bar.state["background"], shown.choice.bar.state["note"]) == (3, "")
    draw(shown, 10, FRAMES[9])
    np.testing.assert_array_equal(shown.picture, less(FRAMES[9], 2))
    draw(shown, 11, np.ones((2, 2), np.uint8))  # another shape
    assert shown.title == "frame of point 11"
    rows = [row for row in boxed(shown) if row < 15]
    shown.press("selection")
    await shown.until(lambda: shown.title == "mean of 6 frames − point 3")
    np.testing.assert_array_equal(shown.picture, less(FRAMES[rows].mean(axis=0).astype(np.float32), 2))
    shown.press("difference")
    await shown.until(lambda: shown.title == "selection − rest")
    shown.press("selection")
    shown.press("no background")
    await shown.until(lambda: shown.title == "mean of 6 frames")
    assert (view.mapper.palette, shown.tab.choices.background) == (gray, 0)


async def test_a_background_that_is_not_there_yet_is_used_when_it_is(with_background: Shown) -> None:
    shown = with_background
    shown.choice.choose(9)
    await shown.until(lambda: shown.title == "frame of point 9")
    shown.tab.choices.background = 17
    note = "The background, point 17, is not measured yet."
    await shown.until(lambda: shown.choice.bar.state["note"] == note)
    assert shown.title == "frame of point 9"
    measure(shown.tab.live.runs["b"], 16, 18)
    await shown.until(lambda: shown.title == "frame of point 9 − point 17")
    shown.frames.bad = {0}
    shown.tab.choices.background = 1
    await shown.until(lambda: "cannot be read" in str(shown.choice.bar.state.get("note")))
    assert shown.title == "frame of point 9"
    shown.tab.choices.pinned = "a"
    await shown.until(lambda: shown.tab.choices.background == 0)


async def test_the_difference_of_color_frames_is_summed_over_the_colors(with_background: Shown) -> None:
    shown = with_background
    colors = np.stack([FRAMES[3], FRAMES[4], FRAMES[5]], axis=-1)
    draw(shown, 9, colors)
    assert shown.tab.frame.colors.visible
    shown.tab.frame.use_background(2, np.zeros_like(colors))
    assert not shown.tab.frame.colors.visible
    np.testing.assert_array_equal(shown.picture, FRAMES[3:6].sum(axis=0).astype(np.float32))
