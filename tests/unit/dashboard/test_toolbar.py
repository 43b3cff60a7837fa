"""The choices over the maps and the histogram."""

from __future__ import annotations

from typing import Any

from tests.unit.dashboard.test_session import RunsInMemory, run_of, settle, tab_of

from snakemap.dashboard.toolbar import Toolbar


async def test_the_chosen_channel_stays_marked_when_a_run_with_more_channels_comes() -> None:
    tab = tab_of(RunsInMemory(run_of("a"), run_of("b", channels=("red", "green", "blue", "spot"))))
    await settle(tab)
    root: Any = Toolbar(tab, stop_reading=lambda: None)._channel_choice().get_root()
    buttons = root.children[0]
    for run, channels in (("b", ["red", "green", "blue", "spot", "total"]), ("a", ["red", "green", "blue", "total"])):
        tab.choices.pinned = run
        await settle(tab)
        assert buttons.labels == channels
        assert buttons.labels[buttons.active] == tab.choices.channel == "total"


async def test_channels_whose_buttons_would_be_cut_off_are_in_a_menu() -> None:
    many = tuple(f"region {number}" for number in range(8))
    tab = tab_of(RunsInMemory(run_of("a"), run_of("b", channels=many)))
    tab.choices.pinned = "a"
    await settle(tab)
    root: Any = Toolbar(tab, stop_reading=lambda: None)._channel_choice().get_root()
    buttons, menu = root.children
    assert (buttons.visible, menu.visible) == (True, False)
    tab.choices.pinned = "b"
    await settle(tab)
    assert (buttons.visible, menu.visible, menu.options) == (False, True, [*many, "total"])
    tab.choices.channel = "region 3"
    assert menu.value == "region 3"
    tab.choices.pinned = "a"
    await settle(tab)
    assert (buttons.visible, menu.visible, tab.choices.channel) == (True, False, "total")
