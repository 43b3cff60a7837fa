"""State of the connection to a document source, as sources report it and the heartbeat of the worker has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["SourceState", "SourceStatus"]


class SourceState(StrEnum):
    """State of the connection."""

    NONE = "none"
    """The worker has no source."""
    CONNECTING = "connecting"
    """Before the first connection."""
    CONNECTED = "connected"
    LOST = "lost"

    @classmethod
    def of(cls, text: object) -> SourceState:
        """Return the state in the text of a :class:`SourceStatus`; any other text is LOST, and no text is NONE.

        >>> SourceState.of("lost: the broker was silent for 15 s"), SourceState.of(None)
        (<SourceState.LOST: 'lost'>, <SourceState.NONE: 'none'>)
        """
        word = str(text or cls.NONE).partition(":")[0]
        return next((state for state in cls if state == word), cls.LOST)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """State of a source, replaced as a whole.

    Attributes:
        state: of the connection.
        since: begin of this state, in seconds since 1970.
        reason: of LOST; otherwise empty.

    >>> str(SourceStatus(SourceState.LOST, 0.0, "connection refused"))
    'lost: connection refused'
    """

    state: SourceState
    since: float
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)

    @property
    def connected_since(self) -> float | None:
        """Begin of the connection; None while there is none."""
        return self.since if self.state is SourceState.CONNECTED else None
