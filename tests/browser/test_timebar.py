"""The time bar in Chromium: a run is scrubbed back and played while the live run goes on, and nobody else notices."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import h5py
import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.support.browser import CHANNELS, Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.stack import Stack

POINTS = 80


STEP_S = 30.0
"""Seconds between two pieces of a run, by the clock of the store: playing takes time on a slow machine, too."""


@pytest.fixture
def run(redis_url: str) -> MadeUpRun:
    """A run that goes on; its first forty points came over five minutes."""
    return grown(MadeUpRun(redis_url, seed=3))


def grown(run: MadeUpRun) -> MadeUpRun:
    """A run with forty points, four at a time."""
    for first in range(1, 41, 4):
        run.later(STEP_S)
        run.add(first, first + 3)
    return run


def points(shown: Shown) -> int:
    return int(np.isfinite(shown.image("total")).sum())


def shows(shown: Shown, run: MadeUpRun, last: int) -> bool:
    """Whether the maps are those of so many points."""
    expected, maps = run.expected(last), shown.maps()
    return all(np.array_equal(maps[name], expected[name], equal_nan=True) for name in CHANNELS)


def scrub(shown: Shown, share: float) -> None:
    """Drags the hand to a share of the bar, once the bar has the span of the run."""
    shown.wait(lambda: shown.page.locator(".timebar .hand").evaluate("(hand) => Number(hand.max) > Number(hand.min)"))
    box = shown.page.locator(".timebar .hand").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    now = shown.page.locator(".timebar .hand").evaluate("(hand) => (hand.value - hand.min) / (hand.max - hand.min)")
    inner = box["width"] - 13  # the hand stays within the bar
    shown.page.mouse.move(box["x"] + 6.5 + now * inner, middle)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 6.5 + share * inner, middle, steps=8)
    shown.page.mouse.up()


def moments(shown: Shown) -> list[int | None]:
    """The moment that the hand has asked for, and the one that the server shows or prepares; ms since 1970."""
    return shown.page.evaluate(
        """() => { const bar = sm.models().find((model) => model.data?.state?.speeds).data
                   return [bar.ask.value ?? null, bar.state.moment] }"""
    )


def settled(shown: Shown, run: MadeUpRun) -> int:
    """The number of points on the maps, once those of the hand's last move are drawn."""
    shown.wait(lambda: moments(shown)[0] is not None and len(set(moments(shown))) == 1)
    then = run.reached(moments(shown)[1] or 0)
    shown.wait(lambda: shows(shown, run, then))
    return then


def test_a_run_is_scrubbed_back_while_it_goes_on_and_nobody_else_notices(
    pages: Stack, chromium: Browser, tab: Shown, run: MadeUpRun
) -> None:
    other = open_page(chromium, f"{pages.url}/dashboard")
    for shown in (tab, other):
        shown.wait(lambda shown=shown: shows(shown, run, 40))
    scrub(tab, 0.5)
    tab.wait(lambda: 0 < points(tab) < 40)
    then = settled(tab, run)
    assert 0 < then < 40
    tab.wait(lambda: sum(tab.bars()) == then)
    tab.wait(lambda: tab.table()["total"][-1] == str(then))
    tab.wait(lambda: tab.lights()[0].startswith("as of "))
    tab.wait(lambda: f"{then} of {POINTS} points" in tab.text(".timebar .moment"))
    run.add(41, 60)
    other.wait(lambda: shows(other, run, 60))
    tab.wait(lambda: "60 of 80 points" in tab.text(".figures"))
    assert shows(tab, run, then)
    assert other.page.locator(".timebar").get_attribute("data-at") == "now"
    tab.page.locator(".timebar .live").click()
    tab.wait(lambda: shows(tab, run, 60))
    run.add(61, POINTS)
    run.stop()
    for shown in (tab, other):
        shown.wait(lambda shown=shown: shows(shown, run, POINTS))
    other.page.close()
    assert other.errors == []


def test_a_run_that_ended_is_played_from_its_beginning_to_its_end(tab: Shown, run: MadeUpRun) -> None:
    run.add(41, POINTS)
    run.stop()
    tab.wait(lambda: shows(tab, run, POINTS))
    tab.wait(lambda: tab.text(".timebar .live") == "End")
    tab.page.locator(".timebar .speed").select_option("100")  # three seconds
    tab.page.locator(".timebar .play").click()
    seen: list[int] = []

    def ended() -> bool:
        seen.append(points(tab))
        return tab.page.locator(".timebar").get_attribute("data-at") == "now" and seen[-1] == POINTS

    tab.wait(lambda: tab.page.locator(".timebar").get_attribute("data-at") == "then")
    tab.wait(ended)
    played = seen[seen.index(min(seen)) :]
    assert played == sorted(played)
    assert len(set(played)) > 2, seen
    assert shows(tab, run, POINTS)


def test_the_hand_moves_by_keyboard_and_play_pauses_where_it_is(tab: Shown, run: MadeUpRun) -> None:
    tab.wait(lambda: shows(tab, run, 40))
    hand = tab.page.locator(".timebar .hand")
    hand.press("Home")
    tab.wait(lambda: points(tab) == 0)
    tab.page.locator(".timebar .speed").select_option("1")
    tab.page.locator(".timebar .play").click()
    tab.wait(lambda: tab.page.locator(".timebar .play").get_attribute("data-shows") == "pause")
    tab.page.locator(".timebar .play").click()  # at once: on a slow machine the run is soon over
    tab.wait(lambda: tab.page.locator(".timebar .play").get_attribute("data-shows") == "play")
    _, moment = moments(tab)
    assert moment is not None
    then = run.reached(moment)
    assert then < 40
    tab.wait(lambda: shows(tab, run, then))
    run.add(41, 44)
    tab.wait(lambda: "44 of 80 points" in tab.text(".figures"))
    assert moments(tab)[1] == moment
    assert shows(tab, run, then)
    hand.press("End")
    tab.wait(lambda: shows(tab, run, 44))
    tab.wait(lambda: tab.page.locator(".timebar .live").is_disabled())


def test_a_link_with_a_moment_shows_the_run_as_it_was(pages: Stack, chromium: Browser, run: MadeUpRun) -> None:
    shown = open_page(chromium, f"{pages.url}/dashboard")
    shown.wait(lambda: shows(shown, run, 40))
    scrub(shown, 0.3)
    shown.wait(lambda: 0 < points(shown) < 40)
    then, moment = settled(shown, run), str(moments(shown)[1])
    shown.wait(lambda: parse_qs(urlsplit(shown.page.evaluate("location.href")).query).get("at") == [moment])
    address = shown.page.evaluate("location.href")
    run.add(41, 60)
    other = open_page(chromium, address)
    other.wait(lambda: shows(other, run, then))
    other.wait(lambda: other.lights()[0].startswith("as of "))
    shown.page.go_back()
    shown.wait(lambda: shows(shown, run, 60))
    for one in (shown, other):
        one.page.close()
        assert one.errors == []


def test_the_frame_of_a_moment_is_read_from_its_file(
    pages: Stack, chromium: Browser, tab: Shown, redis_url: str
) -> None:
    frames = np.arange(POINTS, dtype=np.uint8)[:, None, None] + np.zeros((1, 24, 8), np.uint8)
    with h5py.File(pages.data_root / "frames.h5", "w") as file:
        file["data"] = frames
    run = grown(MadeUpRun(redis_url, file=(pages.data_root / "frames.h5").as_uri()))
    tab.wait(lambda: shows(tab, run, 40))
    for share in (0.4, 0.7, 0.2):
        scrub(tab, share)
        tab.wait(lambda: 0 < points(tab) < 40)
        then = settled(tab, run)
        tab.wait(lambda then=then: tab.page.evaluate("sm.named('frame').title.text") == f"frame of point {then}")
        seen = tab.page.evaluate(
            """() => Array.from(sm.named('frame').renderers.find((one) => one.visible && one.glyph.type === 'Image')
                     .data_source.data.image[0])"""
        )
        assert set(seen) == {then - 1}
    (pages.data_root / "frames.h5").unlink()
    scrub(tab, 0.5)
    tab.wait(lambda: "cannot be read" in tab.page.evaluate("sm.named('frame').title.text"))


def test_a_moment_that_is_none_of_the_run_is_told_of(pages: Stack, chromium: Browser, run: MadeUpRun) -> None:
    shown = open_page(chromium, f"{pages.url}/dashboard?run={run.uid}&at=5")
    shown.wait(lambda: shows(shown, run, 40))
    shown.page.get_by_text("the time in this link is outside this run").first.wait_for()
    shown.page.close()
    assert shown.errors == []
