"""Maps as Davidia's messages: its own models read them, whatever the map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from davidia.models.messages import HeatmapData, ImageMessage
from davidia.server.fastapi_utils import ws_unpack
from tests.support import scans
from tests.support.beamline import Scan

from snakemap.api.compat import davidia_messages
from snakemap.api.compat.davidia_messages import PLOTS, Leave, image_message, request_of, unpacked
from snakemap.core.run import Run

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
    np.testing.assert_array_equal(data.values, grid)  # y falls along the scan: its highest value is in row 0 already
    assert data.values.dtype == np.dtype("<f8")
    assert data.domain == (np.nanmin(grid), np.nanmax(grid))
    config = message.plot_config
    assert (message.plot_id, config.x_label, config.y_label) == (plot_id, "x", "y")
    assert config.x_values is not None
    assert config.y_values is not None
    edges = (config.x_values.tolist(), config.y_values.tolist())
    assert edges == ([9.5, 10.5, 11.5, 12.5, 13.5], [2.5, 1.5, 0.5, -0.5])


def values_of(values: Any) -> list[float]:
    assert values is not None
    return values.tolist()


@pytest.mark.parametrize(
    ("extents", "flips", "x_edges", "y_edges"),
    [
        ([[0, 2], [10, 13]], (True, False), [9.5, 10.5, 11.5, 12.5, 13.5], [2.5, 1.5, 0.5, -0.5]),
        ([[2, 0], [13, 10]], (False, True), [9.5, 10.5, 11.5, 12.5, 13.5], [2.5, 1.5, 0.5, -0.5]),
        ([[0, 1], [3, 0]], (True, True), [-0.5, 0.5, 1.5, 2.5, 3.5], [1.25, 0.75, 0.25, -0.25]),
    ],
    ids=["both rise", "both fall", "half steps"],
)
def test_a_map_stands_as_on_the_page_whatever_way_the_axes_run(
    extents: list[list[float]], flips: tuple[bool, bool], x_edges: list[float], y_edges: list[float]
) -> None:
    run = folded(Scan("run", start_extra={**GRID, "extents": extents}), points=6)
    message, data = read(run, "red")
    grid = run.maps.grids[0]
    grid = grid[::-1] if flips[0] else grid
    np.testing.assert_array_equal(data.values, grid[:, ::-1] if flips[1] else grid)
    config = message.plot_config
    assert (values_of(config.x_values), values_of(config.y_values)) == (x_edges, y_edges)


def test_a_pixel_lies_where_the_page_shows_it() -> None:
    """Davidia draws row 0 at the top and spreads the cells over the edges: so every pixel is found by its place."""
    run = folded(Scan("run", start_extra={**GRID, "extents": [[0, 2], [13, 10]]}), points=12)
    message, data = read(run, "red")
    config = message.plot_config
    x_edges, y_edges = (np.array(values_of(one)) for one in (config.x_values, config.y_values))
    raster = run.maps.raster
    for row, y in enumerate(raster.slow.coordinates):
        for column, x in enumerate(raster.fast.coordinates):
            at = (int((y_edges > y).sum()) - 1, int((x_edges < x).sum()) - 1)
            assert data.values[at] == run.maps.grids[0][row, column]
            assert (y_edges[at[0]] + y_edges[at[0] + 1]) / 2 == pytest.approx(y)
            assert (x_edges[at[1]] + x_edges[at[1] + 1]) / 2 == pytest.approx(x)


def test_cells_of_axes_of_which_nothing_is_known_are_centered_on_their_index() -> None:
    run = folded(Scan("run"), points=5)
    message, data = read(run, "red")
    assert values_of(message.plot_config.x_values) == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert values_of(message.plot_config.y_values) == [2.5, 1.5, 0.5, -0.5]
    np.testing.assert_array_equal(data.values, run.maps.grids[0][::-1])


@pytest.mark.parametrize("title", ["", "x", "xy", "xyz", "plan " * 30, "α"])
@pytest.mark.parametrize("points", [1, 12])
def test_arrays_begin_where_a_client_can_view_them_without_a_copy(title: str, points: int) -> None:
    body = image_message(folded(Scan("run", start_extra={**GRID, "plan_name": title}), points=points), "red")
    assert body is not None
    found = 0
    for one in arrays_in(ws_unpack_raw(body)):
        at = body.index(one)
        assert at % 8 == 0
        found += 1
    assert found == 3  # values, x, y


def ws_unpack_raw(body: bytes) -> Any:
    """A message with its arrays as bytes."""
    return msgpack.unpackb(body, raw=False)


def arrays_in(message: Any) -> Iterator[bytes]:
    if isinstance(message, dict):
        for one in message.values():
            yield from [one] if isinstance(one, bytes) else arrays_in(one)


OLD = {
    "ready": "83a6706c6f744964a6706c6f745f30a474797065a6737461747573a6706172616d73a57265616479",
    "ready 12.5": "83a6706c6f744964a6706c6f745f30a474797065a6737461747573a6706172616d73aa72656164792031322e35",
    "closing": "83a6706c6f744964a6706c6f745f30a474797065a6737461747573a6706172616d73a7636c6f73696e67",
    "baton_request": "83a6706c6f744964a6706c6f745f30a474797065ad6261746f6e5f72657175657374a6706172616d73a26d65",
    "baton_offer": "83a6706c6f744964a6706c6f745f30a474797065ab6261746f6e5f6f66666572a6706172616d73a3796f75",
    "clear": "83a6706c6f744964a6706c6f745f30a474797065b4636c6561725f73656c656374696f6e5f64617461a6706172616d7381ac73"
    "656c656374696f6e49647390",
    "scatter": "83a6706c6f744964a6706c6f745f30a474797065d920636c69656e745f7570646174655f736361747465725f706172616d65"
    "74657273a6706172616d7381a9706f696e7453697a6503",
}
"""What the client of npm 1.0.5 writes, with the MessagePack library that it uses."""

NEW = {
    "ready": "81a6737461747573a57265616479",
    "ready undefined": "81a6737461747573af726561647920756e646566696e6564",
    "closing": "81a6737461747573a7636c6f73696e67",
    "baton_request": "81a9726571756573746572a26d65",
    "baton_offer": "81a87265636569766572a3796f75",
    "clear": "81ac73656c656374696f6e49647390",
    "scatter": "81a9706f696e7453697a6503",
}
"""What the client of 1.1 writes."""


@pytest.mark.parametrize("generation", [OLD, NEW], ids=["1.0", "1.1"])
def test_clients_of_both_generations_are_understood(generation: dict[str, str]) -> None:
    asked = {name: request_of(unpacked(bytes.fromhex(message))) for name, message in generation.items()}
    assert asked == {
        **{name: "ready" for name in generation if name.startswith("ready")},
        **{"closing": "closing", "baton_request": "baton", "baton_offer": "baton", "clear": None, "scatter": None},
    }


@pytest.mark.parametrize(
    "message",
    [
        {"plotId": "plot_0", "type": "status", "params": None},
        {"plotId": "plot_0", "type": "status", "params": ["ready"]},
        {"plotId": "plot_0", "type": "client_new_selection", "params": "ready"},
        {"type": ["status"], "params": "ready"},
        {"status": {"ready": 1}},
        {"status": "readying"},
        {"params": "closing"},
    ],
)
def test_what_only_looks_like_a_request_asks_for_nothing(message: dict[str, Any]) -> None:
    assert request_of(message) is None


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
    firsts = {plot_id: read(run, plot_id)[1].values[-1, 0] for plot_id in ("plot_0", "green", "total")}
    assert firsts == {"plot_0": 1, "green": 1001, "total": 2001}
    assert image_message(run, "blue") is None


def test_a_map_of_too_many_pixels_is_thinned_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davidia_messages, "CELLS_MAX", 4)
    run = folded(Scan("run", start_extra=GRID), points=12)
    message, data = read(run, "red")
    np.testing.assert_array_equal(data.values, run.maps.grids[0][::2, ::2])
    assert message.plot_config.title == "red · scan (one pixel of 4)"
    assert values_of(message.plot_config.x_values) == [9.5, 11.5, 13.5]
    assert values_of(message.plot_config.y_values) == [2.5, 0.5, -1.5]


def test_names_from_documents_are_cut_and_cannot_break_a_message() -> None:
    start = {"plan_name": "\ud800<img src=x onerror=alert(1)>" * 100}
    message, _ = read(folded(Scan("run", start_extra=start), points=1), "red")
    assert len(message.plot_config.title) == davidia_messages.TEXT_MAX


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01", b"\x91" * 5000, b"\x81\xc0\xc0\xc0", None])
def test_what_is_no_message_is_left(data: bytes | None) -> None:
    with pytest.raises(Leave):
        unpacked(data)
