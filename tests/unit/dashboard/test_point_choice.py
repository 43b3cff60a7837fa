"""The point whose frame is shown: what a tab does with clicks, keys and numbers, and what it says of the point."""

from __future__ import annotations

from typing import Any, cast

from tests.unit.dashboard.test_session import RunsInMemory, more, run_of, settle, tab_of

from snakemap.dashboard.panes.past_frame import PastFrameReader
from snakemap.dashboard.panes.point_choice import PointChoice
from snakemap.dashboard.session import Session


class NoFiles:
    """A reader that only notes of which point a frame is wanted."""

    def __init__(self, tab: Session) -> None:
        self.wanted: list[int] = []
        tab.show_past_frame = lambda run, source: self.wanted.append(tab.choices.point)


def ring(tab: Session) -> Any:
    """Where the ring is on the maps."""
    return tab.maps.point.data


async def chooser(*, points: int = 5) -> tuple[Session, PointChoice, NoFiles]:
    tab = tab_of(RunsInMemory(run_of("a", points=points), run_of("b", points=points)))
    files = NoFiles(tab)
    choice = PointChoice(tab, cast(PastFrameReader, files))
    await settle(tab)
    return tab, choice, files


async def test_a_click_chooses_the_point_and_a_double_click_leaves_what_was_chosen() -> None:
    tab, choice, files = await chooser()
    tab.notify("tap", 2.0, 0.0)
    await settle(tab)
    assert (tab.choices.point, files.wanted[-1]) == (3, 3)
    assert choice.bar.visible
    assert ring(tab) == {"x": [2.0], "y": [0.0]}
    state = choice.bar.state
    assert (state["point"], state["last"], state["trouble"]) == (3, 16, "")
    assert {one["name"]: one["value"] for one in state["counts"]} == dict.fromkeys(tab.maps.channels, 3.0)
    assert "row 0, column 2" in state["place"]
    tab.notify("tap", 0.0, 0.0)
    tab.notify("double tap")
    assert tab.choices.point == 3
    tab.notify("tap", 50.0, 50.0)  # beside the maps
    assert tab.choices.point == 3


KEYS: list[tuple[Any, int]] = [
    ("ArrowRight", 3), ("ArrowLeft", 1), ("ArrowUp", 7), ("ArrowDown", 2), ("Shift+ArrowRight", 3),
    ("Shift+ArrowLeft", 1), ("Enter", 2), (None, 2), ([], 2),
]  # fmt: skip
ASKED: list[tuple[Any, int]] = [
    ({"what": "go", "value": 16}, 16), ({"what": "go", "value": 17}, 16), ({"what": "go", "value": -1}, 1),
    ({"what": "go", "value": "9"}, 2), ({"what": "go", "value": 1e300}, 2), ({"what": "go", "value": None}, 2),
    ({"what": "step", "value": 1}, 3), ({"what": "step", "value": -1000}, 1), ({"what": "newest"}, 0), ({}, 2),
]  # fmt: skip


async def test_keys_and_buttons_choose_and_what_none_of_them_sends_does_nothing() -> None:
    tab, choice, _ = await chooser()
    tab.notify("walk", {"number": 1, "key": "ArrowRight"})
    assert tab.choices.point == 0  # nothing is chosen yet
    for number, (key, point) in enumerate(KEYS):
        choice.choose(2)
        tab.notify("walk", {"number": number, "key": key})
        assert tab.choices.point == point, key
    for number, (ask, point) in enumerate(ASKED):
        choice.choose(2)
        choice.bar.ask = {"number": number, **ask}
        assert tab.choices.point == point, ask
        assert choice.bar.visible == bool(point)


async def test_another_run_or_source_has_its_newest_frame_again() -> None:
    tab, choice, _ = await chooser()
    for name, value in (("pinned", "a"), ("source", "camera-2")):
        choice.choose(4)
        await settle(tab)
        assert ring(tab) != {"x": [], "y": []}
        setattr(tab.choices, name, value)
        await settle(tab)
        assert tab.choices.point == 0
        assert not choice.bar.visible
        assert ring(tab) == {"x": [], "y": []}


async def test_a_point_that_is_not_measured_says_so_until_it_is() -> None:
    tab, choice, _ = await chooser()
    choice.choose(6)
    await settle(tab)
    assert choice.bar.state["trouble"] == "not measured yet"
    more(tab.live.runs["b"], 6)
    tab.soon()
    tab.wake()
    await settle(tab)
    assert choice.bar.state["trouble"] == ""
    assert choice.bar.state["counts"][0]["value"] == 6.0


async def test_without_a_run_nothing_can_be_chosen() -> None:
    tab = tab_of(RunsInMemory())
    choice = PointChoice(tab, cast(PastFrameReader, NoFiles(tab)))
    await settle(tab)
    tab.notify("tap", 0.0, 0.0)
    choice.choose(3)
    choice.bar.ask = {"what": "go", "value": 3}
    assert tab.choices.point == 0
