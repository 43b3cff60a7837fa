import math

import numpy as np
import orjson
import pytest
from tests.support.list_sink import ListSink

from snakemap.core.documents import Document, WorkerEvent, decode
from snakemap.simulator.blueapi_messages import FileSink, WorkerPublisher

START = {"uid": "run-1", "time": 1.0}


@pytest.fixture
def sink():
    return ListSink()


@pytest.fixture
def publisher(sink):
    publisher = WorkerPublisher(sink)
    publisher.begin("task-1")
    return publisher


class FakeStatus:
    done = False

    def __init__(self):
        self.watchers, self.callbacks = [], []

    def watch(self, function):
        self.watchers.append(function)

    def add_callback(self, function):
        self.callbacks.append(function)

    def move(self, **update):
        for watcher in self.watchers:
            watcher(**update)

    def finish(self):
        for callback in self.callbacks:
            callback(self)


def test_a_document_goes_out_in_its_envelope_and_without_a_correlation_id(publisher, sink):
    publisher.document("start", START)
    assert sink.messages == [({"name": "start", "doc": START, "task_id": "task-1"}, None)]


def test_a_document_is_published_as_plain_json(publisher, sink):
    publisher.document("start", START | {"shape": (np.int64(2), 3), "nan": math.nan, "grid": np.zeros(2)})
    doc = sink.documents[0][1]
    assert doc["shape"] == [2, 3]
    assert doc["nan"] is None
    assert doc["grid"] == [0.0, 0.0]


def test_worker_events_carry_the_task_as_their_correlation_id(publisher, sink):
    publisher.state("running", "idle")
    status = {"task_id": "task-1", "result": None, "task_complete": False, "task_failed": False}
    body = {"state": "RUNNING", "task_status": status, "errors": [], "warnings": []}
    assert sink.messages == [(body, "task-1")]


def test_the_last_word_of_a_failed_task_holds_its_error(publisher, sink):
    publisher.finished({"outcome": "error", "type": "ScanFault", "message": "no beam"})
    event = decode(orjson.dumps(sink.messages[0][0]))
    assert isinstance(event, WorkerEvent)
    assert (event.state, event.complete, event.failed, event.errors) == ("IDLE", True, True, ("no beam",))


@pytest.mark.parametrize(("final_idle", "said"), [(True, ["IDLE", "IDLE"]), (False, [])])
def test_of_a_lost_run_nothing_is_heard_any_more_but_that_its_worker_is_idle(publisher, sink, final_idle, said):
    publisher.lose(final_idle=final_idle)
    publisher.document("stop", {"run_start": "run-1", "exit_status": "abort"})
    publisher.state("aborting", "running")
    publisher.state("idle", "aborting")
    publisher.finished({"outcome": "error", "type": "Lost", "message": "lost"})
    assert sink.documents == []
    assert [event["state"] for event in sink.worker_events] == said


def test_the_task_after_a_lost_one_is_heard_again(publisher, sink):
    publisher.lose(final_idle=False)
    publisher.begin("task-2")
    publisher.document("start", START)
    assert sink.messages[0][0]["task_id"] == "task-2"


def test_progress_is_told_but_not_more_often_than_once_a_period(sink):
    now = [100.0]
    publisher = WorkerPublisher(sink, clock=lambda: now[0])
    publisher.begin("task-1")
    status = FakeStatus()
    publisher.waiting([status])
    for step in range(21):
        now[0] = 100.0 + 0.01 * step
        status.move(name="stage-x", current=float(step), initial=0.0, target=20.0, unit="mm")
    views = [view for body, _ in sink.messages for view in body["statuses"].values()]
    assert [view["current"] for view in views] == [0.0, 10.0, 20.0]
    assert views[0]["display_name"] == "stage-x"
    assert sink.messages[0][1] == "task-1"
    assert decode(orjson.dumps(sink.messages[0][0])) is None


def test_a_status_that_is_done_is_not_told_of_any_more(publisher, sink):
    status = FakeStatus()
    publisher.waiting([status])
    status.finish()
    status.move(name="stage-x", current=1.0)
    assert sink.messages == []


def test_a_recording_has_the_format_of_the_recordings(tmp_path):
    path = tmp_path / "recording.jsonl"
    with FileSink(path) as sink:
        publisher = WorkerPublisher(sink)
        publisher.begin("task-1")
        publisher.state("running", "idle")
        publisher.document("start", START)
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [sorted(line) for line in lines] == [["body", "cmd", "headers", "t"]] * 2
    assert lines[0]["headers"]["correlation-id"] == "task-1"
    assert "correlation-id" not in lines[1]["headers"]
    assert lines[1]["headers"]["content-length"] == str(len(lines[1]["body"]))
    assert decode(lines[1]["body"]) == Document("start", START, task_id="task-1")


def test_a_recording_replaces_the_one_before(tmp_path):
    path = tmp_path / "recording.jsonl"
    for _ in range(2):
        with FileSink(path) as sink:
            sink.publish({"state": "IDLE"}, "task-1")
    assert len(path.read_bytes().splitlines()) == 1
