"""The simulated beamline from end to end: what it publishes, what it writes, and when."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
from bluesky.run_engine import get_bluesky_event_loop
from event_model import DocumentNames, schema_validators
from scanspec.core import Path as ScanPath
from scanspec.specs import Spec
from tests.support.list_sink import ListSink
from tests.support.patience import PATIENCE, patiently
from typer.testing import CliRunner

from snakemap.cli.main import app
from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, decode
from snakemap.core.geometry import ScanDefaults
from snakemap.core.scan_geometry import raster_of
from snakemap.errors import BrokerUnavailable, SettingsError
from snakemap.simulator.beamline import SimulatedBeamline, simulate
from snakemap.simulator.blueapi_messages import FileSink
from snakemap.simulator.devices import _Shutter
from snakemap.simulator.plans import FAIL_REASON
from snakemap.simulator.writer import ATTRIBUTES_PATH, DATA_PATH, SUM_PATH, WRONG_BY
from snakemap.synthetic.frames import FrameRenderer
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

TIMEOUT_S = 30.0 * PATIENCE


def request_of(**changes):
    return ScanRequest(**{"shape": (4, 5), "frame_shape": (64, 48), "rate_hz": 0.0, "flush_period_s": 0.05, **changes})


def scanned(tmp_path, request, sink=None, **settings):
    sink = sink or ListSink()
    with SimulatedBeamline(tmp_path, sink, **settings) as beamline:
        uid = beamline.run(request)
    assert beamline.outcome is not None
    assert beamline.outcome.uid == uid
    return beamline.outcome, sink


def of(sink, name):
    return [doc for kind, doc in sink.documents if kind == name]


def spans(sink, data_key="camera"):
    """Each stream datum of a data key as `(seq_nums, indices)`, both `(start, stop)`."""
    uids = {doc["uid"] for doc in of(sink, "stream_resource") if doc["data_key"] == data_key}
    data = [doc for doc in of(sink, "stream_datum") if doc["stream_resource"] in uids]
    return [tuple((doc[key]["start"], doc[key]["stop"]) for key in ("seq_nums", "indices")) for doc in data]


def read(path, dataset=DATA_PATH, *, swmr=True) -> np.ndarray:
    with h5py.File(path, "r", swmr=swmr) as file:
        found = file[dataset]
        assert isinstance(found, h5py.Dataset)
        return found[:]


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        threading.Event().wait(0.01)


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("ending", ["complete", "abort", "fail", "stop", "lose"])
def test_every_document_is_valid_bluesky_and_arrives_after_those_it_refers_to(tmp_path, mode, ending):
    _, sink = scanned(tmp_path, request_of(mode=mode, ending=ending))
    order = CausalOrder()
    for name, doc in sink.documents:
        schema_validators[DocumentNames[name]].validate(doc)
        assert order.accept(Document(name, doc)) != []
    assert order.waiting == 0


@pytest.mark.parametrize("mode", ["step", "fly"])
def test_every_message_is_json_that_our_decoder_understands(tmp_path, mode):
    _, sink = scanned(tmp_path, request_of(mode=mode))
    kinds = Counter(type(decode(json.dumps(body))).__name__ for body, _ in sink.messages)
    assert kinds["WorkerEvent"] == 3
    assert kinds["Document"] == len(sink.documents)
    task_ids = {correlation for body, correlation in sink.messages if "doc" not in body}
    assert task_ids == {of(sink, "start")[0]["blueapi_task_id"]}
    assert {correlation for body, correlation in sink.messages if "doc" in body} == {None}


def test_the_documents_of_a_step_scan_come_in_blueapis_order(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(2, 3)))
    names = [body.get("name") or body.get("state") for body, _ in sink.messages if "statuses" not in body]
    point = ["stream_datum", "stream_datum", "event"]
    begin = ["RUNNING", "start", "descriptor", "stream_resource", "stream_resource"]
    assert names == [*begin, *point * 6, "stop", "IDLE", "IDLE"]
    assert spans(sink) == [((point + 1, point + 2), (point, point + 1)) for point in range(6)]
    assert [doc["seq_num"] for doc in of(sink, "event")] == [1, 2, 3, 4, 5, 6]


def test_the_documents_of_a_fly_scan_come_in_batches_without_events(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(5, 10), mode="fly", rate_hz=100.0, flush_period_s=0.1))
    names = [name for name, _ in sink.documents]
    assert names[:4] == ["start", "descriptor", "stream_resource", "stream_resource"]
    assert set(names[4:-1]) == {"stream_datum"}
    assert names[-1] == "stop"
    batches = spans(sink)
    assert len(batches) >= 3
    assert batches == spans(sink, "camera-sum")
    assert all(seq_nums == (indices[0] + 1, indices[1] + 1) for seq_nums, indices in batches)
    edges = [indices for _, indices in batches]
    assert (edges[0][0], edges[-1][1]) == (0, 50)
    assert all(before[1] == after[0] for before, after in pairwise(edges))


def test_the_start_document_tells_the_geometry_the_regions_and_the_task(tmp_path):
    request = request_of(shape=(3, 4))
    _, sink = scanned(tmp_path, request, instrument_session="cm54321-2")
    start = of(sink, "start")[0]
    assert start["shape"] == [3, 4]
    assert start["motors"] == ["stage-y", "stage-x"]
    assert start["scanspec"]["outer"]["axis"] == "stage-y"
    assert start["scanspec"]["inner"]["type"] == "Snake"
    assert start["rois"] == {name: list(rect) for name, rect in request.rectangles.items()}
    assert start["instrument_session"] == "cm54321-2"
    assert start["instrument"] == "simulator"
    assert start["plan_name"] == "simulated_step_scan"
    assert {body["task_id"] for body, _ in sink.messages if "doc" in body} == {start["blueapi_task_id"]}


def test_the_stream_resource_leads_to_the_frames(tmp_path):
    outcome, sink = scanned(tmp_path, request_of(mode="fly"))
    data, total = of(sink, "stream_resource")
    assert data["uri"] == f"file://localhost{outcome.file}"
    assert urlsplit(data["uri"]).path == str(outcome.file)
    assert data["parameters"] == {"chunk_shape": [1, 64, 48], "dataset": DATA_PATH}
    assert total["parameters"]["dataset"] == SUM_PATH
    assert of(sink, "descriptor")[0]["data_keys"]["camera"]["shape"] == [1, 64, 48]
    assert read(outcome.file).shape == (20, 64, 48)


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("snake", [True, False])
def test_each_frame_shows_the_sample_where_the_scanspec_says_the_stage_was(tmp_path, mode, snake):
    request = request_of(shape=(12, 15), mode=mode, snake=snake)
    outcome, sink = scanned(tmp_path, request)
    path = ScanPath(Spec.deserialize(of(sink, "start")[0]["scanspec"]).calculate()).consume().midpoints
    # the same place seen by a scan that never turns back
    straight = FrameRenderer(request_of(shape=(12, 15), snake=False)).sample
    rows = np.rint((path["stage-y"] - 1.0) / 0.05).astype(int)
    columns = np.rint((path["stage-x"] + 2.0) / 0.05).astype(int)
    expected = np.array([straight.brightness(row * 15 + column) for row, column in zip(rows, columns, strict=True)])
    frames = read(outcome.file)
    for channel, (y0, y1, x0, x1) in enumerate(request.rectangles.values()):
        sums = frames[:, y0:y1, x0:x1].sum(axis=(1, 2), dtype=np.float64)
        assert np.corrcoef(sums, expected[:, channel])[0, 1] > 0.97


def test_a_step_scans_events_read_back_where_the_scanspec_sent_the_stage(tmp_path):
    _, sink = scanned(tmp_path, request_of())
    path = ScanPath(Spec.deserialize(of(sink, "start")[0]["scanspec"]).calculate()).consume().midpoints
    for axis in ("stage-x", "stage-y"):
        assert [doc["data"][axis] for doc in of(sink, "event")] == path[axis].tolist()


def test_a_stage_with_a_speed_takes_its_time_and_arrives_where_it_should(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(1, 3), stage_speed_mm_s=1.0, origin_mm=(0.0, 0.0)))
    assert [doc["data"]["stage-x"] for doc in of(sink, "event")] == pytest.approx([0.0, 0.05, 0.1])
    times = [doc["time"] for doc in of(sink, "event")]
    assert min(np.diff(times)) > 0.05


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("gzip", [0, 1])
def test_the_file_holds_the_frames_and_the_cameras_own_sums(tmp_path, dtype, gzip):
    request = request_of(mode="fly", dtype=dtype, gzip=gzip)
    outcome, sink = scanned(tmp_path, request)
    frames = read(outcome.file)
    renderer = FrameRenderer(request)
    assert frames.dtype == np.dtype(dtype)
    assert of(sink, "descriptor")[0]["data_keys"]["camera"]["dtype_numpy"] == np.dtype(dtype).str
    assert all(np.array_equal(frames[index], renderer.frame(index)) for index in range(20))
    assert np.array_equal(read(outcome.file, SUM_PATH), frames.sum(axis=(1, 2), dtype=np.float64))
    y0, y1, x0, x1 = request.rectangles["green"]
    green = read(outcome.file, f"{ATTRIBUTES_PATH}/GreenTotal")
    assert np.array_equal(green, frames[:, y0:y1, x0:x1].sum(axis=(1, 2), dtype=np.float64))


def test_the_same_request_makes_the_same_frames_however_it_is_scanned(tmp_path):
    files = [scanned(tmp_path, request_of(mode=mode, seed=7))[0].file for mode in ("step", "fly", "fly")]
    first, second, third = (read(file) for file in files)
    assert np.array_equal(first, second)
    assert np.array_equal(second, third)


@pytest.mark.parametrize("mode", ["step", "fly"])
def test_several_frames_of_one_point_are_announced_as_one(tmp_path, mode):
    outcome, sink = scanned(tmp_path, request_of(mode=mode, frames_per_point=3))
    assert of(sink, "descriptor")[0]["data_keys"]["camera"]["shape"] == [3, 64, 48]
    assert spans(sink)[-1][0][1] == 21
    assert read(outcome.file).shape[0] == 60


def test_a_scan_of_one_point_is_a_scan(tmp_path):
    for mode in ("step", "fly"):
        outcome, _ = scanned(tmp_path, request_of(shape=(1, 1), mode=mode))
        assert (outcome.exit_status, outcome.points, outcome.as_requested) == ("success", 1, True)


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize(
    ("ending", "exit_status", "reason", "states"),
    [
        ("complete", "success", "", ["RUNNING", "IDLE", "IDLE"]),
        ("abort", "abort", "", ["RUNNING", "ABORTING", "IDLE", "IDLE"]),
        ("stop", "success", "", ["RUNNING", "STOPPING", "IDLE", "IDLE"]),
        ("fail", "fail", FAIL_REASON, ["RUNNING", "IDLE", "IDLE"]),
    ],
)
def test_a_run_ends_as_it_was_told_to(tmp_path, mode, ending, exit_status, reason, states):
    outcome, sink = scanned(tmp_path, request_of(mode=mode, ending=ending))
    points = 20 if ending == "complete" else 10
    (stop,) = of(sink, "stop")
    assert (stop["exit_status"], stop["reason"], stop["num_events"]) == (exit_status, reason, {"primary": points})
    assert [event["state"] for event in sink.worker_events] == states
    last = sink.worker_events[-1]["task_status"]
    assert (last["task_complete"], last["task_failed"]) == (True, ending != "complete")
    assert spans(sink)[-1][1][1] == points
    assert outcome.as_requested


def test_a_flying_camera_runs_on_a_little_and_nobody_is_told(tmp_path):
    outcome, sink = scanned(tmp_path, request_of(shape=(10, 10), mode="fly", ending="abort", ending_after=40))
    assert spans(sink)[-1][1][1] == 40
    assert 40 < read(outcome.file).shape[0] <= 53


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize(("final_idle", "states"), [(True, ["RUNNING", "IDLE", "IDLE"]), (False, ["RUNNING"])])
def test_a_lost_run_never_gets_a_stop(tmp_path, mode, final_idle, states):
    outcome, sink = scanned(tmp_path, request_of(mode=mode, ending="lose", ending_after=6, final_idle=final_idle))
    assert of(sink, "stop") == []
    assert spans(sink)[-1][1][1] == 6
    assert [event["state"] for event in sink.worker_events] == states
    assert outcome.as_requested


@pytest.mark.parametrize("mode", ["step", "fly"])
def test_a_run_may_end_before_its_first_point(tmp_path, mode):
    _, sink = scanned(tmp_path, request_of(mode=mode, ending="abort", ending_after=0))
    assert of(sink, "stop")[0]["exit_status"] == "abort"
    assert spans(sink) == []


GEOMETRY = {"shape", "scanspec", "num_points", "num_intervals", "motors", "extents", "snaking", "units"}
DIMENSIONS = [[["stage-y"], "primary"], [["stage-x"], "primary"]]


def validated(sink):
    """Sees to it that all documents are Bluesky's, and that each comes after those it refers to."""
    order = CausalOrder()
    for name, doc in sink.documents:
        schema_validators[DocumentNames[name]].validate(doc)
        assert order.accept(Document(name, doc)) != []
    assert order.waiting == 0
    return sink


def files_of(sink):
    """The file and the dataset of each data key, as documents tell."""
    return {
        doc["data_key"]: (urlsplit(doc["uri"]).path, doc["parameters"]["dataset"])
        for doc in of(sink, "stream_resource")
    }


def told_path(spec):
    midpoints = ScanPath(spec.calculate()).consume().midpoints
    return np.stack([midpoints["stage-y"], midpoints["stage-x"]], axis=1)


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("way", ["spiral", "ellipse"])
def test_a_path_that_is_no_grid_is_told_as_one_dimension_and_followed(tmp_path, mode, way):
    request = request_of(path=way, shape=(8, 9), mode=mode)
    outcome, sink = scanned(tmp_path, request)
    start = of(validated(sink), "start")[0]
    assert start["scanspec"]["type"] == way.capitalize()
    assert (start["shape"], start["num_points"]) == ([request.points], request.points)
    assert start["hints"] == {"dimensions": DIMENSIONS}
    assert read(outcome.file).shape[0] == request.points < 72
    places = told_path(Spec.deserialize(start["scanspec"]))
    events = [[doc["data"][axis] for axis in ("stage-y", "stage-x")] for doc in of(sink, "event")]
    assert events == (places.tolist() if mode == "step" else [])
    assert outcome.as_requested


@pytest.mark.parametrize(
    ("tells", "keys"),
    [
        ("scanspec", {"shape", "scanspec", "num_points", "motors", "units"}),
        ("shape", {"shape"}),
        ("grid", {"shape", "num_points", "num_intervals", "motors", "extents", "snaking"}),
        ("repr", {"shape", "num_points", "motors"}),
        ("nothing", set()),
    ],
)
def test_a_start_document_tells_as_much_of_the_geometry_as_it_was_asked_to(tmp_path, tells, keys):
    _, sink = scanned(tmp_path, request_of(shape=(2, 3), tells=tells))
    start = of(validated(sink), "start")[0]
    assert start.keys() & GEOMETRY == keys
    hinted = tells not in ("shape", "nothing")
    assert start["hints"].get("dimensions") == (DIMENSIONS if hinted else None)
    assert ("spec" in start["plan_args"]) == (tells == "repr")
    assert (start["plan_args"] == {}) == (tells == "nothing")


@pytest.mark.parametrize("way", ["spiral", "ellipse"])
def test_a_shape_alone_tells_how_many_points_a_path_has(tmp_path, way):
    request = request_of(path=way, tells="shape")
    assert of(scanned(tmp_path, request)[1], "start")[0]["shape"] == [request.points]


def test_a_start_document_of_a_grid_is_as_grid_scan_writes_it(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(2, 3), tells="grid", snake=False, step_mm=0.5))
    start = of(sink, "start")[0]
    assert start["extents"] == [[1.0, 1.5], [-2.0, -1.0]]
    assert (start["shape"], start["snaking"]) == ([2, 3], [False, False])
    assert start["hints"]["gridding"] == "rectilinear"


@pytest.mark.parametrize("way", ["grid", "spiral", "ellipse"])
def test_the_repr_of_a_spec_leads_where_its_json_does(tmp_path, way):
    published, parsed = (
        raster_of(of(scanned(tmp_path, request_of(path=way, tells=tells))[1], "start")[0], defaults=ScanDefaults())
        for tells in ("scanspec", "repr")
    )
    assert (parsed.shape, parsed.snaking, parsed.source) == (published.shape, published.snaking, "plan_args.spec")
    assert np.array_equal(parsed.fast.coordinates, published.fast.coordinates)


def test_the_repr_of_a_spec_shows_devices(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(2, 3), tells="repr", step_mm=0.5))
    spec = of(sink, "start")[0]["plan_args"]["spec"]
    outer = 'outer=Linspace(axis=SimMotor(name="stage-y"), start=1.0, stop=1.5, num=2)'
    inner = 'inner=Snake(spec=Linspace(axis=SimMotor(name="stage-x"), start=-2.0, stop=-1.0, num=3))'
    assert spec == f"Product({outer}, {inner}, gap=True)"


def test_events_without_readbacks_hold_nothing_but_the_detectors_frames(tmp_path):
    _, sink = scanned(tmp_path, request_of(shape=(2, 3), readbacks=False))
    assert [doc["data"] for doc in of(validated(sink), "event")] == [{}] * 6
    assert set(of(sink, "descriptor")[0]["data_keys"]) == {"camera", "camera-sum"}
    assert len(spans(sink)) == 6


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("frames_per_point", [1, 3])
def test_the_cameras_own_sum_is_wrong_at_the_points_where_it_shall_be(tmp_path, mode, frames_per_point):
    request = request_of(mode=mode, frames_per_point=frames_per_point, wrong_sum_at=(1, 7, 20))
    outcome, _ = scanned(tmp_path, request)
    right = read(outcome.file).sum(axis=(1, 2), dtype=np.float64)
    wrong_by = (read(outcome.file, SUM_PATH) - right).reshape(20, frames_per_point).sum(axis=1)
    assert np.flatnonzero(wrong_by).tolist() == [0, 6, 19]
    assert set(wrong_by) == {0.0, WRONG_BY}


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("ending", ["complete", "abort", "fail"])
def test_two_cameras_announce_the_same_points_each_in_a_file_of_its_own(tmp_path, mode, ending):
    request = request_of(mode=mode, cameras=2, ending=ending, shape=(6, 7), wrong_sum_at=(2,))
    outcome, sink = scanned(tmp_path, request)
    assert of(validated(sink), "start")[0]["detectors"] == ["camera", "camera2"]
    (descriptor,) = of(sink, "descriptor")
    assert descriptor["data_keys"]["camera2"]["shape"] == [1, 32, 24]
    spread = [spans(sink, key) for key in ("camera", "camera-sum", "camera2", "camera2-sum")]
    assert all(one == spread[0] for one in spread)
    assert spread[0][-1][1][1] == request.points_announced
    files = files_of(sink)
    assert {key: Path(files[key][0]) for key in ("camera", "camera2")} == outcome.files
    assert files["camera"][0] != files["camera2"][0]
    second = request.of_second_camera()
    renderer = FrameRenderer(second, Sample(second, mirrored=True))
    frames = read(*files["camera2"])
    assert all(np.array_equal(frame, renderer.frame(index)) for index, frame in enumerate(frames))
    assert np.array_equal(read(*files["camera2-sum"]), frames.sum(axis=(1, 2), dtype=np.float64))
    assert outcome.as_requested


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("frames_per_point", [1, 2])
def test_frames_in_color_have_three_planes(tmp_path, mode, frames_per_point):
    request = request_of(shape=(2, 3), mode=mode, color=True, frames_per_point=frames_per_point)
    outcome, sink = scanned(tmp_path, request)
    assert of(validated(sink), "descriptor")[0]["data_keys"]["camera"]["shape"] == [frames_per_point, 3, 64, 48]
    assert of(sink, "stream_resource")[0]["parameters"]["chunk_shape"] == [1, 3, 64, 48]
    frames = read(outcome.file)
    renderer = FrameRenderer(request)
    assert frames.shape == (6 * frames_per_point, 3, 64, 48)
    assert all(np.array_equal(frame, renderer.frame(index)) for index, frame in enumerate(frames))
    assert np.array_equal(read(outcome.file, SUM_PATH), frames.sum(axis=(1, 2, 3), dtype=np.float64))


@pytest.mark.parametrize("frames_per_point", [1, 3])
@pytest.mark.parametrize("way", ["grid", "spiral"])
def test_a_fly_scans_positions_are_in_a_file_as_a_panda_writes_it(tmp_path, frames_per_point, way):
    request = request_of(mode="fly", positions_file=True, tells="shape", path=way, frames_per_point=frames_per_point)
    outcome, sink = scanned(tmp_path, request)
    (descriptor,) = of(validated(sink), "descriptor")
    for axis in ("stage-x", "stage-y"):
        key = descriptor["data_keys"][axis]
        assert (key["external"], key["dtype"], key["shape"], key["units"]) == ("STREAM:", "number", [1], "mm")
        assert files_of(sink)[axis] == (str(outcome.files["panda"]), f"/{axis}")
        seq_nums = [seq_nums for seq_nums, _ in spans(sink, axis)]
        assert seq_nums == [seq_nums for seq_nums, _ in spans(sink)]
    places = np.stack([read(*files_of(sink)[axis]) for axis in ("stage-y", "stage-x")], axis=1)
    assert places.dtype == np.float64
    assert np.array_equal(places, told_path(FrameRenderer(request).sample.spec))
    assert of(sink, "start")[0]["detectors"] == ["camera", "panda"]


def test_the_positions_of_an_aborted_scan_are_announced_as_far_as_its_frames(tmp_path):
    request = request_of(shape=(10, 10), mode="fly", positions_file=True, cameras=2, ending="abort", ending_after=40)
    _, sink = scanned(tmp_path, request)
    keys = ("camera", "camera2", "stage-x", "stage-y")
    assert [spans(sink, key)[-1][1][1] for key in keys] == [40] * 4
    assert len(read(*files_of(sink)["stage-x"])) <= 53


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("ending", ["complete", "abort", "stop", "fail"])
def test_a_baseline_is_read_around_the_points_however_the_run_ends(tmp_path, mode, ending):
    request = request_of(mode=mode, ending=ending, baseline=True)
    outcome, sink = scanned(tmp_path, request)
    names = {doc["uid"]: doc["name"] for doc in of(validated(sink), "descriptor")}
    assert sorted(names.values()) == ["baseline", "primary"]
    baseline = [doc for doc in of(sink, "event") if names[doc["descriptor"]] == "baseline"]
    assert [set(doc["data"]) for doc in baseline] == [{"stage-x", "stage-y"}] * 2
    assert of(sink, "stop")[0]["num_events"] == {"baseline": 2, "primary": request.points_announced}
    assert [name for name, _ in sink.documents][:3] == ["start", "descriptor", "event"]
    assert outcome.as_requested


def test_another_process_can_read_positions_and_both_cameras_when_they_are_announced(tmp_path):
    request = request_of(shape=(4, 10), mode="fly", rate_hz=100.0, cameras=2, positions_file=True)
    with subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as p:
        _, sink = scanned(tmp_path, request, ReadAlong(p))
    assert {key for key, *_ in sink.answers} == {"camera", "camera-sum", "camera2", "camera2-sum", "stage-x", "stage-y"}
    assert all(length >= stop for _, stop, length, _ in sink.answers)


def test_the_command_line_passes_a_requests_path_and_telling_on(monkeypatch):
    asked = []
    monkeypatch.setattr("snakemap.simulator.command.run", lambda settings, request, **_: asked.append(request) or 0)
    words = ["simulate", "--path", "spiral", "--tells", "repr", "--no-readbacks", "--cameras", "2", "--shape", "9x9"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, ["simulate", "--readbacks"]).exit_code == 0
    assert CliRunner().invoke(app, ["simulate", "--path", "spiral", "--tells", "grid"]).exit_code == 2
    assert asked == [
        ScanRequest(shape=(9, 9), path="spiral", tells="repr", readbacks=False, cameras=2),
        ScanRequest(),
    ]


READER = """
import json, sys, h5py
files = {}
for line in sys.stdin:
    path, dataset, stop = json.loads(line)
    if path not in files:
        files[path] = h5py.File(path, "r", swmr=True)
    frames = files[path][dataset]
    frames.refresh()
    print(json.dumps([frames.shape[0], int(frames[stop - 1].sum())]), flush=True)
"""


class ReadAlong(ListSink):
    """Has another process read each frame at the moment it is announced."""

    def __init__(self, process):
        super().__init__()
        self.process, self.answers = process, []

    def publish(self, body, correlation_id=None):
        super().publish(body, correlation_id)
        if body.get("name") == "stream_datum":
            uid, stop = body["doc"]["stream_resource"], body["doc"]["indices"]["stop"]
            resource = next(doc for doc in of(self, "stream_resource") if doc["uid"] == uid)
            question = [urlsplit(resource["uri"]).path, resource["parameters"]["dataset"], stop]
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            length, total = json.loads(self.process.stdout.readline())
            self.answers.append((resource["data_key"], stop, length, total))


@pytest.mark.parametrize("changes", [{"mode": "step"}, {"mode": "fly", "rate_hz": 100.0}, {"mode": "fly", "gzip": 0}])
def test_another_process_can_read_every_frame_when_it_is_announced(tmp_path, changes):
    request = request_of(shape=(4, 10), **changes)
    command = [sys.executable, "-c", READER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        _, sink = scanned(tmp_path, request, ReadAlong(reader))
    renderer = FrameRenderer(request)
    frames = [answer for answer in sink.answers if answer[0] == "camera"]
    assert frames[-1][1] == 40
    assert len(sink.answers) == 2 * len(frames)
    for _, stop, length, total in frames:
        assert length >= stop
        assert total == renderer.frame(stop - 1).sum()


def test_a_fly_scan_keeps_its_rate_whatever_its_frames_cost(tmp_path):
    begin = time.monotonic()
    scanned(tmp_path, request_of(shape=(4, 10), mode="fly", rate_hz=80.0))
    assert 0.5 <= time.monotonic() - begin < 2.0 * PATIENCE


def test_old_files_make_room_and_all_files_stay_below_the_limit(tmp_path):
    request = request_of(gzip=0, shape=(10, 10), frame_shape=(128, 96), mode="fly")
    limit_bytes = 4_000_000
    sink = ListSink()
    with SimulatedBeamline(tmp_path, sink, disk_limit_bytes=limit_bytes) as beamline:
        files = []
        for _ in range(4):
            beamline.run(request)
            assert beamline.outcome is not None
            files.append(beamline.outcome.file)
            assert sum(file.stat().st_size for file in beamline.spool.files()) <= limit_bytes
    assert [file.exists() for file in files] == [False, False, True, True]


def test_a_scan_that_cannot_fit_is_refused_before_anything_is_published(tmp_path):
    sink = ListSink()
    with SimulatedBeamline(tmp_path, sink, disk_limit_bytes=1_000_000) as beamline:
        with pytest.raises(SettingsError, match=r"this scan needs about 25\.0 MB"):
            beamline.run(request_of(shape=(100, 20), gzip=0, frame_shape=(128, 96)))
        assert sink.messages == []
        beamline.run(request_of())
    assert of(sink, "stop")[0]["exit_status"] == "success"


@pytest.mark.parametrize("mode", ["step", "fly"])
def test_a_scan_that_outgrows_the_disk_limit_fails_and_says_why(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(FrameRenderer, "chunk_bytes", lambda self: 1)
    request = request_of(shape=(20, 20), mode=mode, gzip=0)
    outcome, sink = scanned(tmp_path, request, disk_limit_bytes=500_000)
    (stop,) = of(sink, "stop")
    assert stop["exit_status"] == "fail"
    assert stop["reason"].startswith("the disk limit is reached")
    assert sink.worker_events[-1]["errors"] == [stop["reason"]]
    assert outcome.file.stat().st_size < 500_000
    assert not outcome.as_requested
    assert len(read(outcome.file)) >= spans(sink)[-1][1][1] > 10


class Unplugged(ListSink):
    """A broker that is gone after some messages."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def publish(self, body, correlation_id=None):
        if len(self.messages) >= self.after:
            raise BrokerUnavailable("the broker is gone")
        super().publish(body, correlation_id)


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("after", [0, 1, 2, 6])
def test_a_scan_ends_when_nobody_takes_its_documents_and_the_next_one_can_begin(tmp_path, mode, after):
    sink = Unplugged(after)
    with SimulatedBeamline(tmp_path, sink) as beamline:
        with pytest.raises(BrokerUnavailable):
            beamline.run(request_of(mode=mode))
        sink.after = 10**9
        beamline.run(request_of(mode=mode))
        assert beamline.outcome is not None
        assert beamline.outcome.as_requested


def test_a_scan_can_be_aborted_from_another_thread(tmp_path):
    sink = ListSink()
    with SimulatedBeamline(tmp_path, sink) as beamline:
        request = request_of(shape=(100, 100), rate_hz=50.0)
        scan = threading.Thread(target=beamline.run, args=(request,))
        scan.start()
        wait_until(lambda: len(of(sink, "event")) > 3)
        beamline.abort()
        scan.join(TIMEOUT_S)
        assert not scan.is_alive()
    assert of(sink, "stop")[0]["exit_status"] == "abort"
    assert [event["state"] for event in sink.worker_events] == ["RUNNING", "ABORTING", "IDLE", "IDLE"]
    assert [name for name, _ in sink.documents][-1] == "stop"


async def test_a_camera_may_be_stopped_while_a_trigger_waits_for_its_frames():
    with ThreadPoolExecutor(1) as executor:
        shutter = _Shutter(executor, set_frames_written=lambda _: None)
        shutter._task = asyncio.create_task(asyncio.sleep(600))
        await asyncio.sleep(0)
        async with patiently(10):
            await asyncio.gather(shutter.stop(), shutter.finished())
    assert shutter._task is None


def test_an_abort_between_two_scans_does_nothing_and_the_next_scan_can_still_be_aborted(tmp_path):
    class AbortsAtItsStart(ListSink):
        def publish(self, body, correlation_id=None):
            super().publish(body, correlation_id)
            if body.get("name") == "start" and len(of(self, "start")) == 3:
                beamline.abort()

    sink = AbortsAtItsStart()
    with SimulatedBeamline(tmp_path, sink) as beamline:
        beamline.run(request_of())
        beamline.abort()
        beamline.run(request_of())
        beamline.run(request_of(shape=(100, 100), rate_hz=50.0))
    assert [stop["exit_status"] for stop in of(sink, "stop")] == ["success", "success", "abort"]


@pytest.mark.parametrize("mode", ["step", "fly"])
def test_closing_leaves_no_thread_and_no_loop_behind(tmp_path, mode):
    before = set(threading.enumerate())
    with SimulatedBeamline(tmp_path, ListSink()) as beamline:
        for ending in ("complete", "abort", "lose"):
            beamline.run(request_of(mode=mode, ending=ending))
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before
    assert get_bluesky_event_loop() is None
    beamline.close()


def test_a_beamline_that_never_scanned_starts_nothing(tmp_path):
    before = threading.active_count()
    with SimulatedBeamline(tmp_path / "data", ListSink()):
        assert threading.active_count() == before
    assert not (tmp_path / "data").exists()


def test_a_simulation_answers_with_its_exit_code(tmp_path, monkeypatch):
    outcomes = []
    sink = ListSink()
    assert simulate(request_of(), data_dir=tmp_path, sink=sink, on_outcome=outcomes.append) == 0
    assert simulate(request_of(ending="abort"), data_dir=tmp_path, sink=sink, on_outcome=outcomes.append) == 0
    monkeypatch.setattr(FrameRenderer, "chunk_bytes", lambda self: 1)
    assert simulate(request_of(gzip=0), data_dir=tmp_path, sink=sink, disk_limit_bytes=300_000) == 1
    assert [outcome.exit_status for outcome in outcomes] == ["success", "abort"]


@contextmanager
def running(*arguments):
    command = [sys.executable, "-W", "error", "-c", SIMULATION, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


SIMULATION = """
import sys
from pathlib import Path
from snakemap.simulator.beamline import ScanRequest, simulate
from snakemap.simulator.blueapi_messages import FileSink

recording, data_dir, mode, repeat = sys.argv[1:]
request = ScanRequest(shape=(3, 4) if repeat else (200, 200), frame_shape=(64, 48), mode=mode, rate_hz=50.0)
with FileSink(Path(recording)) as sink:
    sys.exit(simulate(request, data_dir=Path(data_dir), sink=sink, repeat=bool(repeat), pause_s=0.01))
"""


def recorded(path: Path):
    sink = ListSink()
    # the last line may be half written
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        sink.publish(json.loads(json.loads(line)["body"]))
    return sink


@pytest.mark.parametrize("mode", ["step", "fly"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_aborts_the_scan_and_leaves_a_closed_file(tmp_path, mode, number):
    recording = tmp_path / "recording.jsonl"
    with running(recording, tmp_path, mode, "") as process:
        wait_until(lambda: len(of(recorded(recording), "stream_datum")) > 2)
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    sink = recorded(recording)
    assert of(sink, "stop")[0]["exit_status"] == "abort"
    assert [event["state"] for event in sink.worker_events][-3:] == ["ABORTING", "IDLE", "IDLE"]
    (file,) = (tmp_path / "simulated").glob("*.h5")
    # not in SWMR mode: only a file that was closed in order opens so
    assert len(read(file, swmr=False)) >= spans(sink)[-1][1][1]


def test_a_repeated_simulation_goes_on_until_a_signal_comes(tmp_path):
    recording = tmp_path / "recording.jsonl"
    with running(recording, tmp_path, "fly", "yes") as process:
        wait_until(lambda: len(of(recorded(recording), "stop")) >= 2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, output
    starts = of(recorded(recording), "start")
    assert [start["plan_args"]["seed"] for start in starts[:2]] == [0, 1]
    assert [start["scan_id"] for start in starts[:2]] == [1, 2]


def test_a_recording_of_the_simulator_can_be_read_like_any_other(tmp_path):
    path = tmp_path / "recording.jsonl"
    with FileSink(path) as sink:
        scanned(tmp_path, request_of(), sink)
    messages = [decode(json.loads(line)["body"]) for line in path.read_text().splitlines()]
    documents = [message for message in messages if isinstance(message, Document)]
    assert [documents[0].name, documents[-1].name] == ["start", "stop"]
