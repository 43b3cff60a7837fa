"""Edges of the cells of a line or an image along an axis, from the axis values of a file.

N values      centers: an edge lies halfway between neighbors, and half a step beyond the first and the last
N + 1 values  edges of N bins

centers    1     2        4      ->  edges  0.5  1.5   3    5
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Scale", "edges_of", "resampled", "stepped"]

Numbers = npt.NDArray[np.float64]

EVEN_SHARE = 1e-3
"""Maximum deviation of edges, in steps, for cells that are drawn equally wide."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """The cells along one axis of an image.

    Attributes:
        edges: (cells + 1,) in the unit of the axis; rising or falling.
        title: of the axis, with its unit; text, not markup.
        name: of the axis.
        unit: of the edges; empty if the file has none.
        valued: whether the edges are values of the file; False: they are numbers of cells.
    """

    edges: Numbers
    title: str
    name: str
    unit: str = ""
    valued: bool = True

    @classmethod
    def numbered(cls, count: int, title: str) -> Scale:
        """Return the scale of an axis without values: numbers of cells."""
        return cls(np.arange(count + 1, dtype=np.float64), title, title, valued=False)

    @property
    def falling(self) -> bool:
        """Whether the first cell has the highest values."""
        return bool(self.edges[0] > self.edges[-1])

    @property
    def even(self) -> bool:
        """Whether all cells are equally wide."""
        return is_even(self.edges)

    def at(self, number: npt.ArrayLike) -> Numbers:
        """Return the values at cell numbers; 0 is the first edge.

        >>> Scale(np.array([0.5, 1.5, 3.0, 5.0]), "x", "x").at([0, 1.5, 3]).tolist()
        [0.5, 2.25, 5.0]
        """
        return np.interp(np.asarray(number, dtype=np.float64), np.arange(len(self.edges)), self.edges)

    def number(self, value: float) -> float:
        """Return the cell number at a value; beyond the ends the nearest one.

        >>> scale = Scale(np.array([5.0, 3.0, 1.5]), "x", "x")
        >>> scale.number(4.0), scale.number(1.5), scale.number(99.0)
        (0.5, 2.0, 0.0)
        """
        numbers = np.arange(len(self.edges), dtype=np.float64)
        step = -1 if self.falling else 1
        return float(np.interp(value, self.edges[::step], numbers[::step]))


def edges_of(values: npt.ArrayLike, count: int) -> Numbers | None:
    """Return the edges (count + 1,) of cells from the values of their axis; None if these do not fit.

    Args:
        values: (count,) centers, or (count + 1,) edges; rising or falling.
        count: of cells.

    >>> edges_of([1, 2, 4], 3), edges_of([4, 2, 1], 2), edges_of([1, 3, 2], 3), edges_of([7], 1)
    (array([0.5, 1.5, 3. , 5. ]), array([4., 2., 1.]), None, array([6.5, 7.5]))
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not count or len(numbers) not in (count, count + 1) or not np.isfinite(numbers).all():
        return None
    steps = np.diff(numbers)
    if len(steps) and not (np.all(steps > 0) or np.all(steps < 0)):
        return None
    if len(numbers) == count + 1:
        return numbers
    if count == 1:
        return np.array([numbers[0] - 0.5, numbers[0] + 0.5])
    return np.concatenate([[numbers[0] - steps[0] / 2], numbers[:-1] + steps / 2, [numbers[-1] + steps[-1] / 2]])


def is_even(edges: Numbers) -> bool:
    """Return whether cells are equally wide on a screen.

    >>> is_even(np.linspace(3, -1, 9)), is_even(np.array([0, 1, 2.1]))
    (True, False)
    """
    straight = np.linspace(edges[0], edges[-1], len(edges))
    return bool(np.abs(edges - straight).max() <= EVEN_SHARE * abs(edges[-1] - edges[0]) / (len(edges) - 1))


def resampled(edges: Numbers, low: float, high: float, pixels: int) -> tuple[npt.NDArray[np.intp], float, float]:
    """Return the cell under each pixel of a screen: uneven cells on equal pixels, with an error of at most one pixel.

    Args:
        edges: (cells + 1,), rising.
        low: begin of the screen.
        high: end of the screen.
        pixels: of the screen along the axis.

    Returns:
        Numbers of cells (pixels,), and the begin of the first pixel and the end of the last one: the visible part of
        the cells.

    >>> resampled(np.array([0.0, 1.0, 4.0]), -5, 5, 8)
    (array([0, 0, 1, 1, 1, 1, 1, 1]), 0.0, 4.0)
    """
    low, high = max(low, float(edges[0])), min(high, float(edges[-1]))
    if not low < high:
        low, high = float(edges[0]), float(edges[-1])
    centers = low + (np.arange(pixels) + 0.5) * ((high - low) / pixels)
    return np.clip(np.searchsorted(edges, centers, side="right") - 1, 0, len(edges) - 2), low, high


def stepped(edges: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """Return a line (2 n,) along the top of each bin.

    >>> [column.tolist() for column in stepped(np.array([0.0, 1.0, 4.0]), np.array([7.0, 8.0]))]
    [[0.0, 1.0, 1.0, 4.0], [7.0, 7.0, 8.0, 8.0]]
    """
    return np.repeat(edges, 2)[1:-1], np.repeat(values, 2)
