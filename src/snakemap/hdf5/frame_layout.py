"""The meaning of the dimensions of a dataset: rows per point, and the position of colors.

Descriptors are ambiguous: ``[3, 128, 96]`` is one frame of three colors, or three frames of one color. The dimensions
    of
the dataset decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from snakemap.errors import FrameError

__all__ = ["COLORS", "FrameLayout", "layout_of", "scalar_rows", "spectra_layout"]

COLORS = 3


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """The layout of a stack of frames in its file.

    Attributes:
        rows_per_point: rows of the dataset that make one point.
        frame_shape: rows and columns of a frame in detector pixels.
        colors: position of colors in a row: none; ``"first"``, as (3, h, w); ``"last"``, as (h, w, 3). With
            ``"planes"`` a row holds several frames, as (frames, h, w). With ``"spectra"`` there are no frames: all
            values of a point are summed, and ``frame_shape`` is spectra per point and values in each.
    """

    rows_per_point: int
    frame_shape: tuple[int, int]
    colors: Literal["", "first", "last", "planes", "spectra"] = ""


def layout_of(
    shape: Sequence[int] | None,
    *,
    frames_per_point: int = 1,
    point_shape: Sequence[int] = (),
    frame_shape: tuple[int, int] | None = None,
) -> FrameLayout:
    """Return the layout of a dataset.

    Args:
        shape: of the dataset; a row holds one frame or more.
        frames_per_point: from the descriptor.
        point_shape: shape of one point's data from the descriptor; empty if unknown.
        frame_shape: expected rows and columns; they decide if colors could be first or last.

    Raises:
        FrameError: if that is no stack of frames.

    >>> layout_of((20, 128, 96), frames_per_point=4, point_shape=(4, 128, 96))
    FrameLayout(rows_per_point=4, frame_shape=(128, 96), colors='')
    >>> layout_of((5, 3, 128, 96), frames_per_point=3, point_shape=(3, 128, 96))
    FrameLayout(rows_per_point=1, frame_shape=(128, 96), colors='first')
    >>> layout_of((5, 128, 96, 3), frames_per_point=2, point_shape=(2, 128, 96, 3))
    FrameLayout(rows_per_point=2, frame_shape=(128, 96), colors='last')
    """
    if shape is None or len(shape) not in (3, 4) or 0 in shape[1:]:
        raise FrameError(f"no stack of frames (frames, rows, columns): its shape is {shape and tuple(shape)}")
    row = tuple(shape[1:])
    rows_per_point = 1 if row == tuple(point_shape) else frames_per_point
    if len(row) == 2:
        return FrameLayout(rows_per_point, (row[0], row[1]))
    if row[2] == COLORS and (row[0] != COLORS or row[:2] == frame_shape):
        return FrameLayout(rows_per_point, (row[0], row[1]), "last")
    if row[0] == COLORS:
        return FrameLayout(rows_per_point, (row[1], row[2]), "first")
    if row == tuple(point_shape):
        return FrameLayout(1, (row[1], row[2]), "planes")
    raise FrameError(f"no stack of frames of one color or three: its shape is {tuple(shape)}")


def scalar_rows(shape: Sequence[int], *, frames_per_point: int, point_shape: Sequence[int] = ()) -> int:
    """Return the rows per point of a dataset of scalars: one if a row holds all values of a point.

    >>> scalar_rows((20,), frames_per_point=4), scalar_rows((5, 4), frames_per_point=4)
    (4, 1)
    >>> scalar_rows((8, 16), frames_per_point=32, point_shape=(2, 16))
    2
    """
    row = tuple(shape[1:])
    whole = row == tuple(point_shape) or math.prod(row) == frames_per_point
    if row and not whole and row == tuple(point_shape[-len(row) :]):
        return math.prod(point_shape[: -len(row)])
    return 1 if whole and row else frames_per_point


def spectra_layout(shape: Sequence[int], *, point_shape: Sequence[int] = ()) -> FrameLayout:
    """Return the layout of a dataset of spectra: one or several rows per point.

    Args:
        shape: of the dataset.
        point_shape: shape of one point's data from the descriptor; empty if unknown.

    Raises:
        FrameError: if its rows are not the expected spectra.

    >>> spectra_layout((8, 16), point_shape=(2, 16))
    FrameLayout(rows_per_point=2, frame_shape=(2, 16), colors='spectra')
    >>> spectra_layout((4, 2, 16), point_shape=(2, 16)).rows_per_point, spectra_layout((4, 32)).frame_shape
    (1, (1, 32))
    """
    row = tuple(shape[1:])
    point = tuple(point_shape) or (1, *row)
    values, promised = math.prod(row), math.prod(point)
    if not row or not values or promised % values or row[-1] != point[-1]:
        raise FrameError(f"no stack of spectra of {point[-1]:,} values: its shape is {tuple(shape)}")
    return FrameLayout(promised // values, (promised // point[-1], point[-1]), "spectra")
