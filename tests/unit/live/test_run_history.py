"""Runs as they were: whatever moment is asked for, and in whatever order, it is what a fold up to there gives."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.beamline import FakeClock, FakeStore, Scan
from tests.support.properties import examples
from tests.support.recordings import CASES, ordered
from tests.support.scans import documents, page, stop

from snakemap.core.documents import Document, Entry
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run, axes_summary
from snakemap.errors import RunNotFound, StoreUnavailable
from snakemap.live import run_history as past_module
from snakemap.live.run_history import CHECKPOINTS_MAX, RunHistory, moment_of
from snakemap.render.map_image import map_image
from snakemap.render.map_view import MapView

POINTS = 60
SECOND_MS = 1000


class CountingStore(FakeStore):
    """Counts the documents that are read of it."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.read_entries = 0

    async def run_entries(
        self, uid: str, *, after: str = "0", until: str = "", count: int = 1000
    ) -> AsyncIterator[list[Entry]]:
        async for entries in super().run_entries(uid, after=after, until=until, count=count):
            self.read_entries += len(entries)
            yield entries


async def scanned(*, points: int = POINTS, together: int = 2) -> tuple[CountingStore, str, list[Entry]]:
    """A store with a scan whose documents came some a second, and the entries of it."""
    scan, store = Scan(shape=(POINTS // 10, 10)), CountingStore()
    told = [*documents(scan, points=points), stop(scan)]
    for number in range(0, len(told), together):
        await store.append(told[number : number + together])
        await store.append([Document("start", {"uid": f"other {number}", "time": 1.0}, run=f"other {number}")])
        store.clock.time += 1
    return store, scan.uid, [entry for entry in store.entries if entry.run == scan.uid]


def folded(entries: list[Entry], moment_ms: int) -> Run:
    """The same run, folded by hand, a document at a time."""
    run = Run(entries[0].doc)
    for entry in entries:
        if entry is entries[0] or int(entry.cursor.partition("-")[0]) <= moment_ms:
            run.apply(entry.document, cursor=entry.cursor)
    return run


def alike(run: Run, other: Run) -> bool:
    same = [np.array_equal(*grids, equal_nan=True) for grids in zip(run.maps.grids, other.maps.grids, strict=True)]
    return all(same) and (run.status, run.points, run.cursor) == (other.status, other.points, other.cursor)


def past_of(store: FakeStore) -> RunHistory:
    return RunHistory(store, defaults=ScanDefaults())  # type: ignore[arg-type]


@examples(60)
@given(st.lists(st.tuples(st.integers(-3, 40), st.booleans()), min_size=1, max_size=12), st.sampled_from([1, 4, 50]))
async def test_every_moment_is_a_fold_up_to_it_in_whatever_order_they_are_asked_for(
    asked: list[tuple[int, bool]], spacing: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(past_module, "CHECKPOINT_ENTRIES", spacing)
        patch.setattr(past_module, "BATCH_ENTRIES", 3)
        store, uid, entries = await scanned(points=40)
        first, past, run = int(entries[0].cursor.partition("-")[0]), past_of(store), None
        for second, onward in asked:
            moment = first + second * SECOND_MS
            run = await past.run_at(uid, moment, onward=run if onward else None)
            assert alike(run, folded(entries, moment))


async def test_going_on_is_the_same_run_and_reads_only_what_is_new() -> None:
    store, uid, entries = await scanned()
    past, moment = past_of(store), int(entries[0].cursor.partition("-")[0]) + 10 * SECOND_MS
    run = await past.run_at(uid, moment)
    before, store.read_entries = run.points, 0
    assert await past.run_at(uid, moment + 2 * SECOND_MS, onward=run) is run
    assert (run.points - before, store.read_entries) == (4, 4)
    earlier = await past.run_at(uid, moment, onward=run)
    assert earlier is not run
    assert (earlier.points, run.points) == (before, before + 4)


async def test_going_back_a_little_does_not_begin_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "CHECKPOINT_ENTRIES", 8)
    monkeypatch.setattr(past_module, "BATCH_ENTRIES", 4)
    store, uid, entries = await scanned()
    past, last = past_of(store), int(entries[-1].cursor.partition("-")[0])
    await past.run_at(uid, last)
    store.read_entries = 0
    run = await past.run_at(uid, last - 2 * SECOND_MS)
    assert alike(run, folded(entries, last - 2 * SECOND_MS))
    assert store.read_entries <= 2 * past._checkpoints[uid].spacing


async def test_chapters_are_few_and_become_wider_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "CHECKPOINT_ENTRIES", 1)
    monkeypatch.setattr(past_module, "BATCH_ENTRIES", 1)
    store, uid, entries = await scanned(together=1)
    past = past_of(store)
    await past.run_at(uid, int(entries[-1].cursor.partition("-")[0]))
    checkpoints = past._checkpoints[uid]
    assert CHECKPOINTS_MAX / 2 <= len(checkpoints.states) <= CHECKPOINTS_MAX
    assert checkpoints.spacing >= 4
    assert all(one < other for one, other in pairwise(checkpoints.states))


async def test_chapters_have_bounds_in_bytes_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "CHECKPOINT_ENTRIES", 4)
    monkeypatch.setattr(past_module, "BATCH_ENTRIES", 4)
    store, uid, entries = await scanned()
    last = int(entries[-1].cursor.partition("-")[0])
    monkeypatch.setattr(past_module, "CHECKPOINT_BYTES_MAX", 100)
    past = past_of(store)
    assert (await past.run_at(uid, last)).points == POINTS
    assert past._checkpoints[uid].size == 0
    monkeypatch.setattr(past_module.pickle, "dumps", None)  # a large state is not made again and again
    assert (await past.run_at(uid, last)).points == POINTS
    monkeypatch.undo()
    monkeypatch.setattr(past_module, "CHECKPOINT_ENTRIES", 4)
    monkeypatch.setattr(past_module, "BATCH_ENTRIES", 4)
    past = past_of(store)
    await past.run_at(uid, last)
    assert past._checkpoints[uid].size > 0
    monkeypatch.setattr(past_module, "BYTES_MAX", 0)
    assert (await past.run_at(uid, last)).points == POINTS
    assert not past._checkpoints


async def test_a_run_that_is_not_there_is_not_found_and_leaves_nothing() -> None:
    store, uid, entries = await scanned()
    past = past_of(store)
    with pytest.raises(RunNotFound):
        await past.run_at("nobody", 1)
    assert not past._checkpoints
    store.entries = [entry for entry in store.entries if entry is not entries[0]]
    with pytest.raises(RunNotFound, match="first documents"):
        await past.run_at(uid, 2**50)
    store.fail()
    with pytest.raises(StoreUnavailable):
        await past.run_at(uid, 2**50)


async def test_what_nobody_can_use_is_left_out_as_it_was_when_it_came() -> None:
    store, uid, entries = await scanned(points=4)
    bad = Entry(entries[-2].cursor, "event_page", uid, None, {**entries[-2].doc, "data": "none"})
    store.entries.insert(store.entries.index(entries[-2]), bad)
    run = await past_of(store).run_at(uid, 2**50)
    assert run.points == 4
    assert moment_of(run) == int(entries[-1].cursor.partition("-")[0])


# what is kept of a run goes on as if it had never been away


def snaked_positions() -> list[Document]:
    """A scan of which nobody knows anything but the readbacks in its events, and whose sums come behind them."""
    scan = Scan(uid="readbacks", shape=(6, 10), start_extra={"shape": None})
    before = [document for document in documents(scan, points=0) if document.name != "stream_resource"]
    before[1].doc["data_keys"] |= {
        axis: {"dtype": "number", "shape": [], "source": axis, "units": "mm"} for axis in ("stage-x", "stage-y")
    }
    told = list(before)
    for seq_num in range(1, 61):
        row, column = divmod(seq_num - 1, 10)
        at = {"stage-x": 0.1 * (9 - column if row % 2 else column), "stage-y": 0.2 * row}
        event = {"uid": f"{seq_num}", "descriptor": before[1].doc["uid"], "seq_num": seq_num, "time": 1.0, "data": at}
        told.append(Document("event", {**event, "timestamps": {}, "filled": {}}, run=scan.uid))
        told.append(page(scan, before[-1].doc, [seq_num]))
    return told


RUNS: dict[str, Callable[[], list[Document]]] = {
    "a grid": lambda: [*documents(Scan(shape=(6, 10)), points=60), stop(Scan())],
    "positions": snaked_positions,
    **{case: partial(ordered, case) for case in CASES},
}


@pytest.mark.parametrize("case", RUNS)
def test_a_run_that_was_kept_goes_on_as_if_it_had_never_been_away(case: str) -> None:
    told = [document for document in RUNS[case]() if document.run == RUNS[case]()[0].run]
    whole = Run(told[0].doc)
    for document in told:
        whole.apply(document)
    for cut in {1, 2, 5, len(told) // 3, len(told) // 2, len(told) - 1}:
        run = Run(told[0].doc)
        for number, document in enumerate(told):
            run = pickle.loads(pickle.dumps(run)) if number == cut else run
            run.apply(document)
        assert alike(run, whole)
        assert axes_summary(run.raster) == axes_summary(whole.raster)
        assert run.summary() == whole.summary()
        view = MapView(exchanged=True)
        picture, other = map_image(run.maps, view), map_image(whole.maps, view)
        np.testing.assert_array_equal(picture.maps.grids, other.maps.grids)


def test_what_is_kept_of_a_run_is_not_changed_with_it() -> None:
    run = Run(documents(Scan(), points=0)[0].doc)
    for document in documents(Scan(), points=3):
        run.apply(document)
    kept = pickle.dumps(run)
    run.maps.assign([5], {"red": [1.0]})
    assert pickle.loads(kept).maps.visited == 3
