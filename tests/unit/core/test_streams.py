from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from scanspec.specs import Ellipse, Spec, Spiral

from snakemap.core.derived_documents import TOTAL, derived_descriptor, derived_page, scalar_descriptor
from snakemap.core.documents import Document
from snakemap.core.run import Run
from snakemap.core.streams import SCALARS, MapSource, cross_checks
from snakemap.render.export import MapFormat, written

START = {"uid": "run", "time": 1.0}
IMAGE = {"external": "STREAM:", "shape": [1, 12, 4], "dtype": "array", "source": "camera"}
SCALAR = {"shape": [], "dtype": "number", "source": "soft"}
ROIS = {"red": (0, 4, 0, 4)}


def apply(run: Run, name: str, doc: dict[str, Any]) -> None:
    run.apply(Document(name, doc, run=run.uid))


def describe(run: Run, keys: dict[str, Any], *, stream: str = "primary", uid: str = "") -> str:
    uid = uid or stream
    apply(run, "descriptor", {"uid": uid, "run_start": "run", "time": 1.0, "name": stream, "data_keys": keys})
    return uid


def run_of(start: dict[str, Any] | None = None, **keys: Any) -> Run:
    run = Run({**START, "shape": [2, 3], **(start or {})})
    describe(run, {"camera": IMAGE, **keys})
    return run


def sums(run: Run, seq_nums: list[int], values: list[float], *, source: MapSource | None = None) -> None:
    descriptor = derived_descriptor(run, ROIS, frame_shape=(12, 4), time=1.0, source=source)
    apply(run, "descriptor", descriptor)
    columns = {"red": [value / 2 for value in values], TOTAL: values}
    apply(run, "event_page", derived_page(descriptor["uid"], seq_nums, columns, time=1.0))


def event(run: Run, seq_num: int, **data: Any) -> None:
    apply(run, "event", {"descriptor": "primary", "seq_num": seq_num, "data": data})


# what there is to draw


def test_every_camera_and_the_scalars_are_sources_and_the_first_camera_is_the_main_one() -> None:
    run = run_of(camera2=IMAGE, diode={**SCALAR, "units": "nA"}, label={**SCALAR, "dtype": "string"})
    assert list(run.sources) == ["camera", "camera2", SCALARS]
    assert run.main is run.source("camera") is run.source("") is run.source("nobody")
    assert run.sources[SCALARS].maps.channels == ("diode",)
    assert run.sources[SCALARS].units == {"diode": "nA"}


def test_each_camera_has_maps_of_its_own() -> None:
    run = run_of(camera2=IMAGE)
    sums(run, [1, 2], [10.0, 20.0])
    sums(run, [1, 3], [1.0, 3.0], source=run.sources["camera2"])
    assert np.nansum(run.maps.grids[1]) == 30.0
    assert np.nansum(run.sources["camera2"].maps.grids[1]) == 4.0
    assert (run.points, run.sources["camera2"].maps.visited) == (2, 2)


def test_scalars_of_events_pages_and_files_are_maps_in_the_same_raster() -> None:
    run = run_of(diode=SCALAR, **{"camera-sum": {**SCALAR, "external": "STREAM:"}})
    event(run, 4, diode=2.5)
    apply(run, "event_page", {"descriptor": "primary", "seq_num": [5, 6], "data": {"diode": [None, 7]}})
    ours = scalar_descriptor(run, run.main, "camera-sum", units="counts", time=1.0)
    apply(run, "descriptor", ours)
    apply(run, "event_page", derived_page(ours["uid"], [1], {"camera-sum": [99.0]}, time=1.0, indices=[0]))
    scalars = run.sources[SCALARS].maps
    grids = dict(zip(scalars.channels, scalars.grids, strict=True))
    np.testing.assert_array_equal(grids["diode"], [[np.nan] * 3, [7.0, np.nan, 2.5]])
    assert grids["camera-sum"][0, 0] == 99.0
    assert run.points == 0


@pytest.mark.parametrize("value", ["text", True, [1, 2], {"a": 1}, 10**400])
def test_a_scalar_that_is_no_number_is_left_out_and_spoils_no_other(value: Any) -> None:
    run = run_of(diode=SCALAR, other=SCALAR)
    event(run, 1, diode=value, other=3.0)
    scalars = run.sources[SCALARS].maps
    assert scalars.values(0, np.array([0])).tolist() != [3.0]
    assert scalars.values(1, np.array([0])).tolist() == [3.0]


def test_a_run_of_scalars_alone_counts_their_points() -> None:
    run = Run({**START, "shape": [2]})
    describe(run, {"diode": SCALAR})
    event(run, 1, diode=1.0)
    event(run, 2, diode=2.0)
    apply(run, "stop", {"run_start": "run", "exit_status": "success", "time": 2.0})
    assert (run.main.key, run.points, run.status) == (SCALARS, 2, "complete")


def test_a_run_with_nothing_to_draw_counts_its_events() -> None:
    run = Run({**START, "shape": [2]})
    describe(run, {"note": {**SCALAR, "dtype": "string"}})
    event(run, 1, note="a")
    event(run, 2, note="b")
    apply(run, "stop", {"run_start": "run", "exit_status": "success", "time": 2.0})
    assert (run.points, run.status) == (2, "complete")


# streams


def test_baseline_streams_are_no_sources() -> None:
    run = Run({**START, "shape": [2, 3]})
    describe(run, {"temperature": SCALAR, "camera": IMAGE}, stream="baseline")
    describe(run, {"camera": IMAGE})
    assert list(run.sources) == ["camera"]
    assert run.main.stream == "primary"


def test_a_stream_that_comes_before_the_scan_gives_its_geometry_back() -> None:
    run = Run({**START, "shape": [2, 3]})
    describe(run, {"camera": IMAGE}, stream="dark")
    sums(run, [1, 2], [5.0, 6.0])
    assert run.raster.shape == (2, 3)
    describe(run, {"camera": IMAGE})
    assert list(run.sources) == ["camera", "dark: camera"]
    assert (run.main.stream, run.raster.shape, run.points) == ("primary", (2, 3), 0)
    dark = run.sources["dark: camera"].maps
    assert dark.raster.rows == 1
    assert np.nansum(dark.grids[1]) == 11.0


def test_frames_of_two_streams_with_the_same_camera_are_kept_apart() -> None:
    run = Run({**START, "shape": [2, 3]})
    describe(run, {"camera": IMAGE}, stream="dark")
    describe(run, {"camera": IMAGE})
    for uid, stream in (("d", "dark"), ("p", "primary")):
        parameters = {"dataset": "/data"}
        doc = {
            "uid": uid,
            "run_start": "run",
            "data_key": "camera",
            "uri": f"file:///{uid}.h5",
            "parameters": parameters,
        }
        apply(run, "stream_resource", doc)
        span = {"start": 0, "stop": 2}
        seq_nums = {"start": 1, "stop": 3}
        datum = {"descriptor": stream, "stream_resource": uid, "indices": span, "seq_nums": seq_nums}
        apply(run, "stream_datum", datum)
    assert list(run.sources["camera"].ledger.resources) == ["p"]
    assert list(run.sources["dark: camera"].ledger.resources) == ["d"]


def test_a_camera_that_is_configured_anew_in_mid_run_goes_on() -> None:
    run = run_of()
    describe(run, {"camera": IMAGE}, uid="again")
    doc = {"uid": "p", "run_start": "run", "data_key": "camera", "uri": "file:///p.h5", "parameters": {"dataset": "/d"}}
    apply(run, "stream_resource", doc)
    spans = {"indices": {"start": 0, "stop": 1}, "seq_nums": {"start": 1, "stop": 2}}
    apply(run, "stream_datum", {"descriptor": "again", "stream_resource": "p", **spans})
    assert (list(run.sources), run.ledger.waiting) == (["camera"], 1)


# agreement with the detector


def test_a_sum_that_differs_from_the_detectors_own_is_counted_and_one_that_is_corrected_no_longer() -> None:
    run = run_of(**{"camera-sum": SCALAR, "RedTotal": SCALAR})
    sums(run, [1, 2, 3], [10.0, 20.0, 30.0])
    event(run, 1, **{"camera-sum": 10.0, "RedTotal": 5.0})
    event(run, 2, **{"camera-sum": 21.0, "RedTotal": 10.0})
    found = {one.channel: one for one in run.cross_checks(run.main)}
    assert {name: (one.key, one.differing, one.compared) for name, one in found.items()} == {
        "total": ("camera-sum", 1, 2),
        "red": ("RedTotal", 0, 2),
    }
    assert found["total"].described == "total differs from the detector's own camera-sum at 1 of 2"
    event(run, 2, **{"camera-sum": 20.0, "RedTotal": 10.0})
    (total,) = (one for one in run.cross_checks(run.main) if one.channel == "total")
    assert (total.differing, total.described) == (0, "")


def test_sums_that_differ_by_rounding_agree() -> None:
    run = run_of(**{"camera-sum": SCALAR})
    sums(run, [1], [1e7])
    event(run, 1, **{"camera-sum": 1e7 + 1})
    assert [one.differing for one in run.cross_checks(run.main)] == [0]


def test_without_a_sum_of_the_detectors_there_is_nothing_to_compare() -> None:
    assert run_of(diode=SCALAR).cross_checks(run_of().main) == []
    assert cross_checks(run_of().main, None) == []


# rasters that change


@pytest.mark.parametrize("shape", [[7], [2, 3, 4]])
def test_a_source_that_is_laid_out_anew_keeps_every_point(shape: list[int]) -> None:
    run = Run({**START})
    describe(run, {"camera": IMAGE})
    sums(run, [1, 2, 3, 7], [1.0, 2.0, 3.0, 7.0])
    raster = Run({**START, "shape": shape}).raster
    run.main.set_raster(raster)
    cells, _ = raster.cells([1, 2, 3, 7])
    assert run.maps.values(1, cells).tolist() == [1.0, 2.0, 3.0, 7.0]
    assert run.maps.visited == 4


# as the API tells it


def report_of(run: Run, source: str = "") -> dict[str, Any]:
    return orjson.loads(written(run, MapFormat.JSON, source=source))


def path_run(spec: Spec[Any]) -> tuple[Run, list[dict[str, float]]]:
    places = list(spec.midpoints())
    run = run_of({"scanspec": spec.serialize(), "shape": [len(places)]})
    numbers = list(range(1, len(places) + 1))
    sums(run, numbers, [float(number) for number in numbers])
    return run, places


def test_a_spiral_is_told_as_one_row_with_the_positions_of_its_points() -> None:
    run, places = path_run(Spiral("stage-x", 0.0, 4.0, 1.0, "stage-y", 1.0, 4.0))
    answer = report_of(run)
    assert answer["shape"] == [1, len(places)]
    assert answer["channels"]["total"] == [[float(number) for number in range(1, len(places) + 1)]]
    assert [answer["positions"][axis]["name"] for axis in "xy"] == ["stage-x", "stage-y"]
    for axis in "xy":
        np.testing.assert_allclose(answer["positions"][axis]["values"], [place[f"stage-{axis}"] for place in places])


def test_a_masked_grid_is_told_as_the_grid_with_null_outside_the_mask() -> None:
    run, places = path_run(Ellipse("stage-x", 0.0, 6.0, 1.0, "stage-y", 0.0, 4.0, 1.0, snake=True))
    answer = report_of(run)
    assert answer["shape"] == [5, 7]
    assert answer["positions"] is None
    rows, columns = answer["axes"]["slow"]["coordinates"], answer["axes"]["fast"]["coordinates"]
    for number, place in enumerate(places, 1):
        row = int(np.argmin(np.abs(np.array(rows) - place["stage-y"])))
        column = int(np.argmin(np.abs(np.array(columns) - place["stage-x"])))
        assert answer["channels"]["total"][row][column] == number
    assert sum(value is not None for row in answer["channels"]["total"] for value in row) == len(places)


def test_another_source_is_told_by_its_name() -> None:
    run = run_of(diode=SCALAR)
    event(run, 1, diode=4.0)
    assert (report_of(run)["source"], report_of(run)["sources"]) == ("camera", ["camera", SCALARS])
    assert report_of(run, SCALARS)["channels"] == {"diode": [[4.0, None, None], [None, None, None]]}


def test_of_several_cameras_the_one_that_the_plan_names_first_is_the_main_one() -> None:
    run = Run({**START, "shape": [2, 3], "detectors": ["unknown", "camera2", "camera"]})
    describe(run, {"camera": IMAGE, "camera2": IMAGE, "camera3": IMAGE})
    assert run.main.key == "camera2"
    assert list(run.sources) == ["camera2", "camera", "camera3"]
