"""The panes of a session. Pages, embedding and the library follow from these entries."""

from __future__ import annotations

from snakemap.dashboard.pane import PaneEntry, checked_panes
from snakemap.dashboard.panes.frame import FrameView
from snakemap.dashboard.panes.histogram import HistogramView
from snakemap.dashboard.panes.maps_pane import MapsPane
from snakemap.dashboard.panes.summary import SummaryPane

__all__ = ["PANES"]

PANES = checked_panes(
    PaneEntry("maps", MapsPane, height=560, slot="center"),
    PaneEntry("histogram", HistogramView, height=320, slot="right"),
    PaneEntry("frame", FrameView, height=360, slot="right"),
    PaneEntry("summary", SummaryPane, height=None, height_alone=240, slot="bottom"),
)
"""In the order in which they are updated; a new pane is one entry."""
