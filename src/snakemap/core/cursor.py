"""Cursors: the ids of the stream's entries, as text and as numbers that compare in the order of the stream.

::

    cursor    0-0 < 0-1 < ... < 1000-0 < 1000-1 < ... < 1000-18446744073709551615 < 1001-0 < ...
              no entry          milliseconds since 1970 - number within the millisecond
"""

from __future__ import annotations

import re

from snakemap.errors import CursorError

__all__ = [
    "BEGINNING",
    "cursor_before",
    "cursor_ms",
    "cursor_numbers",
    "cursor_text",
    "last_cursor_of_ms",
    "read_cursor",
]

BEGINNING = "0-0"
"""The cursor before every entry; no entry has it."""

NUMBER_MAX = 2**64 - 1
"""The greatest number within one millisecond."""

PATTERN = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)


def cursor_numbers(cursor: str) -> tuple[int, int]:
    """Return milliseconds and number of a cursor from the store; use as ``key=`` to compare cursors.

    >>> cursor_numbers("1795461238076-10") > cursor_numbers("1795461238076-9")
    True
    """
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds or 0), int(number or 0)


def cursor_ms(cursor: str) -> int:
    """Return the milliseconds since 1970 of a cursor from the store."""
    return cursor_numbers(cursor)[0]


def read_cursor(cursor: str) -> tuple[int, int]:
    """Return milliseconds and number of a cursor from a user.

    Raises:
        CursorError: if it is invalid.

    >>> read_cursor("1795461238076-2"), read_cursor("0")
    ((1795461238076, 2), (0, 0))
    """
    match = PATTERN.fullmatch(cursor)
    numbers = (int(match[1]), int(match[2] or 0)) if match else (NUMBER_MAX + 1, 0)
    if max(numbers) > NUMBER_MAX:
        raise CursorError(f"{cursor[:60]!r} is not a cursor like '1795461238076-0', or '0' for the beginning.")
    return numbers


def cursor_text(numbers: tuple[int, int]) -> str:
    """Return the cursor of milliseconds and number.

    >>> cursor_text((1795461238076, 2))
    '1795461238076-2'
    """
    return f"{numbers[0]}-{numbers[1]}"


def cursor_before(cursor: str) -> str:
    """Return the greatest cursor before another one; nothing comes before the beginning.

    >>> cursor_before("5-3"), cursor_before("5-0"), cursor_before("0-0")
    ('5-2', '4-18446744073709551615', '0-0')
    """
    ms, number = cursor_numbers(cursor)
    if number:
        return f"{ms}-{number - 1}"
    return last_cursor_of_ms(ms - 1) if ms else BEGINNING


def last_cursor_of_ms(ms: int) -> str:
    """Return the greatest cursor within one millisecond since 1970."""
    return f"{ms}-{NUMBER_MAX}"
