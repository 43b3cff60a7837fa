"""The worker among fakes: what becomes of documents and frames, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.beamline import (
    SHAPE,
    Beamline,
    FakeClock,
    FakeStore,
    Scan,
    expected_map,
    expected_maps,
    folded,
    some_frames,
    worker_event,
)
from tests.support.patience import patiently
from tests.support.properties import examples

from snakemap.core.documents import Document, envelope
from snakemap.core.roi import Roi, default_rois
from snakemap.core.run import Run
from snakemap.core.source_status import SourceState, SourceStatus
from snakemap.errors import DocumentError, FileBroken, FileRefused, FrameError, SettingsError, StoreRefuses
from snakemap.ingest import ingest
from snakemap.ingest.derived_writer import still_wanted
from snakemap.ingest.priority_lock import PriorityLock
from snakemap.ingest.roi_selection import select_rois
from snakemap.ingest.timing import Timeouts
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.settings import load

BANDS = default_rois(SHAPE)
ALL = {number + 1: number for number in range(12)}


def maps(beamline: Beamline, uid: str = "run") -> Any:
    return folded(beamline.store.entries, uid).maps.grids


def visited(beamline: Beamline, source: str) -> int:
    """Points of a source of a run that are in the store."""
    if not beamline.store.of("start", "run"):
        return 0
    found = folded(beamline.store.entries, "run").sources.get(source)
    return found.maps.visited if found else 0


async def run_of(scan: Scan, *, bodies: list[Any] | None = None, files: bool = True, **beamline: Any) -> Beamline:
    """A beamline after a scan on which everything was published at once, settled."""
    async with Beamline(**beamline) as place:
        if files:
            place.files.frames |= scan.files
        place.publish(*(scan.whole() if bodies is None else bodies))
        await place.until_settled(scan.uid)
    return place


# the path of a point


async def test_every_announced_frame_becomes_a_pixel_of_its_sums() -> None:
    scan = Scan()
    beamline = await run_of(scan)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert beamline.summary()["status"] == "complete"
    assert beamline.summary()["points"] == 12


async def test_lost_announcements_of_a_fly_scan_are_made_up_for_as_soon_as_later_ones_come() -> None:
    """Two cameras with four frames a point, announced in batches; each loses another batch."""
    scan = Scan(frames=some_frames(48), each=4, others={"side": some_frames(48, seed=1)})
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        beamline.publish(*scan.opening())
        for key, batches in {"camera": ((0, 3), (6, 2)), "side": ((3, 5),)}.items():
            beamline.publish(*(scan.datum(first, count, key=key) for first, count in batches))
        began = beamline.clock.now()
        await beamline.until(lambda: beamline.points() == 8 and not beamline.summary().get("waiting", 1))
        assert beamline.clock.now() - began < 5
        seen = {point + 1: point for point in range(8)}
        run = folded(beamline.store.entries, "run")
        for key in ("camera", "side"):
            expected = expected_maps(scan, seen, BANDS, key=key)
            np.testing.assert_array_equal(run.sources[key].maps.grids, expected, err_msg=key)
        beamline.publish(*scan.data(8, 4), scan.stop())
        await beamline.until_settled("run")
    assert (beamline.summary()["status"], beamline.summary()["filled"]) == ("complete", 3)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_documents_stand_in_the_store_verbatim_and_in_order() -> None:
    scan = Scan()
    beamline = await run_of(scan)
    theirs = [entry for entry in beamline.store.entries if entry.name not in ("event_page", "settled")]
    theirs = [entry.doc for entry in theirs if entry.doc.get("name") != "snakemap"]
    assert theirs == [body["doc"] for body in scan.whole()]


async def test_a_point_is_in_the_store_before_the_next_one_is_announced() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(scan.start(), scan.descriptor(), scan.resource())
        for index in range(scan.size):
            before = beamline.clock.now()
            beamline.publish(scan.datum(index))
            await beamline.until(lambda index=index: beamline.points() == index + 1)
            assert beamline.clock.now() == before, "nobody waits on the path of a point"


async def test_what_is_queued_is_read_together() -> None:
    scan = Scan(shape=(20, 20), frames=some_frames(400))
    beamline = await run_of(scan)
    assert len(beamline.files.reads) < 100
    assert sum(batch.stop - batch.start for batch in beamline.files.reads if not batch.preview) <= 400


async def test_a_point_of_several_frames_is_their_sum() -> None:
    scan = Scan(frames=some_frames(48), each=4)
    beamline = await run_of(scan)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_sums_of_64_bits_are_stored_exactly() -> None:
    frames = np.full((12, *SHAPE), 2**58 + 1, dtype=np.uint64)
    scan = Scan(frames=frames)
    beamline = await run_of(scan)
    assert beamline.store.of("event_page")[0]["data"]["total"][0] == 24 * (2**58 + 1)


async def test_frames_of_floats_with_nan_leave_their_pixel_blank() -> None:
    frames = some_frames(12).astype(np.float32)
    frames[3, 0, 0] = np.nan
    scan = Scan(frames=frames)
    beamline = await run_of(scan)
    grids = maps(beamline)
    np.testing.assert_array_equal(grids, expected_maps(scan, ALL, BANDS))
    assert np.flatnonzero(np.isnan(grids[:, 0, 3])).tolist() == [0, 3], "red holds the pixel, and so does the total"
    assert "1 point of camera cannot be summed: their frames contain NaN" in beamline.summary()["note"]
    assert beamline.summary()["status"] == "complete"
    descriptor = beamline.store.of("descriptor")[-1]
    assert descriptor["data_keys"]["total"]["dtype_numpy"] == "<f8"


async def test_the_newest_frame_is_kept_for_the_screen() -> None:
    scan = Scan()
    beamline = await run_of(scan)
    frame, about = beamline.store.frames["run"]
    np.testing.assert_array_equal(frame, scan.frames[-1])
    assert about["seq_num"] == 12
    assert about["frame_shape"] == list(SHAPE)


async def test_frames_for_the_screen_come_at_most_four_times_a_second() -> None:
    scan = Scan(shape=(10, 10), frames=some_frames(100))
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(scan.start(), scan.descriptor(), scan.resource())
        for index in range(100):  # 20 points a second
            beamline.publish(scan.datum(index))
            await beamline.clock.advance(0.05)
        shown = [batch for batch in beamline.files.reads if batch.preview]
    assert 15 <= len(shown) <= 21


async def test_a_run_without_frames_is_settled_at_once() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        began = beamline.clock.now()
        beamline.publish(scan.start(), scan.stop())
        await beamline.until(lambda: bool(beamline.store.of("settled")))
        assert beamline.clock.now() == began
        await beamline.until_settled("run")
    assert beamline.summary()["status"] == "incomplete"
    assert beamline.store.of("settled")[0]["missing"] == 12


async def test_a_run_of_scalars_alone_is_settled_at_once() -> None:
    scan = Scan()
    descriptor = scan.descriptor()
    descriptor["doc"]["data_keys"] = {"diode": {"shape": [], "dtype": "number", "source": "x"}}
    events = [
        envelope("event", {"descriptor": "run-d", "seq_num": number, "data": {"diode": number / 4}}, task_id="task")
        for number in range(1, 13)
    ]
    async with Beamline() as beamline:
        began = beamline.clock.now()
        beamline.publish(scan.start(), descriptor, *events, scan.stop())
        await beamline.until(lambda: bool(beamline.store.of("settled")))
        assert beamline.clock.now() - began < 0.3
        await beamline.until_settled("run")
    assert beamline.summary()["status"] == "complete"
    assert beamline.store.of("settled")[0]["missing"] == 0


async def test_frames_of_a_baseline_stream_are_not_read() -> None:
    scan = Scan()
    baseline = scan.descriptor()
    baseline["doc"] |= {"name": "baseline", "uid": "baseline-d"}
    stray = scan.datum(0)
    stray["doc"] |= {"descriptor": "baseline-d"}
    beamline = await run_of(scan, bodies=[scan.start(), baseline, *scan.whole()[1:4], stray, scan.stop("abort")])
    assert beamline.summary()["status"] == "aborted"
    assert beamline.stats.errors == {}


# properties


@st.composite
def scans(draw: st.DrawFn) -> tuple[Scan, list[dict[str, Any]], dict[int, int]]:
    """A scan, its documents in order, and for every point the row that counts; the RunEngine may rewind."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    size = rows * columns
    bodies, counts = [], {}
    index, seq_num = 0, 1
    rewinds = draw(st.integers(0, 2))
    while seq_num <= size:
        count = draw(st.integers(1, size - seq_num + 1))
        bodies.append(("datum", index, count, seq_num))
        counts |= {seq_num + point: index + point for point in range(count)}
        index, seq_num = index + count, seq_num + count
        if rewinds and seq_num > 1 and draw(st.booleans()):
            rewinds -= 1
            seq_num = draw(st.integers(1, seq_num - 1))
    scan = Scan(shape=(rows, columns), frames=some_frames(index, seed=draw(st.integers(0, 9))))
    if draw(st.booleans()):
        scan.others = {"side": some_frames(index, shape=(3, 5), seed=11), "diode": np.arange(index) / 8}
    data = [body for _, index, count, seq_num in bodies for body in scan.data(index, count, seq_num=seq_num)]
    return scan, [*scan.opening(), *data, scan.stop()], counts


def assert_others(run: Run, scan: Scan, counts: dict[int, int]) -> None:
    """The other camera and the diode of a scan are those of numpy, where it has them."""
    if scan.others:
        side, scalars = run.sources["side"].maps, run.sources["scalars"].maps
        np.testing.assert_array_equal(side.grids, expected_maps(scan, counts, default_rois((3, 5)), key="side"))
        np.testing.assert_array_equal(scalars.grids[0], expected_map(scan, counts, "diode"))


@examples(60)
@given(scans(), st.data())
def test_replay_equals_live_whatever_happens_on_the_way(
    scan_of: tuple[Scan, list[dict[str, Any]], dict[int, int]], data: st.DataObject
) -> None:
    """Documents come twice; the worker is killed, the store goes away, in between; the end is the same."""
    scan, bodies, counts = scan_of
    accidents = data.draw(st.lists(st.sampled_from(["", "", "twice", "killed", "down"]), min_size=len(bodies)))

    async def live() -> None:
        async with Beamline() as beamline:
            beamline.files.frames |= scan.files
            for body, accident in zip(bodies, accidents, strict=False):
                beamline.publish(*([body, body] if accident == "twice" else [body]))
                await beamline.clock.advance(data.draw(st.sampled_from([0.0, 0.001, 0.3])))
                if accident == "killed":
                    await beamline.kill()
                    beamline.start()
                if accident == "down":
                    beamline.store.fail()
                    await beamline.clock.advance(0.5)
                    beamline.store.down = False
            await beamline.until_settled(scan.uid)
            assert beamline.worker is not None
            replayed = folded(beamline.store.entries, scan.uid)
            np.testing.assert_array_equal(replayed.maps.grids, expected_maps(scan, counts, BANDS))
            assert_others(replayed, scan, counts)
            for own in beamline.worker.reducer.reductions.values():  # none when it was restarted after the end
                np.testing.assert_array_equal(replayed.maps.grids, own.run.maps.grids)
                assert replayed.status == own.run.status
            assert replayed.status == beamline.summary()["status"] == "complete"
            assert beamline.stats.errors.keys() <= {"store_unavailable"}

    asyncio.run(live())


@examples(60)
@given(scans(), st.randoms(use_true_random=False))
def test_documents_in_any_order_make_the_same_maps(
    scan_of: tuple[Scan, list[dict[str, Any]], dict[int, int]], random: Any
) -> None:
    scan, bodies, counts = scan_of
    random.shuffle(bodies)

    async def live() -> None:
        async with Beamline() as beamline:
            beamline.files.frames |= scan.files
            for body in bodies:
                beamline.publish(body)
                await beamline.clock.advance(0.001)
            await beamline.until(
                lambda: beamline.summary().get("settled", False) and beamline.summary()["points"] == scan.size
            )
            await beamline.clock.advance(1)
            np.testing.assert_array_equal(maps(beamline, scan.uid), expected_maps(scan, counts, BANDS))
            assert_others(folded(beamline.store.entries, scan.uid), scan, counts)

    asyncio.run(live())


async def test_a_late_reader_catches_up_from_the_start() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:8])
        await beamline.until(lambda: beamline.points() == 5)
        halfway = folded(beamline.store.entries, "run")
        assert halfway.points == 5
        beamline.publish(*scan.whole()[8:])
        await beamline.until_settled("run")
        for entry in beamline.store.entries:
            if entry.run == "run" and int(entry.cursor.split("-")[0]) >= 0:
                halfway.apply(Document(entry.name, entry.doc, run="run"), cursor=entry.cursor)
    np.testing.assert_array_equal(halfway.maps.grids, maps(beamline))


async def test_a_run_played_again_changes_nothing() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")
        before, reads = maps(beamline), len(beamline.files.reads)
        beamline.publish(*scan.whole())
        await beamline.clock.advance(5)
        np.testing.assert_array_equal(maps(beamline), before)
        assert len(beamline.files.reads) == reads
        assert len(beamline.store.of("settled")) == 1


# several sources


def two_cameras(size: int = 12, **options: Any) -> Scan:
    """A scan of two cameras, whose frames differ in shape, and two scalars."""
    others = {"side": some_frames(size, shape=(3, 5), seed=5), "diode": np.arange(size) / 4, "x": np.arange(size) * 2.0}
    return Scan(frames=some_frames(size), others=others, **options)


async def test_each_camera_and_each_scalar_of_a_run_has_its_own_maps() -> None:
    scan = two_cameras()
    beamline = await run_of(scan)
    run = folded(beamline.store.entries, "run")
    assert list(run.sources) == ["camera", "side", "scalars"]
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert_others(run, scan, ALL)
    assert beamline.summary()["status"] == "complete"
    assert beamline.summary()["trouble"] == ""
    for entry in beamline.store.entries:
        if entry.name == "event_page":
            assert entry.doc["data"]["frame index"] == [seq_num - 1 for seq_num in entry.doc["seq_num"]]


async def test_each_camera_has_its_own_frame_for_the_screen() -> None:
    scan = two_cameras()
    beamline = await run_of(scan)
    assert set(beamline.store.frames) == {"run", "run side"}
    np.testing.assert_array_equal(beamline.store.frames["run"][0], scan.frames[-1])
    np.testing.assert_array_equal(beamline.store.frames["run side"][0], scan.others["side"][-1])


@pytest.mark.parametrize(("told", "fits"), [((1, 3, 0, 2), True), ((1, 6, 0, 2), False)])
async def test_rois_of_the_setting_serve_another_camera_only_where_they_fit(told: Any, *, fits: bool) -> None:
    scan = two_cameras()
    beamline = await run_of(scan, rois={"spot": told})
    run = folded(beamline.store.entries, "run")
    assert list(run.rois) == ["spot"]
    assert list(run.sources["side"].rois) == (["spot"] if fits else ["red", "green", "blue"])
    assert beamline.summary()["trouble"] == ""


async def test_signed_and_floating_sums_are_told_as_what_they_are() -> None:
    side = some_frames(12, shape=(3, 5)).astype(np.int32) - 2000
    scan = Scan(others={"side": side, "third": side.astype(np.float32) / 4})
    beamline = await run_of(scan)
    run = folded(beamline.store.entries, "run")
    told = {doc["configuration"]["snakemap"]["data"]["data_key"]: doc for doc in beamline.store.of("descriptor")[1:]}
    dtypes = {key: doc["data_keys"]["total"]["dtype_numpy"] for key, doc in told.items()}
    assert dtypes == {"camera": "<u8", "side": "<i8", "third": "<f8"}
    totals = run.sources["side"].maps.grids[-1]
    np.testing.assert_array_equal(np.sort(totals, axis=None), np.sort(side.sum(axis=(1, 2))))


async def test_scalars_of_a_step_scan_cost_few_requests_and_are_hardly_late() -> None:
    scan = two_cameras(100, shape=(10, 10))
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        beamline.publish(*scan.opening())
        for index in range(100):  # ten points a second
            beamline.publish(*scan.data(index))
            await beamline.clock.advance(0.1)
            run = folded(beamline.store.entries, "run")
            assert run.points == index + 1
            assert index + 1 - run.sources["scalars"].maps.visited <= 2
        assert len(beamline.files.scalar_reads) <= 2 * 51


async def test_a_camera_whose_file_is_late_holds_up_no_other_source() -> None:
    scan = two_cameras()
    async with Beamline() as beamline:
        files = scan.files
        late = files.pop(scan.uri_of("side"))
        beamline.files.frames |= files
        beamline.publish(*scan.whole()[:-1])
        began = beamline.clock.now()
        await beamline.until(lambda: visited(beamline, "camera") == 12)
        await beamline.until(lambda: visited(beamline, "scalars") == 12)
        assert beamline.clock.now() - began < 0.5
        beamline.files.frames[scan.uri_of("side")] = late
        beamline.publish(scan.stop())
        await beamline.until_settled("run")
        assert_others(folded(beamline.store.entries, "run"), scan, ALL)


async def test_a_scalar_that_comes_in_another_file_after_its_frames_is_waited_for() -> None:
    scan = two_cameras()
    async with Beamline() as beamline:
        positions = scan.uri_of("x")
        beamline.files.frames |= scan.files | {positions: scan.others["x"][:0]}
        beamline.publish(*scan.whole()[:-1])
        for stop in range(12):
            beamline.files.frames[positions] = scan.others["x"][:stop]
            await beamline.clock.advance(0.3)
        beamline.publish(scan.stop())
        await beamline.clock.advance(0.3)
        beamline.files.frames[positions] = scan.others["x"]
        await beamline.until_settled("run")
        run = folded(beamline.store.entries, "run")
        assert run.streams["primary"].files["x"].waiting == run.streams["primary"].files["x"].given_up == 0
        seq_nums = [page["seq_num"] for page in beamline.store.of("event_page") if "x" in page["data"]]
        assert sorted(itertools.chain(*seq_nums)) == list(range(1, 13))
        assert beamline.stats.errors == {}


async def test_points_of_another_camera_that_cannot_be_read_are_told_in_words_and_not_as_missing() -> None:
    scan = two_cameras()
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        beamline.files.trouble[scan.uri_of("side")] = FileBroken("run-side.h5 is not an HDF5 file")
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")
    note = beamline.store.of("settled")[0]
    assert note["missing"] == 0
    assert note["reason"] == "run-side.h5 is not an HDF5 file. 12 points of side could not be read."
    assert beamline.summary()["status"] == "complete"


async def test_what_no_document_announced_is_filled_for_every_source() -> None:
    scan = two_cameras()
    beamline = await run_of(scan, bodies=[*scan.opening(), *scan.data(0, 5), scan.stop("abort")])
    run = folded(beamline.store.entries, "run")
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert_others(run, scan, ALL)
    assert run.filled == 7
    assert beamline.store.of("settled")[0]["filled"] == 7


async def test_the_tail_of_an_aborted_fly_scan_of_unknown_shape_is_filled() -> None:
    """Seen: 84 frames announced, 97 in the file."""
    scan = Scan(frames=some_frames(97), start_extra={"shape": None})
    beamline = await run_of(scan, bodies=[*scan.opening(), *scan.data(0, 84), scan.stop("abort")])
    assert beamline.summary()["points"] == 97
    assert beamline.summary()["filled"] == 13
    assert beamline.store.of("settled")[0]["filled"] == 13


async def test_a_column_that_is_longer_than_what_was_written_to_it_makes_no_points_of_its_own() -> None:
    scan = Scan(frames=some_frames(20), start_extra={"shape": None}, others={"diode": np.full(5000, np.nan)})
    scan.others["diode"][:20] = np.arange(20)
    beamline = await run_of(scan, bodies=[*scan.opening(), *scan.data(0, 8), scan.stop("abort")])
    run = folded(beamline.store.entries, "run")
    assert run.points == run.sources["scalars"].maps.visited == 20
    assert run.raster.size <= 100


async def test_the_same_data_key_in_two_streams_makes_two_sources() -> None:
    scan, dark = Scan(), Scan(uid="run-dark", stream="dark", frames=some_frames(3, seed=8))
    bodies = [dark.descriptor(), dark.resource(), *dark.data(0, 3)]
    for body in bodies:
        body["doc"] |= {"run_start": "run"} if "run_start" in body["doc"] else {}
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files | dark.files
        beamline.publish(*scan.whole()[:8], *bodies, *scan.whole()[8:-1])
        beamline.publish(scan.stop(num_events={"primary": 12, "dark": 3}))
        await beamline.until_settled("run")
    run = folded(beamline.store.entries, "run")
    assert list(run.sources) == ["camera", "dark: camera"]
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    totals = run.sources["dark: camera"].maps.grids[-1].reshape(-1)
    np.testing.assert_array_equal(totals[~np.isnan(totals)], dark.frames.sum(axis=(1, 2)))
    assert set(beamline.store.frames) == {"run", "run dark: camera"}


async def test_a_stream_of_dark_frames_that_comes_first_keeps_its_sums_apart_from_those_of_the_scan() -> None:
    scan, dark = Scan(), Scan(uid="run-dark", stream="dark", frames=some_frames(3, seed=8))
    bodies = [dark.descriptor(), dark.resource(), *dark.data(0, 3)]
    for body in bodies:
        body["doc"] |= {"run_start": "run"} if "run_start" in body["doc"] else {}
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files | dark.files
        beamline.publish(scan.start(), *bodies)
        await beamline.until(lambda: bool(beamline.store.of("event_page")))
        beamline.publish(*scan.whole()[1:])
        await beamline.until_settled("run")
    run = folded(beamline.store.entries, "run")
    assert list(run.sources) == ["camera", "dark: camera"]
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    totals = run.sources["dark: camera"].maps.grids[-1].reshape(-1)
    np.testing.assert_array_equal(totals[~np.isnan(totals)], dark.frames.sum(axis=(1, 2)))


async def test_two_cameras_over_a_restart_are_read_once() -> None:
    scan = two_cameras()
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        middle = len(scan.opening()) + 4 * 6
        beamline.publish(*scan.whole()[:middle])
        await beamline.until(lambda: visited(beamline, "scalars") == 6)
        await beamline.clock.advance(1)
        await beamline.kill()
        beamline.start()
        beamline.publish(*scan.whole()[middle:])
        await beamline.until_settled("run")
    assert_others(folded(beamline.store.entries, "run"), scan, ALL)
    for uri in scan.files:
        batches = [batch for batch in (*beamline.files.reads, *beamline.files.scalar_reads) if batch.uri == uri]
        read = sorted(row for batch in batches for row in range(batch.start, batch.stop))
        assert read[:11] == list(range(11)), uri  # the last one may be read again for the screen


async def test_a_rewind_announced_just_before_the_worker_is_killed_is_read_after_its_restart() -> None:
    scan = two_cameras(15)
    counts = {seq_num: seq_num - 1 if seq_num < 3 else seq_num + 2 for seq_num in range(1, 13)}
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        beamline.publish(*scan.opening(), *scan.data(0, 5))
        await beamline.until(lambda: visited(beamline, "scalars") == 5)
        await beamline.clock.advance(1)
        await beamline.kill()
        beamline.publish(*scan.data(5, 3, seq_num=3))  # nobody is there to read it
        beamline.start()
        beamline.publish(*scan.data(8, 7, seq_num=6), scan.stop())
        await beamline.until_settled("run")
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, counts, BANDS))
    assert_others(folded(beamline.store.entries, "run"), scan, counts)


async def test_a_store_that_has_lost_a_run_gets_all_its_sources_again() -> None:
    scan = two_cameras()
    descriptor = scan.descriptor()
    descriptor["doc"]["data_keys"]["motor"] = {"shape": [], "dtype": "number", "source": "x"}
    events = [
        envelope("event", {"descriptor": "run-d", "seq_num": number, "data": {"motor": number / 4}}, task_id="task")
        for number in range(1, 13)
    ]
    opening, points = scan.opening(), [body for index in range(6) for body in scan.data(index)]
    async with Beamline() as beamline:
        beamline.files.frames |= scan.files
        beamline.publish(opening[0], descriptor, *opening[2:], *points, *events[:6])
        await beamline.until(lambda: beamline.summary().get("points") == 6)
        await beamline.clock.advance(1)
        beamline.store.flush()
        await beamline.until(lambda: beamline.summary().get("points") == 6)
        beamline.publish(*scan.data(6, 6), *events[6:], scan.stop())
        await beamline.until_settled("run")
    run = folded(beamline.store.entries, "run")
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert_others(run, scan, ALL)
    scalars = run.sources["scalars"].maps
    assert np.sort(scalars.grids[scalars.channels.index("motor")], axis=None).tolist() == [n / 4 for n in range(1, 13)]


# what a file holds and documents do not say


async def test_on_stop_the_frames_that_were_never_announced_are_filled_from_the_file() -> None:
    scan = Scan()
    beamline = await run_of(scan, bodies=[*scan.whole()[:8], scan.stop("abort")])
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert beamline.summary()["status"] == "aborted"
    assert beamline.store.of("settled")[0] | {"time": 0} == {
        "run_start": "run",
        "time": 0,
        "stop": "run-stop",
        "points": 12,
        "missing": 0,
        "filled": 7,
        "reason": "",
    }


async def test_frames_that_reach_the_file_after_the_stop_are_filled_too() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames[:5]
        beamline.publish(*scan.whole()[:8], scan.stop("abort"))
        await beamline.until(lambda: beamline.points() == 5)
        await beamline.clock.advance(0.7)
        beamline.files.frames[scan.uri] = scan.frames[:9]
        await beamline.until_settled("run")
        assert beamline.points() == 9


async def test_an_aborted_run_is_not_filled_beyond_its_file() -> None:
    scan = Scan(frames=some_frames(6))
    beamline = await run_of(scan, bodies=[*scan.whole()[:8], scan.stop("abort")])
    assert beamline.points() == 6
    assert beamline.store.of("settled")[0]["missing"] == 6


async def test_on_restart_what_the_file_holds_is_filled_while_the_run_goes_on() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: beamline.points() == 2 and bool(beamline.store.runs["run"]))
        await beamline.kill()
        beamline.start()
        await beamline.until(lambda: beamline.points() == 12)
        assert "stop" not in {entry.name for entry in beamline.store.entries}


async def test_what_was_missed_while_the_worker_was_away_is_filled_on_stop() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: beamline.points() == 2)
        beamline.publish(scan.whole()[-2], scan.stop())  # all others were lost on their way
        await beamline.until_settled("run")
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
        assert beamline.summary()["status"] == "complete"


async def test_a_run_that_stopped_while_the_worker_was_away_is_settled_on_restart() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: beamline.points() == 2)
        await beamline.kill()
        beamline.publish(*scan.whole()[5:])
        beamline.start()
        await beamline.until_settled("run")
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_no_frame_is_read_twice_over_a_restart() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:9])
        await beamline.until(lambda: beamline.points() == 6)
        await beamline.kill()
        beamline.start()
        beamline.publish(*scan.whole()[9:])
        await beamline.until_settled("run")
    read = [row for batch in beamline.files.reads for row in range(batch.start, batch.stop)]
    assert sorted(read)[:11] == list(range(11))  # the last one may be read again for the screen


# rewinding


async def test_a_frame_announced_again_while_it_is_being_read_counts() -> None:
    """The RunEngine rewinds while the first frame of the point is still on its way through the worker."""
    scan = Scan(frames=some_frames(13))
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(scan.start(), scan.descriptor(), scan.resource(), scan.datum(0))
        await beamline.until(lambda: bool(beamline.files.reads))
        beamline.publish(scan.datum(1, seq_num=1))
        rest = [scan.datum(index + 1, seq_num=index + 1) for index in range(1, 12)]
        beamline.publish(*rest, scan.stop())
        await beamline.until_settled("run")
        counts = {seq_num: seq_num for seq_num in range(1, 13)}
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, counts, BANDS))


def test_a_piece_is_wanted_only_where_its_points_were_not_announced_again() -> None:
    scan = Scan()
    run = Run(scan.start()["doc"])
    for body in (scan.descriptor(), scan.resource(), scan.datum(0, 6)):
        run.apply(Document(body["name"], body["doc"]))
    row_range = run.ledger.pending()
    assert row_range is not None
    assert still_wanted(run.ledger, row_range) == [row_range]
    run.apply(Document("stream_datum", scan.datum(6, 2, seq_num=3)["doc"]))
    assert still_wanted(run.ledger, row_range) == [row_range.part(0, 2), row_range.part(4, 2)]
    assert run.ledger.pending() == replace(row_range, index=6, seq_num=3, count=2)


# turns


async def test_turns_go_to_the_lowest_rank_and_to_the_first_of_these_and_are_never_lost() -> None:
    turns, order = PriorityLock(), []

    async def read(name: str, rank: int) -> None:
        async with turns.take(rank):
            order.append(name)
            await asyncio.sleep(0)

    names = [("first", 1), ("side", 1), ("gone", 0), ("main", 0), ("diode", 0)]
    tasks = {name: asyncio.create_task(read(name, rank)) for name, rank in names}
    await asyncio.sleep(0)
    tasks["gone"].cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert order == ["first", "main", "diode", "side"]
    async with patiently(1):
        await read("last", 5)


# ROIs


def regions(start: dict[str, Any], setting: Any = None, *, frame_shape: tuple[int, int] = (100, 200)) -> Any:
    return select_rois(Run(Scan(start_extra=start).start()["doc"]), setting, frame_shape=frame_shape)


@pytest.mark.parametrize(
    ("start", "setting", "rois"),
    [
        ({}, None, default_rois((100, 200))),
        ({}, {"spot": (1, 2, 3, 4)}, (Roi("spot", 1, 2, 3, 4),)),
        ({"rois": {"red": [0, 100, 0, 200]}}, {"spot": (1, 2, 3, 4)}, (Roi("red", 0, 100, 0, 200),)),
    ],
)
def test_rois_come_from_the_start_document_else_the_setting_else_three_bands(
    start: dict[str, Any], setting: Any, rois: Any
) -> None:
    assert regions(start, setting).rois == rois
    assert regions(start, setting).trouble == ""


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"red": [0, 101, 0, 10]}, "reaches beyond the frame, which has 100 rows and 200 columns"),
        ({"red": [5, 5, 0, 10]}, "is not y0 < y1"),
        ({"red": [0, 1]}, "are not rectangles"),
        ({}, "are not rectangles by name"),
        ("red", "are not rectangles"),
        ({"total": [0, 1, 0, 1]}, "none of them called total"),
    ],
)
def test_rois_that_cannot_be_used_give_way_to_three_bands_and_say_why(told: Any, words: str) -> None:
    found = regions({"rois": told})
    assert found.rois == default_rois((100, 200))
    assert words in found.trouble
    assert found.trouble.endswith("Three equal bands are used instead.")


def test_a_frame_too_small_for_bands_has_a_total_alone() -> None:
    found = regions({}, frame_shape=(2, 5))
    assert found.rois == ()
    assert "Only the total is drawn" in found.trouble


async def test_rois_that_cannot_be_used_are_told_in_the_summary_and_again_after_a_restart() -> None:
    scan = Scan(start_extra={"rois": {"red": [0, 100, 0, 100]}})
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:6])
        await beamline.until(lambda: beamline.summary().get("points") == 3)
        assert "ROI red (rows 0 to 100, columns 0 to 100)" in beamline.summary()["note"]
        await beamline.kill()
        beamline.rois = {"other": (0, 1, 0, 1)}  # a run keeps the ROIs that it began with
        beamline.start()
        beamline.publish(*scan.whole()[6:])
        await beamline.until_settled("run")
    assert "Three equal bands are used instead." in beamline.summary()["note"]
    assert "Three equal bands are used instead." in beamline.store.of("settled")[0]["reason"]
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_rois_of_the_setting_are_summed() -> None:
    scan = Scan()
    beamline = await run_of(scan, rois={"spot": (1, 3, 0, 2), "dot": (5, 6, 3, 4)})
    rois = [Roi("spot", 1, 3, 0, 2), Roi("dot", 5, 6, 3, 4)]
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, rois))


async def test_a_frame_shape_that_no_descriptor_tells_is_read_from_the_file() -> None:
    scan = Scan(frame_shape=(None, None))  # type: ignore[arg-type]
    beamline = await run_of(scan)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_frames_of_another_shape_than_promised_are_not_summed_and_said_so() -> None:
    scan = Scan(frame_shape=(12, 8))
    beamline = await run_of(scan)
    assert "frames of (6, 4), and (12, 8) were promised" in beamline.summary()["trouble"]
    assert beamline.summary()["unreadable"] == 12


# messages that cannot be used


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{not JSON", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "a list where an object was expected"),
        (b'{"name": "chapter", "doc": {}}', "no document is called 'chapter'"),
        (b'{"name": "start", "doc": {"time": 1}}', "a start without a usable 'uid'"),
        (b'{"hello": "world"}', "an object that is no known event"),
    ],
)
async def test_a_poisoned_message_is_logged_counted_and_skipped(
    body: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    scan = Scan()
    whole = scan.whole()
    with caplog.at_level(logging.WARNING):
        beamline = await run_of(scan, bodies=[body, *whole[:6], body, *whole[6:]])
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert beamline.stats.errors == {"document": 2}
    assert [record.message for record in caplog.records if words in record.message], caplog.text
    assert not beamline.broker.unacknowledged


async def test_repeated_trouble_is_logged_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async with Beamline() as beamline:
        beamline.publish(*[b"poison"] * 50)
        await beamline.until(lambda: beamline.stats.errors["document"] == 50)
        assert caplog.text.count("a message was left out") == 1
        await beamline.clock.advance(11)
        beamline.publish(b"poison")
        await beamline.until(lambda: "49 more like it" in caplog.text)


async def test_documents_whose_start_never_comes_disturb_nobody() -> None:
    scan, stray = Scan(), Scan(uid="stray")
    bodies = [*stray.whole()[1:5], *scan.whole()[:8], *stray.whole()[5:], *scan.whole()[8:]]
    beamline = await run_of(scan, bodies=bodies)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert list(beamline.store.runs) == ["run"]


async def test_a_document_that_cannot_be_stored_does_not_take_its_batch_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = Scan()
    append = FakeStore.append

    async def strict(store: FakeStore, messages: Any) -> list[str]:
        if any(message.doc.get("poison") for message in messages if isinstance(message, Document)):
            raise DocumentError("nested too deep")
        return await append(store, messages)

    monkeypatch.setattr(FakeStore, "append", strict)
    bodies = scan.whole()
    bodies.insert(6, scan.datum(3))
    bodies[6]["doc"]["poison"] = True
    beamline = await run_of(scan, bodies=bodies)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert beamline.stats.errors == {"document": 1}


async def test_a_resource_that_cannot_be_used_is_told_in_the_summary() -> None:
    scan = Scan()
    bodies = scan.whole()
    bodies[2]["doc"]["mimetype"] = "image/tiff"
    beamline = await run_of(scan, bodies=bodies)
    assert "only HDF5 is read" in beamline.summary()["trouble"]
    assert beamline.summary()["status"] == "incomplete"


async def test_more_points_than_the_shape_are_counted_and_drawn_nowhere() -> None:
    scan = Scan(frames=some_frames(15))
    bodies = [*scan.whole()[:-1], scan.datum(12, 3), scan.stop()]
    beamline = await run_of(scan, bodies=bodies)
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
    assert beamline.summary()["beyond"] == 3
    assert beamline.summary()["status"] == "complete"


# files that cannot be read


async def test_a_frame_announced_too_early_is_waited_for() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames[:4]
        beamline.publish(*scan.whole()[:3], scan.datum(0, 12))
        await beamline.until(lambda: beamline.points() == 4)
        assert beamline.clock.now() - 1_795_000_000.0 < 0.1, "what is there is not held up by what is not"
        await beamline.clock.advance(5)
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: beamline.points() == 12)
        assert beamline.stats.errors == {}


async def test_a_file_that_keeps_us_waiting_is_told_in_the_summary_and_forgotten_when_it_comes() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: "is not there (yet)" in beamline.summary().get("note", ""))
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[5:])
        await beamline.until_settled("run")
        assert beamline.summary()["trouble"] == ""
        assert beamline.summary()["status"] == "complete"


async def test_what_was_given_up_because_its_file_was_late_is_read_when_the_file_has_come() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.publish(*scan.whole()[:8])
        await beamline.until(lambda: beamline.summary().get("unreadable") == 5)
        beamline.files.frames[scan.uri] = scan.frames[:6]
        beamline.publish(scan.datum(5))
        await beamline.until(lambda: beamline.points() == 6)
        beamline.publish(scan.datum(6))
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: beamline.summary()["points"] >= 7)
        await beamline.clock.advance(1)
        assert beamline.summary()["status"] == "running"
        assert beamline.summary()["trouble"] == ""


async def test_a_file_that_never_appears_is_given_up_in_bounded_time_and_said_so() -> None:
    scan = Scan(shape=(30, 30))
    async with Beamline() as beamline:
        began = beamline.clock.now()
        for index in range(100):
            if index == 0:
                beamline.publish(scan.start(), scan.descriptor(), scan.resource())
            beamline.publish(scan.datum(index))
            await beamline.clock.advance(0.1)
        beamline.publish(scan.stop())
        await beamline.until_settled("run")
        assert beamline.clock.now() - began < 10 + 10 + 3
    assert beamline.summary()["status"] == "incomplete"
    assert beamline.summary()["unreadable"] == 100
    assert "is not there (yet)" in beamline.summary()["trouble"]
    assert "is not there (yet)" in beamline.store.of("settled")[0]["reason"]
    assert beamline.store.of("settled")[0]["missing"] == 900
    assert beamline.stats.errors["file_not_ready"] > 0


@pytest.mark.parametrize(
    "trouble",
    [
        FileRefused("/etc/passwd lies outside the data root"),
        FileBroken("run.h5 is not HDF5"),
        FrameError("frames of 96 x 128 where 6 x 4 were promised"),
    ],
)
async def test_a_file_that_is_no_use_is_given_up_at_once_and_said_so(trouble: Any) -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.trouble[scan.uri] = trouble
        beamline.publish(*scan.whole()[:-1])
        await beamline.until(lambda: beamline.summary().get("unreadable") == 12)
        assert beamline.clock.now() - 1_795_000_000.0 < 1
        assert str(trouble) in beamline.summary()["note"]
        assert beamline.summary()["status"] == "running"
        assert len(beamline.files.reads) < 5
        beamline.publish(scan.stop())
        await beamline.until_settled("run")
    assert beamline.summary()["status"] == "incomplete"
    assert str(trouble) in beamline.store.of("settled")[0]["reason"]


async def test_a_file_that_was_no_use_is_asked_again_when_the_run_has_stopped() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.files.trouble[scan.uri] = FileBroken("run.h5 is not HDF5")
        beamline.publish(*scan.whole()[:-1])
        await beamline.until(lambda: beamline.summary().get("unreadable") == 12)
        beamline.files.trouble.clear()
        beamline.publish(scan.stop())
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "complete"
        assert beamline.summary()["trouble"] == ""
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_a_file_that_breaks_in_mid_run_and_heals_is_read_again_before_the_stop() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: beamline.points() == 2)
        beamline.files.trouble[scan.uri] = FileBroken("run.h5 is truncated")
        beamline.publish(scan.datum(2))
        await beamline.until(lambda: beamline.stats.errors["file_broken"] > 0)
        beamline.files.trouble.clear()
        await beamline.clock.advance(11)
        beamline.publish(scan.datum(3))
        await beamline.until(lambda: beamline.points() == 3)


async def test_one_broken_frame_costs_one_pixel() -> None:
    scan = Scan(shape=(8, 8), frames=some_frames(64))
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.files.broken[scan.uri] = {37}
        beamline.publish(*scan.whole()[:3], scan.datum(0, 64), scan.stop())
        await beamline.until_settled("run")
    counts = {number + 1: number for number in range(64) if number != 37}
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, counts, BANDS))
    assert beamline.summary()["unreadable"] == 1
    assert beamline.store.of("settled")[0]["missing"] == 1


async def test_a_file_that_shrinks_keeps_what_was_read() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:8])
        await beamline.until(lambda: beamline.points() == 5)
        beamline.files.frames[scan.uri] = scan.frames[:2]
        beamline.publish(*scan.whole()[8:])
        await beamline.until_settled("run")
    assert beamline.points() == 5
    assert beamline.summary()["status"] == "incomplete"
    assert "holds 2 frames" in beamline.summary()["trouble"]


async def test_a_file_deleted_in_mid_run_keeps_what_was_read() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:8])
        await beamline.until(lambda: beamline.points() == 5)
        del beamline.files.frames[scan.uri]
        beamline.publish(*scan.whole()[8:])
        await beamline.until_settled("run")
    assert beamline.points() == 5
    assert "is not there (yet)" in beamline.summary()["trouble"]


async def test_a_file_that_hangs_holds_up_no_other_run() -> None:
    stuck, scan = Scan(uid="stuck"), Scan()
    async with Beamline() as beamline:
        beamline.files.hanging.add(stuck.uri)
        beamline.publish(*stuck.whole()[:8])
        await beamline.until(lambda: bool(beamline.files.reads))
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "complete"
        assert beamline.summary("stuck")["points"] == 0
        beamline.files.let_go()
        await beamline.until(lambda: beamline.summary("stuck")["unreadable"] == 5)
        assert "hung the reader" in beamline.summary("stuck")["note"]


async def test_an_error_of_our_own_in_one_run_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bad, scan = Scan(uid="bad"), Scan()
    async with Beamline() as beamline:
        beamline.files.trouble[bad.uri] = RuntimeError("a bug")  # type: ignore[assignment]
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*bad.whole()[:8], *scan.whole())
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "complete"
        assert "see the log of the worker" in beamline.summary("bad")["note"]
    assert "run bad: unexpected error" in caplog.text


# a store and a broker that come and go


async def test_a_store_that_is_down_at_the_start_is_waited_for_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    scan = Scan()
    beamline = Beamline()
    beamline.files.frames[scan.uri] = scan.frames
    beamline.store.fail()
    with caplog.at_level(logging.INFO):
        async with beamline:
            beamline.publish(*scan.whole())
            await beamline.clock.advance(30)
            assert caplog.text.count("waiting for the store") == 1
            beamline.store.down = False
            await beamline.until_settled("run")
    assert "Redis is back after 30" in caplog.text
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


async def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        await beamline.clock.advance(0.5)
        beamline.store.fail()
        beamline.publish(scan.start())
        await beamline.clock.advance(5)
        assert len(beamline.broker.unacknowledged) == 1
        beamline.store.down = False
        await beamline.until(lambda: not beamline.broker.unacknowledged)
        assert beamline.store.of("start") == [scan.start()["doc"]]


async def test_a_store_that_lost_everything_in_mid_run_is_filled_again() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:9])
        await beamline.until(lambda: beamline.points() == 6)
        beamline.store.flush()
        await beamline.until(lambda: beamline.points() == 6)
        beamline.publish(*scan.whole()[9:])
        await beamline.until_settled("run")
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
        assert beamline.summary()["status"] == "complete"


async def test_silence_means_nothing_while_the_broker_is_away() -> None:
    scan = Scan()
    async with Beamline(timeouts=Timeouts(silence_s=90)) as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.until(lambda: beamline.points() == 2)
        beamline.broker.status = SourceStatus(SourceState.LOST, 0.0, "gone")
        await beamline.clock.advance(200)
        assert beamline.summary()["status"] == "running"
        beamline.broker.status = SourceStatus(SourceState.CONNECTED, beamline.clock.now())
        await beamline.clock.advance(80)
        assert beamline.summary()["status"] == "running"
        await beamline.clock.advance(20)
        assert beamline.summary()["status"] == "lost"


# runs that get no stop document


async def test_a_run_whose_task_has_ended_without_a_stop_is_lost_and_filled() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:8], worker_event("IDLE", "task", complete=True))
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "lost"
        assert beamline.summary()["reason"].startswith("lost: its task ended without a stop document")
        assert beamline.summary()["points"] == 12
        assert beamline.store.reported["ingest"]["worker_state"] == "IDLE"


async def test_a_stop_that_is_overtaken_by_the_last_worker_event_still_counts() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:-1], worker_event("IDLE", "task", complete=True))
        await beamline.clock.advance(1)
        beamline.publish(scan.stop())
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "complete"
        assert len(beamline.store.of("stop")) == 1


async def test_a_stop_that_comes_after_all_corrects_a_lost_run() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:-1], worker_event("IDLE", "task", complete=True))
        await beamline.until(lambda: beamline.summary().get("status") == "lost")
        beamline.publish(scan.stop())
        await beamline.until(lambda: beamline.summary()["status"] == "complete" and beamline.summary()["settled"])


async def test_a_run_that_was_closed_too_early_and_goes_on_is_settled_once_more_at_its_end() -> None:
    scan = Scan(shape=(5, 20), frames=some_frames(100))
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames[:2]
        beamline.publish(*scan.whole()[:5], worker_event("IDLE", "task", complete=True))
        await beamline.until(lambda: beamline.summary().get("status") == "lost")
        beamline.files.frames[scan.uri] = scan.frames
        for index in range(2, 100):
            beamline.publish(scan.datum(index))
            await beamline.clock.advance(0.2)
        beamline.publish(scan.stop())
        await beamline.until(lambda: beamline.summary()["status"] == "complete" and beamline.summary()["settled"])
        assert len(beamline.store.of("settled")) <= 3


async def test_a_paused_run_is_not_lost_however_long_it_stands_still() -> None:
    scan = Scan()
    async with Beamline(timeouts=Timeouts(silence_s=90)) as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5], worker_event("PAUSED", "task", complete=True))
        await beamline.clock.advance(500)
        assert beamline.summary()["status"] == "running"
        beamline.publish(worker_event("RUNNING", "task"), *scan.whole()[5:])
        await beamline.until_settled("run")
        assert beamline.summary()["status"] == "complete"


async def test_a_run_of_which_nothing_is_heard_is_lost() -> None:
    scan = Scan()
    async with Beamline(timeouts=Timeouts(silence_s=90)) as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        await beamline.clock.advance(85)
        assert beamline.summary()["status"] == "running"
        await beamline.clock.advance(10)
        assert beamline.summary()["status"] == "lost"
        assert beamline.summary()["reason"].startswith("lost: no documents for 9")


async def test_progress_is_a_sign_of_life() -> None:
    scan = Scan()
    async with Beamline(timeouts=Timeouts(silence_s=90)) as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:5])
        for _ in range(5):
            beamline.broker.publish({"task_id": "task", "statuses": {}}, correlation_id="task")
            await beamline.clock.advance(60)
        assert beamline.summary()["status"] == "running"
        assert not beamline.broker.unacknowledged


async def test_another_task_on_the_same_instrument_ends_a_run_that_was_left_open() -> None:
    first, second = Scan(uid="first"), Scan(uid="second", task="another")
    async with Beamline() as beamline:
        beamline.files.frames |= {first.uri: first.frames, second.uri: second.frames}
        beamline.publish(*first.whole()[:5])
        await beamline.until(lambda: beamline.points("first") == 2)
        beamline.publish(*second.whole()[:4])
        await beamline.until_settled("first")
        assert beamline.summary("first")["reason"].startswith("lost: another task began a run on this instrument")
        assert beamline.summary("second")["status"] == "running"


async def test_a_nested_run_and_a_run_elsewhere_end_nothing() -> None:
    outer, inner = Scan(uid="outer"), Scan(uid="inner")
    elsewhere = Scan(uid="elsewhere", task="another", start_extra={"instrument": "i22"})
    async with Beamline() as beamline:
        for scan in (outer, inner, elsewhere):
            beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*outer.whole()[:5], *inner.whole(), *elsewhere.whole())
        await beamline.until_settled("inner", "elsewhere")
        beamline.publish(*outer.whole()[5:])
        await beamline.until_settled("outer")
        assert {summary["status"] for summary in await beamline.store.summaries()} == {"complete"}


async def test_of_too_many_open_runs_the_oldest_is_closed() -> None:
    async with Beamline() as beamline:
        for number in range(40):
            beamline.publish(Scan(uid=f"run {number}").start())
        await beamline.until(lambda: len(beamline.store.of("stop")) == 8)
        await beamline.until(lambda: beamline.summary("run 7")["status"] == "lost")
        assert beamline.summary("run 8")["status"] == "running"


# many runs


async def test_interleaved_runs_of_one_task_are_kept_apart() -> None:
    scans = [Scan(uid=f"run {number}", frames=some_frames(12, seed=number)) for number in range(3)]
    async with Beamline() as beamline:
        for scan in scans:
            beamline.files.frames[scan.uri] = scan.frames
        for bodies in zip(*(scan.whole() for scan in scans), strict=True):
            beamline.publish(*bodies)
        await beamline.until_settled(*(scan.uid for scan in scans))
    for scan in scans:
        np.testing.assert_array_equal(maps(beamline, scan.uid), expected_maps(scan, ALL, BANDS))


async def test_runs_that_have_ended_do_not_stay_in_memory() -> None:
    async with Beamline() as beamline:
        for number in range(12):
            scan = Scan(uid=f"run {number}", shape=(1, 2), frames=some_frames(2))
            beamline.files.frames[scan.uri] = scan.frames
            beamline.publish(*scan.whole())
            await beamline.until_settled(scan.uid)
        await beamline.clock.advance(1)
        assert beamline.worker is not None
        assert len(beamline.worker.reducer.reductions) == 4
        beamline.publish(Scan(uid="run 0", shape=(1, 2)).stop("abort"))  # a document of a run that was left
        await beamline.clock.advance(3)
        assert beamline.summary("run 0")["status"] == "complete"


async def test_a_restart_does_not_take_up_what_is_settled() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")
        await beamline.clock.advance(1)
        await beamline.kill()
        beamline.start()
        await beamline.clock.advance(3)
        assert beamline.worker is not None
        assert beamline.worker.reducer.reductions == {}
        assert len(beamline.store.of("settled")) == 1


async def test_a_run_that_nobody_has_summarized_yet_is_taken_up() -> None:
    """The last worker was killed between the storing of the start document and the first look at it."""
    scan = Scan()
    beamline = Beamline()
    beamline.files.frames[scan.uri] = scan.frames
    for body in scan.whole():
        await beamline.store.append([Document(body["name"], body["doc"], run="run", task_id="task")])
    async with beamline:
        await beamline.until_settled("run")
    np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


# the worker itself


async def test_the_heartbeat_says_how_the_worker_is() -> None:
    async with Beamline() as beamline:
        beamline.publish(worker_event("RUNNING", "task"), b"poison")
        await beamline.clock.advance(2)
        report = beamline.store.reported["ingest"]
    assert report["broker"] == "connected"
    assert report["worker_state"] == "RUNNING"
    assert report["task_id"] == "task"
    assert report["errors"] == {"document": 1}
    assert report["pid"] == os.getpid()
    assert report["waiting"] == 0
    orjson.dumps(report)


async def test_a_second_worker_waits_and_takes_over_when_the_first_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scan = Scan()
    beamline = Beamline()
    beamline.files.frames[scan.uri] = scan.frames
    beamline.store.leases["ingest"] = "elsewhere:7"
    async with beamline:
        beamline.publish(*scan.whole())
        await beamline.clock.advance(30)
        assert beamline.store.entries == []
        assert caplog.text.count("waiting: elsewhere:7 is the worker of this store") == 1
        del beamline.store.leases["ingest"]
        await beamline.until_settled("run")


async def test_a_dead_worker_of_this_host_is_replaced_at_once() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    beamline = Beamline()
    beamline.store.leases["ingest"] = f"here:{dead.pid}"
    async with beamline:
        await beamline.until(lambda: beamline.store.leases["ingest"] == "here:1")


async def test_a_worker_that_was_replaced_stops_and_waits() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: "ingest" in beamline.store.reported)
        beamline.store.leases["ingest"] = "elsewhere:7"
        await beamline.clock.advance(3)
        beamline.publish(*scan.whole())
        await beamline.clock.advance(30)
        assert beamline.store.entries == []
        del beamline.store.leases["ingest"]
        await beamline.until_settled("run")


async def test_only_the_worker_that_has_the_lease_holds_a_subscription() -> None:
    scan = Scan()
    beamline = Beamline()
    beamline.files.frames[scan.uri] = scan.frames
    beamline.store.leases["ingest"] = "elsewhere:7"
    async with beamline:
        await beamline.clock.advance(30)
        assert beamline.broker.consumers == 0
        del beamline.store.leases["ingest"]
        await beamline.until(lambda: beamline.broker.consumers == 1)
        beamline.store.leases["ingest"] = "elsewhere:7"
        await beamline.clock.advance(1.5)
        assert beamline.broker.consumers == 0
        beamline.publish(*scan.whole())
        await beamline.clock.advance(30)
        assert len(beamline.broker.unacknowledged) == len(scan.whole())
        del beamline.store.leases["ingest"]
        await beamline.until_settled("run")
        assert beamline.broker.consumers == 1
    assert beamline.broker.consumers == 0


async def test_a_worker_that_cannot_renew_its_lease_leaves_the_broker_until_it_can() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: beamline.broker.consumers == 1)
        beamline.store.fail()
        beamline.publish(*scan.whole()[:9])
        await beamline.clock.advance(beamline.timeouts.lease_s - 2)
        assert beamline.broker.consumers == 1
        await beamline.clock.advance(3)
        assert beamline.broker.consumers == 0
        beamline.publish(*scan.whole()[9:])
        assert len(beamline.broker.unacknowledged) == len(scan.whole())
        beamline.store.down = False
        await beamline.until_settled("run")
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))
        await beamline.until(lambda: not beamline.broker.unacknowledged)
        assert beamline.broker.consumers == 1


async def test_a_worker_that_cannot_renew_its_lease_keeps_what_it_knows_of_open_runs() -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        beamline.publish(*scan.whole()[:9])
        await beamline.until(lambda: beamline.points() == 6)
        beamline.store.fail()
        await beamline.clock.advance(30)
        beamline.store.flush()
        beamline.store.down = False
        await beamline.until(lambda: beamline.points() >= 6)
        beamline.publish(*scan.whole()[9:])
        await beamline.until_settled("run")
        np.testing.assert_array_equal(maps(beamline), expected_maps(scan, ALL, BANDS))


@pytest.mark.parametrize("jump_s", [-86_400.0, 3600.0])
async def test_a_clock_that_is_set_costs_no_lease_and_no_subscription(jump_s: float) -> None:
    scan = Scan()
    async with Beamline() as beamline:
        beamline.files.frames[scan.uri] = scan.frames
        await beamline.until(lambda: beamline.broker.consumers == 1)
        beamline.clock.ahead = jump_s
        for _ in range(20):
            await beamline.clock.advance(1)
            assert beamline.broker.consumers == 1
        beamline.publish(*scan.whole())
        await beamline.until_settled("run")


async def test_a_worker_that_waits_leaves_a_lost_lease_to_the_worker_that_had_it() -> None:
    beamline = Beamline()
    beamline.store.leases["ingest"] = "elsewhere:7"
    async with beamline:
        await beamline.clock.advance(5)
        del beamline.store.leases["ingest"]
        await beamline.clock.advance(beamline.timeouts.vacant_s - 0.5)
        beamline.store.leases["ingest"] = "elsewhere:7"  # as a running worker does once a second
        await beamline.clock.advance(5)
        assert beamline.store.leases["ingest"] == "elsewhere:7"
        del beamline.store.leases["ingest"]
        await beamline.clock.advance(beamline.timeouts.vacant_s + 0.5)
        assert beamline.store.leases["ingest"] == "here:1"


async def test_the_lease_is_given_back_at_the_end() -> None:
    async with Beamline() as beamline:
        await beamline.until(lambda: "ingest" in beamline.store.reported)
    assert beamline.store.leases == {}


async def test_the_worker_needs_to_know_its_store() -> None:
    with pytest.raises(SettingsError, match="SNAKEMAP_REDIS_URL"):
        await ingest(load(redis_url=""), stop=asyncio.Event())


async def test_a_task_ends_though_its_cancellation_was_forgotten_on_the_way() -> None:
    ready = asyncio.Event()

    async def forgetful() -> None:
        ready.set()
        with suppress(asyncio.CancelledError):  # as asyncio.wait_for of Python 3.11 does now and then
            await asyncio.sleep(60)

    stats = WorkerStats(FakeClock(), Timeouts())
    task = asyncio.create_task(stats.retry(forgetful))
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_tally_keeps_a_bounded_memory() -> None:
    stats = WorkerStats(FakeClock(), Timeouts())
    for number in range(10_000):
        stats.note_task(f"task {number}")
        stats.trouble(DocumentError("bad"), about=f"run {number}")
    assert len(stats.last_seen) == 100
    assert stats.errors == {"document": 10_000}


async def test_a_store_that_refuses_is_said_once_a_minute_and_once_when_it_takes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    stats = WorkerStats(clock, Timeouts())
    full = StoreRefuses("Redis is full", "OOM")
    for _ in range(600):  # five minutes in which the stream can be read and nothing can be appended
        stats.store_lost(full)
        stats.store_found()
        assert stats.refused == "OOM"
        clock.time += 0.5
    assert stats.errors == {"store_refuses": 1}
    assert [record.message for record in caplog.records] == [
        f"no writes to Redis for {seconds} s, nothing is lost: Redis is full" for seconds in (0, 60, 120, 180, 240)
    ]
    caplog.clear()
    stats.store_found(takes=True)
    assert stats.refused == ""
    assert [record.message for record in caplog.records] == ["Redis accepts writes again, after 299.5 s"]


async def test_a_refusal_that_nothing_repeats_is_over_after_a_while() -> None:
    clock = FakeClock()
    stats = WorkerStats(clock, Timeouts())
    stats.store_lost(StoreRefuses("Redis is full", "OOM"))
    clock.time += 6
    assert stats.refused == ""
    stats.store_found()
    stats.store_lost(StoreRefuses("Redis is full", "OOM"))
    assert stats.errors == {"store_refuses": 2}


async def test_what_was_refused_is_asked_again_until_it_is_taken() -> None:
    clock = FakeClock()
    stats = WorkerStats(clock, Timeouts())
    answers: list[Any] = [StoreRefuses("Redis is full", "OOM"), StoreRefuses("Redis is full", "OOM"), "taken"]

    async def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = asyncio.create_task(stats.retry(call))
    await clock.until(task.done)
    assert (await task, stats.refused, answers) == ("taken", "", [])
