"""Maps as Davidia's messages: its own models read them, whatever the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from davidia.models.messages import HeatmapData, ImageMessage
from davidia.server.fastapi_utils import ws_unpack
from tests.support import scans
from tests.support.beamline import Scan

from snakemap.api import davidia
from snakemap.api.davidia import PLOTS, Leave, image_message, unpacked
from snakemap.runs import Run

GRID = {
    "shape": [3, 4],
    "extents": [[2, 0], [10, 13]],
    "snaking": [False, True],
    "hints": {"dimensions": [[["y"], "primary"], [["x"], "primary"]]},
}


def folded(scan: Scan, *, points: int, rois: dict[str, Any] | None = None) -> Run:
    documents = scans.documents(scan, points=points, rois=rois)
    run = Run(documents[0].doc)
    for document in documents:
        run.apply(document)
    return run


def read(run: Run, plot_id: str) -> tuple[ImageMessage, HeatmapData]:
    body = image_message(run, plot_id)
    assert body is not None
    message = ImageMessage.model_validate(ws_unpack(body))
    assert isinstance(message.im_data, HeatmapData)
    return message, message.im_data


@pytest.mark.parametrize("plot_id", PLOTS)
def test_every_plot_is_its_channel_with_labels_and_coordinates_that_may_fall(plot_id: str) -> None:
    run = folded(Scan("run", start_extra=GRID), points=6)
    message, data = read(run, plot_id)
    grid = run.maps.grids[run.maps.channels.index(PLOTS[plot_id])]
    np.testing.assert_array_equal(data.values, grid)
    assert data.values.dtype == np.dtype("<f8")
    assert data.domain == (np.nanmin(grid), np.nanmax(grid))
    config = message.plot_config
    assert (message.plot_id, config.x_label, config.y_label) == (plot_id, "x", "y")
    assert config.x_values is not None
    assert config.y_values is not None
    assert (config.x_values.tolist(), config.y_values.tolist()) == ([10, 11, 12, 13], [2, 1, 0])


def test_axes_of_which_nothing_is_known_have_no_coordinates() -> None:
    message, _ = read(folded(Scan("run"), points=1), "red")
    assert (message.plot_config.x_values, message.plot_config.y_values) == (None, None)


def test_a_map_without_a_point_or_with_one_value_has_a_domain_all_the_same() -> None:
    assert read(folded(Scan("run"), points=0), "red")[1].domain == (0, 1)
    assert read(folded(Scan("run"), points=1), "red")[1].domain == (1, 2)


def test_a_run_that_has_just_begun_is_an_empty_image() -> None:
    _, data = read(Run(Scan("run").start()["doc"]), "red")
    assert data.values.shape == (3, 4)
    assert np.isnan(data.values).all()


def test_channels_of_other_names_are_shown_in_their_places() -> None:
    rois: dict[str, Any] = dict.fromkeys(("left", "right"), (0, 2, 0, 4))
    run = folded(Scan("run"), points=3, rois=rois)
    firsts = {plot_id: read(run, plot_id)[1].values[0, 0] for plot_id in ("plot_0", "green", "total")}
    assert firsts == {"plot_0": 1, "green": 1001, "total": 2001}
    assert image_message(run, "blue") is None


def test_a_map_of_too_many_pixels_is_thinned_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davidia, "CELLS_MAX", 4)
    run = folded(Scan("run", start_extra=GRID), points=12)
    message, data = read(run, "red")
    np.testing.assert_array_equal(data.values, run.maps.grids[0][::2, ::2])
    assert message.plot_config.title == "red · scan (one pixel of 4)"
    assert message.plot_config.x_values is not None
    assert message.plot_config.x_values.tolist() == [10, 12]


def test_names_from_documents_are_cut_and_cannot_break_a_message() -> None:
    start = {"plan_name": "\ud800<img src=x onerror=alert(1)>" * 100}
    message, _ = read(folded(Scan("run", start_extra=start), points=1), "red")
    assert len(message.plot_config.title) == davidia.TEXT_MAX


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01", b"\x91" * 5000, b"\x81\xc0\xc0\xc0", None])
def test_what_is_no_message_is_left(data: bytes | None) -> None:
    with pytest.raises(Leave):
        unpacked(data)
