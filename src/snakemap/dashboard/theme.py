"""Colors, by day and by night, and the color maps of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CHANNEL_COLORS", "DARK", "LIGHT", "NO_LOGARITHM", "THEMES", "Theme", "channel_color", "channel_hue"]


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

NO_LOGARITHM = {"dark": "#76808f", "light": "#98a1ae"}
"""Pixels that are 0 or negative, on a log scale: neither a color of any scale nor that of what is not visited yet."""

CHANNEL_COLORS = {
    "dark": {"red": "#ff6b61", "green": "#43c463", "blue": "#5b9dff", "total": "#f2c14e"},
    "light": {"red": "#c8281e", "green": "#167a32", "blue": "#1e56c8", "total": "#8a6100"},
}


def channel_color(channel: str, theme: Theme, *, channels: Sequence[str] = ()) -> str:
    """The color of a channel's title, frame and outline, readable on the theme's background."""
    return CHANNEL_COLORS[theme.name][channel_hue(channel, channels=channels)]


def channel_hue(channel: str, *, channels: Sequence[str] = ()) -> str:
    """The key of a channel's color in every theme; a page has it as the variable ``--sm-channel-KEY``.

    >>> channel_hue("total"), channel_hue("i0", channels=["it", "i0"])
    ('total', 'green')
    """
    hues = CHANNEL_COLORS["dark"]
    if channel in hues:
        return channel
    number = list(channels).index(channel) if channel in channels else 0
    return list(hues)[number % 3]
