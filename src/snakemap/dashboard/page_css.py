"""Style sheets of our own pages and of embedded panes."""

from __future__ import annotations

from dataclasses import asdict

from snakemap.core.channels import HUES
from snakemap.dashboard.figure_theme import FONT
from snakemap.dashboard.theme import THEMES
from snakemap.dashboard.widgets import page_stylesheet

__all__ = ["guest_css", "page_css"]

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


def page_css(worn: str = "dark") -> str:
    """The style sheet of a page: every color as a variable that reaches into all panes, by day and by night.

    Args:
        worn: the theme of a page on which nothing can be pressed to change it.
    """
    blocks = []
    for name in THEMES:
        selector = f':root[data-theme="{name}"]' + (", :root" if name == worn else "")
        blocks.append(f"{selector} {{ {_variables(name)} }}")
    # the one that is worn comes first, so that what was chosen since goes before it
    blocks.sort(key=lambda block: not block.partition("{")[0].strip().endswith(", :root"))
    return "\n".join([*blocks, page_stylesheet()])


def guest_css(worn: str) -> str:
    """The same for one element in a page of somebody else's: what is around it keeps its own style.

    Args:
        worn: ``"dark"`` or ``"light"``.
    """
    return f":host {{ {_variables(worn)} --sm-font: {FONT}; font-family: var(--sm-font); color: var(--sm-text); }}"


def _variables(name: str) -> str:
    """The colors of a theme, for our own style sheets and for those of Panel, which apply after ours in every pane."""
    colors = {key: value for key, value in asdict(THEMES[name]).items() if key != "name"} | STATUS_COLORS[name]
    colors |= {f"channel-{key}": value for key, value in HUES[name].items()}
    parts = [f"--sm-{key}: {value};" for key, value in colors.items()]
    parts += [f"--design-{key}: var(--sm-{ours});" for key, ours in DESIGN.items()]
    return f"color-scheme: {name}; " + " ".join(parts)
