"""The little that server and browser share of a tab beside ordinary models: what to show, where it lies, what is new.

What changes ten times a second goes to the browser as one small message, a single property of :class:`ClientState`, and
is put into place by ``update.js``: one property costs a third of what Bokeh needs to patch several sources, and the
server keeps no copy of what the screen shows.
"""

from __future__ import annotations

import json
from typing import Any

from bokeh.core.properties import Any as AnyProperty
from bokeh.core.properties import Bool, Int, Nullable, String, Tuple
from bokeh.core.properties import Float as FloatProperty
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.events import DoubleTap, MouseEnter, MouseLeave
from bokeh.model import DataModel
from bokeh.models import CustomJS

from snakemap.dashboard.widgets import script_of

__all__ = ["ClientState", "ValueRange", "fitted", "inner_size", "news_text", "resettable", "script"]


class ClientState(DataModel):
    """What a tab's scripts need to know.

    ``news`` is the difference to what is shown, by :func:`news_text`; ``base`` says what the images were filled
    with as a whole; ``place`` where the maps lie; ``brush`` (channel, low, high) which pixels stand out; ``stage_path``
    the path of the stage; ``idle`` what stands under the maps while nothing is pointed at; ``missed`` rises when a
    difference did not fit. ``zoom`` is the part of the maps that is in view, set by either side: ``ranges`` (left,
    right, bottom, top) and ``of``, what their coordinates mean; None for all of it. ``enlarged`` is the channel
    whose map is enlarged, set by either side; empty for all maps. ``walk`` is the last press of an arrow
    key over a map: ``number``, which grows, and ``key``.
    """

    news: Any = String(default="")
    base: Any = AnyProperty(default=None)
    place: Any = AnyProperty(default=None)
    brush = Nullable(Tuple(Int, FloatProperty, FloatProperty))
    stage_path: Any = AnyProperty(default=None)
    idle = String(default="")
    missed = Int(default=0)
    zoom: Any = AnyProperty(default=None)
    enlarged: Any = String(default="")
    walk: Any = AnyProperty(default=None)


def news_text(news: dict[str, Any]) -> str:
    """Return numbers as JSON. Infinite ones are too large a number, which JavaScript reads as infinite; NaN is null.

    A property of text is sent as it is. Of lists and dicts, Bokeh looks at each element three times for every tab.

    >>> news_text({"limits": [(0.5, float("inf"))], "at": 3})
    '{"limits":[[0.5,1e999]],"at":3}'
    """
    return json.dumps(news, separators=(",", ":")).replace("Infinity", "1e999").replace("NaN", "null")


class ValueRange(DataModel):
    """The values between the ends, 0 and 1, of the histogram's axis.

    ``low`` and ``high`` are set in the browser while data grow; ``unit`` is that of the values; ``in_shares`` says that
    the axis is labeled in percent of ``high``.
    """

    low = FloatProperty(default=0.0)
    high = FloatProperty(default=1.0)
    unit = String(default="")
    in_shares = Bool(default=True)


def fitted(figure: Any) -> ClientState:
    """Return the client state of a single figure, whose ranges are fitted to its ``place``."""
    page = ClientState()
    fit = script("fit", page=page, figure=figure, x_range=figure.x_range, y_range=figure.y_range)
    page.js_on_change("place", fit)
    for name in ("inner_width", "inner_height"):
        figure.js_on_change(name, fit)
    return page


def inner_size(figure: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return columns and rows of the screen inside a figure; the default before the browser has sent them."""
    try:
        return int(figure.inner_width or default[0]), int(figure.inner_height or default[1])
    except UnsetValueError:
        return default


def resettable(figure: Any) -> None:
    """Let a double click, or Escape while the pointer is over a figure, show all of it again."""
    reset = script("reset", figure=figure, x_range=figure.x_range, y_range=figure.y_range)
    for event in (DoubleTap, MouseEnter, MouseLeave):
        figure.js_on_event(event, reset)


WITH_NUMBERS = ("readout",)
"""Scripts that write values with their units."""


def script(name: str, **arguments: Any) -> CustomJS:
    """Return a script of ``js/`` as a callback over some models."""
    return CustomJS(args=arguments, code=script_of(*(["quantity"] if name in WITH_NUMBERS else []), name))
