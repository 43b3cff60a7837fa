"""Every form that a run can have comes to its map, in motor coordinates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import event_model
import numpy as np
import numpy.typing as npt
import orjson
import pytest
from tests.support.forms import Expected, Form, all_forms, brightness, names, random_run, real_forms, real_names

from snakemap.core.causal_order import CausalOrder
from snakemap.core.coalesce import coalesce
from snakemap.core.derived_documents import TOTAL
from snakemap.core.documents import Document, Entry, decode
from snakemap.core.raster import Axis
from snakemap.core.run import Run, axes_summary
from snakemap.core.streams import SCALARS, MapSource
from snakemap.errors import DocumentError, GeometryError
from snakemap.render.map_image import map_image
from snakemap.render.map_view import MapView


@pytest.fixture(params=names())
def form(request: pytest.FixtureRequest) -> Form:
    """One form after the other."""
    return all_forms()[request.param]


@dataclass(frozen=True)
class Look:
    """What a run looked like in its midst.

    Attributes:
        seq_nums: points that were there (n,).
        counts: what the map held of them (n,).
        places: where they lay (n,), by motor; empty while that was not certain.
    """

    seq_nums: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float64]
    places: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Folded:
    """A run of a form, what it must have come to, and looks at it on the way."""

    run: Run
    expected: Expected
    looks: tuple[Look, ...]
    documents: tuple[Document, ...]


@cache
def folded(name: str) -> list[Folded]:
    """The runs of a form, folded once for all tests that only look."""
    form = all_forms()[name]
    return [_folded(form, uid, expected) for uid, expected in zip(form.runs, form.expected, strict=True)]


def _folded(form: Form, uid: str, expected: Expected) -> Folded:
    own = tuple(document for document in form.documents if document.run == uid)
    run, looks = Run(own[0].doc, defaults=form.defaults), []
    for number, document in enumerate(own):
        run.apply(document)
        if number % max(len(own) // 5, 1) == 0 and channel_of(run) in run.maps.channels:
            looks.append(_look(run))
    return Folded(run, expected, tuple(looks), own)


def _look(run: Run) -> Look:
    seq_nums = run.raster.seq_nums(np.flatnonzero(run.maps.visited_cells()))
    provisional = run.raster.path is None and (bool(run.raster.note) or "positions" in run.raster.source)
    found = {} if provisional else places(run, seq_nums)
    return Look(seq_nums, at(run.main, channel_of(run), seq_nums), found)


def places(run: Run, seq_nums: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Where the raster says that points lie (n,), by motor; axes that are mere indices are left out."""
    raster = run.raster
    if raster.path is not None:
        path = raster.path
        return dict(zip((path.x_name, path.y_name), path.at(seq_nums), strict=True))
    rows, columns, inside = raster.pixel(seq_nums)
    assert inside.all()
    axes = {raster.slow.name: (raster.slow, rows), raster.fast.name: (raster.fast, columns)}
    return {name: axis.coordinates[index] for name, (axis, index) in axes.items() if axis.known}


def at(source: MapSource, channel: str, seq_nums: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What the map of a channel holds (n,) at some points."""
    cells, inside = source.maps.raster.cells(seq_nums)
    assert inside.all()
    return source.maps.values(source.maps.channels.index(channel), cells)


def agree(found: Any, wanted: Any, *, tolerance: float = 1e-9, about: str = "") -> None:
    """Asserts that two arrays are the same, NaN for NaN."""
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=tolerance, err_msg=about)


def each(form: Form) -> Iterator[tuple[Run, Expected]]:
    """Its runs, with what each must have come to."""
    return ((seen.run, seen.expected) for seen in folded(form.name))


def channel_of(run: Run) -> str:
    """The one that holds the brightness of the sample."""
    return TOTAL if TOTAL in run.maps.channels else "diode-value"


def test_every_point_holds_the_brightness_of_its_place(form: Form) -> None:
    for run, expected in each(form):
        seq_nums = np.arange(1, len(expected.counts) + 1)
        agree(at(run.main, channel_of(run), seq_nums), expected.counts)
        visited = int(np.count_nonzero(~np.isnan(run.maps.grids[run.maps.channels.index(channel_of(run))])))
        assert visited == np.count_nonzero(~np.isnan(expected.counts))
        assert (run.maps.visited, run.maps.out_of_range) == (expected.visited, expected.beyond)


def test_every_point_lies_where_the_motors_were(form: Form) -> None:
    for run, expected in each(form):
        seq_nums = np.flatnonzero(~np.isnan(expected.counts)) + 1
        known_values = places(run, seq_nums)
        needed = tuple(expected.places) if expected.needed is None else expected.needed
        assert set(needed) <= set(known_values), (run.raster.described, run.raster.note)
        for motor, coordinates in known_values.items():
            if motor in expected.places:
                agree(coordinates, expected.places[motor][seq_nums - 1], tolerance=expected.tolerance, about=motor)
        if expected.path is not None:
            assert (run.raster.path is not None) == expected.path, run.raster.described
        if not expected.places:
            assert not set(known_values) & {"stage-x", "stage-y", "stage-z"}


def test_the_map_is_the_brightness_of_the_coordinates_of_its_cells(form: Form) -> None:
    for run, expected in each(form):
        raster = run.raster
        if expected.sample is None:
            continue
        cells = np.flatnonzero(run.maps.visited_cells())
        known_values = places(run, raster.seq_nums(cells))
        if not {"stage-x", "stage-y"} <= set(known_values) or not set(expected.places) <= set(known_values):
            continue
        found = run.maps.values(run.maps.channels.index(channel_of(run)), cells)
        wanted = expected.sample(known_values["stage-x"], known_values["stage-y"])
        agree(found, np.where(np.isnan(found), np.nan, wanted))


def test_the_picture_shows_the_brightness_of_a_place_where_the_motors_were(form: Form) -> None:
    check_picture(form, MapView())


@pytest.mark.parametrize("name", ["grid_scan snaked", "list_grid_scan uneven", "spiral", "scanspec Ellipse", "ViSR"])
def test_so_does_the_picture_whose_axes_are_exchanged(name: str) -> None:
    check_picture(all_forms()[name], MapView(exchanged=True))


def check_picture(form: Form, view: MapView) -> None:
    """Asserts that the cell of a picture that is nearest to a place has the brightness of that place."""
    for run, expected in each(form):
        picture = map_image(run.maps, view)
        axes = picture.raster.slow, picture.raster.fast
        assert set(expected.places if expected.needed is None else expected.needed) <= {axis.name for axis in axes}
        channel = run.maps.channels.index(channel_of(run))
        for cell in np.flatnonzero(~np.isnan(run.maps.grids[channel].ravel())).tolist():
            index = int(run.raster.seq_nums([cell])[0]) - 1
            shown = picture.position_of(cell)
            if shown is None:  # hidden by another one at the same place
                assert all(axis.known for axis in axes)
                shown = -1, -1
            row, column = (
                nearest(axis, expected.places[axis.name][index])
                if axis.known and axis.name in expected.places
                else place
                for axis, place in zip(axes, shown, strict=True)
            )
            agree(picture.grids[channel, row, column], expected.counts[index], about=f"point {index + 1}")


def nearest(axis: Axis, place: float) -> int:
    """The index on an axis that is nearest to a place."""
    return int(np.argmin(np.abs(axis.coordinates - place)))


def test_a_grid_lies_in_memory_in_the_order_of_the_scan(form: Form) -> None:
    for run, expected in each(form):
        if expected.table is not None:
            grid = run.maps.grids[run.maps.channels.index(channel_of(run))]
            wanted = np.append(expected.counts, np.full(expected.table.size, np.nan))[expected.table - 1]
            agree(grid, wanted)
            assert run.raster.path is None


def test_other_sources_have_maps_of_their_own(form: Form) -> None:
    for run, expected in each(form):
        for name, counts in expected.others.items():
            seq_nums = np.arange(1, len(counts) + 1)
            agree(at(run.source(name), TOTAL, seq_nums), counts)


def test_scalars_are_maps_of_their_own(form: Form) -> None:
    for run, expected in each(form):
        scalars = {source.stream: source for source in run.sources.values() if source.key == SCALARS}
        for name, counts in expected.scalars.items():
            seq_nums = np.arange(1, len(counts) + 1)
            agree(at(scalars[run.main.stream], name, seq_nums), counts)
        assert not {"baseline", "snakemap"} & set(scalars)
        if run.main.stream in scalars:
            axes = set(places(run, np.array([1]))) | set(expected.needed or expected.places)
            assert not axes & set(scalars[run.main.stream].maps.channels), "an axis is no map of its own"


def test_the_status_tells_the_truth_and_the_source_is_named(form: Form) -> None:
    for run, expected in each(form):
        assert (run.status, run.expected, run.points) == (expected.status, expected.expected, expected.visited)
        assert expected.source in run.raster.described
        if not expected.places and expected.table is None:
            assert run.raster.note, "a word about why there are no coordinates"
        assert orjson.loads(orjson.dumps(run.summary()))["uid"] == run.uid


def test_what_is_there_in_mid_run_is_right(form: Form) -> None:
    for seen in folded(form.name):
        for look in seen.looks:
            known = ~np.isnan(look.counts)
            if not form.rewinds:
                agree(look.counts[known], seen.expected.counts[look.seq_nums[known] - 1])
            for motor, coordinates in look.places.items():
                if motor in seen.expected.places:
                    known = ~np.isnan(coordinates)
                    wanted = seen.expected.places[motor][look.seq_nums - 1]
                    agree(coordinates[known], wanted[known], tolerance=seen.expected.tolerance, about=motor)


def test_documents_that_come_twice_change_nothing(form: Form) -> None:
    for seen in folded(form.name):
        run = Run(seen.documents[0].doc, defaults=form.defaults)
        for document in (document for document in seen.documents for _ in range(2)):
            run.apply(document)
        assert_same(run, seen.run)


def test_catching_up_with_joined_documents_even_twice_comes_to_the_same(form: Form) -> None:
    for seen in folded(form.name):
        entries = [Entry(f"{n + 1}-0", d.name, d.run, d.task_id, d.doc) for n, d in enumerate(seen.documents)]
        run = Run(seen.documents[0].doc, defaults=form.defaults)
        for entry in [*coalesce(entries)] * 2:
            run.apply(entry.document)
        assert_same(run, seen.run)


def assert_same(run: Run, other: Run) -> None:
    """Asserts that two runs are drawn the same."""
    assert run.summary() == other.summary()
    assert run.raster.extents == other.raster.extents
    assert list(run.sources) == list(other.sources)
    for name, source in run.sources.items():
        np.testing.assert_array_equal(source.maps.grids, other.sources[name].maps.grids)
    seq_nums = np.arange(1, run.raster.size + 1)
    found, wanted = places(run, seq_nums), places(other, seq_nums)
    assert list(found) == list(wanted)
    for motor, coordinates in found.items():
        np.testing.assert_array_equal(coordinates, wanted[motor])


@pytest.mark.parametrize("name", real_names())
def test_documents_of_real_plans_are_valid(name: str) -> None:
    seen: set[tuple[str, str]] = set()
    for message in all_forms()[name].messages:
        document = decode(message)
        assert isinstance(document, Document)
        key = (document.name, document.doc.get("descriptor", document.doc["uid"]))
        if key not in seen:
            seen.add(key)
            event_model.schema_validators[event_model.DocumentNames[document.name]].validate(document.doc)


def test_the_corpus_says_what_its_plans_did() -> None:
    (expected,) = all_forms()["grid_scan snaked"].expected
    assert expected.places["stage-y"].tolist() == [2] * 4 + [0] * 4 + [-2] * 4
    assert expected.places["stage-x"].tolist() == [-1, 0, 1, 2, 2, 1, 0, -1, -1, 0, 1, 2]
    assert expected.counts[:5].tolist() == brightness(np.array([-1, 0, 1, 2, 2]), np.array([2, 2, 2, 2, 0])).tolist()
    (expected,) = all_forms()["rel_grid_scan"].expected
    assert (expected.places["stage-y"].min(), expected.places["stage-x"].max()) == (19.0, 12.0)
    (expected,) = all_forms()["rewinds"].expected
    assert expected.places["stage-x"].tolist() == [0, 2, 4, 0, 2, 4]


def test_the_corpus_is_the_same_every_time() -> None:
    assert len(names()) == len(set(names())) == len(all_forms())
    first, again = (real_forms(["rewinds", "spiral_square", "fly scan"]) for _ in range(2))
    assert [form.messages for form in first] == [form.messages for form in again]


@pytest.mark.parametrize("seeds", [range(first, first + 50) for first in range(0, 300, 50)], ids=str)
def test_any_run_yields_maps_or_a_word_about_why_not(seeds: range) -> None:
    for seed in seeds:
        found, refused = folded_by_chance(random_run(seed))
        assert found or refused, f"seed {seed}: neither a run nor a word"
        for run in found:
            check_readable(run)


def folded_by_chance(messages: list[str]) -> tuple[list[Run], list[str]]:
    """The runs that some messages come to, and why the others were not used."""
    order, found, refused = CausalOrder(waiting_max=20), dict[str, Run](), list[str]()
    for message in messages:
        ready: list[Document] = []
        try:
            document = decode(message)
            ready = order.accept(document) if isinstance(document, Document) else []
        except DocumentError as error:
            refused.append(str(error))
        for document in ready:
            try:
                run = found.get(document.run) or found.setdefault(document.run, Run(document.doc))
                run.apply(document)
            except (DocumentError, GeometryError) as error:
                refused.append(str(error))
    refused += [f"{order.waiting} wait for their start"] if order.waiting else []
    return list(found.values()), refused


def check_readable(run: Run) -> None:
    """Whatever was folded, everything that a page or the API asks of a run can be asked."""
    assert orjson.loads(orjson.dumps(run.summary()))["uid"] == run.uid
    assert orjson.loads(orjson.dumps(axes_summary(run.raster)))
    assert run.status in ("running", "complete", "incomplete", "aborted", "failed", "lost")
    for source in run.sources.values():
        maps, raster = source.maps, source.maps.raster
        assert maps.grids.shape == (len(maps.channels), raster.rows, raster.columns)
        assert np.all(np.isfinite(raster.extents))
        assert raster.described
        assert not np.isinf(maps.grids).any()
        for number in range(len(maps.channels)):
            maps.histogram(number)
            assert maps.summary(number).points == np.count_nonzero(~np.isnan(maps.grids[number]))
        if raster.path is not None:
            assert raster.rows == 1
            assert np.array_equal(np.isnan(raster.path.xs), np.isnan(raster.path.ys))
        for cross_check in run.cross_checks(source):
            assert isinstance(cross_check.described, str)
    for ledger in run.ledgers():
        for uid in ledger.resources:
            ledger.fill(uid, length=20, expected=run.expected)


def test_no_thread_of_the_run_engine_is_left() -> None:
    all_forms()
    assert not [thread.name for thread in threading.enumerate() if "bluesky" in thread.name]
