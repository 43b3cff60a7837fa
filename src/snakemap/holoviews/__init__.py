"""HoloViews elements that send changed cells only.

>>> cells = LiveCells((100, 100))
>>> image = LiveImage(cells, bounds=(0, 0, 2, 2), vdims="total")  # opts, +, * and streams as on any hv.Image
>>> live(image, cells)
:DynamicMap   []
"""

from snakemap.holoviews.cells import Cells, LiveCells
from snakemap.holoviews.dimensions import dimensions
from snakemap.holoviews.elements import Changed, Drawing, LiveHistogram, LiveImage, live
from snakemap.holoviews.plots import LiveHistogramPlot, LiveImagePlot, NewCells

__all__ = [
    "Cells",
    "Changed",
    "Drawing",
    "LiveCells",
    "LiveHistogram",
    "LiveHistogramPlot",
    "LiveImage",
    "LiveImagePlot",
    "NewCells",
    "dimensions",
    "live",
]
