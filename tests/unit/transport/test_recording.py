"""Recordings in parts, packed, torn and spoiled; and recordings made anew as if they happened today."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.recordings import CASES, FOLDER, bodies, messages, ordered

from snakemap.cli.listen import line
from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, Entry, decode
from snakemap.errors import SettingsError
from snakemap.transport.recording import Recorded, Recording, recordings
from snakemap.transport.rewrite import REPLAY_OF, RunRewriter

NOW = 1_800_000_000.0


def written(number: int) -> bytes:
    return json.dumps({"t": 1.0 + number, "headers": {}, "body": json.dumps({"n": number})}).encode() + b"\n"


def numbers(recording: Recording) -> list[int]:
    return [message.body["n"] for message in recording.messages()]


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A run of the log in three parts, the first of them packed, beside another run."""
    names = ["20261123T191358.12.a-1.0001.jsonl.gz", "20261123T191358.12.a-1.0002.jsonl"]
    names += ["20261123T191358.12.a-1.0010.jsonl", "20261123T191358.12.a-10.0001.jsonl"]
    for number, name in enumerate(names):
        data = written(2 * number) + written(2 * number + 1)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return [tmp_path / name for name in names]


@pytest.mark.parametrize("named", [[0], [1], [2], [2, 0], [0, 1, 2]])
def test_one_part_of_a_run_means_all_of_them_in_order(parts: list[Path], named: list[int]) -> None:
    (recording,) = recordings(parts[number] for number in named)
    assert recording.files == tuple(parts[:3])
    assert numbers(recording) == [0, 1, 2, 3, 4, 5]
    assert recording.done == recording.size == sum(part.stat().st_size for part in parts[:3])


def test_several_recordings_stay_apart(parts: list[Path]) -> None:
    assert [numbers(one) for one in recordings([parts[3], parts[1]])] == [[6, 7], [0, 1, 2, 3, 4, 5]]


def test_a_part_that_is_there_packed_and_plain_is_read_once(parts: list[Path]) -> None:
    parts[0].with_suffix("").write_bytes(gzip.decompress(parts[0].read_bytes()))
    (recording,) = recordings(parts[:1])
    assert numbers(recording) == [0, 1, 2, 3, 4, 5]


def test_a_packed_file_that_breaks_off_gives_what_can_be_read_and_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0)
    lines = b"".join(json.dumps({"body": {"n": n, "x": noise.random()}}).encode() + b"\n" for n in range(5000))
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(lines)[:-20_000])
    (recording,) = recordings([path])
    read = numbers(recording)
    assert read == list(range(len(read)))
    assert 100 < len(read) < 5000
    assert (recording.bad, caplog.text.count("breaks off after line")) == (1, 1)


def test_many_bad_lines_are_counted_and_told_a_few_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"{\n" * 5000 + written(7) + b'{"name":"worker","doc":7,"cursor":"1-0"}\n{"body":{},"cursor":"x"}')
    (recording,) = recordings([path])
    assert numbers(recording) == [7]
    assert recording.bad == 5002
    assert caplog.text.count("is not a message") == 10


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snakemap.transport.recording.LINE_BYTES_MAX", 1000)
    path = tmp_path / "long.jsonl"
    path.write_bytes(written(1) + b'{"body": "' + b"x" * 5000 + b'"}\n' + written(2) + b"y" * 3000)
    (recording,) = recordings([path])
    assert (numbers(recording), recording.bad) == ([1, 2], 2)


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    for name in ("gone.jsonl", "20261123T191358.12.a-1.0001.jsonl"):
        with pytest.raises(SettingsError, match="cannot be read: No such file"):
            recordings([tmp_path / name])
    (recording,) = recordings([tmp_path])
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        list(recording.messages())


def test_what_listen_prints_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "printed.jsonl"
    entries = [Entry("1795461238076-0", "worker", "", None, {"state": "IDLE"})]
    entries += [Entry("1795461239000-0", one.name, one.run, None, one.doc) for one in ordered("blob_fly")]
    path.write_text("".join(f"{line(entry, as_json=True)}\n" for entry in entries))
    read = list(Recording([path]).messages())
    assert read[0] == Recorded(1_795_461_238.076, {"state": "IDLE"}, None)
    assert [(one.body["name"], one.body["doc"]) for one in read[1:]] == [(one.name, one.doc) for one in entries[1:]]
    assert {one.at for one in read[1:]} == {1_795_461_239.0}


# made anew


def renewed(case: str, *, speed: float = 1.0, now: float = NOW) -> list[Document]:
    fresh = (f"new-{number}" for number in itertools.count())
    renewal = RunRewriter(speed=speed, now=now, fresh=lambda: next(fresh))
    made = (renewal.renew(json.loads(body)) for body in bodies(case))
    decoded = [decode(json.dumps(body)) for body in made if body is not None]
    assert all(isinstance(one, Document) for one in decoded)
    return [one for one in decoded if isinstance(one, Document)]


@pytest.mark.parametrize("case", CASES)
def test_a_recording_made_anew_is_the_same_run_under_other_uids(case: str) -> None:
    old, made = ordered(case), renewed(case)
    order = CausalOrder()
    placed = [ready for document in made for ready in order.accept(document)]
    assert [one.name for one in placed] == [one.name for one in old]
    (uid,) = {one.run for one in placed}
    assert uid.startswith("new-")
    assert placed[0].doc[REPLAY_OF] == old[0].run
    uids = {one.doc["uid"] for one in old if isinstance(one.doc.get("uid"), str)}
    assert not uids & {one.doc.get("uid") for one in placed}
    told = json.dumps([one.doc for one in placed[1:]])
    referred = {one.doc["uid"] for one in old if one.name in ("start", "descriptor", "stream_resource")}
    assert [uid for uid in referred if f'"{uid}"' in told] == []
    assert {one.task_id for one in placed} == {None}
    assert "blueapi_task_id" not in placed[0].doc


@pytest.mark.parametrize("case", CASES)
def test_a_recording_made_anew_has_the_same_data_in_the_same_files(case: str) -> None:
    for old, made in zip(ordered(case), renewed(case), strict=True):
        for key in ("data", "indices", "seq_nums", "seq_num", "uri", "parameters", "shape", "num_events", "data_keys"):
            assert old.doc.get(key) == made.doc.get(key)


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_times_go_on_from_now_as_they_did_then(speed: float) -> None:
    old, made = ordered("small_step"), renewed("small_step", speed=speed)
    begun = old[0].doc["time"]
    for before, after in zip(old, made, strict=True):
        if "time" in before.doc:
            assert after.doc["time"] == pytest.approx(NOW + (before.doc["time"] - begun) / speed, abs=1e-3)
        for key, value in (before.doc.get("timestamps") or {}).items():
            assert after.doc["timestamps"][key] == pytest.approx(NOW + (value - begun) / speed, abs=1e-3)


def test_all_of_it_happens_at_once_when_it_is_played_at_once() -> None:
    times = {one.doc["time"] for one in renewed("small_step", speed=math.inf) if "time" in one.doc}
    assert times == {NOW}


def test_odd_documents_are_made_anew_as_far_as_they_can_be() -> None:
    renewal = RunRewriter(speed=1.0, now=NOW)

    def renew(name: str, doc: Any) -> Any:
        told = renewal.renew({"name": name, "doc": doc, "task_id": "t"})
        return told and told["doc"]

    event = renew("event", {"uid": "e", "descriptor": "d", "seq_num": 1, "data": {"camera": "r/3"}, "time": 0})
    assert event["data"] == {"camera": "r/3"}  # nobody has told of r yet
    assert event["descriptor"] != "d"
    assert event["time"] == 0
    assert renew("start", {"uid": "s", "time": 10.0, "blueapi_task_id": "t"})["time"] == NOW
    assert renew("descriptor", {"uid": "d", "run_start": "s"})["uid"] == event["descriptor"]
    resource = renew("resource", {"uid": "r", "run_start": "s", "spec": "AD_HDF5"})
    datum = renew("datum", {"datum_id": "r/3", "resource": "r", "datum_kwargs": {}})
    assert datum["datum_id"] == f"{resource['uid']}/3"
    page = renew(
        "event_page",
        {
            "uid": ["a", "b"],
            "descriptor": "d",
            "seq_num": [1, 2],
            "time": [11.0, None],
            "timestamps": {"x": [12.0, 1e300]},
            "data": {"camera": ["r/3", "x"], "y": [1.0, 2.0]},
        },
    )
    assert page["data"] == {"camera": [f"{resource['uid']}/3", "x"], "y": [1.0, 2.0]}
    assert (page["time"], page["timestamps"]) == ([NOW + 1, None], {"x": [NOW + 2, 1e300]})
    assert len({*page["uid"], "a", "b"}) == 4
    assert renewal.runs == {"s": renew("stop", {"uid": "x", "run_start": "s"})["run_start"]}
    for left_out in ({"state": "IDLE"}, {"statuses": {}}, {"name": "worker", "doc": {}}, {"name": 7, "doc": {}}):
        assert renewal.renew(left_out) is None
    assert renew("start", []) is None


def test_the_recordings_hold_worker_events_that_are_left_out_of_what_is_made_anew() -> None:
    assert len(messages("small_step")) > len(renewed("small_step")) == len(ordered("small_step"))


def test_nothing_is_logged_of_a_recording_that_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert len(list(Recording([FOLDER / "blob_fly.jsonl"]).messages())) == 60
    assert caplog.text == ""
