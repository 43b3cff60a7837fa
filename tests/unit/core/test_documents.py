from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import recordings
from tests.support.hostile_bodies import HOSTILE_BODIES
from tests.support.properties import examples, strange_values

from snakemap.core.causal_order import CausalOrder
from snakemap.core.coalesce import coalesce
from snakemap.core.documents import (
    SETTLED,
    WORKER,
    Document,
    Entry,
    Span,
    WorkerEvent,
    decode,
    envelope,
    parents,
    to_json_line,
)
from snakemap.errors import DocumentError

RUN = "c2b8eafc-390c-4d1a-be80-23f2a976cfe1"

GOOD: dict[str, dict[str, Any]] = {
    "start": {"uid": "run", "time": 1.5},
    "descriptor": {"uid": "d", "run_start": "run", "data_keys": {}},
    "event": {"descriptor": "d", "seq_num": 1},
    "event_page": {"descriptor": "d", "seq_num": [1, 2]},
    "resource": {"uid": "old", "run_start": "run"},
    "datum": {"datum_id": "old/0", "resource": "old"},
    "datum_page": {"datum_id": ["old/0"], "resource": "old"},
    "stream_resource": {"uid": "s", "run_start": "run", "data_key": "k", "uri": "file:///x", "parameters": {}},
    "stream_datum": {
        "descriptor": "d",
        "stream_resource": "s",
        "indices": {"start": 0, "stop": 1},
        "seq_nums": {"start": 1, "stop": 2},
    },
    "stop": {"run_start": "run", "exit_status": "success"},
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # half a surrogate pair is not text, and JSON cannot hold it
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | strange_values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4),
    max_leaves=8,
)


def encoded(name: str, doc: dict[str, Any]) -> bytes:
    return orjson.dumps(envelope(name, doc, task_id="t"))


def page(seq_nums: list[int], data: Any, *, descriptor: str = "d", cursor: str = "1-0") -> Entry:
    return Entry(cursor, "event_page", "run", None, {"descriptor": descriptor, "seq_num": seq_nums, "data": data})


# decode


def test_a_recorded_step_scan_decodes_into_its_documents_and_the_progress_events_fall_away() -> None:
    decoded = [decode(body) for body in recordings.bodies("small_step")]
    kinds = Counter(
        "progress" if message is None else message.name if isinstance(message, Document) else WORKER
        for message in decoded
    )
    assert kinds == {
        "progress": 507,
        WORKER: 3,
        "start": 1,
        "descriptor": 1,
        "stream_resource": 2,
        "stream_datum": 126,
        "event": 63,
        "stop": 1,
    }


@pytest.mark.parametrize("case", recordings.CASES)
def test_every_recorded_document_keeps_its_body_and_the_task_that_made_it(case: str) -> None:
    for body in recordings.bodies(case):
        message = decode(body)
        if isinstance(message, Document):
            sent = json.loads(body)
            assert (message.name, message.doc, message.task_id) == (sent["name"], sent["doc"], sent["task_id"])
            assert message.run == ""


def test_a_message_reads_the_same_as_bytes_and_as_text() -> None:
    for body in recordings.bodies("blob_fly"):
        assert decode(body) == decode(body.encode())


def test_a_worker_event_tells_state_task_outcome_and_messages() -> None:
    body = {
        "state": "IDLE",
        "task_status": {"task_id": "t", "result": None, "task_complete": True, "task_failed": True},
        "errors": ["first", "second"],
        "warnings": ["careful"],
    }
    assert decode(orjson.dumps(body)) == WorkerEvent(
        state="IDLE",
        task_id="t",
        complete=True,
        failed=True,
        errors=("first", "second"),
        warnings=("careful",),
        body=body,
    )


@pytest.mark.parametrize("status", [{}, {"task_status": None}, {"errors": None, "warnings": None}])
def test_a_worker_event_without_a_task_is_one_all_the_same(status: dict[str, Any]) -> None:
    event = decode(orjson.dumps({"state": "PANICKED", **status}))
    assert isinstance(event, WorkerEvent)
    assert (event.state, event.task_id, event.complete, event.failed) == ("PANICKED", None, False, False)
    assert (event.errors, event.warnings) == ((), ())


@pytest.mark.parametrize("name", GOOD)
def test_the_least_that_a_document_must_have_is_enough(name: str) -> None:
    assert decode(encoded(name, GOOD[name])) == Document(name, GOOD[name], task_id="t")


@pytest.mark.parametrize("task_id", [None, 5, ["t"], True])
def test_a_task_id_that_is_no_text_counts_as_none(task_id: Any) -> None:
    message = decode(orjson.dumps({"name": "stop", "doc": GOOD["stop"], "task_id": task_id}))
    assert isinstance(message, Document)
    assert message.task_id is None


def test_frames_announced_before_their_points_are_known_are_let_pass() -> None:
    doc = {**GOOD["stream_datum"], "indices": {"start": 0, "stop": 9}, "seq_nums": {"start": 0, "stop": 0}}
    assert isinstance(decode(encoded("stream_datum", doc)), Document)


@pytest.mark.parametrize("what", HOSTILE_BODIES)
def test_a_hostile_body_is_refused_with_a_short_reason_and_nothing_else(what: str) -> None:
    with pytest.raises(DocumentError) as refused:
        decode(HOSTILE_BODIES[what])
    assert 0 < len(str(refused.value)) < 400


def test_what_is_decoded_can_be_written_again_however_deeply_it_is_nested() -> None:
    for depth in range(230, 260):
        body = b'{"name":"start","doc":{"uid":"a","time":1,"x":' + b"[" * depth + b"]" * depth + b"}}"
        try:
            message = decode(body)
        except DocumentError:
            continue
        assert isinstance(message, Document)
        assert orjson.loads(orjson.dumps(message.doc)) == message.doc
        assert depth < 254
    with pytest.raises(DocumentError, match="written again"):
        decode(b'{"name":"start","doc":{"uid":"a","time":1,"x":' + b"[" * 254 + b"]" * 254 + b"}}")


@examples(300)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_a_message_or_a_document_error(body: bytes | str) -> None:
    refused_or_message(body)


@examples(300)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_document_with_any_field_replaced_or_dropped_is_a_document_or_a_document_error(
    name: str, data: st.DataObject
) -> None:
    doc = dict(GOOD[name])
    key = data.draw(st.sampled_from([*doc, "data", "time", "extra"]))
    if data.draw(st.booleans()):
        doc[key] = data.draw(json_values)
    else:
        doc.pop(key, None)
    refused_or_message(encoded(name, doc))


@examples(200)
@given(json_values)
def test_any_json_is_a_message_or_a_document_error(value: Any) -> None:
    for body in (value, {"state": value}, {"state": "IDLE", "task_status": value, "errors": value, "warnings": value}):
        refused_or_message(orjson.dumps(body))


def refused_or_message(body: bytes | str) -> None:
    try:
        message = decode(body)
    except DocumentError:
        return
    assert message is None or isinstance(message, Document | WorkerEvent)


def test_an_envelope_decodes_into_the_document_that_it_was_made_from() -> None:
    assert decode(orjson.dumps(envelope("stop", GOOD["stop"], task_id="t"))) == Document(
        "stop", GOOD["stop"], task_id="t"
    )


# Span


@pytest.mark.parametrize(("start", "stop", "size"), [(0, 0, 0), (0, 5, 5), (7, 8, 1)])
def test_a_span_knows_its_size(start: int, stop: int, size: int) -> None:
    assert Span.read({"start": start, "stop": stop}, "indices") == Span(start, stop)
    assert Span(start, stop).size == size


@pytest.mark.parametrize("value", [{}, {"start": 1, "stop": 0}, {"start": -1, "stop": 0}, {"start": True, "stop": 2}])
def test_a_span_that_is_none_says_which_field_it_was(value: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"seq_nums .* is not a range from start to stop"):
        Span.read(value, "seq_nums")


# CausalOrder


def test_parents_are_the_uids_that_a_document_refers_to() -> None:
    assert {name: parents(name, doc) for name, doc in GOOD.items()} == {
        "start": [],
        "descriptor": ["run"],
        "event": ["d"],
        "event_page": ["d"],
        "resource": ["run"],
        "datum": ["old"],
        "datum_page": ["old"],
        "stream_resource": ["run"],
        "stream_datum": ["d", "s"],
        "stop": ["run"],
    }


def passed(order: CausalOrder, documents: list[Document]) -> list[Document]:
    return [ready for document in documents for ready in order.accept(document)]


@pytest.mark.parametrize("case", recordings.CASES)
def test_a_recorded_stream_goes_straight_through_with_the_uid_of_its_run(case: str) -> None:
    documents = recordings.documents(case)
    order = CausalOrder()
    ready = passed(order, documents)
    assert [(document.name, document.doc) for document in ready] == [(d.name, d.doc) for d in documents]
    assert {document.run for document in ready} == {documents[0].doc["uid"]}
    assert order.waiting == 0


@examples(60)
@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_any_shuffle_of_interleaved_runs_comes_out_complete_and_in_causal_order(
    chance: random.Random, repeated: int
) -> None:
    documents = [d for case in ("blob_fly", "small_aborted") for d in recordings.documents(case)]
    documents += chance.choices(documents, k=repeated)
    chance.shuffle(documents)
    order = CausalOrder()
    ready = passed(order, documents)
    assert order.waiting == 0
    assert Counter(map(shown, ready)) == Counter(map(shown, documents))
    known: dict[str, str] = {}
    for document in ready:
        assert all(uid in known for uid in parents(document.name, document.doc))
        owners = {known[uid] for uid in parents(document.name, document.doc)} or {document.doc["uid"]}
        assert owners == {document.run}
        if "uid" in document.doc:
            known[document.doc["uid"]] = document.run


@examples(60)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=30), st.integers(0, 30))
def test_documents_that_waited_go_on_in_the_order_in_which_they_came(numbers: list[int], cut: int) -> None:
    events = [Document("event", {"descriptor": "d", "seq_num": number}) for number in numbers]
    descriptor, start = Document("descriptor", GOOD["descriptor"]), Document("start", GOOD["start"])
    ready = passed(CausalOrder(), [*events[:cut], descriptor, *events[cut:], start])
    assert [document.name for document in ready[:2]] == ["start", "descriptor"]
    assert [document.doc["seq_num"] for document in ready[2:]] == numbers


def test_a_duplicate_goes_on_each_time_it_comes() -> None:
    order = CausalOrder()
    documents = [Document("start", GOOD["start"]), Document("descriptor", GOOD["descriptor"])] * 3
    assert len(passed(order, documents)) == 6


def test_uids_that_are_known_from_before_a_restart_need_not_come_again() -> None:
    order = CausalOrder({"run": "run", "d": "run"})
    assert [document.run for document in order.accept(Document("event", GOOD["event"]))] == ["run"]


def test_what_waits_goes_on_when_another_has_handed_its_parent_on() -> None:
    order = CausalOrder({"other": "other"})
    first, second = (Document("event", {"descriptor": "d", "uid": f"e{number}"}) for number in (1, 2))
    assert order.accept(first) == order.accept(second) == []
    assert order.learn({"other": "other", "run": "run"}) == []
    ready = order.learn({"d": "run"})
    assert [(one.doc["uid"], one.run) for one in ready] == [("e1", "run"), ("e2", "run")]
    assert order.waiting == 0
    assert order.learn({"d": "run"}) == []


def test_documents_whose_start_never_comes_wait_and_the_oldest_is_given_up_by_name() -> None:
    order = CausalOrder(waiting_max=3)
    events = [Document("event", {"descriptor": f"d{number}", "seq_num": number}) for number in range(5)]
    assert passed(order, events[:3]) == []
    for lost, event in enumerate(events[3:]):
        with pytest.raises(DocumentError, match=f"a event whose run has no start document here: .'d{lost}'"):
            order.accept(event)
    assert (order.waiting, order.given_up) == (3, 2)
    late = [Document("start", GOOD["start"])]
    late += [Document("descriptor", {**GOOD["descriptor"], "uid": f"d{number}"}) for number in range(5)]
    ready = passed(order, late)
    assert [document.doc["seq_num"] for document in ready if document.name == "event"] == [2, 3, 4]
    assert order.waiting == 0


def test_a_run_whose_start_was_lost_holds_no_other_up() -> None:
    order = CausalOrder()
    lost = [document for document in recordings.documents("blob_fly") if document.name != "start"]
    other = recordings.documents("small_aborted")
    ready = passed(order, [*lost, *other])
    assert list(map(shown, ready)) == list(map(shown, other))
    assert order.waiting == len(lost)


def test_ten_thousand_resources_that_each_wait_for_the_next_are_released_at_once() -> None:
    order = CausalOrder()
    chain = [{"uid": f"r{n}", "run_start": f"r{n - 1}" if n else "run"} for n in range(9_999)]
    assert passed(order, [Document("resource", doc) for doc in reversed(chain)]) == []
    ready = order.accept(Document("start", GOOD["start"]))
    assert [document.doc["uid"] for document in ready] == ["run", *(doc["uid"] for doc in chain)]
    assert {document.run for document in ready} == {"run"}


@pytest.mark.parametrize("absent", [{}, {"run_start": None}])
def test_a_resource_that_leaves_its_run_out_belongs_to_the_newest(absent: dict[str, Any]) -> None:
    order = CausalOrder()
    resource = Document("resource", {"uid": "old", **absent})
    datum = Document("datum", GOOD["datum"])
    assert passed(order, [datum, resource]) == []
    ready = order.accept(Document("start", GOOD["start"]))
    assert [(document.name, document.run) for document in ready] == [
        ("start", "run"),
        ("resource", "run"),
        ("datum", "run"),
    ]


def test_a_uid_stays_with_the_run_that_had_it_first() -> None:
    order = CausalOrder()
    passed(order, [Document("start", GOOD["start"]), Document("start", {"uid": "thief", "time": 2})])
    passed(order, [Document("descriptor", {"uid": "run", "run_start": "thief", "data_keys": {}})])
    assert [document.run for document in order.accept(Document("stop", GOOD["stop"]))] == ["run"]


def test_a_run_that_is_forgotten_leaves_nothing_behind() -> None:
    order = CausalOrder()
    passed(order, [Document("start", GOOD["start"]), Document("descriptor", GOOD["descriptor"])])
    passed(order, [Document("start", {"uid": "other", "time": 2})])
    order.forget("run")
    assert order.owners == {"other": "other"}
    assert order.accept(Document("event", GOOD["event"])) == []


def test_a_resource_without_its_run_waits_when_the_newest_was_forgotten() -> None:
    order = CausalOrder()
    passed(order, [Document("start", GOOD["start"])])
    order.forget("run")
    assert order.accept(Document("resource", {"uid": "old"})) == []


# coalesce


def test_pages_of_one_descriptor_become_one_with_the_last_cursor_up_to_the_next_document_of_weight() -> None:
    entries = [
        page([1, 2], {"red": [1, 2], "total": [3, 4]}, cursor="1-0"),
        page([3], {"red": [5], "total": [None]}, cursor="2-0"),
        Entry("3-0", "stop", "run", None, GOOD["stop"]),
        page([4], {"red": [7], "total": [8]}, cursor="4-0"),
    ]
    found = list(coalesce(entries))
    assert [(entry.cursor, entry.name) for entry in found] == [
        ("2-0", "event_page"),
        ("3-0", "stop"),
        ("4-0", "event_page"),
    ]
    assert found[0].doc["seq_num"] == [1, 2, 3]
    assert found[0].doc["data"] == {"red": [1, 2, 5], "total": [3, 4, None]}
    assert found[2] == entries[3]
    assert entries[0].doc["seq_num"] == [1, 2]


def datum(resource: str, index: int, seq_num: int, *, cursor: str = "1-0") -> Entry:
    spans = {"indices": {"start": index, "stop": index + 1}, "seq_nums": {"start": seq_num, "stop": seq_num + 1}}
    doc = {"uid": f"{resource}/{index}", "descriptor": "d", "stream_resource": resource, **spans}
    return Entry(cursor, "stream_datum", "run", None, doc)


def test_a_step_scan_becomes_one_range_a_detector_and_then_one_page_of_events_and_one_of_sums() -> None:
    entries = []
    for number in range(5):
        entries += [datum("a", number, number + 1), datum("b", number, number + 1)]
        event = {"descriptor": "d", "seq_num": number + 1, "data": {"x": number / 2}}
        entries += [Entry("2-0", "event", "run", None, event), page([number + 1], {"red": [number]}, descriptor="ours")]
    found = list(coalesce(entries))
    assert [entry.name for entry in found] == ["stream_datum", "stream_datum", "event_page", "event_page"]
    assert [entry.doc["seq_nums"] for entry in found[:2]] == [{"start": 1, "stop": 6}] * 2
    assert found[2].doc["data"] == {"x": [0.0, 0.5, 1.0, 1.5, 2.0]}
    assert found[3].doc["data"] == {"red": [0, 1, 2, 3, 4]}


def test_announcements_that_do_not_go_on_where_the_last_one_ended_stay_apart() -> None:
    entries = [datum("a", 0, 1), datum("a", 1, 2), datum("a", 2, 1), datum("a", 3, 2), datum("a", 9, 3)]
    spans = [(entry.doc["indices"], entry.doc["seq_nums"]) for entry in coalesce(entries)]
    assert [(rows["start"], points["start"], points["stop"]) for rows, points in spans] == [
        (0, 1, 3),
        (2, 1, 3),
        (9, 3, 4),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        page([3], {"red": []}),
        page([3], {"red": 5}),
        page([3], {"red": ["x"]}),
        page([3], {"red": [True]}),
        page([3], []),
        page([3], None),
        Entry("2-0", "event_page", "run", None, {"descriptor": "d", "seq_num": [3]}),
        Entry("2-0", SETTLED, "run", None, {}),
        Entry("2-0", WORKER, "", None, {"state": "IDLE", "data": {"red": [1]}}),
    ],
    ids=lambda entry: f"{entry.name} {entry.doc.get('data')}",
)
def test_what_cannot_be_joined_stays_as_it_is_and_in_its_place(odd: Entry) -> None:
    before, after = page([1], {"red": [1]}), page([2], {"red": [2]})
    assert list(coalesce([before, odd, after])) == [before, odd, after]


@pytest.mark.parametrize(
    "other",
    [page([3], {"red": [5]}, descriptor="other"), page([3], {"red": [5], "blue": [5]}), page([3], {"blue": [5]})],
)
def test_pages_of_another_kind_are_joined_among_themselves(other: Entry) -> None:
    found = list(coalesce([page([1], {"red": [1]}), other, page([2], {"red": [2]})]))
    assert [entry.doc["seq_num"] for entry in found] == [[1, 2], [3]]


@examples(100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["d", "e"]), st.lists(st.tuples(st.integers(1, 20), st.floats(0, 1e6)), max_size=5)),
        max_size=12,
    )
)
def test_joined_pages_hold_the_same_points_in_the_same_order(parts: list[tuple[str, list[tuple[int, float]]]]) -> None:
    entries = [
        page([n for n, _ in points], {"red": [v for _, v in points]}, descriptor=descriptor)
        for descriptor, points in parts
    ]

    def flat(some: list[Entry], descriptor: str) -> list[tuple[int, float]]:
        return [
            pair
            for entry in some
            if entry.doc["descriptor"] == descriptor
            for pair in zip(entry.doc["seq_num"], entry.doc["data"]["red"], strict=True)
        ]

    found = list(coalesce(entries))
    assert all(flat(found, descriptor) == flat(entries, descriptor) for descriptor in "de")
    assert len(found) == len({descriptor for descriptor, _ in parts})


def shown(document: Document) -> str:
    return f"{document.name} {orjson.dumps(document.doc).decode()}"


@pytest.mark.parametrize(
    ("doc", "line"),
    [
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        (b'{"a": [1,\n null]}', b'{"a": [1,  null]}'),
        (b"no JSON \xff", '"no JSON \ufffd"'.encode()),
    ],
)
def test_an_event_is_one_line_of_json(doc: Any, line: bytes) -> None:
    written = to_json_line("5-0", "stop", "uid", doc)
    assert written == b'{"cursor":"5-0","name":"stop","run":"uid","doc":' + line + b"}"
    assert b"\n" not in written
    if isinstance(doc, dict):
        assert Entry("5-0", "stop", "uid", None, doc).json_line == written
