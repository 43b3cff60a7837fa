"""A pane of a browser session, and the entry by which pages, embedding and the library know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import panel as pn
from bokeh.models import CustomJS

from snakemap.dashboard.client_state import ClientState
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.theme import THEMES, Theme
from snakemap.dashboard.widgets import script_of

__all__ = ["Pane", "PaneEntry", "checked_panes", "update_script"]


class Pane(pn.viewable.Viewer):
    """What a session shows of a run. A session makes one of each class, and calls the methods below.

    ::

        of(session)   once
        update(...)   while a run is drawn: in every tick, or every `period_s`
        reset()       another run is drawn
        forget()      the browser has lost what was sent, or another time, source or shape is drawn
        restyle(...)  the user has chosen another theme

    Attributes:
        period_s: least seconds between two updates; 0: every tick.
        after_choice: whether a choice of the user brings an update before the period is over.
        script: name of the part of ``js/`` that puts its news into place; empty: it sends none.
    """

    period_s: ClassVar[float] = 0.0
    after_choice: ClassVar[bool] = True
    script: ClassVar[str] = ""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._remembered: dict[str, Any] = {}
        self._updated_at = 0.0

    @classmethod
    def of(cls, session: SessionContext) -> Self:
        """Return the pane of a session."""
        return cls(theme=THEMES[session.choices.theme])

    def script_arguments(self) -> dict[str, Any]:
        """Return the models that its script takes, by name; names are unique among the panes."""
        return {}

    def update(self, session: SessionContext) -> None:
        """Show what has changed in the run that is drawn."""
        raise NotImplementedError(f"{type(self).__name__} has no method `update`")

    def reset(self) -> None:
        """Show nothing, for another run."""

    def restyle(self, theme: Theme) -> None:
        """Apply a theme; a pane whose style sheet has the colors of the page has nothing to do."""

    def forget(self) -> None:
        """Forget what was sent; :meth:`is_new` is then true of every value."""
        self._remembered.clear()

    def hasten(self) -> None:
        """Update in the next tick, whatever the period is."""
        self._updated_at = 0.0

    def is_new(self, name: str, value: Any) -> bool:
        """Return whether a value differs from the one that was sent under this name, and remember it."""
        if name in self._remembered and _same(self._remembered[name], value):
            return False
        self._remembered[name] = value
        return True

    def update_when_due(self, session: SessionContext, *, now: float) -> None:
        """Update unless the last update was less than the period ago."""
        if now - self._updated_at >= self.period_s:
            self._updated_at = now
            self.update(session)


@dataclass(frozen=True, slots=True)
class PaneEntry:
    """A pane as pages, embedding and the library know it.

    Attributes:
        name: part of its address (``/maps``), key of the session's panes, name of the library's method.
        kind: its class.
        height: pixels in a layout that gives it none; None: its own.
        slot: where it stands on the dashboard.
        height_alone: pixels of a page of its own in an element without a height; None: `height`.
    """

    name: str
    kind: type[Pane]
    height: int | None
    slot: Literal["center", "right", "bottom"]
    height_alone: int | None = None


def checked_panes(*entries: PaneEntry) -> tuple[PaneEntry, ...]:
    """Return entries of panes.

    Raises:
        ValueError: when one could not be shown, with the reason.
    """
    for entry in entries:
        if [one.name for one in entries].count(entry.name) > 1:
            raise ValueError(f"two panes have the name {entry.name!r}")
        if not entry.name.isidentifier():
            raise ValueError(f"the name of a pane is part of an address and of Python, unlike {entry.name!r}")
        if entry.kind.update is Pane.update:
            raise ValueError(f"the pane {entry.name!r} shows nothing: {entry.kind.__name__} has no method `update`")
        if entry.height is None and entry.height_alone is None:
            raise ValueError(f"the pane {entry.name!r} has no height on a page of its own")
    return entries


def update_script(page: ClientState, panes: Sequence[Pane]) -> CustomJS:
    """Return the script that puts the news of all panes into place.

    Raises:
        ValueError: when two panes have arguments of the same name.
    """
    arguments: dict[str, Any] = {"page": page}
    for pane in panes:
        own = pane.script_arguments()
        if twice := arguments.keys() & own.keys():
            raise ValueError(f"another pane has arguments {sorted(twice)} like {type(pane).__name__}")
        arguments |= own
    parts = [pane.script for pane in panes if pane.script]
    return CustomJS(args=arguments, code=f"const parts = []\n{script_of(*parts, 'update')}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
