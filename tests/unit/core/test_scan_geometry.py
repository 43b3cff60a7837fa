from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from bluesky.plan_patterns import outer_list_product
from hypothesis import given
from hypothesis import strategies as st
from scanspec.specs import Ellipse, Fly, Linspace, Polygon, Product, Range, Snake, Spiral, Squash, Static
from tests.support import recordings
from tests.support.properties import examples, strange_values

from snakemap.core.geometry import ScanDefaults
from snakemap.core.raster import CELLS_MAX, Raster
from snakemap.core.scan_geometry import PATH_NOTE, RELATIVE_NOTE, UNKNOWN_NOTE, UNORDERED_NOTE, raster_of
from snakemap.core.scan_path import Lattice

GRID = ScanDefaults(grid=(7, 9, True))


def line(axis: str = "x", start: float = 0.0, stop: float = 1.0, num: int = 3) -> dict[str, Any]:
    return {"axis": axis, "start": start, "stop": stop, "num": num, "type": "Linspace"}


def snaked(inner: dict[str, Any]) -> dict[str, Any]:
    return {"spec": inner, "type": "Snake"}


def product(outer: Any, inner: Any) -> dict[str, Any]:
    return {"outer": outer, "inner": inner, "gap": True, "type": "Product"}


SPEC = product(line("slow", 1, 2, 3), snaked(line("fast", 4, 5, 5)))
DIMENSIONS = {"dimensions": [[["motor-y"], "primary"], [["motor-x"], "primary"]], "gridding": "rectilinear"}
GRID_SCAN = {"shape": [2, 4], "snaking": [False, True], "extents": [[0, 1], [10, 4]], "hints": DIMENSIONS}


def raster_from(start: dict[str, Any], defaults: ScanDefaults | None = None, *, points: int = 0) -> Raster:
    return raster_of(start, defaults=defaults or ScanDefaults(), points=points)


# the order of trust


def test_each_source_is_used_when_those_that_are_trusted_more_are_silent() -> None:
    start = {"scanspec": SPEC, "num_points": 63, **GRID_SCAN}
    found = []
    for dropped in ("scanspec", "snaking", "shape", None, "num_points"):
        raster = raster_from(start, GRID if dropped != "num_points" else None)
        found.append((raster.source, raster.shape))
        start.pop(dropped or "", None)
    raster = raster_from({})
    assert [*found, (raster.source, raster.shape)] == [
        ("scanspec", (3, 5)),
        ("shape and snaking", (2, 4)),
        ("shape; snaking assumed", (2, 4)),
        ("setting SNAKEMAP_GRID", (7, 9)),
        ("num_points", (63,)),
        ("the points seen", (100,)),
    ]


def test_a_source_that_cannot_be_used_is_passed_over_and_the_note_says_so() -> None:
    raster = raster_from({**GRID_SCAN, "scanspec": {"type": "Nonsense"}, "snaking": [True]})
    assert raster.source == "shape; snaking assumed"
    assert raster.note.startswith("Not usable in the start document: scanspec cannot be read: ")
    assert "snaking [True] does not fit the shape [2, 4]" in raster.note


# scanspec


def test_a_scanspec_tells_shape_snaking_names_and_coordinates() -> None:
    raster = raster_from({"scanspec": SPEC, "units": {"slow": "mm", "fast": 5}})
    assert (raster.shape, raster.snaking, raster.note) == ((3, 5), (False, True), "")
    assert (raster.slow.label, raster.slow.coordinates.tolist()) == ("slow (mm)", [1.0, 1.5, 2.0])
    assert (raster.fast.label, raster.fast.coordinates.tolist()) == ("fast", [4.0, 4.25, 4.5, 4.75, 5.0])
    assert raster.certain


def test_a_scanspec_that_runs_backwards_keeps_its_falling_coordinates() -> None:
    raster = raster_from({"scanspec": product(line("y", 5, 3, 3), line("x", 1, 0, 2))})
    assert raster.slow.coordinates.tolist() == [5.0, 4.0, 3.0]
    assert raster.fast.decreases
    assert raster.snaking == (False, False)


def test_the_recorded_runs_tell_what_their_plans_said() -> None:
    starts = {case: recordings.documents(case)[0].doc for case in recordings.CASES}
    assert {case: raster_from(start).described for case, start in starts.items()} == {
        "small_step": "7 x 9, snaked, from scanspec",
        "small_aborted": "7 x 9, snaked, from scanspec",
        "blob_fly": "40, from shape",
    }
    raster = raster_from(starts["small_step"])
    assert (raster.slow.name, raster.fast.name) == ("sample_stage-x", "sample_stage-y")
    np.testing.assert_allclose(raster.slow.coordinates, np.linspace(-2.0, 4.3, 7))


def test_line_is_how_linspace_was_spelled_before() -> None:
    old = product({**line("y"), "type": "Line"}, snaked({**line("x"), "type": "Line"}))
    assert raster_from({"scanspec": old}).described == "3 x 3, snaked, from scanspec"
    assert old["outer"]["type"] == "Line"


def test_three_dimensions_are_drawn_with_all_but_the_last_as_rows() -> None:
    raster = raster_from({"scanspec": product(line("z", num=2), product(line("y", num=3), snaked(line("x", num=4))))})
    assert (raster.rows, raster.columns, raster.snaking) == (6, 4, (False, False, True))
    assert (raster.slow.name, raster.slow.known, raster.fast.name) == ("row", False, "x")


def test_one_axis_that_moves_is_a_row_with_its_coordinates() -> None:
    for spec, name in ((Linspace("x", 0, 1, 5), "x"), (Squash(Linspace("y", 0, 1, 2) * Static("x", 1)), "y")):
        raster = raster_from({"scanspec": spec.serialize()})
        positions = [point[name] for point in spec.midpoints()]
        assert (raster.rows, raster.fast.name, raster.path, raster.note) == (1, name, None, "")
        assert raster.fast.coordinates.tolist() == positions


def test_masked_grids_lie_on_a_lattice_and_spirals_do_not() -> None:
    ellipse = Ellipse("x", 1, 10, 0.5, "y", -2, 6, 0.3, snake=True)
    for spec in (ellipse, Polygon("x", "y", [(0, 0), (5, 0), (2.5, 4)], 0.1, vertical=True), Squash(GRID_SPEC)):
        path = raster_from({"scanspec": spec.serialize()}).path
        assert path is not None
        assert path.lattice is not None
        xs, ys = path.at(np.arange(1, path.size + 1))
        cells = path.lattice.cells(xs, ys)
        rows, columns = np.divmod(cells, path.lattice.columns)
        assert (cells >= 0).all()
        assert len(set(cells.tolist())) == path.size
        np.testing.assert_allclose(path.lattice.x0 + columns * path.lattice.dx, xs, atol=1e-6)
        np.testing.assert_allclose(path.lattice.y0 + rows * path.lattice.dy, ys, atol=1e-6)
    spiral = raster_from({"scanspec": Spiral("x", 0, 10, 1, "y", 0).serialize()})
    assert spiral.path is not None
    assert (spiral.path.lattice, spiral.path.planned, spiral.rows) == (None, True, 1)
    assert spiral.described == f"path of {spiral.size} points, from scanspec"


GRID_SPEC = Linspace("y", 0, 3, 4) * ~Linspace("x", 5, 1, 3)
HALF = Linspace("x", 0, 1, 3).concat(Linspace("x", 2, 5, 4))
KINDS: dict[str, Any] = {
    "Linspace": Linspace("x", 3, -1, 5),
    "Range": Range("y", 0, 1, 0.3) * Range("x", 2, -1, 0.5),
    "Static": Static("y", 4, 3) * Linspace("x", 0, 1, 4),
    "snake": GRID_SPEC,
    "of three": Linspace("z", 0, 1, 2) * ~Linspace("y", 0, 3, 4) * ~Linspace("x", 5, 1, 3),
    "Zip": Linspace("y", 0, 1, 5).zip(Linspace("x", 9, 2, 5)),
    "Zip in a grid": Linspace("z", 0, 1, 3) * ~Linspace("y", 0, 1, 5).zip(Linspace("x", 9, 2, 5)),
    "Concat": HALF,
    "Concat in a grid": Linspace("y", 0, 3, 4) * ~HALF,
    "Concat of spirals": Spiral("x", 0, 3, 1, "y", 0).concat(Spiral("x", 9, 3, 1, "y", 0)),
    "Squash": Squash(GRID_SPEC),
    "Spiral": Spiral("x", 1, 10, 1, "y", 2, 5),
    "Ellipse": Ellipse("x", 1, 10, 0.7, "y", 2, 5, 0.4, snake=True),
    "vertical Ellipse": Ellipse("x", 1, 10, 0.7, "y", 2, 5, 0.4, vertical=True),
    "Polygon": Polygon("x", "y", [(0, 0), (5, 0), (2.5, 4)], 0.4, 0.3, snake=True),
    "Fly": Fly(0.1 @ GRID_SPEC),
    "slices of a spiral": Linspace("z", 0, 1, 3) * Spiral("x", 0, 5, 1, "y", 0),
    "slices of a snaked ellipse": Linspace("z", 0, 1, 3) * ~Ellipse("x", 0, 5, 1, "y", 0),
    "spiral of lines": Spiral("x", 0, 5, 1, "y", 0) * ~Linspace("z", 0, 1, 3),
    "scan repeated": 3 * GRID_SPEC,
    "points repeated": GRID_SPEC * 2,
    "line repeated": Product(3, ~Linspace("x", 0, 1, 5), gap=False),
}


def placed(raster: Raster) -> dict[str, np.ndarray]:
    """Where the raster says that each point lies (n,), by motor."""
    seq_nums = np.arange(1, raster.size + 1)
    if raster.path is not None:
        xs, ys = raster.path.at(seq_nums)
        return {raster.path.x_name: xs, raster.path.y_name: ys}
    rows, columns, _ = raster.pixel(seq_nums)
    found = {raster.fast.name: (raster.fast, columns), raster.slow.name: (raster.slow, rows)}
    return {name: axis.coordinates[index] for name, (axis, index) in found.items() if axis.known}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_spec_puts_every_point_where_scanspec_does(kind: str) -> None:
    spec = KINDS[kind]
    points = list(spec.midpoints())
    raster = raster_from({"scanspec": spec.serialize()})
    found = placed(raster)
    assert (raster.source, raster.size, raster.note) == ("scanspec", len(points), "")
    assert found
    for name, positions in found.items():
        np.testing.assert_allclose(positions, [point[name] for point in points], atol=1e-9)
    if raster.path is not None and {"x", "y"} <= set(points[0]) and kind != "Zip in a grid":
        assert (raster.path.x_name, raster.path.y_name) == ("x", "y")


specs_of_two = st.deferred(
    lambda: st.one_of(
        st.builds(lambda w, h, s: Ellipse("x", 0, w, s, "y", 0, h, s, snake=True), sizes, sizes, steps),
        st.builds(lambda w, h, s: Spiral("x", 0, w, s, "y", 0, h), sizes, sizes, steps),
        st.builds(
            lambda c, s: Polygon("x", "y", c, s), st.lists(st.tuples(sizes, sizes), min_size=3, max_size=5), steps
        ),
        st.builds(lambda n, m: Squash(Linspace("y", 0, 2, n) * ~Linspace("x", 1, 3, m)), counts, counts),
    )
)
sizes, steps, counts = st.floats(2, 9), st.floats(0.4, 2), st.integers(2, 5)


@examples(60)
@given(specs_of_two, st.sampled_from(["alone", "slices", "repeats", "snaked slices"]))
def test_any_path_of_two_axes_lies_where_scanspec_says(spec: Any, inside_of: str) -> None:
    outer = {"slices": lambda: Linspace("z", 0, 0.1, 3) * spec, "repeats": lambda: 2 * spec, "alone": lambda: spec}
    whole = outer.get(inside_of, lambda: Linspace("z", 0, 0.1, 3) * ~spec)()
    raster = raster_from({"scanspec": whole.serialize()})
    try:
        points = list(whole.midpoints())
    except (ValueError, IndexError):  # scanspec itself cannot follow it
        points = []
    if not points:
        assert raster.note
        return
    for name, positions in placed(raster).items():
        np.testing.assert_allclose(positions, [point[name] for point in points], atol=1e-9)


OLD_GRID = product({**line("y", 0, 4, 5), "type": "Line"}, snaked({**line("x", 0, 4, 5), "type": "Line"}))
CIRCLE = {"type": "Circle", "x_axis": "x", "y_axis": "y", "x_middle": 2, "y_middle": 2, "radius": 1.5}
BAND = {"type": "Range", "axis": "x", "min": 0, "max": 2}


@pytest.mark.parametrize(
    ("region", "kept"),
    [
        (CIRCLE, lambda x, y: (x - 2) ** 2 + (y - 2) ** 2 <= 2.25),
        (BAND, lambda x, y: x <= 2),
        (
            {"type": "UnionOf", "left": CIRCLE, "right": BAND},
            lambda x, y: ((x - 2) ** 2 + (y - 2) ** 2 <= 2.25) | (x <= 2),
        ),
        (
            {"type": "DifferenceOf", "left": CIRCLE, "right": BAND},
            lambda x, y: ((x - 2) ** 2 + (y - 2) ** 2 <= 2.25) & (x > 2),
        ),
        (
            {"type": "Rectangle", "x_axis": "x", "y_axis": "y", "x_min": 1, "y_min": 1, "x_max": 3, "y_max": 2},
            lambda x, y: (x >= 1) & (x <= 3) & (y >= 1) & (y <= 2),
        ),
        (
            {"type": "Polygon", "x_axis": "x", "y_axis": "y", "x_verts": [-1, 5, -1], "y_verts": [-1, -1, 5]},
            lambda x, y: x + y < 4,
        ),
    ],
    ids=lambda spec: spec["type"] if isinstance(spec, dict) else "kept",
)
def test_a_mask_of_older_specs_leaves_points_out(region: dict[str, Any], kept: Any) -> None:
    grid = list(GRID_OF_FIVE.midpoints())
    xs, ys = (np.array([point[name] for point in grid]) for name in ("x", "y"))
    mask = kept(xs, ys)
    raster = raster_from({"scanspec": {"type": "Mask", "spec": OLD_GRID, "region": region, "check_path_changes": True}})
    assert raster.path is not None
    assert raster.path.xs[: raster.size].tolist() == xs[mask].tolist()
    assert raster.path.ys[: raster.size].tolist() == ys[mask].tolist()


GRID_OF_FIVE = Linspace("y", 0, 4, 5) * ~Linspace("x", 0, 4, 5)


@pytest.mark.parametrize("region", [{}, {"type": "?"}, {**CIRCLE, "radius": None}, {**BAND, "axis": "q"}], ids=str)
def test_a_mask_that_cannot_be_read_is_passed_over_with_a_note(region: dict[str, Any]) -> None:
    raster = raster_from({"scanspec": {"type": "Mask", "spec": OLD_GRID, "region": region}, **GRID_SCAN})
    assert raster.source == "shape and snaking"
    assert "region that cannot be read" in raster.note


def test_repeats_and_spirals_of_older_specs_are_read_as_what_they_were() -> None:
    repeated = product({"type": "Repeat", "num": 4, "gap": False}, snaked(line("x", num=5)))
    assert raster_from({"scanspec": repeated}).described == "4 x 5, snaked, from scanspec"
    ranges = {"x_start": 1, "y_start": 2, "x_range": 10, "y_range": 4, "num": 37, "rotate": 0.0}
    spiral = raster_from({"scanspec": {"type": "Spiral", "x_axis": "x", "y_axis": "y", **ranges}})
    phi = np.sqrt(4 * np.pi * (np.arange(37) + 0.5))
    assert spiral.path is not None
    scale = 10 / (2 * np.sqrt(4 * np.pi * 37))
    np.testing.assert_allclose(spiral.path.xs[:37], 1 + scale * phi * np.sin(phi))


def test_a_list_grid_scan_leaves_its_places_in_its_arguments() -> None:
    args = ["Motor(y)", [0, 1, 5], "Motor(x)", [6, 4, 2, 0.5]]
    start = {"shape": [3, 4], "snake_axes": "True", "extents": [[0, 5], [0.5, 6]], "plan_pattern": "outer_list_product"}
    raster = raster_from({**start, "plan_pattern_args": {"args": args}})
    assert raster.slow.coordinates.tolist() == [0.0, 1.0, 5.0]
    assert raster.fast.coordinates.tolist() == [6.0, 4.0, 2.0, 0.5]
    for broken in (None, [], ["y", [0, 1], "x", [1]], ["y", [0, 1, "a"], "x", [6, 4, 2, 0]]):
        assert raster_from({**start, "plan_pattern_args": {"args": broken}}).fast.coordinates[0] == 0.5


def test_extents_of_a_relative_scan_are_no_coordinates() -> None:
    raster = raster_from({**GRID_SCAN, "plan_name": "rel_grid_scan"})
    assert (raster.fast.known, raster.fast.name, raster.note) == (False, "motor-x", RELATIVE_NOTE)


def test_of_axes_that_move_together_the_one_that_goes_farthest_names_the_axis() -> None:
    spec = Linspace("y", 0, 1, 3) * Linspace("little", 0, 0.1, 4).zip(Linspace("far", 9, 5, 4))
    raster = raster_from({"scanspec": spec.serialize()})
    assert (raster.fast.name, raster.fast.coordinates[0]) == ("far", 9.0)


def test_how_long_each_point_lasts_is_no_axis() -> None:
    spec = product(
        product(line("y", num=2), snaked(line("x", num=4))), {"constant_duration": 0.1, "type": "ConstantDuration"}
    )
    assert raster_from({"scanspec": spec}).described == "2 x 4, snaked, from scanspec"
    whole = {"spec": {"constant_duration": 0.1, "spec": SPEC, "type": "ConstantDuration"}, "type": "Fly"}
    assert raster_from({"scanspec": whole}).described == "3 x 5, snaked, from scanspec"


def test_a_repeated_line_has_a_row_for_each_repetition() -> None:
    raster = raster_from({"scanspec": product(4, snaked(line("x", num=5)))})
    assert (raster.shape, raster.snaking, raster.slow.known, raster.fast.name) == ((4, 5), (False, True), False, "x")


@pytest.mark.parametrize(
    "spec",
    [
        line(num=CELLS_MAX + 1),
        line(num=10**15),
        {**line(), "num": "1000000000"},
        product(line(num=3000), line("y", num=3000)),
        product(10**10, line()),
        product(0, product(10**10, line())),
        {"spec": product(line(num=10**6), line("y", num=10**6)), "type": "Squash"},
        {"left": line(num=CELLS_MAX), "right": line(num=CELLS_MAX), "type": "Concat"},
        {"left": line(num=10**9), "right": line("y", num=10**9), "type": "Zip"},
        {"axis": "x", "value": 1, "num": 10**12, "type": "Static"},
        {"axis": "x", "start": 0, "stop": 1, "step": 1e-12, "type": "Range"},
        {"axis": "x", "start": "0", "stop": "1e12", "step": "1", "type": "Range"},
        {"axis": "x", "start": -1e308, "stop": 1e308, "step": 1e-308, "type": "Range"},
        {"x_axis": "x", "x_centre": 0, "x_diameter": 1e9, "x_step": 1, "y_axis": "y", "y_centre": 0, "type": "Spiral"},
        {"x_axis": "x", "x_centre": 0, "x_diameter": 1e9, "x_step": 1, "y_axis": "y", "y_centre": 0, "type": "Ellipse"},
        {"x_axis": "x", "y_axis": "y", "vertices": [[0, 0], [1e6, 0], [0, 1e6]], "x_step": 1, "type": "Polygon"},
        {"x_axis": "x", "y_axis": "y", "vertices": [[0, 0], [1, 1]] * 10_000, "x_step": 1, "type": "Polygon"},
    ],
    ids=lambda spec: str(spec)[:60],
)
def test_a_scanspec_that_would_fill_the_memory_is_refused_before_it_is_calculated(spec: dict[str, Any]) -> None:
    raster_from({"scanspec": SPEC})
    tracemalloc.start()
    try:
        raster = raster_from({"scanspec": spec, **GRID_SCAN})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert raster.source == "shape and snaking"
    assert "scanspec" in raster.note
    assert peak < 20_000_000


def nested(depth: int) -> dict[str, Any]:
    spec = line()
    for _ in range(depth):
        spec = snaked(spec)
    return spec


@pytest.mark.parametrize(
    "spec",
    [
        nested(60),
        nested(240),
        [],
        [SPEC],
        "Linspace",
        5,
        True,
        {},
        {"type": None},
        {"type": "Repeat", "axis": "x", "value": 5, "num": 3},
        line(num=0),
        line(num=-5),
        line(start=math.nan),
        line(stop=math.inf),
        line(start=-1.7e308, stop=1.7e308),
        {**line(), "axis": ["x"]},
        {**line(), "axis": {"a": 1}},
        {**line(), "num": None},
        {**line(), "num": 1.5},
        {**line(), "start": "here"},
        {**line(), "start": 10**400},
        {**line(), "unknown": 1},
        product(0, line()),
        product(-1, line()),
        product(None, line()),
        {"left": line("x", num=3), "right": line("y", num=4), "type": "Zip"},
        {"left": line("x"), "right": line("y"), "type": "Concat"},
        {"axis": "x", "start": 0, "stop": 1, "step": 0, "type": "Range"},
        {"x_axis": "x", "y_axis": "y", "vertices": [], "x_step": 1, "type": "Polygon"},
        {"x_axis": "x", "y_axis": "y", "vertices": [[9, 9]], "x_step": 1, "type": "Polygon"},
        {"x_axis": "x", "x_centre": 0, "x_diameter": 1, "x_step": 0, "y_axis": "y", "y_centre": 0, "type": "Spiral"},
        {"x_axis": "x", "x_centre": 0, "x_diameter": -9, "x_step": 1, "y_axis": "y", "y_centre": 0, "type": "Spiral"},
    ],
    ids=lambda spec: str(spec)[:60],
)
def test_a_scanspec_that_says_nothing_usable_is_passed_over_with_a_note_of_one_line(spec: Any) -> None:
    raster = raster_from({"scanspec": spec, **GRID_SCAN})
    assert raster.source == "shape and snaking"
    assert raster.note.startswith("Not usable in the start document: ")
    assert len(raster.note) < 400
    assert "\n" not in raster.note


def test_an_axis_whose_name_is_a_number_is_named_by_it() -> None:
    assert raster_from({"scanspec": product(line("y"), {**line(), "axis": 5})}).fast.name == "5"


# the repr of a spec

SPEC_SCAN = (
    'Product(outer=Linspace(axis=SimMotor(name="stage-y"), start=0.0, stop=1.0, num=2), '
    'inner=Snake(spec=Linspace(axis=sim.SimMotor(prefix="", name="stage-x"), start=-1.0, stop=4, num=3)), gap=True)'
)


@pytest.mark.parametrize("snake", [True, False])
def test_the_repr_that_a_spec_scan_leaves_tells_as_much_as_a_scanspec(snake: bool) -> None:
    start = {"shape": [2, 3], "motors": ["stage-y", "stage-x"], "num_points": 6, "hints": {"dimensions": []}}
    written_spec = SPEC_SCAN if snake else SPEC_SCAN.replace("Snake(spec=", "").replace("num=3))", "num=3)")
    raster = raster_from({**start, "plan_args": {"spec": written_spec}})
    assert (raster.source, raster.snaking, raster.note) == ("plan_args.spec", (False, snake), "")
    assert (raster.slow.name, raster.fast.name) == ("stage-y", "stage-x")
    assert raster.fast.coordinates.tolist() == [-1.0, 1.5, 4.0]


def test_the_repr_of_any_spec_gives_the_same_raster_as_its_json() -> None:
    grid = Linspace("y", 0, 1, 2) * Snake(Linspace("x", 5, -5, 3))
    for spec in (grid, Squash(grid), grid.zip(Static("z", 1)), Spiral("x", 0, 10, 1, "y", 0), Fly(0.1 @ grid)):
        by_repr, by_json = raster_from({"plan_args": {"spec": repr(spec)}}), raster_from({"scanspec": spec.serialize()})
        assert (by_repr.shape, by_repr.snaking, by_repr.note) == (by_json.shape, by_json.snaking, by_json.note)
        assert by_repr.fast.coordinates.tolist() == by_json.fast.coordinates.tolist()


def test_a_scanspec_is_trusted_more_than_the_repr() -> None:
    assert raster_from({"scanspec": SPEC, "plan_args": {"spec": SPEC_SCAN}}).source == "scanspec"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "5",
        "None",
        "<SimMotor at 0x7f>",
        "__import__('os').abort()",
        "Linspace(axis=open('/etc/passwd'), start=0, stop=1, num=3)",
        "Linspace(**{'axis': 'x'})",
        "Linspace('x', 0, 1, 3)",
        "Linspace(axis=f'{1}', start=0, stop=1, num=3)",
        "Linspace(axis='x', start=0, stop=1, num=2**31)",
        "[Linspace(axis='x', start=0, stop=1, num=3)]",
        "'\\d'",
        "\x00",
        "(" * 5000,
        "[" * 4000 + "]" * 4000,
        "-" * 9000 + "1",
        "a." * 3000 + "b",
        "Fly(spec=" * 1000 + ")" * 1000,
        "1" * 9000,
        SPEC_SCAN + " " * 10_000,
    ],
    ids=lambda text: text[:40],
)
def test_text_that_is_no_repr_of_a_spec_is_not_evaluated_and_says_nothing(text: str) -> None:
    raster = raster_from({**GRID_SCAN, "plan_args": {"spec": text}})
    assert (raster.source, raster.note) == ("shape and snaking", "")


@pytest.mark.parametrize("plan_args", [None, 5, [], {}, {"spec": None}, {"spec": [1]}, {"spec": 5}], ids=str)
def test_plan_arguments_without_a_spec_say_nothing(plan_args: Any) -> None:
    raster = raster_from({**GRID_SCAN, "plan_args": plan_args})
    assert (raster.source, raster.note) == ("shape and snaking", "")


def test_a_repr_that_cannot_be_drawn_is_passed_over_with_a_note() -> None:
    raster = raster_from({**GRID_SCAN, "plan_args": {"spec": "Linspace(axis='x', start=0, stop=1, num=1000000000)"}})
    assert raster.source == "shape and snaking"
    assert "asks for more than 4,000,000 points" in raster.note


# grid scans


def test_a_grid_scan_tells_shape_snaking_extents_and_motors() -> None:
    raster = raster_from(GRID_SCAN)
    assert (raster.shape, raster.snaking, raster.note) == ((2, 4), (False, True), "")
    assert (raster.slow.name, raster.slow.coordinates.tolist()) == ("motor-y", [0.0, 1.0])
    assert (raster.fast.name, raster.fast.coordinates.tolist()) == ("motor-x", [10.0, 8.0, 6.0, 4.0])


def test_an_axis_without_extents_is_named_and_counts() -> None:
    raster = raster_from({**GRID_SCAN, "extents": None})
    assert (raster.slow.name, raster.slow.known, raster.fast.coordinates.tolist()) == ("motor-y", False, [0, 1, 2, 3])


def test_axes_without_hints_are_named_by_the_motors_of_the_plan() -> None:
    raster = raster_from({"shape": [2, 3], "motors": ["stage-y", "stage-x"], "hints": {}})
    assert (raster.slow.name, raster.fast.name) == ("stage-y", "stage-x")


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"motors": ["one"]},
        {"motors": "ab"},
        {"motors": [1, 2]},
        {"hints": {"dimensions": ["ab", "cd"]}},
        {"hints": {"dimensions": [[[], "primary"], [None, "primary"]]}},
        {"hints": {"dimensions": {"a": 1, "b": 2}}},
        {"hints": []},
    ],
    ids=str,
)
def test_axes_that_nobody_names_are_called_index(names: dict[str, Any]) -> None:
    raster = raster_from({"shape": [2, 3], "extents": [[0, 1], [0, 1]], **names})
    assert (raster.slow.name, raster.fast.name) == ("index", "index")


@pytest.mark.parametrize(
    "extents",
    [
        5,
        "ab",
        [[0, 1]],
        [[0, 1], [0]],
        [[0, 1], [0, None]],
        [[0, 1], [0, math.nan]],
        [[0, 1], [math.inf, math.inf]],
        [[0, 1], [-1.7e308, 1.7e308]],
        [[0, 1], [0, 10**400]],
        {"a": 1, "b": 2},
    ],
    ids=lambda extents: str(extents)[:40],
)
def test_extents_that_cannot_be_used_cost_the_coordinates_and_not_the_shape(extents: Any) -> None:
    raster = raster_from({**GRID_SCAN, "extents": extents})
    assert (raster.described, raster.slow.known) == ("2 x 4, snaked, from shape and snaking", False)
    assert raster.note.startswith("Axes are indices: extents ")


@pytest.mark.parametrize(
    "snaking", [[], [False], [False, True, True], ["False", "True"], [0, 1], [None, None]], ids=str
)
def test_snaking_that_does_not_fit_leaves_it_to_habit(snaking: Any) -> None:
    raster = raster_from({**GRID_SCAN, "snaking": snaking}, ScanDefaults(snake=False))
    assert raster.described == "2 x 4, row by row, from shape; row by row assumed"
    assert "does not fit the shape" in raster.note


@pytest.mark.parametrize("snaking", [None, "True", True, {}, 5])
def test_snaking_that_is_no_list_says_nothing(snaking: Any) -> None:
    assert raster_from({**GRID_SCAN, "snaking": snaking}).source == "shape; snaking assumed"


@pytest.mark.parametrize(("written_axes", "snakes"), [("True", True), ("False", False), (True, True), (False, False)])
def test_a_list_grid_scan_says_by_a_word_whether_it_is_snaked(written_axes: Any, snakes: bool) -> None:
    for habit in (True, False):
        raster = raster_from({"shape": [2, 3, 4], "snake_axes": written_axes}, ScanDefaults(snake=habit))
        assert (raster.snaking, raster.source) == ((False, snakes, snakes), "shape and snake_axes")


@pytest.mark.parametrize(
    "written_axes", ["[SimMotor(name='q')]", None, 1, {}, ["q"], ["x", 2], "[x, y]", "(", "[" * 300]
)
def test_snaked_axes_that_cannot_be_read_are_taken_by_habit(written_axes: Any) -> None:
    for habit in (True, False):
        start = {"shape": [2, 3], "motors": ["y", "x"], "snake_axes": written_axes}
        source = f"shape; {'snaking' if habit else 'row by row'} assumed"
        assert raster_from(start, ScanDefaults(snake=habit)).source == source


REPRS = {
    "names": str,
    "devices of ophyd-async": "SimMotor(name={!r})".format,
    "devices of ophyd": "EpicsMotor(prefix='BL:', name={!r}, settle_time=0.0, timeout=None)".format,
    "devices without a name": "<Motor {}>".format,
}


@pytest.mark.parametrize("written", REPRS)
@pytest.mark.parametrize("kind", [list, tuple, set])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 2), (2, 3, 1, 3), (2, 2, 2, 3)])
def test_snaked_axes_run_back_as_bluesky_moves_them(shape: tuple[int, ...], kind: Any, written: str) -> None:
    motors = ["w", "z", "y", "x"][-len(shape) :]
    args = [part for motor, size in zip(motors, shape, strict=True) for part in (motor, list(range(size)))]
    shown = [REPRS[written](part) if isinstance(part, str) else part for part in args]
    start = {"shape": list(shape), "motors": motors, "plan_pattern_args": {"args": shown}}
    for chosen in range(1 << len(shape)):
        snaked = [motor for number, motor in enumerate(motors) if chosen >> number & 1][::-1]
        if written == "names":
            snake_axes: Any = snaked if kind is list else repr(kind(snaked))
        else:
            # the repr of a device stands in a list without quotes
            snake_axes = repr(kind(map(Device, (REPRS[written](motor) for motor in snaked))))
        raster = raster_from({**start, "snake_axes": snake_axes}, ScanDefaults(snake=not snaked))
        assert raster.source == "shape and snake_axes", snake_axes
        cycled = list(outer_list_product(args, snaked))
        place = np.ravel_multi_index([[point[motor] for point in cycled] for motor in motors], shape)
        np.testing.assert_array_equal(raster.cells(np.arange(1, len(cycled) + 1))[0], place, err_msg=str(snake_axes))


class Device(str):
    """A device whose repr is this."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def test_snaked_axes_are_found_by_the_readbacks_that_the_hints_name() -> None:
    dimensions = {"dimensions": [[["z-user_readback"], "primary"], [["y_readback"], "primary"], [["x"], "primary"]]}
    start = {"shape": [2, 2, 2], "hints": dimensions}
    for snake_axes, snaking in (
        (["y"], (False, True, False)),
        (["x_readback"], (False, False, True)),
        (["SimMotor(name='z')", "y"], (False, True, False)),
    ):
        assert raster_from({**start, "snake_axes": snake_axes}).snaking == snaking


def test_a_grid_that_is_not_visited_row_by_row_is_drawn_as_one_row() -> None:
    spiral = {"shape": [3, 4], "extents": [[0, 1], [0, 1]], "hints": {"gridding": "rectilinear_nonsequential"}}
    raster = raster_from(spiral, ScanDefaults(grid=(3, 4, True)))
    assert (raster.shape, raster.note) == ((12,), UNORDERED_NOTE)
    raster = raster_from({**spiral, "motors": ["stage-y", "stage-x"]})
    assert raster.path is not None
    assert raster.path.lattice == Lattice(x0=0, dx=1 / 3, columns=4, y0=0, dy=0.5, rows=3)
    raster = raster_from({**spiral, "motors": ["stage-x", "stage-y"], "plan_name": "rel_spiral_square"})
    assert raster.path is not None
    assert (raster.path.x_name, raster.path.planned, raster.path.lattice) == ("stage-x", False, None)


# shapes


@pytest.mark.parametrize("snake", [True, False])
def test_the_snaking_of_a_lone_shape_is_a_habit(snake: bool) -> None:
    raster = raster_from({"shape": [7, 9]}, ScanDefaults(snake=snake))
    assert raster.snaking == (False, snake)
    assert raster.source == ("shape; snaking assumed" if snake else "shape; row by row assumed")


def test_a_shape_of_one_axis_that_has_as_many_points_as_the_habitual_grid_is_that_grid() -> None:
    assert raster_from({"shape": [63]}, GRID).described == "7 x 9, snaked, from setting SNAKEMAP_GRID"
    assert (
        raster_from({"shape": [63]}, ScanDefaults(grid=(7, 9, False))).described
        == "7 x 9, row by row, from setting SNAKEMAP_GRID"
    )


def test_a_shape_of_one_axis_that_fits_no_habit_is_one_row_and_says_so() -> None:
    for defaults in (GRID, ScanDefaults()):
        raster = raster_from({"shape": [40]}, defaults)
        assert (raster.described, raster.note, raster.certain) == ("40, from shape", PATH_NOTE, True)


@pytest.mark.parametrize(
    "shape",
    [
        [],
        [0],
        [3, 0],
        [-1, 4],
        [1.5, 2],
        [True, 3],
        ["7", "9"],
        "79",
        5,
        {"a": 1},
        [None, 9],
        [10**6, 10**6],
        [2**64] * 16,
        [1] * 100_000,
        [[7], [9]],
    ],
    ids=lambda shape: str(shape)[:40],
)
def test_a_shape_that_is_none_is_passed_over_with_a_note_of_one_line(shape: Any) -> None:
    raster = raster_from({"shape": shape}, GRID)
    assert raster.source == "setting SNAKEMAP_GRID"
    assert raster.note.startswith("Not usable in the start document: shape ")
    assert len(raster.note) < 300


# defaults, num_points, nothing


def test_the_habitual_grid_serves_a_run_that_tells_nothing_or_as_many_points() -> None:
    for start in ({}, {"num_points": 63}, {"num_points": None}, {"num_points": "63"}, {"num_points": True}):
        raster = raster_from(start, GRID)
        assert (raster.described, raster.note) == ("7 x 9, snaked, from setting SNAKEMAP_GRID", "")


def test_the_habitual_grid_is_not_forced_on_a_run_of_another_number_of_points() -> None:
    raster = raster_from({"num_points": 40}, GRID)
    assert raster.described == "40, from num_points"
    assert "the run has 40 points, but SNAKEMAP_GRID is 7 x 9" in raster.note


@pytest.mark.parametrize("grid", [(0, 9, True), (10**6, 10**6, True), (-7, -9, True)])
def test_a_habitual_grid_that_cannot_be_drawn_is_passed_over(grid: tuple[int, int, bool]) -> None:
    raster = raster_from({}, ScanDefaults(grid=grid))
    assert (raster.source, raster.certain) == ("the points seen", False)
    assert "cannot be drawn" in raster.note


def test_num_points_are_drawn_as_one_row_with_a_note() -> None:
    raster = raster_from({"num_points": 11})
    assert (raster.described, raster.note, raster.certain) == ("11, from num_points", UNKNOWN_NOTE, True)


@pytest.mark.parametrize("num_points", [0, -3, True, 1.5, "11", None, [11], CELLS_MAX + 1, 2**64])
def test_num_points_that_are_none_say_nothing(num_points: Any) -> None:
    raster = raster_from({"num_points": num_points})
    assert (raster.source, raster.note, raster.certain) == ("the points seen", UNKNOWN_NOTE, False)


@pytest.mark.parametrize(
    ("points", "length"),
    [(0, 100), (1, 100), (64, 100), (101, 128), (128, 128), (129, 256), (5000, 8192), (2**40, CELLS_MAX)],
)
def test_a_row_of_unknown_length_doubles_as_it_fills(points: int, length: int) -> None:
    assert raster_from({}, points=points).shape == (length,)


# anything


numbers = st.integers(-3, 12) | st.floats() | strange_values
reals = st.integers(-3, 3) | st.floats(-9, 9) | st.sampled_from([math.nan, math.inf, 1.7e308, -1.7e308, 5e-324])
broken_lines = st.fixed_dictionaries(
    {"type": st.sampled_from(["Linspace", "Line", "Range", "Static", "Spiral", "Ellipse", "Polygon", "?"])},
    optional={
        **dict.fromkeys(("axis", "x_axis", "y_axis"), st.sampled_from(["x", "y", 5]) | strange_values),
        **dict.fromkeys(("start", "stop", "num", "step", "value", "x_centre", "x_diameter", "x_step"), numbers),
        "y_centre": numbers,
        "vertices": st.lists(st.tuples(numbers, numbers).map(list), max_size=4),
    },
)


def areas(kind: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = {"type": st.just(kind), "x_axis": st.just("x"), "y_axis": st.sampled_from(["y", "x"])}
    return st.fixed_dictionaries({**names, "x_step": reals, **more})


good_lines = (
    st.builds(line, st.sampled_from(["x", "y", "z", 5]), reals, reals, st.integers(-1, 9))
    | st.fixed_dictionaries({"type": st.just("Static"), "axis": st.just("x"), "value": reals, "num": st.integers(0, 9)})
    | st.fixed_dictionaries(
        {"type": st.just("Range"), "axis": st.just("x"), "start": reals, "stop": reals, "step": reals}
    )
    | areas("Spiral", x_centre=reals, x_diameter=reals, y_centre=reals)
    | areas("Ellipse", x_centre=reals, x_diameter=reals, y_centre=reals)
    | areas("Polygon", vertices=st.lists(st.tuples(reals, reals).map(list), max_size=4))
)
lasting = st.fixed_dictionaries({"constant_duration": reals, "type": st.just("ConstantDuration")})
specs = st.recursive(
    good_lines | good_lines | good_lines | broken_lines,
    lambda inner: (
        st.builds(product, inner | st.integers(-1, 5), inner | st.integers(-1, 5) | lasting)
        | st.builds(snaked, inner)
        | st.fixed_dictionaries({"spec": inner, "type": st.sampled_from(["Squash", "Fly", "Snake"])})
        | st.fixed_dictionaries({"spec": inner, "constant_duration": reals, "type": st.just("ConstantDuration")})
        | st.fixed_dictionaries({"left": inner, "right": inner, "type": st.sampled_from(["Zip", "Concat"])})
    ),
    max_leaves=4,
)
anything = strange_values | st.lists(numbers, max_size=4)
starts = st.fixed_dictionaries(
    {},
    optional={
        "scanspec": specs | anything,
        "shape": st.lists(st.integers(1, 9), min_size=1, max_size=3) | anything,
        "snaking": st.lists(st.booleans(), min_size=1, max_size=3) | anything,
        "extents": st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=3) | anything,
        "snake_axes": st.sampled_from(["True", "False"]) | anything,
        "num_points": st.integers(0, 99) | anything,
        "units": st.just({"x": "mm"}) | anything,
        "motors": st.just(["y", "x"]) | anything,
        "plan_args": st.fixed_dictionaries({"spec": st.just(SPEC_SCAN) | specs | anything}) | anything,
        "hints": st.fixed_dictionaries(
            {}, optional={"dimensions": anything, "gridding": st.just("rectilinear_nonsequential") | anything}
        )
        | anything,
    },
)
defaults = st.builds(
    ScanDefaults,
    grid=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()),
    snake=st.booleans(),
)


@examples(200)
@given(starts, defaults, st.integers(0, 300))
def test_any_start_document_yields_a_raster_and_never_an_exception(
    start: dict[str, Any], habit: ScanDefaults, points: int
) -> None:
    raster = raster_of(start, defaults=habit, points=points)
    assert raster.rows * raster.columns == raster.size == math.prod(raster.shape)
    cells, inside = raster.cells(np.arange(1, raster.size + 1))
    assert inside.all()
    assert np.array_equal(np.sort(cells), np.arange(raster.size))
    for axis, size in ((raster.slow, raster.rows), (raster.fast, raster.columns)):
        assert axis.coordinates.shape == (size,)
        assert np.isfinite(axis.coordinates).all()
        assert np.isfinite(axis.bounds).all()
        assert axis.bounds[0] <= axis.bounds[1]
        assert isinstance(axis.name, str)
        assert isinstance(axis.unit, str)
    assert raster.described.endswith(f"from {raster.source}")
    assert "\n" not in raster.note
    if raster.rows == 1 and not raster.certain:
        assert UNKNOWN_NOTE in raster.note


@examples(80)
@given(specs)
def test_any_scanspec_is_used_or_leaves_a_note(spec: dict[str, Any]) -> None:
    raster = raster_from({"scanspec": spec})
    assert (raster.source == "scanspec") != ("Not usable in the start document: " in raster.note)


def test_a_snaked_spec_of_one_axis_never_runs_back() -> None:
    raster = raster_from({"scanspec": Snake(Linspace("x", 0, 1, 5)).serialize()})
    assert raster.pixel(np.arange(1, 6))[1].tolist() == [0, 1, 2, 3, 4]
