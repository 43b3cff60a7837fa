"""Displays of a dataset: which ones suit it, what to read for them, and how numbers are drawn."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "COMPLEX_PARTS",
    "LIMITS",
    "color_levels",
    "color_limits",
    "displays_of",
    "envelope",
    "image_window",
    "leading",
    "limits_refusal",
    "line_step",
    "part_of",
    "table_window",
]

COMPLEX_PARTS = ("amplitude", "phase", "real part", "imaginary part")
LIMITS = ("1 % to 99 %", "full range", "by hand")

ELEMENTS_MAX = 4_000_000
"""Maximum pixels of an image that are read; of larger ones every second, third, ... is read."""

POINTS_MAX = 1_000_000
"""Maximum points of a line that are read, in the same way."""

COLORS = (3, 4)
SAMPLE = 500_000


def displays_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the displays for a dataset, the best one first.

    Args:
        about: its metadata from :meth:`snakemap.hdf5.inspector.FileInspector.about`.

    Returns:
        Some of ``scalar``, ``line``, ``image``, ``color image``, ``table``; ``nothing`` if it has no values.

    >>> displays_of({"shape": [5, 12, 20], "values": "number", "dtype": "uint8", "interpretation": ""})
    ('image', 'line', 'table')
    >>> displays_of({"shape": [4, 12, 20, 3], "values": "number", "dtype": "uint8", "interpretation": ""})
    ('color image', 'image', 'line', 'table')
    """
    shape, values = about["shape"], about["values"]
    if shape is None or values == "none":
        return ("nothing",)
    if not shape:
        return ("scalar",)
    if 0 in shape:
        return ("nothing",)
    if values not in ("number", "complex", "bool", "enum"):
        return ("table",)
    if about["interpretation"] in ("spectrum", "scaler") or len(shape) == 1 or (len(shape) == 2 and min(shape) == 1):
        return ("line", "table")
    shown: tuple[str, ...] = ("image", "line", "table")
    rgb = "rgb" in about["interpretation"]
    small = about["dtype"].startswith(("uint8", "uint16")) and len(shape) > 2 and min(shape[-3:-1]) > max(COLORS)
    if values == "number" and len(shape) > 2 and shape[-1] in COLORS and (rgb or small):
        return ("color image", *shown)
    return shown


def leading(display: str, shape: Sequence[int]) -> int:
    """Return the number of dimensions to select by sliders.

    >>> leading("image", (5, 12, 20)), leading("color image", (5, 12, 20, 3)), leading("line", (12, 20))
    (1, 1, 1)
    """
    used = {"image": 2, "color image": 3, "line": 1, "table": 2}.get(display, 0)
    return max(0, len(shape) - used) if used else 0


def image_window(
    shape: tuple[int, int], view: tuple[float, float, float, float] | None = None, *, most: int = ELEMENTS_MAX
) -> tuple[list[int], list[int]]:
    """Return the part of an image to read: start, stop and step of rows and columns.

    Args:
        shape: rows and columns of the whole image.
        view: first and last row, first and last column on the screen; None: all.
        most: maximum pixels.

    >>> image_window((1000, 2000))
    ([0, 1000, 1], [0, 2000, 1])
    >>> image_window((8000, 8000), (100.5, 300.0, -50.0, 250.0))
    ([100, 300, 1], [0, 250, 1])
    """
    sides: list[list[int]] = []
    bounds = (0.0, float(shape[0]), 0.0, float(shape[1])) if view is None else view
    for size, low, high in zip(shape, bounds[::2], bounds[1::2], strict=True):
        start = min(max(0, math.floor(low)), size - 1)
        sides.append([start, max(start + 1, min(size, math.ceil(high))), 1])
    sizes = [stop - start for start, stop, _ in sides]
    # the smallest step within the limit
    step = 1 + bisect_left(range(1, max(sizes)), -most, key=lambda step: -math.prod(-(-size // step) for size in sizes))
    return [sides[0][0], sides[0][1], step], [sides[1][0], sides[1][1], step]


def line_step(length: int, *, most: int = POINTS_MAX) -> int:
    """Return the step between the points of a line to read."""
    return max(1, math.ceil(length / most))


def table_window(shape: Sequence[int], row: int, column: int, *, rows: int, columns: int) -> list[list[int]]:
    """Return start, stop and step of the visible part of a table, for one or two dimensions.

    >>> table_window((1000, 50), 200, 40, rows=100, columns=20)
    [[200, 300, 1], [40, 50, 1]]
    """
    sides = [[row, min(row + rows, shape[0]), 1]]
    if len(shape) > 1:
        sides.append([column, min(column + columns, shape[1]), 1])
    return sides


def part_of(values: npt.NDArray[Any], part: str) -> npt.NDArray[Any]:
    """Return numbers to draw; of complex ones a part, the phase in degrees."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind != "c":
        return values
    if part == "phase":
        return np.degrees(np.angle(values))
    if part == "real part":
        return np.real(values)
    return np.imag(values) if part == "imaginary part" else np.abs(values)


def color_limits(values: npt.NDArray[Any], limits: str, *, log: bool = False) -> tuple[float, float]:
    """Return the color limits; from a sample of many values.

    >>> color_limits(np.array([0.0, 1.0, np.nan, 10.0]), "full range")
    (0.0, 10.0)
    >>> color_limits(np.array([0.0, 1.0, 10.0]), "full range", log=True)
    (1.0, 10.0)
    """
    flat = values.ravel()
    flat = flat[:: max(1, flat.size // SAMPLE)] if limits != "full range" else flat
    finite = flat[np.isfinite(flat)]
    if log:
        finite = finite[finite > 0]
    if not finite.size:
        return (1.0, 10.0) if log else (0.0, 1.0)
    if limits == "full range":
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = (float(edge) for edge in np.percentile(finite, (1, 99)))
        if low == high:  # a few bright pixels on a dark background
            low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def limits_refusal(low: float | None, high: float | None, *, log: bool) -> str:
    """Return why typed color limits cannot be used; empty if they can.

    >>> limits_refusal(0.0, 5.0, log=False), limits_refusal(0.0, 5.0, log=True)
    ('', 'on a log scale the lower color limit must be above 0')
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "both color limits must be numbers"
    if low >= high:
        return "the upper color limit must be above the lower one"
    return "on a log scale the lower color limit must be above 0" if log and low <= 0 else ""


def envelope(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], *, start: float, stop: float, bins: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a line reduced for the screen: minimum and maximum of each pixel column.

    Args:
        x: (points,), rising.
        y: (points,).
        start: left end of the screen.
        stop: right end of the screen.
        bins: pixel columns; lines of fewer points stay unchanged.
    """
    first = max(0, int(np.searchsorted(x, start)) - 1)
    last = min(len(x), int(np.searchsorted(x, stop, side="right")) + 1)
    x, y = x[first:last], y[first:last]
    if len(x) <= 2 * bins:
        return x, y
    whole = len(x) // bins * bins
    rest_x, rest_y = x[whole:], y[whole:]
    columns = y[:whole].reshape(bins, -1)
    low, high = np.nanmin(_filled(columns, np.inf), axis=1), np.nanmax(_filled(columns, -np.inf), axis=1)
    empty = ~np.isfinite(columns).any(axis=1)
    low[empty] = high[empty] = np.nan
    centers = x[:whole].reshape(bins, -1).mean(axis=1)
    both = np.stack([low, high], axis=1).ravel()
    return np.concatenate([np.repeat(centers, 2), rest_x]), np.concatenate([both, rest_y])


def _filled(values: npt.NDArray[np.float64], by: float) -> npt.NDArray[np.float64]:
    return np.where(np.isnan(values), by, values)


def color_levels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a color image (rows, columns, 3 or 4) with opacity; bytes unchanged, others scaled from 0 to the
    maximum."""
    opaque = np.full((*values.shape[:2], 4), 255, np.uint8)
    if values.dtype == np.uint8:
        opaque[..., : values.shape[2]] = values
    else:
        top = float(np.nanmax(np.abs(values[..., :3]), initial=0)) or 1.0
        scaled = np.nan_to_num(values[..., :3].astype(np.float64)) * (255 / top)
        opaque[..., :3] = np.clip(scaled, 0, 255).astype(np.uint8)
    return opaque
