"""The sibling of the dashboard in sixty lines of idiomatic HoloViz: ``panel serve examples/idiomatic.py``.

It shows the same four maps and the histogram of a made-up scan, without a store. Each update draws every map again; the
elements of `snakemap.holoviews` exist because that costs fifteen times as much.
"""

import asyncio

import holoviews as hv
import numpy as np
import panel as pn
import param
from holoviews.operation.datashader import rasterize

pn.extension()

CHANNELS = ("red", "green", "blue", "total")


class Scan(pn.viewable.Viewer):
    """A snake scan whose pixels arrive by time."""

    rows = param.Integer(default=40, bounds=(1, 200), constant=True, doc="Rows of the maps.")
    columns = param.Integer(default=40, bounds=(1, 200), constant=True, doc="Columns of the maps.")
    points = param.Integer(default=0, doc="Points that were measured so far.")

    def __init__(self, **params: object) -> None:
        super().__init__(**params)
        rng = np.random.default_rng(1)
        ramp = np.linspace(0.2, 1, self.rows * self.columns).reshape(self.rows, self.columns)
        self._sums = ramp * rng.uniform(0.5, 1, (len(CHANNELS), self.rows, self.columns)) * 1e6

    async def measure(self) -> None:
        """Add one point, and begin again after the last; a pause lets a busy server send what was drawn."""
        self.points = (self.points + 1) % (self.rows * self.columns + 1)
        await asyncio.sleep(0.05)

    def grids(self, points: int) -> np.ndarray:
        """Return the maps (channels, rows, columns) after some points; NaN where the stage has not been."""
        number = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        number[1::2] = number[1::2, ::-1]
        return np.where(number < points, self._sums, np.nan)

    def image(self, channel: int, points: int) -> hv.Image:
        """Return one map."""
        grid = self.grids(points)[channel][::-1]
        return hv.Image(grid, bounds=(0, 0, 1, 1), vdims=CHANNELS[channel]).opts(colorbar=True, clim=(0, 1e6))

    @param.depends("points")
    def histogram(self) -> hv.Histogram:
        """Return the histogram of the total, in shares of its maximum."""
        total = self.grids(self.points)[-1]
        top = np.nanmax(total) if self.points else 1.0
        counts, edges = np.histogram(total[~np.isnan(total)] / top, bins=64, range=(0, 1))
        return hv.Histogram((edges, counts))

    def __panel__(self) -> pn.viewable.Viewable:
        maps = [
            rasterize(
                hv.DynamicMap(pn.bind(self.image, k, self.param.points)), width=300, height=300, aggregator="mean"
            )
            for k in range(len(CHANNELS))
        ]
        return pn.Column(hv.Layout([*maps, hv.DynamicMap(self.histogram)]).cols(2))


scan = Scan()
pn.state.add_periodic_callback(scan.measure, period=100)
pn.panel(scan).servable(title="an idiomatic sibling")
