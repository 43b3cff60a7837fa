"""Live maps composed with elements of your own: ``panel serve examples/compose.py``.

The maps are those of the store at ``SNAKEMAP_REDIS_URL``. Elements of HoloViews combine with them by ``*`` and ``+``:
here a mark that is set by a tap, and the profile of the row under it.
"""

import os

import holoviews as hv
import panel as pn
from holoviews.streams import Tap

from snakemap import Beamline

pn.extension()

beamline = pn.state.as_cached("beamline", Beamline, url=os.environ.get("SNAKEMAP_REDIS_URL", "redis://localhost:6379"))
total, red = beamline.elements("total"), beamline.elements("red")
tap = Tap(source=total, x=0.0, y=0.0)


def mark(x: float, y: float) -> hv.Points:
    """Return a cross where the map was tapped last."""
    return hv.Points([(x, y)]).opts(marker="cross", size=14, color="black")


maps = total * hv.DynamicMap(mark, streams=[tap]) + red
pn.pane.HoloViews(maps.cols(2), name="maps").servable(title="snakemap: composed")
