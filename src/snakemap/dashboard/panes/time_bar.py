"""The time bar under the maps."""

from __future__ import annotations

import time
from typing import Any

from panel.io.state import set_curdoc

from snakemap.core.run import Run
from snakemap.dashboard.playback import SPEEDS
from snakemap.dashboard.session import Session
from snakemap.dashboard.widgets import TimeBar

__all__ = ["TimeBarPane"]


class TimeBarPane:
    """The time bar of a tab, which shows earlier times of its run.

    A tab that follows the newest run stays with the present one until it is live again.

    Args:
        tab: whose maps they are.
    """

    def __init__(self, tab: Session) -> None:
        self.tab = tab
        self.bar = TimeBar(height=28, sizing_mode="stretch_width", margin=0)
        self._kept = ""
        self.bar.param.watch(self._on_ask, "ask")
        tab.on_tick(self._on_tick)
        tab.on_status(lambda _: self._show())

    def go(self, moment: int) -> None:
        """Show a moment of the run, in milliseconds since 1970."""
        self._stay()
        self.tab.playback.go(moment)

    def _on_ask(self, event: Any) -> None:
        """Handle a request of the browser, which is checked."""
        asked = event.new if isinstance(event.new, dict) else {}
        what, value, playback = asked.get("what"), asked.get("value"), self.tab.playback
        if what == "go" and isinstance(value, int | float) and 0 <= value < 2**53:
            self.go(int(value))
        elif what == "play":
            self._stay()
            playback.play()
        elif what == "pause":
            playback.pause()
        elif what == "speed" and value in SPEEDS:
            playback.speed = value
            self._show()
        elif what == "live":
            playback.live()
            self._follow_again()

    def _stay(self) -> None:
        run, choices = self.tab.pipeline.run, self.tab.choices
        if run is not None and not choices.pinned:
            self._kept = choices.pinned = run.uid

    def _follow_again(self) -> None:
        kept, self._kept = self._kept, ""
        if kept and self.tab.choices.pinned == kept:
            with set_curdoc(self.tab.document):
                self.tab.choices.pinned = ""

    def _on_tick(self) -> None:
        playback = self.tab.playback
        if playback.moment is None and self._kept in ("", self.tab.live.newest):
            self._follow_again()  # the playback has ended, and there is no newer run
        if playback.moment != self.bar.state.get("moment"):
            self._show()

    def _show(self) -> None:
        state = self._state(self.tab.pipeline.run)
        if state != self.bar.state:
            with set_curdoc(self.tab.document):
                self.bar.state = state

    def _state(self, drawn: Run | None) -> dict[str, Any]:
        playback = self.tab.playback
        if drawn is None or playback.span is None:
            return {"moment": None}
        first, last = playback.span
        moment = last if playback.moment is None else playback.moment
        at = time.strftime("%H:%M:%S", time.localtime(moment / 1000))
        of = f" of {drawn.expected:,}" if drawn.expected else ""
        return {
            "first": first,
            "last": last,
            "moment": playback.moment,
            "playing": playback.playing,
            "speed": playback.speed,
            "speeds": list(SPEEDS),
            "running": playback.running,
            "text": f"{at} · {drawn.points:,}{of} points",
        }
