"""What an address asks a tab for, done once and as soon as it can be: runs load, and channels come with first sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from panel.io.state import set_curdoc

from snakemap.permalink import BY_HAND, Place
from snakemap.runs import Run
from snakemap.views.messages import warn
from snakemap.views.tab import Tab

__all__ = ["Arrival", "say"]

NOTES_MAX = 4


class Arrival:
    """Brings one tab to a place.

    What needs nothing is chosen at once, the rest when the run is there that it was meant for: before it is drawn, or,
    where its coordinates must be known, right after. What a run turns out not to have is told of and left out. When
    somebody turns to another run meanwhile, nothing more is done.

    Args:
        tab: that is brought there.

    Attributes:
        waiting: what is still to be done, by the name of the field of :class:`~snakemap.permalink.Place`.
    """

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.waiting: dict[str, Any] = {}
        self._run = ""
        self._notes: list[str] = []
        tab.on_run(self._before)
        tab.on_tick(self._after)

    def go(self, place: Place, notes: Sequence[str] = ()) -> None:
        """Goes to a place.

        Args:
            place: where; what it does not name becomes as usual.
            notes: what there is to say of it, once the page can.
        """
        tab, choices, usual = self.tab, self.tab.choices, Place()
        late = ("source", "channel", "exchanged", "shape", "by_hand", "brush", "zoom", "box", "at")
        self.waiting = {name: wanted for name in late if (wanted := getattr(place, name)) != getattr(usual, name)}
        self._run, self._notes = place.run, list(notes)
        at_once: dict[str, Any] = {name: getattr(place, name) for name in ("scale", "aspect", "trail")}
        if place.limits != BY_HAND:
            at_once["limits"] = place.limits
        # the usual needs no run
        at_once |= {name: getattr(usual, name) for name in ("source", "exchanged", "shape") if name not in self.waiting}
        if "channel" not in self.waiting:
            at_once["channel"] = tab.maps.channels[-1]
        if place.theme:
            tab.topbar.theme = place.theme
        choices.param.update(**at_once, pinned=place.run)
        if "box" not in self.waiting:
            choices.box = None
        if "brush" not in self.waiting and choices.brush is not None:
            tab.show_brush(None)
        if "zoom" not in self.waiting:
            tab.maps.show_zoom(None)
        if "at" not in self.waiting and tab.playback.moment is not None:
            tab.playback.live()
        tab.wake()

    @property
    def arrived(self) -> bool:
        """Whether the run is there, or there is none to wait for, and nothing else is to be done."""
        pinned, run = self.tab.choices.pinned, self.tab.pipeline.run
        return not self.waiting and (not pinned or (run is not None and run.uid == pinned))

    def _before(self, run: Run | None) -> None:
        """What decides how a run is drawn."""
        if self.waiting and self.tab.choices.pinned != self._run:
            self.waiting.clear()
        if self.waiting and run is not None:
            with set_curdoc(self.tab.document):
                self._lay_out(run)
                self._choose_channel(run)
        if self._notes:
            with set_curdoc(self.tab.document):
                say(self._notes)
            self._notes = []

    def _lay_out(self, run: Run) -> None:
        source = self.waiting.get("source")
        if source in run.sources:
            self.waiting.pop("source")
            self.tab.choices.source = "" if run.source(source) is run.main else source
        elif source is not None and (run.points or run.stop is not None):
            self._give_up(f"this run has no source {source!r}", "source")
        if "source" not in self.waiting:
            told = {name: self.waiting.pop(name) for name in ("exchanged", "shape") if name in self.waiting}
            self.tab.choices.param.update(**told)

    def _choose_channel(self, run: Run) -> None:
        """The channel, and what is meant for it."""
        choices, source = self.tab.choices, self.tab.pipeline.source
        if "source" in self.waiting or source.maps.channels != self.tab.maps.channels:
            return  # other maps are on their way
        channel = self.waiting.get("channel")
        if channel in source.maps.channels:
            choices.channel = self.waiting.pop("channel")
        elif channel is not None and (source.told is not None or source.kind == "scalars" or run.stop is not None):
            self._give_up(f"this run has no channel {channel!r}", "channel", "by_hand", "brush")
        if "channel" in self.waiting:
            return
        if (by_hand := self.waiting.pop("by_hand", None)) is not None:
            choices.limits = BY_HAND  # first, as the page then fills in what is seen
            choices.param.update(low=by_hand[0], high=by_hand[1])
        if (brush := self.waiting.pop("brush", None)) is not None:
            self.tab.show_brush(brush)

    def _after(self) -> None:
        """What needs to know where the maps lie."""
        run, place = self.tab.pipeline.run, self.tab.page.place
        if run is None or not place or place["uid"] != run.uid or not self.waiting.keys() <= {"zoom", "box", "at"}:
            return
        show: dict[str, Callable[[Any], None]] = {"zoom": self.tab.maps.show_zoom, "box": self.tab.show_box}
        for name in [name for name in show if name in self.waiting]:
            left, right, bottom, top = self.waiting[name]
            if left < place["right"] and right > place["left"] and bottom < place["top"] and top > place["bottom"]:
                with set_curdoc(self.tab.document):
                    show[name](self.waiting.pop(name))
            elif run.raster.path is None or run.stop is not None:  # a path may still get there
                self._give_up(f"the {name} of this link lies outside the maps", name)
        if self.waiting.keys() == {"at"}:
            self._go_back(self.waiting.pop("at"))

    def _go_back(self, moment: int) -> None:
        first, last = self.tab.playback.span or (0, 0)
        if first <= moment < last:
            self.tab.playback.go(moment)
        else:
            self._notes.append("the moment of this link is none of this run")

    def _give_up(self, note: str, *names: str) -> None:
        self._notes.append(note)
        for name in names:
            self.waiting.pop(name, None)


def say(notes: Sequence[str]) -> None:
    """Says what could not be used of an address."""
    more = [f"and {len(notes) - NOTES_MAX} more"] if len(notes) > NOTES_MAX else []
    told = "; ".join([*notes[:NOTES_MAX], *more])
    warn(f"Not all of this link can be shown: {told}.")
