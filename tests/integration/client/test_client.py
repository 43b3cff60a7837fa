"""The client against a real API over a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from scanspec.specs import Spiral
from tests.support.api import ApiThread
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import free_port

import snakemap
from snakemap.client import Client, document_stream
from snakemap.errors import (
    ApiFailed,
    ApiUnavailable,
    BlueapiUnavailable,
    ReadOnly,
    RunNotFound,
    SettingsError,
    StillRunning,
)

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def api(redis_url: str) -> Iterator[ApiThread]:
    with ApiThread(redis_url) as api:
        yield api


@pytest.fixture
def client(api: ApiThread) -> Iterator[Client]:
    with snakemap.connect(api.url) as client:
        yield client


@pytest.fixture
def pages() -> Iterator[str]:
    """Another program that answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def scan(redis_url: str) -> MadeUpRun:
    return MadeUpRun(redis_url)


def test_the_maps_of_a_grid_are_a_dataset_in_the_coordinates_of_the_stage(client: Client, scan: MadeUpRun) -> None:
    scan.add(1, 33)
    maps = client.run("latest").maps
    assert isinstance(maps, xr.Dataset)
    assert dict(maps.sizes) == {"stage-y": 8, "stage-x": 10}
    for channel, grid in scan.expected(33).items():
        assert maps[channel].dims == ("stage-y", "stage-x")
        assert maps[channel].dtype == np.float64
        assert maps[channel].attrs["units"] == "counts"
        np.testing.assert_array_equal(maps[channel], grid)
    np.testing.assert_allclose(maps["stage-x"], np.linspace(-1, 1, 10))
    assert maps["stage-y"].attrs == {"long_name": "stage-y", "units": "mm"}
    assert maps.attrs == {
        **{"uid": scan.uid, "plan_name": "made_up", "status": "running", "source": "camera"},
        **{"cursor": scan.run.cursor, "geometry": scan.run.raster.described},
    }


def test_maps_are_elements_of_holoviews_with_names_and_units(client: Client, scan: MadeUpRun) -> None:
    scan.add(1, 33)
    layout = client.run("latest").maps.hv
    images = list(layout)
    assert [image.vdims[0].name for image in images] == ["red", "green", "blue", "total"]
    assert [dimension.pprint_label for dimension in images[0].kdims] == ["stage-x (mm)", "stage-y (mm)"]
    for image, grid in zip(images, scan.expected(33).values(), strict=True):
        assert isinstance(image, hv.Image)
        np.testing.assert_array_equal(image.dimension_values(2, flat=False), grid)
    assert isinstance(images[0] * hv.Points([(0, 1)]) + images[3], hv.Layout)
    hv.renderer("bokeh").get_plot(layout)


def test_a_path_is_points_and_an_uneven_grid_a_mesh(client: Client, redis_url: str) -> None:
    start = {"scanspec": Spiral("sx", 0, 2, 0.5, "sy", 0).serialize(), "units": {"sx": "mm", "sy": "mm"}}
    scan = MadeUpRun(redis_url, shape=(1, 12), start=start)
    scan.add(1, 5)
    total = list(client.run().maps.hv)[-1]
    assert isinstance(total, hv.Points)
    np.testing.assert_array_equal(total["total"][:5], scan.sums[-1, 0, :5])
    uneven = xr.Dataset({"a": (("y", "x"), np.ones((2, 3)))}, {"y": [0.0, 1.0], "x": [0.0, 1.0, 5.0]})
    assert isinstance(next(iter(uneven.hv)), hv.QuadMesh)
    with pytest.raises(ValueError, match="no variables"):
        _ = xr.Dataset().hv


def test_maps_asked_for_again_are_only_sent_when_something_has_come(
    api: ApiThread, client: Client, scan: MadeUpRun
) -> None:
    scan.add(1, 10)
    run = client.run()
    first, again = run.maps, run.maps
    scan.add(11, 12)
    grown = run.maps
    answers = [status for path, status in api.requests if path.endswith("/maps")]
    assert answers == [200, 304, 200]
    xr.testing.assert_identical(first, again)
    assert int(grown["total"].count()) == 12
    assert int(first["total"].count()) == 10


def test_what_a_user_does_to_maps_does_not_show_in_those_asked_for_next(client: Client, scan: MadeUpRun) -> None:
    scan.add(1, 10)
    run = client.run()
    mine = run.maps
    mine.attrs["uid"] = "mine"
    mine["more"] = mine["total"] * 2
    with pytest.raises(ValueError, match=r"copy|read-only"):
        mine["total"][0, 0] = 1
    assert "more" not in run.maps
    assert run.maps.attrs["uid"] == scan.uid


def test_a_spiral_is_a_row_of_points_with_their_places(client: Client, redis_url: str) -> None:
    start = {"scanspec": Spiral("sx", 0, 2, 0.5, "sy", 0).serialize(), "units": {"sx": "mm", "sy": "mm"}}
    scan = MadeUpRun(redis_url, shape=(1, 12), start=start)
    scan.add(1, 5)
    maps = client.run().maps
    assert scan.run.raster.path is not None
    points = scan.run.raster.columns
    assert dict(maps.sizes) == {"point": points}
    assert set(maps.coords) == {"point", "x", "y"}
    assert maps["point"].values.tolist() == list(range(1, points + 1))
    assert maps["x"].attrs == {"long_name": "sx", "units": "mm"}
    assert float(np.hypot(maps["x"], maps["y"]).max()) <= 1.5
    np.testing.assert_array_equal(maps["total"][:5], scan.sums[-1, 0, :5])
    assert int(maps["total"].count()) == 5


def test_a_source_has_maps_of_its_own_and_units(client: Client, redis_url: str) -> None:
    scan = MadeUpRun(redis_url, scalars={"diode": np.arange(80.0)}, units={"diode": "nA"})
    scan.add(1, 80)
    run = client.run()
    assert run.sources == ["camera", "scalars"]
    scalars = run.source("scalars").maps
    assert list(scalars) == ["diode"]
    assert scalars["diode"].attrs == {"units": "nA"}
    assert scalars.attrs["source"] == "scalars"
    assert list(client.run(scan.uid, source="scalars").maps) == ["diode"]
    assert list(run.maps) == list(scan.channels)
    with pytest.raises(RunNotFound, match="it has camera, scalars"):
        _ = run.source("other").maps


def test_a_channel_that_is_called_as_an_axis_stays_apart_from_it(client: Client, redis_url: str) -> None:
    rois = {"stage-x": (0, 8, 0, 8), "stage-x_": (8, 16, 0, 8), "about": (0, 1, 0, 1), "a/b": (0, 2, 0, 2)}
    scan = MadeUpRun(redis_url, rois=rois)
    scan.add(1, 80)
    maps = client.run().maps
    assert list(maps) == ["stage-x_", "stage-x__", "about", "a/b", "total"]
    for name, channel in zip(maps, scan.channels, strict=True):
        np.testing.assert_array_equal(maps[name], scan.expected(80)[channel])


def test_runs_are_listed_and_told_of(client: Client, redis_url: str) -> None:
    scans = [MadeUpRun(redis_url, start={"time": 1_795_000_000.0 + number}) for number in range(3)]
    scans[0].add(1, 7)
    runs = client.runs()
    assert [run.uid for run in runs] == [scan.uid for scan in reversed(scans)]
    assert runs[0].uid == client.run("latest").uid
    oldest = runs[-1]
    assert (oldest.plan_name, oldest.started, oldest.status) == ("made_up", 1_795_000_000.0, "running")
    assert oldest.summary["points"] == 7
    assert oldest.start == scans[0].start


def test_documents_up_to_now_come_in_order(client: Client, scan: MadeUpRun) -> None:
    scan.add(1, 2)
    scan.stop()
    documents = list(client.run().documents())
    assert [name for name, _, _ in documents] == ["start", "descriptor", "descriptor", "event_page", "stop"]
    assert documents[0].doc == scan.start
    assert [document.cursor for document in documents] == sorted(document.cursor for document in documents)


def test_a_run_is_followed_to_its_end_over_a_connection_that_is_lost(
    api: ApiThread, client: Client, scan: MadeUpRun, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RETRY_S", "QUIET_S"):
        monkeypatch.setattr(document_stream, name, 0.05)
    scan.add(1, 2)
    heard: list[Any] = []
    for document in client.run().follow():
        heard.append(document)
        if len(heard) == 4:
            api.stop()
            scan.add(3, 4)
            other = MadeUpRun(redis_url)
            other.add(1, 1)
            api.start()
        if len(heard) == 5:
            scan.add(5, 80)
            scan.stop()
    assert [document.name for document in heard] == ["start", "descriptor", "descriptor", *["event_page"] * 3, "stop"]
    assert heard == list(client.run(scan.uid).documents())
    after = list(client.run(scan.uid).follow(after=heard[4].cursor))
    assert after == heard[5:]


def test_a_connection_that_does_not_come_back_is_an_error_that_says_how_to_go_on(
    api: ApiThread, client: Client, scan: MadeUpRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_stream, "RETRY_S", 0.05)
    following = client.run().follow(patience_s=0.2)
    last = [next(following) for _ in range(3)][-1]
    api.stop()
    with pytest.raises(ApiUnavailable, match=f"follow\\(after='{last.cursor}'\\)"):
        next(following)


def test_maps_are_told_as_they_grow_until_the_run_is_whole(client: Client, scan: MadeUpRun) -> None:
    scan.add(1, 10)
    counts = []
    for maps in client.run().growing(every_s=0.02):
        counts.append(int(maps["total"].count()))
        np.testing.assert_array_equal(maps["total"], scan.expected(counts[-1])["total"])
        if counts[-1] == 10:
            scan.add(11, 50)
        elif counts[-1] == 50:
            scan.add(51, 80)
            scan.stop()
    assert [count for number, count in enumerate(counts) if count not in counts[:number]] == [10, 50, 80]


def test_waiting_ends_with_the_run_or_with_patience(client: Client, scan: MadeUpRun) -> None:
    run = client.run()
    scan.add(1, 79)
    with pytest.raises(StillRunning, match="79 of 80 points"):
        run.wait(timeout_s=0)
    ending = threading.Timer(0.2, lambda: (scan.add(80, 80), scan.stop()))
    ending.start()
    assert run.wait(timeout_s=20 * PATIENCE).status == "complete"
    ending.join()


def test_a_run_that_is_not_there_is_told_so(client: Client) -> None:
    with pytest.raises(RunNotFound, match="nobody"):
        client.run("nobody")
    for uid in ("", "latest"):
        with pytest.raises(RunNotFound):
            client.run(uid)
    assert client.runs() == []


def test_again_says_why_it_cannot(redis_url: str, client: Client, scan: MadeUpRun) -> None:
    with pytest.raises(BlueapiUnavailable):
        client.run().again(num=3)
    with ApiThread(redis_url, read_only=True) as api, snakemap.connect(api.url) as other, pytest.raises(ReadOnly):
        other.run().again()


@pytest.mark.parametrize("url", ["host:8080", "ftp://host", "http://", "", "http://host:x", "http://a:secret@:1"])
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="like http://host:8080") as refused:
        snakemap.connect(url)
    assert "secret" not in str(refused.value)


def test_an_api_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    with snakemap.connect(f"http://me:secret@127.0.0.1:{free_port()}") as client:
        with pytest.raises(ApiUnavailable, match="does `snakemap api` run there") as refused:
            client.runs()
        assert "secret" not in str(refused.value) + repr(client)


def test_an_answer_of_another_program_is_told_from_one_of_ours(api: ApiThread, pages: str) -> None:
    for url in (f"{api.url}/prefix", pages):
        with snakemap.connect(url) as client:
            for asked in (client.runs, client.run):
                with pytest.raises(ApiFailed, match="not the API of this snakemap"):
                    asked()


def test_a_notebook_shows_a_run_with_a_small_picture_and_every_word_as_text(
    client: Client, redis_url: str, api: ApiThread
) -> None:
    scan = MadeUpRun(redis_url, start={"plan_name": NASTY})
    scan.add(1, 80)
    run = client.run()
    shown = run._repr_html_()
    assert NASTY not in shown
    assert "&lt;script&gt;" in shown
    assert "80 of 80" in shown
    assert "<img" not in shown  # there is no picture yet
    scan.draw()
    assert 'src="data:image/png;base64,iVBOR' in run._repr_html_()
    api.stop()
    assert "unknown: no answer" in run._repr_html_()
