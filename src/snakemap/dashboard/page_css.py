"""Style sheets of our own pages and of embedded panes."""

from __future__ import annotations

from dataclasses import asdict

from snakemap.core.channels import HUES
from snakemap.dashboard.figure_theme import FONT
from snakemap.dashboard.theme import THEMES
from snakemap.dashboard.widgets import page_stylesheet

__all__ = ["embedded_css", "page_css"]

STATUS_COLORS = {
    "dark": {"good": "#43c463", "warn": "#f2c14e", "bad": "#ff6b61"},
    "light": {"good": "#167a32", "warn": "#8a5c00", "bad": "#c8281e"},
}


DESIGN = {
    "background-color": "panel",
    "background-text-color": "text",
    "surface-color": "panel",
    "surface-text-color": "text",
}
"""Variables that Panel's style sheets look up before their own colors, and which of our colors each is."""


def page_css(theme: str = "dark") -> str:
    """Return the style sheet of a page: every color of both themes as a variable, for all panes.

    Args:
        theme: of a page without a button to change it.
    """
    blocks = []
    for name in THEMES:
        selector = f':root[data-theme="{name}"]' + (", :root" if name == theme else "")
        blocks.append(f"{selector} {{ {_variables(name)} }}")
    # the theme of the page comes first, so that a later choice overrides it
    blocks.sort(key=lambda block: not block.partition("{")[0].strip().endswith(", :root"))
    return "\n".join([*blocks, page_stylesheet()])


def embedded_css(theme: str) -> str:
    """Return the style sheet of one element in a foreign page, which keeps its own style.

    Args:
        theme: ``"dark"`` or ``"light"``.
    """
    return f":host {{ {_variables(theme)} --sm-font: {FONT}; font-family: var(--sm-font); color: var(--sm-text); }}"


def _variables(name: str) -> str:
    """Return the colors of a theme, for our style sheets and those of Panel, which apply later in every pane."""
    colors = {key: value for key, value in asdict(THEMES[name]).items() if key != "name"} | STATUS_COLORS[name]
    colors |= {f"channel-{key}": value for key, value in HUES[name].items()}
    parts = [f"--sm-{key}: {value};" for key, value in colors.items()]
    parts += [f"--design-{key}: var(--sm-{ours});" for key, ours in DESIGN.items()]
    return f"color-scheme: {name}; " + " ".join(parts)
