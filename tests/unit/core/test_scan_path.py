from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.scan_path import Lattice, ScanPath
from snakemap.errors import GeometryError

X, Y = ("stage-x", "mm"), ("stage-y", "")


def test_points_are_placed_by_seq_num_and_those_unknown_are_nowhere() -> None:
    path = ScanPath(X, Y)
    path.put([3, 1, 0, -4], [30.0, 10.0, 5.0, 5.0], [3.0, 1.0, 5.0, 5.0])
    xs, ys = path.at([1, 2, 3, 4, 0])
    np.testing.assert_array_equal(xs, [10.0, np.nan, 30.0, np.nan, np.nan])
    np.testing.assert_array_equal(ys, [1.0, np.nan, 3.0, np.nan, np.nan])
    assert (path.size, path.bounds, path.planned) == (3, (10.0, 30.0, 1.0, 3.0), False)


def test_only_what_is_new_changes_a_path() -> None:
    path = ScanPath(X, Y)
    path.put([1, 2], [1.0, 2.0], [1.0, 2.0])
    before = path.version
    path.put([1, 2], [1.0, 2.0], [1.0, 2.0])
    path.put([3], [math.nan], [1.0])
    assert path.version == before
    path.put([2], [2.5], [2.0])
    assert path.changed(before).tolist() == [1]


def test_a_planned_path_must_be_whole() -> None:
    assert ScanPath(X, Y, positions=([1, 2], [3, 4])).planned
    for positions in (([1, 2], [3]), ([1, math.nan], [3, 4]), ([[1]], [[2]])):
        with pytest.raises(GeometryError):
            ScanPath(X, Y, positions=positions)


def test_units_fill_in_only_what_was_not_known() -> None:
    path = ScanPath(X, Y)
    path.fill_units({"stage-x": "um", "stage-y": "deg"})
    assert (path.x_unit, path.y_unit) == ("mm", "deg")


@pytest.mark.parametrize("changed", [{"dx": 0.0}, {"dy": -1.0}, {"columns": 0}, {"x0": math.nan}])
def test_a_lattice_without_nodes_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(GeometryError):
        Lattice(**{"x0": 0.0, "dx": 1.0, "columns": 2, "y0": 0.0, "dy": 1.0, "rows": 2, **changed})  # type: ignore[arg-type]


@examples(100)
@given(
    st.integers(2, 12),
    st.integers(2, 12),
    st.floats(1e-3, 1e3),
    st.floats(-1e4, 1e4),
    st.data(),
)
def test_places_on_nodes_have_the_lattice_under_them(
    rows: int, columns: int, step: float, origin: float, data: st.DataObject
) -> None:
    cells = np.arange(rows * columns)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells))))
    kept[[0, 1, columns, -1]] = True
    row, column = np.divmod(cells[kept], columns)
    found = Lattice.under(origin + column * step, -origin + row * 3 * step)
    if found is None:  # hardly a node is taken
        assert rows * columns > 16 * kept.sum()
        return
    assert (found.rows, found.columns) == (rows, columns)
    assert found.cells(origin + column * step, -origin + row * 3 * step).tolist() == cells[kept].tolist()


def test_places_at_random_have_no_lattice() -> None:
    xs, ys = np.random.default_rng(1).normal(size=(2, 500))
    assert Lattice.under(xs, ys) is None
    assert Lattice.under(np.array([0.0, 1.0, 1000.0]), np.array([0.0, 999.0, 1.0])) is None
    assert Lattice.under(np.array([]), np.array([])) is None
