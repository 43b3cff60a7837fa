"""The default channels of a run with their colors, and spare colors for channels of other names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CHANNELS", "DEFAULT_CHANNELS", "HUES", "REGIONS", "TOTAL", "Channel", "hue_of", "palette_name"]

TOTAL = "total"
"""The channel that is the sum over the whole frame."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A default channel.

    Attributes:
        name: like ``"red"``.
        palette: of its map, by its name in colorcet; from black on.
        dark: its color on a dark page, as CSS hex.
        light: its color on a light page, as CSS hex.
        davidia: the color map of its image in Davidia.
    """

    name: str
    palette: str
    dark: str
    light: str
    davidia: str


CHANNELS = (
    # the regions of the detector first; the sum over the whole frame is the last one
    Channel("red", palette="CET_L13", dark="#ff6b61", light="#c8281e", davidia="Reds"),
    Channel("green", palette="CET_L14", dark="#43c463", light="#167a32", davidia="Greens"),
    Channel("blue", palette="CET_L15", dark="#5b9dff", light="#1e56c8", davidia="Blues"),
    Channel(TOTAL, palette="fire", dark="#f2c14e", light="#8a6100", davidia="Viridis"),
)

SPARE_PALETTES = ("CET_L8", "CET_L6", "CET_L9", "CET_L16", "CET_L5", "CET_L7", "CET_L4", "CET_L2")
"""Palettes for channels of other names, by their number."""

SPARE_HUES = {
    "cyan": ("#4fc9dc", "#0b6f80"),
    "magenta": ("#ec8fe6", "#a3259b"),
    "violet": ("#bba6ff", "#6b3fd0"),
    "lime": ("#b9d655", "#56680a"),
    "orange": ("#ff9a3d", "#a34700"),
}
"""Colors on a dark and on a light page for channels of other names, after those of the regions."""

DEFAULT_CHANNELS = tuple(channel.name for channel in CHANNELS)
REGIONS = DEFAULT_CHANNELS[:-1]
"""Names of the default regions, used if neither run nor settings define any."""

HUES: dict[str, dict[str, str]] = {
    "dark": {one.name: one.dark for one in CHANNELS} | {hue: dark for hue, (dark, _) in SPARE_HUES.items()},
    "light": {one.name: one.light for one in CHANNELS} | {hue: light for hue, (_, light) in SPARE_HUES.items()},
}
"""The colors of channels by theme and by key, as CSS hex."""

PALETTES = {channel.name: channel.palette for channel in CHANNELS}


def palette_name(channel: str, number: int = 0) -> str:
    """Return the name in colorcet of a channel's palette.

    Args:
        channel: its name.
        number: its number among the channels; selects the palette of a name that is not in the table.

    >>> palette_name("total"), palette_name("i0"), palette_name("it", 1)
    ('fire', 'CET_L8', 'CET_L6')
    """
    return PALETTES.get(channel, SPARE_PALETTES[number % len(SPARE_PALETTES)])


def hue_of(channel: str, *, channels: Sequence[str] = ()) -> str:
    """Return the key of a channel's color; a name that is not in the table gets a key that no other channel has.

    >>> hue_of("total"), hue_of("i0", channels=["it", "i0"])
    ('total', 'green')
    >>> hue_of("spot", channels=["red", "green", "blue", "spot", "total"])
    'cyan'
    """
    if channel in HUES["dark"]:
        return channel
    others = [name for name in channels if name not in HUES["dark"]]
    free = [hue for hue in (*REGIONS, *SPARE_HUES) if hue not in channels] or list(REGIONS)
    return free[others.index(channel) % len(free) if channel in others else 0]
