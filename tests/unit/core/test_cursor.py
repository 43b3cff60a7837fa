"""Tests of the arithmetic of cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemap.core.cursor import (
    BEGINNING,
    cursor_before,
    cursor_ms,
    cursor_numbers,
    cursor_text,
    last_cursor_of_ms,
    read_cursor,
)
from snakemap.errors import CursorError

NUMBER_MAX = 2**64 - 1
NUMBERS = st.tuples(st.integers(0, NUMBER_MAX), st.integers(0, NUMBER_MAX))


@pytest.mark.parametrize(
    ("cursor", "before"),
    [
        ("1795461238076-3", "1795461238076-2"),
        ("1795461238076-0", f"1795461238075-{NUMBER_MAX}"),
        ("1-0", f"0-{NUMBER_MAX}"),
        ("0-1", "0-0"),
        ("0-0", "0-0"),
    ],
)
def test_the_cursor_before_another_one_never_comes_after_it(cursor: str, before: str) -> None:
    assert cursor_before(cursor) == before
    assert cursor_numbers(before) <= cursor_numbers(cursor)


@given(NUMBERS.filter(any))
def test_nothing_lies_between_a_cursor_and_the_one_before(numbers: tuple[int, int]) -> None:
    ms, number = cursor_numbers(cursor_before(cursor_text(numbers)))
    assert numbers == ((ms, number + 1) if number < NUMBER_MAX else (ms + 1, 0))


@given(NUMBERS, NUMBERS)
def test_cursors_compare_by_their_numbers(one: tuple[int, int], other: tuple[int, int]) -> None:
    newest = max(cursor_text(one), cursor_text(other), key=cursor_numbers)
    assert read_cursor(newest) == max(one, other)


def test_a_millisecond_holds_its_last_cursor() -> None:
    last = last_cursor_of_ms(1000)
    assert cursor_ms(last) == 1000
    assert cursor_numbers("1000-99") < cursor_numbers(last) < cursor_numbers("1001-0")
    assert cursor_before("1001-0") == last
    assert cursor_ms(BEGINNING) == 0


@pytest.mark.parametrize(
    "text", ["", "+", "-", "-1", "1-", "1-2-3", "one", "1.5", "١-٢", f"{2**64}-0", f"0-{2**64}", "1 "]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        read_cursor(text)
