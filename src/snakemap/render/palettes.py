"""The palettes of the channels' maps."""

from __future__ import annotations

from functools import cache

import colorcet

from snakemap.core.channels import palette_name

__all__ = ["BY_CHANNEL", "COLORS", "DIVERGING", "palette"]

BY_CHANNEL = "by channel"
INVERTED = " inverted"
PALETTES = {
    "gray": "CET_L1",
    "fire": "fire",
    "blue-magenta-yellow": "CET_L8",
    "blue-green-yellow": "bgy",
    "color-blind": "CET_CBL2",
}
"""Perceptually uniform palettes of colorcet with rising lightness; the last is for the color-blind."""

COLORS = [BY_CHANNEL, *PALETTES, *(f"{name}{INVERTED}" for name in (BY_CHANNEL, *PALETTES))]
"""Choices of the user: the hue of each channel, or one palette for all; each normal or inverted."""


DIVERGING: list[str] = list(colorcet.palette["CET_D1A"])
"""256 perceptually uniform colors for differences: blue below zero, white at zero, red above."""


@cache
def palette(channel: str, number: int = 0, colors: str = BY_CHANNEL) -> list[str]:
    """Return 256 perceptually uniform colors for the map of a channel; read-only.

    Args:
        channel: its name.
        number: its number among the channels; selects the palette of a name that is not in the table.
        colors: one of :data:`COLORS`.
    """
    name = colors.removesuffix(INVERTED)
    found = list(colorcet.palette[PALETTES.get(name) or palette_name(channel, number)])
    return found[::-1] if colors.endswith(INVERTED) else found
