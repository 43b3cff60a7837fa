"""How well the texts of a page can be read: the contrast of each against what is painted behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.browser import Shown

__all__ = ["LEAST", "Text", "faint", "ratio"]

LEAST = 4.5
"""The contrast that WCAG 2 asks of texts of ordinary size (level AA)."""

MEASURE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Text:
    """A text that cannot be read well.

    Attributes:
        words: what it says.
        where: the classes of the elements that it stands in.
        contrast: against its background, from 1 to 21.
        text: its color on the screen, as red, green and blue.
        back: that of its background.
    """

    words: str
    where: str
    contrast: float
    text: tuple[int, int, int]
    back: tuple[int, int, int]


def faint(shown: Shown, *, least: float = LEAST) -> tuple[int, list[Text]]:
    """Measure every text that is visible on a page, shadow roots, placeholders and disabled controls included.

    Args:
        shown: the page.
        least: the contrast that is enough.

    Returns:
        How many texts were measured, and those that are too faint.
    """
    told = shown.page.evaluate(MEASURE, least)
    found = [
        Text(one["words"], one["where"], one["contrast"], tuple(one["text"]), tuple(one["back"]))
        for one in told["found"]
    ]
    return told["seen"], found


def ratio(text: str, back: str) -> float:
    """Return the contrast of two colors.

    >>> ratio("#000000", "#ffffff"), round(ratio("#212529", "#1c2027"), 2)
    (21.0, 1.06)
    """
    bright, dark = sorted((_luminance(text), _luminance(back)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    levels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
