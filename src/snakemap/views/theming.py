"""How figures and widgets wear a theme."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from bokeh.models import CustomJSTickFormatter, SaveTool

from snakemap.views.theme import Theme

__all__ = ["STALE", "counts_formatter", "dress", "save_tool", "tooltip"]

STALE = {"filter": "var(--sm-stale, none)"}
"""Style of what shows data; the browser sets the variable while the page is cut off from its server."""


FONT = "Inter, 'Source Sans 3', 'Helvetica Neue', Arial, sans-serif"


SI_PREFIXES = """
const [factor, prefix] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([f]) => Math.abs(tick) >= f) ?? [1, ""]
return `${+(tick / factor).toPrecision(4)}${prefix}`
"""


def counts_formatter() -> CustomJSTickFormatter:
    """Counts with SI prefixes: 250k, 1.5M."""
    return CustomJSTickFormatter(code=SI_PREFIXES)


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


def dress(plot: Any, theme: Theme) -> None:
    """Gives a figure the colors and the type of the page."""
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
