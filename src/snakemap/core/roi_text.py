"""Regions of interest as text, as an address and the API have them: ``y0,y1,x0,x1``, a name and a colon before them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from snakemap.core.roi import Roi
from snakemap.errors import RoiError

__all__ = ["NAME_MAX", "ROIS_MAX", "roi_from_text", "rois_from_text", "text_of"]

ROIS_MAX = 8
"""Regions in one request, and of one tab."""

NAME_MAX = 40
TEXT_MAX = 200
NUMBERS = re.compile(r" *([0-9]{1,7}) *, *([0-9]{1,7}) *, *([0-9]{1,7}) *, *([0-9]{1,7}) *", re.ASCII)
FORM = "four whole numbers y0,y1,x0,x1 are needed, with or without a name and a colon before them"


def roi_from_text(text: str) -> Roi:
    """Return a region of interest; without a name it is named after its numbers.

    Raises:
        RoiError: if that is no region, with the reason.

    >>> roi_from_text("spot:610,760,95,245")
    Roi(name='spot', y0=610, y1=760, x0=95, x1=245)
    >>> roi_from_text("0,8,0,4").name
    '0,8,0,4'
    """
    name, colon, numbers = text.rpartition(":")
    name = name.strip()
    if len(text) > TEXT_MAX or (colon and (not name or len(name) > NAME_MAX or not name.isprintable())):
        raise RoiError(f"roi {_short(text)}: a name needs 1 to {NAME_MAX} printable characters")
    found = NUMBERS.fullmatch(numbers)
    if found is None:
        raise RoiError(f"roi {_short(text)}: {FORM}")
    y0, y1, x0, x1 = map(int, found.groups())
    return Roi(name or f"{y0},{y1},{x0},{x1}", y0, y1, x0, x1)


def rois_from_text(texts: Sequence[str], *, taken: Collection[str] = ()) -> tuple[Roi, ...]:
    """Return several regions of interest, each with a name of its own.

    Args:
        texts: as :func:`roi_from_text` has them.
        taken: names that are in use.

    Raises:
        RoiError: if one of them is no region, a name is used twice, or there are too many.
    """
    if len(texts) > ROIS_MAX:
        raise RoiError(f"{len(texts):,} regions were requested; at most {ROIS_MAX} can be")
    rois = tuple(map(roi_from_text, texts))
    names = set(taken)
    for roi in rois:
        if roi.name in names:
            raise RoiError(f"two channels cannot have the name {_short(roi.name)}; give the region another name")
        names.add(roi.name)
    return rois


def text_of(roi: Roi) -> str:
    """Return a region as text, without its name if that is its numbers.

    >>> text_of(Roi("spot", 610, 760, 95, 245)), text_of(Roi("0,8,0,4", 0, 8, 0, 4))
    ('spot:610,760,95,245', '0,8,0,4')
    """
    numbers = f"{roi.y0},{roi.y1},{roi.x0},{roi.x1}"
    return numbers if roi.name == numbers else f"{roi.name}:{numbers}"


def _short(text: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:61])
    return repr(f"{clean[:60]}…" if len(clean) > 60 else clean)
