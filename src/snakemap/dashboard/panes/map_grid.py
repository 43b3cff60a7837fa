"""Grid lines at the ticks of the axes, and a scale bar, over the maps; made when they are first wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import MetricLength, ScaleBar

from snakemap.dashboard.figure_theme import FONT
from snakemap.dashboard.theme import Theme

__all__ = ["MapGrid", "length_unit"]

LINE = "#8a8f99"
"""Color of grid lines, which is seen on dark and bright pixels."""

LENGTHS = {"nm": "nm", "um": "µm", "µm": "µm", "μm": "µm", "micron": "µm", "mm": "mm", "cm": "cm", "m": "m"}
"""Units of axes, and their names for Bokeh."""


def length_unit(unit: str) -> str:
    """Return the name that Bokeh has for a unit of length; empty for any other unit.

    >>> length_unit("um"), length_unit("deg"), length_unit("")
    ('µm', '', '')
    """
    return LENGTHS.get(unit.strip(), "")


class MapGrid:
    """Grid lines and scale bars.

    Args:
        figures: of the maps.
    """

    def __init__(self, figures: Sequence[Any]) -> None:
        self.figures = figures
        self.bars: list[ScaleBar] = []
        self._shown: tuple[str, ...] = ()

    def show(self, *, visible: bool, unit: str, theme: Theme, letters: str) -> None:
        """Show or hide grid and scale bars.

        Args:
            visible: whether they are shown.
            unit: of the horizontal axis; a scale bar needs a unit of length.
            theme: colors of the page.
            letters: size of the labels, like ``"11px"``.
        """
        for plot in self.figures:
            for lines in plot.grid:
                if visible or lines.grid_line_color is not None:
                    color = LINE if visible else None
                    lines.update(grid_line_color=color, grid_line_alpha=0.55, level="overlay")
        wanted = (length_unit(unit), theme.name, letters) if visible and length_unit(unit) else ()
        if wanted == self._shown:
            return
        self._shown = wanted
        for bar in self.bars:
            bar.visible = False
        if wanted:  # others, as a browser does not change the color of their lines
            self.bars = [self._add(plot, wanted[0], theme, letters) for plot in self.figures]

    def _add(self, plot: Any, unit: str, theme: Theme, letters: str) -> ScaleBar:
        """Add a scale bar to the lower right corner of a map, in place of the one before."""
        bar = ScaleBar(
            dimensional=MetricLength(), unit=unit, range=plot.x_range, location="bottom_right",
            length_sizing="adaptive", bar_length=0.2, bar_line_width=2, bar_line_color=theme.text,
            background_fill_color=theme.panel, background_fill_alpha=0.72, border_line_color=None, padding=4, margin=4,
            label_standoff=3, label_text_font=FONT, label_text_font_size=letters, label_text_color=theme.text,
        )  # fmt: skip
        plot.center = [one for one in plot.center if one not in self.bars] + [bar]
        return bar
