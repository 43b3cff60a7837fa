from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples, strange_values
from tests.unit.core.test_scan_geometry import starts

from snakemap.core.geometry import ScanDefaults
from snakemap.core.raster import unravel
from snakemap.core.stream_geometry import StreamGeometry


def key(unit: str = "mm", **more: Any) -> dict[str, Any]:
    return {"dtype": "number", "shape": [], "units": unit, "source": "sim://", **more}


STAGE = {"stage-y": key(), "stage-x": key(), "diode": key("nA")}


def geometry(start: dict[str, Any], keys: dict[str, Any] | None = None, **defaults: Any) -> StreamGeometry:
    found = StreamGeometry(start, defaults=ScanDefaults(**defaults))
    found.descriptor({"data_keys": STAGE if keys is None else keys})
    return found


def give(to: StreamGeometry, **columns: Any) -> None:
    """All points from the first on, one by one."""
    named = {name.replace("_", "-"): np.asarray(column, dtype=float) for name, column in columns.items()}
    for index in range(len(next(iter(named.values())))):
        to.extend_to(index + 1)
        to.columns(np.array([index + 1]), {name: column[index : index + 1] for name, column in named.items()})


def visited(shape: tuple[int, ...], *, snake: bool) -> tuple[np.ndarray, ...]:
    return unravel(np.arange(1, np.prod(shape) + 1), shape, snaking=[False] + [snake] * (len(shape) - 1))


@pytest.mark.parametrize("snake", [True, False])
@pytest.mark.parametrize("assumed", [True, False])
@pytest.mark.parametrize("x_fast", [True, False])
@pytest.mark.parametrize("step", [0.5, -0.5])
def test_a_lone_shape_gets_order_and_coordinates_from_its_first_two_rows(
    snake: bool, assumed: bool, x_fast: bool, step: float
) -> None:
    rows, columns = visited((7, 9), snake=snake)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(2, 63))
    slow, fast = 3 + 0.2 * rows + noise[0] / 5, 5 + step * columns + noise[1]
    names = ("stage_y", "stage_x") if x_fast else ("stage_x", "stage_y")
    to = geometry({"shape": [7, 9], "hints": {}}, snake=assumed)
    give(to, **{names[0]: slow[:17], names[1]: fast[:17]})
    assert to.epoch == 0
    give(to, **{names[0]: slow, names[1]: fast})
    to.end()
    raster = to.raster
    assert (raster.snaking, raster.source) == ((False, snake), "shape; snaking from positions")
    assert (raster.slow.label, raster.fast.label) == tuple(f"{name.replace('_', '-')} (mm)" for name in names)
    np.testing.assert_allclose(raster.fast.coordinates, 5 + step * np.arange(9), atol=0.05)
    np.testing.assert_allclose(raster.slow.coordinates, 3 + 0.2 * np.arange(7), atol=0.05)
    epoch = to.epoch
    give(to, **{names[0]: slow, names[1]: fast})
    assert to.epoch == epoch


def test_points_without_any_shape_lie_on_a_path_when_two_motors_move() -> None:
    phi = np.arange(300) / 9
    to = geometry({})
    give(to, stage_x=phi * np.sin(phi), stage_y=phi * np.cos(phi), diode=phi)
    path = to.raster.path
    assert path is not None
    assert (path.x_name, path.y_name, path.x_unit, path.planned) == ("stage-x", "stage-y", "mm", False)
    assert (to.raster.source, to.raster.certain) == ("positions of stage-y and stage-x", False)
    np.testing.assert_array_equal(path.at(np.arange(1, 301))[0], phi * np.sin(phi))
    assert to.raster.size >= 300
    assert to.position_keys == {"stage-x", "stage-y"}


def test_one_motor_gives_a_row_its_coordinates_even_or_not() -> None:
    for places in (np.linspace(3, 1, 40), np.logspace(0, 2, 40)):
        to = geometry({"num_points": 40, "motors": ["stage-x"]})
        give(to, stage_x=places, stage_y=np.zeros(40))
        assert (to.raster.fast.label, to.raster.path) == ("stage-x (mm)", None)
        np.testing.assert_allclose(to.raster.fast.coordinates, places)
        assert (to.raster.source, to.raster.note) == ("positions of stage-x", "")


def test_positions_that_are_no_grid_after_all_are_drawn_where_they_are() -> None:
    places = np.random.default_rng(0).normal(size=(2, 63))
    to = geometry({"shape": [7, 9]})
    give(to, stage_x=places[0], stage_y=places[1])
    assert to.raster.path is not None
    assert to.raster.note == "Positions do not lie on a grid of 7 x 9: each point is drawn at its own."
    np.testing.assert_array_equal(to.raster.path.xs[:63], places[0])


def test_what_a_scanspec_told_is_left_alone() -> None:
    outer = {"type": "Linspace", "axis": "stage-y", "start": 0, "stop": 1, "num": 2}
    inner = {"type": "Linspace", "axis": "stage-x", "start": 0, "stop": 1, "num": 3}
    to = geometry({"scanspec": {"type": "Product", "outer": outer, "inner": inner}})
    raster, epoch = to.raster, to.epoch
    give(to, stage_x=np.arange(6) * 9.0, stage_y=np.arange(6) * 7.0)
    to.end()
    assert (to.raster, to.epoch) == (raster, epoch)
    assert (raster.slow.label, raster.fast.label) == ("stage-y (mm)", "stage-x (mm)")
    assert to.position_keys == {"stage-x", "stage-y"}


def test_a_relative_grid_gets_its_coordinates_and_keeps_its_order() -> None:
    rows, columns = visited((3, 4), snake=True)
    fields = {
        "shape": [3, 4],
        "snaking": [False, True],
        "extents": [[-1, 1], [-2, 2]],
        "motors": ["stage-y", "stage-x"],
    }
    to = geometry({**fields, "plan_name": "rel_grid_scan"})
    give(to, stage_y=20.0 + rows, stage_x=10.0 + columns)
    assert to.raster.slow.coordinates.tolist() == [20.0, 21.0, 22.0]
    assert (to.raster.fast.coordinates[0], to.raster.note) == (10.0, "")
    assert to.raster.snaking == (False, True)


def test_a_square_spiral_gets_the_positions_of_its_points() -> None:
    hints = {
        "gridding": "rectilinear_nonsequential",
        "dimensions": [[["stage-y"], "primary"], [["stage-x"], "primary"]],
    }
    to = geometry({"shape": [2, 2], "extents": [[0, 1], [5, 6]], "hints": hints})
    path = to.raster.path
    give(to, stage_y=[0, 1, 1, 0], stage_x=[5, 5, 6, 6])
    assert to.raster.path is path
    assert path is not None
    assert path.lattice is not None
    assert path.lattice.cells(*path.at([1, 2, 3, 4])).tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("name", ["stage-x", "stage-x-readback", "stage-x_user_readback", "stage-x-RBV"])
def test_a_motor_is_known_by_its_readback(name: str) -> None:
    to = geometry({"motors": ["stage-x"]}, {name: key("um"), "other": key()})
    assert set(to.position_keys) == {name}


def test_counting_moves_nothing_and_a_still_motor_is_no_axis() -> None:
    to = geometry({"num_points": 9, "hints": {"dimensions": [[["time"], "primary"]]}})
    give(to, stage_x=np.arange(9.0), stage_y=np.arange(9.0))
    assert (to.raster.path, to.raster.fast.known, list(to.position_keys)) == (None, False, [])
    to = geometry({"num_points": 9}, {"a": key(), "b": key()})
    give(to, a=np.arange(9.0), b=np.sin(np.arange(9)) * 1e-5)
    assert (to.raster.path, to.raster.fast.name) == (None, "a")


@examples(60)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(2, 4), st.booleans(), st.booleans())
def test_three_axes_may_be_snaked_each_in_its_own_way(size: int, middle: int, outer: int, one: bool, two: bool) -> None:
    shape = (outer, middle, size)
    index = unravel(np.arange(1, outer * middle * size + 1), shape, snaking=[False, one, two])
    to = geometry({"shape": list(shape), "motors": ["z", "y", "x"]}, {"x": key(), "y": key(), "z": key()})
    give(to, z=1.0 * index[0], y=1.0 * index[1], x=1.0 * index[2])
    to.end()
    assert to.raster.snaking == (False, one, two)
    assert to.raster.path is None


numbers = st.floats() | st.floats(-9, 9)
columns = st.lists(
    st.tuples(
        st.integers(-2, 80), st.fixed_dictionaries({}, optional=dict.fromkeys(["x", "y", "z", "other"], numbers))
    ),
    max_size=40,
)
data_keys = st.dictionaries(
    st.sampled_from(["x", "y", "z", "x-readback", "motor-x"]),
    st.just(key())
    | st.just(key("", source="BL:M.RBV"))
    | st.just(key(dtype="array", external="STREAM:", shape=[1]))
    | strange_values,
)


@examples(300)
@given(starts, data_keys, columns, st.booleans())
def test_any_documents_and_positions_yield_a_raster_and_never_an_exception(
    start: dict[str, Any], keys: dict[str, Any], points: list[tuple[int, dict[str, float]]], snake: bool
) -> None:
    to = geometry(start, keys, snake=snake)
    for _ in range(2):
        for seq_num, values in points:
            to.extend_to(seq_num)
            to.columns(np.array([seq_num]), {name: np.array([value]) for name, value in values.items()})
    to.end()
    raster = to.raster
    cells, inside = raster.cells(np.arange(1, raster.size + 1))
    assert inside.all()
    assert np.array_equal(np.sort(cells), np.arange(raster.size))
    assert np.isfinite(raster.fast.coordinates).all()
    assert "\n" not in raster.note
