"""Tests of the table of channels: as many as come have colors of their own."""

from __future__ import annotations

import itertools

import pytest

from snakemap.core.channels import CHANNELS, DEFAULT_CHANNELS, HUES, REGIONS, TOTAL, hue_of, palette_name
from snakemap.dashboard.theme import THEMES, Theme, channel_color
from snakemap.render.palettes import COLORS, palette

FIVE = ("red", "green", "blue", "spot", TOTAL)


def test_the_total_is_the_last_channel_and_no_region() -> None:
    assert (*REGIONS, TOTAL) == DEFAULT_CHANNELS
    assert len({channel.name for channel in CHANNELS}) == len(CHANNELS)


@pytest.mark.parametrize("channels", [FIVE, ("a", "b", "c", "d", "e"), ("spot", "red", "a", "b", "c", "d", TOTAL)])
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_five_channels_and_more_have_as_many_colors_and_palettes(channels: tuple[str, ...], theme: Theme) -> None:
    assert len({channel_color(name, theme, channels=channels) for name in channels}) == len(channels)
    assert len({palette_name(name, number) for number, name in enumerate(channels)}) == len(channels)


def test_every_theme_has_every_color() -> None:
    assert HUES.keys() == THEMES.keys()
    assert HUES["dark"].keys() == HUES["light"].keys()


def test_up_to_three_channels_of_other_names_have_the_colors_of_the_regions() -> None:
    assert [hue_of(name, channels=["x", "y", "z"]) for name in "xyz"] == ["red", "green", "blue"]


def test_with_more_channels_than_colors_every_one_has_a_color_still() -> None:
    names = [f"channel {number}" for number in range(40)]
    assert {hue_of(name, channels=names) for name in names} <= HUES["dark"].keys()
    assert hue_of("unknown") in HUES["dark"]


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("channel", [*DEFAULT_CHANNELS, "other"])
def test_every_palette_runs_from_dark_to_bright(channel: str, number: int) -> None:
    lightness = [brightness(color) for color in palette(channel, number)]
    assert lightness[0] < 0.04
    assert lightness[-1] > 0.13
    assert all(after >= before - 1e-4 for before, after in itertools.pairwise(lightness))


@pytest.mark.parametrize("colors", COLORS)
def test_every_choice_of_colors_is_even_and_an_inverted_one_is_its_mirror(colors: str) -> None:
    lightness = [brightness(color) for color in palette("red", 0, colors)]
    rises = itertools.pairwise(lightness[::-1] if colors.endswith("inverted") else lightness)
    assert all(after >= before - 2e-4 for before, after in rises)
    plain = colors.removesuffix(" inverted")
    assert palette("red", 0, plain)[::-1] == palette("red", 0, f"{plain} inverted")


def brightness(color: str) -> float:
    """Return the relative luminance of a CSS hex color, as in WCAG 2."""
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
