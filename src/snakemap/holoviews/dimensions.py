"""Dimensions of elements from names that come from documents and files."""

from __future__ import annotations

from collections.abc import Sequence

import holoviews as hv

__all__ = ["dimensions"]

INVISIBLE = "\u200b"
"""Zero-width space: HoloViews needs different names, and the screen shows the same."""


def dimensions(names: Sequence[str], units: Sequence[str] = ()) -> list[hv.Dimension]:
    """Return the dimensions of an element; names may be empty or equal.

    Args:
        names: of the columns, of the rows, and of the values.
        units: of the same; missing ones are none.

    >>> [dimension.name for dimension in dimensions(["x", "x", ""])] == ["x", "x\\u200b", "\\u200b"]
    True
    >>> dimensions(["stage-x"], ["mm"])[0].pprint_label
    'stage-x (mm)'
    """
    made: list[hv.Dimension] = []
    for number, name in enumerate(names):
        while not name or name in [dimension.name for dimension in made]:
            name += INVISIBLE
        made.append(hv.Dimension(name, unit=(units[number] if number < len(units) else "") or None))
    return made
