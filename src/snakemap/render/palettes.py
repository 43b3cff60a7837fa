"""The palettes of the channels' maps."""

from __future__ import annotations

import colorcet

from snakemap.core.channels import palette_name

__all__ = ["palette"]


def palette(channel: str, number: int = 0) -> list[str]:
    """Return 256 colors, even to the eye, for the map of a channel.

    Args:
        channel: its name.
        number: its place among the channels, which chooses a palette for names that are not in the table.
    """
    return list(colorcet.palette[palette_name(channel, number)])
