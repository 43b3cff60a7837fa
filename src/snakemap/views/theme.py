"""Colors, by day and by night, and the color maps of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import colorcet

__all__ = ["DARK", "LIGHT", "THEMES", "Theme", "channel_color", "palette"]


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
        veil: over pixels that are not brushed, with its opacity.
        accent: what can be pressed, and what is selected.
    """

    name: str
    page: str
    panel: str
    plot: str
    line: str
    text: str
    faint: str
    veil: str
    accent: str


DARK = Theme(
    name="dark",
    page="#14171c",
    panel="#1c2027",
    plot="#2a303a",
    line="#39404c",
    text="#e8ebf0",
    faint="#a0a9b8",
    veil="rgba(42, 48, 58, 0.86)",
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
    veil="rgba(223, 227, 233, 0.86)",
    accent="#0a63c2",
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}

CHANNEL_PALETTES = {"red": "CET_L13", "green": "CET_L14", "blue": "CET_L15", "total": "fire"}
OTHER_PALETTES = ("CET_L8", "CET_L6", "CET_L17")
CHANNEL_COLORS = {
    "dark": {"red": "#ff6b61", "green": "#43c463", "blue": "#5b9dff", "total": "#f2c14e"},
    "light": {"red": "#c8281e", "green": "#167a32", "blue": "#1e56c8", "total": "#8a6100"},
}


def palette(channel: str, number: int = 0) -> list[str]:
    """256 colors from black on, even to the eye: linear to red, green and blue for the channels of these names.

    Args:
        channel: its name.
        number: its place among the channels, which chooses a map for names that are no colors.
    """
    name = CHANNEL_PALETTES.get(channel, OTHER_PALETTES[number % len(OTHER_PALETTES)])
    return list(colorcet.palette[name])


def channel_color(channel: str, theme: Theme, *, channels: Sequence[str] = ()) -> str:
    """The color of a channel's title, frame and outline, readable on the theme's background."""
    colors = CHANNEL_COLORS[theme.name]
    if channel in colors:
        return colors[channel]
    number = list(channels).index(channel) if channel in channels else 0
    return list(colors.values())[number % 3]
