"""Colors, by day and by night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snakemap.core.channels import HUES, hue_of

__all__ = ["DARK", "LIGHT", "NO_LOGARITHM", "THEMES", "Theme", "channel_color"]


@dataclass(frozen=True, slots=True)
class Theme:
    """The colors of a page, as CSS hex.

    Attributes:
        name: ``"dark"`` or ``"light"``.
        page: behind everything.
        panel: behind a pane.
        plot: behind an image; also what "not visited yet" looks like.
        line: borders and grids.
        text: words and numbers.
        faint: captions and axes.
        dim: over pixels that are not brushed, with its opacity.
        accent: what can be pressed, and what is selected.
    """

    name: str
    page: str
    panel: str
    plot: str
    line: str
    text: str
    faint: str
    dim: str
    accent: str


DARK = Theme(
    name="dark",
    page="#14171c",
    panel="#1c2027",
    plot="#2a303a",
    line="#39404c",
    text="#e8ebf0",
    faint="#a0a9b8",
    dim="rgba(42, 48, 58, 0.86)",
    accent="#5ab0ff",
)
LIGHT = Theme(
    name="light",
    page="#eef0f3",
    panel="#ffffff",
    plot="#dfe3e9",
    line="#c9ced6",
    text="#1a1f27",
    faint="#5a6473",
    dim="rgba(223, 227, 233, 0.86)",
    accent="#0a63c2",
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}

NO_LOGARITHM = {"dark": "#76808f", "light": "#98a1ae"}
"""Pixels that are 0 or negative, on a log scale: neither a color of any scale nor that of what is not visited yet."""


def channel_color(channel: str, theme: Theme, *, channels: Sequence[str] = ()) -> str:
    """Return the color of a channel's title, frame and outline, readable on the theme's background."""
    return HUES[theme.name][hue_of(channel, channels=channels)]
