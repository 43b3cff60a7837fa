from __future__ import annotations

import itertools
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.ledgers import settle
from tests.support.properties import examples

from snakemap.core.causal_order import CausalOrder
from snakemap.core.classic_documents import DATA_MAX, ClassicResources, refusal_of, resource_of
from snakemap.core.documents import Document, decode, envelope
from snakemap.core.run import Run
from snakemap.errors import DocumentError
from snakemap.ingest.run_backup import RunBackup

TEMPLATE = {"template": "%s%s_%6.6d.h5", "filename": "im"}


def resource(spec: str = "AD_HDF5", path: str = "ad.h5", root: Any = "/data", **kwargs: Any) -> dict[str, Any]:
    return {
        "uid": "r",
        "run_start": "run",
        "spec": spec,
        "root": root,
        "resource_path": path,
        "resource_kwargs": kwargs,
    }


# where files are


@pytest.mark.parametrize(
    ("root", "path", "uri"),
    [
        ("/data", "2026/ad.h5", "file://localhost/data/2026/ad.h5"),
        ("/data/", "ad.h5", "file://localhost/data/ad.h5"),
        ("/", "data/ad.h5", "file://localhost/data/ad.h5"),
        ("", "/data/ad.h5", "file://localhost/data/ad.h5"),
        (None, "/data/ad.h5", "file://localhost/data/ad.h5"),
        ("/data", "/elsewhere/ad.h5", "file://localhost/elsewhere/ad.h5"),
        ("/data", "10%Fe #5?.h5", "file://localhost/data/10%25Fe%20%235%3F.h5"),
    ],
)
def test_root_and_path_make_the_address_of_a_file(root: Any, path: str, uri: str) -> None:
    assert resource_of(resource(path=path, root=root)).uri == uri


@pytest.mark.parametrize("frames", [0, -1, 1.5, "2", None, True, 10**9])
def test_frames_a_point_that_are_no_number_are_refused(frames: Any) -> None:
    with pytest.raises(DocumentError, match="frames a point"):
        resource_of(resource(frame_per_point=frames))


@pytest.mark.parametrize("path", ["", None, 5, "a\0b"])
def test_a_resource_without_a_path_is_refused(path: Any) -> None:
    with pytest.raises(DocumentError, match="does not name its file"):
        resource_of(resource(path=path))


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("%s%s_%6.6d.h5", "/data/files/im_000007.h5"),
        ("%s%s_%d.h5", "/data/files/im_7.h5"),
        ("%s%s_%05d.hdf5", "/data/files/im_00007.hdf5"),
        ("%s/%s-100%%-%3d.h5", "/data/files//im-100%-  7.h5"),
    ],
)
def test_a_template_makes_the_name_of_the_file_of_each_frame(template: str, name: str) -> None:
    found = resource_of(resource("AD_HDF5_SINGLE", "files", template=template, filename="im"))
    assert found.uri_of(7) == f"file://localhost{name}".replace("%-", "%25-").replace(" ", "%20")


@pytest.mark.parametrize(
    "template",
    ["%s%s_%999999999d", "%s%s_%.999999999d", "%s%s%s_%d", "%s_%d", "%s%s", "%s%s_%f", "%(a)s%s%d", "%s%s%*d", None, 5],
)
def test_a_template_that_would_fill_the_memory_or_is_none_is_refused(template: Any) -> None:
    with pytest.raises(DocumentError, match="does not name its files"):
        resource_of(resource("AD_HDF5_SINGLE", "files", template=template, filename="im"))


@pytest.mark.parametrize(
    ("spec", "kind"), [("AD_TIFF", "of the kind AD_TIFF"), (None, "of no known kind"), (5, "of no known kind")]
)
def test_a_spec_that_is_not_read_is_named(spec: Any, kind: str) -> None:
    assert refusal_of(resource(spec)).startswith(f"its files are {kind}; only AD_HDF5, ")
    assert refusal_of(resource("AD_HDF5_SINGLE")) == ""


# which points they are


def test_data_come_before_or_after_what_names_them() -> None:
    data = ClassicResources()
    assert data.find("r/0", "first") is None
    assert data.find("r/0", "second") is None
    found = list(data.add("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"point_number": 4}}))
    assert found == [("first", ("r", 4)), ("second", ("r", 4))]
    assert data.find("r/0", "third") == ("r", 4)


def test_numbers_of_points_that_are_none_are_noticed() -> None:
    data = ClassicResources()
    kwargs = {"point_number": [0, 1.0, 1.5, -1, "2", True, None]}
    list(data.add("datum_page", {"datum_id": list("abcdefg"), "resource": "r", "datum_kwargs": kwargs}))
    assert [data.find(uid, None) for uid in "abcdefg"] == [("r", n) for n in (0, 1, -1, -1, -1, -1, -1)]
    with pytest.raises(DocumentError, match="2 ids"):
        list(data.add("datum_page", {"datum_id": ["a", "b"], "resource": "r", "datum_kwargs": {"point_number": [0]}}))


def test_of_endlessly_many_data_the_newest_are_kept() -> None:
    data = ClassicResources()
    ids = [str(number) for number in range(DATA_MAX + 10)]
    page = {"datum_id": ids, "resource": "r", "datum_kwargs": {"point_number": list(range(len(ids)))}}
    list(data.add("datum_page", page))
    assert data.find("9", None) is None
    assert data.find("10", None) == ("r", 10)


def test_a_bulk_datum_is_read_as_the_page_that_it_has_become() -> None:
    doc = {"datum_ids": ["r/0", "r/1"], "datum_kwarg_list": [{"point_number": 0}, {"point_number": 1}], "resource": "r"}
    message = decode(str_of("bulk_datum", doc))
    assert isinstance(message, Document)
    content = {"resource": "r", "datum_id": ["r/0", "r/1"], "datum_kwargs": {"point_number": [0, 1]}}
    assert (message.name, message.doc) == ("datum_page", content)
    with pytest.raises(DocumentError, match="2 ids with 1"):
        decode(str_of("bulk_datum", {**doc, "datum_kwarg_list": [{}]}))


def str_of(name: str, doc: dict[str, Any]) -> bytes:
    return orjson.dumps(envelope(name, doc, task_id=None))


# whole runs


def documents(points: int = 6) -> list[tuple[str, dict[str, Any]]]:
    """A classic run of two cameras, one frame a point."""
    keys = {key: {"external": "FILESTORE:", "dtype": "array", "shape": [8, 8]} for key in ("cam", "other")}
    start = {"uid": "run", "time": 1.0, "shape": [2, points // 2], "detectors": ["cam"]}
    descriptor = {"uid": "d", "run_start": "run", "name": "primary", "data_keys": keys}
    found: list[tuple[str, dict[str, Any]]] = [("start", start), ("descriptor", descriptor)]
    for uid in ("r", "o"):
        found.append(("resource", {**resource(path=f"{uid}.h5"), "uid": uid}))
    for point in range(points):
        for uid in ("r", "o"):
            content = {"datum_id": f"{uid}/{point}", "resource": uid, "datum_kwargs": {"point_number": point}}
            found.append(("datum", content))
        data = {"cam": f"r/{point}", "other": f"o/{point}"}
        found.append(("event", {"uid": f"e{point}", "descriptor": "d", "seq_num": point + 1, "data": data}))
    found.append(
        ("stop", {"uid": "s", "run_start": "run", "exit_status": "success", "num_events": {"primary": points}})
    )
    return found


def rows(run: Run) -> dict[str, list[tuple[int, int]]]:
    """Row and point of everything that waits to be read, by data key."""
    found: dict[str, list[tuple[int, int]]] = {}
    for ledger in run.ledgers():
        mine = found.setdefault(str(ledger.data_key), [])
        while (row_range := ledger.pending()) is not None:
            settle(ledger, row_range)
            mine += [(row_range.index + n, row_range.seq_num + n) for n in range(row_range.count)]
        mine.sort()
    return found


WHOLE = [(point, point + 1) for point in range(6)]


@examples(60)
@given(st.randoms(use_true_random=False), st.booleans())
def test_a_classic_run_in_any_order_and_with_duplicates_is_the_same(chance: random.Random, repeated: bool) -> None:
    sent = documents()
    rest = sent[1:-1] * (2 if repeated else 1)
    chance.shuffle(rest)
    order, run = CausalOrder(), None
    for name, doc in [sent[0], *rest, sent[-1]]:
        message = decode(str_of(name, doc))
        assert isinstance(message, Document)
        for ready in order.accept(message):
            run = run or Run(ready.doc)
            run.apply(ready)
    assert run is not None
    assert rows(run) == {"cam": WHOLE, "other": WHOLE}
    assert run.remarks == []
    assert run.file == "/data/r.h5"


def test_a_rewind_takes_new_frames_for_the_same_points() -> None:
    sent = documents()[:-1]
    datum = {"datum_id": "r/6", "resource": "r", "datum_kwargs": {"point_number": 6}}
    sent += [("datum", datum), ("event", {"descriptor": "d", "seq_num": 5, "data": {"cam": "r/6"}})]
    run = Run(sent[0][1])
    for name, doc in sent[1:]:
        run.apply(Document(name, doc, run="run"))
    assert rows(run)["cam"] == sorted([*((row, row + 1) for row in (0, 1, 2, 3, 5)), (6, 5)])


def test_what_is_kept_of_a_classic_run_is_enough_to_begin_it_again() -> None:
    kept = RunBackup()
    for name, doc in documents():
        kept.take(Document(name, doc, run="run"))
    again = kept.documents()
    assert [name for name, _ in itertools.groupby(document.name for document in again)] == [
        *("start", "descriptor", "resource", "datum_page", "event_page", "stop")
    ]
    run = Run(again[0].doc)
    for document in again[1:]:
        run.apply(document)
    assert rows(run) == {"cam": WHOLE, "other": WHOLE}
    assert run.remarks == []


@pytest.mark.parametrize("value", [None, 5, "elsewhere/1", ["r/0"], {"r/0": 1}, ""])
def test_events_that_name_no_datum_do_no_harm(value: Any) -> None:
    run = Run(documents()[0][1])
    for name, doc in documents()[1:]:
        content = {**doc, "data": {**doc["data"], "cam": value}} if name == "event" else doc
        run.apply(Document(name, content, run="run"))
    assert rows(run) == {"cam": [], "other": WHOLE}


def test_a_document_announces_its_points_once() -> None:
    run = Run(documents()[0][1])
    announced = []
    for name, doc in documents()[1:]:
        run.apply(Document(name, doc, run="run"))
        announced += [(ledger.data_key, pointer) for ledger, pointer in run.new_pointers]
    assert sorted(announced) == [(key, (uid, n)) for key, uid in (("cam", "r"), ("other", "o")) for n in range(6)]
