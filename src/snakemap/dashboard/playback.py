"""The time of its run that a tab shows: live, an earlier time, or a replay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from snakemap.core.run import Run
from snakemap.errors import SnakemapError
from snakemap.live.run_history import RunHistory

__all__ = ["SPEEDS", "Playback"]

log = logging.getLogger(__name__)

SPEEDS = (1, 10, 100)
STEP_S = 0.1


class Playback:
    """Playback of one tab: earlier times of its run, up to live.

    The run as it was is folded in the background. Meanwhile the tab shows the previous moment; of several requests only
    the last one is served. Other tabs are not affected.

    Args:
        past: of the process.
        on_change: called when another moment can be drawn, or is live again.
        on_trouble: called with a message when a moment cannot be shown; then it is live again.

    Attributes:
        moment: milliseconds since 1970 that are shown or on their way; None is live.
        playing: whether time goes on.
        speed: so many times as fast as it was.
    """

    def __init__(self, past: RunHistory, *, on_change: Callable[[], None], on_trouble: Callable[[str], None]) -> None:
        self.moment: int | None = None
        self.playing = False
        self.speed = SPEEDS[1]
        self._past = past
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._live: Run | None = None
        self._then: Run | None = None
        self._working: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    def drawn_of(self, run: Run | None) -> Run | None:
        """Return what is drawn of the run of a tab: the run itself, or the run as it was; another run is live."""
        if run is None or self._live is None or run.uid != self._live.uid:
            self.end()
        elif run is not self._live:  # folded again, from a store that is not the same any more
            self._then = None
            self._asked.set()
        self._live = run
        return self._then if self.moment is not None and self._then is not None else run

    @property
    def span(self) -> tuple[int, int] | None:
        """Milliseconds since 1970 of the first and the last document of the run; None where there are not two."""
        if self._live is None:
            return None
        first, last = round(1000 * self._live.began), round(1000 * self._live.updated)
        return (first, last) if last > first else None

    @property
    def running(self) -> bool:
        """Whether the run goes on now."""
        return self._live is not None and self._live.status == "running"

    def go(self, moment: int) -> None:
        """Go to a moment, in milliseconds since 1970; at or beyond the last document is live."""
        span = self.span
        if span is None or moment >= span[1]:
            self.live()
            return
        self.moment = max(moment, span[0])
        self._work()

    def play(self) -> None:
        """Play from the moment that is shown, or from the beginning if that is live."""
        span = self.span
        if span is None:
            return
        self.playing = True
        self.moment = span[0] if self.moment is None else self.moment
        self._work()

    def pause(self) -> None:
        """Stay at the moment that is shown."""
        self.playing = False
        self._on_change()

    def live(self) -> None:
        """Show the run as it is now."""
        self.end()
        self._on_change()

    def end(self) -> None:
        """Return to live without notifying."""
        self.moment, self.playing, self._then = None, False, None
        if self._working is not None:
            self._working.cancel()
            self._working = None

    def _work(self) -> None:
        self._asked.set()
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._follow(), name="playback")
        self._on_change()

    async def _follow(self) -> None:
        """Fold the moment that is wanted, and then the next one; end when it is live."""
        try:
            while self.moment is not None and self._live is not None:
                self._asked.clear()
                begun = time.monotonic()
                moment, live = self.moment, self._live
                then = await self._past.run_at(self._live.uid, moment, onward=self._then)
                if self._working is not asyncio.current_task():
                    return  # ended: the cancellation was swallowed
                if self._live is not live:
                    continue
                self._then = then
                self._on_change()
                if not self.playing:
                    await self._asked.wait()
                    continue
                await asyncio.sleep(max(0.0, STEP_S - (time.monotonic() - begun)))
                if self.playing and self.moment == moment:
                    self._step(moment, seconds=time.monotonic() - begun)
        except SnakemapError as trouble:
            log.warning("cannot go back in a run: %s", trouble)
            self._working = None
            self.live()
            self._on_trouble(str(trouble))

    def _step(self, moment: int, *, seconds: float) -> None:
        span = self.span
        later = moment + max(1, round(1000 * seconds * self.speed))
        if span is None or later >= span[1]:
            self._working = None  # it ends by itself
            self.live()
        else:
            self.moment = later
