"""Points of a scan as text, as the API has them: ``1-500,700``."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from snakemap.errors import RequestRefused

__all__ = ["POINTS_TEXT_MAX", "points_from_text"]

POINTS_TEXT_MAX = 10_000
"""Letters of a text."""

SEQ_NUM_MAX = 10_000_000
PART = re.compile(r" *([0-9]{1,8}) *(?:- *([0-9]{1,8}) *)?", re.ASCII)
FORM = "numbers of points from 1 on and ranges of them are needed, like 1-500,700"


def points_from_text(text: str) -> npt.NDArray[np.int64]:
    """Return points (n,), each once, in rising order.

    Raises:
        RequestRefused: if the text has another form.

    >>> points_from_text("7, 1-3,2").tolist()
    [1, 2, 3, 7]
    """
    if len(text) > POINTS_TEXT_MAX:
        raise RequestRefused(f"points: at most {POINTS_TEXT_MAX:,} letters can be used; use ranges, like 1-500")
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        found = PART.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= SEQ_NUM_MAX:
            raise RequestRefused(f"points: {FORM}")
        ranges.append((first, last))
    apart: list[npt.NDArray[np.int64]] = []
    following = 1
    for first, last in sorted(ranges):  # each point once, however often it is named
        if last >= following:
            apart.append(np.arange(max(first, following), last + 1))
            following = last + 1
    return np.concatenate(apart)
