"""The palettes of the channels' maps."""

from __future__ import annotations

from functools import cache

import colorcet

from snakemap.core.channels import palette_name

__all__ = ["BY_CHANNEL", "COLORS", "palette"]

BY_CHANNEL = "channel colors"
INVERTED = " inverted"
PALETTES = {
    "gray": "CET_L1",
    "fire": "fire",
    "blue-magenta-yellow": "CET_L8",
    "blue-green-yellow": "bgy",
    "color-blind": "CET_CBL2",
}
"""Palettes of colorcet that are even to the eye and rise in lightness; the last is for the color-blind."""

COLORS = [BY_CHANNEL, *PALETTES, *(f"{name}{INVERTED}" for name in (BY_CHANNEL, *PALETTES))]
"""What the user chooses from: the hue of each channel, or one palette for all; each as it is or inverted."""


@cache
def palette(channel: str, number: int = 0, colors: str = BY_CHANNEL) -> list[str]:
    """Return 256 colors, even to the eye, for the map of a channel; not to be changed.

    Args:
        channel: its name.
        number: its place among the channels, which chooses a palette for names that are not in the table.
        colors: one of :data:`COLORS`.
    """
    name = colors.removesuffix(INVERTED)
    found = list(colorcet.palette[PALETTES.get(name) or palette_name(channel, number)])
    return found[::-1] if colors.endswith(INVERTED) else found
