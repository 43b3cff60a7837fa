"""Live elements of HoloViews: an image and a histogram."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import numpy.typing as npt
import param
from holoviews.streams import Stream

from snakemap.holoviews.cells import Cells, LiveCells

__all__ = ["Changed", "Drawing", "LiveHistogram", "LiveImage", "live"]

Sink = Callable[[int, npt.NDArray[np.integer]], None]
"""A function of the new version of a plot, and its changed cells."""


class LiveImage(hv.Image):
    """An image whose cells are written in place; a plot of it sends only changed cells to the browser.

    It is an `hv.Image` otherwise. Slices and results of operations are static images.

    Args:
        data: live cells; other data of `hv.Image` make a static image.
        kdims: of the columns and the rows.
        vdims: the dimension of the values.
        bounds: left, bottom, right and top in units of the key dimensions.
        params: of `hv.Image`.
    """

    group = param.String(default="LiveImage", constant=True)
    cells = param.Parameter(default=None, doc="The `Cells` that grow; None for an image that stays as it is.")
    sink = param.Callable(
        default=None,
        doc="Takes the version and the new cells instead of the plot's own message: for pages that send one for all.",
    )

    def __init__(self, data: Any, kdims: Any = None, vdims: Any = None, bounds: Any = None, **params: Any) -> None:
        if isinstance(data, Cells):
            rows, columns = data.values.shape
            params["cells"] = data
            left, bottom, right, top = bounds or (0, 0, columns, rows)
            xs, ys = _centers(left, right, columns), _centers(bottom, top, rows)
            densities = {"xdensity": columns / (right - left), "ydensity": rows / (top - bottom)}
            params = {**densities, **params}
            bounds = (left, bottom, right, top)
            data = (xs, ys, data.values)
        super().__init__(data, kdims=kdims, vdims=vdims, bounds=bounds, **params)

    def clone(self, data: Any = None, shared_data: bool = True, **params: Any) -> Any:  # type: ignore[override]
        """Return a copy; a copy with other data is static."""
        if data is not None or not shared_data:
            params = {"cells": None, "sink": None, **params}
        return super().clone(data, shared_data, **params)

    def renew(self) -> None:
        """Read the values of the cells again, after they were replaced by others of the same shape."""
        self.data[self.vdims[0].name] = self.cells.values

    def range(self, dim: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Return the range of a dimension; that of the values is known already."""
        if self.cells is not None and self.get_dimension(dim) == self.vdims[0]:
            dimension = self.vdims[0]
            return tuple(
                float(value) if set_ is None else set_
                for value, set_ in zip(self.cells.span, dimension.range, strict=True)
            )
        return super().range(dim, *args, **options)


class LiveHistogram(hv.Histogram):
    """A histogram with changing bars; a plot of it sends only their heights to the browser.

    Args:
        data: live cells, one for each bar; other data of `hv.Histogram` make a static one.
        kdims: of the counted values.
        vdims: of the counts.
        edges: one more than bars; by default 0 to 1.
        params: of `hv.Histogram`.
    """

    group = param.String(default="LiveHistogram", constant=True)
    cells = param.Parameter(default=None, doc="The `Cells` of the bars; None for a histogram that stays as it is.")
    sink = param.Callable(default=None, doc="As that of `LiveImage`.")

    def __init__(
        self, data: Any, kdims: Any = None, vdims: Any = None, edges: npt.ArrayLike | None = None, **params: Any
    ) -> None:
        if isinstance(data, Cells):
            params["cells"] = data
            ends = np.linspace(0, 1, len(data.values) + 1) if edges is None else np.asarray(edges)
            data = (ends, data.values)
        given = {name: value for name, value in (("kdims", kdims), ("vdims", vdims)) if value is not None}
        super().__init__(data, **given, **params)

    def clone(self, data: Any = None, shared_data: bool = True, **params: Any) -> Any:  # type: ignore[override]
        """Return a copy; a copy with other data is static."""
        if data is not None or not shared_data:
            params = {"cells": None, "sink": None, **params}
        return super().clone(data, shared_data, **params)


class Changed(Stream):
    """Triggered when only cells of live elements changed; it has no parameters.

    A plot triggered by this alone sends the changed cells directly: HoloViews would first evaluate every `DynamicMap`.
    """


Drawing = Stream.define("Drawing", drawing=0)
"""Redraws elements completely, by the number of the drawing."""


def live(element: Any, cells: LiveCells | Sequence[LiveCells]) -> hv.DynamicMap:
    """Return an element, or a composition of elements, that updates when its cells change.

    Args:
        element: a live element, or a composition with some.
        cells: whose changes trigger updates, on the thread that makes them.
    """
    changed = Changed()
    result = hv.DynamicMap(lambda: element, streams=[changed], cache_size=1)
    for one in [cells] if isinstance(cells, LiveCells) else cells:
        weakref.finalize(changed, one.watch(_notifier(changed)))
    return result


def _notifier(changed: Changed) -> Callable[[], None]:
    """Return a function that triggers a stream while it exists."""
    alive = weakref.ref(changed)

    def notify() -> None:
        stream = alive()
        if stream is not None:
            Stream.trigger([stream])

    return notify


def _centers(low: float, high: float, count: int) -> npt.NDArray[np.floating]:
    step = (high - low) / count
    return low + step * (np.arange(count) + 0.5)
