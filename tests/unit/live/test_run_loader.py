"""Tests of how a run is folded from the store, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.beamline import FakeClock, FakeStore, Scan
from tests.support.scans import documents, stop

from snakemap.core.documents import Document
from snakemap.core.geometry import ScanDefaults
from snakemap.errors import RunNotFound
from snakemap.live.run_loader import RunLoader


async def scanned() -> tuple[FakeStore, str]:
    scan, store = Scan(shape=(3, 10)), FakeStore(FakeClock())
    await store.append([*documents(scan, points=30), stop(scan)])
    return store, scan.uid


def loader_of(store: FakeStore) -> RunLoader:
    return RunLoader(store, defaults=ScanDefaults())  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "at_once"), [(1000, 0), (7, 0), (1000, 3), (5, 2)])
async def test_a_run_is_the_same_in_whatever_pieces_it_is_folded(count: int, at_once: int) -> None:
    store, uid = await scanned()
    whole = await loader_of(store).load(uid)
    folded = [one async for one in loader_of(store).extend(uid, count=count, at_once=at_once)]
    run, sizes = folded[-1][0], [entries for _, entries in folded]
    assert max(sizes) <= (at_once or count)
    assert (sum(sizes), run.cursor, run.status, run.points) == (len(store.entries), whole.cursor, whole.status, 30)
    np.testing.assert_array_equal(run.maps.grids, whole.maps.grids)


async def test_a_run_is_extended_by_what_came_after_its_cursor() -> None:
    store, uid = await scanned()
    loader = loader_of(store)
    run = await loader.load(uid)
    assert [entries async for _, entries in loader.extend(uid, run)] == []
    await store.append([Document("stop", {"run_start": uid, "uid": "again"}, run=uid)] * 2)
    assert [(one is run, entries) async for one, entries in loader.extend(uid, run)] == [(True, 2)]


async def test_a_run_without_its_beginning_is_not_found() -> None:
    store, uid = await scanned()
    del store.entries[0]
    with pytest.raises(RunNotFound, match="the first documents of run"):
        await loader_of(store).load(uid)
