"""The rows of the event index that a filter selects, kept up to date."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from dataclasses import dataclass

from snakemap.live.event_filter import EventFilter, EventRow

__all__ = ["EventSelection", "SearchResult"]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Older events that were read from the store.

    Attributes:
        rows: oldest first.
        begins: exclusive cursor where the search begins.
        ends: inclusive cursor where the search ends.
        before: whether there may be older ones.
        after: whether there may be more before the rows of the index.
    """

    rows: list[EventRow]
    begins: str
    ends: str
    before: bool
    after: bool


class RowNumbers:
    """Rising numbers that grow at both ends; the place of each never changes.

    The first appended number has place 0, prepended ones have negative places.

    >>> numbers = RowNumbers()
    >>> numbers.append(7); numbers.prepend(5); numbers.append(9)
    >>> numbers.start, numbers.stop, numbers.slice(-1, 2), numbers.place_of(9)
    (-1, 2, [5, 7, 9], 1)
    """

    def __init__(self) -> None:
        self._old = array("q")
        self._new = array("q")
        self._cut = 0

    @property
    def start(self) -> int:
        """Place of the first number."""
        return self._cut - len(self._old)

    @property
    def stop(self) -> int:
        """Place after the last number."""
        return self._cut + len(self._new)

    def append(self, number: int) -> None:
        """Add a number at the end."""
        self._new.append(number)

    def prepend(self, number: int) -> None:
        """Add a number at the beginning."""
        self._old.append(number)

    def slice(self, start: int, stop: int) -> list[int]:
        """Return the numbers in a range of places, as far as they exist."""
        start, stop = max(start, self.start), min(stop, self.stop)
        return [self[place] for place in range(start, stop)]

    def __getitem__(self, place: int) -> int:
        return self._new[place - self._cut] if place >= self._cut else self._old[self._cut - 1 - place]

    def place_of(self, number: int) -> int:
        """Return the place of the first number that is not below a number."""
        if self._new and self._new[0] < number:
            return self._cut + bisect_left(self._new, number)
        return self._cut - bisect_left(self._old, 1 - number, key=lambda one: -one)

    def forget_before(self, number: int) -> None:
        """Drop the numbers below a number."""
        while self._old and self._old[-1] < number:
            self._old.pop()
        if not self._old and self._new and self._new[0] < number:
            going = bisect_left(self._new, number)
            del self._new[:going]
            self._cut += going


class EventSelection:
    """Rows that a filter selects.

    Attributes:
        filter: the filter.
        numbers: of the rows.
        reached: number of the oldest row that was filtered.
        users: number of tabs that use it.
    """

    def __init__(self, wanted: EventFilter, *, begins: int) -> None:
        self.filter = wanted
        self.numbers = RowNumbers()
        self.reached = begins
        self.users = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def start(self) -> int:
        """Place of the first row."""
        return self.numbers.start

    @property
    def stop(self) -> int:
        """Place after the last row."""
        return self.numbers.stop
