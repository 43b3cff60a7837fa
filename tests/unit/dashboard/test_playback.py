"""Looking back in a run: what one tab shows then, and what nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from tests.support.beamline import FakeClock, FakeStore, Scan
from tests.support.patience import patiently
from tests.support.scans import documents, stop
from tests.unit.dashboard.test_session import RunsInMemory, destroy, news_of, settle, tab_of

from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.dashboard import playback as playback_module
from snakemap.dashboard.panes.time_bar import TimeBarPane
from snakemap.dashboard.session import Session
from snakemap.errors import StoreUnavailable
from snakemap.live.run_history import RunHistory
from snakemap.render.cache import RenderCache

POINTS = 60
SECOND_MS = 1000


class Beamline:
    """A run whose points come one a second, as all tabs see it and as the store has it."""

    def __init__(self) -> None:
        self.store = FakeStore(FakeClock())
        self.scan = Scan(shape=(6, 10))
        self.told = documents(self.scan, points=POINTS)
        self.run = Run(self.told[0].doc)
        self.live = RunsInMemory(self.run)
        self.live.past = RunHistory(self.store, defaults=ScanDefaults())  # type: ignore[arg-type]
        self.begun = round(1000 * self.store.clock.time)

    async def go_on(self, *, points: int) -> None:
        """Has the next points come; the first time with what goes before them."""
        count = points if self.run.version else points + 4
        for document in self.told[self.run.version : self.run.version + count]:
            await self.append(document)

    async def append(self, document: Any) -> None:
        (cursor,) = await self.store.append([document])
        self.run.apply(document, cursor=cursor)
        self.store.clock.time += 1

    def moment_of(self, points: int) -> int:
        """When the run had so many points."""
        return self.begun + (3 + points) * SECOND_MS


@pytest.fixture
async def beamline() -> Beamline:
    beamline = Beamline()
    await beamline.go_on(points=20)
    return beamline


@pytest.fixture
async def tab(beamline: Beamline) -> AsyncIterator[Session]:
    tab = tab_of(beamline.live)
    TimeBarPane(tab)
    await settle(tab)
    yield tab
    destroy(tab)


async def until(happens: Callable[[], bool], *tabs: Session) -> None:
    async with patiently(10):
        while not happens():
            await settle(*tabs)
            await asyncio.sleep(0.002)
    await settle(*tabs)


def drawn(tab: Session) -> int:
    """Points in the map that the browser has been told of as a whole, and since."""
    assert tab.pipeline.run is not None
    return tab.pipeline.run.points


async def test_a_tab_looks_back_while_the_run_goes_on_and_others_follow_it(beamline: Beamline, tab: Session) -> None:
    other = tab_of(beamline.live, levels=tab.pipeline.levels)
    await settle(other)
    tab.playback.go(beamline.moment_of(7))
    await until(lambda: drawn(tab) == 7, tab)
    await beamline.go_on(points=5)
    tab.soon()  # as after a second
    tab.wake()
    other.wake()
    await settle(tab, other)
    assert (drawn(tab), drawn(other)) == (7, 25)
    assert np.count_nonzero(np.isfinite(tab.maps.cells.data["total"][0])) == 7
    assert tab.pipeline.histogram().sum() == 7
    assert tab.pipeline.summaries()[3].points == 7
    assert tab.topbar.state["points"] == 25
    assert tab.topbar.state["lights"][0]["name"].startswith("as of ")
    tab.playback.live()
    await settle(tab)
    assert drawn(tab) == 25
    assert tab.pipeline.run is beamline.run
    destroy(other)


async def test_going_on_a_little_is_told_as_a_difference_and_going_back_as_a_whole(
    beamline: Beamline, tab: Session
) -> None:
    tab.playback.go(beamline.moment_of(7))
    await until(lambda: drawn(tab) == 7, tab)
    base = tab.page.base["drawing"]
    tab.playback.go(beamline.moment_of(9))
    await until(lambda: drawn(tab) == 9, tab)
    assert (tab.page.base["drawing"], len(news_of(tab)["cells"])) == (base, 2)
    tab.playback.go(beamline.moment_of(8))
    await until(lambda: drawn(tab) == 8, tab)
    assert tab.page.base["drawing"] == base + 1
    assert news_of(tab)["dim"] is True


async def test_what_was_chosen_stays_when_one_looks_back(beamline: Beamline, tab: Session) -> None:
    tab.choices.param.update(scale="log", channel="green", exchanged=True)
    tab.show_box((0.0, 4.0, 0.0, 4.0))
    tab.show_brush((0.2, 0.8))
    await settle(tab)
    box = tab.choices.box
    assert box is not None
    tab.playback.go(beamline.moment_of(7))
    await until(lambda: drawn(tab) == 7, tab)
    choices = tab.choices
    assert (choices.scale, choices.channel, choices.exchanged) == ("log", "green", True)
    assert (choices.box, choices.brush) == (box, (0.2, 0.8))


async def test_a_moment_before_all_is_the_beginning_and_one_after_all_is_live(beamline: Beamline, tab: Session) -> None:
    tab.playback.go(5)
    await until(lambda: tab.pipeline.run is not beamline.run, tab)
    assert (tab.playback.moment, drawn(tab)) == (beamline.begun, 0)
    tab.playback.go(beamline.moment_of(POINTS))
    await settle(tab)
    assert tab.playback.moment is None
    assert tab.pipeline.run is beamline.run


async def test_of_many_moments_only_the_last_one_counts(beamline: Beamline, tab: Session) -> None:
    asked: list[int] = []
    run_at = beamline.live.past.run_at

    async def counted(uid: str, moment_ms: int, **more: Any) -> Run:
        asked.append(moment_ms)
        await asyncio.sleep(0.02)
        return await run_at(uid, moment_ms, **more)

    beamline.live.past.run_at = counted  # type: ignore[method-assign]
    for points in range(1, 19):
        tab.playback.go(beamline.moment_of(points))
        await asyncio.sleep(0.002)
    await until(lambda: drawn(tab) == 18, tab)
    assert len(asked) < 9


async def test_a_run_is_played_to_its_end_and_is_live_then(
    beamline: Beamline, tab: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback_module, "STEP_S", 0.005)
    tab.playback.speed = 100
    seen: list[int] = []
    tab.on_tick(lambda: seen.append(drawn(tab)))
    tab.playback.play()
    await until(lambda: tab.playback.moment is None, tab)
    played = seen[seen.index(0) :]
    assert played == sorted(played)
    assert len(set(played)) > 5
    assert (tab.pipeline.run, tab.playback.playing) == (beamline.run, False)


async def test_a_pause_stays_where_it_is(beamline: Beamline, tab: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback_module, "STEP_S", 0.005)
    tab.playback.speed = 100
    tab.playback.play()
    await until(lambda: 3 < drawn(tab) < 20, tab)
    tab.playback.pause()
    await asyncio.sleep(0.05)
    await settle(tab)
    moment, points = tab.playback.moment, drawn(tab)
    await asyncio.sleep(0.05)
    await settle(tab)
    assert (tab.playback.moment, drawn(tab)) == (moment, points)
    assert moment is not None


async def test_turning_to_another_run_is_live_there(beamline: Beamline, tab: Session) -> None:
    tab.playback.go(beamline.moment_of(7))
    await until(lambda: drawn(tab) == 7, tab)
    other = Run({"uid": "other", "time": 2.0, "shape": [2, 2]})
    beamline.live.runs["other"] = beamline.live.shelf["other"] = other
    tab.choices.pinned = "other"
    await until(lambda: tab.pipeline.run is other, tab)
    assert tab.playback.moment is None


async def test_trouble_on_the_way_back_is_live_again(beamline: Beamline, tab: Session) -> None:
    tab.playback.go(beamline.moment_of(7))
    await until(lambda: drawn(tab) == 7, tab)
    beamline.store.fail()
    tab.playback.go(beamline.moment_of(3))
    await until(lambda: tab.playback.moment is None, tab)
    assert tab.pipeline.run is beamline.run
    with pytest.raises(StoreUnavailable):
        await beamline.store.read()
    beamline.store.down = False
    tab.playback.go(beamline.moment_of(3))
    await until(lambda: drawn(tab) == 3, tab)


async def test_a_tab_that_is_gone_folds_nothing_more(beamline: Beamline, tab: Session) -> None:
    tab.playback.go(beamline.moment_of(7))
    destroy(tab)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "playback"]


# the bar


async def asked(tab: Session, controls: TimeBarPane, what: str, value: Any = None) -> None:
    controls.bar.ask = {"number": len(controls.bar.ask) + 1, "what": what, "value": value}
    await settle(tab)


async def test_the_bar_tells_where_one_is_and_whoever_follows_the_newest_stays(beamline: Beamline) -> None:
    tab = tab_of(beamline.live)
    controls = TimeBarPane(tab)
    await settle(tab)
    state = controls.bar.state
    assert (state["first"], state["moment"], state["running"]) == (beamline.begun, None, True)
    assert state["text"].endswith("20 of 60 points")
    await asked(tab, controls, "go", float(beamline.moment_of(7)))
    await until(lambda: drawn(tab) == 7, tab)
    assert controls.bar.state["moment"] == beamline.moment_of(7)
    assert controls.bar.state["text"].endswith("7 of 60 points")
    assert tab.choices.pinned == "run"
    newer = Run({"uid": "newer", "time": 2.0, "shape": [2, 2]})
    beamline.live.runs["newer"], beamline.live.newest = newer, "newer"
    tab.wake()
    await settle(tab)
    assert drawn(tab) == 7
    await asked(tab, controls, "live")
    await until(lambda: tab.pipeline.run is newer, tab)
    assert tab.choices.pinned == ""
    destroy(tab)


async def test_coming_to_the_end_by_itself_stays_with_the_run_when_there_is_a_newer_one(beamline: Beamline) -> None:
    tab = tab_of(beamline.live)
    controls = TimeBarPane(tab)
    await settle(tab)
    for newest in ("newer", "run"):
        beamline.live.newest = "run"
        await asked(tab, controls, "go", beamline.moment_of(7))
        await until(lambda: drawn(tab) == 7, tab)
        beamline.live.newest = newest
        await asked(tab, controls, "go", beamline.moment_of(50))
        await until(lambda: tab.playback.moment is None, tab)
        assert tab.pipeline.run is beamline.run
        assert tab.choices.pinned == ("run" if newest == "newer" else "")
    destroy(tab)


async def test_the_bar_of_a_run_that_ended_says_so(beamline: Beamline) -> None:
    await beamline.go_on(points=40)
    await beamline.append(stop(beamline.scan))
    tab = tab_of(beamline.live, levels=RenderCache())
    controls = TimeBarPane(tab)
    await settle(tab)
    assert controls.bar.state["running"] is False
    await asked(tab, controls, "play")
    assert controls.bar.state["playing"] is True
    await asked(tab, controls, "pause")
    assert controls.bar.state["playing"] is False
    await asked(tab, controls, "speed", 100)
    assert controls.bar.state["speed"] == 100
    destroy(tab)


@pytest.mark.parametrize(
    ("what", "value"),
    [("go", None), ("go", "yesterday"), ("go", -5), ("go", float("nan")), ("go", 1e300), ("speed", 7), ("dance", 1)],
)
async def test_what_a_browser_cannot_mean_changes_nothing(
    beamline: Beamline, tab: Session, what: str, value: object
) -> None:
    controls = TimeBarPane(tab)
    await asked(tab, controls, what, value)
    assert (tab.playback.moment, tab.playback.speed, tab.choices.pinned) == (None, 10, "")
    controls.bar.ask = {"what": {}, "value": []}
    await settle(tab)
    assert tab.playback.moment is None
