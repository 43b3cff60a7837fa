"""Colors, fonts and formatters of figures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from bokeh.models import CustomJSHover, CustomJSTickFormatter, SaveTool

from snakemap.dashboard.theme import Theme
from snakemap.dashboard.widgets import script_of

__all__ = ["FONT", "STALE", "apply_theme", "counts_formatter", "save_tool", "tooltip", "value_formatter", "value_hover"]

STALE = {"filter": "var(--sm-stale, none)"}
"""Style of what shows data; the browser sets the variable while the page is cut off from its server."""


FONT = "Inter, 'Source Sans 3', 'Helvetica Neue', Arial, sans-serif"

HOVER_VALUE = "\nreturn quantity(value, unit)"
TICK_LABEL = "\nreturn (this.labels ??= tickLabels(ticks, unit))[index]"


def value_formatter(unit: str = "") -> CustomJSTickFormatter:
    """Return the formatter of labels of values in a unit, with one SI prefix for all of an axis: 250k, 1.5 nA."""
    return CustomJSTickFormatter(code=script_of("quantity") + TICK_LABEL, args={"unit": unit})


def counts_formatter() -> CustomJSTickFormatter:
    """Return the formatter of labels of counts with SI prefixes: 250k, 500k."""
    return value_formatter()


def value_hover(unit: str = "") -> CustomJSHover:
    """Return a value with its unit beside the pointer: the formatter of a ``{custom}`` field of a :func:`tooltip`.

    Units come from documents; Bokeh writes what a formatter returns as text.
    """
    return CustomJSHover(code=script_of("quantity") + HOVER_VALUE, args={"unit": unit})


def save_tool(what: str) -> SaveTool:
    """Return the tool that downloads a figure as PNG.

    It names the file: without a name Bokeh asks for one in a dialog, which browsers refuse to show in embedded pages.

    >>> save_tool("frame").filename
    'snakemap-frame'
    """
    return SaveTool(filename=f"snakemap-{what}")


def tooltip(rows: Sequence[tuple[str, str]]) -> str:
    """Return the tooltip of a figure in the colors of the page, which Bokeh's own does not take.

    Args:
        rows: names, and fields as Bokeh formats them.

    >>> tooltip([("row", "$y{0,0}")]).count("$y{0,0}")
    1
    """
    lines = [
        f'<div><span style="color: var(--sm-faint)">{html.escape(name)}</span> {field}</div>' for name, field in rows
    ]
    style = "margin: -5px; padding: 5px 8px; background: var(--sm-panel); color: var(--sm-text)"
    return f'<div style="{style}">{"".join(lines)}</div>'


def apply_theme(plot: Any, theme: Theme) -> None:
    """Apply a theme and the font of the page to a figure."""
    plot.update(
        background_fill_color=theme.plot,
        border_fill_color=theme.panel,
        outline_line_color=theme.line,
        outline_line_width=1.5,
    )
    plot.title.update(text_color=theme.text, text_font=FONT, text_font_size="13px", text_font_style="bold", offset=0)
    for axis in plot.axis:
        axis.update(
            axis_line_color=theme.line,
            major_tick_line_color=theme.line,
            minor_tick_line_color=None,
            major_label_text_color=theme.faint,
            major_label_text_font=FONT,
            major_label_text_font_size="11px",
            axis_label_text_color=theme.faint,
            axis_label_text_font=FONT,
            axis_label_text_font_size="11px",
            axis_label_text_font_style="normal",
            axis_label_standoff=3,
        )
    for grid in plot.grid:
        grid.grid_line_color = None
