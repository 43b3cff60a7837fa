"""Keep the address of a dashboard and its view state in step, also for back and forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from panel.io.state import set_curdoc

from snakemap.core.run import Run
from snakemap.dashboard.callbacks import later, soon
from snakemap.dashboard.deferred import Deferred
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.compare import CompareView
from snakemap.dashboard.panes.file_workspace import FileWorkspace
from snakemap.dashboard.permalink import BY_HAND, LEFT, QUERY_MAX, ViewPlace, parse, query
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import AddressBar, Rail
from snakemap.render.dataset_display import displays_of

__all__ = ["CenterPane", "UrlArrival", "UrlSync", "say"]

NUMBERS_MAX = 2**53


SEND_MS = 300
"""How long small changes are gathered: browsers allow about three changes of an address a second."""


@dataclass
class CenterPane:
    """What a dashboard shows in its middle.

    Attributes:
        seen: ``"maps"``, ``"dataset"`` or ``"comparison"``.
        see_maps: shows the maps.
        see_comparison: shows the comparison.
        compare: two runs.
        workspace: the files; None where there are none.
    """

    seen: str
    see_maps: Callable[[], None]
    see_comparison: Callable[[], None]
    compare: Deferred[CompareView]
    workspace: FileWorkspace | None


class UrlSync:
    """The address of one tab.

    It is sent to the browser whenever it has changed: at once, and as a new entry of the history, when another
    run, dataset or comparison is shown; else gathered, in the place of the last one. Of a place that was never seen, as
    its run or file is not there, no entry is left. What the browser says after back or forward is answered with the
    number that it came with, so that nothing that is still on its way counts for another entry.

    Args:
        tab: whose it is.
        center: of its page.
        lists: of its left column.
        names: of these lists, as in an address; those that it does not know are like the first one.
    """

    def __init__(self, tab: Session, center: CenterPane, lists: Rail, *, names: Sequence[str]) -> None:
        self.tab = tab
        self.center = center
        self.lists = lists
        self._names = [name if name in LEFT else "" for name in names]
        self.bar = AddressBar(width=104, height=40, margin=0)
        self.arrival = UrlArrival(tab)
        self._opening: ViewPlace | None = None
        self._opened = False
        self._sent = ViewPlace()
        self._was_seen = False
        self._number = 0
        self._sent_count = 0
        self._held = self._next = False
        self._run: str | None = None
        self._at = 0
        self._gone = False
        self._theme_in_address = False
        self.bar.param.watch(self._on_asked, "asked")
        tab.choices.param.watch(self._on_theme, "theme")
        tab.choices.param.watch(self.soon, [name for name in tab.choices.param if name != "name"])
        lists.param.watch(self.soon, "active")
        if center.workspace is not None:
            center.workspace.on_shown = self.soon
        tab.on_zoom(self.soon)
        tab.on_tick(self._on_tick)
        tab.on_close(self._close)

    def go(self, place: ViewPlace, notes: Sequence[str] = ()) -> None:
        """Go to a place, as an address asks for it.

        Args:
            place: where.
            notes: what of the address could not be used.
        """
        self._sent, self._was_seen = place, False
        self._theme_in_address = self._theme_in_address or bool(place.theme)
        self.arrival.go(place, notes)
        self.lists.active = self._names.index(place.left) if place.left in self._names else 0
        if place.left:
            self.lists.open = True
        self._opening, self._opened = None, False
        if place.file or place.compare:
            self._opening = place
        elif self.center.seen != "maps":
            self.center.see_maps()
        self.soon()

    def moved(self) -> None:
        """Cancel a pending open: the user switched the center pane.

        An open that still waits for its run goes on: the maps are only shown because the run is not there yet.
        """
        wanted = self._opening
        if wanted is None or self._opened or self.tab.choices.pinned not in ("", wanted.run):
            self._opening = None
        self.soon()

    def soon(self, *_: Any) -> None:
        """Send a changed address soon; at once if it is that of another run, dataset or comparison."""
        if self._gone or self._run is None:
            return
        if self.place().key != self._sent.key:
            self._at_once()
        elif not self._held:
            self._held = True
            later(self.tab.document, self._send_gathered, SEND_MS)

    def _at_once(self) -> None:
        if not self._next:
            self._next = True
            soon(self.tab.document, self._send)

    def place(self) -> ViewPlace:
        """Return the view state of the page, as it will be once all requests are served."""
        tab, choices, channels = self.tab, self.tab.choices, self.tab.maps.channels
        typed = choices.limits == BY_HAND and None not in (choices.low, choices.high)
        by_hand = (choices.low, choices.high) if typed else None
        here = ViewPlace(
            run=choices.pinned,
            source=choices.source,
            channel="" if choices.channel == channels[-1] else choices.channel,
            limits=choices.limits,
            by_hand=by_hand,
            scale=choices.scale,
            aspect=choices.aspect,
            colors=choices.colors,
            exchanged=choices.exchanged,
            shape=choices.shape,
            stage_path=choices.stage_path,
            grid=choices.grid,
            enlarged=choices.enlarged,
            zoom=tab.maps.zoom,
            box=tab.maps.box,
            brush=choices.brush,
            left=self._names[self.lists.active],
            theme=choices.theme if self._theme_in_address else "",
            at=0 if tab.playback.playing else tab.playback.moment or 0,
            point=choices.point,
            background=choices.background,
            rois=choices.rois,
        )
        waiting = dict(self.arrival.waiting)
        if "by_hand" in waiting:
            waiting["limits"] = BY_HAND
        return self._centered(replace(here, **waiting))

    def _centered(self, place: ViewPlace) -> ViewPlace:
        """Return a place with the content of the center pane."""
        center, wanted = self.center, self._opening
        if wanted is not None:
            names = ("file", "node", "display", "index", "compare", "compared")
            return replace(place, **{name: getattr(wanted, name) for name in names})
        shown = center.workspace.shown if center.workspace is not None else None
        if center.seen == "dataset" and shown is not None:
            display = "" if shown.display == displays_of(shown.about)[0] else shown.display
            return replace(place, file=shown.file, node=shown.node, display=display, index=tuple(shown.index))
        compare = center.compare.made
        if center.seen == "comparison" and compare is not None and compare.runs is not None:
            runs, channel = compare.runs, compare.channel
            compared = "" if channel.value == channel.options[-1] else channel.value
            return replace(place, compare=(runs[0].uid, runs[1].uid), compared=compared)
        return place

    def _on_tick(self) -> None:
        """Open what waits for its run, and note a switch to another run."""
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

    def _open(self, place: ViewPlace) -> None:
        """Open a dataset or a comparison, or notify why not."""

        def done() -> None:
            if self._opening is place:
                self.moved()

        center = self.center
        if place.file and center.workspace is not None:
            center.workspace.open(place.file, place.node, display=place.display, index=place.index, then=done)
        elif place.compare:
            first, second = place.compare
            center.compare.use(
                lambda view: view.compare(
                    first, second, channel=place.compared, then=center.see_comparison, failed=done
                )
            )
        else:
            done()

    def _on_theme(self, _: Any) -> None:
        self._theme_in_address = True

    def _on_asked(self, event: Any) -> None:
        """Go to the entry of the history that back or forward led to; input from the browser is checked."""
        asked = event.new if isinstance(event.new, dict) else {}
        number, text = asked.get("number"), asked.get("query")
        if isinstance(number, int) and 0 < number < NUMBERS_MAX and isinstance(text, str):
            self._number = number
            self.go(*parse(text[: QUERY_MAX + 1]))

    def _send_gathered(self) -> None:
        self._held = False
        self._send()

    def _send(self) -> None:
        self._next = False
        if self._gone:
            return
        place = self.place()
        push = self._was_seen and place.key != self._sent.key
        if place.key != self._sent.key:
            self._was_seen = False
        self._sent = place
        text = query(place)
        state = {"query": text, "push": push, "answers": self._number, "link": query(self._pinned(place))}
        if push or any(self.bar.state.get(name) != value for name, value in state.items()):
            self._sent_count += 1
            with set_curdoc(self.tab.document):
                self.bar.state = {**state, "number": self._sent_count}

    def _pinned(self, place: ViewPlace) -> ViewPlace:
        """Return a place to share: it names the run that is shown."""
        run = self.tab.pipeline.run
        return replace(place, run=run.uid) if run is not None and not (place.file or place.compare) else place

    def _close(self) -> None:
        self._gone = True


NOTES_MAX = 4


class UrlArrival:
    """Apply a place to one tab.

    Fields that need no run are applied at once, the others when their run is there: before it is drawn, or right after
    where its coordinates must be known. Fields that the run does not have are left out with a note. A switch to another
    run meanwhile cancels the rest.

    Args:
        tab: that is brought there.

    Attributes:
        waiting: what is still to be done, by the name of the field of :class:`~snakemap.dashboard.permalink.ViewPlace`.
    """

    def __init__(self, tab: Session) -> None:
        self.tab = tab
        self.waiting: dict[str, Any] = {}
        self._run = ""
        self._notes: list[str] = []
        tab.on_run(self._before)
        tab.on_tick(self._after)

    def go(self, place: ViewPlace, notes: Sequence[str] = ()) -> None:
        """Go to a place.

        Args:
            place: where; what it does not name becomes as usual.
            notes: what there is to say of it, once the page can.
        """
        tab, choices, usual = self.tab, self.tab.choices, ViewPlace()
        late = (
            "source",
            "channel",
            "exchanged",
            "shape",
            "by_hand",
            "brush",
            "zoom",
            "box",
            "at",
            "point",
            "background",
        )
        self.waiting = {name: wanted for name in late if (wanted := getattr(place, name)) != getattr(usual, name)}
        self._run, self._notes = place.run, list(notes)
        as_named = ("scale", "aspect", "colors", "stage_path", "grid", "enlarged")
        at_once: dict[str, Any] = {name: getattr(place, name) for name in as_named}
        at_once["rois"] = place.rois
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
        if "point" not in self.waiting:
            choices.point = 0
        if "background" not in self.waiting:
            choices.background = 0
        if "at" not in self.waiting and tab.playback.moment is not None:
            tab.playback.live()
        tab.wake()

    @property
    def arrived(self) -> bool:
        """Whether the run is there, or there is none to wait for, and nothing else is to be done."""
        pinned, run = self.tab.choices.pinned, self.tab.pipeline.run
        return not self.waiting and (not pinned or (run is not None and run.uid == pinned))

    def _before(self, run: Run | None) -> None:
        """Apply the fields that decide how a run is drawn."""
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
            chosen = {name: self.waiting.pop(name) for name in ("exchanged", "shape") if name in self.waiting}
            self.tab.choices.param.update(**chosen)

    def _choose_channel(self, run: Run) -> None:
        """Apply the channel and the fields that belong to it."""
        choices, source = self.tab.choices, self.tab.pipeline.source
        if "source" in self.waiting or source.maps.channels != self.tab.maps.channels:
            return  # other maps are on their way
        channel = self.waiting.get("channel")
        if channel in source.maps.channels:
            choices.channel = self.waiting.pop("channel")
        elif channel is not None and (
            source.derived_descriptor is not None or source.kind == "scalars" or run.stop is not None
        ):
            self._give_up(f"this run has no channel {channel!r}", "channel", "by_hand", "brush")
        if "channel" in self.waiting:
            return
        if (by_hand := self.waiting.pop("by_hand", None)) is not None:
            choices.limits = BY_HAND  # first, as the page then fills in what is seen
            choices.param.update(low=by_hand[0], high=by_hand[1])
        if (brush := self.waiting.pop("brush", None)) is not None:
            self.tab.show_brush(brush)

    def _after(self) -> None:
        """Apply the fields that need the coordinates of the maps."""
        run, place = self.tab.pipeline.run, self.tab.page.place
        if run is None or not place or place["uid"] != run.uid:
            return
        if not self.waiting.keys() <= {"zoom", "box", "at", "point", "background"}:
            return
        show: dict[str, Callable[[Any], None]] = {"zoom": self.tab.maps.show_zoom, "box": self.tab.show_box}
        for name in [name for name in show if name in self.waiting]:
            left, right, bottom, top = self.waiting[name]
            if left < place["right"] and right > place["left"] and bottom < place["top"] and top > place["bottom"]:
                with set_curdoc(self.tab.document):
                    show[name](self.waiting.pop(name))
            elif run.raster.path is None or run.stop is not None:  # a path may still get there
                self._give_up(f"the {name} of this link is outside the maps", name)
        for name in ("point", "background"):
            if name in self.waiting:
                self._choose_point(name, self.waiting.pop(name))
        if self.waiting.keys() == {"at"}:
            self._go_back(self.waiting.pop("at"))

    def _choose_point(self, name: str, point: int) -> None:
        """Show, or subtract, the frame of a point, which may not be measured yet."""
        if point > self.tab.pipeline.points:
            self._notes.append(f"this run has no point {point:,}")
            return
        with set_curdoc(self.tab.document):
            setattr(self.tab.choices, name, point)

    def _go_back(self, moment: int) -> None:
        first, last = self.tab.playback.span or (0, 0)
        if first <= moment < last:
            self.tab.playback.go(moment)
        else:
            self._notes.append("the time in this link is outside this run")

    def _give_up(self, note: str, *names: str) -> None:
        self._notes.append(note)
        for name in names:
            self.waiting.pop(name, None)


def say(notes: Sequence[str]) -> None:
    """Warn of the parts of an address that could not be used."""
    more = [f"and {len(notes) - NOTES_MAX} more"] if len(notes) > NOTES_MAX else []
    text = "; ".join([*notes[:NOTES_MAX], *more])
    warn(f"Not all of this link can be shown: {text}.")
