"""The worker's log of events: a file a run, every event once, whatever the disk or a document does to it."""

from __future__ import annotations

import errno
import gzip
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from tests.support.beamline import Beamline, Scan, worker_event

from snakemap.core.cursor import cursor_numbers
from snakemap.core.documents import WORKER, Entry
from snakemap.ingest.event_log_files import OPEN_MAX, EventLogFiles
from snakemap.transport.document_source import Delivery

NOW = 1_795_461_238.0


def entry(number: int, *, run: str = "run", name: str = "event", **doc: Any) -> Entry:
    return Entry(f"1795461238{number:03}-0", name, run, "task", doc)


def lines_of(directory: Path, pattern: str = "*.jsonl") -> list[dict[str, Any]]:
    return [orjson.loads(line) for path in sorted(directory.glob(pattern)) for line in path.read_bytes().splitlines()]


def cursors(directory: Path, pattern: str = "*.jsonl") -> list[str]:
    return [line["cursor"] for line in lines_of(directory, pattern)]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.jsonl*"))


def open_files(directory: Path) -> int:
    return sum(directory in Path(file.path).parents for file in psutil.Process().open_files())


@pytest.fixture
def log(tmp_path: Path) -> EventLogFiles:
    log = EventLogFiles(tmp_path, keep_days=2)
    log.begin()
    return log


def test_every_run_has_a_file_that_tells_when_it_began_its_scan_id_and_its_uid(
    log: EventLogFiles, tmp_path: Path
) -> None:
    events = [
        entry(1, run="a-1", name="start", scan_id=12, uid="a-1"),
        entry(2, run="b-2", name="start", uid="b-2"),
        entry(3, run="a-1", seq_num=1),
        Entry("1795461238004-0", WORKER, "", "task", {"state": "IDLE"}),
    ]
    log.write(events, now=NOW)
    assert names(tmp_path) == [
        "20261123T000000.-._no-run.0001.jsonl",
        "20261123T191358.-.b-2.0001.jsonl",
        "20261123T191358.12.a-1.0001.jsonl",
    ]
    assert lines_of(tmp_path, "*.a-1.*")[1] == {
        "t": 1_795_461_238.003,
        "cursor": "1795461238003-0",
        "cmd": "MESSAGE",
        "headers": {},
        "body": '{"name":"event","doc":{"seq_num":1},"task_id":"task"}',
    }
    (worker,) = lines_of(tmp_path, "*._no-run.*")
    assert (worker["headers"], worker["body"]) == ({"correlation-id": "task"}, '{"state":"IDLE"}')


HOSTILE_UIDS = ["../../etc/passwd", "/etc/passwd", ".", "..", "a/b", "a\0b", "x" * 5000, "_no-run", "ä", "*", "a.0001"]


@pytest.mark.parametrize("uid", HOSTILE_UIDS)
def test_a_uid_is_never_a_path(tmp_path: Path, uid: str) -> None:
    directory = tmp_path / "log"
    log = EventLogFiles(directory, keep_days=2)
    log.begin()
    log.write([entry(1, run=uid, name="start", scan_id="../../x"), entry(2, run=uid)], now=NOW)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    (name,) = names(directory)
    assert len(name) < 120
    assert name.startswith("20261123T191358.-._")
    assert "no-run" not in name
    again = EventLogFiles(directory, keep_days=2)
    again.begin()
    again.write([entry(2, run=uid), entry(3, run=uid)], now=NOW)
    assert names(directory) == [name]
    assert cursors(directory) == ["1795461238001-0", "1795461238002-0", "1795461238003-0"]


def test_a_long_file_goes_on_in_parts_none_larger_than_allowed(tmp_path: Path) -> None:
    log = EventLogFiles(tmp_path, keep_days=2, part_bytes=2000)
    log.begin()
    for number in range(100):
        log.write([entry(number, text="x" * 300)], now=NOW)
    log.write([entry(number, text="x" * 300) for number in range(100, 200)], now=NOW)
    log.write([entry(200, text="x" * 5000)], now=NOW)
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.jsonl"))]
    assert len(sizes) > 10
    assert max(sizes[:-1]) <= 2000 < sizes[-1]
    assert cursors(tmp_path) == [entry(number).cursor for number in range(201)]


def test_nothing_is_written_twice_and_nothing_left_out_when_the_worker_was_killed(tmp_path: Path) -> None:
    events = [entry(number, run=f"r{number % 3}") for number in range(60)]
    first = EventLogFiles(tmp_path, keep_days=2, part_bytes=900)
    first.begin()
    first.write(events[:30], now=NOW)
    first.write(events[30:40], now=NOW)  # not synced: where it was is not written down, and it is killed here
    again = EventLogFiles(tmp_path, keep_days=2, part_bytes=900)
    after = again.begin()
    assert after == events[29].cursor
    again.write([event for event in events if event.cursor > after], now=NOW)
    for run in range(3):
        assert cursors(tmp_path, f"*.r{run}.*") == [event.cursor for event in events[run::3]]


@pytest.mark.parametrize("position", [b"\xff nonsense", b"", b"99999999999999999999-0"])
def test_without_its_position_the_log_still_knows_what_it_has(
    log: EventLogFiles, tmp_path: Path, position: bytes
) -> None:
    log.write([entry(1), entry(2)], now=NOW)
    log.close()
    (tmp_path / "position").write_bytes(position)
    again = EventLogFiles(tmp_path, keep_days=2)
    assert again.begin() == "0-0"
    again.write([entry(1), entry(2), entry(3)], now=NOW)
    assert cursors(tmp_path) == [entry(1).cursor, entry(2).cursor, entry(3).cursor]


def test_a_line_torn_by_a_crash_is_taken_away_and_written_anew(log: EventLogFiles, tmp_path: Path) -> None:
    log.write([entry(1), entry(2, text="y" * 3_000_000)], now=NOW)
    log.close()
    (path,) = tmp_path.glob("*.jsonl")
    os.truncate(path, path.stat().st_size - 7)
    again = EventLogFiles(tmp_path, keep_days=2)
    again.begin()
    again.write([entry(1), entry(2, text="y" * 3_000_000), entry(3)], now=NOW)
    assert cursors(tmp_path) == [entry(1).cursor, entry(2).cursor, entry(3).cursor]


def test_a_part_that_somebody_has_packed_is_left_alone(log: EventLogFiles, tmp_path: Path) -> None:
    log.write([entry(1)], now=NOW)
    log.close()
    (path,) = tmp_path.glob("*.jsonl")
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    before = packed.read_bytes()
    again = EventLogFiles(tmp_path, keep_days=2)
    again.begin()
    again.write([entry(2)], now=NOW)
    assert packed.read_bytes() == before
    assert names(tmp_path) == [packed.name, packed.name.replace(".0001.jsonl.gz", ".0002.jsonl")]


def test_few_files_are_open_however_many_runs_there_are(log: EventLogFiles, tmp_path: Path) -> None:
    for turn in range(2):
        log.write([entry(turn * 200 + run, run=f"r{run}") for run in range(100)], now=NOW)
        assert 0 < open_files(tmp_path) <= OPEN_MAX
    assert len(names(tmp_path)) == 100
    assert {len(path.read_bytes().splitlines()) for path in tmp_path.glob("*.jsonl")} == {2}
    log.close()
    assert open_files(tmp_path) == 0


def test_the_log_remembers_a_bounded_number_of_runs_and_finds_the_others_again(
    log: EventLogFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snakemap.ingest.event_log_files.KNOWN_MAX", 20)
    runs = [f"r{number}" for number in range(25)]
    log.write([Entry(f"1795461238000-{number}", "event", run, None, {}) for number, run in enumerate(runs)], now=NOW)
    log.write([Entry("1795461239000-0", "event", "r0", None, {})], now=NOW)
    assert cursors(tmp_path, "*.r0.*") == ["1795461238000-0", "1795461239000-0"]
    assert len(names(tmp_path)) == len(runs)


def test_what_belongs_to_no_run_has_a_file_a_day(log: EventLogFiles, tmp_path: Path) -> None:
    day_ms = 86_400_000
    for day in range(3):
        log.write([Entry(f"{1795461238000 + day * day_ms}-0", WORKER, "", None, {"state": "IDLE"})], now=NOW)
    assert names(tmp_path) == [f"202611{day}T000000.-._no-run.0001.jsonl" for day in (23, 24, 25)]


def test_a_message_that_nobody_can_read_is_kept_with_the_reason_and_is_bounded(
    log: EventLogFiles, tmp_path: Path
) -> None:
    log.write([entry(1)], now=NOW)
    headers = {"destination": "/topic/x", **{f"h{number}": "v" * 9000 for number in range(100)}}
    log.write_unread(
        [(Delivery(b"\xff{", "1", headers), "not JSON"), (Delivery(b"z" * 5_000_000, "2"), "long")], now=NOW
    )
    first, second = lines_of(tmp_path, "*._no-run.*")
    assert (first["body"], first["trouble"], first["after"]) == ("\ufffd{", "not JSON", entry(1).cursor)
    assert (first["t"], first["cmd"], first["headers"]["destination"]) == (NOW, "MESSAGE", "/topic/x")
    assert len(first["headers"]) == 50
    assert (len(second["body"]), second["bytes"]) == (1_000_000, 5_000_000)


def aged(path: Path, days: float) -> None:
    os.utime(path, (NOW - days * 86_400, NOW - days * 86_400))


def test_old_files_go_and_those_of_others_stay(log: EventLogFiles, tmp_path: Path) -> None:
    log.write([entry(run, run=f"r{run}") for run in range(4)], now=NOW)
    log.close()
    for number, path in enumerate(sorted(tmp_path.glob("*.jsonl"))):
        aged(path, number)
    for name in ("notes.jsonl", "20261123T191358.-.r9.0001.txt"):
        (tmp_path / name).write_text("mine")
        aged(tmp_path / name, 50)
    assert log.sweep(now=NOW) == 1
    assert [name[18:20] for name in names(tmp_path)][:3] == ["r0", "r1", "r2"]
    assert (tmp_path / "notes.jsonl").exists()
    assert (tmp_path / "20261123T191358.-.r9.0001.txt").exists()


def test_the_oldest_files_go_when_there_is_too_much(tmp_path: Path) -> None:
    log = EventLogFiles(tmp_path, keep_days=2, keep_bytes=2500)
    log.begin()
    for run in range(5):
        log.write([entry(run, run=f"r{run}", text="x" * 800)], now=NOW)
    log.close()
    for run in range(5):
        (path,) = tmp_path.glob(f"*.r{run}.*")
        aged(path, 1 - run / 10)
    log.sweep(now=NOW)
    assert [name[18:20] for name in names(tmp_path)] == ["r3", "r4"]


def test_a_disk_that_is_full_leaves_whole_lines_and_is_caught_up_with(
    log: EventLogFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write([entry(1, run="a"), entry(2, run="b")], now=NOW)
    real, left = os.write, [150]

    def write(fd: int, data: Any) -> int:
        taken = real(fd, bytes(data)[: left[0]])
        left[0] -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return taken

    events = [entry(number, run="ab"[number % 2], text="x" * 40) for number in range(3, 9)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            log.write(events, now=NOW)
        with pytest.raises(OSError, match="No space left"):
            log.write(events, now=NOW)
    for line in lines_of(tmp_path):
        assert line["cmd"] == "MESSAGE"
    log.write(events, now=NOW)
    assert cursors(tmp_path, "*.b.*") == [entry(number).cursor for number in (2, 3, 5, 7)]
    assert cursors(tmp_path, "*.a.*") == [entry(number).cursor for number in (1, 4, 6, 8)]


# what keeps it


def logged(directory: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and document of every event in the log, in the order of the stream."""
    found = [line for line in lines_of(directory) if "cursor" in line]
    found.sort(key=lambda line: cursor_numbers(line["cursor"]))
    bodies = [orjson.loads(line["body"]) for line in found]
    return [(body["name"], body["doc"]) if "name" in body else (WORKER, body) for body in bodies]


def stored(entries: Sequence[Entry]) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.name, entry.doc) for entry in entries]


async def test_the_log_holds_what_the_store_holds_whoever_put_it_there_also_after_a_kill(tmp_path: Path) -> None:
    scan = Scan()
    async with Beamline(log=lambda: EventLogFiles(tmp_path, keep_days=2)) as beamline:
        beamline.files.frames.update(scan.files)
        bodies = scan.whole()
        beamline.publish(worker_event("RUNNING", "task"), *bodies[:8])
        await beamline.until(lambda: beamline.points() == 5)
        await beamline.kill()
        beamline.publish(*bodies[8:])
        beamline.start()
        await beamline.until_settled("run")
        other = Scan(uid="other", task="another")  # a simulator writes to the store itself
        beamline.files.frames.update(other.files)
        for body in other.whole():
            assert beamline.worker is not None
            assert beamline.worker.listener is not None
            messages, _ = beamline.worker.listener._read([Delivery(orjson.dumps(body), "1")])
            await beamline.store.append(messages)
        await beamline.until_settled("other")
        await beamline.until(lambda: len(logged(tmp_path)) == len(beamline.store.entries))
        assert logged(tmp_path) == stored(beamline.store.entries)
    assert len(list(tmp_path.glob("*.run.*"))) == len(list(tmp_path.glob("*.other.*"))) == 1


async def test_a_message_is_acknowledged_when_it_is_in_the_log(tmp_path: Path) -> None:
    scan = Scan()
    async with Beamline(log=lambda: EventLogFiles(tmp_path, keep_days=2)) as beamline:
        await beamline.until(lambda: bool(beamline.store.leases))
        beamline.publish(*scan.opening())
        await beamline.until(lambda: not beamline.broker.unacknowledged)
        assert [name for name, _ in logged(tmp_path)] == ["start", "descriptor", "stream_resource"]


async def test_progress_is_left_out_of_the_log_and_what_is_not_in_the_store_is_there_with_the_reason(
    tmp_path: Path,
) -> None:
    scan = Scan()
    async with Beamline(log=lambda: EventLogFiles(tmp_path, keep_days=2)) as beamline:
        orphan = scan.datum(0)
        beamline.publish({"task_id": "t", "statuses": {}}, worker_event("IDLE", None), b"poison", orphan)
        await beamline.until(lambda: not beamline.broker.unacknowledged)
    told = lines_of(tmp_path, "*._no-run.*")
    assert sorted((line["body"][:6], line.get("trouble", "")[:14]) for line in told) == [
        ("poison", "not JSON: unex"),
        ('{"name', "its parent doc"),
        ('{"stat', ""),
    ]
    assert orjson.loads(next(line["body"] for line in told if line["body"].startswith('{"name'))) == orphan


async def test_a_log_that_cannot_be_written_holds_nobody_up_and_is_caught_up_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "log"
    directory.write_text("a file where the directory should be")
    scan = Scan()
    with caplog.at_level(logging.INFO):
        async with Beamline(log=lambda: EventLogFiles(directory, keep_days=2)) as beamline:
            beamline.files.frames.update(scan.files)
            beamline.publish(*scan.whole(), b"poison")
            await beamline.until_settled("run")
            assert beamline.stats.errors["log"] == 1
            assert not beamline.broker.unacknowledged
            directory.unlink()
            await beamline.until(lambda: len(logged(directory)) == len(beamline.store.entries))
            assert logged(directory) == stored(beamline.store.entries)
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("is being written again") == 1


async def test_a_store_that_was_away_and_came_back_empty_is_followed_again(tmp_path: Path) -> None:
    first, second = Scan(), Scan(uid="second", task="second")
    async with Beamline(log=lambda: EventLogFiles(tmp_path, keep_days=2)) as beamline:
        beamline.files.frames.update(first.files | second.files)
        beamline.publish(*first.whole())
        await beamline.until_settled("run")
        await beamline.kill()
        before = logged(tmp_path)
        beamline.store.flush()
        await beamline.clock.advance(1)
        beamline.start()
        beamline.publish(*second.whole())
        await beamline.until_settled("second")
        await beamline.until(lambda: len(logged(tmp_path)) == len(before) + len(beamline.store.entries))
        assert logged(tmp_path)[len(before) :] == stored(beamline.store.entries)
