"""Shapes, sizes and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bytes_text", "shape_text"]


def shape_text(shape: Sequence[int | None] | None) -> str:
    """Return a shape as text.

    >>> shape_text([10000, 1216, 1936]), shape_text([]), shape_text(None), shape_text([None, 3])
    ('10,000 × 1,216 × 1,936', 'scalar', 'nothing', '… × 3')
    """
    if shape is None:
        return "nothing"
    return " × ".join("…" if size is None else f"{size:,}" for size in shape) or "scalar"


def bytes_text(size: int | None) -> str:
    """Return a number of bytes as text, in powers of 1000.

    >>> [bytes_text(size) for size in (None, 0, 999, 1500, 23_540_000_000)]
    ['', '0 B', '999 B', '1.5 kB', '23.5 GB']
    """
    if size is None:
        return ""
    if size < 1000:
        return f"{size} B"
    number, prefixes = size / 1000, iter("kMGTPE")
    prefix = next(prefixes)
    while number >= 999.95 and (larger := next(prefixes, "")):
        number, prefix = number / 1000, larger
    return f"{number:,.1f} {prefix}B"
