"""Elements of HoloViews over cells that grow: an image and a histogram."""

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
"""Takes the version that a plot shows from now on, and the cells that are new to it."""


class LiveImage(hv.Image):
    """An image whose cells are written in place; a plot of it sends the browser only those that are new.

    It is an `hv.Image` in all else. What is cut from it, or computed of it, is an image that stays as it is.

    Args:
        data: cells that grow; anything else that `hv.Image` takes makes an image that stays as it is.
        kdims: of the columns and the rows.
        vdims: the dimension of the values.
        bounds: left, bottom, right and top in units of the key dimensions.
        params: as `hv.Image` has them.
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
        """Return a copy; one with other data does not grow."""
        if data is not None or not shared_data:
            params = {"cells": None, "sink": None, **params}
        return super().clone(data, shared_data, **params)

    def renew(self) -> None:
        """Take the values of the cells again, after they were replaced by others of the same shape."""
        self.data[self.vdims[0].name] = self.cells.values

    def range(self, dim: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Return the range of a dimension; that of the values is known without a look at all of them."""
        if self.cells is not None and self.get_dimension(dim) == self.vdims[0]:
            dimension = self.vdims[0]
            return tuple(
                float(value) if set_ is None else set_
                for value, set_ in zip(self.cells.span, dimension.range, strict=True)
            )
        return super().range(dim, *args, **options)


class LiveHistogram(hv.Histogram):
    """A histogram whose bars change; a plot of it sends the browser only their heights.

    Args:
        data: cells that grow, one a bar; anything else that `hv.Histogram` takes makes one that stays as it is.
        kdims: of the values that are counted.
        vdims: of the counts.
        edges: one more than there are bars; 0 to 1 when not given.
        params: as `hv.Histogram` has them.
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
        """Return a copy; one with other data does not grow."""
        if data is not None or not shared_data:
            params = {"cells": None, "sink": None, **params}
        return super().clone(data, shared_data, **params)


class Changed(Stream):
    """Triggered when cells of live elements have changed, and nothing else; it has no parameters.

    A plot that gets only this sends the new cells at once: HoloViews would first evaluate every `DynamicMap`.
    """


Drawing = Stream.define("Drawing", drawing=0)
"""Has elements drawn as a whole, by the number of the drawing."""


def live(element: Any, cells: LiveCells | Sequence[LiveCells]) -> hv.DynamicMap:
    """Return an element, or a composition of some, that is brought up to date whenever its cells change.

    Args:
        element: a live element, or anything that holds some.
        cells: whose changes are followed, on the thread that makes them.
    """
    changed = Changed()
    result = hv.DynamicMap(lambda: element, streams=[changed], cache_size=1)
    for one in [cells] if isinstance(cells, LiveCells) else cells:
        weakref.finalize(changed, one.watch(_notifier(changed)))
    return result


def _notifier(changed: Changed) -> Callable[[], None]:
    """Return a function that triggers a stream for as long as there is one."""
    alive = weakref.ref(changed)

    def notify() -> None:
        stream = alive()
        if stream is not None:
            Stream.trigger([stream])

    return notify


def _centers(low: float, high: float, count: int) -> npt.NDArray[np.floating]:
    step = (high - low) / count
    return low + step * (np.arange(count) + 0.5)
