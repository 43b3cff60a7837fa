"""Model ids that differ between server processes.

Bokeh numbers the models of each process from ``p1000`` upwards, and BokehJS finds the view of a model by its id alone.
A page of others may hold models of two processes at a time: of the old and the new one while a pane comes back after a
restart, of two servers behind one proxy, or of a Bokeh server of its own beside ours. With the same ids, a new pane is
drawn into the old one.
"""

from __future__ import annotations

import secrets

from bokeh.util import serialization

__all__ = ["separate_model_ids"]

FIRST_MAX = 10**12
"""Ids stay short: every update names some. Bokeh's own alternative, globally unique ids, takes 36 letters for each."""


def separate_model_ids() -> None:
    """Continue the numbers of models at a random one; to be called before the first model is made."""
    with serialization._simple_id_lock:
        serialization._simple_id = max(serialization._simple_id, 0) + secrets.randbelow(FIRST_MAX)
