from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.core.change_log import ChangeLog
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.scan_path import Lattice, ScanPath
from snakemap.errors import GeometryError
from snakemap.render.cell_layout import CELLS_MAX
from snakemap.render.map_image import CellImage, DirectImage, RearrangedImage, map_image
from snakemap.render.map_view import MapView
from snakemap.render.scattered import ScatteredImage

CHANNELS = ("red", "total")
MM = ("x", "mm"), ("y", "mm")
Floats = npt.NDArray[np.float64]


def grid(
    rows: int, columns: int, *, snake: bool = True, slow: list[float] | None = None, fast: list[float] | None = None
) -> Raster:
    return Raster(
        shape=(rows, columns),
        snaking=(False, snake),
        slow=Axis("y", "mm", np.array(slow)) if slow else Axis.of_indices("y", rows),
        fast=Axis("x", "mm", np.array(fast)) if fast else Axis.of_indices("x", columns),
        source="test",
    )


def row_of(path: ScanPath, size: int, *, certain: bool = True) -> Raster:
    return Raster(
        shape=(size,),
        snaking=(False,),
        slow=Axis.of_indices("row", 1),
        fast=Axis.of_indices("point", size),
        source="test",
        certain=certain,
        path=path,
    )


def planned(xs: npt.ArrayLike, ys: npt.ArrayLike, *, lattice: Lattice | None = None) -> Maps:
    path = ScanPath(*MM, positions=(xs, ys), lattice=lattice)
    return Maps(row_of(path, path.size), CHANNELS)


def assign(maps: Maps, seq_nums: npt.ArrayLike, values: npt.ArrayLike) -> None:
    values = np.asarray(values, dtype=float)
    maps.assign(seq_nums, {"red": -values, "total": values})


def nearest_points(picture: CellImage, xs: Floats, ys: Floats, *, exchanged: bool = False) -> Floats:
    """The grids of a scattered picture, cell by cell: the nearest point within reach, of equals the last."""
    assert isinstance(picture, ScatteredImage)
    layout, maps = picture._layout, picture.maps
    if exchanged:
        xs, ys = ys, xs
    at = layout.lattice
    grids = np.full(picture.grids.shape, np.nan)
    values = maps.grids.reshape(len(maps.channels), -1)
    known = np.flatnonzero(~np.isnan(xs) & ~np.isnan(values[:, : len(xs)]).all(axis=0))
    for row in range(at.rows):
        for column in range(at.columns):
            off_x = (at.x0 + column * at.dx - xs[known]) / layout.pitch[0]
            off_y = (at.y0 + row * at.dy - ys[known]) / layout.pitch[1]
            if layout.reach == 0:
                distance = np.where((np.abs(off_x) < 0.5) & (np.abs(off_y) < 0.5), 0.0, np.inf)
            else:
                distance = off_x * off_x + off_y * off_y
            if len(distance) and distance.min() <= layout.reach**2:
                grids[:, row, column] = values[:, known[np.flatnonzero(distance == distance.min())[-1]]]
    return grids


class Mirror:
    """Follows a picture as a tab does: everything when its epoch rises, else only the cells that changed."""

    def __init__(self, picture: CellImage) -> None:
        self.picture = picture
        self.epoch, self.version, self.grids = picture.epoch, picture.version, picture.grids.copy()

    def follow(self) -> None:
        self.picture.update()
        if self.epoch != self.picture.epoch:
            self.epoch, self.grids = self.picture.epoch, self.picture.grids.copy()
        else:
            assert self.picture.version >= self.version
            cells = self.picture.changed(self.version)
            channels = len(self.grids)
            self.grids.reshape(channels, -1)[:, cells] = self.picture.grids.reshape(channels, -1)[:, cells]
        self.version = self.picture.version
        np.testing.assert_array_equal(self.grids, self.picture.grids)


def check_places(picture: CellImage) -> None:
    """Every cell of the maps is where the picture says, and nowhere when it says so."""
    rows, columns = picture.raster.rows, picture.raster.columns
    shown = set(picture.points(0, rows, 0, columns).tolist())
    for cell in range(picture.maps.raster.size):
        place = picture.position_of(cell)
        assert (place is not None) == (cell in shown)
        if place is not None:
            row, column = place
            assert picture.points(row, row + 1, column, column + 1).tolist() == [cell]
    assert picture.position_of(-1) is None
    assert picture.position_of(picture.maps.raster.size) is None


coordinates = st.integers(-3, 3).map(float) | st.floats(-10, 10)
places = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=12)
counts = st.integers(0, 9).map(float) | st.just(np.nan)
batches = st.lists(st.lists(st.tuples(st.integers(1, 14), counts), min_size=1, max_size=5), max_size=6)


def test_a_grid_row_by_row_is_drawn_as_the_maps_themselves() -> None:
    maps = Maps(grid(3, 4, slow=[1.0, 2.0, 3.0], fast=[4.0, 3.0, 2.0, 1.0]), CHANNELS)
    picture = map_image(maps)
    assert isinstance(picture, DirectImage)
    assert picture.grids is maps.grids
    assert picture.raster is picture.drawn_of is maps.raster
    assign(maps, [5, 6], [1, 2])
    picture.update()
    assert picture.version == maps.version
    assert picture.changed(0).tolist() == [6, 7]
    assert picture.points(1, 3, 2, 9).tolist() == [6, 7, 10, 11]
    check_places(picture)


@examples(60)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()),
    st.booleans(),
    batches,
)
def test_a_typed_shape_is_laid_over_the_points_in_the_order_of_the_scan(
    own_shape: tuple[int, int, bool],
    typed: tuple[int, int, bool],
    exchanged: bool,
    parts: list[list[tuple[int, float]]],
) -> None:
    maps = Maps(grid(own_shape[0], own_shape[1], snake=own_shape[2]), CHANNELS)
    picture = map_image(maps, MapView(typed, exchanged))
    mirror = Mirror(picture)
    meant = Maps(Raster.of_shape(typed[:2], snake=typed[2], source="test"), CHANNELS)
    for part in parts:
        seq_nums, values = (np.array(column) for column in zip(*part, strict=True))
        assign(maps, seq_nums, values)
        inside = seq_nums <= maps.raster.size
        assign(meant, seq_nums[inside], values[inside])
        mirror.follow()
        expected = meant.grids.swapaxes(1, 2) if exchanged else meant.grids
        np.testing.assert_array_equal(picture.grids, expected)
    check_places(picture)


def test_a_typed_shape_applies_to_the_points_of_a_path_too() -> None:
    maps = planned([0, 5, 1, 7], [1, 2, 0, 3])
    assign(maps, [1, 2, 3, 4], [1, 2, 3, 4])
    picture = map_image(maps, MapView((2, 2, True)))
    assert picture.grids[1].tolist() == [[1, 2], [4, 3]]
    assert picture.raster.described == "2 x 2, snaked, from the shape typed here"


def test_the_coordinates_of_a_grid_are_kept_when_its_own_shape_is_typed() -> None:
    maps = Maps(grid(2, 3, slow=[5.0, 6.0], fast=[3.0, 2.0, 1.0]), CHANNELS)
    picture = map_image(maps, MapView((2, 3, False)))
    assert picture.raster.extents == ((4.5, 6.5), (0.5, 3.5))
    assert map_image(maps, MapView((3, 2, False))).raster.fast.known is False


def test_exchanged_axes_take_their_names_and_extents_along() -> None:
    maps = Maps(grid(2, 3, slow=[5.0, 6.0], fast=[3.0, 2.0, 1.0]), CHANNELS)
    assign(maps, range(1, 7), range(1, 7))
    picture = map_image(maps, MapView(exchanged=True))
    assert picture.grids[1].tolist() == [[1, 6], [2, 5], [3, 4]]
    assert (picture.raster.slow.name, picture.raster.fast.name) == ("x", "y")
    assert picture.raster.extents == ((0.5, 3.5), (4.5, 6.5))


def test_a_shape_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(GeometryError):
        map_image(Maps(grid(2, 2), CHANNELS), MapView((100_000, 100_000, False)))


@examples(40)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=6, unique_by=lambda at: round(at, 1)),
    st.integers(1, 4),
    st.booleans(),
)
def test_coordinates_that_are_not_evenly_spaced_are_drawn_where_they_lie(
    fast: list[float], rows: int, exchanged: bool
) -> None:
    maps = Maps(grid(rows, len(fast), fast=fast), CHANNELS)
    assign(maps, range(1, maps.raster.size + 1), range(1, maps.raster.size + 1))
    picture = map_image(maps, MapView(exchanged=exchanged))
    drawn = picture.grids.swapaxes(1, 2) if exchanged else picture.grids
    axis = picture.raster.slow if exchanged else picture.raster.fast
    if isinstance(picture, RearrangedImage) and not np.array_equal(axis.coordinates, fast):
        nearest = np.abs(axis.coordinates[:, None] - np.array(fast)).argmin(axis=1)
        np.testing.assert_array_equal(drawn, maps.grids[:, :, nearest])
        assert np.unique(nearest).tolist() == list(range(len(fast)))
        check_places(picture)


def test_a_picture_of_uneven_coordinates_has_no_more_cells_than_it_may() -> None:
    random = np.random.default_rng(3)
    for shape in ((1500, 1500), (3, 100_000), (2000, 3)):
        slow, fast = (np.cumsum(random.random(size) + 0.01) for size in shape)
        picture = map_image(Maps(grid(*shape, slow=slow.tolist(), fast=fast.tolist()), ("total",)))
        assert isinstance(picture, RearrangedImage)
        assert picture.raster.size <= 1_000_000
        low, high = picture.raster.extents[1]
        assert low == pytest.approx(fast[0] - (fast[1] - fast[0]) / 2)
        assert high == pytest.approx(fast[-1] + (fast[-1] - fast[-2]) / 2)


def test_a_stage_that_comes_to_a_coordinate_twice_shows_what_came_last() -> None:
    maps = Maps(grid(1, 6, fast=[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]), CHANNELS)
    picture = map_image(maps)
    for seq_nums, values in (([1, 2, 3], [1, 2, 3]), ([5], [50])):
        assign(maps, seq_nums, values)
        picture.update()
    place = picture.position_of(4)
    assert place is not None
    assert picture.grids[1][place] == 50
    assert picture.position_of(1) is None
    assert picture.position_of(0) is not None


@examples(80)
@given(places, st.booleans(), batches, st.booleans())
def test_each_cell_shows_the_nearest_point_after_every_step(
    at: list[tuple[float, float]], exchanged: bool, parts: list[list[tuple[int, float]]], on_lattice: bool
) -> None:
    xs, ys = np.array(at).T
    lattice = Lattice(x0=-3, dx=1, columns=7, y0=-3, dy=1, rows=7) if on_lattice else None
    if on_lattice:
        xs, ys = np.clip(np.round(xs), -3, 3), np.clip(np.round(ys), -3, 3)
    maps = planned(xs, ys, lattice=lattice)
    picture = map_image(maps, MapView(exchanged=exchanged))
    mirror = Mirror(picture)
    for part in parts:
        assign(maps, *zip(*part, strict=True))
        before = picture.grids.copy()
        version = picture.version
        mirror.follow()
        np.testing.assert_array_equal(picture.grids, nearest_points(picture, xs, ys, exchanged=exchanged))
        differ = (before != picture.grids) & ~(np.isnan(before) & np.isnan(picture.grids))
        assert set(np.flatnonzero(differ.any(axis=0).ravel())) <= set(picture.changed(version).tolist())
    assert picture.epoch == 0
    check_places(picture)


@examples(60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9), coordinates, coordinates, counts), min_size=1, max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_positions_and_values_may_come_in_any_order_and_points_may_move(
    news: list[tuple[bool, int, float, float, float]], certain: bool, exchanged: bool
) -> None:
    path = ScanPath(*MM)
    maps = Maps(row_of(path, 9, certain=certain), CHANNELS)
    picture = map_image(maps, MapView(exchanged=exchanged))
    mirror = Mirror(picture)
    for placed, seq_num, x, y, value in news:
        if placed:
            path.put([seq_num], [x], [y])
        else:
            assign(maps, [seq_num], [value])
        mirror.follow()
        expected = nearest_points(picture, path.xs[: path.size], path.ys[: path.size], exchanged=exchanged)
        np.testing.assert_array_equal(picture.grids, expected)
    check_places(picture)


@examples(40)
@given(places, st.randoms(use_true_random=False))
def test_the_last_picture_of_positions_that_arrive_does_not_depend_on_their_order(
    at: list[tuple[float, float]], random: object
) -> None:
    xs, ys = np.array(at).T
    seq_nums = np.arange(1, len(at) + 1)
    pictures = []
    for order in (seq_nums, np.random.default_rng(len(at)).permutation(seq_nums)):
        path = ScanPath(*MM)
        maps = Maps(row_of(path, len(at)), CHANNELS)
        picture = map_image(maps)
        for seq_num in order:
            path.put([seq_num], [xs[seq_num - 1]], [ys[seq_num - 1]])
            assign(maps, [seq_num], [seq_num])
            picture.update()
        pictures.append(picture)
    np.testing.assert_array_equal(pictures[0].grids, pictures[1].grids)
    assert pictures[0].raster.extents == pictures[1].raster.extents
    np.testing.assert_array_equal(pictures[0].grids, map_image(pictures[0].maps).grids)


LINE = np.linspace(0, 1, 50)
ODD = {
    "one point": ([3.0], [4.0]),
    "the same point again and again": ([3.0] * 20, [4.0] * 20),
    "a horizontal line": (LINE, [7.0] * 50),
    "a vertical line": ([7.0] * 50, LINE),
    "a diagonal": (LINE, LINE),
    "very small": (LINE * 1e-9, LINE[::-1] ** 2 * 1e-9),
    "very large": (LINE * 1e9, LINE**2 * 1e9),
    "very small and far away": (1e9 + LINE * 1e-9, LINE),
    "far apart in scale": (LINE * 1e9, LINE**2 * 1e-9),
    "an outlier": ([*LINE, 1e9], [*LINE, 1.0]),
    "beyond any stage": ([*LINE, 1e300], [*LINE, -1e300]),
    "zeros": ([0.0, -0.0], [0.0, 0.0]),
}


@pytest.mark.parametrize("arriving", [False, True])
@pytest.mark.parametrize("odd", ODD)
def test_odd_positions_still_make_a_picture(odd: str, arriving: bool) -> None:
    xs, ys = ODD[odd]
    path = ScanPath(*MM, positions=None if arriving else (xs, ys))
    maps = Maps(row_of(path, len(xs)), CHANNELS)
    picture = map_image(maps)
    mirror = Mirror(picture)
    for seq_num in range(1, len(xs) + 1):
        if arriving:
            path.put([seq_num], [xs[seq_num - 1]], [ys[seq_num - 1]])
        assign(maps, [seq_num], [seq_num])
        mirror.follow()
    assert np.nanmax(picture.grids[1]) >= len(xs) - 1
    assert picture.raster.size <= 1.1 * CELLS_MAX
    (bottom, top), (left, right) = picture.raster.extents
    assert top > bottom
    assert right > left


def test_a_line_of_very_many_points_makes_a_picture() -> None:
    raster = map_image(planned(np.arange(3e6), np.zeros(3_000_000))).raster
    assert raster.size <= 1.1 * CELLS_MAX


def test_a_line_and_scales_far_apart_are_no_slivers() -> None:
    for xs, ys in ((LINE, LINE**2 * 1e-6), (LINE * 1e-6, LINE**2)):
        raster = map_image(planned(xs, ys)).raster
        assert 0.5 < raster.rows / raster.columns < 2


def test_points_of_a_square_grid_are_squares_half_a_step_beyond() -> None:
    xs, ys = (at.ravel() for at in np.meshgrid(np.arange(5.0), np.arange(4.0)))
    raster = map_image(planned(xs, ys)).raster
    np.testing.assert_allclose(raster.extents, [(-0.5, 3.5), (-0.5, 4.5)])
    again = map_image(planned(np.tile(xs, 3), np.tile(ys, 3))).raster
    np.testing.assert_allclose(again.extents, raster.extents)


def test_every_point_of_a_spiral_can_be_seen_and_none_leaves_a_hole() -> None:
    turn = np.sqrt(np.arange(2000.0)) * 3.5449
    xs, ys = turn * np.cos(turn), turn * np.sin(turn)
    maps = planned(xs, ys)
    assign(maps, range(1, 2001), range(2000))
    picture = map_image(maps)
    assert len(picture.points(0, picture.raster.rows, 0, picture.raster.columns)) == 2000
    across = picture.raster.fast.coordinates
    upwards = picture.raster.slow.coordinates
    inside = np.hypot(across, upwards[:, None]) < turn[-1] - 5
    assert not np.isnan(picture.grids[1][inside]).any()


def test_two_points_on_one_node_show_the_later_one_once_it_has_a_value() -> None:
    lattice = Lattice(x0=0, dx=1, columns=2, y0=0, dy=1, rows=2)
    maps = planned([0, 1, 0], [0, 0, 0], lattice=lattice)
    picture = map_image(maps)
    for seq_num, value, shown in ((1, 10, 10), (3, np.nan, 10), (3, 30, 30), (1, 11, 30), (3, np.nan, 11)):
        assign(maps, [seq_num], [value])
        picture.update()
        assert picture.grids[1, 0, 0] == shown
    assert np.isnan(picture.grids[1, 1]).all()
    assert picture.epoch == 0


def batches_of(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def test_a_point_of_a_million_costs_the_same_first_and_last() -> None:
    size = 1_000_000
    random = np.random.default_rng(5)
    path = ScanPath(*MM, positions=(random.random(size), random.random(size)))
    maps = Maps(row_of(path, size), ("total",))
    picture = map_image(maps)
    assert isinstance(picture, ScatteredImage)
    assert picture.raster.size <= CELLS_MAX
    work = []
    for seq_nums in batches_of(random.permutation(size) + 1, 20_000):
        before = picture.checked_cells
        maps.assign(seq_nums, {"total": seq_nums})
        picture.update()
        work.append(picture.checked_cells - before)
    assert max(work) <= 1.05 * min(work)
    assert sum(work) <= 10 * size
    assert len(picture._changes._log) <= 8 * CELLS_MAX


@pytest.mark.parametrize("outward", [True, False])
def test_positions_that_arrive_are_laid_out_anew_only_now_and_then(outward: bool) -> None:
    size = 200_000
    turn = np.sqrt(np.arange(float(size))) * 3.5449
    path = ScanPath(*MM)
    maps = Maps(row_of(path, size), ("total",))
    picture = map_image(maps)
    assert isinstance(picture, ScatteredImage)
    order = np.arange(1, size + 1)
    for seq_nums in batches_of(order if outward else np.random.default_rng(1).permutation(order), 250):
        at = turn[seq_nums - 1]
        path.put(seq_nums, at * np.cos(at), at * np.sin(at))
        maps.assign(seq_nums, {"total": seq_nums})
        picture.update()
    assert picture.epoch <= 40
    assert picture.checked_cells <= 4 * CELLS_MAX * (picture.epoch + 1)


def test_what_changed_too_long_ago_is_everything() -> None:
    changes = ChangeLog(3000)
    for turn in range(10):
        changes.add(np.arange(1000 * (turn % 3), 1000 * (turn % 3) + 1000))
    assert changes.version == 10_000
    assert changes.since(9_000).tolist() == list(range(1000))
    assert changes.since(8_000).tolist() == [*range(1000), *range(2000, 3000)]
    assert changes.since(0).tolist() == list(range(3000))
    assert len(changes._log) <= 16_384


def test_pictures_can_be_kept_by_whoever_does_not_want_to_keep_them() -> None:
    for view in (MapView(), MapView(exchanged=True)):
        picture = map_image(Maps(grid(2, 2), CHANNELS), view)
        assert weakref.ref(picture)() is picture
        assert len({picture, map_image(picture.maps, view)}) == 2


@pytest.mark.parametrize("shape", [(1_001, 1_000, True), (0, 5, True), (10**9, 10**9, False)])
def test_a_shape_that_no_anonymous_tab_may_ask_for_is_refused(shape: tuple[int, int, bool]) -> None:
    with pytest.raises(GeometryError, match="cannot be laid over a run"):
        MapView(shape=shape)
