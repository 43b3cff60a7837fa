"""The view state in the address of a page; what is read is checked.

An address names only what differs from the usual, always in the same order, so that it is short and the same view has
the same address. Unusable parts are left out with a note, and every address that is written can be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

from snakemap.core.roi_text import roi_from_text, rois_from_text, text_of
from snakemap.dashboard.view_state import AUTOMATIC
from snakemap.errors import GeometryError, RoiError
from snakemap.render.map_view import MapView
from snakemap.render.palettes import BY_CHANNEL, COLORS
from snakemap.settings import grid_from_text

__all__ = [
    "ASPECTS",
    "BY_HAND",
    "DISPLAYS",
    "LIMITS",
    "NUMBER_MAX",
    "QUERY_MAX",
    "SCALES",
    "ViewPlace",
    "parse",
    "query",
    "rounded",
    "shape_text",
]

QUERY_MAX = 12_000
"""Letters of an address after the question mark; none that is longer is read."""

ARGUMENTS_MAX = 64
NAME_MAX, PATH_MAX = 600, 2_400
"""Letters of a name and of a path as they stand in an address, where a letter may take twelve."""

NUMBER_MAX = 1e30
ROI_MAX = 200
"""Letters of a region as it stands in an address."""

INDEX_MAX = 2**53 - 1
DIMENSIONS_MAX = 32
NARROWEST = 1e-9
"""A range that is narrower, relative to its ends, counts as a point."""

LIMITS = {"0-max": "0 to maximum", "min-max": "minimum to maximum", "locked": "locked"}
"""Limits of the colors as an address calls them; those set by hand are two numbers."""

BY_HAND = "by hand"
PALETTES = {colors.replace(BY_CHANNEL, "channel").replace(" ", "-"): colors for colors in COLORS}
SCALES = {"linear": "linear", "log": "log"}
ASPECTS = {"auto": AUTOMATIC, "distances": "true distances", "square": "square pixels", "fill": "fill"}
DISPLAYS = {"line": "line", "image": "image", "color": "color image", "table": "table"}
LEFT = ("files", "tree", "actions")
THEMES = ("dark", "light")

NUMBER = re.compile(r"[+-]?(?:[0-9]{1,31}(?:\.[0-9]{0,31})?|\.[0-9]{1,31})(?:e[+-]?[0-9]{1,3})?", re.ASCII | re.I)
MOMENT = re.compile(r"[0-9]{1,15}", re.ASCII)
POINT = re.compile(r"[1-9][0-9]{0,7}", re.ASCII)

Pair = tuple[float, float]
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ViewPlace:
    """The view state that an address holds; by default the newest run, as usual.

    Attributes:
        run: uid of the run to stay with; empty follows the newest.
        source: what is drawn of it, like ``"camera-2"``; empty is its main source.
        channel: of the histogram and the brush, like ``"red"``; empty is the last one, the total.
        limits: of the colors, one of the values of ``LIMITS``, or ``"by hand"``.
        by_hand: lowest and highest color in counts of the channel; None unless limits are set by hand.
        scale: ``"linear"`` or ``"log"``.
        aspect: one of the values of ``ASPECTS``.
        colors: the palette of the maps, one of :data:`snakemap.render.palettes.COLORS`.
        exchanged: whether the fast axis is drawn upwards.
        shape: rows, columns and whether they are snaked, as typed; None for that of the run.
        stage_path: whether the path of the stage is drawn.
        grid: whether grid lines and a scale bar are drawn.
        enlarged: the channel whose map is enlarged; empty for all maps.
        zoom: left, right, bottom and top of the maps in units of their axes; None for all of them.
        box: the same of the box whose histogram is shown; None without one.
        brush: range of the channel that stands out, relative to its maximum; None without one.
        left: which list is open at the left, ``"files"``, ``"tree"`` or ``"actions"``; empty is the history.
        file: path in the data root of the file whose dataset is shown instead of the maps; empty for the maps.
        node: path of the dataset in it.
        display: how it is shown, one of the values of ``DISPLAYS``; empty for what suits it best.
        index: number chosen in each leading dimension of a stack, like ``(3, 0)``; empty for the first of all.
        compare: uids of the two runs that are compared; empty for none.
        compared: the channel that is compared; empty is the last one.
        theme: ``"dark"`` or ``"light"``; empty is whatever the reader likes.
        wall: whether the page is for a screen on the wall: maps, status and progress, without controls.
        at: the moment of the run that is shown, in milliseconds since 1970; 0 is now.
        point: seq_num of the point whose frame is shown; 0 is the newest.
        background: seq_num of the point whose frame is subtracted; 0 for none.
        rois: regions of the tab, see :func:`~snakemap.core.roi_text.roi_from_text`.
    """

    run: str = ""
    source: str = ""
    channel: str = ""
    limits: str = LIMITS["0-max"]
    by_hand: Pair | None = None
    scale: str = SCALES["linear"]
    aspect: str = ASPECTS["auto"]
    colors: str = BY_CHANNEL
    exchanged: bool = False
    shape: tuple[int, int, bool] | None = None
    stage_path: bool = False
    grid: bool = False
    enlarged: str = ""
    zoom: Rectangle | None = None
    box: Rectangle | None = None
    brush: Pair | None = None
    left: str = ""
    file: str = ""
    node: str = ""
    display: str = ""
    index: tuple[int, ...] = ()
    compare: tuple[str, ...] = ()
    compared: str = ""
    theme: str = ""
    wall: bool = False
    at: int = 0
    point: int = 0
    background: int = 0
    rois: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What one goes back to: another run, dataset or comparison; all else is only how it is looked at."""
        return self.run, self.file, self.node, self.compare


def parse(text: str) -> tuple[ViewPlace, list[str]]:
    """Read the query of an address; unknown names are ignored.

    Returns:
        The place, and a short note for each part that could not be used.

    >>> place, notes = parse("run=abc&scale=log&zoom=0,1.5,2,3&limits=hello")
    >>> place == Place(run="abc", scale="log", zoom=(0, 1.5, 2, 3)), notes
    (True, ["limits 'hello' is not valid"])
    """
    if len(text) > QUERY_MAX:
        return ViewPlace(), [f"the address has {len(text):,} characters, more than {QUERY_MAX:,}"]
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=ARGUMENTS_MAX, errors="surrogateescape")
    except ValueError:
        return ViewPlace(), [f"the address has more than {ARGUMENTS_MAX} arguments"]
    found: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in pairs:
        if not value or name not in READERS:
            continue
        try:
            _take(found, READERS[name](value))
        except (ValueError, GeometryError, RoiError):
            notes.append(f"{name} {_short(value)!r} is not valid")
    return _consistent(found, notes), notes


def query(place: ViewPlace) -> str:
    """Return the query of a place; empty for the usual.

    >>> query(Place(run="abc", scale="log", zoom=(0.0, 1.5, 2.0, 3.0), index=(3,)))
    'run=abc&scale=log&zoom=0,1.5,2,3'
    """
    written = [(name, text) for name, text in _texts(place) if text and _is_read(name, text)]
    return "&".join(f"{name}={quote(text, safe='/:,')}" for name, text in written)


def rounded(one: float, other: float, *, digits: int = 5) -> Pair:
    """Both ends of a range, the lower first, to some digits of its width: finer than a screen can show.

    >>> rounded(2.34567891, -1.23456789), rounded(5.0, 5.0)
    ((-1.2346, 2.3457), (5.0, 5.0))
    """
    low, high = sorted((float(one), float(other)))
    if not math.isfinite(high - low) or high == low:
        return low, high
    places = digits - 1 - math.floor(math.log10(high - low))
    return round(low, places), round(high, places)


def _take(found: dict[str, Any], fields: dict[str, Any]) -> None:
    """Add fields; of repeated arguments the first counts, except two runs to compare and several regions."""
    if "rois" in fields and "rois" in found:
        found["rois"] = tuple(map(text_of, rois_from_text([*found["rois"], *fields["rois"]])))
    elif "compare" in fields and len(found.get("compare", ())) == 1:
        found["compare"] += fields["compare"]
    elif not fields.keys() & found.keys():
        found.update(fields)


def _consistent(found: dict[str, Any], notes: list[str]) -> ViewPlace:
    """Return the place, without fields that mean nothing alone."""
    if not found.get("file"):
        found = {name: value for name, value in found.items() if name not in ("node", "display", "index")}
    if found.get("compare") and (found.get("file") or len(found["compare"]) != 2):
        notes.append(
            "a comparison needs two runs" if not found.get("file") else "a dataset is shown instead of the comparison"
        )
        del found["compare"]
    if found.get("at") and not found.get("run"):
        notes.append("a time needs a run")
        del found["at"]
    if not found.get("compare"):
        found.pop("compared", None)
    return ViewPlace(**found)


def _texts(place: ViewPlace) -> Iterable[tuple[str, str]]:
    """Yield every argument with its text, in the order of an address; empty for the usual."""
    yield "run", place.run
    yield "source", place.source
    yield "channel", place.channel
    yield "limits", _numbers(place.by_hand) if place.limits == BY_HAND else _word(place.limits, LIMITS)
    yield "scale", _word(place.scale, SCALES)
    yield "aspect", _word(place.aspect, ASPECTS)
    yield "colors", _word(place.colors, PALETTES)
    yield "exchanged", "1" if place.exchanged else ""
    yield "shape", shape_text(place.shape) if place.shape else ""
    yield "path", "1" if place.stage_path else ""
    yield "grid", "1" if place.grid else ""
    yield "map", place.enlarged
    yield "zoom", _numbers(place.zoom)
    yield "box", _numbers(place.box)
    yield "brush", _numbers(place.brush)
    yield "left", place.left
    if place.file:
        yield "file", place.file
        yield "node", place.node
        yield "as", _word(place.display, DISPLAYS, usual="")
        yield "slice", ",".join(map(str, place.index)) if any(place.index) else ""
    elif len(place.compare) == 2:
        yield from (("compare", uid) for uid in place.compare)
        yield "of", place.compared
    yield "theme", place.theme
    yield "wall", "1" if place.wall else ""
    yield "at", str(place.at or "")
    yield "point", str(place.point or "")
    yield "background", str(place.background or "")
    yield from (("roi", text) for text in place.rois)


def _word(value: str, words: dict[str, str], *, usual: str | None = None) -> str:
    """Return the name of a choice in an address; empty for the usual one, by default the first."""
    usual = next(iter(words.values())) if usual is None else usual
    return "" if value == usual else next((word for word, meant in words.items() if meant == value), "")


def _numbers(values: Iterable[float] | None) -> str:
    return ",".join(repr(float(value)).removesuffix(".0") for value in values or ())


def shape_text(shape: tuple[int, int, bool]) -> str:
    """Return a shape as it is typed.

    >>> shape_text((7, 9, True)), shape_text((7, 9, False))
    ('7x9', '7x9:raster')
    """
    return f"{shape[0]}x{shape[1]}{'' if shape[2] else ':raster'}"


def _is_read(name: str, text: str) -> bool:
    try:
        READERS[name](text)
    except (ValueError, GeometryError, RoiError):
        return False
    return True


def _short(value: str) -> str:
    """Return the start of a text, printable."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value[:41])
    return f"{clean[:40]}…" if len(clean) > 40 else clean


# readers: each makes fields of a text, or raises ValueError


def _name(field: str) -> Callable[[str], dict[str, Any]]:
    """Return the reader of a printable name."""

    def read(text: str) -> dict[str, Any]:
        if not text.isprintable():
            raise ValueError("a letter that cannot be printed")
        return {field: _measured(text, NAME_MAX)}

    return read


def _path(field: str) -> Callable[[str], dict[str, Any]]:
    """Return the reader of a path, which may hold all letters of file names; its target is checked elsewhere."""

    def read(text: str) -> dict[str, Any]:
        if "\0" in text:
            raise ValueError("no path holds a NUL")
        return {field: _measured(text, PATH_MAX)}

    return read


def _measured(text: str, most: int) -> str:
    if len(quote(text, safe="/:,")) > most:  # also refuses what is not UTF-8
        raise ValueError("too long")
    return text


def _choice(field: str, words: dict[str, str] | tuple[str, ...]) -> Callable[[str], dict[str, Any]]:
    meant = words if isinstance(words, dict) else {word: word for word in words}

    def read(text: str) -> dict[str, Any]:
        if text not in meant:
            raise ValueError("not one of the choices")
        return {field: meant[text]}

    return read


def _switch(field: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if text not in ("0", "1"):
            raise ValueError("neither on nor off")
        return {field: text == "1"}

    return read


def _values(text: str, count: int) -> list[float]:
    parts = text.split(",", count)
    if len(parts) != count or not all(NUMBER.fullmatch(part) for part in parts):
        raise ValueError("other numbers than were asked for")
    values = [float(part) for part in parts]
    if any(abs(value) > NUMBER_MAX for value in values):
        raise ValueError("beyond all bounds")
    return values


def _limits(text: str) -> dict[str, Any]:
    if "," in text:
        low, high = _values(text, 2)
        return {"limits": BY_HAND, "by_hand": (low, high)}
    return _choice("limits", LIMITS)(text)


def _rectangle(field: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        left, right, bottom, top = _values(text, 4)
        for low, high in ((left, right), (bottom, top)):
            if not high - low > NARROWEST * max(abs(low), abs(high)):
                raise ValueError("no rectangle")
        return {field: (left, right, bottom, top)}

    return read


def _brush(text: str) -> dict[str, Any]:
    low, high = _values(text, 2)
    if not 0 <= low < high <= 1:
        raise ValueError("no part of the range from 0 to 1")
    return {"brush": (low, high)}


def _shape(text: str) -> dict[str, Any]:
    if len(text) > 40:
        raise ValueError("too long")
    return {"shape": MapView(shape=grid_from_text(text)).shape}  # refuses what cannot be drawn


def _index(text: str) -> dict[str, Any]:
    parts = text.split(",", DIMENSIONS_MAX)
    if len(parts) > DIMENSIONS_MAX or not all(re.fullmatch(r"[0-9]{1,16}", part, re.ASCII) for part in parts):
        raise ValueError("no numbers of a stack")
    index = tuple(map(int, parts))
    if max(index) > INDEX_MAX:
        raise ValueError("beyond all bounds")
    return {"index": index if any(index) else ()}


def _compare(text: str) -> dict[str, Any]:
    return {"compare": (_name("run")(text)["run"],)}


def _at(text: str) -> dict[str, Any]:
    if not MOMENT.fullmatch(text):
        raise ValueError("no milliseconds")
    return {"at": int(text)}


def _point(name: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if not POINT.fullmatch(text):
            raise ValueError("no number of a point")
        return {name: int(text)}

    return read


def _roi(text: str) -> dict[str, Any]:
    return {"rois": (text_of(roi_from_text(_measured(text, ROI_MAX))),)}


READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "run": _name("run"),
    "source": _name("source"),
    "channel": _name("channel"),
    "limits": _limits,
    "scale": _choice("scale", SCALES),
    "aspect": _choice("aspect", ASPECTS),
    "colors": _choice("colors", PALETTES),
    "exchanged": _switch("exchanged"),
    "shape": _shape,
    "path": _switch("stage_path"),
    "grid": _switch("grid"),
    "map": _name("enlarged"),
    "zoom": _rectangle("zoom"),
    "box": _rectangle("box"),
    "brush": _brush,
    "left": _choice("left", LEFT),
    "file": _path("file"),
    "node": _path("node"),
    "as": _choice("display", DISPLAYS),
    "slice": _index,
    "compare": _compare,
    "of": _name("compared"),
    "theme": _choice("theme", THEMES),
    "wall": _switch("wall"),
    "at": _at,
    "point": _point("point"),
    "background": _point("background"),
    "roi": _roi,
}
