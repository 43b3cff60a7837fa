"""Points of a scan as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from snakemap.core.points_text import points_from_text


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20), st.booleans()), min_size=1, max_size=8))
def test_each_point_comes_once_in_rising_order(ranges: list[tuple[int, int, bool]]) -> None:
    texts = [f" {first} - {first + more} " if blanks else f"{first}-{first + more}" for first, more, blanks in ranges]
    expected = {point for first, more, _ in ranges for point in range(first, first + more + 1)}
    assert points_from_text(",".join(texts)).tolist() == sorted(expected)


def test_ranges_that_overlap_cost_no_more_than_the_points_in_them() -> None:
    assert len(points_from_text(",".join(["1-2000000"] * 900))) == 2_000_000
