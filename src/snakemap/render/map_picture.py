"""The maps of a run as a picture with axes and color bars, for a paper or a logbook.

::

    title
    ┌ name ┐ ┌ bar    ┌ name ┐ ┌ bar
    │ map  │ │        │ map  │ │
    └──────┘ └        └──────┘ └
      axis              axis
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from snakemap.core.raster import Axis, Raster
from snakemap.render.palettes import palette

__all__ = ["map_picture", "ticks"]

SIDE = 480
"""Pixels of the longer side of a map."""

SHORTEST = 60
"""Pixels of the shorter side; a map that is narrower is stretched."""

LEFT, RIGHT, TOP, BOTTOM, HEAD = 86, 108, 28, 50, 34
"""Pixels around a map for labels and color bar, and above all maps for the title."""

BAR, LETTERS, TICKS = 14, 13, 5
BLACK, GRAY, WHITE, BLANK = (0, 0, 0), (110, 110, 110), (255, 255, 255), (226, 228, 232)
NAME_MAX = 48

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def map_picture(
    raster: Raster,
    channels: Sequence[str],
    grids: npt.NDArray[np.float64],
    *,
    title: str,
    units: Mapping[str, str],
) -> bytes:
    """Return maps as a PNG; meant for a thread.

    Distances are true where both axes have the same unit, else cells are square. Colors go from zero to the maximum of
    each channel, or from minimum to maximum where values are negative.

    Args:
        raster: of the grids, in scan order; without a path.
        channels: their names.
        grids: (channels, rows, columns); NaN where blank, which is drawn in gray.
        title: over all maps.
        units: of the channels, by name.
    """
    width, height = _size(raster)
    columns = 1 if len(channels) == 1 or width > 2.5 * height else 2
    rows = -(-len(channels) // columns)
    across, down = width + LEFT + RIGHT, height + TOP + BOTTOM
    picture = Image.new("RGB", (columns * across, HEAD + rows * down), WHITE)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(LETTERS)
    draw.text((LEFT, 10), _short(title, 2 * NAME_MAX), BLACK, ImageFont.load_default(LETTERS + 3))
    rising = grids[:, :: -1 if raster.slow.decreases else 1, :: -1 if raster.fast.decreases else 1]
    for number, (name, grid) in enumerate(zip(channels, rising, strict=True)):
        x, y = (number % columns) * across + LEFT, HEAD + (number // columns) * down + TOP
        limits = _limits(grid)
        colors = np.array([[int(one[k : k + 2], 16) for k in (1, 3, 5)] for one in palette(name, number)], np.uint8)
        picture.paste(_colored(grid, colors, limits).resize((width, height), Image.Resampling.NEAREST), (x, y))
        strip = Image.fromarray(colors[::-1, None]).resize((BAR, height))
        picture.paste(strip, (x + width + 10, y))
        unit = units.get(name, "")
        draw.text((x, y - 20), _short(f"{name} ({unit})" if unit else name, NAME_MAX), BLACK, font)
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=GRAY)
        _label(draw, raster, (x, y, width, height), font)
        _scale(draw, (x + width + 10 + BAR, y, height), limits, font)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=False)
    return file.getvalue()


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Return round numbers between two values, some ``count`` of them.

    >>> ticks(0, 10), ticks(-2.02, 0.97)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5])
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(one for one in (1, 2, 5, 10) if one * power >= 0.8 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def _size(raster: Raster) -> tuple[int, int]:
    """Return width and height of a map in pixels."""
    (bottom, top), (left, right) = raster.extents
    wide, high = float(raster.columns), float(raster.rows)
    if raster.fast.unit == raster.slow.unit and raster.fast.known and raster.slow.known:
        wide, high = abs(right - left), abs(top - bottom)
    scale = SIDE / max(wide, high)
    return max(SHORTEST, round(wide * scale)), max(SHORTEST, round(high * scale))


def _limits(grid: npt.NDArray[np.float64]) -> tuple[float, float]:
    finite = grid[np.isfinite(grid)]
    if not finite.size:
        return 0.0, 1.0
    low, high = min(0.0, float(finite.min())), float(finite.max())
    return low, high if high > low else low + 1.0


def _colored(grid: npt.NDArray[np.float64], colors: npt.NDArray[np.uint8], limits: tuple[float, float]) -> Image.Image:
    """Return the cells in their colors, the first row at the bottom."""
    low, high = limits
    finite = np.isfinite(grid)
    share = np.clip((np.where(finite, grid, low) - low) / (high - low), 0, 1)
    cells = colors[(share * 255).astype(np.uint8)]
    cells[~finite] = BLANK
    return Image.fromarray(np.ascontiguousarray(cells[::-1]))


def _label(draw: ImageDraw.ImageDraw, raster: Raster, box: tuple[int, int, int, int], font: Font) -> None:
    """Draw ticks and names of both axes."""
    x, y, width, height = box
    (bottom, top), (left, right) = raster.extents
    values = ticks(left, right, max(2, width // 90))
    for value in values:
        at = x + (value - left) / (right - left) * (width - 1)
        draw.line((at, y + height, at, y + height + 4), GRAY)
        draw.text((at, y + height + 6), f"{value:g}", GRAY, font, anchor="mt")
    values = ticks(bottom, top, max(2, height // 60))
    for value in values:
        at = y + height - 1 - (value - bottom) / (top - bottom) * (height - 1)
        draw.line((x - 5, at, x - 1, at), GRAY)
        draw.text((x - 8, at), f"{value:g}", GRAY, font, anchor="rm")
    draw.text((x + width / 2, y + height + 26), _named(raster.fast), BLACK, font, anchor="mt")
    name = _named(raster.slow)
    long = math.ceil(font.getlength(name)) + 2
    side = Image.new("L", (long, LETTERS + 6), 0)
    ImageDraw.Draw(side).text((1, 1), name, 255, font)
    turned = side.rotate(90, expand=True)
    draw.bitmap((x - LEFT + 12, y + (height - long) // 2), turned, BLACK)


def _scale(draw: ImageDraw.ImageDraw, place: tuple[int, int, int], limits: tuple[float, float], font: Font) -> None:
    """Draw the values beside a color bar."""
    x, y, height = place
    low, high = limits
    for value in ticks(low, high, max(2, height // 60)):
        at = y + height - 1 - (value - low) / (high - low) * (height - 1)
        draw.line((x, at, x + 4, at), GRAY)
        text = f"{value:,.0f}" if 1000 <= abs(value) < 1e8 else f"{value:g}"
        draw.text((x + 7, at), text, GRAY, font, anchor="lm")


def _named(axis: Axis) -> str:
    name = axis.label or axis.name
    return _short(name, NAME_MAX)


def _short(text: str, most: int) -> str:
    """Return a text in one line, of at most so many letters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"{line[: most - 1]}…" if len(line) > most else line
