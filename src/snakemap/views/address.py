"""The address of a dashboard: it follows what is shown, and back and forward are followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import panel as pn
from panel.io.state import set_curdoc

from snakemap.permalink import BY_HAND, LEFT, QUERY_MAX, Place, parse, query
from snakemap.views.arrival import Arrival
from snakemap.views.compare import CompareView
from snakemap.views.components import AddressBar
from snakemap.views.displays import displays_of
from snakemap.views.order import later, soon
from snakemap.views.tab import Tab
from snakemap.views.visit import Visit

__all__ = ["Address", "Center"]

NUMBERS_MAX = 2**53
TELL_MS = 300
"""How long small changes are gathered: browsers allow about three changes of an address a second."""


@dataclass
class Center:
    """What a dashboard shows in its middle.

    Attributes:
        seen: ``"maps"``, ``"dataset"`` or ``"comparison"``.
        see_maps: shows the maps.
        see_comparison: shows the comparison.
        compare: two runs.
        visit: the files; None where there are none.
    """

    seen: str
    see_maps: Callable[[], None]
    see_comparison: Callable[[], None]
    compare: CompareView
    visit: Visit | None


class Address:
    """The address of one tab.

    It is told to the browser whenever it would be another one: at once, and as a new entry of the history, when another
    run, dataset or comparison is shown; else gathered, in the place of the last one. Of a place that was never seen, as
    its run or file is not there, no entry is left. What the browser says after back or forward is answered with the
    number that it came with, so that nothing that is still on its way counts for another entry.

    Args:
        tab: whose it is.
        center: of its page.
        lists: of its left column.
        names: of these lists, as in an address; those that it does not know are like the first one.
    """

    def __init__(self, tab: Tab, center: Center, lists: pn.Tabs, *, names: Sequence[str]) -> None:
        self.tab = tab
        self.center = center
        self.lists = lists
        self._names = ["", *(name if name in LEFT else "" for name in names[1:])]
        self.bar = AddressBar(width=104, height=48, margin=0)
        self.arrival = Arrival(tab)
        self._opening: Place | None = None
        self._opened = False
        self._told = Place()
        self._was_seen = False
        self._number = 0
        self._tells = 0
        self._held = self._next = False
        self._run: str | None = None
        self._at = 0
        self._gone = False
        self._theme_told = False
        self.bar.param.watch(self._on_asked, "asked")
        tab.choices.param.watch(self._on_theme, "theme")
        tab.choices.param.watch(self.soon, [name for name in tab.choices.param if name != "name"])
        center.compare.channel.param.watch(self.soon, "value")
        lists.param.watch(self.soon, "active")
        if center.visit is not None:
            center.visit.on_shown = self.soon
        tab.on_zoom(self.soon)
        tab.on_tick(self._on_tick)
        tab.on_close(self._close)

    def go(self, place: Place, notes: Sequence[str] = ()) -> None:
        """Goes to a place, as an address asks for it.

        Args:
            place: where.
            notes: what of the address could not be used.
        """
        self._told, self._was_seen = place, False
        self._theme_told = self._theme_told or bool(place.theme)
        self.arrival.go(place, notes)
        self.lists.active = self._names.index(place.left) if place.left in self._names else 0
        self._opening, self._opened = None, False
        if place.file or place.compare:
            self._opening = place
        elif self.center.seen != "maps":
            self.center.see_maps()
        self.soon()

    def moved(self) -> None:
        """Something else is seen in the middle; whoever did that wants nothing more of what was to be opened.

        Unless that still waits for its run, and the maps are seen because there is no such run.
        """
        wanted = self._opening
        if wanted is None or self._opened or self.tab.choices.pinned not in ("", wanted.run):
            self._opening = None
        self.soon()

    def soon(self, *_: Any) -> None:
        """Tells the address before long, if it is another one; at once when it is that of another place."""
        if self._gone or self._run is None:
            return
        if self.place().key != self._told.key:
            self._at_once()
        elif not self._held:
            self._held = True
            later(self.tab.document, self._tell_gathered, TELL_MS)

    def _at_once(self) -> None:
        if not self._next:
            self._next = True
            soon(self.tab.document, self._tell)

    def place(self) -> Place:
        """Where the page is, or will be when all that was asked for is there."""
        tab, choices, channels = self.tab, self.tab.choices, self.tab.maps.channels
        typed = choices.limits == BY_HAND and None not in (choices.low, choices.high)
        by_hand = (choices.low, choices.high) if typed else None
        here = Place(
            run=choices.pinned,
            source=choices.source,
            channel="" if choices.channel == channels[-1] else choices.channel,
            limits=choices.limits,
            by_hand=by_hand,
            scale=choices.scale,
            aspect=choices.aspect,
            exchanged=choices.exchanged,
            shape=choices.shape,
            trail=choices.trail,
            zoom=tab.maps.zoom,
            box=tab.maps.box,
            brush=choices.brush,
            left=self._names[self.lists.active],
            theme=choices.theme if self._theme_told else "",
            at=0 if tab.playback.playing else tab.playback.moment or 0,
        )
        waiting = dict(self.arrival.waiting)
        if "by_hand" in waiting:
            waiting["limits"] = BY_HAND
        return self._centered(replace(here, **waiting))

    def _centered(self, place: Place) -> Place:
        """A place with what is in the middle."""
        center, wanted = self.center, self._opening
        if wanted is not None:
            names = ("file", "node", "display", "index", "compare", "compared")
            return replace(place, **{name: getattr(wanted, name) for name in names})
        shown = center.visit.dataset.shown if center.visit is not None else None
        if center.seen == "dataset" and shown is not None:
            display = "" if shown.display == displays_of(shown.about)[0] else shown.display
            return replace(place, file=shown.file, node=shown.node, display=display, index=tuple(shown.index))
        runs, channel = center.compare.runs, center.compare.channel
        if center.seen == "comparison" and runs is not None:
            compared = "" if channel.value == channel.options[-1] else channel.value
            return replace(place, compare=(runs[0].uid, runs[1].uid), compared=compared)
        return place

    def _on_tick(self) -> None:
        """Opens what waits for its run, and notices that another one is followed."""
        arrived = self.arrival.arrived
        if arrived and self._opening is not None and not self._opened:
            self._opened = True
            with set_curdoc(self.tab.document):
                self._open(self._opening)
        self._was_seen = self._was_seen or (arrived and self._opening is None)
        run = self.tab.pipeline.run
        uid = run.uid if run is not None else ""
        at = 0 if self.tab.playback.playing else self.tab.playback.moment or 0
        if uid != self._run:
            self._run = uid
            self._at_once()  # or a link would be copied that names the run before
        if at != self._at:
            self._at = at
            self.soon()

    def _open(self, place: Place) -> None:
        """Opens a dataset or a comparison, or tells why not."""

        def done() -> None:
            if self._opening is place:
                self.moved()

        center = self.center
        if place.file and center.visit is not None:
            center.visit.open(place.file, place.node, display=place.display, index=place.index, then=done)
        elif place.compare:
            first, second = place.compare
            center.compare.compare(first, second, channel=place.compared, then=center.see_comparison, failed=done)
        else:
            done()

    def _on_theme(self, _: Any) -> None:
        self._theme_told = True

    def _on_asked(self, event: Any) -> None:
        """Back or forward led to another entry of the history; what a browser says is not believed."""
        asked = event.new if isinstance(event.new, dict) else {}
        number, text = asked.get("number"), asked.get("query")
        if isinstance(number, int) and 0 < number < NUMBERS_MAX and isinstance(text, str):
            self._number = number
            self.go(*parse(text[: QUERY_MAX + 1]))

    def _tell_gathered(self) -> None:
        self._held = False
        self._tell()

    def _tell(self) -> None:
        self._next = False
        if self._gone:
            return
        place = self.place()
        push = self._was_seen and place.key != self._told.key
        if place.key != self._told.key:
            self._was_seen = False
        self._told = place
        text = query(place)
        state = {"query": text, "push": push, "answers": self._number, "link": query(self._pinned(place))}
        if push or any(self.bar.state.get(name) != told for name, told in state.items()):
            self._tells += 1
            with set_curdoc(self.tab.document):
                self.bar.state = {**state, "number": self._tells}

    def _pinned(self, place: Place) -> Place:
        """A place for others: of the newest run, it is this one that they shall see."""
        run = self.tab.pipeline.run
        return replace(place, run=run.uid) if run is not None and not (place.file or place.compare) else place

    def _close(self) -> None:
        self._gone = True
