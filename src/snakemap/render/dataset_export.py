"""Values of a display as a file for download."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.palettes import Cividis256
from PIL import Image

__all__ = ["FORMATS", "export_values"]

FORMATS: dict[str, tuple[str, ...]] = {
    "npy": ("image", "color image", "line", "table"),
    "csv": ("image", "line", "table", "scalar"),
    "png": ("image", "color image"),
    "tiff": ("image", "color image"),
}
"""The displays of each format."""

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def export_values(
    values: Any,
    form: str,
    *,
    heads: Sequence[str] = (),
    limits: tuple[float, float] = (0.0, 1.0),
    flipped: bool = False,
    log: bool = False,
) -> io.BytesIO:
    """Return values as a file.

    Args:
        values: an array, or nested lists of other values.
        form: one of ``FORMATS``.
        heads: names of columns.
        limits: lowest and highest color of a PNG.
        flipped: whether the first row is at the bottom of a PNG.
        log: whether the colors of a PNG are logarithmic.
    """
    file = io.BytesIO()
    if form == "npy":
        np.save(file, values if isinstance(values, np.ndarray) else np.array(_texts(values)), allow_pickle=False)
    elif form == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        if heads:
            writer.writerow([_harmless(head) for head in heads])
        writer.writerows(_rows(values))
        file.write(text.getvalue().encode("utf-8", "replace"))
    elif form == "tiff":
        _tiff(np.asarray(values)).save(file, "TIFF", compression="tiff_deflate")
    else:
        _png(np.asarray(values), limits, log=log, flipped=flipped).save(file, "PNG")
    file.seek(0)
    return file


def _rows(values: Any) -> list[list[Any]]:
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(listed, list):
        listed = [listed]
    return [[_harmless(one) for one in row] if isinstance(row, list) else [_harmless(row)] for row in listed]


def _harmless(value: Any) -> Any:
    """Return text that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return f"'{value}"
    return value


def _texts(values: Any) -> Any:
    if not isinstance(values, list):
        return [str(values)]
    rows = [" ".join(str(one) for one in row) if isinstance(row, list) else str(row) for row in values]
    return rows


def _tiff(values: npt.NDArray[Any]) -> Image.Image:
    """Return the numbers in the smallest pixel type of TIFF for them."""
    if values.ndim == 3:
        return Image.fromarray(_bytes(values))
    if values.dtype in (np.uint8, np.uint16):
        return Image.fromarray(values)
    if values.dtype.kind in "biu" and values.size and abs(values.astype(np.float64)).max() < 2**31:
        return Image.fromarray(values.astype(np.int32))
    return Image.fromarray(values.astype(np.float32))


def _png(values: npt.NDArray[Any], limits: tuple[float, float], *, log: bool, flipped: bool) -> Image.Image:
    """Return the image as on the screen, one pixel for each value."""
    if values.ndim == 3:
        colored = _bytes(values)
    else:
        low, high = limits
        numbers = values.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            if log:
                low, high, numbers = np.log(max(low, 1e-300)), np.log(max(high, 1e-300)), np.log(numbers)
            share = np.clip((numbers - low) / ((high - low) or 1.0), 0, 1)
        palette = np.array([[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in Cividis256], np.uint8)
        colored = np.dstack([palette[(np.nan_to_num(share) * 255).astype(int)], np.where(np.isnan(values), 0, 255)])
    return Image.fromarray((colored[::-1] if flipped else colored).astype(np.uint8))


def _bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    top = float(np.nanmax(values, initial=0)) or 1.0
    return np.clip(np.nan_to_num(values.astype(np.float64)) * (255 / top), 0, 255).astype(np.uint8)
