"""Three patterns of the simulated sample, one for each region of the detector.

Each is a function of the position of the beam: `x` from 0 (left) to 1 (right) and `y` from 0 (bottom) to 1 (top),
    arrays of
one shape. It returns the brightness, from 0 (dark) to 1. They have no resolution: scans of 10x10 and of 1000x1000 show
the same sample. Mirrored or rotated patterns are obvious: the snake's head is at the top right, the ring at the bottom
left, and the letters say UP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snakemap.core.channels import REGIONS

__all__ = ["INSTRUMENT_FRAME", "INSTRUMENT_ROIS", "PICTURES", "Picture", "Rect", "grains", "patterns_of", "snake", "up"]

Floats: TypeAlias = npt.NDArray[np.float64]
Picture: TypeAlias = Callable[[Floats, Floats], Floats]
Rect: TypeAlias = tuple[int, int, int, int]
Point: TypeAlias = tuple[float, float]

EDGE = 0.012
"""Width of the soft border of a shape, as a fraction of the pattern's width."""

SNAKE_ROWS = (0.19, 0.48, 0.77)
SNAKE_LEFT, SNAKE_RIGHT = 0.26, 0.72
SNAKE_TAIL, SNAKE_HEAD = 0.07, 0.79

GRAINS: tuple[tuple[float, float, float, float, float, float], ...] = (
    # center x, center y, half width, half height, tilt in degrees, brightness
    (0.62, 0.82, 0.100, 0.055, 25.0, 1.00),
    (0.80, 0.68, 0.060, 0.085, -20.0, 0.95),
    (0.88, 0.87, 0.050, 0.045, 0.0, 0.85),
    (0.42, 0.90, 0.065, 0.035, -10.0, 0.75),
    (0.70, 0.55, 0.040, 0.040, 0.0, 0.70),
    (0.90, 0.47, 0.035, 0.070, 15.0, 0.80),
    (0.16, 0.86, 0.055, 0.075, 35.0, 0.60),
    (0.83, 0.24, 0.075, 0.050, -40.0, 1.00),
    (0.93, 0.10, 0.045, 0.045, 0.0, 0.60),
    (0.33, 0.31, 0.050, 0.050, 0.0, 1.00),
)
RING_CENTER: Point = (0.33, 0.31)
RINGS: tuple[tuple[float, float, float], ...] = ((0.23, 0.024, 0.95), (0.135, 0.016, 0.55), (0.31, 0.013, 0.35))
"""Radius, thickness and brightness of each ring."""

PEN, ARROW_PEN = 0.043, 0.036
LETTERS: tuple[tuple[Point, ...], ...] = (
    ((0.09, 0.82), (0.09, 0.32)),
    ((0.28, 0.82), (0.28, 0.32)),
    ((0.42, 0.82), (0.42, 0.22)),
    ((0.42, 0.82), (0.51, 0.82)),
    ((0.42, 0.56), (0.51, 0.56)),
)
U_BOWL, P_BOWL = ((0.185, 0.32), 0.095), ((0.51, 0.69), 0.13)
ARROW: tuple[tuple[Point, ...], ...] = (((0.845, 0.215), (0.845, 0.80)), ((0.745, 0.64), (0.845, 0.82), (0.945, 0.64)))


def snake(x: Floats, y: Floats) -> Floats:
    """Return a snake along the path of the stage: its tail at the bottom left, its head at the top right.

    >>> dark, head = snake(np.array([0.02, 0.79]), np.array([0.98, 0.77]))
    >>> bool(dark < 0.1 < 0.7 < head)
    True
    """
    distance, along = _snake_spine(x, y)
    width = 0.022 + 0.050 * np.clip(along / 0.22, 0.0, 1.0) ** 0.7
    body = _inside(distance - width)
    round_back = np.sqrt(np.clip(1.0 - (distance / (width + 1e-9)) ** 2, 0.0, 1.0))
    scales = 0.5 + 0.5 * np.cos(2 * np.pi * (along * 34.0 + 0.6 * distance / width))
    skin = 0.30 + 0.35 * along + 0.30 * round_back * (0.35 + 0.65 * scales)
    head = _inside(_ellipse(x, y, (SNAKE_HEAD, SNAKE_ROWS[2] + 0.005), (0.105, 0.088)) * 0.09)
    tongue = _stroke(x, y, ((0.86, 0.775), (0.925, 0.79), (0.975, 0.84)), 0.008)
    tongue = np.maximum(tongue, _stroke(x, y, ((0.925, 0.79), (0.985, 0.775)), 0.008))
    eye = _inside(np.hypot(x - 0.805, y - 0.81) - 0.022)
    ground = 0.05 + 0.04 * np.sin(9.0 * x + 4.0 * y) ** 2
    picture = np.maximum(ground, body * skin)
    picture = np.maximum(picture, head * (0.80 + 0.2 * _bump(x, y, (0.77, 0.79), 0.06)))
    picture = np.maximum(picture, 0.75 * tongue)
    return np.clip(picture * (1.0 - 0.93 * eye), 0.0, 1.0)


def grains(x: Floats, y: Floats) -> Floats:
    """Return bright grains of a powder, dense at the top right, and the rings of one large crystal at the bottom left.

    >>> ring, gap = grains(np.array([0.56, 0.75]), np.array([0.31, 0.40]))
    >>> bool(gap < 0.2 < 0.5 < ring)
    True
    """
    picture = 0.06 + 0.05 * x * y
    for cx, cy, half_width, half_height, tilt, brightness in GRAINS:
        picture = picture + brightness * np.exp(-0.5 * _ellipse_square(x, y, (cx, cy), (half_width, half_height), tilt))
    radius = np.hypot(x - RING_CENTER[0], y - RING_CENTER[1])
    angle = np.arctan2(y - RING_CENTER[1], x - RING_CENTER[0])
    for ring, thickness, brightness in RINGS:
        speckle = 0.8 + 0.2 * np.cos(7.0 * angle + 40.0 * ring)
        picture = picture + brightness * speckle * np.exp(-0.5 * ((radius - ring) / thickness) ** 2)
    return np.clip(picture, 0.0, 1.0)


def up(x: Floats, y: Floats) -> Floats:
    """Return the letters UP and an arrow that points up, brighter towards the right.

    >>> stem, bowl = up(np.array([0.42, 0.60]), np.array([0.30, 0.30]))
    >>> bool(bowl < 0.2 < 0.5 < stem)
    True
    """
    letters = np.maximum(_half_ring(x, y, *U_BOWL, PEN, "down"), _half_ring(x, y, *P_BOWL, PEN, "right"))
    for points in LETTERS:
        letters = np.maximum(letters, _stroke(x, y, points, PEN))
    arrow = np.maximum(_stroke(x, y, ARROW[0], ARROW_PEN), _stroke(x, y, ARROW[1], ARROW_PEN))
    ground = 0.04 + 0.07 * y**2
    ink = 0.58 + 0.3 * x + 0.1 * np.sin(18.0 * (x + y))
    return np.clip(np.maximum(ground, np.maximum(letters * ink, arrow)), 0.0, 1.0)


INSTRUMENT_FRAME = (1216, 1936)
"""Rows and columns of a frame of the real instrument."""

OWN_PATTERNS: dict[str, tuple[Picture, Rect]] = {
    "red": (snake, (610, 760, 95, 245)),
    "green": (grains, (605, 755, 880, 1030)),
    "blue": (up, (600, 750, 1665, 1815)),
}
"""Patterns of regions of the detector, and their rectangles `(y0, y1, x0, x1)` in the instrument's frame."""


def patterns_of(regions: Sequence[str]) -> dict[str, tuple[Picture, Rect]]:
    """Return a pattern and a rectangle for each region; one without its own sees the pattern of another, below it.

    >>> [rectangle for _, rectangle in patterns_of(["red", "spot", "edge"]).values()]
    [(610, 760, 95, 245), (900, 1050, 95, 245), (900, 1050, 295, 445)]
    """
    pictures = [picture for picture, _ in OWN_PATTERNS.values()]
    found = dict[str, tuple[Picture, Rect]]()
    for name in regions:
        number = len(found.keys() - OWN_PATTERNS.keys())
        left = 95 + 200 * number
        found[name] = OWN_PATTERNS.get(name) or (pictures[number % len(pictures)], (900, 1050, left, left + 150))
    return found


PATTERNS = patterns_of(REGIONS)

PICTURES = {name: picture for name, (picture, _) in PATTERNS.items()}
INSTRUMENT_ROIS = {name: rectangle for name, (_, rectangle) in PATTERNS.items()}


def _inside(signed_distance: Floats) -> Floats:
    """Return 1 where the distance to a shape's border is negative (inside), 0 outside, soft between."""
    return np.clip(0.5 - signed_distance / (2 * EDGE), 0.0, 1.0)


def _bump(x: Floats, y: Floats, center: Point, width: float) -> Floats:
    return np.exp(-0.5 * ((x - center[0]) ** 2 + (y - center[1]) ** 2) / width**2)


def _ellipse(x: Floats, y: Floats, center: Point, half_axes: Point) -> Floats:
    """Return 0 on the ellipse's border, -1 at its center."""
    return np.hypot((x - center[0]) / half_axes[0], (y - center[1]) / half_axes[1]) - 1.0


def _ellipse_square(x: Floats, y: Floats, center: Point, half_axes: Point, tilt_deg: float) -> Floats:
    cos, sin = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    dx, dy = x - center[0], y - center[1]
    return ((cos * dx + sin * dy) / half_axes[0]) ** 2 + ((cos * dy - sin * dx) / half_axes[1]) ** 2


def _segment(x: Floats, y: Floats, start: Point, end: Point) -> tuple[Floats, Floats]:
    """Return the distance to a line segment, and the position (0 to 1) of the nearest point along it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy), along


def _stroke(x: Floats, y: Floats, points: Sequence[Point], half_width: float) -> Floats:
    """Return a line with round ends and corners through the points."""
    distances = [_segment(x, y, start, end)[0] for start, end in pairwise(points)]
    return _inside(np.minimum.reduce(distances) - half_width)


def _half_ring(x: Floats, y: Floats, center: Point, radius: float, half_width: float, side: str) -> Floats:
    """Return the lower (``"down"``) or the right half of a ring."""
    ring = _inside(np.abs(np.hypot(x - center[0], y - center[1]) - radius) - half_width)
    depth = y - center[1] if side == "down" else center[0] - x
    return ring * _inside(depth)


def _snake_spine(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the distance to the snake's spine, and the position on it: 0 at the tail, 1 at the head."""
    bottom, middle, top = SNAKE_ROWS
    radius = (middle - bottom) / 2
    turn = np.pi * radius
    parts: list[tuple[Floats, Floats, float]] = [
        (*_segment(x, y, (SNAKE_TAIL, bottom - 0.05), (SNAKE_RIGHT, bottom)), SNAKE_RIGHT - SNAKE_TAIL),
        (*_turn(x, y, (SNAKE_RIGHT, (bottom + middle) / 2), radius, 1.0), turn),
        (*_segment(x, y, (SNAKE_RIGHT, middle), (SNAKE_LEFT, middle)), SNAKE_RIGHT - SNAKE_LEFT),
        (*_turn(x, y, (SNAKE_LEFT, (middle + top) / 2), radius, -1.0), turn),
        (*_segment(x, y, (SNAKE_LEFT, top), (SNAKE_HEAD, top)), SNAKE_HEAD - SNAKE_LEFT),
    ]
    lengths = np.array([length for _, _, length in parts])
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    distances = np.stack([distance for distance, _, _ in parts])
    places = np.stack([start + part[1] * part[2] for start, part in zip(starts, parts, strict=True)]) / lengths.sum()
    nearest = distances.argmin(axis=0)[np.newaxis]
    return np.take_along_axis(distances, nearest, 0)[0], np.take_along_axis(places, nearest, 0)[0]


def _turn(x: Floats, y: Floats, center: Point, radius: float, side: float) -> tuple[Floats, Floats]:
    """Return the distance to an ascending half circle that bulges right (side 1) or left (-1), and the position along
    it."""
    across, climb = side * (x - center[0]), y - center[1]
    angle = np.arctan2(climb, np.maximum(across, 0.0))
    distance = np.where(
        across >= 0,
        np.abs(np.hypot(across, climb) - radius),
        np.hypot(across, np.abs(climb) - radius),
    )
    return distance, np.clip(angle / np.pi + 0.5, 0.0, 1.0)
