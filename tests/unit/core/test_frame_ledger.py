from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import recordings
from tests.support.ledgers import settle
from tests.support.properties import examples

from snakemap.core.frame_ledger import INDEX_MAX, SEQ_NUM_MAX, FrameLedger, RowRange
from snakemap.core.stream_resources import Resource, image_data_key
from snakemap.errors import DocumentError

Pair = tuple[str, int]
"""A resource and a row of its dataset, in points."""


def descriptor(shape: Any = (1, 128, 96), *, uid: str = "d", **changed: Any) -> dict[str, Any]:
    keys = {
        "camera-sum": {"external": "STREAM:", "shape": [1]},
        "stage-x": {"shape": [], "dtype": "number"},
        "camera": {"external": "STREAM:", "shape": list(shape)},
    }
    return {"uid": uid, "run_start": "run", "name": "primary", "data_keys": keys, **changed}


def resource(uid: str = "s", *, key: str = "camera", **changed: Any) -> dict[str, Any]:
    parameters = {"dataset": "/entry/data/data", "chunk_shape": [1, 128, 96]}
    uri = f"file://localhost/data/{uid}.h5"
    return {"uid": uid, "run_start": "run", "data_key": key, "uri": uri, "parameters": parameters, **changed}


def datum(index: int, seq_num: int, count: int = 1, *, of: str = "s", descriptor: str = "d") -> dict[str, Any]:
    indices, seq_nums = {"start": index, "stop": index + count}, {"start": seq_num, "stop": seq_num + count}
    return {"descriptor": descriptor, "stream_resource": of, "indices": indices, "seq_nums": seq_nums}


def ledger(*data: dict[str, Any], resources: int = 1, shape: Any = (1, 128, 96)) -> FrameLedger:
    """A ledger that knows resources "s", "s1", "s2" ... and has heard of some frames."""
    one = FrameLedger()
    one.add_descriptor(descriptor(shape))
    for number in range(resources):
        one.add_resource(resource(f"s{number or ''}"))
    for doc in data:
        one.add_datum(doc)
    return one


def taken(one: FrameLedger, *, limit: int = 64) -> list[RowRange]:
    """Every row range that waits, settled as it is taken."""
    row_ranges = []
    while (row_range := one.pending(limit=limit)) is not None:
        row_ranges.append(row_range)
        settle(one, row_range)
    return row_ranges


def pairs(row_ranges: list[RowRange]) -> list[tuple[int, Pair]]:
    """Each point of some row ranges with its row."""
    return [(p.seq_num + n, (p.resource, p.index + n)) for p in row_ranges for n in range(p.count)]


# what is kept account of


@pytest.mark.parametrize("case", recordings.CASES)
def test_a_recorded_stream_gives_each_point_its_frame_exactly_once(case: str) -> None:
    one = FrameLedger()
    add = {"descriptor": one.add_descriptor, "stream_resource": one.add_resource, "stream_datum": one.add_datum}
    read = []
    for document in recordings.documents(case):
        if document.name in add:
            add[document.name](document.doc)
            read += taken(one, limit=7)
    points = {"small_step": 63, "blob_fly": 40, "small_aborted": 20}[case]
    assert len(one.resources) == 1
    (uid,) = one.resources
    assert pairs(read) == [(seq_num, (uid, seq_num - 1)) for seq_num in range(1, points + 1)]
    assert (one.announced, one.waiting, one.given_up) == (points, 0, 0)


def test_the_recorded_resource_says_where_the_frames_are() -> None:
    one = FrameLedger()
    for document in recordings.documents("small_step"):
        if document.name == "descriptor":
            one.add_descriptor(document.doc)
        elif document.name == "stream_resource":
            one.add_resource(document.doc)
    assert one.data_key == "det16"
    assert list(one.resources.values()) == [
        Resource(
            "c26d2b35-0114-42c1-9353-decdc6cf7894",
            "file://localhost/data/da3cb786-a1b1-458e-823b-bfd9085fb511.h5",
            "/entry/data/data",
            1,
            (128, 96),
            (1, 128, 96),
        )
    ]


@pytest.mark.parametrize(
    ("shape", "frames_per_point", "frame_shape"),
    [
        ([1, 128, 96], 1, (128, 96)),
        ([4, 128, 96], 4, (128, 96)),
        ([1216, 1936], 1, (1216, 1936)),
        ([2, 3, 128, 96], 2, (128, 96)),
        ([None, 128, 96], 1, None),
        ([0, 128, 96], 1, None),
        ([True, 128, 96], 1, None),
        ([1, 128.0, 96], 1, None),
        (["1", "128", "96"], 1, None),
        ([1, 2**60, 96], 1, None),
        ([-4, 128, 96], 1, None),
    ],
    ids=str,
)
def test_the_shape_of_the_data_key_tells_frames_per_point_and_size(
    shape: list[Any], frames_per_point: int, frame_shape: tuple[int, int] | None
) -> None:
    resource = ledger(shape=shape).resources["s"]
    assert (resource.frames_per_point, resource.frame_shape) == (frames_per_point, frame_shape)


@pytest.mark.parametrize(
    "data_key",
    [
        None,
        5,
        [],
        {},
        {"external": "STREAM:"},
        {"external": "", "shape": [1, 2, 3]},
        {"external": "STREAM:", "shape": None},
        {"external": "STREAM:", "shape": 5},
        {"external": "STREAM:", "shape": "128x96"},
        {"external": "STREAM:", "shape": {"a": 1, "b": 2}},
        {"external": "STREAM:", "shape": [1]},
        {"shape": [1, 128, 96]},
    ],
    ids=str,
)
def test_a_data_key_without_external_frames_is_no_image(data_key: Any) -> None:
    assert image_data_key({"data_keys": {"k": data_key}}) is None


def test_baseline_and_derived_streams_are_no_maps_and_the_first_image_stays() -> None:
    one = FrameLedger()
    one.add_descriptor(descriptor(uid="b", name="baseline"))
    one.add_descriptor(descriptor(uid="m", name="snakemap"))
    one.add_descriptor({"uid": "x", "data_keys": {}})
    assert (one.descriptor, one.data_key) == (None, None)
    one.add_descriptor(descriptor(uid="d"))
    one.add_descriptor({"uid": "late", "data_keys": {"other": {"external": "STREAM:", "shape": [1, 9, 9]}}})
    assert (one.descriptor, one.data_key) == ("d", "camera")


def test_only_frames_of_our_data_key_and_descriptor_are_kept_account_of() -> None:
    one = ledger()
    one.add_resource(resource("sum", key="camera-sum"))
    one.add_datum(datum(0, 1, of="sum"))
    one.add_datum(datum(0, 1, of="unheard of"))
    one.add_datum(datum(0, 1, descriptor="other"))
    assert (list(one.resources), one.waiting, one.pending()) == (["s"], 0, None)


def test_a_resource_that_comes_before_its_descriptor_is_kept_for_it() -> None:
    one = FrameLedger()
    for uid in ("s", "s1", "s"):
        one.add_resource(resource(uid))
    one.add_resource(resource("sum", key="camera-sum"))
    one.add_descriptor(descriptor((4, 128, 96)))
    one.add_datum(datum(0, 1, 3))
    assert [(resource.uid, resource.frames_per_point) for resource in one.resources.values()] == [("s", 4), ("s1", 4)]
    assert pairs(taken(one)) == [(1, ("s", 0)), (2, ("s", 1)), (3, ("s", 2))]


def test_a_bad_resource_that_comes_before_its_descriptor_spoils_no_other() -> None:
    one = FrameLedger()
    one.add_resource(resource("bad", parameters={}))
    one.add_resource(resource("s"))
    with pytest.raises(DocumentError, match="bad does not name the dataset"):
        one.add_descriptor(descriptor())
    assert (one.data_key, list(one.resources)) == ("camera", ["s"])


@pytest.mark.parametrize("parameters", [{"dataset": "/a"}, {"path": "/a"}, {"dataset": None, "path": "/a", "swmr": 1}])
def test_a_dataset_may_be_called_path(parameters: dict[str, Any]) -> None:
    one = ledger()
    one.add_resource(resource("other", parameters=parameters))
    assert one.resources["other"].dataset == "/a"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"parameters": {}}, "name the dataset"),
        ({"parameters": {"dataset": 5}}, "name the dataset"),
        ({"parameters": {"dataset": ["/a"]}}, "name the dataset"),
        ({"parameters": {"dataset": ""}}, "name the dataset"),
        ({"uri": "file://["}, "not a URI"),
        ({"uri": "//[::1"}, "not a URI"),
    ],
    ids=str,
)
def test_a_resource_that_cannot_be_read_is_refused(changed: dict[str, Any], why: str) -> None:
    one = ledger()
    with pytest.raises(DocumentError, match=why):
        one.add_resource(resource("bad", **changed))
    assert list(one.resources) == ["s"]


@pytest.mark.parametrize(
    ("mimetype", "kind"),
    [
        ("multipart/related;type=image/tiff", "TIFF (multipart/related;type=image/tiff)"),
        ("multipart/related;type=image/jpeg", "JPEG (multipart/related;type=image/jpeg)"),
        ("application/x-zarr", "Zarr (application/x-zarr)"),
        ("text/csv;header=present", "text/csv;header=present"),
        (None, "of no known kind"),
        (5, "of no known kind"),
    ],
)
def test_files_that_are_not_hdf5_are_no_error_and_are_named(mimetype: Any, kind: str) -> None:
    one = FrameLedger()
    one.add_descriptor(descriptor())
    one.add_resource(resource("other", mimetype=mimetype, parameters={}))
    assert one.unread_reason == f"its files are {kind}, and only HDF5 is read"
    one.add_resource(resource("s"))
    assert (one.unread_reason, list(one.resources)) == ("", ["s"])


def test_the_same_resource_twice_is_one() -> None:
    one = ledger(datum(0, 1, 3))
    one.add_resource(resource("s", uri="file://localhost/elsewhere.h5"))
    assert one.resources["s"].uri == "file://localhost/data/s.h5"
    assert len(taken(one)) == 1


@pytest.mark.parametrize(
    "doc",
    [
        datum(0, SEQ_NUM_MAX - 1, 2),
        datum(INDEX_MAX, 1),
        datum(2**64 - 2, 1),
        datum(0, 2**64 - 2),
        datum(-1, 1),
        {**datum(0, 1), "indices": {}},
        {**datum(0, 1), "seq_nums": {"start": True, "stop": 2}},
    ],
    ids=str,
)
def test_frames_beyond_all_bounds_are_refused(doc: dict[str, Any]) -> None:
    one = ledger()
    with pytest.raises(DocumentError):
        one.add_datum(doc)
    assert (one.announced, one.waiting) == (0, 0)


@pytest.mark.parametrize(
    "doc", [datum(0, 0, 5), datum(7, 9, 0), {**datum(0, 1, 9), "seq_nums": {"start": 0, "stop": 0}}]
)
def test_frames_of_no_point_are_left_out(doc: dict[str, Any]) -> None:
    one = ledger(doc)
    assert (one.announced, one.waiting, one.pending()) == (0, 0, None)


def test_thousands_of_resources_are_told_apart_and_there_is_an_end_to_them() -> None:
    one = ledger(resources=10_000)
    one.add_datum(datum(0, 1, of="s9999"))
    assert pairs(taken(one)) == [(1, ("s9999", 0))]
    with pytest.raises(DocumentError, match="10,000"):
        one.add_resource(resource("one more"))


# pending, settle, put_back, give_up


def test_points_are_read_oldest_first_in_pieces_of_the_limit() -> None:
    one = ledger(datum(0, 1, 100), datum(100, 101, 5))
    assert taken(one, limit=64) == [RowRange("s", 0, 1, 64), RowRange("s", 64, 65, 36), RowRange("s", 100, 101, 5)]


def test_a_piece_is_given_out_once_until_it_is_put_back() -> None:
    one = ledger(datum(0, 1, 5), datum(5, 6, 2))
    row_range = RowRange("s", 0, 1, 5)
    assert one.pending() == row_range
    assert one.pending() == RowRange("s", 5, 6, 2)
    one.put_back(RowRange("s", 5, 6, 2))
    one.put_back(row_range)
    assert [one.pending(), one.pending(), one.pending()] == [row_range, RowRange("s", 5, 6, 2), None]
    assert one.waiting == 7


def test_a_part_of_a_piece_may_be_settled_and_the_rest_put_back() -> None:
    one = ledger(datum(0, 1, 10))
    row_range = one.pending()
    assert row_range is not None
    settle(one, row_range.part(0, 4))
    one.put_back(row_range)
    assert (one.pending(), one.waiting) == (RowRange("s", 4, 5, 6), 6)


def test_points_given_up_are_counted_and_not_asked_for_again_by_a_duplicate() -> None:
    one = ledger(datum(0, 1, 5))
    row_range = one.pending()
    assert row_range is not None
    one.give_up(row_range.part(0, 2))
    settle(one, row_range.part(2, 3))
    one.add_datum(datum(0, 1, 5))
    assert (one.pending(), one.waiting, one.given_up) == (None, 0, 2)


def test_a_rewind_asks_for_the_later_frames_of_the_same_points() -> None:
    one = ledger(datum(0, 1, 5))
    first = taken(one)
    one.add_datum(datum(5, 4, 4))
    assert pairs(first) == [(n, ("s", n - 1)) for n in range(1, 6)]
    assert taken(one) == [RowRange("s", 5, 4, 4)]
    assert one.announced == 7


def test_a_rewind_before_reading_leaves_the_frames_it_replaced_unread() -> None:
    one = ledger(datum(0, 1, 5), datum(5, 4, 4))
    assert taken(one) == [RowRange("s", 0, 1, 3), RowRange("s", 5, 4, 4)]


def test_a_frame_replaced_while_it_was_read_is_not_taken_for_the_later_one() -> None:
    one = ledger(datum(0, 1, 5))
    row_range = one.pending()
    assert row_range is not None
    one.add_datum(datum(5, 4, 2))
    settle(one, row_range)
    assert (taken(one), one.waiting) == ([RowRange("s", 5, 4, 2)], 0)


def test_an_old_announcement_delivered_again_does_not_undo_a_rewind() -> None:
    one = ledger(datum(0, 1, 5), datum(5, 4, 4))
    taken(one)
    one.add_datum(datum(0, 1, 5))
    assert (one.pending(), one.waiting) == (None, 0)


def test_an_announcement_that_overlaps_one_that_is_being_read_asks_only_for_the_rest() -> None:
    one = ledger(datum(0, 1, 5))
    row_range = one.pending()
    one.add_datum(datum(0, 1, 8))
    assert (row_range, one.pending(), one.pending()) == (RowRange("s", 0, 1, 5), RowRange("s", 5, 6, 3), None)


def test_of_two_resources_the_later_one_counts() -> None:
    one = ledger(datum(0, 1, 5, of="s1"), datum(0, 1, 7), resources=2)
    assert pairs(taken(one)) == [
        *((n, ("s1", n - 1)) for n in range(1, 6)),
        *((n, ("s", n - 1)) for n in (6, 7)),
    ]


def test_a_page_of_an_earlier_file_settles_no_point_that_a_later_file_has() -> None:
    one = ledger(datum(0, 1, 5), datum(0, 3, 1, of="s1"), resources=2)
    assert (one.number_of("s"), one.number_of("s1")) == (0, 1)
    one.settle_points([2, 3], [1, 2], [0, 0])
    assert pairs(taken(one)) == [(1, ("s", 0)), (4, ("s", 3)), (5, ("s", 4)), (3, ("s1", 0))]


def test_points_that_a_derived_document_tells_of_have_been_read() -> None:
    one = ledger(datum(0, 1, 5))
    one.settle_points([2, 3, 0, -4, SEQ_NUM_MAX + 5])
    assert pairs(taken(one)) == [(1, ("s", 0)), (4, ("s", 3)), (5, ("s", 4))]
    one.settle_points([])
    assert one.waiting == 0


def test_settling_points_nobody_announced_costs_nothing_but_spares_filling_them_again() -> None:
    one = ledger(datum(0, 1, 3))
    one.settle_points([2000, 4])
    assert (one.announced, one.waiting) == (3, 3)
    assert one.fill("s", length=5, expected=5) == 1
    assert pairs(taken(one)) == [(1, ("s", 0)), (2, ("s", 1)), (3, ("s", 2)), (5, ("s", 4))]


streams = st.lists(
    st.tuples(
        st.integers(0, 2),  # resource
        st.integers(0, 3),  # rows that nobody announces
        st.integers(-9, 4),  # where the scan goes on: back, or with a gap
        st.integers(1, 6),  # points
    ),
    max_size=12,
)


def announcements(stream: list[tuple[int, int, int, int]]) -> tuple[list[dict[str, Any]], dict[int, Pair]]:
    """Announcements of a RunEngine that rewinds and skips, and the frame that each point should end with."""
    rows, seq_num = [0, 0, 0], 1
    documents, best = [], {}
    for number, skipped, moved, count in sorted(stream, key=lambda part: part[0]):
        uid = f"s{number or ''}"
        rows[number] += skipped
        seq_num = max(1, seq_num + moved)
        documents.append(datum(rows[number], seq_num, count, of=uid))
        best |= {seq_num + n: (uid, rows[number] + n) for n in range(count)}
        rows[number], seq_num = rows[number] + count, seq_num + count
    return documents, best


def with_lost(delivered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Announcements in the order of delivery, with those that must have got lost between two that agree."""
    found: list[dict[str, Any]] = []
    ends: dict[str, tuple[int, int]] = {}
    highest = 0
    for doc in delivered:
        uid, row, seq_num = doc["stream_resource"], doc["indices"]["start"], doc["seq_nums"]["start"]
        before, after = ends.get(uid, (0, 1 if uid == "s" else highest + 1))
        if row > before and row - before == seq_num - after:
            found.append(datum(before, after, row - before, of=uid))
        found.append(doc)
        highest = max(highest, doc["seq_nums"]["stop"] - 1)
        if doc["indices"]["stop"] > ends.get(uid, (0, 0))[0]:
            ends[uid] = doc["indices"]["stop"], doc["seq_nums"]["stop"]
    return found


def last_frames(documents: list[dict[str, Any]]) -> dict[int, Pair]:
    """The frame that each point should end with: of the later resource, in one resource the higher row."""
    best: dict[int, Pair] = {}
    for doc in documents:
        for n in range(doc["indices"]["stop"] - doc["indices"]["start"]):
            seq_num, frame = doc["seq_nums"]["start"] + n, (doc["stream_resource"], doc["indices"]["start"] + n)
            best[seq_num] = max(frame, best.get(seq_num, frame))
    return best


@examples(150)
@given(streams, st.integers(0, 6), st.integers(1, 5), st.booleans(), st.randoms(use_true_random=False))
def test_every_point_ends_with_its_last_frame_whatever_is_repeated_or_out_of_order(
    stream: list[tuple[int, int, int, int]], repeated: int, limit: int, shuffled: bool, chance: random.Random
) -> None:
    documents, best = announcements(stream)
    delivered = documents + documents[:repeated]
    if shuffled:
        chance.shuffle(delivered)
    best = last_frames(with_lost(delivered))
    one, read, flying = ledger(resources=3), [], []
    for document in delivered:
        one.add_datum(document)
        while chance.random() < 0.5 and (row_range := one.pending(limit=limit)) is not None:
            assert 1 <= row_range.count <= limit
            flying.append(row_range)
        while flying and chance.random() < 0.6:
            row_range = flying.pop(0)
            read.append(row_range)
            settle(one, row_range)
    for row_range in flying:
        one.put_back(row_range)
    read += taken(one, limit=limit)
    assert dict(pairs(read)) == best
    assert len(pairs(read)) == len(set(pairs(read)))
    assert (one.waiting, one.given_up) == (0, 0)
    assert one.announced == max(best, default=0)


@examples(100)
@given(streams, st.integers(1, 5), st.randoms(use_true_random=False))
def test_what_is_read_given_up_and_waiting_adds_up_to_what_was_announced(
    stream: list[tuple[int, int, int, int]], limit: int, chance: random.Random
) -> None:
    documents, _ = announcements(stream)
    best = last_frames(with_lost(documents))
    one = ledger(*documents, resources=3)
    state = dict.fromkeys(best, "waiting")
    for _ in range(40):
        row_range = one.pending(limit=limit)
        if row_range is None:
            break
        action = chance.choice(["settle", "give_up", "put_back"])
        settle(one, row_range) if action == "settle" else getattr(one, action)(row_range)
        if action != "put_back":
            state |= {row_range.seq_num + n: action for n in range(row_range.count)}
        assert one.waiting == list(state.values()).count("waiting")
        assert one.given_up == list(state.values()).count("give_up")


# fill


def filled(documents: list[dict[str, Any]], number: int, rows: int, expected: int | None) -> dict[int, int]:
    """Rows to fill by point, worked out one by one: what :meth:`FrameLedger.fill` is to find."""
    best = last_frames(with_lost(documents))
    own = [doc for doc in documents if doc["stream_resource"] == f"s{number or ''}"]
    if not own and number:
        return {}
    row, seq_num = (own[-1]["indices"]["stop"], own[-1]["seq_nums"]["stop"]) if own else (0, 1)
    tail = {seq_num + n: row + n for n in range(rows - row)}
    return {point: row for point, row in tail.items() if point not in best and point <= (expected or 10**9)}


@examples(150)
@given(streams, st.integers(0, 2), st.integers(0, 60), st.none() | st.integers(1, 40))
def test_rows_that_nobody_announced_are_filled_after_the_last_that_was_announced(
    stream: list[tuple[int, int, int, int]], number: int, rows: int, expected: int | None
) -> None:
    documents, _ = announcements(stream)
    one = ledger(*documents, resources=3)
    taken(one)
    uid = f"s{number or ''}"
    wanted = filled(documents, number, rows, expected)
    assert one.fill(uid, length=rows, expected=expected) == len(wanted)
    assert sorted(pairs(taken(one))) == sorted((seq_num, (uid, row)) for seq_num, row in wanted.items())
    assert one.fill(uid, length=rows, expected=expected) == 0


# announcements that got lost


@pytest.mark.parametrize("lost", [slice(0, 3), slice(4, 5), slice(2, 9), slice(0, 9)], ids=str)
def test_rows_whose_announcement_got_lost_are_read_as_soon_as_later_ones_are_announced(lost: slice) -> None:
    documents = [datum(row, row + 1) for row in range(10)]
    del documents[lost]
    one = ledger(*documents)
    assert sorted(pairs(taken(one))) == [(row + 1, ("s", row)) for row in range(10)]
    assert (one.filled, one.announced) == (len(range(10)[lost]), 10)
    one.add_datum(datum(lost.start, lost.start + 1, lost.stop - lost.start))  # late
    assert (one.pending(), one.filled) == (None, 0)


def test_the_first_rows_of_a_second_file_go_on_where_the_first_file_ended() -> None:
    one = ledger(datum(0, 1, 5), datum(2, 8, 3, of="s1"), resources=2)
    assert sorted(pairs(taken(one)))[5:] == [(seq_num, ("s1", seq_num - 6)) for seq_num in range(6, 11)]


@pytest.mark.parametrize(
    "documents",
    [
        [datum(0, 1, 3), datum(5, 4, 2)],  # back to point 4, from wherever rows 3 and 4 were
        [datum(0, 1, 3), datum(5, 3, 2)],
        [datum(4, 1, 3)],  # rows of the run before
        [datum(0, 1, 5), datum(2, 6, 3, of="s1")],  # of a scan that went back when it began another file
        [datum(0, 1, 5), datum(2, 9, 3, of="s1")],  # rows of either file
    ],
)
def test_rows_that_could_belong_to_several_points_belong_to_none(documents: list[dict[str, Any]]) -> None:
    one = ledger(*documents, resources=2)
    rows = {(doc["stream_resource"], row) for doc in documents for row in range(*doc["indices"].values())}
    assert {pair for _, pair in pairs(taken(one))} <= rows
    for uid in ("s", "s1"):
        last = max((row for of, row in rows if of == uid), default=-1)
        one.fill(uid, length=last + 1, expected=None)
    assert taken(one) == []


@examples(200)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_whatever_announcements_get_lost_no_point_is_given_a_frame_of_another(
    stretches: list[tuple[int, int, bool]], batch: int, chance: random.Random
) -> None:
    """A RunEngine takes points, rewinds, and begins another file now and then; the last announcement always comes."""
    row, seq_num, number = 0, 1, 0
    truth: dict[Pair, int] = {}
    documents: list[dict[str, Any]] = []
    for points, back, another_file in stretches:
        if another_file and row and number < 2:
            row, number = 0, number + 1
        uid = f"s{number or ''}"
        seq_num = max(1, seq_num - back)
        for first in range(0, points, batch):
            count = min(batch, points - first)
            documents.append(datum(row, seq_num, count, of=uid))
            truth |= {(uid, row + n): seq_num + n for n in range(count)}
            row, seq_num = row + count, seq_num + count
    last = {doc["stream_resource"]: doc for doc in documents}
    one = ledger(*(doc for doc in documents if doc in last.values() or chance.random() < 0.6), resources=3)
    read = pairs(taken(one))
    for uid, doc in last.items():
        one.fill(uid, length=doc["indices"]["stop"], expected=None)
    read += pairs(taken(one))
    assert all(truth[frame] == point for point, frame in read)
    if all(back == 0 for _, back, _ in stretches) and number == 0:
        assert sorted(point for point, _ in read) == sorted(set(truth.values()))


def test_the_tail_that_an_aborted_scan_never_announced_is_filled_in_one_piece() -> None:
    one = ledger(datum(0, 1, 84))
    taken(one)
    assert one.fill("s", length=97, expected=100) == 13
    assert taken(one) == [RowRange("s", 84, 85, 13)]


def test_a_file_of_which_nothing_was_announced_is_filled_from_the_first_point() -> None:
    one = ledger()
    assert one.fill("s", length=30, expected=20) == 20
    assert taken(one) == [RowRange("s", 0, 1, 20)]


def test_a_later_file_of_which_nothing_was_announced_is_left_alone() -> None:
    one = ledger(resources=2)
    assert one.fill("s1", length=30, expected=20) == 0


def test_rows_are_points_and_not_frames_where_several_make_a_point() -> None:
    one = ledger(datum(0, 1, 2), shape=(4, 128, 96))
    taken(one)
    assert one.fill("s", length=15, expected=None) == 1
    assert taken(one) == [RowRange("s", 2, 3, 1)]


def test_what_was_given_up_is_asked_for_once_more_as_far_as_the_file_goes() -> None:
    one = ledger(datum(0, 1, 10))
    while (row_range := one.pending()) is not None:
        one.give_up(row_range)
    assert one.fill("s", length=6, expected=10) == 6
    assert taken(one) == [RowRange("s", 0, 1, 6)]
    assert (one.given_up, one.waiting) == (4, 0)


def test_what_is_being_read_is_not_filled() -> None:
    one = ledger(datum(0, 1, 10))
    row_range = one.pending()
    assert row_range is not None
    assert one.fill("s", length=10, expected=10) == 0
    one.put_back(row_range)
    assert taken(one) == [RowRange("s", 0, 1, 10)]


def test_a_file_that_claims_to_be_endless_costs_no_more_than_the_scan() -> None:
    one = ledger(datum(0, 1, 10))
    taken(one)
    assert one.fill("s", length=2**62, expected=63) == 53
    assert taken(one) == [RowRange("s", 10, 11, 53)]


def test_a_long_scan_is_accounted_for_within_a_moment() -> None:
    one = ledger()
    for first in range(0, 1_000_000, 10_000):
        one.add_datum(datum(first, first + 1, 10_000))
    assert one.waiting == 1_000_000
    assert sum(row_range.count for row_range in taken(one, limit=10_000)) == 1_000_000
    assert one.fill("s", length=1_100_000, expected=1_200_000) == 100_000
    assert np.sum([row_range.count for row_range in taken(one, limit=10_000)]) == 100_000
