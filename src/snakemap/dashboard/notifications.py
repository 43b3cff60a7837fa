"""Messages that lie over the page for some seconds; `page.css` says where."""

from __future__ import annotations

import html

import panel as pn

__all__ = ["MESSAGES_MAX", "warn"]

MESSAGES_MAX = 3
"""So many fit over the summary table; more would cover buttons."""

SHOWN_S = 8


def warn(text: str) -> None:
    """Show a sentence for some seconds; the oldest goes when there are too many, and none is shown twice.

    Args:
        text: plain text; markup in it is shown as it stands.
    """
    area = pn.state.notifications
    if area is None:
        return
    message = html.escape(text)
    for number, shown in enumerate(reversed(list(area.notifications)), start=1):
        if shown.message == message:
            return
        if number >= MESSAGES_MAX:
            shown.destroy()
    area.warning(message, duration=1000 * SHOWN_S)
