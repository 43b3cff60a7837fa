"""Addresses: what is written is read again, and whatever else comes in one harms nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples

from snakemap.dashboard import permalink, view_state
from snakemap.dashboard.permalink import QUERY_MAX, ViewPlace, parse, query, rounded
from snakemap.render import dataset_display
from snakemap.render.palettes import COLORS

SCRIPT = '<img src=x onerror="window.hacked=1">\'&#%'

numbers = st.floats(-1e30, 1e30, allow_nan=False)
printed = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"]), max_size=40)
paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=150)


def ranges(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    """Pairs of numbers that are apart."""
    ends = st.tuples(st.floats(low, high, allow_nan=False), st.floats(low, high, allow_nan=False))
    return ends.map(lambda pair: (min(pair), max(pair))).filter(
        lambda pair: pair[1] - pair[0] > 1e-9 * max(abs(pair[0]), abs(pair[1]))
    )


rectangles = st.tuples(ranges(-1e30, 1e30), ranges(-1e30, 1e30)).map(lambda sides: (*sides[0], *sides[1]))
shapes = st.tuples(st.integers(1, 1000), st.integers(1, 1000), st.booleans())
centers = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"compare": st.tuples(printed.filter(bool), printed.filter(bool)), "compared": printed}),
    st.fixed_dictionaries(
        {
            "file": paths.filter(bool),
            "node": paths,
            "display": st.sampled_from(["", *permalink.DISPLAYS.values()]),
            "index": st.lists(st.integers(0, 2**53 - 1), max_size=32).map(lambda i: tuple(i) if any(i) else ()),
        }
    ),
)
regions = st.lists(
    st.tuples(printed.map(lambda name: name.strip()[:10].strip()), st.integers(0, 9), st.integers(10, 9_999_999)),
    max_size=8,
    unique_by=lambda one: one[0] or one[1:],
).map(
    lambda regions: tuple(
        f"{name}:{low},{high},{low},{high}" if name else f"{low},{high},{low},{high}" for name, low, high in regions
    )
)
colors = st.one_of(
    st.sampled_from(list(permalink.LIMITS.values())).map(lambda limits: {"limits": limits}),
    st.tuples(numbers, numbers).map(lambda pair: {"limits": "by hand", "by_hand": pair}),
)


@st.composite
def places(draw: st.DrawFn) -> ViewPlace:
    """Places that a page can be at."""
    some: dict[str, Any] = {**draw(colors), **draw(centers)}
    run = draw(printed)
    return ViewPlace(
        run=run,
        source=draw(printed),
        channel=draw(printed),
        scale=draw(st.sampled_from(view_state.SCALES)),
        aspect=draw(st.sampled_from(view_state.ASPECTS)),
        colors=draw(st.sampled_from(COLORS)),
        exchanged=draw(st.booleans()),
        shape=draw(st.none() | shapes),
        stage_path=draw(st.booleans()),
        enlarged=draw(printed),
        zoom=draw(st.none() | rectangles),
        box=draw(st.none() | rectangles),
        brush=draw(st.none() | ranges(0, 1)),
        left=draw(st.sampled_from(["", "files", "tree", "actions"])),
        theme=draw(st.sampled_from(["", "dark", "light"])),
        wall=draw(st.booleans()),
        at=draw(st.sampled_from([0, 1, 1_790_000_000_123])) if run else 0,
        point=draw(st.integers(0, 10_000_000)),
        background=draw(st.integers(0, 10_000_000)),
        rois=draw(regions),
        **some,
    )


@examples(300)
@given(places())
def test_a_place_is_read_as_it_was_written(place: ViewPlace) -> None:
    assert parse(query(place)) == (place, [])


@examples(300)
@given(places())
def test_the_same_place_has_the_same_address_whatever_the_order(place: ViewPlace) -> None:
    text = query(place)
    backwards = "&".join(sorted(text.split("&"), reverse=True))
    if not place.compare and len(place.rois) < 2:  # of two runs, one is the first; regions have an order
        assert query(parse(backwards)[0]) == text
    assert len(text) <= QUERY_MAX


fragments = st.sampled_from(
    [*permalink.READERS, "=", "&", "&&", ",", "1", "0", "nan", "inf", "-1e999", "1_0", "٣", "%00", "%ff", "%", "+", ";",
     "../../etc/passwd", quote(SCRIPT), SCRIPT, "9" * 400, "7x9", "0x0", "99999x99999", "log", "locked", "\0", "\udcff"]
)  # fmt: skip


@examples(600)
@given(st.lists(fragments | st.text(max_size=20), max_size=60).map("".join))
def test_whatever_an_address_holds_makes_a_place_that_can_be_written(text: str) -> None:
    place, notes = parse(text)
    assert parse(query(place)) == (place, [])
    assert all(note.isprintable() and len(note) < 100 for note in notes)


def test_what_is_as_usual_is_not_written() -> None:
    assert query(ViewPlace()) == ""
    assert parse("") == parse("run=&scale=&zoom=") == parse("utm_source=mail&bokeh-session-id=x") == (ViewPlace(), [])


def test_an_address_can_be_read_by_people() -> None:
    place = ViewPlace(
        run="4f-e", limits="by hand", by_hand=(10.0, 2.5e6), zoom=(0.0, 1.5, -2.0, 3.25), shape=(7, 9, False)
    )
    assert query(place) == "run=4f-e&limits=10,2500000&shape=7x9:raster&zoom=0,1.5,-2,3.25"
    of_file = ViewPlace(file="cm1-1/a b.nxs", node="/entry/data", display="table", index=(3, 0), left="tree")
    assert query(of_file) == "left=tree&file=cm1-1/a%20b.nxs&node=/entry/data&as=table&slice=3,0"


@pytest.mark.parametrize(
    "text",
    [
        "scale=cubic",
        "limits=by+hand",
        "limits=1",
        "limits=1,2,3",
        "limits=nan,1",
        "limits=-inf,inf",
        "limits=1e31,1e32",
        "limits=1_0,20",
        "zoom=0,1,2",
        "zoom=1,0,0,1",
        "zoom=0,0,0,1",
        "zoom=1e9,1000000000.5,0,1",
        f"zoom={'9' * 400},1,0,1",
        "zoom=0,1,0,1e999",
        "zoom=٠,1,0,1",
        "brush=0.5,0.2",
        "brush=-1,2",
        "shape=0x5",
        "shape=5000x5000",
        f"shape={'9' * 30}x1",
        "exchanged=maybe",
        "path=2",
        "theme=pink",
        "left=right",
        "run=a%00b",
        "run=a%0ab",
        "run=%ff",
        "run=" + "x" * 601,
        "channel=" + quote("ü" * 101),
        "file=" + "x" * 2401,
        "file=a%00b",
        "compare=one",
        "file=a&slice=-1",
        "file=a&slice=1.5",
        "file=a&slice=" + "9" * 17,
        "file=a&slice=" + ",".join("1" * 33),
        "file=a&as=hologram",
        "run=a&at=yesterday",
        "run=a&at=" + "1" * 16,
        "run=a&at=1790000000000-0",
        "at=1790000000000",
        "roi=1,2,3",
        "roi=2,1,0,4",
        "roi=:0,1,0,1",
        "background=0",
        "point=0",
        "point=-1",
        "point=1.5",
        "point=last",
        "point=٣",
        "point=" + "9" * 9,
    ],
)
def test_what_cannot_be_used_is_told_and_left_out_and_nothing_else_is(text: str) -> None:
    place, notes = parse(f"source=camera-2&{text}")
    assert len(notes) == 1
    assert place in (
        ViewPlace(source="camera-2"),
        ViewPlace(source="camera-2", file="a"),
        ViewPlace(source="camera-2", run="a"),
    )


def test_the_first_word_on_something_counts() -> None:
    assert parse("run=a&run=b")[0] == ViewPlace(run="a")
    assert parse("limits=locked&limits=1,2")[0] == ViewPlace(limits="locked")
    assert parse("compare=a&compare=b&compare=c")[0] == ViewPlace(compare=("a", "b"))


def test_an_address_is_of_a_dataset_or_of_a_comparison() -> None:
    assert parse("file=a&compare=b&compare=c") == (
        ViewPlace(file="a"),
        ["a dataset is shown instead of the comparison"],
    )
    assert parse("node=/entry&slice=1&as=table&of=red") == (ViewPlace(), [])


def test_a_long_address_is_not_read_and_told_of_shortly() -> None:
    assert parse("run=a&x=" + "y" * 100_000) == (ViewPlace(), ["the address has 100,008 characters, more than 12,000"])
    assert parse("&".join(["run=a"] * 65)) == (ViewPlace(), ["the address has more than 64 arguments"])
    (note,) = parse("scale=" + quote(SCRIPT + "\n" + "y" * 5_000))[1]
    assert len(note) < 100
    assert note.isprintable()


def test_what_would_not_be_read_is_not_written() -> None:
    huge = ViewPlace(run="r", channel="c" * 700, limits="by hand", by_hand=(0.0, float("inf")), zoom=(1, 1, 0, 1))
    assert query(huge) == "run=r"
    assert query(ViewPlace(file="\udcff.nxs", run="r")) == "run=r"


def test_places_one_goes_back_to_differ_in_what_is_shown_and_not_in_how() -> None:
    here = ViewPlace(run="a", zoom=(0, 1, 0, 1))
    assert here.key == ViewPlace(run="a", scale="log", left="files", theme="light").key
    others = [ViewPlace(), ViewPlace(run="b"), ViewPlace(run="a", file="f"), ViewPlace(run="a", compare=("a", "b"))]
    assert len({here.key, *(other.key for other in others)}) == 5


@examples(200)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_range_is_rounded_to_less_than_a_screen_can_show(low: float, width: float) -> None:
    told = rounded(low + width, low)
    assert told == pytest.approx((low, low + width), abs=1e-4 * width, rel=1e-12)


def test_an_address_knows_every_choice_that_the_page_offers() -> None:
    assert [*permalink.LIMITS.values(), permalink.BY_HAND] == view_state.LIMITS
    assert list(permalink.SCALES.values()) == view_state.SCALES
    assert list(permalink.ASPECTS.values()) == view_state.ASPECTS
    stack = {"shape": [9, 12, 20, 3], "values": "number", "dtype": "uint8", "interpretation": ""}
    assert set(dataset_display.displays_of(stack)) == set(permalink.DISPLAYS.values())
