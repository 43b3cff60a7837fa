from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import event_model
import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import recordings
from tests.support.ledgers import settle
from tests.support.properties import examples, strange_values

from snakemap.core.causal_order import CausalOrder
from snakemap.core.coalesce import coalesce
from snakemap.core.derived_documents import (
    FRAME_FILE,
    FRAME_INDEX,
    TOTAL,
    derived_descriptor,
    derived_page,
    lost_stop,
    rois_of,
)
from snakemap.core.documents import DERIVED, SETTLED, Document, Entry, decode, envelope
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run, axes_summary
from snakemap.errors import DocumentError

ROIS = {"red": (0, 43, 0, 96), "green": (43, 86, 10, 20), "blue": (86, 128, 95, 96)}
CHANNELS = (*ROIS, TOTAL)
START = {"uid": "run", "time": 1000.5}
IMAGE = {"external": "STREAM:", "shape": [1, 128, 96], "dtype": "array", "source": "camera"}
DESCRIPTOR = {"uid": "d", "run_start": "run", "name": "primary", "data_keys": {"camera": IMAGE}}
RESOURCE = {
    "uid": "s",
    "run_start": "run",
    "data_key": "camera",
    "uri": "file://localhost/data/a%20scan.h5",
    "parameters": {"dataset": "/entry/data/data"},
}
SUCCESS = {"run_start": "run", "exit_status": "success", "reason": "", "time": 1063.0, "num_events": {"primary": 63}}


def run_of(**start: Any) -> Run:
    """A run that knows its image data key, and whose start document says some more."""
    run = Run({**START, **start})
    apply(run, "descriptor", DESCRIPTOR)
    apply(run, "stream_resource", RESOURCE)
    return run


def apply(run: Run, name: str, doc: dict[str, Any]) -> None:
    run.apply(Document(name, doc, run=run.uid))


def datum(index: int, seq_num: int, count: int = 1) -> dict[str, Any]:
    indices, seq_nums = {"start": index, "stop": index + count}, {"start": seq_num, "stop": seq_num + count}
    return {"descriptor": "d", "stream_resource": "s", "indices": indices, "seq_nums": seq_nums}


def sums(run: Run, seq_nums: list[int], values: list[float] | None = None) -> None:
    """Appends a page of sums, the same for every channel, after our own descriptor if that has not come yet."""
    descriptor = derived_descriptor(run, ROIS, frame_shape=(128, 96), time=1001.0)
    apply(run, "descriptor", descriptor)
    column = [float(seq_num) for seq_num in seq_nums] if values is None else values
    apply(run, "event_page", derived_page(descriptor["uid"], seq_nums, dict.fromkeys(CHANNELS, column), time=1001.0))


def announced(run: Run, count: int) -> None:
    """Announces the first points of a run, and appends their sums."""
    apply(run, "stream_datum", datum(0, 1, count))
    sums(run, list(range(1, count + 1)))


def fold(documents: list[Document], *, defaults: ScanDefaults | None = None) -> Run:
    run = Run(documents[0].doc, defaults=defaults)
    for document in documents:
        run.apply(document)
    return run


def read(run: Run) -> dict[str, npt.NDArray[np.uint64]]:
    """Sums (n,) of every frame in the file of a recorded run, by channel."""
    (resource,) = run.ledger.resources.values()
    frames = recordings.frames(resource.uri, resource.dataset).astype(np.uint64)
    cut = {name: frames[:, y0:y1, x0:x1] for name, (y0, y1, x0, x1) in ROIS.items()}
    return {name: part.sum(axis=(1, 2)) for name, part in {**cut, TOTAL: frames}.items()}


def derived(run: Run, *, limit: int = 10) -> Iterator[Document]:
    """What the worker would append: our descriptor, and a page for each row range that waits to be read."""
    of_frames = read(run)
    descriptor = derived_descriptor(run, ROIS, frame_shape=(128, 96), time=1.0)
    yield Document("descriptor", descriptor, run=run.uid)
    while (row_range := run.ledger.pending(limit=limit)) is not None:
        seq_nums = list(range(row_range.seq_num, row_range.seq_num + row_range.count))
        rows = slice(row_range.index, row_range.index + row_range.count)
        columns = {name: column[rows].tolist() for name, column in of_frames.items()}
        settle(run.ledger, row_range)
        yield Document("event_page", derived_page(descriptor["uid"], seq_nums, columns, time=1.0), run=run.uid)


@cache
def complete(case: str) -> list[Document]:
    """The documents of a recording, then our own, then the note that the run is settled."""
    documents = recordings.ordered(case)
    run = fold(documents)
    ours = list(derived(run))
    return [*documents, *ours, Document(SETTLED, {"run_start": run.uid}, run=run.uid)]


def state(run: Run) -> dict[str, Any]:
    """Everything that two runs folded from the same documents must agree on."""
    return {
        "summary": run.summary(),
        "grids": np.nan_to_num(run.maps.grids, nan=-1).tolist(),
        "channels": run.maps.channels,
        "summaries": str([run.maps.summary(number) for number in range(len(run.maps.channels))]),
        "histograms": [run.maps.histogram(number).tolist() for number in range(len(run.maps.channels))],
        "rois": run.rois,
        "frame_shape": run.frame_shape,
        "axes": axes_summary(run.raster),
        "waiting": run.ledger.waiting,
        "stop": run.stop,
    }


def undone(column: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A grid (rows, columns) from values in the order of a snaked scan; NaN where it has not been."""
    grid = np.full(shape[0] * shape[1], np.nan)
    grid[: len(column)] = column
    grid = grid.reshape(shape)
    grid[1::2] = grid[1::2, ::-1].copy()
    return grid


# the recordings


def test_the_step_scan_is_a_snaked_grid_of_seven_by_nine_that_runs_until_it_has_been_read() -> None:
    run = fold(recordings.ordered("small_step"))
    assert (run.raster.rows, run.raster.columns, run.raster.snaking) == (7, 9, (False, True))
    assert (run.status, run.points, run.expected, run.ledger.waiting) == ("running", 0, 63, 63)
    assert run.stop is not None
    assert run.summary() == {
        "uid": "c2b8eafc-390c-4d1a-be80-23f2a976cfe1",
        "plan_name": "demo_plan",
        "status": "running",
        "points": 0,
        "expected": 63,
        "started": 1795461238.0986595,
        "ended": 1795461240.840626,
        "file": "/data/da3cb786-a1b1-458e-823b-bfd9085fb511.h5",
        "scan_id": 3,
        "instrument": "b01-1",
        "instrument_session": "cm12345-1",
        "task_id": "d4d2336f-d32f-4b61-bdcf-5075f244e3d2",
        "reason": "",
        "geometry": "7 x 9, snaked, from scanspec",
        "note": "",
        "shape": [7, 9],
        "beyond": 0,
        "unreadable": 0,
        "filled": 0,
        "sources": ["det16", "scalars"],
        "opened": False,
    }


def test_the_maps_of_the_step_scan_are_the_sums_of_its_frames_with_the_snake_undone() -> None:
    documents = complete("small_step")
    run = fold(documents)
    assert (run.status, run.points, run.reason) == ("complete", 63, "")
    assert run.maps.channels == CHANNELS
    assert (run.rois, run.frame_shape) == (ROIS, (128, 96))
    for number, name in enumerate(CHANNELS):
        np.testing.assert_array_equal(run.maps.grids[number], undone(read(run)[name], (7, 9)))
        assert run.maps.reference[number] == read(run)[name].max()


def test_our_total_is_the_one_that_the_detector_wrote_itself() -> None:
    run = fold(complete("small_step"))
    (resource,) = run.ledger.resources.values()
    own = recordings.frames(resource.uri, "/entry/instrument/NDAttributes/det16-sum")
    np.testing.assert_array_equal(run.maps.grids[-1], undone(own, (7, 9)))


def test_the_fly_scan_is_one_row_of_forty() -> None:
    run = fold(complete("blob_fly"))
    assert (run.raster.shape, run.status, run.points) == ((40,), "complete", 40)
    np.testing.assert_array_equal(run.maps.grids[-1], read(run)[TOTAL][np.newaxis])
    (resource,) = run.ledger.resources.values()
    np.testing.assert_array_equal(run.maps.grids[-1], recordings.frames(resource.uri, "/entry/sum")[np.newaxis])


def test_the_fly_scan_is_drawn_as_the_habitual_grid_when_it_fits() -> None:
    run = fold(complete("blob_fly"), defaults=ScanDefaults(grid=(5, 8, True)))
    assert run.raster.described == "5 x 8, snaked, from setting SNAKEMAP_GRID"
    np.testing.assert_array_equal(run.maps.grids[-1], undone(read(run)[TOTAL], (5, 8)))


def test_the_aborted_scan_has_the_twenty_points_announced_and_the_one_that_only_the_file_holds() -> None:
    documents = complete("small_aborted")
    run = fold(documents)
    assert (run.status, run.points, run.expected) == ("aborted", 20, 63)
    (uid,) = run.ledger.resources
    assert run.ledger.fill(uid, length=21, expected=run.expected) == 1
    for document in list(derived(run)):
        run.apply(document)
    assert (run.status, run.points) == ("aborted", 21)
    np.testing.assert_array_equal(run.maps.grids[-1], undone(read(run)[TOTAL], (7, 9)))


def test_units_come_from_the_descriptor_and_begin_a_new_epoch() -> None:
    documents = recordings.ordered("small_aborted")
    run = Run(documents[0].doc)
    labels, epochs = [], []
    for document in documents[:3]:
        run.apply(document)
        labels.append((run.raster.slow.label, run.raster.fast.label, run.maps.raster.slow.label))
        epochs.append(run.epoch)
    assert labels[0] == ("sample_stage-x", "sample_stage-y", "sample_stage-x")
    assert labels[1] == labels[2] == ("sample_stage-x (mm)", "sample_stage-y (mm)", "sample_stage-x (mm)")
    assert epochs == [0, 1, 1]


@pytest.mark.parametrize("case", recordings.CASES)
def test_duplicates_of_every_document_change_nothing(case: str) -> None:
    documents = complete(case)
    repeated = [document for document in documents for _ in range(2)]
    assert state(fold(repeated)) == state(fold(documents))


@pytest.mark.parametrize("case", recordings.CASES)
def test_a_whole_run_delivered_again_changes_nothing(case: str) -> None:
    documents = complete(case)
    run = fold(documents)
    version = run.maps.version
    for document in documents:
        run.apply(document)
    assert state(run) == state(fold(documents))
    assert run.maps.version == version


@examples(15)
@given(st.sampled_from(recordings.CASES), st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_run_in_any_order_and_with_duplicates_ends_in_the_same_state(
    case: str, chance: random.Random, repeated: int
) -> None:
    *documents, settled = complete(case)
    delivered = documents + documents[-repeated:]
    chance.shuffle(delivered)
    order = CausalOrder()
    ready = [document for delivery in delivered for document in order.accept(delivery)]
    run = fold([document for document in ready if document.name != "event"])
    run.apply(settled)
    # a page may have come before its frames were announced: they will be read again, and change nothing
    wanted = fold([document for document in complete(case) if document.name != "event"])
    assert {**state(run), "waiting": 0} == state(wanted)


@examples(25)
@given(st.integers(1, 40))
def test_a_fold_from_a_cursor_is_the_same_as_one_without_a_break(cut: int) -> None:
    documents = complete("blob_fly")
    run = fold(documents[:cut])
    for document in documents[cut:]:
        run.apply(document)
    assert state(run) == state(fold(documents))


@pytest.mark.parametrize("case", recordings.CASES)
def test_joined_fold_into_the_same_state(case: str) -> None:
    documents = complete(case)
    entries = [Entry(f"{n + 1}-0", d.name, d.run, d.task_id, d.doc) for n, d in enumerate(documents)]
    found = list(coalesce(entries))
    assert len([entry for entry in found if entry.name == "event_page" and TOTAL in entry.doc["data"]]) == 1
    folded = fold([Document(entry.name, entry.doc, run=entry.run, task_id=entry.task_id) for entry in found])
    assert state(folded) == state(fold(documents))


# how runs end


def test_success_with_every_point_is_complete() -> None:
    run = run_of(shape=[7, 9])
    announced(run, 63)
    assert run.status == "running"
    apply(run, "stop", SUCCESS)
    assert (run.status, run.reason, run.ended) == ("complete", "", 1063.0)


def test_a_stop_by_rest_says_success_with_twelve_of_sixty_three_points_and_is_incomplete_once_settled() -> None:
    run = run_of(shape=[7, 9])
    announced(run, 12)
    apply(run, "stop", {**SUCCESS, "num_events": {"primary": 12}})
    assert run.status == "running"
    apply(run, SETTLED, {"run_start": "run"})
    assert (run.status, run.points, run.expected) == ("incomplete", 12, 63)
    assert run.reason == "51 of 63 points are missing."


@pytest.mark.parametrize(
    ("exit_status", "status"), [("abort", "aborted"), ("fail", "failed"), ("success", "running"), ("odd", "running")]
)
def test_the_stop_says_how_a_run_ended(exit_status: str, status: str) -> None:
    run = run_of(shape=[7, 9])
    announced(run, 2)
    apply(run, "stop", {**SUCCESS, "exit_status": exit_status, "reason": "because"})
    assert (run.status, run.reason) == (status, "because")


def test_points_that_the_file_held_and_no_document_announced_are_counted() -> None:
    run = run_of(shape=[7, 9])
    announced(run, 2)
    sums(run, [3, 4, 5])
    apply(run, "stop", {**SUCCESS, "exit_status": "abort"})
    assert (run.filled, run.summary()["filled"]) == (3, 3)
    assert run.reason == "3 extra points recovered from the file."


def test_a_run_that_will_get_no_stop_is_lost_until_a_real_one_comes_after_all() -> None:
    run = run_of(shape=[1, 2])
    announced(run, 2)
    lost = lost_stop(run, "nothing heard for 900 s", time=2000.0)
    apply(run, "stop", lost)
    assert (run.status, run.reason, run.ended) == ("lost", "lost: nothing heard for 900 s", 2000.0)
    apply(run, "stop", SUCCESS)
    assert (run.status, run.reason, run.ended) == ("complete", "", 1063.0)


def test_a_real_stop_is_not_corrected_by_our_own_guess_nor_by_another_real_one() -> None:
    run = run_of(shape=[7, 9])
    apply(run, "stop", {**SUCCESS, "exit_status": "abort"})
    apply(run, "stop", lost_stop(run, "too late", time=2000.0))
    apply(run, "stop", SUCCESS)
    assert (run.status, run.ended) == ("aborted", 1063.0)


def test_a_run_of_unknown_shape_expects_the_events_that_its_stop_counts() -> None:
    run = run_of()
    sums(run, [1, 2, 3])
    assert run.expected is None
    apply(run, "stop", {**SUCCESS, "num_events": {"primary": 3, "baseline": 2}})
    assert (run.expected, run.status) == (3, "complete")


@pytest.mark.parametrize("events", [None, {}, 5, {"primary": 0}, {"primary": True}, {"primary": "3"}, {"other": 3}])
def test_a_stop_that_counts_no_events_leaves_what_was_expected_unknown(events: Any) -> None:
    run = run_of()
    sums(run, [1, 2, 3])
    apply(run, "stop", {**SUCCESS, "num_events": events})
    assert (run.expected, run.status) == (None, "running")


@pytest.mark.parametrize("time", [None, "now", [], {}])
def test_a_stop_without_a_usable_time_ends_nobody_knows_when(time: Any) -> None:
    run = run_of()
    apply(run, "stop", {**SUCCESS, "time": time})
    assert run.ended is None


# maps that grow or are replaced


def test_a_row_of_unknown_length_grows_and_keeps_what_it_had() -> None:
    run = run_of()
    sums(run, list(range(1, 101)))
    assert run.raster.shape == (100,)
    epoch = run.epoch
    sums(run, [130])
    assert (run.raster.shape, run.epoch) == ((256,), epoch + 1)
    assert run.maps.raster is run.raster
    row = run.maps.grids[0, 0]
    np.testing.assert_array_equal(row[:100], np.arange(1.0, 101.0))
    assert (row[129], run.points, np.count_nonzero(~np.isnan(row))) == (130.0, 101, 101)
    assert run.maps.reference.tolist() == [130.0] * 4
    assert run.maps.last_cell == 129


def test_a_row_that_has_grown_as_long_as_it_may_is_not_begun_anew_with_every_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("snakemap.core.scan_geometry.CELLS_MAX", 1000)
    run = run_of()
    sums(run, [1000])
    epoch, maps = run.epoch, run.maps
    sums(run, [1001, 5])
    assert (run.epoch, run.points, run.maps.out_of_range) == (epoch, 2, 1)
    assert run.maps is maps


def test_a_run_whose_shape_is_known_does_not_grow() -> None:
    run = run_of(shape=[2, 3])
    sums(run, [1, 7, 8])
    assert (run.raster.shape, run.points, run.maps.out_of_range) == ((2, 3), 1, 2)


def test_another_set_of_rois_begins_the_maps_anew() -> None:
    run = run_of(shape=[2, 3])
    sums(run, [1, 2])
    epoch = run.epoch
    descriptor = derived_descriptor(run, {"spot": (1, 2, 3, 4)}, frame_shape=(128, 96), time=2.0)
    apply(run, "descriptor", descriptor)
    assert (run.maps.channels, run.points, run.epoch) == (("spot", TOTAL), 0, epoch + 1)
    sums_before = derived_page("of somebody else", [1], {"spot": [1.0], TOTAL: [1.0]}, time=2.0)
    apply(run, "event_page", sums_before)
    assert run.points == 0


def test_a_rewind_replaces_the_pixel_and_what_was_read_is_settled() -> None:
    run = run_of(shape=[2, 3])
    apply(run, "stream_datum", datum(0, 1, 4))
    sums(run, [1, 2, 3, 4], [10.0, 10.0, 10.0, 99.0])
    assert run.ledger.waiting == 0
    apply(run, "stream_datum", datum(4, 4, 1))
    assert run.ledger.waiting == 1
    sums(run, [4], [5.0])
    assert (run.ledger.waiting, run.points, run.maps.reference.tolist()) == (0, 4, [10.0] * 4)
    assert run.maps.grids[0, 1, 2] == 5.0


def test_null_in_a_page_is_a_blank_pixel() -> None:
    run = run_of(shape=[2, 3])
    sums(run, [1, 2], [None, 2.0])  # type: ignore[list-item]
    assert np.isnan(run.maps.grids[0, 0, 0])
    assert (run.points, run.maps.summary(0).points) == (2, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"data": None},
        {"data": [1]},
        {"data": {"red": 5}},
        {"data": {"red": [1.0, 2.0]}},
        {"data": {"red": ["much"]}},
        {"data": {"red": [[1.0]]}},
        {"data": {"red": [{}]}},
        {"data": {"red": {"0": 1.0}}},
        {"data": {"red": "1"}},
        {"data": {"red": []}},
    ],
    ids=str,
)
def test_a_page_that_holds_no_numbers_is_refused_and_leaves_the_run_as_it_was(changed: dict[str, Any]) -> None:
    run = run_of(shape=[2, 3])
    sums(run, [1, 2])
    before, version = state(run), run.version
    page = derived_page(next(iter(run.derived_uids)), [3], {name: [1.0] for name in CHANNELS}, time=1.0)
    with pytest.raises(DocumentError):
        apply(run, "event_page", {**page, **changed})
    assert (state(run), run.version) == (before, version)


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        {},
        {"rois": "{}"},
        {"rois": 5, "frame_shape": [1, 2]},
        {"rois": "not JSON", "frame_shape": [1, 2]},
        {"rois": "[]", "frame_shape": [1, 2]},
        {"rois": "5", "frame_shape": [1, 2]},
        {"rois": '{"red": 5}', "frame_shape": [1, 2]},
        {"rois": '{"red": [1, 2, 3]}', "frame_shape": [1, 2]},
        {"rois": '{"red": [0, 1, 0, 1.5]}', "frame_shape": [1, 2]},
        {"rois": '{"red": [1, 1, 0, 1]}', "frame_shape": [1, 2]},
        {"rois": '{"total": [0, 1, 0, 1]}', "frame_shape": [1, 2]},
        {"rois": orjson.dumps({str(n): [0, 1, 0, 1] for n in range(1000)}).decode(), "frame_shape": [1, 2]},
        {"rois": "{}", "frame_shape": [1]},
        {"rois": "{}", "frame_shape": "12"},
        {"rois": "{}", "frame_shape": [1, None]},
    ],
    ids=lambda content: str(content)[:50],
)
def test_a_derived_descriptor_that_tells_no_rois_is_refused(content: Any) -> None:
    run = run_of(shape=[2, 3])
    sums(run, [1])
    before = state(run)
    descriptor = {**DESCRIPTOR, "uid": "x", "name": DERIVED, "configuration": {DERIVED: {"data": content}}}
    with pytest.raises(DocumentError, match="derived descriptor x has no usable ROIs"):
        apply(run, "descriptor", descriptor)
    assert state(run) == before


@pytest.mark.parametrize("key", [None, 5, "mm", {"units": None}, {"units": 5}, {"units": ["mm"]}])
def test_units_that_are_none_do_not_matter(key: Any) -> None:
    run = Run({**START, "shape": [2, 3], "motors": ["y", "x"]})
    apply(run, "descriptor", {**DESCRIPTOR, "data_keys": {"x": key, "y": {"units": "mm"}}})
    assert run.raster.slow.label == "y (mm)"


# what else a run tells


def test_the_task_is_the_one_that_the_start_names_else_that_of_the_envelope() -> None:
    assert Run({**START, "blueapi_task_id": "a"}).task_id == "a"
    for absent in ({}, {"blueapi_task_id": 5}, {"blueapi_task_id": None}):
        run = Run({**START, **absent})
        run.apply(Document("start", START, run="run", task_id="b"))
        run.apply(Document("stop", SUCCESS, run="run", task_id="c"))
        assert run.task_id == "b"


def test_the_cursor_tells_how_far_it_has_been_folded_and_when_it_was_heard_of() -> None:
    run = Run(START)
    assert (run.cursor, run.updated, run.version) == ("0-0", 1000.5, 0)
    run.apply(Document("start", START, run="run"), cursor="1795461238076-3")
    assert (run.cursor, run.updated, run.version) == ("1795461238076-3", 1795461238.076, 1)
    run.apply(Document("stop", SUCCESS, run="run"))
    assert (run.cursor, run.version) == ("1795461238076-3", 2)


def test_the_file_is_the_path_as_the_writer_sees_it() -> None:
    assert Run(START).file is None
    assert run_of().file == "/data/a scan.h5"


def test_documents_of_no_concern_pass_without_a_trace() -> None:
    run = run_of(shape=[2, 3])
    before = state(run)
    for name in ("start", "worker", "unheard of"):
        apply(run, name, {"descriptor": "d", "seq_num": [1], "data": {"camera": [1]}})
    apply(run, "resource", {"uid": "old", "spec": "AD_HDF5", "resource_path": "/data/old.h5"})
    apply(run, "datum", {"datum_id": "old/0", "resource": "old", "datum_kwargs": {"point_number": 0}})
    apply(run, "datum_page", {"datum_id": ["old/1"], "resource": "old", "datum_kwargs": {"point_number": [1]}})
    apply(run, "event", {"descriptor": "nobody's", "seq_num": 1, "data": {"camera": 1}})
    apply(run, "event_page", {"descriptor": "d", "seq_num": [1], "data": {"camera": [1]}})
    assert state(run) == before


def test_axes_are_told_as_plain_json() -> None:
    axes = axes_summary(fold(recordings.ordered("small_aborted")).raster)
    assert orjson.loads(orjson.dumps(axes)) == axes
    assert (axes["slow"]["name"], axes["slow"]["unit"], axes["fast"]["known"]) == ("sample_stage-x", "mm", True)
    assert axes["fast"]["coordinates"] == pytest.approx(np.linspace(3.7, 7.2, 9).tolist())


# our own documents


@pytest.mark.parametrize("dtype", ["<u8", "<i8", "<f8"])
def test_our_own_documents_are_valid_bluesky_documents(dtype: str) -> None:
    run = run_of(shape=[2, 3])
    descriptor = derived_descriptor(run, ROIS, frame_shape=(128, 96), time=1.0, dtype=dtype)
    page = derived_page(descriptor["uid"], [1, 2], {name: [1, 2] for name in CHANNELS}, time=1.0, indices=[5, 6])
    for name, doc in (("descriptor", descriptor), ("event_page", page), ("stop", lost_stop(run, "silence", time=1.0))):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
        assert decode(orjson.dumps(envelope(name, doc, task_id=None))) == Document(name, doc)
    assert list(descriptor["data_keys"]) == list(page["data"]) == [*CHANNELS, FRAME_INDEX, FRAME_FILE]
    assert {descriptor["data_keys"][channel]["dtype_numpy"] for channel in CHANNELS} == {dtype}


def test_our_page_unpacks_into_valid_events() -> None:
    page: Any = derived_page("d", [4, 5], {name: [1.0, 2.0] for name in CHANNELS}, time=1.0)
    events = list(event_model.unpack_event_page(page))
    for event in events:
        event_model.schema_validators[event_model.DocumentNames.event].validate(event)
    assert [(event["seq_num"], event["data"]["red"]) for event in events] == [(4, 1.0), (5, 2.0)]
    assert len({event["uid"] for event in events}) == 2


def test_the_same_run_and_rois_give_the_same_descriptor_and_others_another() -> None:
    one, other = run_of(), Run({**START, "uid": "other"})
    uids = [
        derived_descriptor(run, rois, frame_shape=(128, 96), time=time)["uid"]
        for run, rois, time in (
            (one, ROIS, 1.0),
            (one, ROIS, 2.0),
            (one, {"red": (0, 1, 0, 1)}, 1.0),
            (other, ROIS, 1.0),
        )
    ]
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3
    assert lost_stop(one, "a", time=1.0)["uid"] == lost_stop(one, "b", time=2.0)["uid"]


def test_a_derived_descriptor_says_of_what_it_was_made() -> None:
    run = run_of()
    data = derived_descriptor(run, ROIS, frame_shape=(128, 96), time=1.0)["configuration"][DERIVED]["data"]
    assert (data["data_key"], data["source"], data["frame_shape"]) == ("camera", "d", [128, 96])
    assert orjson.loads(data["rois"]) == {name: list(rectangle) for name, rectangle in ROIS.items()}


def test_rois_are_those_of_the_start_document_else_those_of_the_instrument() -> None:
    setting = {"spot": (1, 2, 3, 4)}
    assert rois_of({"rois": {"red": [0, 5, 0, 6]}}, setting) == {"red": (0, 5, 0, 6)}
    assert rois_of({}, setting) == setting
    assert rois_of({"rois": None}, setting) == setting
    assert rois_of({"color_rois": {"red": [-0.7, -0.1]}}, None) is None
    assert rois_of({}, {}) is None


@pytest.mark.parametrize(
    "rois",
    [
        {},
        [],
        "",
        5,
        [[0, 1, 0, 1]],
        {"red": None},
        {"red": [0, 1, 0]},
        {"red": [0, 1, 0, 1, 5]},
        {"red": [0, 1, 0, 1.0]},
        {"red": [0, True, 0, 1]},
        {"red": [0, 0, 0, 1]},
        {"red": [5, 1, 0, 1]},
        {"red": [-1, 1, 0, 1]},
        {"red": "0101"},
        {"total": [0, 1, 0, 1]},
        {str(n): [0, 1, 0, 1] for n in range(100)},
    ],
    ids=lambda rois: str(rois)[:40],
)
def test_rois_that_are_no_rectangles_are_refused(rois: Any) -> None:
    with pytest.raises(DocumentError, match=r"^rois .* are not rectangles"):
        rois_of({"rois": rois}, {"spot": (1, 2, 3, 4)})


# anything

STARTS = [
    {**START, "shape": [2, 3], "hints": {}, "motors": ["y", "x"], "extents": [[0, 1], [2, 3]]},
    {**START, "scanspec": {"axis": "x", "start": 0, "stop": 1, "num": 6, "type": "Linspace"}, "num_points": 6},
    {**START, "shape": [2, 3], "snaking": [False, True], "rois": {"red": [0, 43, 0, 96]}},
    START,
]
OURS = derived_descriptor(run_of(), ROIS, frame_shape=(128, 96), time=1.0)
PAGE = derived_page(OURS["uid"], [1, 2], {name: [1.0, 2.0] for name in CHANNELS}, time=1.0)
REST = [
    ("descriptor", {**DESCRIPTOR, "data_keys": {"camera": IMAGE, "x": {"units": "mm", "shape": []}}}),
    ("stream_resource", RESOURCE),
    ("stream_datum", datum(0, 1, 4)),
    ("stream_datum", datum(4, 3, 3)),
    ("event", {"descriptor": "d", "seq_num": 1, "data": {"x": 1.5}, "timestamps": {"x": 1.0}, "time": 1.0}),
    ("descriptor", OURS),
    ("event_page", PAGE),
    ("stop", SUCCESS),
]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from places(part, (*above, key))


def changed_at(doc: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy in which one part is another."""
    doc = copy.deepcopy(doc)
    above: Any = doc
    for key in way[:-1]:
        above = above[key]
    above[way[-1]] = value
    return doc


@examples(200)
@given(st.data(), st.sampled_from(STARTS), st.lists(st.integers(0, len(REST)), min_size=1, max_size=3))
def test_any_decoded_document_folds_or_is_refused_with_a_document_error(
    data: st.DataObject, start: dict[str, Any], broken: list[int]
) -> None:
    documents = [("start", start), *REST]
    for number in broken:
        name, doc = documents[number]
        ways = list(places(doc)) or [("uid",)]
        way = ways[data.draw(st.integers(0, len(ways) - 1))]
        documents[number] = (name, changed_at(doc, way, data.draw(strange_values)))
    order, run = CausalOrder(), None
    for document in decoded(documents):
        for ready in order.accept(document):
            run = run or Run(ready.doc)
            with suppress(DocumentError):
                run.apply(ready)
    if run is not None:
        check_readable(run)


def decoded(documents: list[tuple[str, dict[str, Any]]]) -> Iterator[Document]:
    """Those of some documents that are let in."""
    for name, doc in documents:
        with suppress(DocumentError):
            message = decode(orjson.dumps(envelope(name, doc, task_id="t")))
            assert isinstance(message, Document)
            yield message


def check_readable(run: Run) -> None:
    """Whatever was folded, everything that a page or the API asks of a run can be asked."""
    assert orjson.loads(orjson.dumps(run.summary()))["uid"] == run.uid
    assert run.status in ("running", "complete", "incomplete", "aborted", "failed", "lost")
    assert run.maps.raster is run.raster
    for number in range(len(run.maps.channels)):
        run.maps.histogram(number)
        run.maps.summary(number)
    while (row_range := run.ledger.pending()) is not None:
        settle(run.ledger, row_range)
    for uid in run.ledger.resources:
        run.ledger.fill(uid, length=20, expected=run.expected)
    with suppress(DocumentError):
        rois_of(run.start, None)


# events that got lost


def scalar_run(*seq_nums: int, num_events: Any = None, external: bool = False, **start: Any) -> Run:
    """A run of 12 points whose events came in this order; it has stopped when ``num_events`` is given."""
    run = Run({"uid": "r", "time": 1.0, "shape": [3, 4], **start})
    key = {"dtype": "number", "shape": [], **({"external": "STREAM:"} if external else {})}
    keys = {"diode": key}
    run.apply(Document("descriptor", {"uid": "d", "run_start": "r", "name": "primary", "data_keys": keys}, run="r"))
    for seq_num in seq_nums:
        data = {} if external else {"diode": float(seq_num)}
        run.apply(Document("event", {"descriptor": "d", "seq_num": seq_num, "data": data}, run="r"))
    if num_events is not None:
        stop = {"uid": "s", "run_start": "r", "exit_status": "success", "num_events": num_events}
        run.apply(Document("stop", stop, run="r"))
        run.apply(Document("settled", {"run_start": "r", "stop": "s", "points": run.points}, run="r"))
    return run


@pytest.mark.parametrize(
    ("seq_nums", "num_events", "said", "status"),
    [
        ([1, 2, 3, 4, 8, 9, 10, 11, 12], {"primary": 12}, "3 of 12 events are missing.", "incomplete"),
        (range(1, 10), {"primary": 12}, "3 of 12 events are missing.", "incomplete"),
        (range(3, 13), {}, "2 of 12 events are missing.", "incomplete"),
        (range(1, 13), {"primary": 12}, "", "complete"),
        ([*range(1, 8), *range(5, 13)], {"primary": 12}, "", "complete"),  # a rewind
        ([*range(1, 13), *range(1, 13)], {"primary": 12}, "", "complete"),  # delivered twice
        (range(1, 13), {"primary": -1, "other": 5}, "", "complete"),
        (range(1, 13), {"primary": "many"}, "", "complete"),
    ],
    ids=str,
)
def test_events_that_never_came_are_counted_and_said(seq_nums: Any, num_events: Any, said: str, status: str) -> None:
    run = scalar_run(*seq_nums, num_events=num_events)
    assert (" ".join(run.remarks), run.status) == (said, status)
    assert said in run.summary()["note"]
    assert run.points == len(set(seq_nums))


def test_a_gap_is_said_while_the_run_goes_on_and_closes_when_the_events_come_after_all() -> None:
    run = scalar_run(1, 2, 6)
    assert (run.remarks, run.status) == (["3 of 6 events are missing."], "running")
    page = {"descriptor": "d", "seq_num": [3, 4, 5], "data": {"diode": [3.0, 4.0, 5.0]}}
    run.apply(Document("event_page", page, run="r"))
    assert run.remarks == []


def test_a_stream_without_values_in_events_need_not_have_any() -> None:
    """A fly scan announces its frames and makes no events; what it tells of them is not missed."""
    run = scalar_run(num_events={"primary": 12}, external=True)
    assert run.remarks == []
    assert scalar_run(1, 2, 12, num_events={"primary": 12}, external=True).remarks == []


def test_lost_events_of_another_stream_are_told_with_its_name() -> None:
    run = scalar_run(*range(1, 13))
    keys = {"dark": {"dtype": "number", "shape": []}}
    run.apply(Document("descriptor", {"uid": "e", "run_start": "r", "name": "darks", "data_keys": keys}, run="r"))
    run.apply(Document("event", {"descriptor": "e", "seq_num": 1, "data": {"dark": 1.0}}, run="r"))
    stop = {"uid": "s", "run_start": "r", "exit_status": "success", "num_events": {"primary": 12, "darks": 1_002}}
    run.apply(Document("stop", stop, run="r"))
    assert run.remarks == ["1,001 of 1,002 events of darks are missing."]
    assert run.status == "running"
    run.apply(Document("settled", {"run_start": "r", "stop": "s", "points": 12}, run="r"))
    assert run.status == "incomplete"
