"""The table of the channels."""

from __future__ import annotations

from typing import Any, Self

import panel as pn
from panel.io.state import set_curdoc

from snakemap.dashboard.pane import Pane
from snakemap.dashboard.panes.status_text import table
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.widgets import SummaryTable

__all__ = ["SummaryPane"]


class SummaryPane(Pane):
    """One row a channel: least, most, mean, sum, and where the most is."""

    period_s = 1.0

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.table = SummaryTable(sizing_mode="stretch_width")

    @classmethod
    def of(cls, session: SessionContext) -> Self:
        """Return the table of a session."""
        return cls()

    def __panel__(self) -> pn.viewable.Viewable:
        return self.table

    def update(self, session: SessionContext) -> None:
        """Fill the table from the run that is drawn."""
        pipeline, choices = session.pipeline, session.choices
        if pipeline.run is None:
            return
        brushed = {"range": choices.brush, "channel": choices.channel} if choices.brush else None
        marks = {one.channel: one.described for one in pipeline.run.cross_checks(pipeline.base)}
        state = table(pipeline, pipeline.summaries(), brushed=brushed, marks=marks)
        if self.is_new("state", state):
            with set_curdoc(session.document):
                self.table.state = state
