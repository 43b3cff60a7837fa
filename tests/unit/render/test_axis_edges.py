"""Images and lines lie at the values of their axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bokeh.document import Document

from snakemap.dashboard.panes.dataset_image import ImagePane
from snakemap.dashboard.panes.dataset_line import LinePane
from snakemap.dashboard.theme import THEMES
from snakemap.render.axis_edges import Scale, edges_of, resampled

VALUES = np.arange(30.0).reshape(5, 6)
UNEVEN_Y: Any
UNEVEN_X: Any
UNEVEN_Y, UNEVEN_X = (low + 0.5 * np.arange(count) ** 1.3 for low, count in ((10.0, 6), (-2.0, 7)))
"""Edges of 5 rows and of 6 columns."""


def pane() -> Any:
    return ImagePane(document=Document(), theme=next(iter(THEMES.values())), on_view=lambda _: None)


def drawn(image: Any, y: float, x: float) -> float:
    """The value of the pixel that is drawn over a place."""
    box = {name: values[0] for name, values in image.source.data.items()}
    pixels = box["image"]
    row = int((y - box["y"]) / box["dh"] * pixels.shape[0])
    column = int((x - box["x"]) / box["dw"] * pixels.shape[1])
    return float(pixels[row, column])


def draw(image: Any, values: npt.NDArray[Any], y: npt.NDArray[Any], x: npt.NDArray[Any], **options: Any) -> None:
    edges = [edges_of(axis, count) for axis, count in zip((y, x), values.shape, strict=True)]
    scales = [Scale(one, name, name, "um") for one, name in zip(edges, "yx", strict=True) if one is not None]
    whole = {"origin": (0, 0), "step": 1, "shape": values.shape, **options}
    image.draw(values, **whole, scales=(scales[0], scales[1]))


@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize(
    ("y", "x"),
    [
        (UNEVEN_Y, UNEVEN_X),
        (np.linspace(0, 1e-9, 6), np.geomspace(1, 1e6, 7)),
        (np.linspace(0, 5, 6), np.linspace(-1, 1, 7)),
        (UNEVEN_Y, np.linspace(-1, 1, 7)),
    ],
)
def test_each_pixel_lies_between_its_edges(
    y: npt.NDArray[Any], x: npt.NDArray[Any], flip_y: bool, flip_x: bool
) -> None:
    image = pane()
    y, x = y[:: -1 if flip_y else 1], x[:: -1 if flip_x else 1]
    draw(image, VALUES, y, x)
    place = image.page.place
    assert (place["left"], place["right"]) == (min(x), max(x))
    assert (place["bottom"], place["top"]) == (y[-1], y[0])
    pixel_y, pixel_x = abs(y[-1] - y[0]) / 480, abs(x[-1] - x[0]) / 640
    for row in range(5):
        for column in range(6):
            sides = sorted(y[row : row + 2]), sorted(x[column : column + 2])
            if sides[1][1] - sides[1][0] < 4 * pixel_x:
                continue  # narrower than the screen can show
            for share in (0.0, 0.5, 1.0):
                at_y = np.clip(
                    sides[0][0] + share * (sides[0][1] - sides[0][0]), sides[0][0] + pixel_y, sides[0][1] - pixel_y
                )
                at_x = np.clip(
                    sides[1][0] + share * (sides[1][1] - sides[1][0]), sides[1][0] + pixel_x, sides[1][1] - pixel_x
                )
                assert drawn(image, at_y, at_x) == VALUES[row, column]


def test_centers_are_drawn_in_the_middle_of_even_cells_and_between_uneven_ones() -> None:
    image = pane()
    draw(image, VALUES, np.arange(5.0), np.array([0.0, 1.0, 3.0, 7.0, 15.0, 31.0]))
    assert (image.page.place["left"], image.page.place["right"]) == (-0.5, 39.0)
    assert [drawn(image, 2.0, x) for x in (-0.4, 0.4, 0.6, 1.9, 2.1, 4.9, 5.1, 38.9)] == [
        12,
        12,
        13,
        13,
        14,
        14,
        15,
        17,
    ]


def test_a_closer_look_at_uneven_cells_is_as_sharp_as_the_screen() -> None:
    image = pane()
    x = np.geomspace(1, 1e6, 7)
    draw(image, VALUES, UNEVEN_Y, x)
    image.figure.x_range.update(start=0.5, end=20.0)
    image.pane.visible = True
    image._look_closer()
    assert [drawn(image, 10.1, at) for at in (1.05, 9.95, 10.05, 19.9)] == [0, 0, 1, 1]
    assert (image.source.data["x"][0], image.source.data["dw"][0]) == (1.0, 19.0)


def test_the_part_of_a_large_image_that_is_in_view_is_asked_for_by_its_numbers() -> None:
    views: list[tuple[float, ...]] = []
    image: Any = ImagePane(document=Document(), theme=next(iter(THEMES.values())), on_view=views.append)
    x = np.geomspace(1, 1024, 11)
    draw(image, np.zeros((10, 10)), np.linspace(20, 10, 11), x)
    image.figure.x_range.update(start=2, end=8)
    image.figure.y_range.update(start=12, end=19)
    image.pane.visible = True
    image._look_closer()
    np.testing.assert_allclose(views[-1], (1, 8, 1, 3))


def test_a_part_of_an_image_is_drawn_where_it_lies() -> None:
    image = pane()
    draw(image, VALUES[1:4, 2:5], UNEVEN_Y[1:5], UNEVEN_X[2:6])
    whole = Scale(UNEVEN_Y, "y", "y"), Scale(UNEVEN_X, "x", "x")
    image.draw(VALUES[1:4, 2:5], origin=(1, 2), step=1, shape=(5, 6), scales=whole)
    middle = (UNEVEN_Y[1:] + UNEVEN_Y[:-1]) / 2, (UNEVEN_X[1:] + UNEVEN_X[:-1]) / 2
    assert [drawn(image, middle[0][1], middle[1][column]) for column in (2, 3, 4)] == [8, 9, 10]


def test_without_axes_cells_lie_at_their_numbers() -> None:
    image = pane()
    image.draw(VALUES, origin=(0, 0), step=1, shape=(5, 6))
    assert {key: image.page.place[key] for key in ("left", "right", "bottom", "top")} == {
        "left": 0, "right": 6, "bottom": 5, "top": 0,
    }  # fmt: skip
    assert "$x{0,0}" in image.hover.tooltips


def test_the_pointer_tells_values_with_their_units() -> None:
    image = pane()
    draw(image, VALUES, UNEVEN_Y, UNEVEN_X)
    assert "$x{custom}" in image.hover.tooltips
    assert [image.hover.formatters[at].args["unit"] for at in ("$x", "$y")] == ["um", "um"]


@pytest.mark.parametrize("unit", ["", "nA"])
def test_the_pointer_tells_a_value_by_its_digits_be_it_ever_so_small(unit: str) -> None:
    """A fixed number of decimals would show 1e-9 as 0."""
    image = pane()
    image.draw(VALUES * 1e-9, origin=(0, 0), step=1, shape=(5, 6), unit=unit)
    assert "@image{custom}" in image.hover.tooltips
    assert image.hover.formatters["@image"].args["unit"] == unit
    assert "0.[" not in image.hover.tooltips
    line: Any = LinePane(document=Document(), theme=next(iter(THEMES.values())))
    line.draw(np.arange(3.0), np.arange(3.0) * 1e-9, errors=None, titles=("", "", ""), key=1, units=("", unit))
    for hover in line.hovers.values():
        assert "@y{custom}" in hover.tooltips
        assert hover.formatters["@y"].args["unit"] == unit


@pytest.mark.parametrize(
    ("by_hand", "log", "reason"),
    [
        ((1e-12, 1e-9), False, ""),
        ((1e-12, 1e-9), True, ""),
        ((0.0, 5.0), False, ""),
        ((0.0, 5.0), True, "on a log scale the lower color limit must be above 0"),
        ((-3.0, -1.0), True, "on a log scale the lower color limit must be above 0"),
        ((5.0, 5.0), False, "the upper color limit must be above the lower one"),
        ((5.0, 1.0), True, "the upper color limit must be above the lower one"),
        ((None, 1.0), False, "both color limits must be numbers"),
        ((0.0, np.inf), False, "both color limits must be numbers"),
    ],
)
def test_limits_that_are_typed_are_kept_or_refused_with_a_reason(by_hand: Any, log: bool, reason: str) -> None:
    image = pane()
    image.draw(VALUES, origin=(0, 0), step=1, shape=(5, 6))
    image.rescale(limits="by hand", by_hand=by_hand, log=log, flipped=False)
    mapper = image.mappers[log]
    assert image.refusal == reason
    assert ((mapper.low, mapper.high) == by_hand) == (not reason)
    assert 0 <= mapper.low < mapper.high <= max(29.0, by_hand[1] or 0)
    assert mapper.low > 0 or not log
    image.rescale(limits="full range", by_hand=by_hand, log=log, flipped=False)
    assert image.refusal == ""


@pytest.mark.parametrize(
    ("values", "count"),
    [([1, 1, 2], 3), ([1, np.nan, 2], 3), ([1, 2], 4), ([1, 3, 2, 4], 3), ([[1, 2]], 2), ([], 0), ([1, np.inf], 2)],
)
def test_what_is_no_axis_is_none(values: list[Any], count: int) -> None:
    assert edges_of(values, count) is None


def test_a_screen_beyond_all_cells_shows_them_all() -> None:
    assert resampled(np.array([0.0, 1.0, 4.0]), 10, 20, 4)[1:] == (0.0, 4.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_line_with_edges_is_drawn_along_its_bins(turned: bool) -> None:
    line: Any = LinePane(document=Document(), theme=next(iter(THEMES.values())))
    edges, counts = np.geomspace(1, 100, 10), np.arange(9.0)
    step = -1 if turned else 1
    line.draw(
        edges[::step], counts[::step], errors=np.ones(9), titles=("", "tof (us)", "counts"), key=1, units=("us", "")
    )
    assert line.source.data["x"].tolist() == np.repeat(edges, 2)[1:-1].tolist()
    assert line.source.data["y"].tolist() == np.repeat(counts, 2).tolist()
    np.testing.assert_allclose(line.marks.data["x"], (edges[1:] + edges[:-1]) / 2)
    assert line.band.data["low"].tolist() == (np.repeat(counts, 2) - 1).tolist()
    assert line.hovers[False].formatters["@x"].args["unit"] == "us"
    line.draw(np.arange(9.0), counts, errors=None, titles=("", "", ""), key=2)
    assert (len(line.source.data["x"]), line.hovers[False].formatters["@x"].args["unit"]) == (9, "")
