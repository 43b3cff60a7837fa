"""The view state of a tab: what its user has chosen."""

from __future__ import annotations

import param

from snakemap.render.palettes import BY_CHANNEL, COLORS

__all__ = ["ASPECTS", "AUTOMATIC", "FRAME_OF", "LIMITS", "SCALES", "Choices"]

AUTOMATIC = "auto aspect"
ASPECTS = [AUTOMATIC, "true distances", "square pixels", "fill"]


LIMITS = ["0 to maximum", "minimum to maximum", "locked", "by hand"]


SCALES = ["linear", "log"]


FRAME_OF = ["point", "selection", "difference"]


class Choices(param.Parameterized):
    """The choices of one tab."""

    pinned = param.String(default="", doc="Uid of the run to stay with; empty follows the newest.")
    source = param.String(
        default="", doc="What is drawn of the run, as `Run.sources` names it; empty is its main source."
    )
    channel = param.String(default="total", doc="The channel of the histogram and of the brush.")
    scale = param.Selector(default="linear", objects=SCALES, doc="How counts become colors.")
    colors = param.Selector(default=BY_CHANNEL, objects=COLORS, doc="The palette of the maps.")
    limits = param.Selector(default=LIMITS[0], objects=LIMITS, doc="Where the colors begin and end.")
    low = param.Number(
        default=0.0, allow_None=True, doc="Lowest color in units of the chosen channel, when limits are set by hand."
    )
    high = param.Number(
        default=1.0, allow_None=True, doc="Highest color in units of the chosen channel, when limits are set by hand."
    )
    shape = param.Tuple(
        default=None,
        length=3,
        allow_None=True,
        doc="Rows, columns and whether they are snaked, typed for a run without a shape; None for its own.",
    )
    exchanged = param.Boolean(
        default=False, doc="Whether the fast axis is drawn upwards and the slow one to the right."
    )
    stage_path = param.Boolean(default=False, doc="Whether the path of the stage is drawn over the maps.")
    grid = param.Boolean(default=False, doc="Whether grid lines and a scale bar are drawn over the maps.")
    enlarged = param.String(default="", doc="The channel whose map is enlarged; empty for all maps.")
    aspect = param.Selector(default=ASPECTS[0], objects=ASPECTS, doc="The proportions of the maps.")
    brush = param.Tuple(
        default=None,
        length=2,
        allow_None=True,
        doc="Shares of the range of the chosen channel between which pixels stand out; None for all.",
    )
    box = param.Tuple(
        default=None,
        length=4,
        allow_None=True,
        doc="Cells of the picture (row0, row1, column0, column1), half open, whose histogram is shown; None for all.",
    )
    point = param.Integer(
        default=0, bounds=(0, None), doc="The point whose frame is shown, as its seq_num; 0 is the newest one."
    )
    background = param.Integer(
        default=0, bounds=(0, None), doc="The point whose frame is subtracted from those that are shown; 0 for none."
    )
    frame_of = param.Selector(
        default=FRAME_OF[0],
        objects=FRAME_OF,
        doc="Which frame is shown: that of the point, the mean of the points within box and brush, or that minus the "
        "mean of the rest.",
    )
    wall = param.Boolean(
        default=False, constant=True, doc="Whether the page is read from afar: large letters, no tools."
    )
    rois = param.Parameter(default=(), doc="Regions of this tab, as `y0,y1,x0,x1` with or without a name.")
    theme = param.Selector(default="dark", objects=["dark", "light"], doc="Colors of the page.")
