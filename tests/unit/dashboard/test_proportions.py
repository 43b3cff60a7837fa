"""Proportions of a map, in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from snakemap.core.raster import Axis, Raster
from snakemap.dashboard.proportions import drawn_aspect, stretch
from snakemap.dashboard.view_state import ASPECTS


def grid(rows: int, columns: int, *, dy: float, dx: float, units: tuple[str, str] = ("mm", "mm")) -> Raster:
    slow = Axis("y", units[0], np.array([row * dy for row in range(rows)]))
    fast = Axis("x", units[1], np.array([column * dx for column in range(columns)]))
    return Raster((rows, columns), (False, True), slow, fast, "made up")


@pytest.mark.parametrize(
    ("raster", "aspect", "words"),
    [
        (grid(8, 10, dy=0.1, dx=0.2), "true distances", ""),
        (grid(8, 10, dy=0.1, dx=0.1), "true distances", ""),
        # 8.04 times as long as wide, of squares 4.02: squares are seen better
        (grid(50, 201, dy=0.1, dx=0.2), "square pixels", "Not true distances: y is stretched by 2."),
        (grid(201, 50, dy=0.2, dx=0.1), "square pixels", "Not true distances: x is stretched by 2."),
        # a thread either way
        (grid(10, 200, dy=0.2, dx=0.1), "true distances", ""),
        (grid(10, 200, dy=0.1, dx=0.2), "square pixels", "Not true distances: y is stretched by 2."),
        (grid(8, 10, dy=0.1, dx=0.2, units=("mm", "deg")), "square pixels", ""),
        (grid(8, 10, dy=0.1, dx=0.2, units=("", "")), "square pixels", ""),
        (grid(1, 10, dy=0.1, dx=0.2), "true distances", ""),
        (Raster.of_shape((8, 10), snake=True, source="made up"), "square pixels", ""),
    ],
)
def test_distances_are_true_where_units_agree_unless_the_map_is_a_thread(
    raster: Raster, aspect: str, words: str
) -> None:
    assert drawn_aspect("auto aspect", raster) == aspect
    assert stretch("auto aspect", raster) == words
    assert [drawn_aspect(chosen, raster) for chosen in ASPECTS[1:]] == ASPECTS[1:]


def test_squares_that_were_chosen_name_the_axis_that_is_stretched() -> None:
    raster = grid(8, 10, dy=0.1, dx=0.25)
    assert stretch("square pixels", raster) == "Not true distances: y is stretched by 2.5."
    assert stretch("true distances", raster) == stretch("fill", raster) == ""
    assert stretch("square pixels", grid(8, 10, dy=0.1, dx=0.104)) == ""
